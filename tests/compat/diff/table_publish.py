"""Bad input: properties of published messages, settling, confirm and tx, bits and frames."""

import struct

from amqp_codec import Octets
from amqp_raw import frame
from registry import table
from table_args import VALUES, label

EXPIRATIONS = ("0", "1", "60000", "315360000000", "315360000001", "9" * 18, "9" * 19, "9" * 30, "-1",
               "-0", "+1", "", " ", " 5", "5 ", "12x", "x12", "1.5", "1e3", "0x10", "007", "٣", "--1",
               "1-", "1\n", "1\0")


def published(properties):
    """Published to the queue, confirmed, got; or refused."""
    def row(t, ch):
        t.quiet = 1
        queue = t.queue(ch)
        ch.call("confirm.select")
        t.quiet = 0
        more = {"properties": properties} if isinstance(properties, Octets) else properties
        ch.publish("", queue, "m", mandatory=1, **more)
        ch.confirms(1)
        if ch.open:
            ch.call("basic.get", queue=queue, no_ack=1)
    return row


@table("properties", "15", "20", "21", "23", "26")
def properties():
    for text in EXPIRATIONS:
        if text not in ("0", "1", "-0", "007", "+1"):       # those may be gone before they are got
            yield f"expiration={text!r}", published({"expiration": text})
        yield f"expiration unroutable={text!r}", unroutable({"expiration": text})
    yield "expiration=bad-utf8", published({"expiration": b"\xff"})
    for name in ("CC", "BCC"):
        for value in VALUES:
            yield f"{name}={label(value)}", published({"headers": {name: value}})
        for inner in (("S", "k" * 255), ("S", "k" * 256), ("S", b"\xff"), ("S", ""), ("x", "k"),
                      ("A", [("S", "k")]), ("V", None)):
            yield f"{name}=[{label(inner)}]", published({"headers": {name: ("A", [inner])}})
    for value in VALUES:
        yield f"header={label(value)}", published({"headers": {"h": value}})
        yield f"x-death={label(value)}", published({"headers": {"x-death": value}})
        yield f"x-delay={label(value)}", published({"headers": {"x-delay": value}})
    for user in ("guest", "", "Guest", "guest ", "nobody", b"\xff", "u" * 255, "guest\0"):
        yield f"user-id={user[:9]!r}", published({"user_id": user})
    for number in (0, 1, 2, 3, 127, 255):
        yield f"delivery-mode={number}", published({"delivery_mode": number})
        yield f"priority={number}", published({"priority": number})
    for name in ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type",
                 "app_id", "cluster_id"):
        for text in ("", "a" * 255, b"\xff\xfe", "line\r\nend", "größe"):
            yield f"{name}={text[:8]!r}", published({name: text})
    for value in (0, 1, 2 ** 31, 2 ** 32, 2 ** 63, 2 ** 64 - 1):
        yield f"timestamp={value}", published({"timestamp": value})
    for bit in range(16):
        yield f"flag alone={bit}", published(Octets(struct.pack(">H", 1 << bit)))
    yield "flags=all-empty", published(Octets(b"\xff\xfc" + bytes(2) + bytes(4) + bytes(2) + bytes(4) +
                                              bytes(8) + bytes(4)))
    yield "octets-left", published(Octets(b"\0\0\1\2\3"))
    for text, table_ in (("short", b"\0\0\0\5\1aV"), ("cut-name", b"\0\0\0\2\5a"), ("letter", b"\0\0\0\3\1aZ"),
                         ("cut-value", b"\0\0\0\5\1aI\0\0"), ("bad-utf8-name", b"\0\0\0\4\2\xff\xfeV"),
                         ("huge", b"\xff\xff\xff\xff"), ("cut-array", b"\0\0\0\7\1aA\0\0\0\1"),
                         ("empty-name", b"\0\0\0\2\0V")):
        yield f"table={text}", published({"headers": Octets(table_)})


def unroutable(more):
    def row(t, ch):
        ch.call("confirm.select")
        ch.publish("amq.direct", "nobody", "m", mandatory=1, **more)
        ch.confirms(1)
    return row


TAGS = (0, 1, 2, 3, 4, 2 ** 31, 2 ** 63, 2 ** 64 - 1)


@table("settle", "15", "17")
def settling():
    """Three messages are out, the second of them settled: everything with every tag."""
    def settle(method, fields):
        def row(t, ch):
            t.quiet = 1
            queue = t.queue(ch)
            for i in range(3):
                ch.publish("", queue, f"m{i}")
            t.counts(queue, messages=3)
            for _ in range(3):
                ch.call("basic.get", queue=queue)
            ch.send("basic.ack", tag=2)
            ch.sync()
            t.quiet = 0
            ch.send(method, **fields)
            if ch.sync():
                ch.call("basic.get", queue="nobody")
        return row

    for tag in TAGS:
        for multiple in (0, 1):
            yield f"ack {tag} multiple={multiple}", settle("basic.ack", dict(tag=tag, multiple=multiple))
            for requeue in (0, 1):
                yield f"nack {tag} multiple={multiple} requeue={requeue}", \
                    settle("basic.nack", dict(tag=tag, multiple=multiple, requeue=requeue))
        for requeue in (0, 1):
            yield f"reject {tag} requeue={requeue}", settle("basic.reject", dict(tag=tag, requeue=requeue))


@table("modes", "13", "14")
def modes():
    """confirm and tx in every order."""
    steps = ("confirm.select", "tx.select", "tx.commit", "tx.rollback")

    def both(first, second):
        def row(_t, ch):
            ch.call(first)
            if ch.open:
                ch.call(second)
        return row

    for first in steps:
        yield first, lambda _t, ch, first=first: ch.call(first)
        for second in steps:
            yield f"{first} {second}", both(first, second)


@table("octets", "1", "4")
def octet_frames():
    """Methods whose octets are not what they should be."""
    def raw(data, header=None):
        def row(_t, ch):
            content = frame(2, ch.number, header) if header is not None else b""
            ch.connection.raw.send(frame(1, ch.number, data) + content)
            ch.sync()
        return row

    declare = struct.pack(">HH", 50, 10)
    for text, data in (("nothing", b""), ("class", b"\0"), ("no-arguments", declare),
                       ("cut-name", declare + b"\0\0\5ab"), ("no-table", declare + b"\0\0\1a\0"),
                       ("cut-table", declare + b"\0\0\1a\0\0\0\0\5"),
                       ("octets-left", declare + b"\0\0\1a\1\0\0\0\0more")):
        yield f"queue.declare {text}", raw(data)
    for ids in ((50, 99), (99, 10), (0, 0), (65535, 65535), (60, 110), (20, 11), (30, 11), (10, 40), (10, 10),
                (60, 21), (60, 60), (60, 50), (60, 71), (60, 72), (85, 11), (90, 11), (40, 11)):
        yield f"ids {ids[0]}.{ids[1]}", raw(struct.pack(">HH", *ids))
    for kind in (0, 4, 5, 7, 8, 9, 255):
        yield f"frame type {kind}", lambda _t, ch, kind=kind: (
            ch.connection.raw.send(frame(kind, ch.number, b"")), ch.sync())
    yield "frame of another protocol", lambda _t, ch: (
        ch.connection.raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), ch.sync())
    yield "frame header unasked", lambda _t, ch: (
        ch.connection.raw.send(frame(2, ch.number, struct.pack(">HHQH", 60, 0, 0, 0))), ch.sync())
    yield "frame body unasked", lambda _t, ch: (
        ch.connection.raw.send(frame(3, ch.number, b"x")), ch.sync())
    yield "frame end", lambda _t, ch: (
        ch.connection.raw.send(frame(1, ch.number, declare + b"\0\0\1a\1\0\0\0\0", end=0xCD)), ch.sync())
    publish = struct.pack(">HH", 60, 40) + b"\0\0\0\1k\0"
    for text, header in (("class 50", struct.pack(">HHQH", 50, 0, 0, 0)),
                         ("weight 1", struct.pack(">HHQH", 60, 1, 0, 0)),
                         ("cut", struct.pack(">HHQ", 60, 0, 0)), ("size 2^40", struct.pack(">HHQH", 60, 0, 2 ** 40, 0)),
                         ("size 600 MB", struct.pack(">HHQH", 60, 0, 600000000, 0)),
                         ("flags 1", struct.pack(">HHQH", 60, 0, 0, 1))):
        yield f"content header {text}", raw(publish, header)
