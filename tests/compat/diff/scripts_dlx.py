"""Dead letters: reasons, x-death in full, keys, loops."""

from registry import script
from session import KINDS

EXCHANGE, KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"


def rejected(ch, name, requeue=0):
    """Waits for a message by a consumer and rejects it."""
    ch.call("basic.consume", queue=name, tag="reject")
    for delivery in ch.deliveries(1):
        ch.send("basic.reject", tag=delivery["tag"], requeue=requeue)
    ch.call("basic.cancel", tag="reject")


def delivered(ch, name, count=1):
    ch.call("basic.consume", queue=name, tag="dead", no_ack=1)
    ch.deliveries(count)
    ch.call("basic.cancel", tag="dead")


@script("24", kinds=KINDS)
def rejected_and_nacked(t):
    ch = t.channel()
    exchange = t.exchange(ch, "topic")
    name, dead = t.queue(ch, arguments={EXCHANGE: exchange}), t.queue(ch, "dead")
    t.bind(ch, exchange, dead, "#")
    ch.publish("", name, "1", headers={"own": "header"}, message_id="id", delivery_mode=2,
               content_type="text/plain", priority=3, timestamp=1234567890)
    rejected(ch, name)
    delivered(ch, dead)
    ch.publish("", name, "2")
    ch.call("basic.consume", queue=name, tag="t")
    for delivery in ch.deliveries(1):
        ch.send("basic.nack", tag=delivery["tag"])
    delivered(ch, dead)


@script("23", "24", kinds=KINDS)
def expired_by_message_and_by_queue(t):
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    name = t.queue(ch, arguments={EXCHANGE: exchange})
    short = t.queue(ch, "short", {EXCHANGE: exchange, "x-message-ttl": 50})
    dead = t.queue(ch, "dead")
    t.bind(ch, exchange, dead)
    ch.publish("", name, "by its own", expiration="50")
    delivered(ch, dead)
    ch.publish("", short, "by the queue's")
    delivered(ch, dead)
    ch.publish("", short, "by the queue's, with its own", expiration="60000")
    delivered(ch, dead)


@script("24", "25", kinds=KINDS)
def maxlen(t):
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    name, dead = t.queue(ch, arguments={EXCHANGE: exchange, "x-max-length": 1}), t.queue(ch, "dead")
    t.bind(ch, exchange, dead)
    ch.call("confirm.select")
    ch.publish("", name, "1", expiration="60000")
    ch.publish("", name, "2")
    ch.confirms(2)
    delivered(ch, dead)


@script("24", kinds=KINDS)
def keys(t):
    """All keys it came with, without an override; what BCC said still counts, and is not seen."""
    ch = t.channel()
    exchange = t.exchange(ch, "direct")
    name = t.queue(ch, arguments={EXCHANGE: exchange})
    t.bind(ch, "amq.topic", name, "dlx.keys.#")
    queues = [t.queue(ch, str(i)) for i in range(4)]
    for i, queue in enumerate(queues):
        t.bind(ch, exchange, queue, f"dlx.keys.{i}")
    ch.publish("amq.topic", "dlx.keys.0", "m",
               headers={"CC": ["dlx.keys.1", "dlx.keys.2"], "BCC": ["dlx.keys.3"]})
    rejected(ch, name)
    for queue in queues:
        delivered(ch, queue)


@script("24", kinds=KINDS)
def key_override(t):
    ch = t.channel()
    exchange = t.exchange(ch, "direct")
    name = t.queue(ch, arguments={EXCHANGE: exchange, KEY: "over"})
    t.bind(ch, "amq.topic", name, "dlx.over.#")
    queues = [t.queue(ch, suffix) for suffix in ("first", "cc", "over")]
    for queue, key in zip(queues, ("dlx.over.first", "dlx.over.cc", "over")):
        t.bind(ch, exchange, queue, key)
    ch.publish("amq.topic", "dlx.over.first", "m", headers={"CC": ["dlx.over.cc"], "BCC": ["x"], "own": 1})
    rejected(ch, name)
    delivered(ch, queues[2])
    t.counts(queues[0], messages=0)
    t.counts(queues[1], messages=0)


@script("24", kinds=KINDS)
def missing_exchange(t):
    ch = t.channel()
    name = t.queue(ch, arguments={EXCHANGE: t.name("missing")})
    ch.publish("", name, "lost")
    rejected(ch, name)
    t.counts(name, messages=0)
    exchange, dead = t.exchange(ch, "fanout", "missing"), t.queue(ch, "dead")
    t.bind(ch, exchange, dead)
    ch.publish("", name, "now it is there")
    rejected(ch, name)
    delivered(ch, dead)
    ch.call("exchange.delete", exchange=exchange)
    ch.publish("", name, "lost again")
    rejected(ch, name)
    t.counts(name, messages=0)


@script("24", kinds=KINDS)
def no_queue_bound(t):
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    name = t.queue(ch, arguments={EXCHANGE: exchange})
    ch.publish("", name, "lost")
    rejected(ch, name)
    t.counts(name, messages=0)


@script("11", "24", kinds=KINDS)
def alternate_of_the_exchange(t):
    ch = t.channel()
    other = t.exchange(ch, "fanout", "other")
    exchange = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    name, dead = t.queue(ch, arguments={EXCHANGE: exchange}), t.queue(ch, "dead")
    t.bind(ch, other, dead)
    ch.publish("", name, "m")
    rejected(ch, name)
    delivered(ch, dead)


@script("24", kinds=KINDS)
def several_targets(t):
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    name = t.queue(ch, arguments={EXCHANGE: exchange})
    queues = [t.queue(ch, str(i)) for i in range(3)]
    for queue in queues:
        t.bind(ch, exchange, queue)
    ch.publish("", name, "m")
    rejected(ch, name)
    for queue in queues:
        delivered(ch, queue)


@script("24", kinds=KINDS)
def order_of_many(t):
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: dead})
    out = t.channel()
    out.call("confirm.select")
    for i in range(6):
        out.publish("", name, f"m{i}")
    out.confirms(6)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(6)
    ch.send("basic.nack", tag=4, multiple=1)
    ch.send("basic.nack", tag=0, multiple=1)
    delivered(ch, dead, 6)


@script("24", kinds=KINDS)
def three_hops(t):
    """x-death: the newest first, one entry for each queue."""
    ch = t.channel()
    names = [t.name(str(i)) for i in range(4)]
    for i in range(3):
        t.queue(ch, str(i), {EXCHANGE: "", KEY: names[i + 1]})
    t.queue(ch, "3")
    ch.publish("", names[0], "m", headers={"own": 1})
    for name in names[:3]:
        rejected(ch, name)
    delivered(ch, names[3])


@script("24", kinds=KINDS)
def retry_loop(t):
    """The usual way to wait before the next try: rejected, expired, rejected ..."""
    ch = t.channel()
    name, retry = t.name("q"), t.name("retry")
    t.queue(ch, "q", {EXCHANGE: "", KEY: retry})
    t.queue(ch, "retry", {EXCHANGE: "", KEY: name, "x-message-ttl": 50})
    ch.publish("", name, "m", headers={"own": 1}, expiration="60000")
    ch.call("basic.consume", queue=name, tag="t")
    for _ in range(4):
        for delivery in ch.deliveries(1):
            ch.send("basic.reject", tag=delivery["tag"])
    ch.deliveries(1)


@script("24", kinds=KINDS)
def to_itself_by_rejection(t):
    ch = t.channel()
    name = t.name("q")
    t.queue(ch, "q", {EXCHANGE: "", KEY: name})
    ch.publish("", name, "m")
    ch.call("basic.consume", queue=name, tag="t")
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.reject", tag=delivery["tag"])
    ch.deliveries(1)


@script("24", kinds=KINDS)
def to_itself_by_expiry(t):
    """A cycle without a rejection: dropped."""
    ch = t.channel()
    name = t.name("q")
    t.queue(ch, "q", {EXCHANGE: "", KEY: name, "x-message-ttl": 100})
    ch.publish("", name, "m")
    t.let_pass(300)
    t.counts(name, messages=0)


@script("24", kinds=KINDS)
def cycle_of_two_by_expiry(t):
    ch = t.channel()
    exchange = t.exchange(ch, "direct")
    one, two, seen = t.name("1"), t.name("2"), t.queue(ch, "seen")
    t.queue(ch, "1", {EXCHANGE: exchange, KEY: "two", "x-message-ttl": 50})
    t.queue(ch, "2", {EXCHANGE: exchange, KEY: "one", "x-message-ttl": 50})
    for queue, key in ((one, "one"), (two, "two"), (seen, "one")):
        t.bind(ch, exchange, queue, key)
    ch.publish("", one, "m")
    delivered(ch, seen)
    t.counts(one, messages=0)
    t.counts(two, messages=0)


@script("24", kinds=KINDS)
def purged_and_deleted_are_no_dead_letters(t):
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: dead})
    ch.call("confirm.select")
    ch.publish("", name, "1")
    ch.confirms(1)
    ch.call("queue.purge", queue=name)
    ch.publish("", name, "2")
    ch.confirms(1)
    ch.call("queue.delete", queue=name)
    ch.call("basic.get", queue=dead)


@script("24", kinds=KINDS)
def to_another_kind_of_queue(t):
    ch = t.channel()
    kind, t.kind = t.kind, "quorum"
    dead = t.queue(ch, "dead")
    t.kind = kind
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: dead})
    ch.publish("", name, "m")
    rejected(ch, name)
    delivered(ch, dead)


@script("24")
def a_publisher_that_brings_x_death(t):
    ch = t.channel()
    name, dead = t.name("q"), t.queue(ch, "dead")
    t.queue(ch, "q", {EXCHANGE: "", KEY: dead})
    own = {"count": ("l", 5), "reason": "rejected", "queue": name, "time": ("T", 1234567890),
           "exchange": "", "routing-keys": [name]}
    # an array of anything else than tables ends the queue's process in 3.10
    for value in ([own], [dict(own, queue="other")], "not an array", []):
        ch.publish("", name, "m", headers={"x-death": value})
        rejected(ch, name)
        delivered(ch, dead)


def held(t, ch, count):
    """A queue with a dead-letter queue, of which somebody holds `count` messages: both names."""
    dead = t.queue(ch, "dead")
    name = t.queue(ch, "q", {EXCHANGE: "", KEY: dead})
    for i in range(count):
        ch.publish("", name, f"m{i}")
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(count)
    return name, dead


@script("15", "24", kinds=KINDS)
def rejects_one_after_the_other(t):
    """In the order in which they are rejected, when each is dead before the next is."""
    ch = t.channel()
    dead = held(t, ch, 3)[1]
    for number, tag in enumerate((3, 1, 2), 1):
        ch.send("basic.reject", tag=tag, requeue=0)
        t.counts(dead, messages=number)
    delivered(ch, dead, 3)


@script("15", "24", kinds=KINDS)
def rejects_at_once(t):
    ch = t.channel()
    dead = held(t, ch, 3)[1]
    ch.send_together(*[("basic.reject", {"tag": tag, "requeue": 0}) for tag in (3, 1, 2)])
    t.counts(dead, messages=3)
    delivered(ch, dead, 3)


@script("15", "24", kinds=KINDS)
def nack_of_many(t):
    ch = t.channel()
    dead = held(t, ch, 5)[1]
    ch.send("basic.nack", tag=4, multiple=1, requeue=0)
    t.counts(dead, messages=4)
    delivered(ch, dead, 4)


@script("24")
def republished_by_a_consumer(t):
    """A client that publishes again what it got, with the headers that it got."""
    ch = t.channel()
    name, dead = t.name("q"), t.queue(ch, "dead")
    t.queue(ch, "q", {EXCHANGE: "", KEY: dead})
    headers = {}
    for _ in range(3):
        ch.publish("", name, "m", headers=headers)
        rejected(ch, name)
        ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
        event = ch.next(("basic.deliver",))
        ch.record("<", "the dead letter")
        headers = next(value for key, value in event[2] if key == "headers")
        ch.call("basic.cancel", tag="dead")
    ch.publish("", dead, "the last", headers=headers)
    delivered(ch, dead)


@script("24", "40", by_hand=True)
def x_last_death(t):
    """As 4.x: where it died last, besides where it died first."""
    ch = t.channel()
    names = [t.name(str(i)) for i in range(3)]
    for i in range(2):
        t.queue(ch, str(i), {EXCHANGE: "", KEY: names[i + 1]})
    t.queue(ch, "2")
    ch.publish("", names[0], "m")
    rejected(ch, names[0])
    rejected(ch, names[1])
    delivered(ch, names[2])


@script("40", by_hand=True)
def at_least_once_waits_for_a_way(t):
    """Kept until its exchange is there and takes it; RabbitMQ looks again after minutes."""
    t.kind = "quorum"
    ch = t.channel()
    name = t.queue(ch, arguments={EXCHANGE: t.name("late"), "x-dead-letter-strategy": "at-least-once",
                                  "x-overflow": "reject-publish"})
    ch.publish("", name, "m")
    rejected(ch, name)
    exchange, dead = t.exchange(ch, "fanout", "late"), t.queue(ch, "dead")
    t.bind(ch, exchange, dead)
    delivered(ch, dead)


@script("25", "40", by_hand=True)
def at_least_once_waits_for_room(t):
    t.kind = "quorum"
    ch = t.channel()
    full = t.queue(ch, "full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: full, "x-dead-letter-strategy": "at-least-once",
                                  "x-overflow": "reject-publish"})
    for body in ("1", "2"):
        ch.publish("", name, body)
        rejected(ch, name)
    t.counts(full, messages=1)
    delivered(ch, full, 2)
