#!/usr/bin/env python3
"""head_message_timestamp of list_queues: of which message it is, in queues of every kind, in memory and on disk.

With --driver rabbitmq the same checks run on rabbitmqctl, but for those of queues for which RabbitMQ does not say it.
"""

import argparse
import json
import struct
import subprocess
import sys

import cluster as clusters
from amqp_raw import BODY, Raw, content, frame, longstr, method, publish, queue_declare, short
from cluster import ClusterError, wait_until
from ctl_run import WAIT_S, Failed, expect, run_ctl

DURABLE, EXCLUSIVE = 2, 4
PERSISTENT, PRIORITY, TIMESTAMP = 0x1000, 0x0800, 0x0040
BOTH = {"head.durable": (DURABLE, b""), "head.transient": (0, b""), "head.exclusive": (EXCLUSIVE, b""),
        "head.levels": (DURABLE, short("x-max-priority") + b"I" + struct.pack(">i", 5))}
# RabbitMQ reads no message for a listing: of these it says nothing, or only what it has in memory
OURS = {"head.lazy": (DURABLE, short("x-queue-mode") + b"S" + longstr("lazy")),
        "head.quorum": (DURABLE, short("x-queue-type") + b"S" + longstr("quorum"))}


class Checks:
    def __init__(self, cluster):
        self.cluster, self.node = cluster, cluster.nodes[0]
        self.ours = cluster.driver.name == "warren"
        self.queues = dict(BOTH, **OURS) if self.ours else BOTH

    def heads(self):
        code, text, errors = run_ctl(self.cluster, self.node, "-q", "--formatter", "json", "list_queues", "name",
                                     "messages_ready", "messages_unacknowledged", "head_message_timestamp")
        expect("list_queues", (code, errors), (0, ""))
        return {row["name"]: (row["messages_ready"], row["messages_unacknowledged"], row["head_message_timestamp"])
                for row in json.loads(text) if row["name"] in self.queues}

    def wait(self, what, ready, unacknowledged, timestamp):
        """Of all queues, as soon as they have as many messages."""
        found = {}

        def counted():
            found.update(self.heads())
            return all(row[:2] == (ready, unacknowledged) for row in found.values())
        wait_until(counted, WAIT_S, what)
        expect(what, found, dict.fromkeys(found, (ready, unacknowledged, timestamp)))

    def declare(self, raw):
        for name, (flags, arguments) in self.queues.items():
            raw.send(queue_declare(1, name, flags, arguments))
            raw.expect(50, 11, WAIT_S)

    def fill(self, raw, *messages):
        """(timestamp or None, priority), in place of what is in the queues."""
        for name in self.queues:
            raw.send(method(1, 50, 30, b"\0\0" + short(name) + b"\0"))
            raw.expect(50, 31, WAIT_S)
            for timestamp, priority in messages:
                flags, properties = PERSISTENT | PRIORITY, bytes([2, priority])
                if timestamp is not None:
                    flags, properties = flags | TIMESTAMP, properties + struct.pack(">Q", timestamp)
                raw.send(publish(1, "", name), content(1, 1, flags, properties), frame(BODY, 1, b"x"))

    def get(self, raw):
        """One of each queue; the last delivery tag."""
        tag = 0
        for name in self.queues:
            raw.send(method(1, 60, 70, b"\0\0" + short(name) + b"\0"))
            tag, = struct.unpack(">Q", raw.expect(60, 71, WAIT_S)[:8])
        return tag

    def of_which_message(self):
        """The next one's, or that of the oldest that a consumer has, if it is earlier."""
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            self.declare(raw)
            self.wait("empty", 0, 0, "")
            self.fill(raw, (None, 0), (7, 0))
            self.wait("the next has none", 2, 0, "")
            self.fill(raw, (1000, 0), (None, 0), (500, 0), (2000, 0))
            self.wait("all are ready", 4, 0, 1000)
            self.get(raw)
            self.wait("the next has none, the one before has", 3, 1, 1000)
            self.get(raw)
            self.wait("the next is earlier", 2, 2, 500)
            tag = self.get(raw)
            self.wait("the oldest that was given out, not the earliest", 1, 3, 1000)
            raw.send(method(1, 60, 120, struct.pack(">QB", tag, 3)))
            self.wait("all came back", 4, 0, 1000)
            self.fill(raw, (0, 0))
            self.wait("the beginning of time", 1, 0, 0)
            raw.send(method(0, 10, 50, b"\0\xc8" + short("") + b"\0\0\0\0"))
            raw.expect(10, 51, WAIT_S)

    def by_priority(self):
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            self.queues = {"head.levels": BOTH["head.levels"]}
            self.declare(raw)
            self.fill(raw, (300, 1), (200, 5), (100, 0))
            self.wait("levels", 3, 0, 200)

    def on_disk(self):
        """After a restart nothing is in memory: it is read, once."""
        self.queues = {"head.durable": BOTH["head.durable"]}
        if self.ours:
            self.queues.update(OURS)
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            self.declare(raw)
            self.fill(raw, (4000, 0), (3000, 0))
            self.wait("before", 2, 0, 4000)
        self.cluster.stop(self.node)
        self.cluster.start(self.node)
        self.cluster.wait_ready()
        self.wait("read from disk", 2, 0, 4000)
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            self.get(raw)
            self.wait("one is given out", 1, 1, 3000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    failed = 0
    try:
        with clusters.from_options(options, 1, "ctl-head") as cluster:
            cluster.form()
            cluster.wait_ready()
            checks = Checks(cluster)
            for check in (checks.of_which_message, checks.by_priority, checks.on_disk):
                try:
                    check()
                    print(f"ok {check.__name__}")
                except (Failed, ClusterError, ValueError, subprocess.TimeoutExpired) as error:
                    failed += 1
                    print(f"FAILED {check.__name__}: {error!r}")
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
