"""Transactions."""

from registry import script
from session import KINDS


@script("14", kinds=KINDS)
def commit(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    for i in range(3):
        ch.publish("", name, f"m{i}")
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("tx.commit")
    t.counts(name, messages=3)
    ch.publish("", name, "next")
    ch.call("tx.commit")
    t.counts(name, messages=4)
    ch.call("tx.commit")


@script("14", kinds=KINDS)
def rollback(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.publish("", name, "never")
    ch.call("tx.rollback")
    ch.publish("", name, "kept")
    ch.call("tx.commit")
    ch.call("basic.get", queue=name, no_ack=1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("12", "14", kinds=KINDS)
def returns_come_at_commit(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.publish("", t.name("nobody"), "1", mandatory=1, headers={"n": 1})
    ch.publish("", name, "2", mandatory=1)
    ch.publish("amq.direct", t.name("nobody"), "3", mandatory=1)
    ch.sync()
    ch.call("tx.commit", in_order=True)
    ch.publish("", t.name("nobody"), "rolled back", mandatory=1)
    ch.call("tx.rollback", in_order=True)
    ch.call("tx.commit", in_order=True)
    t.counts(name, messages=1)


@script("14", kinds=KINDS)
def acks_commit(t):
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = t.queue(ch)
    for i in range(3):
        other.publish("", name, f"m{i}")
    t.counts(name, messages=3)
    ch.call("tx.select")
    for _ in range(3):
        ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=2, multiple=1)
    ch.send("basic.nack", tag=3, requeue=1)
    ch.sync()
    t.counts(name, messages=0)
    ch.call("tx.commit")
    t.counts(name, messages=1)
    ch.close()
    t.counts(name, messages=1)


@script("14", kinds=KINDS)
def acks_roll_back(t):
    """What was acked is unacked again, and can be acked."""
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = t.queue(ch)
    for i in range(2):
        other.publish("", name, f"m{i}")
    t.counts(name, messages=2)
    ch.call("tx.select")
    ch.call("basic.get", queue=name)
    ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=1)
    ch.send("basic.reject", tag=2)
    ch.call("tx.rollback")
    t.counts(name, messages=0)
    ch.send("basic.ack", tag=1)
    ch.call("tx.commit")
    ch.close()
    t.counts(name, messages=1)


@script("14")
def acked_twice_in_one(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.publish("", name, "m")
    t.counts(name, messages=1)
    ch.call("tx.select")
    ch.call("basic.get", queue=name)
    ch.send("basic.ack", tag=1)
    ch.send("basic.ack", tag=1)
    ch.closed()
    t.counts(name, messages=1)


@script("14")
def unknown_tag(t):
    ch = t.channel()
    ch.call("tx.select")
    ch.send("basic.ack", tag=7)
    ch.closed()


@script("14")
def no_exchange(t):
    """Refused when it is published, not when it is committed."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.publish("", name, "lost with the channel")
    ch.publish(t.name("missing"), "k", "m")
    ch.closed()
    t.counts(name, messages=0)


@script("14", kinds=KINDS)
def ended_by_the_channel(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.publish("", name, "never")
    ch.call("queue.declare", queue=name, passive=1)
    ch.close()
    t.counts(name, messages=0)


@script("14")
def routed_when_published(t):
    """Bindings count at the time of the publish."""
    ch, other = t.channel(), t.channel()
    exchange, name = t.exchange(ch, "fanout"), t.queue(ch)
    t.bind(ch, exchange, name)
    ch.call("tx.select")
    ch.publish(exchange, "", "bound", mandatory=1)
    ch.sync()
    other.call("queue.unbind", queue=name, exchange=exchange)
    ch.call("tx.commit", in_order=True)
    t.counts(name, messages=1)


@script("14")
def queue_gone_before_commit(t):
    ch, other = t.channel(), t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.publish("", name, "m", mandatory=1)
    ch.sync()
    other.call("queue.delete", queue=name)
    ch.call("tx.commit", in_order=True)


@script("12", "14", kinds=KINDS)
def queue_declared_again_before_commit(t):
    """What the queues of a message are is decided when it is published, by their names."""
    a = t.connect()
    ch, other = a.channel(), a.channel()
    name = t.queue(other)
    t.bind(other, "amq.fanout", name)
    ch.call("tx.select")
    ch.publish("", name, "m0", mandatory=1)
    ch.publish("amq.fanout", "", "m1", mandatory=1)
    other.call("queue.delete", queue=name)
    t.queue(other)
    ch.call("tx.commit", in_order=True)
    for _ in range(3):
        other.call("basic.get", queue=name, no_ack=1)


@script("14", "23")
def time_to_live_begins_at_commit(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-message-ttl": 600})
    ch.call("tx.select")
    ch.publish("", name, "m")
    t.let_pass(800)
    ch.call("tx.commit")
    ch.call("basic.get", queue=name, no_ack=1)


@script("14", kinds=KINDS)
def to_several_queues(t):
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    names = [t.queue(ch, str(i)) for i in range(3)]
    for name in names:
        t.bind(ch, exchange, name)
    ch.call("tx.select")
    for i in range(2):
        ch.publish(exchange, "", f"m{i}")
    ch.call("tx.commit")
    for name in names:
        t.counts(name, messages=2)


@script("14", "15")
def consumer_in_a_transaction(t):
    """Its own publishes come to it after the commit."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    ch.call("basic.consume", queue=name, tag="t")
    ch.publish("", name, "m")
    ch.call("tx.commit")
    ch.deliveries(1)
    ch.send("basic.ack", tag=1)
    ch.call("tx.rollback")
    ch.call("basic.recover", requeue=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=2)
    ch.call("tx.commit")
    t.counts(name, messages=0)
