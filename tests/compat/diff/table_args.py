"""Bad input: arguments, flags and names of queue.declare, exchange.declare, bindings and consumers."""

from amqp_codec import Octets
from registry import table

CLASSIC, QUORUM = "classic", "quorum"
BIG = 2 ** 62
# every letter, and the edges of what is a number
VALUES = (
    ("t", 1), ("t", 0), ("b", 1), ("b", -1), ("B", 255), ("s", 1), ("s", -1), ("u", 65535), ("I", 0),
    ("I", 1), ("I", 10), ("I", -1), ("I", 255), ("I", 256), ("I", 2 ** 31 - 1), ("i", 2 ** 32 - 1),
    ("l", 1), ("l", -1), ("l", BIG), ("l", -BIG), ("l", 315360000000), ("l", 315360000001), ("L", 1),
    ("f", 1.0), ("d", 2.5), ("D", (1, 10)), ("S", ""), ("S", "1"), ("S", "odd"), ("x", "1"),
    ("T", 1), ("A", []), ("A", [1]), ("F", {}), ("F", {"a": 1}), ("V", None))
ARGUMENTS = (
    "x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority",
    "x-dead-letter-exchange", "x-overflow", "x-queue-mode", "x-queue-version", "x-queue-type",
    "x-single-active-consumer", "x-queue-master-locator", "x-queue-leader-locator",
    "x-delivery-limit", "x-quorum-initial-group-size", "x-dead-letter-strategy",
    "x-max-in-memory-length", "x-max-in-memory-bytes", "x-consumer-timeout", "x-max-age",
    "x-stream-max-segment-size-bytes", "x-initial-cluster-size", "x-unknown")
# values that an argument takes, and neighbours of them
WORDS = {
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx", "Drop-Head"),
    "x-queue-mode": ("default", "lazy", "LAZY"),
    "x-queue-type": ("classic", "quorum", "undefined", "Classic", "mqtt"),
    "x-queue-master-locator": ("min-masters", "client-local", "random", "balanced"),
    "x-queue-leader-locator": ("client-local", "balanced", "random", "least-leaders", "min-masters"),
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
    "x-dead-letter-exchange": ("amq.direct", "not.there", "a" * 255),
    "x-max-age": ("1h", "10Y", "0s", "h", "1w", "1h2m")}
NUMBERS = {"x-queue-version": (2, 3), "x-quorum-initial-group-size": (3, 7, 64, 65)}


def label(value):
    letter, inner = value
    if letter == "V":
        return "V"
    if letter == "D":
        return "D:%d,%d" % inner
    text = str(inner).replace(" ", "").encode("unicode_escape").decode()
    return f"{letter}:{text if len(text) < 30 else f'{text[:3]}...{len(text)}'}"


def declare(kind, arguments, **flags):
    """A row: a queue of that kind with these arguments."""
    def row(t, ch):
        own = dict(arguments)
        if kind == QUORUM:
            own.setdefault("x-queue-type", "quorum")
            flags.setdefault("durable", 1)
        ch.call("queue.declare", queue=t.name("q"), arguments=own, **flags)
    return row


@table("args", "9", "23", "24", "25", "26", "27", "29", "39")
def arguments_of_queues():
    """Every argument with every value on both kinds of queue."""
    for kind in (CLASSIC, QUORUM):
        for name in ARGUMENTS:
            values = VALUES + tuple(("S", word) for word in WORDS.get(name, ())) + \
                tuple(("I", number) for number in NUMBERS.get(name, ()))
            for value in values:
                if name == "x-queue-type" and kind == QUORUM:
                    continue
                yield f"{kind}/{name}={label(value)}", declare(kind, {name: value})


@table("args-mixed", "9", "24", "25", "38", "39")
def arguments_together():
    routing, exchange = "x-dead-letter-routing-key", "x-dead-letter-exchange"
    for kind in (CLASSIC, QUORUM):
        for value in (("S", "k"), ("S", ""), ("I", 1), ("V", None), ("t", 1), ("x", "k")):
            yield f"{kind}/key={label(value)}", declare(kind, {routing: value})
            yield f"{kind}/key={label(value)} exchange", declare(kind, {exchange: "", routing: value})
        for first, second in ((("x-expires", 0), ("x-max-length", -1)),
                              (("x-max-length", -1), ("x-expires", 0)),
                              (("x-message-ttl", "a"), ("x-max-priority", 300)),
                              (("x-overflow", "odd"), ("x-max-length", 5)),
                              (("x-queue-mode", "odd"), ("x-overflow", "odd")),
                              (("x-max-priority", 300), ("x-queue-mode", "odd")),
                              (("x-delivery-limit", 5), ("x-max-priority", 5)),
                              (("x-max-length", 5), ("x-overflow", "reject-publish-dlx")),
                              (("x-dead-letter-strategy", "at-least-once"), ("x-overflow", "drop-head")),
                              (("x-single-active-consumer", True), ("x-max-priority", 5)),
                              (("x-expires", 5000), ("x-expires", 0))):
            yield f"{kind}/{first[0]}={first[1]} {second[0]}={second[1]}", \
                declare(kind, [first, second] + ([("x-queue-type", "quorum")] if kind == QUORUM else []))
    for kind in (CLASSIC, QUORUM):
        for bits in range(16):
            flags = dict(passive=0, durable=bits & 1, exclusive=bits >> 1 & 1, auto_delete=bits >> 2 & 1)
            if bits >> 3 & 1:
                flags["passive"] = 1
            names = " ".join(name for name, bit in flags.items() if bit) or "none"
            yield f"{kind}/flags={names}", declare(kind, {}, **flags)
    yield "classic/table=twice", declare(CLASSIC, [("x-max-length", 5), ("x-max-length", -1)])
    yield "classic/table=twice-bad-first", declare(CLASSIC, [("x-max-length", -1), ("x-max-length", 5)])
    yield "classic/table=empty-name", declare(CLASSIC, [("", 1)])
    yield "classic/table=long-name", declare(CLASSIC, [("x" * 255, 1)])
    yield "classic/table=bad-utf8-name", declare(CLASSIC, [(b"\xff\xfe", 1)])
    yield "classic/table=bad-utf8-value", declare(CLASSIC, [("x-odd", ("S", b"\xff"))])
    yield "classic/table=bad-utf8-dlx", declare(CLASSIC, [(exchange, ("S", b"\xff"))])
    yield "classic/table=deep", declare(CLASSIC, {"x": {"x": {"x": {"x": [[[{"x": 1}]]]}}}})
    yield "classic/case", declare(CLASSIC, {"X-Max-Length": -1})


def sent(method, **fields):
    return lambda t, ch: ch.call(method, **fields)


def octets(value):
    return Octets(value)


NAMES = (("empty", ""), ("one", "a"), ("longest", "n" * 255), ("space", " "), ("utf8", "größe-漢字"),
         ("latin1", b"gr\xf6\xdfe"), ("overlong", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"),
         ("nul", b"a\0b"), ("cut", b"a\xe6\xbc"), ("high", b"\xf5\x80\x80\x80"), ("cr", "a\rb"),
         ("only-crlf", "\r\n"), ("reserved", "amq.x"), ("reserved-exact", "amq."),
         ("reserved-case", "AMQ.x"), ("reserved-crlf", "am\nq.x"), ("odd", "a'b\"c\\d%s~p"))


@table("names", "6", "9", "21")
def names():
    """Names of everything, in every method that takes one."""
    for label_, name in NAMES:
        def queue(t, ch, name=name):
            t.names.append(name if isinstance(name, str) else "nobody")
            ch.call("queue.declare", queue=name)

        def exchange(t, ch, name=name):
            t.names.append(name if isinstance(name, str) else "nobody")
            ch.call("exchange.declare", exchange=name, type="direct")

        def tag(t, ch, name=name):
            t.quiet = 1
            queue = t.queue(ch)
            t.quiet = 0
            ch.call("basic.consume", queue=queue, tag=name)

        def key(t, ch, name=name):
            t.quiet = 1
            queue = t.queue(ch)
            t.quiet = 0
            ch.call("queue.bind", queue=queue, exchange="amq.topic", key=name)

        def publish(_t, ch, name=name):
            ch.call("confirm.select")
            ch.publish("amq.direct", name, "m", mandatory=1)
            ch.confirms(1)

        def publish_to(_t, ch, name=name):
            ch.call("confirm.select")
            ch.publish(name, "k", "m", mandatory=1)
            ch.confirms(1)

        yield f"queue.declare {label_}", queue
        yield f"exchange.declare {label_}", exchange
        yield f"basic.consume tag {label_}", tag
        yield f"queue.bind key {label_}", key
        yield f"publish key {label_}", publish
        yield f"publish exchange {label_}", publish_to
        yield f"queue.declare passive {label_}", sent("queue.declare", queue=name, passive=1)
        yield f"queue.delete {label_}", sent("queue.delete", queue=name)
        yield f"queue.purge {label_}", sent("queue.purge", queue=name)
        yield f"basic.get {label_}", sent("basic.get", queue=name)
        yield f"basic.consume queue {label_}", sent("basic.consume", queue=name)
        yield f"basic.cancel {label_}", sent("basic.cancel", tag=name)
        yield f"exchange.declare passive {label_}", sent("exchange.declare", exchange=name, passive=1)
        yield f"exchange.declare type {label_}", \
            sent("exchange.declare", exchange="names/x", type=name)
        yield f"exchange.delete {label_}", sent("exchange.delete", exchange=name)
        yield f"queue.bind exchange {label_}", sent("queue.bind", queue="nobody", exchange=name)
        yield f"exchange.bind source {label_}", sent("exchange.bind", destination="amq.fanout", source=name)


@table("exchange-args", "6", "8", "11")
def exchanges():
    """Arguments, types and flags of exchange.declare; arguments of bindings."""
    def make(kind="direct", arguments=None, **flags):
        def row(t, ch):
            ch.call("exchange.declare", exchange=t.name("x"), type=kind, arguments=arguments or {}, **flags)
        return row

    for value in VALUES + (("S", "amq.direct"), ("S", "not.there"), ("S", "a" * 255), ("S", b"\xff"),
                           ("S", "line\nend")):
        yield f"alternate-exchange={label(value)}", make(arguments={"alternate-exchange": value})
    yield "unknown-argument", make(arguments={"x-odd": 1, "hash-header": "x"})
    for kind in ("direct", "fanout", "topic", "headers", "Direct", "x-random", "x-consistent-hash",
                 "x-recent-history", "x-modulus-hash", "x-odd", "direct ", ""):
        for bits in (0, 1, 6):
            yield f"type={kind} flags={bits}", make(kind, durable=bits & 1, auto_delete=bits >> 1 & 1,
                                                    internal=bits >> 2 & 1)

    def bind(kind, key, arguments):
        def row(t, ch):
            t.quiet = 1
            name, queue = t.exchange(ch, kind), t.queue(ch)
            t.quiet = 0
            ch.call("queue.bind", queue=queue, exchange=name, key=key, arguments=arguments)
        return row

    for value in VALUES + tuple(("S", w) for w in ("all", "any", "all-with-x", "any-with-x", "ALL")):
        yield f"bind x-match={label(value)}", bind("headers", "", {"x-match": value})
    for kind in ("direct", "fanout", "topic"):
        yield f"bind {kind} x-match", bind(kind, "k", {"x-match": "odd"})
        yield f"bind {kind} longest", bind(kind, "k" * 255, {"a": {"b": [1, None]}})
    for key in ("#.#.#.#.#", "*" * 255, "#" * 255, ".".join(["#"] * 128), "a..#..*"):
        yield f"bind topic {key[:12]} {len(key)}", bind("topic", key, {})


@table("consume-args", "16", "18", "28", "29")
def consumers():
    """Arguments and flags of basic.consume, basic.qos, basic.get."""
    def consume(kind, arguments=None, **flags):
        def row(t, ch):
            t.quiet, t.kind = 1, kind
            queue = t.queue(ch)
            t.quiet = 0
            ch.call("basic.consume", queue=queue, tag="t", arguments=arguments or {}, **flags)
        return row

    for kind in (CLASSIC, QUORUM):
        for name in ("x-priority", "x-stream-offset", "x-cancel-on-ha-failover", "x-credit",
                     "x-unknown"):
            for value in VALUES:
                yield f"{kind}/{name}={label(value)}", consume(kind, {name: value})
        for bits in range(16):
            yield f"{kind}/flags={bits}", consume(kind, no_local=bits & 1, no_ack=bits >> 1 & 1,
                                                  exclusive=bits >> 2 & 1, nowait=bits >> 3 & 1)
    for size in (0, 1, 2 ** 32 - 1):
        for count in (0, 1, 65535):
            for bit in (0, 1):
                yield f"qos size={size} count={count} global={bit}", \
                    sent("basic.qos", size=size, count=count, **{"global": bit})
