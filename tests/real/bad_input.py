#!/usr/bin/env python3
"""Bad input on raw sockets: what must come back, and that nobody else notices.

After every case another client, connected all the time, makes a confirmed publish and gets the message
back; the node must be alive and must not have grown.
"""

import argparse
import fnmatch
import os
import struct
import sys
import time

import bad_frames
import bad_handshake
import bad_link
import bad_methods
import cluster as clusters
from amqp_raw import BODY, METHOD, Ended, Raw, content, frame, method, publish, queue_declare, \
    short

sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import later  # noqa: E402  pylint: disable=wrong-import-position

GROWTH_MAX = 256 << 20
PING_S = 5.0


class Bystander:
    """A client that minds its own business."""

    def __init__(self, port):
        self.raw = Raw(port).open()
        self.queue, self.number = f"bystander.{os.getpid()}", 0
        self.raw.send(queue_declare(1, self.queue, 4), method(1, 85, 10, b"\0"))
        self.raw.expect(50, 11)
        self.raw.expect(85, 11)

    def ping(self):
        self.number += 1
        body = str(self.number).encode()
        self.raw.send(publish(1, "", self.queue), content(1, len(body)), frame(BODY, 1, body))
        self.raw.expect(60, 80, PING_S)
        self.raw.send(method(1, 60, 70, b"\0\0" + short(self.queue) + b"\1"))
        self.raw.expect(60, 71, PING_S)
        self.raw.read_frame(PING_S)
        kind, _channel, got = self.raw.read_frame(PING_S)
        if kind == METHOD or got != body:
            raise ValueError(f"got {got!r} instead of {body!r}")


class Suite:
    def __init__(self, cluster, pattern, listed):
        self.cluster, self.node, self.pattern = cluster, cluster.nodes[0], pattern
        self.listed, self.later = listed, 0
        self.bystander = Bystander(self.node.amqp_port)
        self.rss = self.node.rss_bytes()
        self.passed, self.failed = 0, 0

    def case(self, name, run):
        """Runs one case; run(port) returns None or what is wrong."""
        if not fnmatch.fnmatchcase(name, self.pattern):
            return
        begun = time.monotonic()
        try:
            why = run(self.node.amqp_port)
        except (OSError, Ended, ValueError, TimeoutError, struct.error) as error:
            why = f"{type(error).__name__} {error}"
        others = self.others()
        seconds = time.monotonic() - begun
        if why and not others and name in self.listed:
            self.later += 1
            print(f"later  {name}: {self.listed[name]}", flush=True)
            return
        if name in self.listed and not why:
            print(f"passes {name}: is still in the list of what comes later", flush=True)
        why = why or others
        if why:
            self.failed += 1
            print(f"not ok {name}: {why}", flush=True)
        else:
            self.passed += 1
            print(f"ok {name} ({seconds:.1f} s)", flush=True)

    def others(self):
        if not self.node.running:
            return f"the node has ended: {self.cluster.tail(self.node)}"
        try:
            self.bystander.ping()
        except (OSError, Ended, ValueError, TimeoutError, struct.error) as error:
            self.bystander.raw.close()
            why = f"another client was disturbed: {type(error).__name__} {error}"
            try:
                self.bystander = Bystander(self.node.amqp_port)
            except (OSError, Ended, ValueError, TimeoutError, struct.error) as second:
                why += f"; and none can connect: {type(second).__name__} {second}"
            return why
        grown = self.node.rss_bytes() - self.rss
        if grown > GROWTH_MAX:
            self.rss = self.node.rss_bytes()
            return f"the node has grown by {grown >> 20} MiB"
        return None


def cluster_port_cases(suite):
    """What a stranger may send to the port for other nodes."""
    port = suite.node.cluster_port

    def sends(data):
        def run(_port):
            with Raw(port) as raw:
                raw.send(data)
                try:
                    raw.wait_eof(15)
                except TimeoutError:
                    return "the cluster port keeps a stranger connected for 15 s"
            return None
        return run
    for name, data in (
            ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20),
            ("amqp", b"AMQP\x00\x00\x09\x01"),
            ("tls", bad_handshake.CLIENT_HELLO),
            ("zeros", bytes(1 << 16)),
            ("ones", b"\xff" * (1 << 16)),
            ("noise", bytes((i * 7919 + (i >> 8) * 104729) & 0xFF for i in range(1 << 18)))):
        suite.case(f"cluster.{name}", sends(data))

    def half(_port):
        raws = [Raw(port) for _ in range(50)]
        for i, raw in enumerate(raws):
            raw.send(b"\x00" * (i % 8))
            raw.reset()
        return None
    suite.case("cluster.reset", half)


def stranger_case(suite, options):
    """A node with another cookie must not become a member."""
    def run(_port):
        driver = suite.cluster.driver
        folder = suite.cluster.folder + "-stranger"
        with clusters.Cluster(driver, 2, folder) as other:
            one, stranger = other.nodes
            # its first peer is our node; the second is itself, with another secret
            one.name, one.cluster_port = suite.node.name, suite.node.cluster_port
            stranger.name = "stranger@localhost"
            driver.configure(stranger, other.nodes, "another-cookie")
            other.start(stranger)
            end = time.monotonic() + 4
            while time.monotonic() < end and stranger.running:
                time.sleep(0.1)
            status = suite.cluster.ctl_json("cluster_status")
        if status is not None and "stranger@localhost" in str(status):
            return f"it is a member: {status}"
        return None
    if options.driver == "warren":
        suite.case("cluster.wrong-cookie", run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--check", default="*", help="only cases that match, such as 'frame.*'")
    parser.add_argument("--later", help="file of cases that may fail: tests/compat/later.txt")
    options = parser.parse_args()
    with clusters.from_options(options, 1, "bad") as cluster:
        cluster.form()
        suite = Suite(cluster, options.check, later.read(options.later))
        waiting = bad_handshake.Silent(suite.node.amqp_port)
        for module in (bad_handshake, bad_frames, bad_methods):
            for name, run in module.CASES:
                suite.case(name, run)
        cluster_port_cases(suite)
        if options.driver == "warren":
            for name, run in bad_link.CASES:
                suite.case(name, lambda _port, run=run: run(suite.node.cluster_port, clusters.COOKIE))
        stranger_case(suite, options)
        suite.case("handshake.silent", waiting.check)
        suite.bystander.raw.close()
        for problem in cluster.end():
            print(f"not ok stop: {problem}")
            suite.failed += 1
        print(f"bad input: {suite.passed} passed, {suite.failed} failed, {suite.later} later")
        if suite.failed or options.keep:
            raise SystemExit(1 if suite.failed else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
