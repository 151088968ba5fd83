"""Bad input: two or more faults in one method of queues, exchanges and bindings. Which is told?"""

from faults import Sender, bound, consumed, exchange, filled, locked, queue, quorum, together
from registry import table

GUEST, USER, FULL = Sender(), Sender(who="user"), Sender(who="full")
TYPE, LETTER, KEY = "x-queue-type", "x-dead-letter-exchange", "x-dead-letter-routing-key"
WRONG_TYPE = ("A", [])
QUORUM = {TYPE: "quorum"}
BAD = dict(arguments={"x-max-length": -1})

# in the order in which RabbitMQ looks at them: a value of a wrong type, one out of range
ARGUMENTS = (("x-expires", 0), ("x-message-ttl", -1), (LETTER, None), (KEY, None),
             ("x-max-length", -1), ("x-max-length-bytes", -2), ("x-max-priority", 256),
             ("x-overflow", "odd"), ("x-queue-mode", "odd"), ("x-queue-version", 3),
             ("x-single-active-consumer", None))
ARGUMENTS_OF_QUORUM = (
    ("x-expires", 0), ("x-message-ttl", -1), (LETTER, None), (KEY, None),
    ("x-dead-letter-strategy", "odd"), ("x-max-length", -1), ("x-max-length-bytes", -2),
    ("x-max-in-memory-length", -3), ("x-max-in-memory-bytes", -4), ("x-overflow", "odd"),
    ("x-single-active-consumer", None), ("x-quorum-initial-group-size", 0),
    ("x-queue-leader-locator", "odd"))
UNKNOWN = ("x-dead-letter-strategy", "x-max-in-memory-length", "x-max-in-memory-bytes",
           "x-quorum-initial-group-size", "x-delivery-limit", "x-max-age",
           "x-stream-max-segment-size-bytes", "x-initial-cluster-size")
UNKNOWN_TO_QUORUM = ("x-max-priority", "x-queue-mode", "x-queue-version", "x-max-age",
                     "x-stream-max-segment-size-bytes", "x-initial-cluster-size")

# of a queue that is there, and of one that differs in everything
SAME = {"x-expires": 600000, "x-message-ttl": 1, LETTER: "a", KEY: "a", "x-max-length": 1,
        "x-max-length-bytes": 1, "x-max-priority": 1, "x-overflow": "drop-head",
        "x-queue-mode": "default", "x-queue-version": 1, "x-single-active-consumer": False,
        TYPE: "classic"}
OTHERS = dict(zip(SAME, (600001, 2, "b", "b", 2, 2, 2, "reject-publish", "lazy", 2, True, "quorum")))
SAME_QUORUM = {LETTER: "a", KEY: "a", "x-dead-letter-strategy": "at-most-once", "x-expires": 600000,
               "x-max-length": 1, "x-max-length-bytes": 1, "x-max-in-memory-length": 1,
               "x-max-in-memory-bytes": 1, "x-overflow": "drop-head", "x-single-active-consumer": False,
               TYPE: "quorum", "x-quorum-initial-group-size": 1, "x-delivery-limit": 1,
               "x-message-ttl": 1, "x-queue-leader-locator": "client-local"}
OTHERS_QUORUM = dict(zip(SAME_QUORUM, ("b", "b", "at-least-once", 600001, 2, 2, 2, 2, "reject-publish",
                                       True,
                                       "classic", 3, 2, 2, "balanced")))


def declare(arguments=None, name="$q", sender=GUEST, **flags):
    return sender.call("queue.declare", queue=name, arguments=arguments or {}, **flags)


def backwards(pairs, more=None):
    """A table whose order is not that in which its faults are told."""
    return dict(reversed([*(more or {}).items(), *pairs]))


@table("faults-args", "9", "23", "24", "25", "26", "29", "38")
def arguments_of_queues():
    """Each argument before all that RabbitMQ looks at later."""
    for kind, known, unknown in (("classic", ARGUMENTS, UNKNOWN),
                                 ("quorum", ARGUMENTS_OF_QUORUM, UNKNOWN_TO_QUORUM)):
        more = QUORUM if kind == "quorum" else {}
        durable = kind == "quorum"
        types = [(name, (name, WRONG_TYPE)) for name, _ in known if name != "x-queue-leader-locator"]
        for name, wrong in together(types):
            yield f"{kind}/types {name}", declare(backwards(wrong, more), durable=durable)
        ranges = [(name, (name, value)) for name, value in known if value is not None]
        for name, wrong in together(ranges):
            yield f"{kind}/ranges {name}", declare(backwards(wrong, more), durable=durable)
        for order in (1, -1):           # here it is the client's that counts
            for name, wrong in together([(name, (name, 5)) for name in unknown][::order], 3):
                yield f"{kind}/unknown {name}", declare({**more, **dict(wrong)}, durable=durable)
        for name, value in (("x-expires", 0), ("x-single-active-consumer", 1), (KEY, "k")):
            yield f"{kind}/{name} unknown", declare(
                {unknown[0]: 1, name: value, **more}, durable=durable)
        for name, value in (("x-expires", 0), ("x-message-ttl", -1), (KEY, 1),
                            ("x-max-length", -1), ("x-overflow", "odd")):
            yield f"{kind}/letters {name}", declare({name: value, LETTER: 1, **more}, durable=durable)
            if name != KEY:
                yield f"{kind}/key-alone {name}", declare({name: value, KEY: "k", **more},
                                                          durable=durable)


@table("faults-quorum", "9", "38")
def properties_of_quorum_queues():
    """What a quorum queue cannot be, and arguments that it does not take."""
    flags = dict(none={}, exclusive=dict(durable=1, exclusive=1),
                 auto_delete=dict(durable=1, auto_delete=1),
                 all=dict(exclusive=1, auto_delete=1))
    for label, bits in flags.items():
        for name, value in (("x-max-length", -1), ("x-max-priority", 1), ("x-queue-mode", "lazy"),
                            (LETTER, 1), (KEY, "k"), ("x-delivery-limit", -1)):
            yield f"{label} {name}={value}", declare({name: value, **QUORUM}, **bits)
        yield f"{label} server-named", declare(QUORUM, name="", **bits)
        yield f"{label} reserved", declare(QUORUM, name="amq.faults", **bits)
    yield "server-named x-max-length", declare({"x-max-length": -1, **QUORUM}, name="", durable=1)
    yield "server-named letters", declare({LETTER: 1, **QUORUM}, name="", durable=1)
    for label, value in (("odd", "odd"), ("of-a-wrong-type", 1)):
        for name, more in (("x-max-length", -1), (LETTER, 1), (KEY, "k"), ("x-delivery-limit", 1)):
            yield f"type {label} {name}", declare({name: more, TYPE: value})
        yield f"type {label} reserved", declare({TYPE: value}, name="amq.faults")
        yield f"type {label} server-named", declare({TYPE: value}, name="")


@table("faults-declare", "9", "23", "36", "56")
def declares():
    """Names, queues of others, limits, permissions."""
    bad = BAD
    for name in ("$q", "amq.faults", ""):
        label = {"$q": "missing", "": "no-name"}.get(name, "reserved")
        for flag in ({}, bad, dict(arguments={LETTER: 1}), dict(arguments={TYPE: "odd"}),
                     dict(exclusive=1, auto_delete=1), dict(durable=1, arguments=QUORUM)):
            words = " ".join(next(iter(v)) if isinstance(v, dict) else k for k, v in flag.items())
            yield f"passive {label} {words}", declare(name=name, passive=1, **flag)
            if label == "reserved" and words:
                yield f"reserved {words}", declare(name=name, **flag)

    # somebody else's
    other = Sender(locked())
    for name, flags in (("passive", dict(passive=1)), ("passive bad", dict(passive=1, **bad)),
                        ("durable", dict(durable=1)),
                        ("exclusive", dict(exclusive=1)), ("auto-delete", dict(auto_delete=1)),
                        ("bad", bad),
                        ("type", dict(arguments={TYPE: "odd"})),
                        ("letters", dict(arguments={LETTER: 1})),
                        ("quorum", dict(arguments=QUORUM, durable=1))):
        yield f"locked {name}", declare(sender=other, **flags)

    # a virtual host that has all its queues
    for name, flags in (("bad", bad), ("letters", dict(arguments={LETTER: 1})),
                        ("type", dict(arguments={TYPE: "odd"})),
                        ("quorum transient", dict(arguments=QUORUM)),
                        ("reserved", dict(name="amq.faults")),
                        ("server-named bad", dict(name="", **bad)),
                        ("server-named quorum", dict(name="", arguments=QUORUM, durable=1)),
                        ("inequivalent", dict(name="faults.there", durable=1, **bad)),
                        ("passive", dict(passive=1))):
        yield f"limit {name}", declare(sender=FULL, **flags)

    # somebody who may not
    for name, flags in (("bad", bad), ("letters", dict(arguments={LETTER: 1})),
                        ("type", dict(arguments={TYPE: "odd"})),
                        ("reserved", dict(name="amq.faults")),
                        ("reserved passive", dict(name="amq.faults", passive=1)),
                        ("server-named", dict(name="")), ("server-named bad", dict(name="", **bad)),
                        ("server-named quorum", dict(name="", arguments=QUORUM, durable=1))):
        yield f"permission {name}", declare(sender=USER, **flags)
    yield "permission locked", declare(sender=Sender(locked(), who="user"))
    yield "permission inequivalent", declare(sender=Sender(queue(), who="user"), durable=1)
    for name, more in (("bad", {"x-max-length": -1}), ("type", {TYPE: "odd"}),
                       ("unknown", {"x-delivery-limit": 1}),
                       ("key", {KEY: 1}), ("quorum transient", QUORUM)):
        yield f"permission of letters {name}", declare({LETTER: "$x", **more}, name="$may-q",
                                                       sender=USER)


@table("faults-inequivalent", "9", "36", "38")
def declared_again():
    """One that is there, differing in everything from one place on."""
    there = Sender(queue("q", SAME, durable=1))
    for name, wrong in together([(name, (name, value)) for name, value in OTHERS.items()]):
        yield f"inequivalent {name}", declare({**SAME, **dict(wrong)}, sender=there, durable=1)
    group = Sender(quorum("q", **SAME_QUORUM))
    for name, wrong in together([(name, (name, value)) for name, value in OTHERS_QUORUM.items()]):
        yield f"inequivalent quorum {name}", declare(
            {**QUORUM, **SAME_QUORUM, **dict(wrong)}, sender=group, durable=1)
    for name, _ in OTHERS_QUORUM.items():
        yield f"inequivalent quorum only {name}", declare(
            {**QUORUM, **SAME_QUORUM, name: OTHERS_QUORUM[name]}, sender=group, durable=1)
        if name not in SAME and name != "x-queue-leader-locator":     # as in 4.x, classic queues know it
            yield f"inequivalent unknown {name}", declare({**SAME, name: 1}, sender=there, durable=1)
    for name in UNKNOWN_TO_QUORUM:
        yield f"inequivalent quorum unknown {name}", declare({**SAME_QUORUM, name: 1}, sender=group,
                                                             durable=1)
    for name, flags in (("exclusive durable", dict(exclusive=1)),
                        ("durable auto-delete", dict(auto_delete=1)),
                        ("auto-delete", dict(durable=1, auto_delete=1)), ("durable", {}),
                        ("exclusive", dict(durable=1, exclusive=1))):
        yield f"inequivalent {name} x-max-length", declare({**SAME, "x-max-length": 2}, sender=there,
                                                           **flags)
        yield f"inequivalent {name} bad x-max-length", declare({**SAME, "x-max-length": -1},
                                                               sender=there, **flags)
    for name, arguments in (("x-max-length", {"x-max-length": 2}), ("x-expires", {"x-expires": 1}),
                            ("x-overflow", {"x-overflow": "odd"}), (LETTER, {LETTER: 1})):
        yield f"inequivalent type {name}", declare({**SAME, **arguments, **QUORUM}, sender=there,
                                                   durable=1)
        yield f"inequivalent type odd {name}", declare({**SAME, **arguments, TYPE: "odd"}, sender=there,
                                                       durable=1)
    for name, flags in (("durable", {}), ("durable exclusive", dict(exclusive=1)),
                        ("auto-delete", dict(durable=1, auto_delete=1))):
        yield f"inequivalent quorum {name}, type", declare({TYPE: "classic"}, sender=group, **flags)
    mine = Sender(queue("q", exclusive=1))
    for name, flags in (("auto-delete", dict(auto_delete=1)), ("durable", dict(durable=1)),
                        ("arguments", dict(arguments={"x-max-length": 1})), ("bad", BAD)):
        yield f"my exclusive not-exclusive {name}", declare(sender=mine, **flags)
        yield f"my exclusive {name}", declare(sender=mine, exclusive=1, **flags)


@table("faults-exchange", "6", "8", "11")
def exchanges():
    def make(kind="direct", name="$x", sender=GUEST, method="exchange.declare", **fields):
        more = {} if method != "exchange.declare" else {"type": kind}
        return sender.call(method, exchange=name, **more, **fields)

    bad = dict(arguments={"alternate-exchange": 1})
    clash = {"hash-header": "a", "hash-property": "b"}
    for label, name in (("no-name", ""), ("reserved", "amq.faults"), ("new", "$x")):
        yield f"{label} unknown-type", make("odd", name)
        yield f"{label} unknown-type alternate", make("odd", name, **bad)
        yield f"{label} alternate", make("direct", name, **bad)
        yield f"{label} arguments-of-the-type alternate", make(
            "x-consistent-hash", name, arguments={**clash, "alternate-exchange": 1})
        yield f"{label} arguments-of-the-type", make("x-consistent-hash", name, arguments=clash)
        yield f"{label} passive unknown-type", make("odd", name, passive=1, **bad)
    there = Sender(exchange("direct", arguments={"alternate-exchange": "a"}))
    for label, fields in (
            ("type durable", dict(kind="fanout", durable=1)),
            ("durable auto-delete", dict(durable=1, auto_delete=1)),
            ("type unknown", dict(kind="odd", durable=1)),
            ("auto-delete internal", dict(auto_delete=1, internal=1)),
            ("internal alternate", dict(internal=1)),
            ("alternate of a wrong type", bad), ("type alternate", dict(kind="topic", **bad)),
            ("type arguments-of-the-type", dict(kind="x-consistent-hash", arguments=clash))):
        yield f"inequivalent {label}", make(sender=there, **fields)
    yield "inequivalent system unknown-type", make("odd", "amq.direct")
    yield "inequivalent system type", make("fanout", "amq.direct", **bad)
    for label, fields in (("unknown-type", dict(kind="odd")), ("reserved", dict(name="amq.faults")),
                          ("no-name", dict(name="")), ("alternate", bad),
                          ("system type", dict(name="amq.direct", kind="fanout")),
                          ("of the alternate", dict(name="$may-x",
                                                    arguments={"alternate-exchange": "$x"})),
                          ("of the alternate, arguments-of-the-type", dict(
                              name="$may-x", kind="x-consistent-hash",
                              arguments={"alternate-exchange": "$x", **clash}))):
        yield f"permission {label}", make(sender=USER, **fields)
    delete = dict(method="exchange.delete", if_unused=1)
    for label, name in (("no-name", ""), ("reserved", "amq.faults"), ("system", "amq.direct"),
                        ("missing", "$x")):
        yield f"delete {label}", make(name=name, **delete)
        yield f"delete permission {label}", make(name=name, sender=USER, **delete)
    used = Sender(queue(), exchange("fanout"), bound(), who="user")
    yield "delete permission in-use", make(sender=used, **delete)


# source and destination of a binding: what can be wrong with them
SOURCES = (("no source", "$none", {}), ("bad match", "$h", {"x-match": "odd"}), ("bad weight", "$c", {}),
           ("default", "", {}), ("fine", "$d", {}))
READY = (exchange("headers", "h"), exchange("x-consistent-hash", "c"), exchange("direct", "d"))


@table("faults-bind", "6", "10", "36")
def bindings():
    queues = (("no queue", "$nowhere", ()), ("locked", "$q", (locked(),)), ("no name", "", ()),
              ("fine", "$q", (queue(),)))
    for verb in ("bind", "unbind"):
        for source, name, arguments in SOURCES:
            for label, destination, before in queues:
                if (source, label) != ("fine", "fine"):
                    yield f"queue.{verb} {source}, {label}", Sender(*READY, *before).call(
                        f"queue.{verb}", queue=destination, exchange=name, arguments=arguments,
                        key="odd")
        for source, name, arguments in SOURCES:
            for label, destination in (("no exchange", "$nowhere"), ("default", ""), ("internal", "$i"),
                                       ("fine", "$d")):
                if (source, label) != ("fine", "fine"):
                    yield f"exchange.{verb} {source}, {label}", Sender(
                        *READY, exchange("fanout", "i", internal=1)).call(
                            f"exchange.{verb}", destination=destination, source=name,
                            arguments=arguments, key="odd")
    owned = Sender(exchange("direct"), lambda t, ch: _bound_by_owner(t))
    for key in ("k", "other"):
        yield f"queue.unbind locked, bound by k, key {key}", owned.call(
            "queue.unbind", queue="$q", exchange="$x", key=key)


def _bound_by_owner(t):
    ch = t.connect().channel()
    ch.call("queue.declare", queue=t.name("q"), exclusive=1)
    ch.call("queue.bind", queue=t.name("q"), exchange=t.name("x"), key="k")


@table("faults-may-bind", "55")
def bindings_that_may_not_be():
    """By a user who may only use what begins with may-; topic keys that begin with ok."""
    before = (exchange("topic", "may-topic"), exchange("headers", "may-h"), exchange("direct", "d"))
    user, other = Sender(*before, who="user"), Sender(*before, locked("may-q"), locked("q"), who="user")
    for verb in ("bind", "unbind"):
        for label, sender, queue_, exchange_, key in (
                ("queue and exchange", user, "$q", "$d", ""),
                ("queue, no source", user, "$q", "$none", ""),
                ("exchange, no queue", user, "$may-nowhere", "$d", ""),
                ("queue, default", user, "$q", "", ""),
                ("no source, no queue", user, "$may-nowhere", "$may-none", ""),
                ("queue, locked", other, "$q", "$may-topic", "ok"),
                ("exchange, locked", other, "$may-q", "$d", ""),
                ("topic, locked", other, "$may-q", "$may-topic", "no"),
                ("topic, no queue", user, "$may-nowhere", "$may-topic", "no"),
                ("queue and topic", user, "$q", "$may-topic", "no"),
                ("exchange, default", user, "$may-q", "", ""),
                ("exchange and topic, no name", user, "", "$may-topic", "no")):
            yield f"queue.{verb} {label}", sender.call(f"queue.{verb}", queue=queue_, exchange=exchange_,
                                                       key=key)
        for label, to, source, key in (
                ("both", "$d", "$d", ""), ("destination, no source", "$d", "$may-none", ""),
                ("source, no destination", "$may-none", "$d", ""), ("source, default", "", "$d", ""),
                ("destination, default", "$d", "", ""), ("fine, default", "$may-h", "", ""),
                ("topic, no destination", "$may-none", "$may-topic", "no"),
                ("destination and topic", "$d", "$may-topic", "no")):
            yield f"exchange.{verb} {label}", user.call(f"exchange.{verb}", destination=to,
                                                        source=source, key=key)
    yield "queue.bind match, no permission", user.call(
        "queue.bind", queue="$q", exchange="$may-h", arguments={"x-match": "odd"})


@table("faults-delete", "9", "38")
def deleting_and_purging():
    senders = (
        ("missing", Sender(), "$q"), ("no name", Sender(), ""), ("locked", Sender(locked()), "$q"),
        ("locked and used", Sender(lambda t, ch: _used_by_owner(t)), "$q"),
        ("used and filled", Sender(queue(), filled(count=2), consumed(elsewhere=True, prefetch=1)),
         "$q"),
        ("used", Sender(queue(), consumed(elsewhere=True)), "$q"),
        ("filled", Sender(queue(), filled()), "$q"),
        ("quorum", Sender(quorum()), "$q"), ("quorum used", Sender(quorum(), consumed(elsewhere=True)),
                                             "$q"),
        ("reserved", Sender(), "amq.faults"), ("reply", Sender(), "amq.rabbitmq.reply-to"),
        ("permission missing", Sender(who="user"), "$q"), ("permission no name", Sender(who="user"), ""),
        ("permission locked", Sender(locked(), who="user"), "$q"),
        ("permission quorum", Sender(quorum(), who="user"), "$q"),
        ("permission used", Sender(queue(), consumed(elsewhere=True), who="user"), "$q"))
    for label, sender, name in senders:
        for flags in (dict(if_unused=1), dict(if_empty=1), dict(if_unused=1, if_empty=1)):
            yield f"delete {label} {' '.join(flags)}", sender.call("queue.delete", queue=name, **flags)
        if "used" not in label and "filled" not in label:
            yield f"purge {label}", sender.call("queue.purge", queue=name)


def _used_by_owner(t):
    ch = t.connect().channel()
    ch.call("queue.declare", queue=t.name("q"), exclusive=1)
    ch.call("basic.consume", queue=t.name("q"), tag="t")
