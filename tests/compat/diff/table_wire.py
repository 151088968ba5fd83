"""Bad input below the fields: each method where it does not belong, cut, with octets that mean nothing, and
with tables that are none; contents that do not go on as they began."""

import struct

from amqp_codec import METHODS, Octets, put_method
from amqp_raw import BODY, CONTENT, METHOD, frame, longstr, short
from registry import table

# what the codec of the tests does not write by itself, since only the handshake has it
HANDSHAKE = {"connection.start-ok": (10, 11, longstr("") + short("PLAIN") + longstr("\0guest\0guest") + short("en_US")),
             "connection.secure": (10, 20, longstr("what?")), "connection.secure-ok": (10, 21, longstr("")),
             "connection.tune-ok": (10, 31, struct.pack(">HIH", 0, 131072, 0)),
             "connection.open": (10, 40, short("/") + short("") + b"\0")}


def arguments(method, **fields):
    """(class, method, octets of the arguments)"""
    if method in HANDSHAKE:
        return HANDSHAKE[method]
    payload = put_method(1, method, **fields)[7:-1]
    return struct.unpack(">HH", payload[:4]) + (payload[4:],)


def sent(number, ids, data, content=False):
    """A row: that method over a channel of this number, None for the row's own."""
    def row(_t, ch):
        own = ch.number if number is None else number
        ch.connection.raw.send(frame(METHOD, own, struct.pack(">HH", *ids) + data),
                               frame(*header(0)[:1], own, header(0)[1]) if content else b"")
        ch.sync()
    return row


def header(size, class_id=60, weight=0, flags=0, properties=b""):
    return CONTENT, struct.pack(">HHQH", class_id, weight, size, flags) + properties


@table("methods", "1", "4")
def methods():
    """Every method with empty fields, those of the server too, where it does not belong."""
    for name in (*METHODS, *HANDSHAKE):
        fields = dict(queue="nobody") if any(key == "queue" for key, _ in METHODS.get(name, (0, 0, ()))[2]) else {}
        class_id, method_id, data = arguments(name, **fields)
        content = name in ("basic.publish", "basic.return", "basic.deliver", "basic.get-ok")
        # ends the connection, and nothing is said after it
        if name not in ("connection.close", "connection.close-ok"):
            yield f"zero {name}", sent(0, (class_id, method_id), data)
        yield f"not open {name}", sent(77, (class_id, method_id), data, content)
        if class_id == 10 or f"{name}-ok" not in METHODS:
            if name not in ("channel.close-ok", "basic.publish"):
                yield f"channel {name}", sent(None, (class_id, method_id), data, content)


def client_methods():
    """Those that a client may send over a channel of its own, with fields that do no harm."""
    for name, (class_id, _, fields) in METHODS.items():
        if class_id == 10 or name.endswith("-ok") or name in (
                "basic.return", "basic.deliver", "basic.get-empty", "basic.publish", "channel.open", "channel.close"):
            continue
        yield name, {key: 1 for key, kind in fields if key in ("tag", "passive", "active") and kind != "short"}


@table("cut", "1")
def cut():
    """Arguments of every method that end too early or too late."""
    for name, fields in client_methods():
        class_id, method_id, data = arguments(name, **fields)
        for size in dict.fromkeys((0, 1, len(data) // 2, len(data) - 1)):
            if 0 <= size < len(data):
                yield f"{name} {size} of {len(data)}", sent(None, (class_id, method_id), data[:size])
        yield f"{name} one more", sent(None, (class_id, method_id), data + b"\0")


@table("reserved", "1")
def reserved():
    """What the specification calls reserved: fields, and bits that no field has."""
    for name, fields in client_methods():
        class_id, method_id, own = METHODS[name]
        data = arguments(name, **fields)[2]
        if own and own[0] == (None, "u16"):
            for number in (1, 65535):
                yield f"{name} ticket {number}", \
                    sent(None, (class_id, method_id), struct.pack(">H", number) + data[2:])
        bits = sum(kind == "bit" for _, kind in own)
        if bits and own[-1][1] == "bit":
            for bit in range(bits, 8):
                yield f"{name} bit {bit}", \
                    sent(None, (class_id, method_id), data[:-1] + bytes([data[-1] | 1 << bit]))
        if bits and own[-1][1] == "table":
            for bit in range(bits, 8):
                yield f"{name} bit {bit}", sent(
                    None, (class_id, method_id), data[:-5] + bytes([data[-5] | 1 << bit]) + data[-4:])


# --- tables -------------------------------------------------------------------------------------

def nested(depth, letter):
    """That many of one in another."""
    data = b""
    for _ in range(depth):
        data = (b"" if letter == b"A" else b"\1a") + letter + struct.pack(">I", len(data)) + data
    return data if letter == b"F" else b"\1a" + data


def sized(data):
    return struct.pack(">I", len(data)) + data


TABLES = (
    ("empty", sized(b"")), ("longer than the frame", struct.pack(">I", 100) + b"\1aV"),
    ("huge", b"\xff\xff\xff\xff"), ("negative", b"\x80\0\0\0"), ("shorter than what follows", struct.pack(">I", 2) + b"\1aV"),
    ("a name alone", sized(b"\1a")), ("half a name", sized(b"\5a")), ("empty name", sized(b"\0V")),
    ("name of 255", sized(b"\xff" + b"n" * 255 + b"V")), ("name with nul", sized(b"\3a\0bV")),
    ("name not utf-8", sized(b"\2\xff\xfeV")), ("twice", sized(b"\1aV\1aI\0\0\0\1")),
    ("deep tables", sized(nested(10, b"F"))), ("deep arrays", sized(nested(10, b"A"))),
    *((f"letter {letter.decode()}", sized(b"\1a" + letter + bytes(8))) for letter in (b"Z", b"U", b"c", b" ")),
    *((f"cut {letter}", sized(b"\1a" + letter.encode() + bytes(size)))
      for letter, size in (("t", 0), ("b", 0), ("B", 0), ("s", 1), ("u", 1), ("I", 3), ("i", 3), ("l", 7), ("L", 7),
                           ("f", 3), ("d", 7), ("D", 4), ("T", 7), ("S", 3), ("x", 3), ("A", 3), ("F", 3))),
    *((f"{letter} longer than its table", sized(b"\1a" + letter.encode() + b"\0\0\0\x09ab"))
      for letter in "SxAF"),
    *((f"{name} in it", sized(b"\1a" + letter + sized(inner))) for name, letter, inner in (
        ("half a number of an array", b"A", b"I\0"), ("half a string of an array", b"A", b"S\0\0\0\5a"),
        ("half a name of a table", b"F", b"\1"), ("half a number of a table", b"F", b"\1bI\0"))),
    *((f"bool {number}", sized(b"\1at" + bytes([number]))) for number in (0, 1, 2, 255)),
    *((f"float {name}", sized(b"\1af" + data)) for name, data in (
        ("infinite", b"\x7f\x80\0\0"), ("nan", b"\x7f\xc0\0\0"), ("-0", b"\x80\0\0\0"), ("tiny", b"\0\0\0\1"))),
    *((f"double {name}", sized(b"\1ad" + data)) for name, data in (
        ("infinite", b"\x7f\xf0" + bytes(6)), ("nan", b"\x7f\xf8" + bytes(6)), ("-0", b"\x80" + bytes(7)))),
    ("decimal 255", sized(b"\1aD\xff\xff\xff\xff\xff")), ("timestamp 2^64-1", sized(b"\1aT" + b"\xff" * 8)),
    ("string not utf-8", sized(b"\1aS" + sized(b"\xff"))))


@table("tables", "1", "6")
def tables():
    """Field tables of every method that has one."""
    def row(name, data, before, fields):
        def run(t, ch):
            t.quiet = 1
            queue = t.queue(ch) if before else t.name("q")
            t.quiet = 0
            own = {key: queue if value == "$q" else value for key, value in fields.items()}
            if name == "exchange.declare":
                own["exchange"] = t.name("x")
            ch.call(name, arguments=Octets(data), **own)
        return run

    bind = {"source": "amq.headers", "destination": "amq.fanout", "key": "k"}
    for name, before, fields in (
            ("queue.declare", False, {"queue": "$q"}), ("exchange.declare", False, {"type": "direct"}),
            ("queue.bind", True, {"queue": "$q", "exchange": "amq.headers"}),
            ("queue.unbind", True, {"queue": "$q", "exchange": "amq.headers"}),
            ("exchange.bind", False, bind), ("exchange.unbind", False, bind),
            ("basic.consume", True, {"queue": "$q", "tag": "t"})):
        for text, data in TABLES:
            yield f"{name} {text}", row(name, data, before, fields)


# --- contents -----------------------------------------------------------------------------------

PUBLISH = struct.pack(">HH", 60, 40)


@table("contents", "1", "21")
def contents():
    """Headers and bodies: too many, too few, for another channel, with something in between."""
    first = (METHOD, PUBLISH + b"\0\0" + short("") + short("nobody") + b"\1")

    def row(*frames):
        def run(_t, ch):
            ch.connection.raw.send(*[frame(what[0], ch.number if len(what) == 2 else what[2], what[1])
                                     for what in (first, *frames)])
            ch.sync()
        return run

    flow = (METHOD, struct.pack(">HHB", 20, 20, 1))
    for name, frames in {
            "no header": (), "body instead of a header": ((BODY, b"x"),), "method twice": (first,),
            "method instead of a header": (flow,), "heartbeat before the header": ((8, b"", 0), header(0)),
            "heartbeat on the channel": ((8, b""), header(0)),
            "header twice": (header(1), header(1)), "header for 0": ((*header(0), 0),),
            "header for another": ((*header(0), 77),), "body for another": (header(1), (BODY, b"x", 77)),
            "body for 0": (header(1), (BODY, b"x", 0)),
            "body too long": (header(1), (BODY, b"xy")), "body where there is none": (header(0), (BODY, b"x")),
            "empty body where there is none": (header(0), (BODY, b"")),
            "empty bodies": (header(1), (BODY, b""), (BODY, b""), (BODY, b"x")),
            "second body too long": (header(3), (BODY, b"ab"), (BODY, b"cd")),
            "no body": (header(1),), "half a body": (header(2), (BODY, b"a")), "method instead of a body": (header(1), flow),
            "method in a body": (header(2), (BODY, b"a"), flow),
            "heartbeat in a body": (header(2), (BODY, b"a"), (8, b"", 0), (BODY, b"b")),
            "header size 2^63": (header(2 ** 63),), "header size 2^64-1": (header(2 ** 64 - 1),),
            "header of class 0": (header(0, class_id=0),), "header of class 65535": (header(0, class_id=65535),),
            "weight 65535": (header(0, weight=65535),), "flags of one without it": (header(0, flags=0x8000),),
            "header of nothing": ((CONTENT, b""),), "header of 13 octets": ((CONTENT, header(0)[1][:13]),)}.items():
        yield name, row(*frames)
    for kind in (0, 4, 5, 6, 7, 9, 127, 128, 255):
        yield f"frame type {kind} in a body", row(header(2), (BODY, b"a"), (kind, b""))
