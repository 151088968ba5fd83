"""Calls that a client sends without waiting for the answers: they come in order, and what stands
behind one that is refused is not done."""

from registry import script
from session import KINDS

OK = ("queue.declare-ok", "queue.bind-ok", "exchange.declare-ok", "queue.delete-ok",
      "queue.unbind-ok")


def arguments(t):
    return {"x-queue-type": "quorum"} if t.kind == "quorum" else {}


def declare(t, suffix, **more):
    more.setdefault("arguments", arguments(t))
    durable = more.pop("durable", 0 if t.kind == "transient" else 1)
    return "queue.declare", {"queue": t.name(suffix), "durable": durable, **more}


def bind(t, suffix, exchange="amq.direct", key="", **more):
    return "queue.bind", {"queue": t.name(suffix), "exchange": exchange, "key": key or suffix, **more}


def answers(ch, count):
    """So many, whatever they are, as they come."""
    ch.take(count, *OK)


def is_there(t, *suffixes):
    """Each looked for over a channel of its own."""
    for suffix in suffixes:
        t.channel().call("queue.declare", queue=t.name(suffix), passive=1)


def routes(t, key, suffix):
    ch = t.channel()
    ch.call("confirm.select")
    ch.publish("amq.direct", key, "m", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=t.name(suffix), no_ack=1)


@script("9", "10", kinds=KINDS)
def many_in_one_packet(t):
    ch = t.channel()
    calls = []
    for i in range(50):
        calls += [declare(t, f"q{i}"), bind(t, f"q{i}", key=t.name(f"k{i}"))]
    ch.send_together(*calls)
    answers(ch, 100)
    for i in (0, 24, 49):
        routes(t, t.name(f"k{i}"), f"q{i}")


@script("9", "10", "16", kinds=KINDS)
def waited_for_and_not(t):
    ch = t.channel()
    ch.send_together(declare(t, "a", nowait=1), bind(t, "a", nowait=1, key=t.name("a")),
                     declare(t, "b"), bind(t, "b", nowait=1, key=t.name("b")),
                     declare(t, "a", passive=1), declare(t, "c"))
    answers(ch, 3)
    routes(t, t.name("a"), "a")
    routes(t, t.name("b"), "b")
    is_there(t, "c")


@script("9", kinds=KINDS)
def the_same_twice(t):
    ch = t.channel()
    ch.send_together(declare(t, "a"), declare(t, "a"), bind(t, "a"), bind(t, "a"), declare(t, "b"))
    answers(ch, 5)
    ch.send_together(declare(t, "a"), declare(t, "b"), declare(t, "c"), declare(t, "a"))
    answers(ch, 4)


@script("9", kinds=KINDS)
def another_shape_in_the_middle(t):
    ch = t.channel()
    ch.send_together(declare(t, "a"), declare(t, "b"), declare(t, "a", arguments={
        "x-max-length": 7, **arguments(t)}), declare(t, "c"), bind(t, "b", key=t.name("b")))
    answers(ch, 2)
    ch.closed()
    is_there(t, "a", "b", "c")
    routes(t, t.name("b"), "b")


def refused_in_the_middle(t, first, wrong, last, answered=1):
    """Between two queues: the first one is there, the other one is not."""
    ch = t.channel()
    ch.send_together(first, wrong, last)
    answers(ch, answered)
    ch.closed()
    is_there(t, "a", "b")


@script("9")
def no_exchange_in_the_middle(t):
    refused_in_the_middle(t, declare(t, "a"), bind(t, "a", "nowhere"), declare(t, "b"))


@script("9")
def no_queue_in_the_middle(t):
    refused_in_the_middle(t, declare(t, "a"), bind(t, "missing"), declare(t, "b", nowait=1))


@script("9")
def passive_in_the_middle(t):
    refused_in_the_middle(t, declare(t, "a", nowait=1), declare(t, "missing", passive=1),
                          declare(t, "b"), answered=0)


@script("9")
def a_bad_argument_in_the_middle(t):
    ch = t.channel()
    ch.send_together(declare(t, "a"), declare(t, "b", arguments={"x-message-ttl": -1}),
                     declare(t, "c"))
    answers(ch, 1)
    ch.closed()
    is_there(t, "a", "b", "c")


@script("9")
def a_reserved_name_in_the_middle(t):
    refused_in_the_middle(t, declare(t, "a"), ("queue.declare", {"queue": "amq.mine"}),
                          declare(t, "b"))


@script("9")
def an_error_of_the_connection_in_the_middle(t):
    ch = t.channel()
    ch.send_together(declare(t, "a"), declare(t, "b"), ("basic.qos", {"size": 1, "count": 0}),
                     declare(t, "c"))
    answers(ch, 2)
    ch.closed()
    is_there(t, "a", "b", "c")


@script("9", "17")
def exclusive_ones(t):
    ch = t.channel()
    ch.send_together(*[declare(t, f"q{i}", exclusive=1, durable=0) for i in range(4)],
                     *[bind(t, f"q{i}") for i in range(4)], declare(t, "last"))
    answers(ch, 9)
    t.connect().channel().call("queue.declare", queue=t.name("q2"), passive=1)
    ch.call("queue.delete", queue=t.name("q3"))


@script("9")
def the_last_one_is_meant(t):
    ch = t.channel()
    ch.send_together(declare(t, "a"), declare(t, "b"),
                     ("queue.bind", {"queue": "", "exchange": "amq.direct", "key": ""}),
                     declare(t, "c"), ("queue.bind", {"queue": "", "exchange": "amq.direct",
                                                      "key": t.name("for-c")}))
    answers(ch, 5)
    routes(t, t.name("b"), "b")
    routes(t, t.name("for-c"), "c")


@script("6", "9")
def exchanges_between(t):
    ch = t.channel()
    exchange = t.name("x")
    ch.send_together(declare(t, "a"), ("exchange.declare", {"exchange": exchange, "type": "topic"}),
                     bind(t, "a", exchange, key="a.#"), declare(t, "b"), bind(t, "b", exchange),
                     ("queue.unbind", {"queue": t.name("a"), "exchange": exchange, "key": "a.#"}),
                     ("queue.delete", {"queue": t.name("a")}), declare(t, "a"))
    answers(ch, 8)


@script("9", "11")
def publishes_between(t):
    ch = t.channel()
    ch.call("confirm.select")
    ch.send_together(declare(t, "a"), bind(t, "a", key=t.name("a")))
    ch.publish("amq.direct", t.name("a"), "one", mandatory=1)
    ch.send_together(declare(t, "b"), bind(t, "b", key=t.name("a")))
    ch.publish("amq.direct", t.name("a"), "two", mandatory=1)
    answers(ch, 4)
    ch.confirms(2)
    for queue in ("a", "a", "a", "b", "b"):
        ch.call("basic.get", queue=t.name(queue), no_ack=1)


@script("9", "18")
def what_may_not_be_declared(t):
    user = t.name("user")
    t.ctl("add_user", user, "secret", undo=("delete_user", user))
    t.ctl("set_permissions", user, f"^{t.name('may')}", ".*", ".*")
    ch = t.connect(user=user, password="secret").channel()
    ch.send_together(declare(t, "may1"), declare(t, "may2"), declare(t, "not"), declare(t, "may3"))
    answers(ch, 2)
    ch.closed()
    is_there(t, "may1", "may2", "not", "may3")


@script("15", "18", kinds=KINDS)
def consumers_in_one_packet(t):
    """Each hears consume-ok before its first message; the answers come in order."""
    ch, out = t.channel(), t.channel()
    ch.call("confirm.select")
    names = [t.queue(ch, f"q{i}") for i in range(3)]
    ch.publish("", names[1], "was there")
    ch.confirms(1)
    ch.send_together(*[("basic.consume", dict(queue=names[i % 3], tag=f"t{i}")) for i in range(9)])
    for _ in range(9):
        ch.take(1, "basic.consume-ok")
    ch.deliveries(1)
    for name in names:
        t.counts(name, messages=0, consumers=3)
    ch.send_together(*[("basic.cancel", dict(tag=f"t{i}")) for i in range(9)])
    for _ in range(9):
        ch.take(1, "basic.cancel-ok")


@script("6", "9", kinds=KINDS)
def unbinds_and_deletes_in_one_packet(t):
    ch = t.channel()
    names = [t.queue(ch, f"q{i}") for i in range(4)]
    for name in names:
        t.bind(ch, "amq.direct", name, "k")
        ch.publish("", name, "lost")
    ch.send_together(*[("queue.unbind", dict(queue=name, exchange="amq.direct", key="k"))
                       for name in [*names, names[0]]])
    ch.take(5, "queue.unbind-ok")
    ch.call("confirm.select")
    ch.publish("amq.direct", "k", "to nobody", mandatory=1)
    ch.confirms(1)
    ch.send_together(*[("queue.delete", dict(queue=name)) for name in [*names, names[0]]],
                     ("queue.declare", dict(queue=names[1], passive=1)))
    ch.take(5, "queue.delete-ok")
    ch.closed()


@script("9", "18", kinds=KINDS)
def deletes_under_consumers_in_one_packet(t):
    ch = t.channel()
    names = [t.queue(ch, f"q{i}") for i in range(3)]
    for name in names:
        ch.call("basic.consume", queue=name, tag=name)
    ch.send_together(*[("queue.delete", dict(queue=name)) for name in names])
    ch.take(3, "queue.delete-ok")
    ch.take(3, "basic.cancel")
