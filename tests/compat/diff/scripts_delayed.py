"""Delayed messages. The plugin does not come with RabbitMQ: what is wanted is written by hand."""

from registry import script
from session import KINDS


def delayed(t, ch, kind="direct"):
    """An exchange of that type that delays, and a queue bound with the key k."""
    name, queue = t.exchange(ch, "x-delayed-message", arguments={"x-delayed-type": kind}), t.queue(ch)
    t.bind(ch, name, queue, "k")
    ch.call("confirm.select")
    ch.call("basic.consume", queue=queue, tag="t", no_ack=1)
    return name


@script("32", kinds=KINDS, by_hand=True)
def one(t):
    """Confirmed at once, delivered later; the header is negated then."""
    ch = t.channel()
    name = delayed(t, ch)
    ch.publish(name, "k", "later", headers={"own": "h", "x-delay": 300}, message_id="id")
    ch.confirms(1)
    ch.publish(name, "k", "now")
    ch.confirms(1)
    ch.deliveries(2)


@script("32", kinds=KINDS, by_hand=True)
def by_time_and_not_by_order(t):
    ch = t.channel()
    name = delayed(t, ch)
    for delay in (900, 500, 100):
        ch.publish(name, "k", f"m{delay}", headers={"x-delay": delay})
        ch.confirms(1)
    ch.deliveries(3)


@script("32", kinds=KINDS, by_hand=True)
def not_delayed(t):
    """Nothing, zero, a negative number."""
    ch = t.channel()
    name = delayed(t, ch)
    for headers in (None, {"x-delay": 0}, {"x-delay": -5}):
        ch.publish(name, "k", "m", **({} if headers is None else {"headers": headers}))
        ch.confirms(1)
        ch.deliveries(1)


@script("12", "32", kinds=KINDS, by_hand=True)
def mandatory(t):
    """Nobody can know yet whether it will be routed."""
    ch = t.channel()
    name = delayed(t, ch)
    ch.publish(name, "nobody's", "m", headers={"x-delay": 50}, mandatory=1)
    ch.confirms(1)
    ch.publish(name, "k", "m", headers={"x-delay": 100}, mandatory=1)
    ch.confirms(1)
    ch.deliveries(1)


@script("32", kinds=KINDS, by_hand=True)
def numbers_in_other_types(t):
    """Digits and fractions count as integers do; what is no number is no delay."""
    ch = t.channel()
    name = delayed(t, ch)
    for delay in ("200", ("d", 200.9), ("L", 200), ("B", 200), "soon", ("T", 200)):
        ch.publish(name, "k", "m", headers={"x-delay": delay})
        ch.confirms(1)
        ch.deliveries(1)


@script("32", "40", kinds=KINDS, by_hand=True)
def dead_letters(t):
    """They are delayed as what is published is, and once."""
    ch = t.channel()
    name, queue = t.exchange(ch, "x-delayed-message", arguments={"x-delayed-type": "direct"}), t.queue(ch, "to")
    t.bind(ch, name, queue, "k")
    source = t.queue(ch, "from", arguments={"x-dead-letter-exchange": name, "x-dead-letter-routing-key": "k"})
    ch.call("confirm.select")
    for delay in (1000, None):
        ch.publish("", source, f"m {delay}", headers={} if delay is None else {"x-delay": delay})
        ch.confirms(1)
    ch.call("basic.consume", queue=queue, tag="t", no_ack=1)
    for _ in range(2):
        got = ch.call("basic.get", queue=source)
        ch.send("basic.reject", tag=got["tag"])
    ch.deliveries(2)


@script("32", kinds=KINDS, by_hand=True)
def types(t):
    a = t.connect()
    ch = a.channel()
    name = delayed(t, ch, "topic")
    ch.publish(name, "k", "m", headers={"x-delay": 50})
    ch.confirms(1)
    ch.deliveries(1)
    for arguments in ({}, {"x-delayed-type": 1}):
        a.channel().call("exchange.declare", exchange=t.name("bad"), type="x-delayed-message",
                         arguments=arguments)
