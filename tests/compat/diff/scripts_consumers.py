"""Single active consumers, priorities of messages."""

from registry import script
from session import KINDS
from scripts_policy import policy
from scripts_ttl import CLASSIC

SINGLE = {"x-single-active-consumer": True}


@script("29", kinds=KINDS)
def single_active(t):
    a = t.connect()
    one, two, out = a.channel(), t.channel(), t.channel()
    name = t.queue(one, arguments=SINGLE)
    one.call("basic.consume", queue=name, tag="1")
    two.call("basic.consume", queue=name, tag="2")
    out.call("confirm.select")
    for i in range(3):
        out.publish("", name, f"m{i}")
        out.confirms(1)
        one.deliveries(1)
    one.send("basic.ack", tag=3, multiple=1)
    one.call("basic.cancel", tag="1")
    out.publish("", name, "for the next")
    out.confirms(1)
    two.deliveries(1)
    t.counts(name, messages=0, consumers=1)


@script("29", kinds=KINDS)
def single_active_connection_ends(t):
    """The next one takes over, and gets what was unacked."""
    a, b = t.connect(), t.connect()
    one, two, out = a.channel(), b.channel(), t.channel()
    name = t.queue(out, arguments=SINGLE)
    one.call("basic.consume", queue=name, tag="1")
    two.call("basic.consume", queue=name, tag="2")
    out.publish("", name, "m0")
    out.publish("", name, "m1")
    one.deliveries(2)
    one.send("basic.ack", tag=1)
    one.sync()
    a.close()
    two.deliveries(1)


@script("29", kinds=KINDS)
def single_active_waits_its_turn(t):
    """Whoever has waited longest is next."""
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    for tag in ("1", "2", "3"):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1)
    for tag in ("1", "2"):
        ch.call("basic.cancel", tag=tag)
        out.publish("", name, "after " + tag)
        ch.deliveries(1)
    ch.call("basic.consume", queue=name, tag="1", no_ack=1)
    ch.call("basic.cancel", tag="3")
    out.publish("", name, "after 3")
    ch.deliveries(1)


@script("29", kinds=KINDS)
def single_active_waiting_is_cancelled(t):
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    for tag in ("1", "2", "3"):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1)
    ch.call("basic.cancel", tag="2")
    ch.call("basic.cancel", tag="1")
    out.publish("", name, "for the third")
    ch.deliveries(1)


@script("16", "29", kinds=KINDS)
def single_active_with_prefetch(t):
    """A full one does not let the next one in."""
    ch, other, out = t.channel(), t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1")
    other.call("basic.consume", queue=name, tag="2")
    out.call("confirm.select")
    for i in range(2):
        out.publish("", name, f"m{i}")
    out.confirms(2)
    ch.deliveries(1)
    t.counts(name, messages=1, consumers=2)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=2)
    ch.sync()


@script("29", kinds=KINDS)
def single_active_and_exclusive(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch, arguments=SINGLE)
    a.channel().call("basic.consume", queue=name, tag="1", exclusive=1)
    ch.call("basic.consume", queue=name, tag="2")


@script("17", "29", kinds=KINDS)
def single_active_and_get(t):
    ch = t.channel()
    name = t.queue(ch, arguments=SINGLE)
    ch.publish("", name, "m")
    t.counts(name, messages=1)
    ch.call("basic.get", queue=name)


@script("15", "29", kinds=KINDS)
def single_active_requeue(t):
    ch, other = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    ch.call("basic.consume", queue=name, tag="1")
    other.call("basic.consume", queue=name, tag="2")
    ch.publish("", name, "m")
    ch.deliveries(1)
    ch.send("basic.nack", tag=1, requeue=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=2)
    ch.sync()


@script("18", "29", kinds=KINDS)
def single_active_queue_deleted(t):
    ch, other = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    ch.call("basic.consume", queue=name, tag="1")
    other.call("basic.consume", queue=name, tag="2")
    t.channel().call("queue.delete", queue=name)
    ch.take(1, "basic.cancel")
    other.take(1, "basic.cancel")


@script("26", kinds=CLASSIC)
def priorities(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5})
    ch.call("confirm.select")
    for priority in (None, 0, 3, 5, 1, 9, 255, 3, 5):
        more = {} if priority is None else {"priority": priority}
        ch.publish("", name, f"p{priority}", **more)
    ch.confirms(9)
    t.counts(name, messages=9)
    for _ in range(9):
        ch.call("basic.get", queue=name, no_ack=1)


@script("26", kinds=CLASSIC)
def priorities_requeued(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5})
    ch.call("confirm.select")
    for priority in (1, 1, 4, 4):
        ch.publish("", name, f"p{priority}", priority=priority)
    ch.confirms(4)
    for _ in range(3):
        ch.call("basic.get", queue=name)
    ch.send("basic.nack", tag=3, requeue=1)
    ch.send("basic.nack", tag=2, requeue=1)
    t.counts(name, messages=3)
    for _ in range(3):
        ch.call("basic.get", queue=name, no_ack=1)


@script("16", "26", kinds=CLASSIC)
def priorities_with_a_consumer(t):
    """What is out already is not taken back."""
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5})
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="t")
    out.call("confirm.select")
    for priority in (0, 1, 2, 5, 3):
        out.publish("", name, f"p{priority}", priority=priority)
        out.confirms(1)
    ch.deliveries(2)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.send("basic.ack", tag=2)
    ch.deliveries(1)


@script("25", "26", kinds=CLASSIC)
def priorities_and_length(t):
    """Which goes when there are too many."""
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5, "x-max-length": 2})
    ch.call("confirm.select")
    for priority in (1, 5, 3, 0):
        ch.publish("", name, f"p{priority}", priority=priority)
        ch.confirms(1)
    t.counts(name, messages=2)
    for _ in range(2):
        ch.call("basic.get", queue=name, no_ack=1)


@script("23", "26", kinds=CLASSIC, by_hand=True)
def priorities_and_expiry(t):
    """RabbitMQ 3.10 delivers it although it has expired."""
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5})
    ch.call("confirm.select")
    for priority, more in ((1, {}), (5, {"expiration": "50"}), (3, {})):
        ch.publish("", name, f"p{priority}", priority=priority, **more)
    ch.confirms(3)
    t.let_pass(150)
    t.counts(name, messages=2)
    for _ in range(2):
        ch.call("basic.get", queue=name, no_ack=1)


@script("26", kinds=CLASSIC)
def priority_zero(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 0})
    ch.publish("", name, "1", priority=1)
    ch.publish("", name, "0")
    t.counts(name, messages=2)
    for _ in range(2):
        ch.call("basic.get", queue=name, no_ack=1)


@script("26", kinds=CLASSIC)
def priorities_purged_and_deleted(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 3})
    for priority in (0, 3, 1):
        ch.publish("", name, "m", priority=priority)
    t.counts(name, messages=3)
    ch.call("queue.purge", queue=name)
    ch.publish("", name, "m", priority=2)
    t.counts(name, messages=1)
    ch.call("queue.delete", queue=name)


@script("26", kinds=("quorum",))
def priorities_are_nothing_to_a_quorum_queue(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for priority in (4, 9, None, 3):
        ch.publish("", name, f"p{priority}", **({} if priority is None else {"priority": priority}))
        ch.confirms(1)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(4)


@script("30", kinds=KINDS, by_hand=True)
def holds_a_message_too_long(t):
    """The consumer is cancelled, as in RabbitMQ 4.3, and the message is there for the next; who
    cannot be told of it has the channel closed, as in RabbitMQ before."""
    ch = t.channel()
    name = t.queue(ch)
    ch.publish("", name, "m")
    ch.call("basic.consume", queue=name, tag="slow", arguments={"x-consumer-timeout": 300})
    ch.deliveries(1)
    ch.take(1, "basic.cancel")
    ch.send("basic.ack", tag=1)
    ch.sync()
    mute = t.connect(capabilities=()).channel()
    mute.call("basic.consume", queue=name, tag="mute", arguments={"x-consumer-timeout": 300})
    mute.deliveries(1)
    mute.closed()
    ch.call("basic.consume", queue=name, tag="good", arguments={"x-consumer-timeout": 60000})
    for delivery in ch.deliveries(1):
        ch.send("basic.ack", tag=delivery["tag"])
    ch.sync()
    t.counts(name, messages=0)


@script("30", "57", kinds=("durable", "quorum"), by_hand=True)
def limit_of_the_queue_and_of_a_policy(t):
    """Of both, the lower counts."""
    ch = t.channel()
    for suffix, limit in (("q", 300), ("longer", 600000)):
        name = t.queue(ch, suffix, {"x-consumer-timeout": limit})
        if suffix == "longer":
            policy(t, {"consumer-timeout": 300})
        ch.publish("", name, "m")
        ch.call("basic.consume", queue=name, tag=suffix)
        ch.deliveries(1)
        ch.take(1, "basic.cancel")
        ch.call("basic.get", queue=name, no_ack=1)


@script("28", kinds=KINDS)
def priority_and_many_at_once(t):
    """Nobody else gets what is within the prefetch of who has the higher priority,
    also if all of it comes in one breath."""
    a = t.connect()
    high, low, out = a.channel(), a.channel(), a.channel()
    name = t.queue(high)
    high.call("basic.qos", count=250)
    high.call("basic.consume", queue=name, tag="high", arguments={"x-priority": 10})
    low.call("basic.consume", queue=name, tag="low")
    out.call("tx.select")
    for i in range(64):
        out.publish("", name, f"m{i}")
    out.call("tx.commit")
    high.deliveries(64)
    high.send("basic.ack", tag=64, multiple=1)
    high.sync()


@script("15", "16", kinds=KINDS)
def place_of_one_that_had_no_room(t):
    """Two with a prefetch of one: whose turn is it when both have acked, the second one first?"""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.call("basic.qos", count=1)
    for tag in ("1", "2"):
        ch.call("basic.consume", queue=name, tag=tag)
    for tag in (1, 2):
        ch.publish("", name, f"m{tag}")
        ch.confirms(1)
        ch.deliveries(1)
    ch.send("basic.ack", tag=2)
    ch.send("basic.ack", tag=1)
    ch.publish("", name, "m3")
    ch.confirms(1)
    ch.deliveries(1)


@script("15", "16", kinds=KINDS)
def place_of_one_that_gives_back(t):
    """A second consumer came while the first had no room: who gets what the first gives back?"""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1")
    ch.publish("", name, "m")
    ch.deliveries(1)
    ch.call("basic.consume", queue=name, tag="2")
    ch.send("basic.nack", tag=1, requeue=1)
    ch.deliveries(1)
