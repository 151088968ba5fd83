"""Queues: declaring, equivalence, exclusive, auto-delete, server-named, purge, delete, bindings."""

from registry import script
from session import KINDS


@script("9", kinds=KINDS)
def declare_and_counts(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}")
    ch.confirms(3)
    t.counts(name, messages=3, consumers=0)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(2)
    t.counts(name, messages=0, consumers=1)
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("queue.declare", queue=name, passive=1, exclusive=0, auto_delete=1, arguments={"x": 1})


@script("9")
def server_named(t):
    ch = t.channel()
    ch.call("queue.declare")
    ch.call("queue.declare", exclusive=1, auto_delete=1)
    ch.call("confirm.select")
    ch.call("queue.bind", queue="", exchange="amq.direct", key="server-named")
    ch.publish("amq.direct", "server-named", "for the last", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue="", no_ack=1)
    ch.call("queue.purge", queue="")
    ch.call("basic.consume", queue="")
    ch.call("queue.unbind", queue="", exchange="amq.direct", key="server-named")
    ch.call("queue.delete", queue="")


@script("9")
def server_named_again(t):
    a = t.connect()
    ch = a.channel()
    name = ch.call("queue.declare", exclusive=1)["queue"]
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("queue.declare", queue=name, exclusive=1)


@script("9")
def last_declared(t):
    a = t.connect()
    for method, fields in (("queue.bind", dict(exchange="amq.direct", key="k")),
                           ("queue.unbind", dict(exchange="amq.direct", key="k")),
                           ("basic.consume", {}), ("basic.get", {}), ("queue.purge", {}),
                           ("queue.delete", {}), ("queue.declare", dict(passive=1))):
        a.channel().call(method, **fields)
    ch = a.channel()
    name = t.queue(ch)
    ch.call("queue.bind", exchange="amq.direct", key="")        # the key becomes its name, too
    ch.call("confirm.select")
    ch.publish("amq.direct", name, "by its name", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", no_ack=1)
    ch.call("queue.unbind", exchange="amq.direct", key="")
    ch.publish("amq.direct", name, "not bound", mandatory=1)
    ch.confirms(1)
    ch.call("queue.delete", queue=name)
    ch.call("basic.get", no_ack=1)


@script("9")
def last_declared_is_per_channel(t):
    a = t.connect()
    ch = a.channel()
    t.queue(ch)
    a.channel().call("basic.get")
    ch.call("basic.get")


@script("9", kinds=KINDS)
def inequivalent(t):
    a = t.connect()
    ch = a.channel()
    t.queue(ch, arguments={"x-message-ttl": 60000, "x-odd": "x"})
    base = {"x-queue-type": "quorum"} if t.kind == "quorum" else {}
    durable = t.kind in ("durable", "quorum")
    same = dict(queue=t.name("q"), durable=durable)
    ttl = dict(base, **{"x-message-ttl": 60000})
    for fields in (dict(same, arguments=ttl), dict(same, arguments=dict(ttl, other=1)),
                   dict(same, arguments=dict(base, **{"x-message-ttl": ("l", 60000)})),
                   dict(same, arguments=dict(base, **{"x-message-ttl": ("i", 60000)})),
                   dict(same, arguments=dict(base, **{"x-message-ttl": 1})),
                   dict(same, arguments=dict(base, **{"x-message-ttl": "60000"})),
                   dict(same, arguments=base), dict(same, arguments={"x-message-ttl": 60000}),
                   dict(same, arguments=dict(ttl, **{"x-expires": 60000})),
                   dict(same, arguments=dict(ttl, **{"x-queue-type": "classic"})),
                   dict(same, arguments=dict(ttl, **{"x-queue-type": "quorum"})),
                   dict(same, arguments=ttl, durable=not durable),
                   dict(same, arguments=ttl, auto_delete=1), dict(same, arguments=ttl, exclusive=1),
                   dict(same, durable=not durable, auto_delete=1)):
        a.channel().call("queue.declare", **fields)


@script("9")
def inequivalent_arguments(t):
    """Every argument that is compared: another value, and none."""
    a = t.connect()
    ch = a.channel()
    pairs = (("x-expires", 60000, 60001), ("x-message-ttl", 1000, 1001), ("x-max-length", 5, 6),
             ("x-max-length-bytes", 5, 6), ("x-max-priority", 3, 4), ("x-queue-mode", "lazy", "default"),
             ("x-dead-letter-exchange", "a", "b"), ("x-overflow", "drop-head", "reject-publish"),
             ("x-single-active-consumer", True, False), ("x-queue-version", 1, 2),
             ("x-queue-master-locator", "min-masters", "random"), ("x-unknown", 1, 2))
    for number, (name, value, other) in enumerate(pairs):
        queue = t.queue(ch, str(number), {name: value})
        for arguments in ({name: value}, {name: other}, {}):
            a.channel().call("queue.declare", queue=queue, arguments=arguments)
        plain = t.queue(ch, f"plain{number}")
        a.channel().call("queue.declare", queue=plain, arguments={name: value})
    queue = t.queue(ch, "key", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"})
    a.channel().call("queue.declare", queue=queue, arguments={"x-dead-letter-exchange": "",
                                                              "x-dead-letter-routing-key": "l"})
    a.channel().call("queue.declare", queue=queue, arguments={"x-dead-letter-exchange": ""})


@script("9")
def inequivalent_types(t):
    """The same value in another type: integers are alike, and nothing else is."""
    a = t.connect()
    ch = a.channel()
    number = t.queue(ch, "number", {"x-message-ttl": 1000})
    for value in (("l", 1000), ("s", 1000), ("d", 1000.0), ("f", 1000.0), ("T", 1000)):
        a.channel().call("queue.declare", queue=number, arguments={"x-message-ttl": value})
    text = t.queue(ch, "text", {"x-overflow": "drop-head"})
    a.channel().call("queue.declare", queue=text, arguments={"x-overflow": ("x", b"drop-head")})
    flag = t.queue(ch, "flag", {"x-single-active-consumer": True})
    a.channel().call("queue.declare", queue=flag, arguments={"x-single-active-consumer": 1})


@script("9")
def exclusive(t):
    a, b = t.connect(), t.connect()
    ch = a.channel()
    name = t.queue(ch, exclusive=1)
    t.bind(ch, "amq.fanout", name)
    for method, fields in (
            ("queue.declare", dict(queue=name)), ("queue.declare", dict(queue=name, exclusive=1)),
            ("queue.declare", dict(queue=name, passive=1)), ("queue.delete", dict(queue=name)),
            ("queue.purge", dict(queue=name)), ("basic.get", dict(queue=name)),
            ("basic.consume", dict(queue=name)),
            ("queue.bind", dict(queue=name, exchange="amq.direct", key="k")),
            ("queue.unbind", dict(queue=name, exchange="amq.direct", key="k")),
            ("queue.unbind", dict(queue=name, exchange="amq.fanout"))):
        b.channel().call(method, **fields)
    out = b.channel()
    out.call("confirm.select")
    out.publish("", name, "anybody may publish", mandatory=1)
    out.confirms(1)
    a.channel().call("basic.get", queue=name, no_ack=1)
    a.channel().call("queue.declare", queue=name)
    a.channel().call("queue.declare", queue=name, exclusive=1, durable=1)
    a.channel().call("queue.declare", queue=name, exclusive=1, auto_delete=1)


@script("9")
def exclusive_ends_with_its_connection(t):
    a, b = t.connect(), t.connect()
    ch = a.channel()
    name = t.queue(ch, exclusive=1, durable=1)
    ch.close()
    other = b.channel()
    other.call("queue.declare", queue=name, passive=1)
    a.close()
    b.channel().call("queue.declare", queue=name, exclusive=1)


@script("9")
def exclusive_flag_of_a_plain_queue(t):
    a = t.connect()
    name = t.queue(a.channel())
    a.channel().call("queue.declare", queue=name, exclusive=1)


@script("9")
def auto_delete(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch, auto_delete=1)
    ch.call("basic.get", queue=name)
    ch.call("basic.consume", queue=name, tag="1")
    ch.call("basic.consume", queue=name, tag="2")
    ch.call("basic.cancel", tag="1")
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("basic.cancel", tag="2")
    t.gone(name)


@script("9")
def auto_delete_with_the_channel(t):
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = t.queue(ch, auto_delete=1)
    other.call("basic.consume", queue=name, tag="1")
    other.close()
    t.gone(name)


@script("9", kinds=KINDS)
def purge(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for i in range(5):
        ch.publish("", name, f"m{i}")
    ch.confirms(5)
    ch.call("basic.get", queue=name)
    ch.call("queue.purge", queue=name)
    ch.call("queue.purge", queue=name)
    ch.call("basic.get", queue=name)
    ch.send("basic.nack", tag=1, requeue=1)
    t.counts(name, messages=1)
    ch.call("queue.purge", queue=name, nowait=1)
    t.counts(name, messages=0)
    ch.call("queue.purge", queue=t.name("missing"))


@script("9", kinds=KINDS)
def delete_counts(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for i in range(5):
        ch.publish("", name, f"m{i}")
    ch.confirms(5)
    t.counts(name, messages=5)
    ch.call("queue.delete", queue=name)
    ch.call("queue.delete", queue=name)
    ch.publish("", name, "nobody", mandatory=1)
    ch.confirms(1)
    ch.call("queue.declare", queue=name, passive=1)


@script("9", kinds=("transient", "durable"))
def delete_if(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "m")
    ch.confirms(1)
    t.counts(name, messages=1)
    a.channel().call("queue.delete", queue=name, if_empty=1)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(1)
    a.channel().call("queue.delete", queue=name, if_unused=1)
    a.channel().call("queue.delete", queue=name, if_unused=1, if_empty=1)
    ch.call("basic.cancel", tag="t")
    ch.call("queue.delete", queue=name, if_unused=1, if_empty=1)


@script("9", "38")
def delete_if_on_a_quorum_queue(t):
    t.kind = "quorum"
    for flags in (dict(if_unused=1), dict(if_empty=1), dict(if_unused=1, if_empty=1)):
        ch = t.channel()
        t.queue(ch)
        ch.call("queue.delete", queue=t.name("q"), **flags)


@script("9", kinds=KINDS)
def bindings(t):
    a = t.connect()
    ch = a.channel()
    name, missing = t.queue(ch), t.name("missing")
    t.bind(ch, "amq.direct", name, "bindings")
    t.bind(ch, "amq.direct", name, "bindings")
    ch.call("confirm.select")
    ch.publish("amq.direct", "bindings", "once", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("queue.unbind", queue=name, exchange="amq.direct", key="bindings")
    ch.call("queue.unbind", queue=name, exchange="amq.direct", key="bindings")
    ch.publish("amq.direct", "bindings", "none", mandatory=1)
    ch.confirms(1)
    for method in ("queue.bind", "queue.unbind"):
        for queue, exchange in ((missing, "amq.direct"), (name, missing), (missing, missing)):
            a.channel().call(method, queue=queue, exchange=exchange, key="k")


@script("9")
def nowait(t):
    ch = t.channel()
    name = t.name("q")
    ch.call("queue.declare", queue=name, nowait=1)
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("queue.delete", queue=name, nowait=1)
    ch.call("queue.declare", queue=name, passive=1, nowait=1)
    ch.closed()


@script("9")
def reserved_names(t):
    a = t.connect()
    for name in ("amq.", "amq.gen-own", "amq.odd"):
        a.channel().call("queue.declare", queue=name)
        a.channel().call("queue.declare", queue=name, passive=1)
        a.channel().call("queue.delete", queue=name)
    a.channel().call("exchange.declare", exchange="amq.odd", type="direct")
    a.channel().call("exchange.declare", exchange="amq.odd", type="direct", passive=1)
    a.channel().call("exchange.delete", exchange="amq.odd")
    a.channel().call("exchange.delete", exchange="amq.direct")


@script("9")
def line_ends_in_names(t):
    ch = t.channel()
    name = t.name("q")
    ch.call("queue.declare", queue="queue.line-ends\n-in-names.q\r\n")
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("queue.bind", queue=name + "\n", exchange="amq.direct\r\n", key="line\nend")
    ch.call("confirm.select")
    ch.publish("amq.direct", "line\nend", "the key stays as it is", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("queue.delete", queue=name + "\r")
    ch.call("queue.declare", queue=name, passive=1)


@script("9", "38")
def quorum_properties(t):
    a = t.connect()
    quorum = {"x-queue-type": "quorum"}
    for fields in (dict(), dict(durable=1, exclusive=1), dict(durable=1, auto_delete=1),
                   dict(durable=1, exclusive=1, auto_delete=1), dict(exclusive=1)):
        a.channel().call("queue.declare", queue=t.name("q"), arguments=quorum, **fields)
    a.channel().call("queue.declare", arguments=quorum, durable=1)
    a.channel().call("queue.declare", arguments=quorum, exclusive=1)


@script("9", "36")
def one_name_many_connections(t):
    """What one connection did counts for the next at once."""
    a, b, c = (t.channel() for _ in range(3))
    name = t.queue(a)
    b.call("queue.declare", queue=name, passive=1)
    t.exchange(b, "fanout")
    c.call("queue.bind", queue=name, exchange=t.name("x"))
    a.call("confirm.select")
    a.publish(t.name("x"), "", "through", mandatory=1)
    a.confirms(1)
    c.call("basic.get", queue=name, no_ack=1)
    b.call("queue.delete", queue=name)
    a.publish(t.name("x"), "", "none", mandatory=1)
    a.confirms(1)
    c.call("queue.declare", queue=name, passive=1)


@script("9", kinds=KINDS)
def many_queues_with_one_binding_key(t):
    ch = t.channel()
    names = [t.queue(ch, str(i)) for i in range(5)]
    for name in names:
        t.bind(ch, "amq.direct", name, "many")
    ch.call("confirm.select")
    ch.publish("amq.direct", "many", "each", mandatory=1)
    ch.confirms(1)
    for name in names:
        ch.call("basic.get", queue=name, no_ack=1)


def publish_to_both(out, bound, name):
    """Returned if the queue is gone; through the default exchange, and through a binding."""
    for exchange in ("", bound):
        out.publish(exchange, name, "to nobody", mandatory=1)
        out.confirms(1)


def auto_deleted(t, ch):
    """An auto-delete queue that is bound: its name, and the exchange's."""
    name = t.queue(ch, auto_delete=1)
    bound = t.exchange(ch, "direct")
    t.bind(ch, bound, name, name)
    return name, bound


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_before_cancel_ok(t):
    """Who has heard cancel-ok of the last consumer, or anybody whom he tells, finds no queue."""
    ch, out = t.channel(), t.channel()
    ch.call("confirm.select")
    out.call("confirm.select")
    for round_ in range(8):
        name, bound = auto_deleted(t, ch)
        ch.publish("", name, f"m{round_}")
        ch.confirms(1)
        ch.call("basic.consume", queue=name, tag="1")
        ch.deliveries(1)
        publisher = (ch, out)[round_ % 2]
        ch.call("basic.cancel", tag="1")
        publish_to_both(publisher, bound, name)


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_not_the_last(t):
    """Another consumer keeps the queue, whoever comes and goes, until it goes too."""
    ch, other, out = t.channel(), t.channel(), t.channel()
    out.call("confirm.select")
    name, bound = auto_deleted(t, ch)
    for tag in ("1", "2"):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1)
    other.call("basic.consume", queue=name, tag="other", no_ack=1)
    for tag in ("1", "2"):
        ch.call("basic.cancel", tag=tag)
    publish_to_both(out, bound, name)
    other.deliveries(2)
    other.call("basic.cancel", tag="other")
    publish_to_both(out, bound, name)


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_behind_a_nowait_cancel(t):
    """No answer, but what the channel does next comes after it."""
    ch = t.channel()
    ch.call("confirm.select")
    for _ in range(4):
        name, bound = auto_deleted(t, ch)
        ch.call("basic.consume", queue=name, tag="1")
        ch.call("basic.cancel", tag="1", nowait=1)
        publish_to_both(ch, bound, name)


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_before_channel_close_ok(t):
    a, out = t.connect(), t.channel()
    out.call("confirm.select")
    for _ in range(4):
        ch = a.channel()
        name, bound = auto_deleted(t, ch)
        out.publish("", name, "unacked")
        out.confirms(1)
        ch.call("basic.consume", queue=name, tag="1")
        ch.deliveries(1)
        ch.close()
        publish_to_both(out, bound, name)


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_before_connection_close_ok(t):
    out = t.channel()
    out.call("confirm.select")
    for _ in range(4):
        a = t.connect()
        ch, more = a.channel(), a.channel()
        name, bound = auto_deleted(t, ch)
        ch.call("basic.consume", queue=name, tag="1")
        more.call("basic.consume", queue=name, tag="2")
        a.end()
        publish_to_both(out, bound, name)


@script("9", "12", kinds=("transient", "durable"))
def auto_delete_before_a_channel_error(t):
    """The channel has left its queues when its end is told."""
    a, out = t.connect(), t.channel()
    out.call("confirm.select")
    for _ in range(4):
        ch = a.channel()
        name, bound = auto_deleted(t, ch)
        ch.call("basic.consume", queue=name, tag="1")
        ch.send("queue.declare", queue=t.name("missing"), passive=1)
        ch.closed()
        publish_to_both(out, bound, name)
