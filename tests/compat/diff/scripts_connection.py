"""Logging in, choosing a virtual host, closing: what is told to whom is refused."""

import struct

from amqp_codec import put_method, put_table
from amqp_raw import BODY, HEARTBEAT, Ended, content, frame, longstr, method, short, start_ok, \
    tune_ok, vhost_open
from registry import script
from session import CAPABILITIES, DEADLINE_S, quoted

PATIENCE_S = max(DEADLINE_S, 10)
SMALLEST = 4096     # frame_max


def outcome(t, raw, what):
    """Reads to the end of it: a close, or the end of the stream."""
    kind, code, text, class_id, method_id = raw.read_close(PATIENCE_S)
    t.record(f"{what}: {kind} {code} {quoted(text, True)} for {class_id}.{method_id}")


def login(t, what, **fields):
    with t.broker.raw() as raw:
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
        with t.broker.raw() as raw:
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
    for name, data in (("start-ok", start_ok()), ("secure-ok", method(0, 10, 21, longstr("x"))),
                       ("tune-ok", tune_ok()), ("open", vhost_open()), ("close-ok", put_method(0, "connection.close-ok")),
                       ("channel.open on 0", put_method(0, "channel.open")),
                       ("queue.declare on 0", put_method(0, "queue.declare", queue="q"))):
        with t.broker.raw() as raw:
            raw.open(channel=False)
            raw.send(data)
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
    with t.broker.raw() as raw:
        raw.open(channel=False, channel_max=3)
        for number in (1, 2, 3):
            raw.open_channel(number)
        raw.send(method(4, 20, 10, short("")))
        outcome(t, raw, "a fourth of three")


@script("1")
def frames_too_large(t):
    """Eight octets more than the rule are let pass."""
    for size, what in ((4096, "a payload of the maximum"), (4097, "one more")):
        with t.broker.raw() as raw:
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


@script("3")
def heartbeats(t):
    """Of the broker, when nothing else goes; a client that says nothing for too long is cut off."""
    with t.broker.raw() as raw:
        raw.open(channel=False, heartbeat=1)
        for _ in range(2):
            kind, number, payload = raw.read_frame(PATIENCE_S)
            t.record(f"frame {kind} on {number}, {len(payload)} octets")
        try:
            while raw.read_frame(PATIENCE_S)[0] == HEARTBEAT:
                pass
            t.record("something else came")
        except Ended:
            t.record("the peer hung up")


@script("12", "17")
def large_bodies_in_small_frames(t):
    """Both ways over a connection of the smallest frames, and back as a return."""
    body = bytes(range(251)) * 12000
    pieces = [body[at:at + SMALLEST - 8] for at in range(0, len(body), SMALLEST - 8)]
    with t.broker.raw() as raw:
        raw.open(frame_max=SMALLEST)
        name = t.name("q")
        raw.send(put_method(1, "queue.declare", queue=name))
        raw.expect(50, 11)
        for key, mandatory in ((name, 0), (t.name("nowhere"), 1)):
            raw.send(put_method(1, "basic.publish", exchange="", key=key, mandatory=mandatory,
                                immediate=0), content(1, len(body)),
                     *[frame(BODY, 1, piece) for piece in pieces])
        raw.send(put_method(1, "basic.get", queue=name, no_ack=1))
        for method_id, what in ((50, "return"), (71, "get-ok")):
            raw.expect(60, method_id, PATIENCE_S)
            raw.read_frame(PATIENCE_S)
            got, largest = b"", 0
            while len(got) < len(body):
                piece = raw.read_frame(PATIENCE_S)[2]
                got, largest = got + piece, max(largest, len(piece))
            t.record(f"{what}: {len(got)} octets, as sent: {got == body}, frames of {largest} and less")


@script("4")
def an_error_before_the_clients_close(t):
    """Nonsense and connection.close in one breath: the client hears of the error all the same."""
    for what, data in (("second open", vhost_open()), ("second tune-ok", tune_ok()),
                       ("declare on 0", put_method(0, "queue.declare", queue="x")),
                       ("closed channel", put_method(9, "queue.declare", queue="x")),
                       ("channel opened twice", method(1, 20, 10, short(""))),
                       ("heartbeat on a channel", frame(HEARTBEAT, 1, b"")),
                       ("body without a method", frame(BODY, 1, b"x")),
                       ("header of another class", put_method(1, "basic.publish", key="x") +
                        content(1, 5, class_id=50))):
        with t.broker.raw() as raw:
            raw.open()
            raw.send(data + put_method(0, "connection.close", code=200))
            outcome(t, raw, what)


@script("1", "55")
def update_secret(t):
    """The internal back end looks at no secret; what is open goes on."""
    a = t.connect()
    ch = a.channel()
    for secret in ("guest", "another", ""):
        a.own.call("connection.update-secret", secret=secret, reason="its time is over")
    t.queue(ch)
