"""Queues of a limited length, and limited redelivery."""

from registry import script
from session import KINDS
from scripts_ttl import CLASSIC, with_letters


def drain(t, ch, name, messages):
    t.counts(name, messages=messages)
    for _ in range(messages):
        ch.call("basic.get", queue=name, no_ack=1)


@script("25", kinds=KINDS)
def drop_head(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 3})
    ch.call("confirm.select")
    for i in range(6):
        ch.publish("", name, f"m{i}")
        ch.confirms(1)
    drain(t, ch, name, 3)


@script("24", "25", kinds=KINDS)
def drop_head_dead_letters(t):
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-max-length": 1})
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}", headers={"n": i})
        ch.confirms(1)
    drain(t, ch, name, 1)
    drain(t, ch, dead, 2)


@script("25", kinds=CLASSIC)
def bytes_of_bodies(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length-bytes": 10})
    ch.call("confirm.select")
    for body in ("1234", "5678", "90", "a", "", "this is longer than ten", "b"):
        ch.publish("", name, body, headers={"counts": "not"})
        ch.confirms(1)
    drain(t, ch, name, 1)


@script("25", kinds=CLASSIC)
def length_and_bytes(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 3, "x-max-length-bytes": 10})
    ch.call("confirm.select")
    for body in ("1", "2", "3", "4", "123456789"):
        ch.publish("", name, body)
        ch.confirms(1)
    drain(t, ch, name, 2)


@script("25", kinds=CLASSIC)
def length_zero(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 0})
    out = t.channel()
    out.call("confirm.select")
    out.publish("", name, "nobody is there", mandatory=1)
    out.confirms(1)
    t.counts(name, messages=0)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="t")
    out.publish("", name, "for the consumer")
    out.confirms(1)
    ch.deliveries(1)
    out.publish("", name, "it is busy")
    out.confirms(1)
    ch.send("basic.ack", tag=1)
    ch.sync()
    t.counts(name, messages=0)


@script("25", kinds=KINDS)
def only_ready_ones_count(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 2})
    out = t.channel()
    out.call("confirm.select")
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="t")
    for i in range(5):
        out.publish("", name, f"m{i}")
        out.confirms(1)
        if i < 2:
            ch.deliveries(1)
    t.counts(name, messages=2)
    ch.call("basic.cancel", tag="t")
    ch.send("basic.nack", tag=2, multiple=1, requeue=1)
    drain(t, ch, name, 2)


@script("25", kinds=KINDS)
def given_back_to_a_consumer_that_has_room(t):
    """More comes back than the queue may have, and a consumer could take all of it."""
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 1})
    out = t.channel()
    out.call("confirm.select")
    ch.call("basic.consume", queue=name, tag="t")
    for i in range(3):
        out.publish("", name, f"m{i}")
        out.confirms(1)
        ch.deliveries(1)
    ch.send("basic.nack", tag=3, multiple=1, requeue=1)
    ch.deliveries(1)
    ch.sync()
    t.counts(name, messages=0)


@script("13", "25", kinds=CLASSIC)
def reject_publish(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    ch.call("confirm.select")
    for i in range(4):
        ch.publish("", name, f"m{i}", mandatory=1)
        ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)
    ch.publish("", name, "there is room")
    ch.confirms(1)
    drain(t, ch, name, 2)


@script("13", "25", by_hand=True)
def reject_publish_on_a_quorum_queue(t):
    """Exactly as many as there is room for: RabbitMQ lets some more in."""
    t.kind = "quorum"
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    ch.call("confirm.select")
    for i in range(4):
        ch.publish("", name, f"m{i}", mandatory=1)
        ch.confirms(1)
    drain(t, ch, name, 2)


@script("13", "24", "25", kinds=CLASSIC)
def reject_publish_dlx(t):
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-max-length": 1, "x-overflow": "reject-publish-dlx"})
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}")
        ch.confirms(1)
    drain(t, ch, name, 1)
    drain(t, ch, dead, 2)


@script("25", kinds=CLASSIC)
def reject_publish_without_confirms(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for i in range(3):
        ch.publish("", name, f"m{i}", mandatory=1)
    drain(t, ch, name, 1)


@script("13", "25", kinds=CLASSIC)
def one_of_two_rejects(t):
    """A nack; the other queue has the message all the same."""
    ch = t.channel()
    name = t.queue(ch, "full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    other = t.queue(ch, "other")
    for queue in (name, other):
        t.bind(ch, "amq.direct", queue, "one-of-two")
    ch.call("confirm.select")
    ch.publish("amq.direct", "one-of-two", "m", mandatory=1)
    ch.confirms(1)
    drain(t, ch, other, 1)


@script("25", kinds=CLASSIC)
def expired_make_room(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    ch.call("confirm.select")
    ch.publish("", name, "soon", expiration="50")
    ch.confirms(1)
    t.counts(name, messages=0)
    ch.publish("", name, "there is room")
    ch.confirms(1)
    drain(t, ch, name, 1)


def quorum_with_limit(t, ch, limit):
    dead = t.name("dead")
    t.kind = None
    t.queue(ch, "dead")
    t.kind = "quorum"
    return t.queue(ch, arguments={"x-delivery-limit": limit, "x-dead-letter-exchange": "",
                                  "x-dead-letter-routing-key": dead}), dead


@script("24", "39")
def deliveries_of_a_get(t):
    ch = t.channel()
    name, dead = quorum_with_limit(t, ch, 2)
    ch.publish("", name, "m")
    t.counts(name, messages=1)
    for i in range(3):
        ch.call("basic.get", queue=name)
        ch.send("basic.nack", tag=i + 1, requeue=1)
        if i < 2:
            t.counts(name, messages=1)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)
    t.counts(name, messages=0)


@script("39")
def deliveries_of_a_consumer(t):
    a = t.connect()
    ch = a.channel()
    name, dead = quorum_with_limit(t, ch, 1)
    ch.publish("", name, "m")
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(1)
    ch.send("basic.reject", tag=1, requeue=1)
    ch.deliveries(1)
    ch.send("basic.reject", tag=2, requeue=1)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)


@script("39")
def deliveries_that_ended_with_the_channel(t):
    a = t.connect()
    ch = a.channel()
    name, dead = quorum_with_limit(t, ch, 1)
    ch.publish("", name, "m")
    t.counts(name, messages=1)
    for _ in range(2):
        other = a.channel()
        other.call("basic.get", queue=name)
        other.close()
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)


@script("39")
def delivery_limit_zero(t):
    ch = t.channel()
    name, dead = quorum_with_limit(t, ch, 0)
    ch.publish("", name, "m")
    t.counts(name, messages=1)
    ch.call("basic.get", queue=name)
    ch.send("basic.nack", tag=1, requeue=1)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)


@script("15", "39")
def returned_with_a_limit_go_first(t):
    ch = t.channel()
    name, _ = quorum_with_limit(t, ch, 5)
    ch.call("confirm.select")
    for i in range(4):
        ch.publish("", name, f"m{i}")
    ch.confirms(4)
    for _ in range(2):
        ch.call("basic.get", queue=name)
    ch.send("basic.reject", tag=1, requeue=1)
    t.counts(name, messages=3)
    ch.send("basic.nack", tag=2, requeue=1)
    drain(t, ch, name, 4)
