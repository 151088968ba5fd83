"""Bad input on the cluster port: strangers that know the protocol, and peers that know the cookie but are broken.

Each case is run(port, cookie) and returns None or what is wrong.
"""

import random
import struct

from amqp_raw import Ended
from link_raw import CONTROL, PARCEL, PONG, PROOF, REFUSED, REPLY, REQUEST, TOOL, Link, frame, parcel

CASES = []


def case(name):
    def add(function):
        CASES.append((name, function))
        return function
    return add


def refused(answer):
    return None if answer[0] == REFUSED and b"another cluster cookie" in answer[1] else str(answer)


def peer(port, cookie):
    """A good handshake as a node of the same cluster."""
    with Link(port, cookie) as first:
        first.greet()
        cluster = first.cluster()
    return Link(port, cookie, cluster=cluster).open()


def works(port, cookie):
    """A tool is answered."""
    with Link(port, cookie, TOOL).open() as tool:
        tool.send(frame(REQUEST, b'{"command":"ping"}'))
        kind, payload = tool.read()
        return None if kind == REPLY and b"succeeded" in payload else f"{kind} {payload!r}"


@case("link.wrong-cookie")
def wrong_cookie(port, _cookie):
    with Link(port, "another") as link:
        return refused(link.shake_hands())


@case("link.replayed-proof")
def replayed(port, cookie):
    with Link(port, cookie).open() as link:
        hello, mac = link.hello, link.mac(b"warren link initiator")
    with Link(port, "unknown") as again:
        again.hello = hello
        again.greet()
        again.send(frame(PROOF, mac))
        return refused(again.read())


@case("link.reflected-proof")
def reflected(port, _cookie):
    with Link(port, "unknown") as link:
        mac = link.greet()
        link.send(frame(PROOF, mac))
        return refused(link.read())


@case("link.announced-600-mb")
def announced(port, cookie):
    links = [peer(port, cookie) for _ in range(50)]
    for link in links:
        link.send(struct.pack("<II", 600 << 20, 0) + bytes(1 << 16))
    why = works(port, cookie)
    for link in links:
        link.socket.close()
    return why


@case("link.impossible-sizes")
def impossible(port, cookie):
    for size in (0, (600 << 20) + 1, 0xFFFFFFFF):
        with peer(port, cookie) as link:
            link.send(struct.pack("<II", size, 0) + bytes(100))
            try:
                return f"answered {link.read()}"
            except Ended:
                pass
    return works(port, cookie)


@case("link.parcels-of-noise")
def noise(port, cookie):
    draw = random.Random(1)
    bodies = [b"", b"\0", bytes(4), b"\xff" * 4, struct.pack("<I", 1) + b"\x01",
              struct.pack("<I", 9) + b"\x01" + b"\xff" * 8, draw.randbytes(60)]
    with peer(port, cookie) as link:
        link.send(*[frame(PARCEL, parcel(kind, group, body, to_shard))
                    for kind in range(30) for group in (0, 1, 2, 1 << 63) for body in bodies
                    for to_shard in (0, 99, 0xFFFFFFFF)])
        link.send(frame(PARCEL, b""), frame(PARCEL, b"\1" * 17))
        return works(port, cookie)


@case("link.other-frames-of-noise")
def other_frames(port, cookie):
    draw = random.Random(2)
    with peer(port, cookie) as link:
        link.send(*[frame(kind, draw.randbytes(draw.randrange(40)))
                    for kind in range(1, 256) if kind != PARCEL for _ in range(5)])
        link.send(*[frame(CONTROL, data) for data in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                                                      b"\x91" * 3000, b"\x99" + b"\xc0" * 9)])
        link.send(*[frame(kind, b"") for kind in (PONG, CONTROL, REQUEST, REPLY)])
        return works(port, cookie)


@case("link.hostile-json")
def hostile_json(port, cookie):
    for data in (b"", b"{", b"null", b"[]", b'{"command":1}', b'{"command":"\\u0000"}',
                 b'{"command":"' + b"A" * 100000 + b'"}', b"[" * 100000, b'{"a":' * 50000,
                 b'{"command":"list_queues","vhost":7}', b'{"command":"list_queues","vhost":"none"}',
                 b'{"command":"list_connections","local":"x","for":-1}',
                 b'{"command":"list_channels","for":99999999999999999999999}',
                 b'{"command":"await_startup","timeout":1e308}', b'\xff{"command":"ping"}'):
        with Link(port, cookie, TOOL).open() as tool:
            tool.send(frame(REQUEST, data))
            kind, payload = tool.read()
            if kind != REPLY or not payload.startswith(b"{"):
                return f"{data[:40]!r}: {kind} {payload[:80]!r}"
    return works(port, cookie)


@case("link.tool-that-asks-without-end")
def without_end(port, cookie):
    with Link(port, cookie, TOOL).open() as tool:
        tool.send(frame(REQUEST, b'{"command":"list_queues"}') * 20000)
        try:
            for _ in range(20000):
                tool.read(10)
            return "20,000 listings at once were answered"
        except Ended:
            return works(port, cookie)
