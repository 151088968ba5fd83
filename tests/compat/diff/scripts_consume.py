"""Consuming: get, deliveries, acks, requeues, recover, prefetch, cancels, exclusive consumers."""

from registry import script
from session import KINDS


def fill(t, ch, count, **flags):
    """A queue with messages m0 .. m(count - 1), published over a channel of their own."""
    name = t.queue(ch, **flags)
    out = ch.connection.channel()
    out.call("confirm.select")
    for i in range(count):
        out.publish("", name, f"m{i}")
    out.confirms(count)
    return name


@script("17", kinds=KINDS)
def get(t):
    ch = t.channel()
    name = fill(t, ch, 3)
    ch.call("basic.get", queue=name)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name)
    ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=1)
    ch.send("basic.reject", tag=3, requeue=1)
    t.counts(name, messages=1)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=t.name("missing"))


@script("15", kinds=KINDS)
def consume_and_ack(t):
    ch = t.channel()
    name = fill(t, ch, 4)
    ch.call("basic.consume", queue=name, tag="mine")
    ch.deliveries(4)
    ch.send("basic.ack", tag=2)
    ch.send("basic.ack", tag=3, multiple=1)
    ch.send("basic.ack", tag=4)
    ch.sync()
    t.counts(name, messages=0, consumers=1)
    ch.call("basic.cancel", tag="mine")
    ch.call("basic.cancel", tag="mine")
    t.counts(name, messages=0, consumers=0)


@script("15", kinds=KINDS)
def generated_tag(t):
    ch = t.channel()
    name = fill(t, ch, 1)
    tag = ch.call("basic.consume", queue=name, no_ack=1)["tag"]
    ch.deliveries(1)
    ch.call("basic.cancel", tag=tag)


@script("15", kinds=KINDS)
def ack_with_multiple_zero(t):
    ch = t.channel()
    name = fill(t, ch, 3)
    ch.send("basic.ack", tag=0, multiple=1)
    ch.sync()
    for _ in range(3):
        ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=0, multiple=1)
    ch.sync()
    ch.send("basic.ack", tag=3)
    ch.closed()


@script("15")
def unknown_tags(t):
    a = t.connect()
    name = fill(t, a.channel(), 0)
    out = a.channel()
    out.call("confirm.select")
    for method, fields in (
            ("basic.ack", dict(tag=0)), ("basic.ack", dict(tag=1)), ("basic.ack", dict(tag=1, multiple=1)),
            ("basic.ack", dict(tag=2 ** 63)), ("basic.ack", dict(tag=2 ** 64 - 1)),
            ("basic.nack", dict(tag=0)), ("basic.nack", dict(tag=7, requeue=1)),
            ("basic.nack", dict(tag=7, multiple=1)), ("basic.reject", dict(tag=0)),
            ("basic.reject", dict(tag=3, requeue=1))):
        ch = a.channel()
        ch.send(method, **fields)
        ch.closed()
        out.publish("", name, "m")
        out.confirms(1)
        ch = a.channel()
        ch.call("basic.get", queue=name)
        ch.send("basic.ack", tag=1)
        ch.send(method, **fields)
        ch.closed()


@script("15", kinds=KINDS)
def ack_twice(t):
    a = t.connect()
    name = fill(t, a.channel(), 4)
    for first, second in (("basic.ack", "basic.ack"), ("basic.reject", "basic.ack"),
                          ("basic.nack", "basic.reject"), ("basic.ack", "basic.nack")):
        ch = a.channel()
        ch.call("basic.get", queue=name)
        ch.send(first, tag=1)
        ch.send(second, tag=1)
        ch.closed()


@script("15")
def multiple_that_names_a_hole(t):
    """The tag itself must be outstanding."""
    ch = t.channel()
    name = fill(t, ch, 3)
    for _ in range(3):
        ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=2)
    ch.send("basic.ack", tag=2, multiple=1)
    ch.closed()


@script("15")
def tag_of_another_channel(t):
    a = t.connect()
    one, two = a.channel(), a.channel()
    name = fill(t, one, 2)
    one.call("basic.get", queue=name)
    two.send("basic.ack", tag=1)
    two.closed()
    one.send("basic.ack", tag=1)
    one.sync()


@script("15", kinds=("transient", "durable"))
def requeue_order(t):
    """Back to their places."""
    ch = t.channel()
    name = fill(t, ch, 5)
    for _ in range(4):
        ch.call("basic.get", queue=name)
    ch.send("basic.nack", tag=3, requeue=1)
    ch.send("basic.reject", tag=1, requeue=1)
    t.counts(name, messages=3)
    for _ in range(3):
        ch.call("basic.get", queue=name)
    ch.send("basic.nack", tag=0, multiple=1, requeue=1)
    t.counts(name, messages=5)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(5)


@script("15", "38")
def requeue_on_a_quorum_queue(t):
    """Without a limit: to the back, one by one."""
    t.kind = "quorum"
    ch = t.channel()
    name = fill(t, ch, 4)
    for _ in range(2):
        ch.call("basic.get", queue=name)
    ch.send("basic.reject", tag=1, requeue=1)
    t.counts(name, messages=3)
    ch.send("basic.nack", tag=2, requeue=1)
    t.counts(name, messages=4)
    for _ in range(4):
        ch.call("basic.get", queue=name, no_ack=1)


@script("15", kinds=KINDS)
def reject_drops(t):
    ch = t.channel()
    name = fill(t, ch, 4)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(4)
    ch.send("basic.reject", tag=1)
    ch.send("basic.nack", tag=3, multiple=1)
    ch.send("basic.nack", tag=4)
    ch.sync()
    ch.call("basic.cancel", tag="t")
    t.counts(name, messages=0, consumers=0)


@script("15", kinds=KINDS)
def requeue_to_the_same_consumer(t):
    ch = t.channel()
    name = fill(t, ch, 2)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(1)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.send("basic.nack", tag=2, requeue=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=3)
    ch.sync()
    t.counts(name, messages=0)


@script("15", kinds=KINDS)
def channel_end_requeues(t):
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = fill(t, other, 3)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(3)
    ch.send("basic.ack", tag=2)
    ch.close()
    t.counts(name, messages=2, consumers=0)
    other.call("basic.consume", queue=name, tag="t", no_ack=1)
    other.deliveries(2)


@script("15", kinds=KINDS)
def connection_end_requeues(t):
    a, b = t.connect(), t.connect()
    other = b.channel()
    name = fill(t, other, 3)
    ch = a.channel()
    ch.call("basic.get", queue=name)
    ch.call("basic.get", queue=name)
    a.close()
    t.counts(name, messages=3)
    other.call("basic.consume", queue=name, tag="t", no_ack=1)
    other.deliveries(3)


@script("17", kinds=KINDS)
def recover(t):
    ch = t.channel()
    name = fill(t, ch, 3)
    ch.call("basic.recover", requeue=1)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(3)
    ch.send("basic.ack", tag=2)
    ch.call("basic.recover", requeue=1)
    ch.deliveries(2)
    ch.send("basic.ack", tag=1)
    ch.closed()


@script("17")
def recover_async(t):
    ch = t.channel()
    name = fill(t, ch, 2)
    ch.call("basic.get", queue=name)
    ch.send("basic.recover-async", requeue=1)
    t.counts(name, messages=2)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("17")
def recover_without_requeue(t):
    for method in ("basic.recover", "basic.recover-async"):
        ch = t.channel()
        ch.send(method)
        ch.closed()


@script("16", kinds=KINDS)
def prefetch_per_consumer(t):
    ch = t.channel()
    name = fill(t, ch, 6)
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="two")
    ch.deliveries(2)
    t.counts(name, messages=4)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="one")
    ch.deliveries(1)
    t.counts(name, messages=3)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=3)
    ch.deliveries(1)
    t.counts(name, messages=1)


@script("16", kinds=("transient", "durable"))
def prefetch_of_the_channel(t):
    ch = t.channel()
    first, second = fill(t, ch, 3), fill(t, ch, 3, suffix="second")
    ch.call("basic.qos", count=3, **{"global": 1})
    ch.call("basic.consume", queue=first, tag="1")
    ch.deliveries(3)
    ch.call("basic.consume", queue=second, tag="2")
    t.counts(second, messages=3, consumers=1)
    ch.send("basic.ack", tag=3, multiple=1)
    ch.deliveries(3)
    t.counts(second, messages=0)


@script("16", kinds=("transient", "durable"))
def prefetch_of_the_channel_changes(t):
    ch = t.channel()
    name = fill(t, ch, 6)
    ch.call("basic.qos", count=1, **{"global": 1})
    ch.call("basic.consume", queue=name, tag="1")
    ch.deliveries(1)
    ch.call("basic.qos", count=3, **{"global": 1})
    ch.deliveries(2)
    t.counts(name, messages=3)
    ch.call("basic.qos", count=0, **{"global": 1})
    ch.deliveries(3)


@script("16", kinds=("transient", "durable"))
def prefetch_of_consumers_lifts_that_of_the_channel(t):
    ch = t.channel()
    first, second = fill(t, ch, 4), fill(t, ch, 3, suffix="second")
    ch.call("basic.qos", count=2, **{"global": 1})
    ch.call("basic.consume", queue=first, tag="1")
    ch.deliveries(2)
    ch.call("basic.qos", count=1)
    ch.deliveries(2)
    ch.call("basic.consume", queue=second, tag="2")
    ch.deliveries(1)
    t.counts(second, messages=2, consumers=1)
    ch.call("basic.qos", count=6, **{"global": 1})
    ch.send("basic.ack", tag=5)
    ch.deliveries(1)
    t.counts(second, messages=1, consumers=1)


@script("16", kinds=("transient", "durable"))
def prefetch_of_channels_side_by_side(t):
    """Consumers of one queue on two channels, each with limits of its own, which change meanwhile."""
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = fill(t, ch, 12)
    for tag, count in (("a", 2), ("b", 1)):
        ch.call("basic.qos", count=count)
        ch.call("basic.qos", count=3, **{"global": 1})
        ch.call("basic.consume", queue=name, tag=tag)
        ch.deliveries(count)
    other.call("basic.qos", count=4)
    other.call("basic.consume", queue=name, tag="c")
    other.deliveries(4)
    t.counts(name, messages=5, consumers=3)
    ch.send("basic.ack", tag=2)
    ch.deliveries(1)
    other.send("basic.cancel", tag="c", no_wait=1)
    other.send("basic.ack", tag=4, multiple=1)
    t.counts(name, messages=4, consumers=2)
    ch.call("basic.qos", count=2, **{"global": 1})
    ch.send("basic.ack", tag=3)
    t.counts(name, messages=4)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.call("basic.qos", count=0, **{"global": 1})
    ch.deliveries(1)
    t.counts(name, messages=2)


@script("16")
def prefetch_size(t):
    ch = t.channel()
    ch.call("basic.qos", size=1)


@script("16", "38")
def prefetch_of_the_channel_on_a_quorum_queue(t):
    t.kind = "quorum"
    ch = t.channel()
    name = fill(t, ch, 4)
    ch.call("basic.qos", count=2, **{"global": 1})
    ch.call("basic.consume", queue=name, tag="1")


@script("16", kinds=KINDS)
def no_ack_ignores_prefetch(t):
    ch = t.channel()
    name = fill(t, ch, 5)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1", no_ack=1)
    ch.deliveries(5)
    ch.send("basic.ack", tag=1)
    ch.closed()


@script("15", kinds=KINDS)
def round_robin(t):
    a = t.connect()
    ch, out = a.channel(), a.channel()
    name = t.queue(ch)
    for tag in ("1", "2", "3"):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1)
    out.call("confirm.select")
    for i in range(6):
        out.publish("", name, f"m{i}")
        out.confirms(1)
        ch.deliveries(1)


@script("28", kinds=KINDS)
def consumer_priority(t):
    a = t.connect()
    ch, out = a.channel(), a.channel()
    name = t.queue(ch)
    ch.call("basic.qos", count=2)
    for tag, arguments in (("low", {"x-priority": -5}), ("plain", {}), ("high", {"x-priority": 10})):
        ch.call("basic.consume", queue=name, tag=tag, arguments=arguments)
    out.call("confirm.select")
    for i in range(6):
        out.publish("", name, f"m{i}")
        out.confirms(1)
        ch.deliveries(1)


@script("15", "28", kinds=("transient", "durable"))
def consumer_priority_under_a_limit_over_the_channel(t):
    """Who has the higher priority has it each time, given back or acknowledged."""
    a = t.connect()
    ch, out = a.channel(), a.channel()
    name = t.queue(ch)
    ch.call("basic.qos", count=1, **{"global": 1})
    for tag, arguments in (("low", {}), ("high", {"x-priority": 5})):
        ch.call("basic.consume", queue=name, tag=tag, arguments=arguments)
    out.call("confirm.select")
    out.publish("", name, "m0")
    out.confirms(1)
    for method in ("basic.reject", "basic.nack", "basic.reject"):
        for delivery in ch.deliveries(1):
            ch.send(method, tag=delivery["tag"], requeue=1)
    for i in range(1, 3):
        out.publish("", name, f"m{i}")
        out.confirms(1)
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.ack", tag=delivery["tag"])
    ch.sync()


@script("5", "15", "16", kinds=("transient", "durable"))
def held_and_closed_here_and_got_there(t):
    """Who hears that a channel or a connection is closed finds in the queue what a consumer held,
    over whatever connection."""
    there, here = t.channel(), t.connect()
    name = t.queue(there)
    there.call("confirm.select")
    for ends in ("close", "error", "close", "error", "end", "end", "end", "end"):
        for _ in range(1 if ends == "end" else 8):
            there.publish("", name, ends)
            there.confirms(1)
            of = t.connect() if ends == "end" else here
            ch = of.channel()
            ch.call("basic.consume", queue=name, tag="t")
            ch.deliveries(1)
            if ends == "end":
                of.end()
            elif ends == "error":
                ch.send("basic.ack", tag=77)
                ch.closed()
            else:
                ch.call("channel.close", code=200)
                ch.open = False
            there.call("basic.get", queue=name, no_ack=1)


@script("15")
def tag_twice(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t")
    ch.call("basic.consume", queue=name, tag="t")


@script("15")
def same_tag_on_two_channels(t):
    a = t.connect()
    one, two = a.channel(), a.channel()
    name = t.queue(one)
    one.call("basic.consume", queue=name, tag="t")
    two.call("basic.consume", queue=name, tag="t")
    one.call("basic.cancel", tag="t")
    one.call("basic.consume", queue=name, tag="t")


@script("15")
def missing_queue(t):
    a = t.connect()
    a.channel().call("basic.consume", queue=t.name("missing"))
    a.channel().call("basic.get", queue=t.name("missing"))
    a.channel().call("basic.cancel", tag="nobody")


@script("15")
def nowait(t):
    ch = t.channel()
    name = fill(t, ch, 2)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1, nowait=1)
    ch.deliveries(2)
    ch.call("basic.cancel", tag="t", nowait=1)
    t.counts(name, consumers=0)


@script("9", "15", kinds=("transient", "durable"))
def exclusive_consumer(t):
    a, b = t.connect(), t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="alone", exclusive=1)
    for fields in (dict(), dict(exclusive=1)):
        b.channel().call("basic.consume", queue=name, tag="other", **fields)
    a.channel().call("basic.consume", queue=name, tag="other")
    b.channel().call("basic.get", queue=name)
    ch.call("basic.cancel", tag="alone")
    ch = b.channel()
    ch.call("basic.consume", queue=name, tag="plain")
    a.channel().call("basic.consume", queue=name, tag="alone", exclusive=1)


@script("15", "38")
def exclusive_consumer_of_a_quorum_queue(t):
    t.kind = "quorum"
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="alone", exclusive=1)
    a.channel().call("basic.consume", queue=name, tag="other")


@script("18", kinds=("transient", "durable"))
def cancel_comes_behind_delete_ok(t):
    """Who deletes a queue that it consumes from itself hears of that first."""
    ch = t.channel()
    name = t.queue(ch)
    for tag in ("one", "two"):
        ch.call("basic.consume", queue=name, tag=tag)
    ch.call("queue.delete", in_order=True, queue=name)
    ch.take(2, "basic.cancel")
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="one")
    ch.send("queue.delete", queue=name, nowait=1)
    ch.take(1, "basic.cancel")
    ch.call("basic.cancel", tag="one")


@script("18", kinds=KINDS)
def cancel_when_the_queue_is_deleted(t):
    ch, other = t.channel(), t.channel()
    name = fill(t, ch, 1)
    ch.call("basic.consume", queue=name, tag="one")
    ch.call("basic.consume", queue=name, tag="two")
    ch.deliveries(1)
    other.call("queue.delete", queue=name)
    ch.take(2, "basic.cancel")
    ch.send("basic.ack", tag=1)
    ch.sync()
    ch.call("basic.cancel", tag="one")


@script("18")
def no_notice_without_the_capability(t):
    ch, other = t.channel(), t.connect(capabilities=()).channel()
    name = t.queue(ch)
    other.call("basic.consume", queue=name, tag="t")
    ch.call("queue.delete", queue=name)
    other.sync()
    other.call("basic.cancel", tag="t")


@script("18")
def cancel_ok_from_a_client(t):
    ch = t.channel()
    ch.send("basic.cancel-ok", tag="t")
    ch.closed()


@script("15")
def no_local_is_ignored(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t", no_local=1, no_ack=1)
    ch.publish("", name, "mine")
    ch.deliveries(1)


@script("15", kinds=KINDS)
def unacked_after_cancel(t):
    ch = t.channel()
    name = fill(t, ch, 3)
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(2)
    ch.call("basic.cancel", tag="t")
    ch.send("basic.ack", tag=1)
    ch.send("basic.nack", tag=2, requeue=1)
    t.counts(name, messages=2, consumers=0)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("15", "17")
def tags_are_shared_by_get_and_deliver(t):
    ch = t.channel()
    name = fill(t, ch, 4)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(2)
    ch.send("basic.ack", tag=2)
    ch.sync()
    ch.send("basic.ack", tag=3)
    ch.closed()


@script("4", "15")
def flow(t):
    ch = t.channel()
    ch.call("channel.flow", active=1)
    ch.send("channel.flow")
    ch.closed()


@script("4")
def channel_number_again(t):
    a = t.connect()
    for _ in range(3):
        ch = a.channel(5)
        ch.call("queue.declare", queue="amq.refused")
        ch = a.channel(5)
        ch.call("exchange.declare", exchange="amq.direct", passive=1)
        ch.close()


@script("4")
def methods_out_of_place(t):
    for method in ("channel.open-ok", "queue.declare-ok", "basic.get-empty", "connection.open-ok",
                   "channel.flow-ok", "channel.close-ok"):
        ch = t.channel()
        ch.send(method)
        ch.closed()
        t.connections.clear()


@script("4")
def second_open(t):
    ch = t.channel()
    ch.send("channel.open")
    ch.closed()


@script("4")
def never_opened(t):
    ch = t.channel()
    ch.number = 9
    ch.send("queue.declare", queue="never")
    ch.connection.closed()


@script("4")
def access_request(t):
    ch = t.channel()
    ch.call("access.request", realm="/data", active=1, write=1, read=1)


@script("15", "17", kinds=KINDS[:2])
def comes_back_in_order_from_two_queues(t):
    """What is unacked of one queue has another's between, and not the order of its queue."""
    for suffix, back in (("q1", dict(method="basic.recover", requeue=1)),
                         ("q2", dict(method="basic.nack", multiple=1, requeue=1))):
        a = t.connect()
        ch, out = a.channel(), a.channel()
        name, other = t.queue(ch, suffix), t.queue(ch, suffix + ".other")
        ch.call("basic.consume", queue=name, tag="t")
        out.publish("", name, "first")
        ch.deliveries(1)
        out.publish("", name, "second")
        ch.deliveries(1)
        out.publish("", other, "other")
        t.counts(other, messages=1)
        ch.call("basic.get", queue=other)
        ch.send("basic.nack", tag=1, requeue=1)
        ch.deliveries(1)
        if back["method"] == "basic.recover":
            ch.call(**back)
        else:
            ch.send(**back)
        ch.deliveries(2)
