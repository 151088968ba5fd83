#!/usr/bin/env python3
"""Consumers and requesters that do not do their part, on three real nodes.

- A consumer that holds a message longer than its limit is cancelled and the message comes again; a client
  that does not take basic.cancel has its channel closed.
- x-cancel-on-ha-failover: the leader of the queue is killed, the consumer hears of it, one without the
  argument does not and can still ack.
- A requester that does not read its replies makes its node drop them, not grow; it goes on afterwards.
"""

import argparse
import struct
import sys
import time

import cluster as clusters
from amqp_raw import BODY, CONTENT, METHOD, Raw, content, frame, longstr, method, publish, \
    queue_declare, short, start_ok, tune_ok, vhost_open

QUORUM = short("x-queue-type") + b"S" + longstr("quorum")
NOTIFY = short("capabilities") + b"F" + longstr(short("consumer_cancel_notify") + b"t\1")
REPLY_TO = "amq.rabbitmq.reply-to"
GROWTH_MAX = 320 << 20         # the address sanitizer alone keeps 256 MiB of what was freed
PERSISTENT = (1 << 12, b"\2")


class Failed(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failed(what)


def connect(node, notify=True):
    raw = Raw(node.amqp_port)
    raw.start()
    raw.send(start_ok(properties=NOTIFY if notify else b""))
    raw.expect(10, 30)
    raw.send(tune_ok(), vhost_open())
    raw.expect(10, 41)
    raw.open_channel(1)
    return raw


def put(raw, key, body, flags=0, properties=b""):
    raw.send(publish(1, "", key), content(1, len(body), flags, properties), frame(BODY, 1, body))


def consume(raw, queue, tag, arguments=b"", bits=0):
    raw.send(method(1, 60, 20, b"\0\0" + short(queue) + short(tag) + bytes([bits]) +
                    longstr(arguments)))
    raw.expect(60, 21)


def delivery(raw, seconds=10):
    """(delivery tag, redelivered) of the next one; its content is read, too."""
    arguments = raw.expect(60, 60, seconds)
    at = 1 + arguments[0]
    raw.read_frame()
    raw.read_frame()
    return struct.unpack(">QB", arguments[at:at + 9])


def ack(raw, tag):
    raw.send(method(1, 60, 80, struct.pack(">QB", tag, 0)))


def declare(raw, queue, bits=2, arguments=QUORUM):
    raw.send(queue_declare(1, queue, bits, arguments))
    raw.expect(50, 11)


def get(raw, queue):
    """Whether there was a message."""
    raw.send(method(1, 60, 70, b"\0\0" + short(queue) + b"\1"))
    found = raw.read_method()
    if found[1:3] == (60, 71):
        raw.read_frame()
        raw.read_frame()
    return found[1:3] == (60, 71)


def overdue(cluster):
    with connect(cluster.nodes[0]) as one, connect(cluster.nodes[1], notify=False) as mute:
        declare(one, "overdue", arguments=QUORUM + short("x-consumer-timeout") + b"I" +
                struct.pack(">i", 1500))
        put(one, "overdue", b"x", *PERSISTENT)
        consume(one, "overdue", "stuck")
        expect(delivery(one) == (1, 0), "the first delivery is redelivered")
        tag = one.expect(60, 30, 10)
        expect(tag == short("stuck") + b"\1", f"basic.cancel {tag!r}")
        ack(one, 1)  # too late, and no error
        consume(mute, "overdue", "mute")
        expect(delivery(mute) == (1, 1), "the second delivery is not redelivered")
        found = mute.read_close(10)
        expect(found[:2] == ("channel", 406) and "Timeout value used: 1500 ms" in found[2],
               f"{found}")
        consume(one, "overdue", "good")
        tag, redelivered = delivery(one)
        expect(redelivered == 1, "the third delivery is not redelivered")
        ack(one, tag)
        one.send(method(1, 60, 30, short("good") + b"\0"))
        one.expect(60, 31)
        expect(not get(one, "overdue"), "something is left")


def failover(cluster):
    leader, other = cluster.nodes[0], cluster.nodes[1]
    with connect(leader) as home, connect(other) as one, connect(other) as two:
        declare(home, "failover", arguments=QUORUM + short("x-queue-leader-locator") + b"S" +
                longstr("client-local"))
        consume(one, "failover", "told", short("x-cancel-on-ha-failover") + b"t\1")
        consume(two, "failover", "stays")
        for _ in range(2):  # in turn
            put(home, "failover", b"x", *PERSISTENT)
        expect(delivery(one) == (1, 0), "the first delivery")
        tag, _ = delivery(two)
        cluster.kill(leader)
        found = one.expect(60, 30, 15)
        expect(found == short("told") + b"\1", f"basic.cancel {found!r}")
        ack(one, 1)  # no error
        ack(two, tag)
        again, redelivered = delivery(two, 15)  # what the other one held
        expect(redelivered == 1, "what was taken away is not marked")
        ack(two, again)
        two.send(method(1, 60, 30, short("stays") + b"\0"))
        two.expect(60, 31, 15)
        expect(not get(two, "failover"), "something is left")
    cluster.start(leader)
    cluster.wait_ready([leader])


def slow_requester(cluster):
    asker, answerer = cluster.nodes[0], cluster.nodes[1]
    body = b"r" * 10000
    with connect(asker) as one, connect(answerer) as two:
        declare(two, "requests", 0, b"")
        consume(one, REPLY_TO, "r", bits=2)
        put(one, "requests", b"?", 1 << 9, short(REPLY_TO))
        end = time.monotonic() + 10
        while True:  # its reply-to
            two.send(method(1, 60, 70, b"\0\0" + short("requests") + b"\1"))
            if two.read_method()[1:3] == (60, 71):
                break
            expect(time.monotonic() < end, "the request did not come")
        properties = two.read_frame()[2][14:]
        two.read_frame()
        name = properties[1:1 + properties[0]].decode()
        before = [node.rss_bytes() for node in cluster.nodes]
        for _ in range(50):
            for _ in range(1000):
                put(two, name, body)
            two.send(queue_declare(1, name))  # it is there, and has been sent all before
            two.expect(50, 11, 30)
        for node, rss in zip(cluster.nodes, before):
            grown = node.rss_bytes() - rss
            expect(grown < GROWTH_MAX, f"{node.name} has grown by {grown >> 20} MiB")
        got = 0
        try:
            while True:
                kind, _channel, _payload = one.read_frame(2)
                got += kind == CONTENT
                expect(kind != METHOD or got < 50000, "nothing was dropped")
        except TimeoutError:
            pass
        expect(got >= 100, f"only {got} replies came")
        put(two, name, b"again")
        delivery(one)


STEPS = (overdue, slow_requester, failover)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    failed = 0
    with clusters.from_options(options, 3, "consumers") as cluster:
        cluster.form()
        for step in STEPS:
            try:
                step(cluster)
                print(f"ok {step.__name__}", flush=True)
            except (Failed, OSError, ValueError, TimeoutError, struct.error) as error:
                failed += 1
                print(f"not ok {step.__name__}: {type(error).__name__} {error}", flush=True)
        for problem in cluster.end():
            failed += 1
            print(f"not ok stop: {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
