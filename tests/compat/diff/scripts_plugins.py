"""Exchange types that RabbitMQ has as plugins: what they promise, not which queue it is."""

from registry import script
from session import KINDS

HASH = "x-consistent-hash"


def queues_with(t, ch, exchange, keys):
    names = []
    for number, key in enumerate(keys):
        names.append(t.queue(ch, str(number)))
        t.bind(ch, exchange, names[-1], key)
    return names


def emptied(t, ch, names):
    """{body: [number of the queue]} of everything in the queues; not recorded."""
    t.quiet += 1
    found = {}
    for number, name in enumerate(names):
        while True:
            ch.send("basic.get", queue=name, no_ack=1)
            event = ch.next(("basic.get-ok", "basic.get-empty"))
            if event is None or event[0] == "basic.get-empty":
                break
            found.setdefault(event[3].decode(), []).append(number)
    t.quiet -= 1
    return found


def publish_all(t, ch, exchange, messages):
    """messages: (key, body, properties); confirmed, not recorded."""
    t.quiet += 1
    ch.call("confirm.select")
    ch.confirm_next = 1
    for key, body, properties in messages:
        ch.publish(exchange, key, body, **properties)
    ch.confirms(len(messages))
    t.quiet -= 1


def same_key_same_queue(t, exchange, names, messages):
    """Each body ten times."""
    ch, out = t.channel(), t.channel()
    publish_all(t, out, exchange, messages * 10)
    found = emptied(t, ch, names)
    together = all(len(where) == 10 and len(set(where)) == 1 for where in found.values())
    t.record(f"{len(found)} of {len(messages)} found, each in one queue: {together}; "
             f"in more than one queue: {len({w[0] for w in found.values()}) > 1}")


@script("33", kinds=KINDS)
def consistent_hash(t):
    ch = t.channel()
    name = t.exchange(ch, HASH)
    names = queues_with(t, ch, name, ("1", "1", "1"))
    same_key_same_queue(t, name, names, [(f"k{i}", f"k{i}", {}) for i in range(40)])


@script("33")
def consistent_hash_weights(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, HASH)
    names = queues_with(t, ch, name, ("1", "3"))
    publish_all(t, out, name, [(f"key{i}", f"{i}", {}) for i in range(2000)])
    found = emptied(t, ch, names)
    one = sum(where == [0] for where in found.values())
    t.record(f"{len(found)} messages; a quarter, about, in the first: {380 < one < 620}")


@script("33")
def consistent_hash_keys(t):
    a = t.connect()
    ch = a.channel()
    name, queue = t.exchange(ch, HASH), t.queue(ch)
    for key in ("0", "-1", "", "one", "1.5", "1 ", "+1", "99999", "10"):
        ch = a.channel()
        ch.call("queue.bind", queue=queue, exchange=name, key=key)
        if ch.open:
            ch.call("queue.unbind", queue=queue, exchange=name, key=key)


@script("33")
def consistent_hash_header(t):
    ch = t.channel()
    name = t.exchange(ch, HASH, arguments={"hash-header": "h"})
    names = queues_with(t, ch, name, ("1", "1", "1"))
    same_key_same_queue(t, name, names,
                        [("any", f"h{i}", {"headers": {"h": f"v{i}"}}) for i in range(30)])
    same_key_same_queue(t, name, names, [("any", "no header", {})])


@script("33")
def consistent_hash_property(t):
    ch = t.channel()
    for prop in ("correlation_id", "message_id", "timestamp"):
        name = t.exchange(ch, HASH, prop, {"hash-property": prop})
        names = queues_with(t, ch, name, ("1", "1", "1"))
        values = [1000000 + i * 977 if prop == "timestamp" else f"v{i}" for i in range(30)]
        same_key_same_queue(t, name, names, [("any", f"{v}", {prop: v}) for v in values])
        for queue in names:
            ch.call("queue.delete", queue=queue)


@script("33")
def consistent_hash_bad_arguments(t):
    a = t.connect()
    # a value that is no string ends the connection of 3.10 with an internal error
    for arguments in ({"hash-property": "odd"}, {"hash-property": "app_id"}, {"hash-header": ""},
                      {"hash-header": "h", "hash-property": "message_id"}):
        a.channel().call("exchange.declare", exchange=t.name("x"), type=HASH, arguments=arguments)
        a.channel().call("exchange.delete", exchange=t.name("x"))


@script("12", "33")
def consistent_hash_without_bindings(t):
    ch = t.channel()
    name = t.exchange(ch, HASH)
    ch.call("confirm.select")
    ch.publish(name, "k", "m", mandatory=1)
    ch.confirms(1)
    queue = t.queue(ch)
    t.bind(ch, name, queue, "1")
    ch.publish(name, "k", "m", mandatory=1)
    ch.confirms(1)
    ch.call("queue.unbind", queue=queue, exchange=name, key="1")
    ch.publish(name, "k", "m", mandatory=1)
    ch.confirms(1)


@script("10", "33")
def consistent_hash_to_exchanges(t):
    ch = t.channel()
    name, target = t.exchange(ch, HASH), t.exchange(ch, "fanout", "target")
    queue = t.queue(ch)
    ch.call("exchange.bind", destination=target, source=name, key="1")
    t.bind(ch, target, queue)
    ch.call("confirm.select")
    ch.publish(name, "k", "m", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=queue, no_ack=1)


@script("33", kinds=KINDS)
def random(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-random")
    names = queues_with(t, ch, name, ("a", "b", ""))
    publish_all(t, out, name, [("k", f"{i}", {}) for i in range(300)])
    found = emptied(t, ch, names)
    shares = [sum(where == [n] for where in found.values()) for n in range(3)]
    t.record(f"{sum(shares)} messages, each once; a third, about, in each: "
             f"{all(50 < share < 150 for share in shares)}")


@script("12", "33")
def random_without_bindings(t):
    ch = t.channel()
    name = t.exchange(ch, "x-random")
    ch.call("confirm.select")
    ch.publish(name, "k", "m", mandatory=1)
    ch.confirms(1)


@script("33", kinds=KINDS)
def modulus_hash(t):
    ch = t.channel()
    name = t.exchange(ch, "x-modulus-hash")
    names = queues_with(t, ch, name, ("", "", ""))
    same_key_same_queue(t, name, names, [(f"k{i}", f"k{i}", {}) for i in range(40)])


@script("33", kinds=KINDS)
def recent_history(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history", arguments={"x-recent-history-length": 3})
    out.call("confirm.select")
    first = t.queue(ch, "first")
    t.bind(ch, name, first, "k")
    for i in range(5):
        out.publish(name, f"key{i}", f"m{i}", headers={"n": i})
        out.confirms(1)
    out.publish(name, "k", "not kept", headers={"x-recent-history-no-store": True})
    out.confirms(1)
    late = t.queue(ch, "late")
    t.bind(ch, name, late, "other")
    t.counts(late, messages=3)
    for _ in range(3):
        ch.call("basic.get", queue=late, no_ack=1)
    t.counts(first, messages=6)
    t.bind(ch, name, late, "once more")
    t.counts(late, messages=3)
    out.publish(name, "any key", "to all")
    out.confirms(1)
    t.counts(late, messages=4)


@script("33")
def recent_history_default_length(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history")
    publish_all(t, out, name, [("", f"m{i}", {}) for i in range(25)])
    late = t.queue(ch)
    t.bind(ch, name, late)
    t.counts(late, messages=20)
    ch.call("basic.get", queue=late, no_ack=1)


@script("33")
def recent_history_bad_arguments(t):
    a = t.connect()
    for value in (0, -1, "3", True, None, ("l", 2), 1.5):
        a.channel().call("exchange.declare", exchange=t.name("x"), type="x-recent-history",
                         arguments={"x-recent-history-length": value})
        a.channel().call("exchange.delete", exchange=t.name("x"))


@script("33")
def recent_history_and_no_route(t):
    """To be kept is not to be routed: mandatory comes back, the alternate exchange gets it."""
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history")
    out.call("confirm.select")
    out.publish(name, "k", "returned", mandatory=1)
    out.take(1, "basic.return")
    out.confirms(1)
    alternate = t.exchange(ch, "fanout", "alternate")
    other = t.exchange(ch, "x-recent-history", "other", arguments={"alternate-exchange": alternate})
    caught = t.queue(ch, "caught")
    t.bind(ch, alternate, caught)
    out.publish(other, "k", "to the alternate", mandatory=1)
    out.confirms(1)
    t.counts(caught, messages=1)
    for source in (name, other):
        late = t.queue(ch, source.rpartition(".")[2] + "-late")
        t.bind(ch, source, late)
        ch.call("basic.get", queue=late, no_ack=1)
    t.counts(caught, messages=1)


@script("33")
def recent_history_no_store_values(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history")
    out.call("confirm.select")
    for value in (True, False, 1, "true", None):
        out.publish(name, "k", f"{value}", headers={"x-recent-history-no-store": value})
        out.confirms(1)
    late = t.queue(ch)
    t.bind(ch, name, late)
    t.counts(late, messages=4)
    for _ in range(4):
        ch.call("basic.get", queue=late, no_ack=1)


@script("33")
def recent_history_on_one_channel(t):
    """No confirms: what was published before the bind on the same channel is replayed, in order."""
    ch = t.channel()
    name = t.exchange(ch, "x-recent-history")
    late = t.queue(ch)
    for i in range(5):
        ch.publish(name, "k", f"before {i}")
    t.bind(ch, name, late)
    for i in range(5):
        ch.publish(name, "k", f"after {i}")
    t.counts(late, messages=10)
    for _ in range(10):
        ch.call("basic.get", queue=late, no_ack=1)


@script("33")
def recent_history_expiration(t):
    """What is kept does not expire; what is replayed does, from then on."""
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history")
    out.call("confirm.select")
    for body, expiration in (("short", "1"), ("long", "600000")):
        out.publish(name, "k", body, expiration=expiration)
        out.confirms(1)
    t.let_pass(100)
    late = t.queue(ch)
    t.bind(ch, name, late)
    t.counts(late, messages=1)
    ch.call("basic.get", queue=late, no_ack=1)
    dead = t.exchange(ch, "fanout", "dlx")
    letters, last = t.queue(ch, "letters"), t.queue(ch, "last", {"x-dead-letter-exchange": dead})
    t.bind(ch, dead, letters)
    t.bind(ch, name, last)
    t.counts(letters, messages=1)
    ch.call("basic.get", queue=last, no_ack=1)


@script("33")
def recent_history_ends_with_its_exchange(t):
    ch, out = t.channel(), t.channel()
    out.call("confirm.select")
    name = t.exchange(ch, "x-recent-history", auto_delete=1)
    first, late = t.queue(ch, "first"), t.queue(ch, "late")
    for way in ("delete", "unbind"):
        t.bind(ch, name, first)
        out.publish(name, "k", way)
        out.confirms(1)
        if way == "delete":
            ch.call("exchange.delete", exchange=name)
        else:
            ch.call("queue.unbind", queue=first, exchange=name)
        t.exchange(ch, "x-recent-history", auto_delete=1)
        t.bind(ch, name, late)
        t.counts(late, messages=0)
        ch.call("exchange.delete", exchange=name)
        t.exchange(ch, "x-recent-history", auto_delete=1)
    t.connect().channel().call("queue.declare", queue=name, passive=1)


@script("33")
def recent_history_in_a_transaction(t):
    ch, out = t.channel(), t.channel()
    name = t.exchange(ch, "x-recent-history")
    out.call("tx.select")
    out.publish(name, "k", "committed", mandatory=1)
    out.call("tx.commit")
    out.take(1, "basic.return")
    late = t.queue(ch)
    t.bind(ch, name, late)
    t.counts(late, messages=1)
    ch.call("basic.get", queue=late, no_ack=1)


@script("10", "33")
def recent_history_through_an_exchange(t):
    ch, out = t.channel(), t.channel()
    name, target = t.exchange(ch, "x-recent-history"), t.exchange(ch, "fanout", "target")
    queue = t.queue(ch)
    t.bind(ch, target, queue)
    publish_all(t, out, name, [("", f"m{i}", {}) for i in range(3)])
    ch.call("exchange.bind", destination=target, source=name)
    t.counts(queue, messages=3)
    for _ in range(3):
        ch.call("basic.get", queue=queue, no_ack=1)


@script("10", "33")
def recent_history_to_an_exchange_without_queues(t):
    ch, out = t.channel(), t.channel()
    name, target = t.exchange(ch, "x-recent-history"), t.exchange(ch, "fanout", "target")
    publish_all(t, out, name, [("", "m", {})])
    t.connect().channel().call("exchange.bind", destination=target, source=name)


@script("10", "33")
def recent_history_bound_to_an_exchange(t):
    ch, out = t.channel(), t.channel()
    name, target = t.exchange(ch, "x-recent-history"), t.exchange(ch, "fanout", "target")
    queue = t.queue(ch)
    t.bind(ch, target, queue)
    out.call("confirm.select")
    out.publish(name, "k", "m")
    out.confirms(1)
    ch.call("exchange.bind", destination=target, source=name)
    t.counts(queue, messages=1)
    ch.call("basic.get", queue=queue, no_ack=1)
