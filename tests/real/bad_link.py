"""Bad input on the cluster port: strangers that know the protocol, and peers that know the cookie but are broken.

Each case is run(port, cookie) and returns None or what is wrong.
"""

import json
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


COMMANDS = (
    "add_user delete_user change_password clear_password hash_password set_user_tags "
    "add_vhost update_vhost_metadata set_vhost_tags delete_vhost restart_vhost set_permissions "
    "set_permissions_globally clear_permissions set_topic_permissions clear_topic_permissions "
    "set_policy clear_policy set_operator_policy clear_operator_policy set_vhost_limits "
    "clear_vhost_limits set_user_limits clear_user_limits set_parameter clear_parameter "
    "set_global_parameter clear_global_parameter set_cluster_name trace_on trace_off "
    "set_vm_memory_high_watermark set_disk_free_limit set_log_level environment list_users list_vhosts "
    "list_permissions list_user_permissions list_topic_permissions list_user_topic_permissions "
    "list_vhost_limits list_user_limits list_policies list_operator_policies "
    "list_policies_that_match list_parameters list_global_parameters purge_queue delete_queue peek "
    "copy move delete_messages close_connections list_queues list_exchanges list_bindings "
    "list_consumers list_connections list_channels status cluster_status ping").split()
OPTIONS = ("priority apply-to description tags default-queue-type hashing-algorithm user filter "
           "places page from end limit dry-run bodies global if-empty if-unused object-type "
           "pre-hashed-password").split()
# nothing that names what the other cases use: "/", guest, their queues
TEXTS = ["", "a", "fuzz", "fuzz2", "\u00e9" * 100, "x" * 255, "x" * 256, "x" * 70000, "(", "^fuzz-",
         "{}", "[1]", "{", "5", "-1", "all", "max-channels", "none", "AAAA", "quorum", "queues",
         '{"max-length":1}', '{"max-connections":5}', '{"max-queues":1e400}', '{"a":"\\u0000"}',
         '{"' + "k" * 300 + '":1}', '{"a":' * 14 + "1" + "}" * 14, '{"a":' * 40 + "1" + "}" * 40,
         "[" * 1900 + "]" * 1900, '{"ha-mode":"nodes","ha-params":[1]}', "a,b,,c", "," * 500,
         "headers.x = 1", "((((", "priority ~ '('", "<a@b.1.1.0>", "name"]


def any_json(draw, depth=0):
    """Any JSON value; in the places where texts belong mostly a text."""
    kind = draw.randrange(12)
    if kind == 0:
        return draw.choice([None, True, False, 0, -1, 1.5, 1 << 62, -(1 << 63), 1e300])
    if kind == 1 and depth < 3:
        return [any_json(draw, depth + 1) for _ in range(draw.randrange(5))]
    if kind == 2 and depth < 3:
        return {draw.choice(TEXTS)[:80]: any_json(draw, depth + 1) for _ in range(draw.randrange(4))}
    return draw.choice(TEXTS)


def any_option(draw):
    return draw.choice([True, False, 1, 7, 8, 1000, 1001, -5, (1 << 63) - 1, any_json(draw)])


def any_request(draw):
    args = [any_json(draw) for _ in range(draw.choice((0, 1, 1, 2, 2, 3, 4, 4, 60)))]
    request = {"command": draw.choice(COMMANDS), "vhost": draw.choice(["fuzz", "none", any_json(draw)]),
               "args": args if draw.randrange(9) else any_json(draw),
               "options": {draw.choice(OPTIONS): any_option(draw) for _ in range(draw.randrange(5))}
               if draw.randrange(9) else any_json(draw)}
    if request["command"] in ("close_connections", "list_queues", "list_connections"):
        request.update(pids=any_json(draw), reason=any_json(draw), local=any_json(draw),
                       queue_timeout=any_json(draw))
        request["for"] = any_json(draw)
    if draw.randrange(20) == 0:
        request.pop(draw.choice(list(request)))
    return json.dumps(request).encode()


@case("link.administration-of-noise")
def administration(port, cookie):
    """Any JSON where arguments and options belong: each request is answered, and the node lives."""
    draw = random.Random(3)
    with Link(port, cookie, TOOL).open() as tool:
        tool.send(frame(REQUEST, b'{"command":"add_vhost","args":["fuzz"]}'))
        tool.read(30)
        for _ in range(3000):
            request = any_request(draw)
            tool.send(frame(REQUEST, request))
            kind, payload = tool.read(40)
            answer = json.loads(payload)
            if kind != REPLY or not ("result" in answer or "error" in answer):
                return f"{request[:200]!r}: {kind} {payload[:80]!r}"
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
