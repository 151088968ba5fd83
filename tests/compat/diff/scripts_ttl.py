"""Messages and queues that expire."""

from registry import script
from session import KINDS

CLASSIC = ("transient", "durable")


def with_letters(t, ch, suffix="q", arguments=None):
    """A queue whose dead letters go to a queue of their own: both names."""
    dead = t.name("dead")
    t.queue(ch, "dead")
    return t.queue(ch, suffix, dict(arguments or {}, **{
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})), dead


@script("23", "24", kinds=KINDS)
def of_a_message(t):
    ch = t.channel()
    name, dead = with_letters(t, ch)
    ch.call("confirm.select")
    ch.publish("", name, "soon", expiration="100")
    ch.publish("", name, "not soon", expiration="600000")
    ch.confirms(2)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)
    t.counts(name, messages=1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("23", "24", kinds=KINDS)
def of_a_queue(t):
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-message-ttl": 200})
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}")
    ch.confirms(3)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(3)
    t.counts(name, messages=0)


@script("23", "24", kinds=KINDS)
def the_smaller_of_both(t):
    ch = t.channel()
    short, dead = with_letters(t, ch, "short", {"x-message-ttl": 100})
    long, _ = with_letters(t, ch, "long", {"x-message-ttl": 600000})
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.publish("", short, "by the queue's", expiration="600000")
    ch.deliveries(1)
    ch.publish("", long, "by its own", expiration="100")
    ch.deliveries(1)


@script("23", kinds=KINDS)
def without_a_dead_letter_exchange(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "soon", expiration="50")
    ch.confirms(1)
    t.counts(name, messages=0)
    ch.call("basic.get", queue=name, no_ack=1)


@script("23", kinds=KINDS)
def zero_without_a_consumer(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "nobody is there", expiration="0", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)
    t.counts(name, messages=0)


@script("23", kinds=CLASSIC)
def zero_with_a_consumer(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-message-ttl": 0})
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="t")
    out = t.channel()
    out.call("confirm.select")
    out.publish("", name, "for the consumer")
    out.confirms(1)
    ch.deliveries(1)
    out.publish("", name, "the consumer is busy")
    out.confirms(1)
    ch.send("basic.ack", tag=1)
    ch.sync()
    # over the same channel: from another node it might overtake the ack
    ch.publish("", name, "it is free again", expiration="0")
    ch.deliveries(1)


@script("23", kinds=CLASSIC)
def zero_requeued(t):
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-message-ttl": 0})
    ch.call("basic.consume", queue=name, tag="t")
    ch.publish("", name, "m")
    ch.deliveries(1)
    ch.call("basic.cancel", tag="t")
    ch.send("basic.nack", tag=1, requeue=1)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)
    t.counts(name, messages=0)


@script("23", "24", kinds=KINDS)
def goes_on_while_unacked(t):
    """The clock is not stopped by a delivery, and not set anew by a requeue."""
    ch = t.channel()
    name, dead = with_letters(t, ch)
    ch.publish("", name, "m", expiration="2000")
    t.counts(name, messages=1)
    ch.call("basic.get", queue=name)
    t.let_pass(2500)
    ch.send("basic.nack", tag=1, requeue=1)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)
    ch.call("basic.get", queue=name)


@script("23", kinds=KINDS)
def unacked_do_not_expire(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t")
    ch.publish("", name, "m", expiration="500")
    ch.deliveries(1)
    t.let_pass(800)
    ch.send("basic.ack", tag=1)
    ch.sync()
    t.counts(name, messages=0)


@script("23", kinds=KINDS)
def behind_one_that_does_not_expire(t):
    """It is never delivered, whenever it goes."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "stays")
    ch.publish("", name, "expires", expiration="50")
    ch.confirms(2)
    t.let_pass(150)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(1)
    t.counts(name, messages=0)


@script("23", "24", by_hand=True)
def behind_one_that_does_not_expire_on_time(t):
    """Exact, where RabbitMQ waits for the one before it."""
    ch = t.channel()
    name, dead = with_letters(t, ch)
    ch.publish("", name, "stays")
    ch.publish("", name, "expires", expiration="100")
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(1)
    t.counts(name, messages=1)


@script("23", kinds=KINDS)
def expires_unused(t):
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-expires": 300})
    ch.publish("", name, "not dead-lettered")
    t.gone(name)
    ch.call("basic.get", queue=dead)


@script("23", kinds=KINDS)
def expires_not_with_a_consumer(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-expires": 1000})
    ch.call("basic.consume", queue=name, tag="t")
    t.let_pass(1500)
    ch.call("queue.declare", queue=name, passive=1)
    ch.call("basic.cancel", tag="t")
    t.gone(name)


@script("23", kinds=KINDS)
def expires_renewed_by_get(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-expires": 1000})
    for _ in range(5):
        t.let_pass(400)
        ch.call("basic.get", queue=name)
    t.gone(name)


@script("23", kinds=CLASSIC)
def expires_renewed_by_declare(t):
    ch = t.channel()
    for _ in range(5):
        name = t.queue(ch, arguments={"x-expires": 1000})
        t.let_pass(400)
    t.gone(name)


@script("18", "23", kinds=KINDS)
def expires_with_bindings(t):
    """The binding goes with it, and who publishes is told so."""
    ch = t.channel()
    exchange = t.exchange(ch, "fanout", auto_delete=1)
    name = t.queue(ch, arguments={"x-expires": 1000})
    t.bind(ch, exchange, name)
    t.gone(name)
    ch.call("exchange.declare", exchange=exchange, passive=1)
