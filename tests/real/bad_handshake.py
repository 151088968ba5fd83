"""Bad input before a connection is open."""

import struct
import time

from amqp_raw import HEADER, Ended, Raw, longstr, method, short, start_ok, tune_ok, vhost_open

CLIENT_HELLO = bytes.fromhex(
    "16030100a5010000a10303" + "5a" * 32 + "20" + "a5" * 32 + "0004130113020100005400" +
    "0b000403000102000a000400020017") + bytes(64)
CASES = []


def case(name):
    def add(function):
        CASES.append((name, function))
        return function
    return add


def ended(raw, codes=(), seconds=8.0):
    """The connection must end: with connection.close of one of the codes, or without a frame."""
    kind, code, text, _class, _method = raw.read_close(seconds)
    if kind == "eof" or (kind == "connection" and code in codes):
        return None
    return f"{kind} {code} {text}"


def bad_header(data):
    def run(port):
        with Raw(port) as raw:
            raw.send(data)
            answer = raw.wait_eof()
            if len(answer) != 8 or not answer.startswith(b"AMQP"):
                return f"answer {answer[:40]!r} of {len(answer)} bytes"
        return None
    return run


for _name, _data in (("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ("tls", CLIENT_HELLO),
                     ("amqp-1.0", b"AMQP\x00\x01\x00\x00"), ("zeros", bytes(8)),
                     ("letters", b"AMQPxxxx"), ("frame", method(0, 10, 40, b"\0\0\0"))):
    CASES.append((f"handshake.header-{_name}", bad_header(_data)))


@case("handshake.one-byte-at-a-time")
def one_byte(port):
    with Raw(port) as raw:
        for byte in HEADER:
            raw.send(bytes([byte]))
        raw.expect(10, 10)
        for byte in start_ok():
            raw.send(bytes([byte]))
        raw.expect(10, 30)
        for byte in tune_ok() + vhost_open():
            raw.send(bytes([byte]))
        raw.expect(10, 41)


@case("handshake.gone-early")
def gone_early(port):
    for size in range(9):
        for leave in (Raw.close, Raw.reset):
            raw = Raw(port)
            raw.send(HEADER[:size])
            leave(raw)


@case("handshake.many-half-open")
def many_half_open(port):
    raws = [Raw(port) for _ in range(200)]
    for raw in raws:
        raw.send(HEADER)
    Raw(port).open().close()
    for raw in raws:
        raw.close()


class Silent:
    """A client that says nothing is closed after the handshake timeout of 10 s."""

    def __init__(self, port):
        self.raw, self.begun = Raw(port), time.monotonic()

    def check(self, _port):
        left = 20 - (time.monotonic() - self.begun)
        try:
            answer = self.raw.wait_eof(max(left, 0.1))
        except TimeoutError:
            return "still connected after 20 s"
        return f"answer {answer!r}" if answer else None


def after_start(data, codes=()):
    def run(port):
        with Raw(port) as raw:
            raw.start()
            raw.send(data)
            return ended(raw, codes)
    return run


CASES += [
    ("handshake.tune-ok-first", after_start(tune_ok(), (501, 503, 504))),
    ("handshake.open-first", after_start(vhost_open(), (501, 503, 504))),
    ("handshake.channel-first", after_start(method(1, 20, 10, short("")), (501, 503, 504, 505))),
    ("handshake.bad-password", after_start(start_ok(password="no"), (403,))),
    ("handshake.mechanism-empty", after_start(start_ok(mechanism=""), (503, 504))),
    ("handshake.mechanism-lower-case", after_start(start_ok(mechanism="plain"), (503, 504))),
    ("handshake.mechanism-long", after_start(start_ok(mechanism="M" * 255), (503, 504))),
    ("handshake.plain-without-nul", after_start(start_ok(response=b"guestguest"),
                                                (403, 501, 502))),
    ("handshake.plain-five-nul", after_start(start_ok(response=b"\0\0guest\0guest\0"),
                                             (403, 501, 502))),
    ("handshake.plain-empty", after_start(start_ok(response=b""), (403, 501, 502))),
    ("handshake.password-1-mb", after_start(start_ok(password="x" * (1 << 20)), (403, 501))),
    ("handshake.frame-size-bomb", after_start(struct.pack(">BHI", 1, 0, 0xFFFFFFFF), (501,))),
    ("handshake.truncated-method", after_start(method(0, 10, 11, b"\0\0\0\xff"), (501, 502))),
    ("handshake.bad-utf8", after_start(start_ok(locale=b"\xff\xfe"), (501, 502, 403))),
]


def properties(data, may_pass):
    """Odd client properties: accepted, or the connection ends."""
    def run(port):
        with Raw(port) as raw:
            raw.start()
            raw.send(start_ok(properties=data))
            try:
                raw.expect(10, 30)
            except Ended:
                return None
            except ValueError as error:
                return None if "(10, 50)" in str(error) else str(error)
            return None if may_pass else "accepted"
    return run


def nested(depth, tag=b"F"):
    data = b""
    for _ in range(depth):
        data = (short("k") if tag == b"F" else b"") + tag + longstr(data)
    return data if tag == b"F" else short("k") + data


CASES += [
    ("handshake.properties-deep", properties(nested(400), True)),
    ("handshake.properties-deep-arrays", properties(nested(600, b"A"), True)),
    ("handshake.properties-twice", properties((short("a") + b"t\1") * 100, True)),
    ("handshake.properties-long-key", properties(short("k" * 255) + b"V", True)),
    ("handshake.properties-unknown-type", properties(short("k") + b"Z\0\0\0\0", False)),
    ("handshake.properties-truncated", properties(short("k") + b"S\0\0\xff\xff", False)),
    ("handshake.properties-too-large", properties(short("k") + b"S" + longstr("x" * 20000), False)),
]


def tune(codes=(530, 501), **values):
    def run(port):
        with Raw(port) as raw:
            raw.start()
            raw.send(start_ok())
            raw.expect(10, 30)
            raw.send(tune_ok(**values), vhost_open())
            return ended(raw, codes)
    return run


CASES += [
    ("handshake.tune-channel-max-raised", tune(channel_max=65535)),
    ("handshake.tune-frame-max-raised", tune(frame_max=0xFFFFFFFF)),
    ("handshake.tune-frame-max-1", tune(frame_max=1)),
    ("handshake.tune-frame-max-4095", tune(frame_max=4095)),
]


@case("handshake.tune-heartbeats")
def tune_heartbeats(port):
    for heartbeat in (0, 1, 65535):
        Raw(port).open(heartbeat=heartbeat).close()


@case("handshake.unknown-vhost")
def unknown_vhost(port):
    with Raw(port) as raw:
        raw.start()
        raw.send(start_ok())
        raw.expect(10, 30)
        raw.send(tune_ok(), vhost_open("nowhere"))
        found = raw.read_close()
        if found[:3] != ("connection", 530, "NOT_ALLOWED - vhost nowhere not found"):
            return str(found)
    return None


@case("handshake.open-twice")
def open_twice(port):
    with Raw(port).open(channel=False) as raw:
        raw.send(vhost_open())
        return ended(raw, (503, 504, 505))


@case("handshake.start-ok-twice")
def start_ok_twice(port):
    with Raw(port).open(channel=False) as raw:
        raw.send(start_ok())
        return ended(raw, (503, 504, 505))
