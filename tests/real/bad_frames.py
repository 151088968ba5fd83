"""Bad frames, contents and tables on an open connection."""

import struct

from amqp_raw import BODY, CONTENT, HEARTBEAT, METHOD, Ended, Raw, content, frame, longstr, \
    method, publish, queue_declare, short
from bad_handshake import nested

CASES = []


def ends(name, data, *codes, frame_max=131072, eof=True):
    """After data the connection ends: connection.close with one of the codes, or just the end."""
    def run(port):
        with Raw(port).open(frame_max=frame_max) as raw:
            raw.send(data)
            kind, code, text, _class, _method = raw.read_close()
            if (kind == "connection" and code in codes) or (kind == "eof" and eof):
                return None
            return f"{kind} {code} {text}"
    CASES.append((name, run))


def works(name, data):
    """Data is odd but legal: the channel still works."""
    def run(port):
        with Raw(port).open() as raw:
            raw.send(data, method(1, 60, 10, struct.pack(">IHB", 0, 0, 0)))
            raw.expect(60, 11)
    CASES.append((name, run))


def either(name, data, *codes):
    """Accepted, or refused with one of the codes on either level, or the connection ends."""
    def run(port):
        with Raw(port).open() as raw:
            raw.send(data, method(1, 60, 10, struct.pack(">IHB", 0, 0, 0)))
            try:
                found = raw.read_method()
            except Ended:
                return None
            if found[1:3] in ((10, 50), (20, 40)):
                code = struct.unpack(">H", found[3][:2])[0]
                return None if code in codes else f"code {code} {found[3][3:80]!r}"
            return None
    CASES.append((name, run))


PUBLISH = publish(1, "", "no-such-queue")

for _type in (0, 4, 5, 9, 255):
    ends(f"frame.type-{_type}", frame(_type, 1, b"x"), 501, eof=False)
ends("frame.end-octet", frame(METHOD, 1, b"\0\x3c\0\x0a" + bytes(7), end=0xCD), 501, eof=False)
ends("frame.size-bomb", struct.pack(">BHI", 1, 1, 0xFFFFFFFF) + b"x" * 100, 501, eof=False)
ends("frame.too-large", PUBLISH + content(1, 131073) + frame(BODY, 1, bytes(131073)), 501,
     eof=False)
ends("frame.too-large-small", PUBLISH + content(1, 4105) + frame(BODY, 1, bytes(4105)), 501,
     frame_max=4096, eof=False)
works("frame.eight-bytes-over", PUBLISH + content(1, 131072) + frame(BODY, 1, bytes(131072)))
ends("frame.empty-method", frame(METHOD, 1, b""), 501, 502)
ends("frame.method-of-3-bytes", frame(METHOD, 1, b"\0\x3c\0"), 501, 502)
ends("frame.heartbeat-on-channel", frame(HEARTBEAT, 1, b""), 505, 501, eof=False)
either("frame.heartbeat-with-payload", frame(HEARTBEAT, 0, b"xx"), 501, 505)
works("frame.heartbeats", frame(HEARTBEAT, 0, b"") * 1000)
ends("frame.content-on-channel-0", content(0, 1), 505, 501, 504)
ends("frame.channel-never-opened", publish(2, "", "q") + content(2, 0), 504, eof=False)
ends("frame.channel-65535", publish(65535, "", "q") + content(65535, 0), 504, eof=False)
ends("frame.declare-on-no-channel", queue_declare(3, ""), 504, eof=False)

ends("content.header-first", content(1, 1), 505, eof=False)
ends("content.body-first", frame(BODY, 1, b"x"), 505, eof=False)
ends("content.wrong-class", PUBLISH + content(1, 1, class_id=50), 505, 501)
ends("content.weight", PUBLISH + content(1, 1, weight=1), 505, 501)
ends("content.method-for-header", PUBLISH + PUBLISH, 505, eof=False)
ends("content.method-for-body", PUBLISH + content(1, 5) + PUBLISH, 505, eof=False)
ends("content.header-for-body", PUBLISH + content(1, 5) + content(1, 5), 505, eof=False)
ends("content.body-for-size-0", PUBLISH + content(1, 0) + frame(BODY, 1, b"x"), 505, 501)
ends("content.body-too-long", PUBLISH + content(1, 2) + frame(BODY, 1, b"xyz") +
     PUBLISH, 501, 505)
ends("content.after-declare", queue_declare(1, "") + content(1, 1), 505, eof=False)
for _power in (63, 64):
    ends(f"content.size-2^{_power}", PUBLISH + content(1, 2 ** _power - (_power == 64)) +
         frame(BODY, 1, b"x") + PUBLISH, 501, 502, 505, 541)
works("content.empty-bodies", PUBLISH + content(1, 3) + frame(BODY, 1, b"") * 5000 +
      frame(BODY, 1, b"abc"))
works("content.one-byte-bodies", PUBLISH + content(1, 3000) + frame(BODY, 1, b"x") * 3000)
ends("content.truncated-header", PUBLISH + frame(CONTENT, 1, b"\0\x3c\0\0\0\0"), 501, 502, 505)


def half_message(port):
    for data in (PUBLISH[:5], PUBLISH, PUBLISH + content(1, 100)[:9], PUBLISH + content(1, 100),
                 PUBLISH + content(1, 100) + frame(BODY, 1, b"x" * 100)[:50]):
        for leave in (Raw.close, Raw.reset):
            raw = Raw(port).open()
            raw.send(data)
            leave(raw)


CASES.append(("content.gone-in-the-middle", half_message))

# Properties are looked at only when something needs them: accepted or refused, never a crash.
either("properties.truncated", PUBLISH + content(1, 0, 0x8000, b"\xffabc"), 501, 502, 541)
either("properties.all-bits", PUBLISH + content(1, 0, 0xFFFF), 501, 502, 541)
either("properties.continuation", PUBLISH + content(1, 0, 0x0001, b"\0\1" * 50), 501, 502, 541)
either("properties.header-table", PUBLISH + content(1, 0, 0x2000, longstr(b"\1kS\0\0\xff\xff")),
       501, 502, 541)
either("properties.deep-headers", PUBLISH + content(1, 0, 0x2000, longstr(nested(5000))),
       501, 502, 541)
either("properties.deep-arrays", PUBLISH + content(1, 0, 0x2000, longstr(nested(5000, b"A"))),
       501, 502, 541)

TABLES = {
    "unknown-type": short("x-a") + b"Z\0\0\0\0",
    "truncated-value": short("x-a") + b"S\0\0\xff\xff",
    "truncated-key": b"\xffabc",
    "array-too-long": short("x-a") + b"A\0\0\xff\xff",
    "half-integer": short("x-a") + b"I\0",
}
for _name, _table in TABLES.items():
    ends(f"table.{_name}", queue_declare(1, "", 4, _table), 501, 502, 541)
ends("table.longer-than-frame", method(1, 50, 10, b"\0\0" + short("") + b"\4\x7f\xff\xff\xff"),
     501, 502)
either("table.deep", queue_declare(1, "", 4, nested(2000)), 501, 502, 406, 541)
either("table.deep-arrays", queue_declare(1, "", 4, nested(4000, b"A")), 501, 502, 406, 541)
either("table.many-keys", queue_declare(1, "", 4, b"".join(
    short(f"k{i}") + b"V" for i in range(10000))), 501, 502, 406)
either("table.same-key", queue_declare(1, "", 4, (short("x-a") + b"t\1") * 5000), 501, 502, 406)
either("table.decimal", queue_declare(1, "", 4, short("x-a") + b"D\xff\xff\xff\xff\xff"), 501, 406)

ends("name.bad-utf8", queue_declare(1, b"\xff\xfe\xfd", 4), 501, 502, eof=False)
either("name.nul", queue_declare(1, b"a\0b", 4), 501, 406)
either("name.crlf", queue_declare(1, f"a\r\nb{id(ends)}", 4), 501, 406)
either("name.255", queue_declare(1, "n" * 255, 4), 406)
ends("method.truncated", method(1, 50, 10, b"\0\0\x05ab"), 501, 502)


def unknown_methods(port):
    for ids in ((10, 99), (50, 99), (60, 9), (61, 10), (0, 0), (65535, 65535), (30, 10 + 89)):
        with Raw(port).open() as raw:
            raw.send(method(1, *ids))
            kind, code, text, _class, _method = raw.read_close()
            if kind != "eof" and code not in (501, 502, 503, 540, 541):
                return f"{ids}: {kind} {code} {text}"
    return None


CASES.append(("method.unknown", unknown_methods))

SERVER_ONLY = ((10, 10, b"\0\x09" + longstr("") * 3), (10, 30, struct.pack(">HIH", 1, 1, 1)),
               (10, 41, short("")), (10, 60, short("r")), (10, 61, b""), (20, 11, longstr("")),
               (20, 41, b""), (40, 11, b""), (50, 11, short("q") + bytes(8)), (50, 21, b""),
               (50, 31, bytes(4)), (60, 11, b""), (60, 21, short("t")), (60, 31, short("t")),
               (60, 50, b"\x01\x38" + short("") * 3), (60, 60, short("t") + bytes(9) + b"\0\0"),
               (60, 71, bytes(9) + b"\0\0" + bytes(4)), (60, 72, short("")), (60, 111, b""),
               (85, 11, b""), (90, 11, b""), (90, 21, b""), (90, 31, b""), (20, 21, b"\1"))


def server_only(port):
    for class_id, method_id, arguments in SERVER_ONLY:
        with Raw(port).open() as raw:
            raw.send(method(0 if class_id == 10 else 1, class_id, method_id, arguments))
            if (class_id, method_id) in ((60, 50), (60, 60), (60, 71)):
                raw.send(content(1, 0))
            try:
                kind, code, text, _class, _method = raw.read_close()
            except TimeoutError:
                return f"{class_id},{method_id}: no answer"
            if kind != "eof" and code not in (501, 502, 503, 504, 505, 540):
                return f"{class_id},{method_id}: {kind} {code} {text}"
            if kind == "channel":
                return f"{class_id},{method_id}: only the channel was closed, {code} {text}"
    return None


CASES.append(("method.server-only", server_only))


def connection_methods_on_a_channel(port):
    for method_id, arguments in ((40, short("/") + short("") + b"\0"), (51, b""),
                                 (50, b"\0\xc8" + short("") + bytes(4))):
        with Raw(port).open() as raw:
            raw.send(method(1, 10, method_id, arguments))
            kind, code, text, _class, _method = raw.read_close()
            if kind == "channel":
                return f"{method_id}: {kind} {code} {text}"
    return None


CASES.append(("method.connection-on-channel", connection_methods_on_a_channel))
