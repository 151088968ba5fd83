"""What is declared, bound or looked for a second time: which differences in type and value count."""

from registry import table
from table_args import CLASSIC, QUORUM, label

SIZES = {"b": 2 ** 7, "B": 2 ** 8, "s": 2 ** 15, "u": 2 ** 16, "I": 2 ** 31, "i": 2 ** 32}
TEN_MINUTES = 600000
QUEUES = {
    CLASSIC: {"x-expires": TEN_MINUTES, "x-message-ttl": 5, "x-max-length": 5, "x-max-length-bytes": 5,
              "x-max-priority": 5, "x-delivery-limit": 5, "x-max-age": "5m", "x-odd": 5,
              "x-dead-letter-exchange": "amq.direct", "x-overflow": "reject-publish", "x-queue-mode": "lazy",
              "x-queue-version": 1, "x-queue-type": "classic", "x-single-active-consumer": True,
              "x-queue-master-locator": "min-masters"},
    QUORUM: {"x-expires": TEN_MINUTES, "x-message-ttl": 5, "x-max-length": 5, "x-max-length-bytes": 5,
             "x-delivery-limit": 5, "x-max-in-memory-length": 5, "x-max-in-memory-bytes": 5,
             "x-quorum-initial-group-size": 1, "x-dead-letter-exchange": "amq.direct",
             "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-most-once", "x-odd": 5,
             "x-single-active-consumer": True, "x-queue-leader-locator": "balanced"}}


def shown(value):
    return "nothing" if value is None else label(value)


def likes(value):
    """What is or looks like a value, with every letter; None is to leave it out."""
    if value is True:
        return ("t", 1), ("t", 2), ("t", 0), ("I", 1), ("S", "true"), ("V", None), None
    if isinstance(value, int):
        return tuple((letter, value) for letter in "bBsuIilLT" if value < SIZES.get(letter, 2 ** 62)) + (
            ("f", float(value)), ("d", float(value)), ("d", value + 0.5), ("D", (0, value)), ("D", (1, 10 * value)),
            ("S", str(value)), ("x", str(value)), ("t", 1), ("A", [value]), ("F", {"a": value}), ("V", None),
            ("I", value + 1), None)
    return (("S", value), ("x", value), ("S", value + "-"), ("S", value.upper()), ("S", ""), ("I", 1),
            ("A", [("S", value)]), ("V", None), ("t", 1), None)


def firsts(value):
    """What it is declared with at first: not all of them, they are taken in the same way."""
    if value is True:
        return ("t", 1), None
    return (("I", value), ("l", value), None) if isinstance(value, int) else (("S", value), None)


@table("equal-queue", "9", "23", "24", "25", "39")
def queues():
    """Each argument twice; what is there the second time, whatever is wrong with it."""
    def row(kind, name, first, second):
        def run(t, ch):
            common = {"x-queue-type": "quorum"} if kind == QUORUM else {}
            fields = dict(queue=t.name("q"), durable=int(kind == QUORUM))
            t.quiet = 1
            ch.call("queue.declare", arguments={**common, **({name: first} if first else {})}, **fields)
            t.quiet = 0
            ch.call("queue.declare", arguments={**common, **({name: second} if second else {})}, **fields)
        return run

    for kind, arguments in QUEUES.items():
        for name, value in arguments.items():
            for first in (firsts(value)[0], *((None,) if kind == CLASSIC else ())):
                for second in likes(value):
                    if first != second:
                        yield f"{kind}/{name}={shown(first)} {shown(second)}", row(kind, name, first, second)


@table("equal-exchange", "6", "8")
def exchanges():
    """Arguments, types and flags of an exchange that is there."""
    def row(first, second):
        def run(t, ch):
            t.quiet = 1
            ch.call("exchange.declare", exchange=t.name("x"), **{"type": "direct", **first})
            t.quiet = 0
            ch.call("exchange.declare", exchange=t.name("x"), **{"type": "direct", **second})
        return run

    def arguments(name, value):
        return {"arguments": {name: value} if value else {}}

    for name in ("alternate-exchange", "x-odd"):
        for first in firsts("amq.fanout"):
            for second in likes("amq.fanout"):
                if first != second:
                    yield f"{name}={shown(first)} {shown(second)}", row(arguments(name, first), arguments(name, second))
    for kind, name in (("x-consistent-hash", "hash-header"), ("x-consistent-hash", "hash-property"),
                       ("x-recent-history", "x-recent-history-length"), ("x-modulus-hash", "alternate-exchange")):
        value = 5 if "length" in name else "message_id"
        for first in firsts(value):
            for second in likes(value):
                if first != second:
                    yield f"{kind} {name}={shown(first)} {shown(second)}", row(
                        {"type": kind, **arguments(name, first)}, {"type": kind, **arguments(name, second)})
    flags = ("durable", "auto_delete", "internal")
    for bits in range(8):
        for again in range(8):
            if bits != again:
                yield f"flags={bits} {again}", row({f: bits >> i & 1 for i, f in enumerate(flags)},
                                                   {f: again >> i & 1 for i, f in enumerate(flags)})
    for kind in ("fanout", "topic", "headers", "x-random", "Direct", "direct ", ""):
        yield f"type={kind}", row({}, {"type": kind})
        yield f"passive type={kind}", row({}, {"type": kind, "passive": 1, "durable": 1, "internal": 1,
                                               "arguments": {"alternate-exchange": 5}})
    for name in ("", "amq.direct", "amq.topic", "amq.match", "amq.rabbitmq.trace"):
        for more in ({}, {"durable": 1}, {"durable": 1, "internal": 1}, {"passive": 1}, {"durable": 1, "arguments": {"a": 1}},
                     {"durable": 1, "arguments": {"alternate-exchange": "amq.fanout"}}):
            for kind in ("direct", "topic"):
                yield f"{name or 'default'} {kind} {label(('F', more))}", \
                    lambda _t, ch, name=name, kind=kind, more=more: ch.call("exchange.declare", exchange=name,
                                                                           type=kind, **more)


@table("equal-binding", "6", "9")
def bindings():
    """A binding is the one that has the same arguments: is it gone when these are unbound?"""
    def row(first, second):
        def run(t, ch):
            t.quiet = 1
            queue = t.queue(ch)
            fields = dict(queue=queue, exchange="amq.direct", key="equal")
            ch.call("queue.bind", arguments=first, **fields)
            ch.call("confirm.select")
            t.quiet = 0
            ch.call("queue.unbind", arguments=second, **fields)
            ch.publish("amq.direct", "equal", mandatory=1)
            ch.confirms(1)
        return run

    for value in (5, "five", True):
        for first in firsts(value):
            for second in likes(value) if first else ():
                yield f"{shown(first)} {shown(second)}", row({"a": first}, {"a": second} if second else {})
    yield "nothing I:1", row({}, {"a": 1})
    for text, first, second in (
            ("order", [("a", 1), ("b", 2)], [("b", 2), ("a", 1)]), ("twice", [("a", 1), ("a", 2)], [("a", 1)]),
            ("twice the same", [("a", 1), ("a", 1)], [("a", 1)]), ("order of two", [("a", 1), ("a", 2)], [("a", 2), ("a", 1)]),
            ("order in a table", {"t": {"a": 1, "b": 2}}, {"t": {"b": 2, "a": 1}}),
            ("order in an array", {"t": [1, 2]}, {"t": [2, 1]}), ("empty name", {"": 1}, {}),
            ("case", {"a": 1}, {"A": 1}), ("0.0 and -0.0", {"a": ("d", 0.0)}, {"a": ("d", -0.0)})):
        yield text, row(first, second)


@table("equal-headers", "6", "11")
def headers():
    """Which value of a message is the value of a binding of a headers exchange."""
    def row(bound, sent):
        def run(t, ch):
            t.quiet = 1
            queue = t.queue(ch)
            ch.call("queue.bind", queue=queue, exchange="amq.headers", arguments={"x-match": "all", "h": bound})
            ch.call("confirm.select")
            t.quiet = 0
            ch.publish("amq.headers", "", mandatory=1, headers={"h": sent} if sent else {})
            ch.confirms(1)
        return run

    values = {shown(value): value for value in likes(5) + likes(True)}
    for bound in ("I:5", "l:5", "f:5.0", "d:5.5", "D:0,5", "S:5", "x:5", "t:1", "T:5", "A:[5]", "F:{'a':5}", "V"):
        for sent, value in values.items():
            yield f"{bound} {sent}", row(values[bound], value)
