"""Several features at once: what one does to the other."""

from registry import script
from scripts_dlx import EXCHANGE, KEY, delivered, rejected
from scripts_limit import drain
from scripts_policy import policy
from scripts_ttl import with_letters

BOTH = ("durable", "quorum")
SINGLE = {"x-single-active-consumer": True}
FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


def fill(ch, name, *bodies, **properties):
    for body in bodies:
        ch.publish("", name, body, **properties)
        ch.confirms(1)


# --- limits that refuse, returns, alternate exchanges ------------------------------------------


@script("11", "12", "13", "25", kinds=("durable",))
def refused_is_not_unroutable(t):
    """A full queue takes nothing, but it was a route: neither the alternate exchange nor a return."""
    ch = t.channel()
    other = t.exchange(ch, "fanout", "other")
    exchange = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    full, spare = t.queue(ch, "full", FULL), t.queue(ch, "spare")
    t.bind(ch, exchange, full, "k")
    t.bind(ch, other, spare)
    ch.call("confirm.select")
    for body in ("fits", "does not"):
        ch.publish(exchange, "k", body, mandatory=1)
        ch.confirms(1)
    ch.publish(exchange, "nobody's", "to the other", mandatory=1)
    ch.confirms(1)
    drain(t, ch, spare, 1)
    drain(t, ch, full, 1)


@script("13", "25", kinds=("durable",))
def one_of_three_refuses(t):
    """One nack for all of it, and the others have it."""
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    queues = [t.queue(ch, "full", FULL), t.queue(ch, "head", {"x-max-length": 1}), t.queue(ch, "free")]
    for queue in queues:
        t.bind(ch, exchange, queue)
    ch.call("confirm.select")
    for body in ("m0", "m1", "m2"):
        ch.publish(exchange, "", body, mandatory=1)
        ch.confirms(1)
    for queue, left in zip(queues, (1, 1, 3)):
        drain(t, ch, queue, left)


@script("11", "13", "25", kinds=("durable",))
def alternate_that_refuses(t):
    ch = t.channel()
    other = t.exchange(ch, "fanout", "other")
    exchange = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    full = t.queue(ch, "full", FULL)
    t.bind(ch, other, full)
    ch.call("confirm.select")
    for body in ("m0", "m1"):
        ch.publish(exchange, "nobody's", body, mandatory=1)
        ch.confirms(1)
    drain(t, ch, full, 1)


@script("14", "25", kinds=("durable",))
def commit_to_a_full_queue(t):
    a = t.connect()
    ch, other = a.channel(), a.channel()
    full, free = t.queue(ch, "full", FULL), t.queue(ch, "free")
    ch.call("tx.select")
    for body in ("m0", "m1"):
        ch.publish("", full, body)
    ch.publish("", free, "m2")
    ch.call("tx.commit")
    drain(t, other, full, 1)
    drain(t, other, free, 1)


@script("11", "12", "14", kinds=BOTH)
def returns_and_alternates_of_a_transaction(t):
    ch = t.channel()
    other = t.exchange(ch, "direct", "other")
    exchange = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    queue = t.queue(ch)
    t.bind(ch, other, queue, "k")
    ch.call("tx.select")
    for key in ("k", "nobody's"):
        ch.publish(exchange, key, key, mandatory=1)
    ch.call("tx.commit", in_order=True)
    ch.publish(exchange, "nobody's", "again", mandatory=1)
    ch.call("tx.rollback", in_order=True)
    drain(t, ch, queue, 1)


@script("24", "25", kinds=("durable",))
def letter_to_a_full_queue_that_drops(t):
    """A dead letter into a queue with a length of its own, whose own letters go on."""
    ch = t.channel()
    last = t.queue(ch, "last")
    middle = t.queue(ch, "middle", {"x-max-length": 1, EXCHANGE: "", KEY: last})
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: middle})
    for body in ("1", "2"):
        ch.publish("", name, body)
        rejected(ch, name)
        t.counts(middle, messages=1)
    delivered(ch, last)
    delivered(ch, middle)


# --- time to live -----------------------------------------------------------------------------


@script("23", "24", "26", by_hand=True)
def priorities_expire_by_their_own_time(t):
    """RabbitMQ does not look behind what does not expire."""
    t.kind = "durable"
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-max-priority": 5})
    ch.call("confirm.select")
    fill(ch, name, "low", priority=1)
    fill(ch, name, "high, soon", priority=5, expiration="100")
    fill(ch, name, "above the highest", priority=200)
    delivered(ch, dead)
    drain(t, ch, name, 2)


@script("23", "24", kinds=BOTH)
def ttl_zero_with_letters_and_consumers(t):
    ch, out = t.channel(), t.channel()
    name, dead = with_letters(t, ch, arguments={"x-message-ttl": 0})
    out.call("confirm.select")
    fill(out, name, "nobody is there")
    delivered(out, dead)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1")
    fill(out, name, "for the consumer")
    ch.deliveries(1)
    fill(out, name, "it is busy")
    delivered(out, dead)
    ch.send("basic.nack", tag=1, requeue=0)
    delivered(out, dead)


@script("23", "24", kinds=BOTH)
def expiration_zero_without_a_consumer(t):
    ch = t.channel()
    name, dead = with_letters(t, ch)
    ch.call("confirm.select")
    ch.publish("", name, "m", expiration="0", mandatory=1)
    ch.confirms(1)
    delivered(ch, dead)


@script("23", "24", "25", kinds=BOTH)
def whichever_comes_first(t):
    """Pushed out before it expires, expired before it is pushed out."""
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-max-length": 2, "x-message-ttl": 300})
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1", "m2")
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(3)
    t.counts(name, messages=0)


@script("23", "18", kinds=("durable",))
def expires_after_the_consumer(t):
    ch, other = t.channel(), t.channel()
    name = t.queue(other, arguments={"x-expires": 1000})
    ch.call("basic.consume", queue=name, tag="t")
    t.let_pass(1500)
    ch.publish("", name, "still there")
    ch.deliveries(1)
    ch.call("basic.cancel", tag="t")
    t.gone(name)
    ch.send("basic.ack", tag=1)
    ch.sync()


@script("23", "24", kinds=BOTH)
def expires_is_no_death(t):
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={"x-expires": 300, EXCHANGE: "", KEY: dead})
    ch.publish("", name, "m")
    t.gone(name)
    t.counts(dead, messages=0)


@script("23", "24", kinds=BOTH)
def letter_into_a_queue_with_its_own_ttl(t):
    """original-expiration of the one, nothing of the other."""
    ch = t.channel()
    last = t.queue(ch, "last")
    middle = t.queue(ch, "middle", {"x-message-ttl": 100, EXCHANGE: "", KEY: last})
    name = t.queue(ch, arguments={EXCHANGE: "", KEY: middle})
    ch.publish("", name, "m", expiration="100")
    delivered(ch, last)


# --- dead letters and routing -------------------------------------------------------------------


@script("24", "6", kinds=BOTH)
def letters_by_their_reason(t):
    """A headers exchange that sees what the broker has written."""
    ch = t.channel()
    exchange = t.exchange(ch, "headers")
    name = t.queue(ch, arguments={EXCHANGE: exchange, "x-message-ttl": 300})
    by_reason, by_own = [], t.queue(ch, "own")
    for reason in ("rejected", "expired"):
        queue = t.queue(ch, reason)
        by_reason.append(queue)
        t.bind(ch, exchange, queue, arguments={"x-match": "all-with-x", "x-first-death-reason": reason})
    t.bind(ch, exchange, by_own, arguments={"x-match": "any", "own": 1})
    ch.publish("", name, "1", headers={"own": 1})
    rejected(ch, name)
    delivered(ch, by_reason[0])
    ch.publish("", name, "2", headers={"own": 1})
    delivered(ch, by_reason[1])
    drain(t, ch, by_own, 2)


@script("10", "11", "24", kinds=BOTH)
def letters_through_exchanges(t):
    """To an internal exchange, over a binding to another, and to the alternate of the first."""
    ch = t.channel()
    other = t.exchange(ch, "fanout", "other")
    first = t.exchange(ch, "direct", "first", {"alternate-exchange": other}, internal=1)
    second = t.exchange(ch, "topic", "second", internal=1)
    ch.call("exchange.bind", destination=second, source=first, key="over")
    name, plain = t.queue(ch, arguments={EXCHANGE: first, KEY: "over"}), t.queue(ch, "plain", {EXCHANGE: first})
    routed, spare = t.queue(ch, "routed"), t.queue(ch, "spare")
    t.bind(ch, second, routed, "#")
    t.bind(ch, other, spare)
    ch.publish("", name, "over a binding")
    rejected(ch, name)
    delivered(ch, routed)
    ch.publish("", plain, "to the alternate")
    rejected(ch, plain)
    delivered(ch, spare)


@script("21", "24", kinds=BOTH)
def letter_with_copies(t):
    """CC and BCC, once with the keys as they were, and a second death in one of the copies."""
    ch = t.channel()
    exchange = t.exchange(ch, "direct")
    name = t.queue(ch, arguments={EXCHANGE: exchange})
    copies = [t.queue(ch, f"c{i}", {EXCHANGE: "", KEY: t.name("last")}) for i in range(2)]
    last = t.queue(ch, "last")
    t.bind(ch, "amq.direct", name, "mixed.copies.in")
    t.bind(ch, exchange, copies[0], "mixed.copies.in")
    t.bind(ch, exchange, copies[1], "mixed.copies.cc")
    ch.publish("amq.direct", "mixed.copies.in", "m", headers={"CC": ["mixed.copies.cc"]})
    rejected(ch, name)
    for copy in copies:
        rejected(ch, copy)
        delivered(ch, last)


@script("24", kinds=BOTH)
def fan_of_deaths(t):
    """One letter to three queues, one of which it has died in: it goes to the other two."""
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    names = [t.queue(ch, str(i)) for i in range(2)]
    name = t.queue(ch, arguments={EXCHANGE: exchange, "x-message-ttl": 100})
    for queue in (*names, name):
        t.bind(ch, exchange, queue)
    ch.publish("", name, "m")
    for queue in names:
        delivered(ch, queue)
    t.counts(name, messages=0)


@script("24", "15", kinds=BOTH)
def nack_of_many_with_letters(t):
    ch = t.channel()
    name, dead = with_letters(t, ch)
    for i in range(5):
        ch.publish("", name, f"m{i}")
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(5)
    ch.send("basic.reject", tag=2)
    t.counts(dead, messages=1)
    ch.send("basic.nack", tag=4, multiple=1)
    ch.send("basic.ack", tag=5)
    ch.sync()
    ch.call("basic.cancel", tag="t")
    t.counts(dead, messages=4)
    ch.call("basic.consume", queue=dead, tag="dead", no_ack=1)
    ch.deliveries(4)
    t.counts(name, messages=0)


@script("24", "39")
def limit_reached_with_letters(t):
    """x-delivery-count is not part of what dies."""
    t.kind = "quorum"
    ch = t.channel()
    name, dead = with_letters(t, ch, arguments={"x-delivery-limit": 1})
    ch.publish("", name, "m", headers={"own": "h"}, expiration="60000")
    ch.call("basic.consume", queue=name, tag="t")
    for _ in range(2):
        for delivery in ch.deliveries(1):
            ch.send("basic.nack", tag=delivery["tag"], requeue=1)
    delivered(ch, dead)
    t.counts(name, messages=0)


@script("15", "39", kinds=BOTH)
def a_publisher_that_brings_a_delivery_count(t):
    """As clients do that publish again what they have got."""
    ch = t.channel()
    name = t.queue(ch)
    ch.publish("", name, "m", headers={"x-delivery-count": 7, "own": 1})
    ch.call("basic.consume", queue=name, tag="t")
    for delivery in ch.deliveries(1):
        ch.send("basic.nack", tag=delivery["tag"], requeue=1)
    ch.deliveries(1)


# --- single active consumers --------------------------------------------------------------------


@script("28", "29", kinds=BOTH)
def single_active_and_one_of_higher_priority(t):
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    for tag, priority in (("low", 1), ("high", 10)):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1, arguments={"x-priority": priority})
    out.publish("", name, "m")
    ch.deliveries(1)


@script("28", "29", kinds=BOTH)
def single_active_next_by_priority(t):
    """The first has the highest; who is next is not who has waited longest."""
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments=SINGLE)
    for tag, priority in (("high", 10), ("low", 1), ("middle", 5)):
        ch.call("basic.consume", queue=name, tag=tag, no_ack=1, arguments={"x-priority": priority})
    out.publish("", name, "for the first")
    ch.deliveries(1)
    ch.call("basic.cancel", tag="high")
    out.publish("", name, "for the next")
    ch.deliveries(1)


@script("15", "29", kinds=BOTH)
def single_active_that_leaves_with_unacked(t):
    """What it holds it may still ack; what comes goes to the next."""
    one, two, out = t.channel(), t.channel(), t.channel()
    name = t.queue(out, arguments=SINGLE)
    one.call("basic.consume", queue=name, tag="1")
    two.call("basic.consume", queue=name, tag="2")
    out.publish("", name, "m0")
    one.deliveries(1)
    one.call("basic.cancel", tag="1")
    out.publish("", name, "m1")
    two.deliveries(1)
    one.send("basic.nack", tag=1, requeue=1)
    two.deliveries(1)


@script("26", "29", kinds=("durable",))
def single_active_and_priorities(t):
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments={**SINGLE, "x-max-priority": 3})
    out.call("confirm.select")
    for priority in (0, 3, 1):
        fill(out, name, f"p{priority}", priority=priority)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1")
    ch.call("basic.consume", queue=name, tag="2")
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.ack", tag=delivery["tag"])


@script("9", "29")
def single_active_and_auto_delete(t):
    ch = t.channel()
    name = t.queue(ch, arguments=SINGLE, auto_delete=1)
    for tag in ("1", "2"):
        ch.call("basic.consume", queue=name, tag=tag)
    ch.call("basic.cancel", tag="1")
    ch.publish("", name, "for the other")
    ch.deliveries(1)
    ch.call("basic.cancel", tag="2")
    t.gone(name)


@script("24", "29", "39")
def single_active_with_delivery_limit(t):
    t.kind = "quorum"
    one, two, out = t.channel(), t.channel(), t.channel()
    name, dead = with_letters(t, out, arguments={**SINGLE, "x-delivery-limit": 1})
    one.call("basic.consume", queue=name, tag="1")
    two.call("basic.consume", queue=name, tag="2")
    out.publish("", name, "m")
    one.deliveries(1)
    one.call("basic.cancel", tag="1")
    one.send("basic.reject", tag=1, requeue=1)
    for delivery in two.deliveries(1):
        two.send("basic.reject", tag=delivery["tag"], requeue=1)
    delivered(out, dead)


# --- policies that change under what goes on ------------------------------------------------------


@script("24", "57", kinds=BOTH)
def letters_by_a_policy_that_comes_later(t):
    """What counts is what is in force when a message dies."""
    ch = t.channel()
    dead, name = t.queue(ch, "dead"), t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t")
    for body in ("before", "with", "after"):
        ch.publish("", name, body)
    ch.deliveries(3)
    ch.send("basic.reject", tag=1)
    ch.sync()
    policy(t, {"dead-letter-exchange": "", "dead-letter-routing-key": dead}, pattern=r"\.q$")
    ch.send("basic.reject", tag=2)
    t.counts(dead, messages=1)
    t.ctl("clear_policy", "diff")
    ch.send("basic.reject", tag=3)
    ch.sync()
    drain(t, ch, dead, 1)


@script("23", "57", kinds=("durable",))
def expires_by_a_policy_that_comes_later(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t")
    policy(t, {"expires": 300})
    t.let_pass(600)
    t.counts(name, consumers=1)
    ch.call("basic.cancel", tag="t")
    t.gone(name)


@script("13", "25", "57", kinds=("durable",))
def overflow_by_a_policy_that_changes(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    policy(t, {"max-length": 1, "overflow": "reject-publish"})
    fill(ch, name, "m0", "m1")
    policy(t, {"max-length": 1, "overflow": "drop-head"})
    fill(ch, name, "m2")
    policy(t, {"max-length": 2, "overflow": "reject-publish"})
    fill(ch, name, "m3", "m4")
    drain(t, ch, name, 2)


@script("9", "25", "57")
def policy_on_an_exclusive_queue(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch, exclusive=1)
    policy(t, {"max-length": 1, "message-ttl": 60000})
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1")
    t.counts_here(ch, name, 1)
    t.ctl("clear_policy", "diff")
    fill(ch, name, "m2")
    t.counts_here(ch, name, 2)


@script("57", kinds=("durable",))
def a_policy_of_another_kind_of_queue(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    policy(t, {"max-length": 1}, apply_to="exchanges")
    fill(ch, name, "m0", "m1")
    drain(t, ch, name, 2)


@script("11", "57")
def alternate_of_argument_and_policy(t):
    """The argument wins; when its exchange is not there the message is lost all the same."""
    ch = t.channel()
    by_policy, by_argument = t.exchange(ch, "fanout", "p"), t.exchange(ch, "fanout", "a")
    queues = [t.queue(ch, "pq"), t.queue(ch, "aq")]
    for exchange, queue in zip((by_policy, by_argument), queues):
        t.bind(ch, exchange, queue)
    name = t.exchange(ch, "direct", arguments={"alternate-exchange": by_argument})
    policy(t, {"alternate-exchange": by_policy}, pattern=r"\.x$", apply_to="exchanges")
    ch.call("confirm.select")
    ch.publish(name, "k", "1", mandatory=1)
    ch.confirms(1)
    ch.call("exchange.delete", exchange=by_argument)
    ch.publish(name, "k", "2", mandatory=1)
    ch.confirms(1)
    drain(t, ch, queues[0], 0)
    drain(t, ch, queues[1], 1)


# --- consumers and settling -----------------------------------------------------------------------


@script("15", "18", kinds=BOTH)
def acks_for_a_queue_that_is_gone(t):
    """Nothing is unknown, nothing happens; a queue of the same name is another one."""
    ch, other = t.channel(), t.channel()
    name = t.queue(ch)
    for body in ("m0", "m1", "m2"):
        ch.publish("", name, body)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(3)
    other.call("queue.delete", queue=name)
    ch.take(1, "basic.cancel")
    t.queue(other)
    ch.send("basic.ack", tag=1)
    ch.send("basic.nack", tag=2, requeue=1)
    ch.sync()
    t.counts(name, messages=0, consumers=0)
    ch.send("basic.ack", tag=1)
    ch.closed()


@script("15", "9", kinds=BOTH)
def purge_leaves_what_is_unacked(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1", "m2")
    ch.call("basic.get", queue=name)
    ch.call("queue.purge", queue=name)
    ch.call("queue.purge", queue=name)
    ch.send("basic.nack", tag=1, requeue=1)
    drain(t, ch, name, 1)


@script("16", "28", kinds=BOTH)
def busy_high_priority_lets_low_have_some(t):
    high, low, out = t.channel(), t.channel(), t.channel()
    name = t.queue(out)
    out.call("confirm.select")
    high.call("basic.qos", count=1)
    high.call("basic.consume", queue=name, tag="high", arguments={"x-priority": 5})
    low.call("basic.qos", count=1)
    low.call("basic.consume", queue=name, tag="low", arguments={"x-priority": -5})
    fill(out, name, "m0")
    high.deliveries(1)
    fill(out, name, "m1", "m2")
    low.deliveries(1)
    high.send("basic.ack", tag=1)
    high.deliveries(1)


@script("16", "17", kinds=BOTH)
def recover_after_cancel(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="t")
    for i in range(3):
        ch.publish("", name, f"m{i}")
    ch.deliveries(2)
    ch.call("basic.cancel", tag="t")
    ch.call("basic.recover", requeue=1)
    drain(t, ch, name, 3)
    ch.send("basic.ack", tag=1)
    ch.closed()


@script("16", kinds=("durable",))
def prefetch_for_those_that_come_later(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="one")
    ch.call("basic.qos", count=3)
    for i in range(2):
        ch.publish("", name, f"m{i}")
    ch.deliveries(1)
    t.counts(name, messages=1)
    ch.call("basic.consume", queue=name, tag="three")
    ch.deliveries(1)
    for i in range(4):
        ch.publish("", name, f"n{i}")
    ch.deliveries(2)
    t.counts(name, messages=2)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)


@script("9", "15")
def auto_delete_with_unacked(t):
    """Gone with its last consumer, whatever that holds."""
    ch, other = t.channel(), t.channel()
    name = t.queue(ch, auto_delete=1)
    ch.call("basic.get", queue=name)
    t.counts(name, messages=0)
    ch.call("basic.consume", queue=name, tag="1")
    other.call("basic.consume", queue=name, tag="2")
    ch.publish("", name, "m")
    ch.deliveries(1)
    ch.call("basic.cancel", tag="1")
    other.call("basic.cancel", tag="2")
    t.gone(name)


@script("22", "21")
def replies_with_copies(t):
    """One reply to two who asked; a reply name is a key of the default exchange only."""
    a, b, c = t.channel(), t.channel(), t.channel()
    name = t.queue(c)
    for ch, tag in ((a, "a"), (b, "b")):
        ch.call("basic.consume", queue="amq.rabbitmq.reply-to", tag=tag, no_ack=1)
        ch.publish("", name, f"of {tag}", reply_to="amq.rabbitmq.reply-to")
        t.counts(name, messages=1 if tag == "a" else 2)
    c.connection.test.quiet += 1
    to = []
    for _ in range(2):
        c.send("basic.get", queue=name, no_ack=1)
        event = c.next(("basic.get-ok",))
        to.append(dict(event[2])["reply-to"].decode())
    c.connection.test.quiet -= 1
    c.publish("", to[0], "to both", headers={"CC": [to[1]]})
    a.deliveries(1)
    b.deliveries(1)
    c.publish("amq.direct", to[0], "to nobody", mandatory=1)
    c.take(1, "basic.return")


# --- exchanges ------------------------------------------------------------------------------------


@script("10", "11", "12", kinds=BOTH)
def alternates_behind_bindings_in_a_ring(t):
    """x -> y by binding, y -> z by alternate, z -> x by binding: each once."""
    ch = t.channel()
    last = t.exchange(ch, "fanout", "z")
    second = t.exchange(ch, "direct", "y", {"alternate-exchange": last})
    first = t.exchange(ch, "topic")
    ch.call("exchange.bind", destination=second, source=first, key="#")
    ch.call("exchange.bind", destination=first, source=last, key="")
    queue = t.queue(ch)
    t.bind(ch, last, queue)
    t.bind(ch, first, queue, "a.*")
    ch.call("confirm.select")
    for key in ("a.b", "c"):
        ch.publish(first, key, key, mandatory=1)
        ch.confirms(1)
    drain(t, ch, queue, 2)


@script("11", "21", kinds=("durable",))
def alternate_and_copies(t):
    """When a copy has a route, the alternate gets nothing."""
    ch = t.channel()
    other = t.exchange(ch, "fanout", "other")
    exchange = t.exchange(ch, "direct", arguments={"alternate-exchange": other})
    queue, spare = t.queue(ch), t.queue(ch, "spare")
    t.bind(ch, exchange, queue, "k")
    t.bind(ch, other, spare)
    ch.call("confirm.select")
    for headers in ({"CC": ["k"]}, {"BCC": ["k"]}, {"CC": ["also nobody's"], "BCC": []}):
        ch.publish(exchange, "nobody's", "m", mandatory=1, headers=headers)
        ch.confirms(1)
    drain(t, ch, queue, 2)
    drain(t, ch, spare, 1)


@script("6", kinds=BOTH)
def topic_edges(t):
    ch = t.channel()
    exchange = t.exchange(ch, "topic")
    patterns = ("#", "*", "#.#", "*.#", "#.*", "#.a.#", "a.#.b", "", ".", "a.", ".a", "*.*", "#.a", "a.*.#",
                "*.#.*", "**", "a#")
    queues = {p: t.queue(ch, f"q{i}") for i, p in enumerate(patterns)}
    for pattern, queue in queues.items():
        t.bind(ch, exchange, queue, pattern)
    ch.call("confirm.select")
    for key in ("", ".", "a", "a.", ".a", "a.b", "a.a", "a.x.b", "..", "a#", "**", "#", "*"):
        ch.publish(exchange, key, key or "-")
        ch.confirms(1)
    for pattern, queue in queues.items():
        ch.call("basic.consume", queue=queue, tag=f"of {pattern}", no_ack=1)
        ch.sync()
        test = ch.connection.test
        test.quiet += 1
        t.send_end(ch, queue)
        got = []
        while True:
            event = ch.next(("basic.deliver",))
            if event is None or event[3] == b"end":
                break
            got.append(event[3].decode())
        test.quiet -= 1
        t.record(f"{pattern!r}: {got}")


@script("6", "9", kinds=("durable",))
def rebinding(t):
    """The same binding twice is one; with other arguments it is another."""
    ch = t.channel()
    exchange, queue = t.exchange(ch, "headers"), t.queue(ch)
    for arguments in ({"x-match": "any", "a": 1}, {"x-match": "any", "a": 1}, {"x-match": "any", "b": 1}):
        t.bind(ch, exchange, queue, "k", arguments)
    ch.call("confirm.select")
    for headers in ({"a": 1, "b": 1}, {"b": 1}):
        ch.publish(exchange, "", "m", headers=headers, mandatory=1)
        ch.confirms(1)
    ch.call("queue.unbind", queue=queue, exchange=exchange, key="k", arguments={"x-match": "any", "a": 1})
    ch.publish(exchange, "", "m", headers={"a": 1}, mandatory=1)
    ch.confirms(1)
    drain(t, ch, queue, 2)
