"""Logging in, choosing a virtual host, closing: what is told to whom is refused."""

import struct

from amqp_codec import put_method, put_table
from amqp_raw import Raw, longstr, method, short, start_ok, tune_ok, vhost_open
from registry import script
from session import CAPABILITIES, DEADLINE_S, quoted

PATIENCE_S = max(DEADLINE_S, 10)


def outcome(t, raw, what):
    """Reads to the end of it: a close, or the end of the stream."""
    kind, code, text, class_id, method_id = raw.read_close(PATIENCE_S)
    t.record(f"{what}: {kind} {code} {quoted(text, True)} for {class_id}.{method_id}")


def login(t, what, **fields):
    with Raw(t.broker.ports[0]) as raw:
        raw.start()
        raw.send(start_ok(**fields))
        found = raw.read_method(PATIENCE_S)
        if found[1:3] == (10, 30):
            t.record(f"{what}: logged in")
            return
        code, size = struct.unpack(">HB", found[3][:3])
        t.record(f"{what}: close {code} {quoted(found[3][3:3 + size], True)}")


def table_response(*pairs):
    return put_table(list(pairs))[4:]


@script("1")
def wrong_password(t):
    for mechanism, response in (("PLAIN", b"\0guest\0wrong"), ("PLAIN", b"\0nobody\0guest"),
                                ("AMQPLAIN", table_response(("LOGIN", "guest"), ("PASSWORD", "wrong")))):
        login(t, f"{mechanism} {quoted(response)}", mechanism=mechanism, response=response)


@script("1")
def logging_in(t):
    for mechanism, response in (("PLAIN", b"\0guest\0guest"),
                                ("AMQPLAIN", table_response(("LOGIN", "guest"), ("PASSWORD", "guest"))),
                                ("AMQPLAIN", table_response(("PASSWORD", "guest"), ("LOGIN", "guest"))),
                                ("AMQPLAIN", table_response(("x", 1), ("LOGIN", "guest"), ("PASSWORD", "guest")))):
        login(t, f"{mechanism} {quoted(response)}", mechanism=mechanism, response=response)
    login(t, "other locale", locale="de_DE")
    login(t, "no locale", locale="")


@script("1", "5")
def virtual_hosts(t):
    for vhost in ("/", "missing", "", "//", "/ ", "größe"):
        with Raw(t.broker.ports[0]) as raw:
            raw.start()
            raw.send(start_ok(properties=put_table({"capabilities": {n: True for n in CAPABILITIES}})[4:]))
            raw.expect(10, 30)
            raw.send(tune_ok(), vhost_open(vhost))
            found = raw.read_method(PATIENCE_S)
            if found[1:3] == (10, 41):
                t.record(f"{quoted(vhost)}: open-ok")
                continue
            code, size = struct.unpack(">HB", found[3][:3])
            t.record(f"{quoted(vhost)}: close {code} {quoted(found[3][3:3 + size], True)}")


@script("1")
def methods_of_other_states(t):
    """Once the connection is open, what belongs to its beginning is refused."""
    for name, frame in (("start-ok", start_ok()), ("secure-ok", method(0, 10, 21, longstr("x"))),
                        ("tune-ok", tune_ok()), ("open", vhost_open()), ("close-ok", put_method(0, "connection.close-ok")),
                        ("channel.open on 0", put_method(0, "channel.open")),
                        ("queue.declare on 0", put_method(0, "queue.declare", queue="q"))):
        with Raw(t.broker.ports[0]) as raw:
            raw.open(channel=False)
            raw.send(frame)
            outcome(t, raw, name)


@script("1", "4")
def closes_of_a_client(t):
    """Any code and text; what comes after it is not read."""
    a = t.connect()
    for code, text in ((200, "bye"), (0, ""), (65535, "x" * 255)):
        ch = a.channel()
        ch.call("channel.close", code=code, text=text)
        del a.channels[ch.number]
    a.own.call("connection.close", code=320, text="done")
    a.gone()


@script("4")
def channel_max(t):
    with Raw(t.broker.ports[0]) as raw:
        raw.open(channel=False, channel_max=3)
        for number in (1, 2, 3):
            raw.open_channel(number)
        raw.send(method(4, 20, 10, short("")))
        outcome(t, raw, "a fourth of three")


@script("1")
def frames_too_large(t):
    """Eight octets more than the rule are let pass."""
    for size, what in ((4096, "a payload of the maximum"), (4097, "one more")):
        with Raw(t.broker.ports[0]) as raw:
            raw.open(frame_max=4096)
            payload = struct.pack(">HH", 50, 10) + b"\0\0\1q\0"
            table = put_table({"x": "y" * (size - len(payload) - 11)})
            raw.send(b"\1\0\1" + struct.pack(">I", size) + (payload + table)[:size] + b"\xce")
            found = raw.read_method(PATIENCE_S)
            t.names.append("q")
            if found[1:3] == (50, 11):
                t.record(f"{what}: declare-ok")
            else:
                t.record(f"{what}: close {struct.unpack('>H', found[3][:2])[0]}")


@script("1", "55")
def update_secret(t):
    """The internal back end looks at no secret; what is open goes on."""
    a = t.connect()
    ch = a.channel()
    for secret in ("guest", "another", ""):
        a.own.call("connection.update-secret", secret=secret, reason="its time is over")
    t.queue(ch)
