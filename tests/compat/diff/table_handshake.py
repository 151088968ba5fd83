"""Bad input before a connection is open: each field of start-ok, tune-ok and open."""

import struct

from amqp_codec import NAMES, put_table, take_method
from amqp_raw import HEADER, METHOD, Ended, frame, longstr, method, short, start_ok, tune_ok, vhost_open
from registry import table
from session import quoted
from table_wire import TABLES


def talk(t, *steps):
    """Sends, and records what comes to each: (octets, how many methods)."""
    with t.broker.raw() as raw:
        for data, count in steps:
            raw.send(data)
            for _ in range(count):
                try:
                    _, class_id, method_id, arguments = raw.read_method(8.0)
                except Ended:
                    t.record("hung up")
                    return
                except TimeoutError:
                    t.record("nothing comes")
                    return
                name = NAMES[class_id, method_id]
                if name.endswith(".close"):
                    values = take_method(struct.pack(">HH", class_id, method_id) + arguments)[1]
                    t.record(f"{name} {values['code']} {quoted(values['text'], True)} for {values['class']}.{values['method']}")
                    return
                t.record(name)


def row(*steps):
    return lambda t, _ch: talk(t, (HEADER, 1), *steps)


START = (start_ok(), 1)
TUNE = (tune_ok(), 0)
OPEN = (vhost_open(), 1)


@table("handshake", "1", "2", "4", "5")
def handshake():
    # --- start-ok ---
    for text in ("name with nul", "deep tables", "deep arrays", "letter Z", "cut I", "float infinite", "empty name", "bool 2"):
        data = dict(TABLES)[text]
        yield f"client properties, {text}", row((method(0, 10, 11, data + short("PLAIN") + longstr("\0guest\0guest") +
                                                         short("en_US")), 1), TUNE, OPEN)
    for key, values in (("capabilities", (("t", 1), ("S", ""), ("A", []), ("V", None), ("F", {}))),
                        ("product", (("I", 1), ("F", {}), ("S", b"\xff"), ("V", None))),
                        ("connection_name", (("I", 1), ("F", {}), ("S", b"\xff"), ("S", ""), ("S", "n" * 5000), ("V", None)))):
        for value in values:
            yield f"client property {key}={value[0]}:{str(value[1])[:8]}", row(
                (start_ok(properties=put_table({key: value})[4:]), 1), TUNE, OPEN)
    for mechanism in ("", "plain", "EXTERNAL", "x" * 255):
        yield f"mechanism={mechanism[:20]!r}", row((start_ok(mechanism=mechanism), 1), TUNE, OPEN)
    for response in (b"", b"\0", b"\0guest", b"guest\0guest", b"\0guest\0guest\0", b"\0guest\0guest\0more", b"x\0guest\0guest",
                     b"guest\0guest\0guest", b"\0\0", b"\0\xff\0guest", b"\0guest\0\xff", b"\0Guest\0guest", b"\0guest\0",
                     b"\0" + b"u" * 5000 + b"\0p"):
        yield f"PLAIN {response[:24]!r}", row((start_ok(response=response), 1), TUNE, OPEN)
    for text, response in (("empty", b""), ("no password", short("LOGIN") + b"S" + longstr("guest")),
                           ("no login", short("PASSWORD") + b"S" + longstr("guest")),
                           ("numbers", short("LOGIN") + b"I\0\0\0\1" + short("PASSWORD") + b"I\0\0\0\1"),
                           ("octets", short("LOGIN") + b"x" + longstr("guest") + short("PASSWORD") + b"x" + longstr("guest")),
                           ("cut", short("LOGIN") + b"S\0\0\0\x09gue"), ("small letters", short("login") + b"S" + longstr("guest") +
                                                                         short("password") + b"S" + longstr("guest")),
                           ("with a length", longstr(short("LOGIN") + b"S" + longstr("guest")))):
        yield f"AMQPLAIN {text}", row((start_ok(mechanism="AMQPLAIN", response=response), 1), TUNE, OPEN)
    for locale in ("", "en_US ", "de_DE", "l" * 255):
        yield f"locale={locale[:8]!r}", row((start_ok(locale=locale), 1), TUNE, OPEN)
    # --- tune-ok ---
    for number in (0, 1, 2, 2046, 2047, 2048, 65534, 65535):
        yield f"channel-max={number}", row(START, (tune_ok(channel_max=number), 0), OPEN)
    for number in (0, 1, 8, 4095, 4096, 4097, 131071, 131072, 131073, 2 ** 31, 2 ** 32 - 1):
        yield f"frame-max={number}", row(START, (tune_ok(frame_max=number), 0), OPEN)
    for number in (0, 1, 60, 65535):
        yield f"heartbeat={number}", row(START, (tune_ok(heartbeat=number), 0), OPEN)
    yield "everything is wrong", row(START, (tune_ok(65535, 1, 0), 0), OPEN)
    # --- open ---
    for name in ("", "/", "//", "/x", "x" * 255, "a\0b", "line\nend", b"\xff", "%2f", " /"):
        yield f"open {str(name)[:12]!r}", row(START, TUNE, (vhost_open(name), 1))
    for text, data in (("out-of-band text", short("/") + short("x") + b"\0"), ("insist", short("/") + short("") + b"\1"),
                       ("other bits", short("/") + short("") + b"\xfe"), ("no bit", short("/") + short("")),
                       ("one more", short("/") + short("") + b"\0\0"), ("nothing", b"")):
        yield f"open {text}", row(START, TUNE, (method(0, 10, 40, data), 1))
    # --- out of order ---
    channel_open = (method(1, 20, 10, short("")), 1)
    for text, steps in {
            "tune-ok at once": (TUNE, OPEN), "open at once": (OPEN,), "channel.open at once": (channel_open,),
            "start-ok twice": (START, START), "open without tune-ok": (START, OPEN), "tune-ok twice": (START, TUNE, TUNE, OPEN),
            "channel.open before open": (START, TUNE, channel_open), "channel.open without tune-ok": (START, channel_open),
            "close at once": ((method(0, 10, 50, struct.pack(">HBHH", 200, 0, 0, 0)), 1),),
            "close instead of tune-ok": (START, (method(0, 10, 50, struct.pack(">HBHH", 200, 0, 0, 0)), 1)),
            "close instead of open": (START, TUNE, (method(0, 10, 50, struct.pack(">HBHH", 200, 0, 0, 0)), 1)),
            "secure-ok": ((method(0, 10, 21, longstr("")), 1),), "heartbeat at first": ((frame(8, 0, b""), 0), START, TUNE, OPEN),
            "heartbeat between": (START, (frame(8, 0, b""), 0), TUNE, (frame(8, 0, b""), 0), OPEN),
            "start-ok over channel 1": ((method(1, 10, 11, b""), 1),), "open over channel 1": (START, TUNE, (method(1, 10, 40, short("/") + short("") + b"\0"), 1)),
            "tune-ok cut": (START, (method(0, 10, 31, b"\0\0"), 1)), "start-ok cut": ((method(0, 10, 11, b""), 1),),
            "unknown method": ((method(0, 10, 99), 1),), "unknown class": (START, (method(0, 99, 10), 1)),
            "header frame": ((frame(2, 0, b""), 1),), "body frame": ((frame(3, 0, b"x"), 1),),
            "frame end": ((frame(METHOD, 0, struct.pack(">HH", 10, 11), end=0), 1),),
            "server's start": ((method(0, 10, 10, b"\0\x09" + longstr("") + longstr("") + longstr("")), 1),)}.items():
        yield text, row(*steps)
