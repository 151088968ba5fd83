"""Settings that meet: the same or contradicting ones from arguments, a policy and an operator policy. What
declares, publishes, gets and dead letters say then."""

from registry import script
from scripts_live import fill
from scripts_policy import policy
from scripts_ttl import CLASSIC as BOTH
from session import KINDS

HUGE, MORE = 2 ** 31, 2 ** 53
MODES = ("durable", "quorum")
CLASSIC = ("durable",)
EXCHANGE, KEY, LENGTH, BYTES = "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length", "x-max-length-bytes"
TTL, OVERFLOW = "x-message-ttl", "x-overflow"
# SELF and DEAD stand for the queue's own name and that of the queue for dead letters
SELF, DEAD = "SELF", "DEAD"
TO_DEAD = {"dead-letter-exchange": "", "dead-letter-routing-key": DEAD}
ARGUMENT_TO_DEAD = {EXCHANGE: "", KEY: DEAD}

# name, kinds of queue, policy, operator policy, queues: arguments, then how many messages are ready after three
# were published, and how many are dead letters (None: RabbitMQ refuses the queue)
MEETINGS = (
    ("length-of-the-operator-is-lower", MODES, {"max-length": 3}, {"max-length": 1},
     (({}, 1, 0), ({LENGTH: 2}, 1, 0), ({LENGTH: 0}, 0, 0), ({LENGTH: MORE}, 1, 0))),
    ("length-of-the-operator-is-higher", MODES, {"max-length": 1}, {"max-length": HUGE},
     (({}, 1, 0), ({LENGTH: 2}, 1, 0), ({LENGTH: 0}, 0, 0), ({LENGTH: MORE, **ARGUMENT_TO_DEAD}, 1, 2))),
    ("length-and-bytes", MODES, {"max-length-bytes": 5}, {"max-length": 2},
     (({}, 2, 0), ({BYTES: 2}, 1, 0), ({BYTES: 0}, 0, 0), ({LENGTH: 1}, 1, 0), ({LENGTH: 0, BYTES: MORE}, 0, 0))),
    ("overflow", CLASSIC, {"overflow": "reject-publish"}, None,
     (({}, 3, 0), ({LENGTH: 1}, 1, 0), ({LENGTH: 0}, 0, 0), ({BYTES: 1}, 0, 0),
      ({LENGTH: 1, OVERFLOW: "drop-head"}, 1, 0))),
    ("overflow-and-length-of-the-operator", CLASSIC, {"overflow": "reject-publish-dlx", **TO_DEAD}, {"max-length": 1},
     (({}, 1, 2), ({OVERFLOW: "drop-head"}, 1, 2), ({OVERFLOW: "reject-publish"}, 1, 0),
      ({EXCHANGE: "nowhere"}, 1, 0))),
    ("overflow-without-a-limit", MODES, {"overflow": "reject-publish"}, {"max-length": HUGE},
     (({}, 3, 0), ({OVERFLOW: "drop-head"}, 3, 0), ({TTL: HUGE}, 3, 0))),
    ("ttl-of-the-operator", MODES, {"message-ttl": HUGE, **TO_DEAD}, {"message-ttl": 0},
     (({}, 0, 3), ({TTL: HUGE}, 0, 3), ({TTL: 0}, 0, 3), ({EXCHANGE: "nowhere"}, 0, 0))),
    ("ttl-and-length", MODES, {"message-ttl": 0, "max-length": 1}, {"message-ttl": HUGE},
     (({}, 0, 0), ({TTL: HUGE, **ARGUMENT_TO_DEAD}, 0, 3), ({EXCHANGE: "", KEY: SELF}, 0, 0))),
    ("ttl-of-an-argument", MODES, {"message-ttl": HUGE}, {"message-ttl": MORE},
     (({TTL: 0}, 0, 0), ({TTL: 315360000000}, 3, 0))),
    ("dead-letters", MODES, TO_DEAD, {"max-length": 1},
     (({}, 1, 2), ({EXCHANGE: "nowhere"}, 1, 0), ({EXCHANGE: "", KEY: SELF}, 1, 0), ({EXCHANGE: "amq.headers"}, 1, 0),
      ({EXCHANGE: ""}, 1, 2))),
    ("dead-letters-by-a-key-alone", MODES, {"dead-letter-routing-key": DEAD}, {"max-length": 0},
     (({}, 0, 0), ({EXCHANGE: ""}, 0, 3), ({EXCHANGE: "amq.fanout"}, 0, 0), (ARGUMENT_TO_DEAD, 0, 3),
      ({KEY: DEAD}, None, None))),
    ("dead-letters-to-an-exchange-alone", MODES, {"dead-letter-exchange": ""}, {"max-length": 1},
     (({}, 1, 0), ({KEY: DEAD}, None, None), ({EXCHANGE: "nowhere"}, 1, 0), (ARGUMENT_TO_DEAD, 1, 2))),
    ("delivery-limit-of-a-classic-queue", CLASSIC, {"delivery-limit": 0, "max-length": 1}, {"delivery-limit": 0},
     (({}, 3, 0), ({"x-delivery-limit": 1}, None, None))),
    ("queue-mode", MODES, {"queue-mode": "lazy", "max-length": 2}, {"max-length": 1},
     (({}, 1, 0), ({"x-queue-mode": "default"}, 1, 0), ({"x-queue-mode": "lazy", LENGTH: 1}, 1, 0))),
    ("queue-version", CLASSIC, {"queue-version": 2}, {"max-length": 1},
     (({}, 1, 0), ({"x-queue-version": 1}, 1, 0), ({"x-queue-version": 2}, 1, 0))),
    ("expires", MODES, {"expires": HUGE}, {"expires": 60000},
     (({}, 3, 0), ({"x-expires": 70000}, 3, 0), ({"x-expires": 315360000000, LENGTH: 1}, 1, 0))),
    ("priorities", CLASSIC, {"max-length": 1, **TO_DEAD}, {"max-length-bytes": HUGE},
     (({"x-max-priority": 0}, 1, 2), ({"x-max-priority": 1}, 1, 2),
      ({"x-max-priority": 255, OVERFLOW: "reject-publish"}, 1, 0),
      ({"x-max-priority": 1, "x-single-active-consumer": True, TTL: 0}, 0, 3))),
    ("in-memory-length", MODES, {"max-in-memory-length": 0, "max-length": 2}, {"max-in-memory-bytes": 0},
     (({}, 2, 0), ({LENGTH: 1}, 1, 0))),
    ("in-memory-length-of-the-operator", MODES, {"max-length": 2}, {"max-in-memory-bytes": 0, "max-length": 1},
     (({}, 1, 0), ({LENGTH: 2}, 1, 0))),
)


def meeting(definition, operator, queues):
    def run(t):
        ch, kind, t.kind = t.channel(), t.kind, None
        dead, t.kind = t.queue(ch, "dead", durable=1), kind
        pattern = "^" + t.script.replace(".", r"\.") + r"\.q"
        policy(t, filled(definition, "", dead), pattern=pattern)
        if operator is not None:
            policy(t, operator, pattern=pattern, command="set_operator_policy", name="op")
        for index, (arguments, ready, letters) in enumerate(queues):
            one_queue(t, f"q{index}", dead, definition, arguments, ready, letters)
    return run


def filled(settings, own, dead):
    names = {SELF: own, DEAD: dead}
    return {key: names.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}


def one_queue(t, suffix, dead, definition, arguments, ready, letters):
    """Is declared, filled and looked at; then declared again, as it is and with what the policy says."""
    ch = t.connections[0].channel()
    own = filled(arguments, t.name(suffix), dead)
    name = t.queue(ch, suffix, own)
    if not ch.open:
        return
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}", priority=i)
        ch.confirms(1)
    t.counts(name, messages=ready)
    t.counts(dead, messages=letters)
    ch.close()
    asked = {"x-" + key: value for key, value in filled(definition, name, dead).items()}
    for again in (own, {**own, **asked}):
        other = t.connections[0].channel()
        t.queue(other, suffix, again)
        other.close()
    ch = t.connections[0].channel()
    for _ in range(ready):
        ch.call("basic.get", queue=name, no_ack=1)
    if t.kind == "quorum":              # RabbitMQ's quorum queues send the letters out of order
        ch.call("queue.purge", queue=dead)
    else:
        for _ in range(letters):
            ch.call("basic.get", queue=dead, no_ack=1)
    ch.close()


for LABEL, OWN_KINDS, DEFINITION, OPERATOR, QUEUES in MEETINGS:
    FUNCTION = meeting(DEFINITION, OPERATOR, QUEUES)
    FUNCTION.__name__ = LABEL
    script("23", "24", "25", "57", kinds=OWN_KINDS)(FUNCTION)


@script("13", "25", "57", kinds=KINDS)
def a_limit_and_refusing_in_one_policy(t):
    """For a queue that has more than it may have from now on."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1", "m2")
    policy(t, {"max-length": 1, "overflow": "reject-publish"})
    fill(ch, name, "m3")
    ch.call("queue.purge", queue=name)


@script("13", "25", "57", kinds=KINDS)
def refusing_before_there_is_a_limit(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    policy(t, {"overflow": "reject-publish"})
    fill(ch, name, "m0", "m1", "m2")
    policy(t, {"max-length": 1, "overflow": "reject-publish"})
    fill(ch, name, "m3")
    ch.call("queue.purge", queue=name)


@script("23", "25", kinds=BOTH)
def no_time_and_no_room(t):
    """What expires at once is published to a queue that is full."""
    ch = t.channel()
    name = t.queue(ch, arguments={"x-max-length": 1})
    ch.call("confirm.select")
    fill(ch, name, "m0")
    fill(ch, name, "m1", expiration="0")
    ch.call("queue.purge", queue=name)


@script("23", "24", "25", kinds=BOTH)
def why_what_has_neither_time_nor_room_died(t):
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={"x-message-ttl": 0, "x-max-length": 0, **filled(ARGUMENT_TO_DEAD, "", dead)})
    ch.call("confirm.select")
    fill(ch, name, "m")
    t.counts(dead, messages=1)
    ch.call("basic.get", queue=dead, no_ack=1)
