"""Exactly-once publishing, which RabbitMQ does not have: what is wanted is written by hand."""

from registry import script
from scripts_limit import drain
from session import KINDS


def numbered(ch, exchange, key, seq, body, **properties):
    ch.publish(exchange, key, body, headers={"x-publisher-id": "p", "x-publish-seq": seq}, **properties)
    ch.confirms(1)


@script("31", "79", kinds=KINDS, by_hand=True)
def sent_again_is_stored_once(t):
    """Over another connection too: every copy is confirmed, one is there."""
    first, second = t.channel(), t.channel()
    name = t.queue(first)
    for ch in (first, second):
        ch.call("confirm.select")
        for seq in (1, 2, 3):
            numbered(ch, "", name, seq, f"m{seq}")
    numbered(second, "", name, 4, "m4")
    drain(t, first, name, 4)


@script("10", "79", kinds=KINDS, by_hand=True)
def numbers_count_for_each_queue(t):
    """A queue that is bound later gets what it does not have."""
    ch = t.channel()
    exchange = t.exchange(ch, "fanout")
    queues = [t.queue(ch, str(i)) for i in range(2)]
    t.bind(ch, exchange, queues[0])
    ch.call("confirm.select")
    numbered(ch, exchange, "", 1, "m1")
    t.bind(ch, exchange, queues[1])
    numbered(ch, exchange, "", 1, "m1")
    drain(t, ch, queues[0], 1)
    drain(t, ch, queues[1], 1)


@script("31", "103", kinds=KINDS, by_hand=True)
def message_ids_in_a_window(t):
    """Known for as long as the window says; without an id everything is new."""
    ch = t.channel()
    name, short = t.queue(ch, arguments={"x-dedup-window": 600000}), \
        t.queue(ch, "short", {"x-dedup-window": 100})
    ch.call("confirm.select")
    for message_id in ("a", "b", "a"):
        ch.publish("", name, message_id, message_id=message_id)
        ch.confirms(1)
    for _ in range(2):
        ch.publish("", name, "without")
        ch.confirms(1)
    drain(t, ch, name, 4)
    ch.publish("", name, "a again", message_id="a")     # what is gone is remembered, too
    ch.publish("", short, "a", message_id="a")
    ch.confirms(2)
    t.let_pass(300)
    ch.publish("", short, "a again", message_id="a")
    ch.confirms(1)
    drain(t, ch, short, 2)
    t.counts(name, messages=0)


@script("14", "79", kinds=KINDS, by_hand=True)
def numbers_in_a_transaction(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("tx.select")
    for _ in range(2):
        for seq in (1, 2):
            ch.publish("", name, f"m{seq}", headers={"x-publisher-id": "p", "x-publish-seq": seq})
        ch.call("tx.commit")
    drain(t, ch, name, 2)


@script("79", by_hand=True)
def bad_numbers(t):
    a = t.connect()
    for headers in ({"x-publish-seq": 1}, {"x-publisher-id": "p", "x-publish-seq": 0},
                    {"x-publisher-id": "p", "x-publish-seq": -1}, {"x-publisher-id": "", "x-publish-seq": 1},
                    {"x-publisher-id": "p", "x-publish-seq": "1"}, {"x-publisher-id": 1, "x-publish-seq": 1},
                    {"x-publisher-id": "p" * 300, "x-publish-seq": 1}):
        ch = a.channel()
        ch.publish("", "nowhere", "m", headers=headers)
        ch.closed()
