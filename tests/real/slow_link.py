#!/usr/bin/env python3
"""Links between nodes that are slow and full: what takes long on its way is not taken for dead, and not lost.

Each node is reached by the others through a relay that lets so many bytes per second pass. The nodes name an
address of the loopback network at which the relay listens, and listen at another one themselves.
"""

import argparse
import os
import select
import socket
import struct
import sys
import threading
import time

import cluster as clusters
from amqp_raw import BODY, Ended, Raw, content, frame, method, publish, queue_declare
from cluster import LOOPBACK, ClusterError

RATE = 3_000_000        # bytes per second, of all links towards a node
BUFFER = 65536
DURABLE = 2
PIECE = 100_000         # of a body, in one frame
LARGE = 12_000_000      # some four seconds of a link
SLOWER = 200_000        # bytes per second
MIDDLE = 600_000        # three seconds then, and less than a kernel takes at once
TABLE_QUORUM = b"\x0cx-queue-typeS" + struct.pack(">I", 6) + b"quorum"


class Relay(threading.Thread):
    """From `listen` to `target`; only what is sent that way is slow."""

    def __init__(self, listen, target, rate):
        super().__init__(daemon=True)
        self.target, self.rate, self.free_at, self.over = target, rate, 0.0, False
        self.server = socket.create_server(listen)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.other = {}         # socket -> where its bytes go
        self.slow = set()       # sockets of those who connect
        self.start()

    def forget(self, one):
        for each in (one, self.other.pop(one, None)):
            if each is not None:
                self.other.pop(each, None)
                self.slow.discard(each)
                each.close()

    def accept(self):
        client = self.server.accept()[0]
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        self.other[client], self.other[server] = server, client
        self.slow.add(client)

    def pass_on(self, one):
        try:
            data = one.recv(BUFFER)
            if data:
                self.other[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            self.forget(one)
        elif one in self.slow:
            self.free_at = max(self.free_at, time.monotonic()) + len(data) / self.rate

    def run(self):
        while not self.over:
            wait = self.free_at - time.monotonic()
            heard = [self.server] + [one for one in self.other if wait <= 0 or one not in self.slow]
            ready = select.select(heard, [], [], max(0.001, min(wait, 0.1)) if wait > 0 else 0.1)[0]
            for one in ready:
                if one is self.server:
                    self.accept()
                elif one in self.other:
                    self.pass_on(one)

    def end(self):
        self.over = True
        self.join()
        for one in list(self.other):
            self.forget(one)
        self.server.close()


class SlowDriver(clusters.WarrenDriver):
    """Others reach a node where its name says: there is the relay."""

    def relay_host(self, index):
        return f"127.0.1.{index}"

    def node_name(self, index, _ports, host):
        return f"warren{index}@{self.relay_host(index)}"


class Client:
    def __init__(self, node, queue, arguments=b""):
        self.raw, self.queue = Raw(node.amqp_port, host=node.host).open(), queue
        self.sent = self.confirmed = 0
        self.raw.send(queue_declare(1, queue, DURABLE, arguments), method(1, 85, 10, b"\0"))
        self.raw.expect(50, 11)
        self.raw.expect(85, 11)

    def publish(self, size):
        pieces = [frame(BODY, 1, b"x" * min(PIECE, size - at)) for at in range(0, size, PIECE)]
        self.raw.send(publish(1, "", self.queue), content(1, size, 0x1000, b"\2"), *pieces)
        self.sent += 1

    def wait_confirms(self, seconds):
        end = time.monotonic() + seconds
        while self.confirmed < self.sent:
            arguments = self.raw.expect(60, 80, max(0.01, end - time.monotonic()))
            tag, multiple = struct.unpack(">QB", arguments[:9])
            self.confirmed = tag if multiple else max(self.confirmed + 1, tag)


def silences(cluster):
    """Lines of the event logs that say that somebody is not heard of."""
    found = []
    for node in cluster.nodes:
        with open(os.path.join(node.folder, "log"), encoding="utf-8") as file:
            found += [f"{node.name}: {line.strip()}" for line in file if "silent" in line]
    return found


def large_message(cluster):
    """It takes longer to cross a link than a node may be silent."""
    client = Client(cluster.nodes[0], "large", TABLE_QUORUM)
    client.publish(10)
    client.wait_confirms(20)
    client.publish(LARGE)
    client.wait_confirms(60)


def behind_the_kernel(cluster, relays):
    """The whole message fits into what our own kernel takes: nothing is left to be seen going down."""
    client = Client(cluster.nodes[0], "middle", TABLE_QUORUM)
    client.publish(10)
    client.wait_confirms(20)
    for relay in relays:
        relay.rate = SLOWER
    client.publish(MIDDLE)
    client.wait_confirms(60)
    for relay in relays:
        relay.rate = RATE


def run(options, folder):
    driver = SlowDriver(os.path.abspath(options.warren), os.path.abspath(options.warrenctl),
                        options.shards)
    with clusters.Cluster(driver, 3, folder) as cluster:
        relays = [Relay((driver.relay_host(node.index), node.cluster_port),
                        (LOOPBACK, node.cluster_port), RATE) for node in cluster.nodes]
        try:
            cluster.form()
            large_message(cluster)
            behind_the_kernel(cluster, relays)
            return silences(cluster) + cluster.end()
        except (OSError, Ended, ClusterError) as error:
            return [f"{type(error).__name__} {error}"] + silences(cluster)
        finally:
            for relay in relays:
                relay.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    folder = options.folder or os.path.join(clusters.ROOT, ".dev", "real", "slow-link")
    why = run(options, f"{os.path.abspath(folder)}-{os.getpid()}")
    print("not ok slow-link: " + "\n".join(why[:10]) if why else "ok slow-link", flush=True)
    print(f"slow_link: {0 if why else 1} passed, {1 if why else 0} failed")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
