#!/usr/bin/env python3
"""A node at the limits of its process: descriptors, the size of files, a port that is taken.

Whoever opens connections without end must not keep the node from its own files, and what the system
refuses must be an error with a text.
"""

import argparse
import os
import socket
import struct
import sys
import time

import cluster as clusters
from amqp_raw import BODY, Ended, Raw, answers, content, frame, method, publish, queue_declare
from cluster import ClusterError, wait_until

DURABLE = 2
SMALL_SEGMENTS = ("log.segment_size = 64KiB", "log.segments_max = 3")


class LimitedDriver(clusters.WarrenDriver):
    """Starts the node under prlimit."""

    limits = ()

    def command(self, node):
        command, environment = super().command(node)
        return ["prlimit", *self.limits, *command], environment


class Publisher:
    """Confirmed persistent messages over one connection."""

    def __init__(self, port):
        self.raw, self.sent, self.confirmed = Raw(port).open(), 0, 0
        self.raw.send(queue_declare(1, "limits", DURABLE), method(1, 85, 10, b"\0"))
        self.raw.expect(50, 11)
        self.raw.expect(85, 11)

    def publish(self, number, size=2000, seconds=20):
        body = b"x" * size
        self.raw.send(*[publish(1, "", "limits") + content(1, size, 0x1000, b"\2") +
                        frame(BODY, 1, body) for _ in range(number)])
        self.sent += number
        end = time.monotonic() + seconds
        while self.confirmed < self.sent:
            arguments = self.raw.expect(60, 80, max(0.01, end - time.monotonic()))
            tag, multiple = struct.unpack(">QB", arguments[:9])
            self.confirmed = tag if multiple else max(self.confirmed + 1, tag)


def flood(port, number):
    """Connections that say nothing."""
    raws = []
    for _ in range(number):
        try:
            raws.append(Raw(port, timeout=2.0))
        except OSError:
            break
    return raws


def descriptors(node, cluster, descriptors_max):
    """Connections use up all descriptors that they get; the log still gets its segments."""
    publisher = Publisher(node.amqp_port)
    publisher.publish(10)
    idle = flood(node.amqp_port, descriptors_max + 50) + flood(node.cluster_port, descriptors_max)
    publisher.publish(500)              # some fifteen segments
    if not node.running:
        raise ClusterError(f"the node has ended: {cluster.tail(node)}")
    for raw in idle:
        raw.close()
    wait_until(lambda: answers(node.amqp_port), 20, "new connections are accepted again")
    publisher.publish(10)
    if "turned away" not in cluster.tail(node, 10000):
        raise ClusterError("the event log says nothing of connections that were turned away")


def file_size(node, cluster):
    """A file may not become as large as a segment: the node says so and ends, it is not killed."""
    wait_until(lambda: not node.running, 30, "the node ends")
    text = cluster.tail(node)
    if node.process.returncode != 1 or "too big" not in text:
        raise ClusterError(f"it ended with {node.process.returncode}: {text}")


def port_in_use(node, cluster):
    """Found when the port for clients is opened, long after the start: whoever started it is told."""
    wait_until(lambda: not node.running, 30, "the node ends")
    text = cluster.tail(node)
    if node.process.returncode != 1 or not any(
            line.startswith("stdout:") and "cannot listen on" in line for line in text.split("\n")):
        raise ClusterError(f"it ended with {node.process.returncode}: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    failed = 0
    for name, limits, extra, run in (
            ("descriptors-96", ("--nofile=96",), SMALL_SEGMENTS,
             lambda node, cluster: descriptors(node, cluster, 96)),
            ("file-size", ("--fsize=100000",), (), file_size),
            ("port-in-use", (), (), port_in_use)):
        driver = LimitedDriver(os.path.abspath(options.warren), os.path.abspath(options.warrenctl),
                               options.shards, extra)
        driver.limits = limits
        folder = options.folder or os.path.join(clusters.ROOT, ".dev", "real", "limits")
        with clusters.Cluster(driver, 1, f"{os.path.abspath(folder)}-{name}-{os.getpid()}") as cluster:
            node = cluster.nodes[0]
            taken = socket.socket()
            try:
                if run is port_in_use:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    taken.bind(("127.0.0.1", node.amqp_port))
                    taken.listen()
                cluster.start(node)
                if name.startswith("descriptors"):
                    cluster.wait_ready()
                run(node, cluster)
                why = cluster.end() if node.running else cluster.reports(node)
            except (OSError, Ended, ValueError, ClusterError) as error:
                why = f"{type(error).__name__} {error}"
            finally:
                taken.close()
        failed += bool(why)
        print(f"not ok {name}: {why}" if why else f"ok {name}", flush=True)
    print(f"limits: {3 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
