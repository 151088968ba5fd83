"""Exchanges: types, flags, equivalence, bindings between them, alternate exchanges."""

from amqp_codec import Octets
from registry import script
from session import KINDS

TYPES = ("direct", "fanout", "topic", "headers")


@script("6", "8")
def declare_each_type(t):
    ch = t.channel()
    for kind in TYPES:
        name = t.exchange(ch, kind, kind, durable=1)
        ch.call("exchange.declare", exchange=name, type=kind, durable=1)
        ch.call("exchange.declare", exchange=name, passive=1)
        ch.call("exchange.delete", exchange=name)
        ch.call("exchange.delete", exchange=name)


@script("6", "8")
def passive_compares_nothing(t):
    ch = t.channel()
    name = t.exchange(ch, "direct")
    ch.call("exchange.declare", exchange=name, type="fanout", passive=1, durable=1, auto_delete=1)
    ch.call("exchange.declare", exchange=name, type="no-such-type", passive=1)
    ch.call("exchange.declare", exchange=t.name("missing"), type="fanout", passive=1)


@script("6")
def predeclared(t):
    a = t.connect()
    for name, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                       ("amq.headers", "headers"), ("amq.match", "headers"),
                       ("amq.rabbitmq.trace", "topic")):
        ch = a.channel()
        ch.call("exchange.declare", exchange=name, passive=1)
        ch.call("exchange.declare", exchange=name, type=kind, durable=1)


@script("7")
def default_exchange_is_fixed(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    t.exchange(ch, "fanout")
    for method, fields in (
            ("exchange.declare", dict(exchange="", type="direct", durable=1)),
            ("exchange.declare", dict(exchange="", passive=1)),
            ("exchange.delete", dict(exchange="")),
            ("queue.bind", dict(queue=name, exchange="", key="k")),
            ("queue.unbind", dict(queue=name, exchange="", key=name)),
            ("exchange.bind", dict(destination=t.name("x"), source="", key="k")),
            ("exchange.bind", dict(destination="", source=t.name("x"), key="k")),
            ("exchange.unbind", dict(destination=t.name("x"), source="", key="k"))):
        a.channel().call(method, **fields)


@script("7", kinds=KINDS)
def default_exchange_routes_by_name(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "to the queue", mandatory=1)
    ch.confirms(1)
    ch.publish("", t.name("missing"), "to nobody", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("8")
def auto_delete(t):
    a = t.connect()
    ch = a.channel()
    name = t.exchange(ch, "fanout", auto_delete=1)
    queue = t.queue(ch)
    ch.call("exchange.declare", exchange=name, passive=1)
    t.bind(ch, name, queue, "1")
    t.bind(ch, name, queue, "2")
    ch.call("queue.unbind", queue=queue, exchange=name, key="1")
    ch.call("exchange.declare", exchange=name, passive=1)
    ch.call("queue.unbind", queue=queue, exchange=name, key="2")
    ch.call("exchange.declare", exchange=name, passive=1)


@script("8", kinds=KINDS)
def auto_delete_with_its_queue(t):
    ch = t.channel()
    name = t.exchange(ch, "fanout", auto_delete=1)
    queue = t.queue(ch)
    t.bind(ch, name, queue)
    ch.call("queue.delete", queue=queue)
    ch.call("exchange.declare", exchange=name, passive=1)


@script("8", "10")
def auto_delete_chain(t):
    """The last binding of one goes with the next."""
    ch = t.channel()
    first = t.exchange(ch, "fanout", "1", auto_delete=1)
    second = t.exchange(ch, "fanout", "2", auto_delete=1)
    queue = t.queue(ch)
    t.bind(ch, second, queue)
    ch.call("exchange.bind", destination=second, source=first)
    ch.call("queue.delete", queue=queue)
    ch.call("exchange.declare", exchange=second, passive=1)
    ch = t.connections[0].channel()
    ch.call("exchange.declare", exchange=first, passive=1)


@script("8", kinds=KINDS)
def internal(t):
    ch = t.channel()
    name = t.exchange(ch, "fanout", internal=1)
    front = t.exchange(ch, "fanout", "front")
    queue = t.queue(ch)
    t.bind(ch, name, queue)
    ch.call("exchange.bind", destination=name, source=front)
    ch.call("confirm.select")
    ch.publish(front, "k", "through", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=queue, no_ack=1)
    ch.publish(name, "k", "refused")
    ch.closed()


@script("6", "8")
def inequivalent(t):
    a = t.connect()
    ch = a.channel()
    t.exchange(ch, "direct", "alternate")
    name = t.exchange(ch, "direct", arguments={"alternate-exchange": t.name("alternate"), "x-odd": 1})
    same = dict(exchange=name, type="direct")
    alternate = {"alternate-exchange": t.name("alternate")}
    for fields in (dict(same, arguments=alternate), dict(same, arguments=dict(alternate, x=1)),
                   dict(same, arguments=alternate, type="fanout"),
                   dict(same, arguments=alternate, durable=1),
                   dict(same, arguments=alternate, auto_delete=1),
                   dict(same, arguments=alternate, internal=1), same,
                   dict(same, arguments={"alternate-exchange": "other"}),
                   dict(same, arguments={"alternate-exchange": 5}),
                   dict(same, arguments=alternate, durable=1, auto_delete=1, internal=1,
                        type="topic")):
        a.channel().call("exchange.declare", **fields)


@script("8")
def if_unused(t):
    a = t.connect()
    ch = a.channel()
    name, target = t.exchange(ch, "fanout"), t.exchange(ch, "fanout", "target")
    ch.call("exchange.bind", destination=target, source=name)
    ch.call("exchange.delete", exchange=target, if_unused=1)
    t.exchange(ch, "fanout", "target")
    t.bind(ch, name, t.queue(ch))
    ch.call("exchange.delete", exchange=name, if_unused=1)
    ch = a.channel()
    ch.call("exchange.delete", exchange=name)
    ch.call("exchange.delete", exchange=name, if_unused=1)


@script("6")
def nowait(t):
    ch = t.channel()
    name = t.name("x")
    ch.call("exchange.declare", exchange=name, type="direct", nowait=1)
    ch.call("exchange.declare", exchange=name, passive=1)
    t.queue(ch)
    ch.call("queue.bind", queue=t.name("q"), exchange=name, key="k", nowait=1)
    ch.call("confirm.select", nowait=1)
    ch.publish(name, "k", "there", mandatory=1)
    ch.confirms(1)
    ch.call("exchange.delete", exchange=name, nowait=1)
    ch.call("exchange.declare", exchange=name, passive=1)


@script("6")
def nowait_refused(t):
    ch = t.channel()
    ch.call("exchange.declare", exchange="amq.new", type="direct", nowait=1)
    ch.closed()


def routed(t, ch, exchange, keys, queues):
    """Publishes each key and says which queues have got it."""
    ch.call("confirm.select")
    for key in keys:
        ch.publish(exchange, key, key, mandatory=1)
        ch.confirms(1)
        for queue in queues:
            ch.call("basic.get", queue=queue, no_ack=1)


@script("6", kinds=KINDS)
def direct(t):
    ch = t.channel()
    name = t.exchange(ch, "direct")
    queues = [t.queue(ch, str(i)) for i in range(3)]
    for queue, key in ((0, "a"), (0, "b"), (1, "b"), (2, ""), (2, "a.b")):
        t.bind(ch, name, queues[queue], key)
    routed(t, ch, name, ("a", "b", "", "a.b", "A", "c"), queues)


@script("6", kinds=KINDS)
def topic(t):
    ch = t.channel()
    name = t.exchange(ch, "topic")
    patterns = ("#", "*", "a.*", "a.#", "#.b", "*.*", "a.*.c", "", "a..b", "#.x.#", "*.#", "a.b")
    queues = []
    for number, pattern in enumerate(patterns):
        queues.append(t.queue(ch, str(number)))
        t.bind(ch, name, queues[-1], pattern)
    ch.call("confirm.select")
    for key in ("", "a", "a.b", "a.b.c", "a..b", ".", "x", "q.x", "x.q", "b", "a.x.c", "a.", ".b",
                "*", "#", "a.*"):
        ch.publish(name, key, key)
        ch.confirms(1)
    for queue in queues:
        while ch.call("basic.get", queue=queue, no_ack=1).get("messages"):
            pass


HEADERS = (
    {}, {"x-match": "all"}, {"x-match": "any"}, {"a": 1}, {"x-match": "any", "a": 1, "b": "2"},
    {"x-match": "all", "a": 1, "b": "2"}, {"a": None}, {"x-match": "any", "a": None},
    {"x-one": 1, "a": 1}, {"x-match": "any", "x-one": 1}, {"x-match": "all", "x-one": 1})
WITH_X = ({"x-match": "all-with-x", "x-one": 1}, {"x-match": "any-with-x", "x-one": 1, "a": 9},
          {"x-match": "all-with-x"}, {"x-match": "any-with-x"},
          {"x-match": "all-with-x", "x-one": 1, "a": 1})
MESSAGES = (
    None, {}, {"a": 1}, {"a": ("l", 1)}, {"a": ("b", 1)}, {"a": 1.0}, {"a": "1"}, {"a": True},
    {"a": 1, "b": "2"}, {"b": "2"}, {"b": ("x", "2")}, {"a": None}, {"x-one": 1},
    {"x-one": 1, "a": 1}, {"x-one": 2, "a": 9}, {"a": ["1"]}, {"a": {"c": 1}}, {"A": 1})


def headers_script(t, all_arguments):
    ch = t.channel()
    name = t.exchange(ch, "headers")
    queues = []
    for number, arguments in enumerate(all_arguments):
        queues.append(t.queue(ch, str(number)))
        t.bind(ch, name, queues[-1], "", arguments)
    ch.call("confirm.select")
    for number, headers in enumerate(MESSAGES):
        ch.publish(name, "k", f"m{number}", **({} if headers is None else {"headers": headers}))
        ch.confirms(1)
    for queue in queues:
        while ch.call("basic.get", queue=queue, no_ack=1).get("messages"):
            pass


@script("6", kinds=KINDS)
def headers(t):
    headers_script(t, HEADERS)


@script("6")
def headers_with_x(t):
    headers_script(t, WITH_X)


# what equals what: one letter for another, alone and within a table or an array
SCALARS = (
    ("b", 1), ("B", 1), ("s", 1), ("u", 1), ("I", 1), ("i", 1), ("l", 1), ("L", 1), ("T", 1),
    ("f", 1.0), ("d", 1.0), ("f", 1.5), ("d", 1.5), ("d", 0.0), ("d", -0.0), ("I", 0),
    ("l", 2 ** 53 + 1), ("d", 2.0 ** 53), ("l", 2 ** 53), ("I", -1), ("b", -1), ("L", -1),
    ("t", 0), ("t", 1), ("S", "1"), ("x", "1"), ("S", ""), ("x", ""), ("S", "undefined"),
    ("D", (0, 1)), ("D", (1, 10)), ("V", None))
NESTED = (
    ("A", []), ("F", {}), ("A", [("I", 1), ("I", 1)]), ("A", [("A", [("I", 1)])]),
    ("A", [("A", [("l", 1)])]), ("F", {"a": ("I", 1), "b": ("I", 2)}),
    ("F", {"b": ("I", 2), "a": ("I", 1)}), ("F", {"A": ("I", 1)}), ("F", {"a": ("F", {})}),
    ("F", {"a": ("A", [])}), ("A", [("F", {})]), ("A", [("A", [])]))
EQUALS = SCALARS + NESTED + tuple(("A", [value]) for value in SCALARS) + \
    tuple(("F", {"a": value}) for value in SCALARS)


def name_of(value):
    letter, inner = value
    if letter == "A":
        return "A[" + " ".join(map(name_of, inner)) + "]"
    if letter == "F":
        return "F{" + " ".join(f"{key}={name_of(item)}" for key, item in inner.items()) + "}"
    return "V" if letter == "V" else f"{letter}:{inner!r}"


@script("6")
def headers_equal_values(t):
    """Which values of a header meet which criterion: each queue with all that came to it."""
    ch = t.channel()
    name = t.exchange(ch, "headers")
    t.quiet = 1
    queues = []
    for number, value in enumerate(EQUALS):
        queues.append(t.queue(ch, str(number)))
        t.bind(ch, name, queues[-1], "", {"a": value})
    ch.call("confirm.select")
    for number, value in enumerate(EQUALS):
        ch.publish(name, "", str(number), headers={"a": value})
    ch.confirms(len(EQUALS))
    for number, queue in enumerate(queues):
        count = ch.call("queue.declare", queue=queue, passive=1)["messages"]
        met = []
        for _ in range(count):
            ch.send("basic.get", queue=queue, no_ack=1)
            met.append(name_of(EQUALS[int(ch.next(("basic.get-ok", ))[3])]))
        t.quiet = 0
        ch.record("!", f"{name_of(EQUALS[number])} is met by {' '.join(met)}")
        t.quiet = 1
    t.quiet = 0


@script("6")
def headers_bad_match(t):
    a = t.connect()
    ch = a.channel()
    name, queue = t.exchange(ch, "headers"), t.queue(ch)
    for value in ("odd", "", "ALL", 1, True, None, ["all"], {"all": 1}, ("x", "all")):
        ch = a.channel()
        ch.call("queue.bind", queue=queue, exchange=name, arguments={"x-match": value})
        if ch.open:
            ch.call("queue.unbind", queue=queue, exchange=name, arguments={"x-match": value})


@script("6")
def headers_binding_identity(t):
    """Another set of arguments is another binding."""
    ch = t.channel()
    name, queue = t.exchange(ch, "headers"), t.queue(ch)
    one, two = {"a": 1}, {"a": 2}
    for arguments in (one, one, two):
        t.bind(ch, name, queue, "", arguments)
    ch.call("queue.unbind", queue=queue, exchange=name, arguments=one)
    ch.call("confirm.select")
    for value in (1, 2):
        ch.publish(name, "", str(value), headers={"a": value}, mandatory=1)
        ch.confirms(1)
    ch.call("basic.get", queue=queue, no_ack=1)


@script("6")
def bindings_by_arguments_in_another_order(t):
    """The arguments of a binding are a set: a client whose tables have no order finds it again."""
    ch = t.channel()
    name, queue = t.exchange(ch, "headers"), t.queue(ch)
    other = t.exchange(ch, "headers", "2")
    orders = ({"b": 1, "a": "x", "x-match": "all"}, {"x-match": "all", "a": "x", "b": 1},
              {"a": "x", "b": 1, "x-match": "all"})
    for arguments in orders[:2]:
        t.bind(ch, name, queue, "", arguments)
        ch.call("exchange.bind", destination=other, source=name, key="", arguments=arguments)
    t.bind(ch, other, queue, "", {"c": 2, "a": "x"})
    ch.call("confirm.select")
    for unbind in ("nothing", "queue", "exchange"):
        if unbind == "queue":
            ch.call("queue.unbind", queue=queue, exchange=name, arguments=orders[2])
            ch.call("queue.unbind", queue=queue, exchange=other, arguments={"a": "x", "c": 2})
            ch.call("queue.unbind", queue=queue, exchange=other, arguments={"a": "x", "c": 3})
            t.bind(ch, other, queue, "", {"z": 1, "b": 1})
        elif unbind == "exchange":
            ch.call("exchange.unbind", destination=other, source=name, arguments=orders[2])
        ch.publish(name, "", unbind, headers={"a": "x", "b": 1, "z": 1, "c": 2}, mandatory=1)
        ch.confirms(1)
    for _ in range(4):
        ch.call("basic.get", queue=queue, no_ack=1)


@script("6", kinds=KINDS)
def fanout_and_unbind(t):
    ch = t.channel()
    name = t.exchange(ch, "fanout")
    queues = [t.queue(ch, str(i)) for i in range(2)]
    for queue in queues:
        t.bind(ch, name, queue, "k", {"any": "thing"})
    ch.call("queue.unbind", queue=queues[0], exchange=name, key="other")
    ch.call("queue.unbind", queue=queues[0], exchange=name, key="k")
    routed(t, ch, name, ("x",), queues)
    ch.call("queue.unbind", queue=queues[0], exchange=name, key="k", arguments={"any": "thing"})
    routed(t, ch, name, ("y",), queues)


@script("10", kinds=KINDS)
def exchange_to_exchange(t):
    ch = t.channel()
    first, second = t.exchange(ch, "topic", "1"), t.exchange(ch, "fanout", "2")
    third = t.exchange(ch, "direct", "3")
    queues = [t.queue(ch, str(i)) for i in range(3)]
    ch.call("exchange.bind", destination=second, source=first, key="a.#")
    ch.call("exchange.bind", destination=third, source=second, key="")
    ch.call("exchange.bind", destination=first, source=third, key="a.b")    # a cycle
    ch.call("exchange.bind", destination=first, source=first, key="#")      # itself
    t.bind(ch, second, queues[0])
    t.bind(ch, third, queues[1], "a.b")
    t.bind(ch, first, queues[2], "#")
    t.bind(ch, first, queues[0], "#")
    routed(t, ch, first, ("a.b", "a", "b"), queues)
    ch.call("exchange.unbind", destination=second, source=first, key="a.#")
    routed(t, ch, first, ("a.b",), queues)


@script("10")
def exchange_bind_missing(t):
    a = t.connect()
    ch = a.channel()
    name, missing = t.exchange(ch, "fanout"), t.name("missing")
    for method in ("exchange.bind", "exchange.unbind"):
        for destination, source in ((missing, name), (name, missing), (missing, missing), (name, name)):
            a.channel().call(method, destination=destination, source=source, key="k")


@script("11", kinds=KINDS)
def alternate(t):
    ch = t.channel()
    other = t.exchange(ch, "fanout", "alternate")
    name = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    queue, spare = t.queue(ch), t.queue(ch, "spare")
    t.bind(ch, name, queue, "k")
    t.bind(ch, other, spare)
    routed(t, ch, name, ("k", "nobody's"), (queue, spare))


@script("11")
def alternate_chain(t):
    """The alternate of an alternate; a cycle ends; who is missing does not matter."""
    ch = t.channel()
    names = [t.name(str(i)) for i in range(3)]
    for i in range(3):
        t.exchange(ch, "direct", str(i), arguments={"alternate-exchange": names[(i + 1) % 3]})
    queue = t.queue(ch)
    t.bind(ch, names[2], queue, "k")
    lost = t.exchange(ch, "direct", "lost", arguments={"alternate-exchange": t.name("missing")})
    routed(t, ch, names[0], ("k", "nobody's"), (queue,))
    ch.publish(lost, "k", "lost", mandatory=1)
    ch.confirms(1)


@script("11")
def alternate_default(t):
    """The default exchange as the alternate leads nowhere."""
    ch = t.channel()
    name, queue = t.exchange(ch, "direct", arguments={"alternate-exchange": ""}), t.queue(ch)
    ch.call("confirm.select")
    for key in (queue, "nobody's"):
        ch.publish(name, key, key, mandatory=1)
        ch.confirms(1)
    ch.call("basic.get", queue=queue, no_ack=1)


@script("10", "11", kinds=KINDS)
def alternate_behind_a_binding(t):
    """Only when nothing at all was routed by an exchange is its alternate asked."""
    ch = t.channel()
    other = t.exchange(ch, "fanout", "alternate")
    inner = t.exchange(ch, "direct", "inner", arguments={"alternate-exchange": other})
    outer = t.exchange(ch, "fanout", "outer")
    spare, queue = t.queue(ch, "spare"), t.queue(ch)
    ch.call("exchange.bind", destination=inner, source=outer)
    t.bind(ch, other, spare)
    routed(t, ch, outer, ("first",), (spare, queue))
    t.bind(ch, outer, queue)
    routed(t, ch, outer, ("second",), (spare, queue))


@script("6", "8")
def deleted_with_bindings(t):
    ch = t.channel()
    name, queue = t.exchange(ch, "fanout"), t.queue(ch)
    t.bind(ch, name, queue)
    ch.call("exchange.delete", exchange=name)
    t.exchange(ch, "fanout")
    ch.call("confirm.select")
    ch.publish(name, "k", "nobody", mandatory=1)
    ch.confirms(1)
    ch.call("exchange.delete", exchange=name)
    ch.publish(name, "k", "no exchange")
    ch.closed()


@script("6")
def line_ends_in_names(t):
    ch = t.channel()
    t.name("x")
    ch.call("exchange.declare", exchange="exchange.line-ends-in-names\r\n.x", type="fanout")
    ch.call("exchange.declare", exchange=t.name("x"), passive=1)
    ch.call("exchange.delete", exchange="exchange.line-ends-in-names.x\n")
    ch.call("exchange.declare", exchange=t.name("x"), passive=1)


@script("6")
def unknown_type(t):
    ch = t.channel()
    ch.call("exchange.declare", exchange=t.name("x"), type="no-such-type")


@script("6")
def unknown_table_letter(t):
    ch = t.channel()
    ch.call("exchange.declare", exchange=t.name("x"), type="direct",
            arguments=Octets(b"\0\0\0\3\1aZ"))
