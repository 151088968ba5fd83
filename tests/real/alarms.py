#!/usr/bin/env python3
"""Memory and disk alarms on real nodes: who is held back, what goes on meanwhile, and that all ends.

One node, and three of which one is short of memory and one of disk space, with publishers and consumers
on every node, on plain sockets and with pika. And a backlog that stays on disk: no alarm at all. And that memory comes back.
"""

import argparse
import os
import struct
import subprocess
import sys
import time

import cluster as clusters
from amqp_raw import (BODY, CONTENT, METHOD, Ended, Raw, frame, longstr, method, publish,
                      queue_declare, short, start_ok, tune_ok, vhost_open)
from cluster import ClusterError, wait_until

sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import clients  # noqa: E402  pylint: disable=wrong-import-position

WAIT_S = 40
WATERMARK = 160_000_000
NO_DISK = "disk_free_limit.absolute = 1000TB"
QUICK = "memory_monitor_interval = 100"
DURABLE = 2
SHALLOW, EACH = 1000, 80
BACKLOG, BACKLOG_WATERMARK = 1_000_000, 256_000_000
QUORUM = short("x-queue-type") + b"S" + longstr("quorum")
ACK, BLOCKED, UNBLOCKED = (60, 80), (10, 60), (10, 61)


class Failed(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {got!r}, not {wanted!r}")


class OwnDriver(clusters.WarrenDriver):
    """Some nodes have lines of their own; `again` writes the file anew, for the next start."""

    own = {}

    def configure(self, node, nodes, cookie):
        super().configure(node, nodes, cookie)
        self.again(node)

    def again(self, node):
        path = os.path.join(node.folder, "warren.conf")
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("disk_free_limit")]
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines + [line + "\n" for line in self.own.get(node.index, ())])


class Client(Raw):
    """One channel in confirm mode, that publishes and consumes; what it was told."""

    def __init__(self, node):
        super().__init__(node.amqp_port, timeout=WAIT_S)
        self.node = node
        self.told, self.answers, self.tags = [], [], []
        self.sent = self.confirmed = self.two = 0
        self.start()
        capabilities = b"".join(short(name) + b"t\x01" for name in
                                ("connection.blocked", "publisher_confirms"))
        self.send(start_ok(properties=short("capabilities") + b"F" + longstr(capabilities)))
        self.expect(10, 30)
        self.send(tune_ok(), vhost_open())
        self.expect(10, 41)
        self.open_channel(1)
        self.send(method(1, 85, 10, b"\0"))
        self.expect(85, 11)

    def declare(self, queue, bits=DURABLE, arguments=b""):
        self.send(queue_declare(1, queue, bits, arguments))
        self.until(lambda: (50, 11) in self.answers, f"{queue} is declared")
        self.answers.clear()

    def publish(self, queue, body=b"m"):
        self.send(publish(1, "", queue), frame(CONTENT, 1, struct.pack(">HHQH", 60, 0, len(body),
                                                                       0x1000) + b"\2"),
                  frame(BODY, 1, body))
        self.sent += 1

    def whole_frame(self, seconds):
        """One frame, or none: half of one stays where it is."""
        end = time.monotonic() + seconds
        while len(self.buffer) < 7 or \
                len(self.buffer) < 8 + struct.unpack(">I", self.buffer[3:7])[0]:
            try:
                self._fill(end)
            except TimeoutError:
                return None
        return self.read_frame(1)

    def pump(self, seconds):
        """One frame, if one comes."""
        found = self.whole_frame(seconds)
        if found is None:
            return
        kind, channel, payload = found
        if kind != METHOD:
            return
        what, arguments = struct.unpack(">HH", payload[:4]), payload[4:]
        if what == ACK and channel == 2:
            self.two = struct.unpack(">Q", arguments[:8])[0]
        elif what == ACK:
            tag, multiple = struct.unpack(">QB", arguments[:9])
            self.confirmed = tag if multiple else max(self.confirmed + 1, tag)
        elif what == BLOCKED:
            self.told.append(arguments[1:].decode())
        elif what == UNBLOCKED:
            self.told.append(None)
        elif what == (60, 60):          # deliver
            size = arguments[0]
            self.tags.append(struct.unpack(">Q", arguments[1 + size:9 + size])[0])
        else:
            self.answers.append(what)

    def open_channel_two(self):
        self.send(method(2, 20, 10, short("")), method(2, 85, 10, b"\0"))
        self.until(lambda: (85, 11) in self.answers, "the second channel is open")

    def on_channel_two(self, queue, count):
        """Confirmed, one after the other."""
        for number in range(1, count + 1):
            self.send(publish(2, "", queue), frame(CONTENT, 2, struct.pack(">HHQH", 60, 0, 1, 0)),
                      frame(BODY, 2, b"m"))
            self.until(lambda number=number: self.two == number, "the other channel's confirm")

    def until(self, test, what, seconds=WAIT_S):
        end = time.monotonic() + seconds
        while not test():
            if time.monotonic() > end:
                raise Failed(f"{self.node.name}: not within {seconds} s: {what}; told {self.told}, "
                             f"{self.confirmed} of {self.sent} confirmed")
            self.pump(0.1)

    def all_confirmed(self):
        self.until(lambda: self.confirmed == self.sent, "everything is confirmed")

    def ack(self, tag, multiple=0):
        self.send(method(1, 60, 80, struct.pack(">QB", tag, multiple)))

    def consume(self, queue, tag):
        self.send(method(1, 60, 20, b"\0\0" + short(queue) + short(tag) + b"\0" + longstr(b"")))

    def ask(self, what, answer, request):
        self.send(request)
        self.until(lambda: answer in self.answers, f"{what} is answered")
        self.answers.remove(answer)


class Scene:
    """A cluster, a filler of memory, and a client on every node that publishes and consumes."""

    def __init__(self, cluster):
        self.cluster, self.nodes = cluster, cluster.nodes
        self.filler = Client(self.nodes[0])
        self.filler.declare("memory", 0)
        self.filled = 0
        self.clients = [Client(node) for node in self.nodes]
        self.expected = {}
        for i, client in enumerate(self.clients):
            client.declare(f"out{i}", DURABLE, QUORUM if len(self.nodes) > 1 else b"")
            client.declare(f"in{i}")
            self.publish(client, i, "in", 5)
            client.all_confirmed()
            client.consume(f"in{i}", "t")
            client.until(lambda client=client: len(client.tags) == 5, "its messages come")

    def publish(self, client, i, queue, count=1):
        for _ in range(count):
            client.publish(f"{queue}{i}")
        name = f"{queue}{i}"
        self.expected[name] = self.expected.get(name, 0) + count

    def counts(self):
        rows = self.cluster.ctl_json("list_queues", "name", "messages") or []
        return {row["name"]: row["messages"] for row in rows}

    def alarms(self, node):
        status = self.cluster.ctl_json_of(node, "status") or {}
        return sorted((a["node"], a["resource"]) for a in status.get("alarms", [("?", "?")]))

    def await_alarms(self, *wanted):
        wanted = sorted((node.name, resource) for node, resource in wanted)
        for node in self.nodes:
            wait_until(lambda node=node: self.alarms(node) == wanted, WAIT_S,
                       f"{node.name} shows the alarms {wanted}")

    def fill(self):
        """Until the memory alarm: the queue is in the memory of the first node only."""
        body = b"x" * 100_000
        while not self.filler.told:
            self.filler.publish("memory", body)
            self.filled += 1
            self.filler.pump(0.001)
            if self.filled > 20_000:
                raise Failed("2 GB are published, and there is no alarm")
        self.filler.until(lambda: self.filler.told, "it is blocked")

    def drain(self, client):
        """Over get, by a client that is held back itself."""
        get = method(1, 60, 70, b"\0\0" + short("memory") + b"\1")
        while (60, 72) not in client.answers:
            client.answers.clear()
            client.send(*[get] * 50)
            client.until(lambda: len(client.answers) == 50, "the messages come")
        client.answers.clear()
        self.filled = 0

    def blocked(self, reason):
        """Each client is told as it publishes; that waits, acks do not."""
        for i, client in enumerate(self.clients):
            self.publish(client, i, "out")              # held back
            client.until(lambda client=client: client.told, "it is blocked")
            expect(f"the reason on {client.node.name}", client.told, [reason])
            for tag in client.tags:
                client.ack(tag)
            self.expected[f"in{i}"] -= len(client.tags)
            client.tags.clear()
            client.ask("a cancel", (60, 31), method(1, 60, 30, short("t") + b"\0"))
            client.ask("a get", (60, 72), method(1, 60, 70, b"\0\0" + short(f"in{i}") + b"\0"))
        wait_until(lambda: all(self.counts().get(f"in{i}") == 0 for i in range(len(self.clients))),
                   WAIT_S, "the acks count")
        for client in self.clients:
            expect(f"confirmed on {client.node.name} while it is held back",
                   client.sent - client.confirmed, 1)

    def cleared(self):
        """All are told, and what was held back arrives."""
        for client in self.clients:
            client.until(lambda client=client: client.told and client.told[-1] is None,
                         "it is unblocked")
            client.all_confirmed()
            expect(f"what {client.node.name} was told", len(client.told), 2)
            client.told.clear()
        self.filler.until(lambda: self.filler.told and self.filler.told[-1] is None,
                          "the filler is unblocked")
        self.filler.all_confirmed()
        self.filler.told.clear()
        wait_until(lambda: all(self.counts().get(q) == n for q, n in self.expected.items()), WAIT_S,
                   f"nothing is lost: {self.expected}")

    def states(self):
        rows = self.cluster.ctl_json("list_connections", "state") or []
        return {row["state"] for row in rows}

    def close(self):
        for client in self.clients + [self.filler]:
            client.close()


def log_says(cluster, node, *words):
    text = cluster.tail(node, 100_000)
    for word in words:
        if word not in text:
            raise Failed(f"the event log of {node.name} does not say {word!r}")


def memory(cluster):
    """The first node's memory, on as many nodes as there are; drained over the last one."""
    scene = Scene(cluster)
    scene.fill()
    scene.await_alarms((cluster.nodes[0], "memory"))
    expect("states before the publishes", scene.states(), {"blocking", "blocked"})
    scene.blocked("low on memory")
    expect("states after them", scene.states(), {"blocked"})
    leaver = Client(cluster.nodes[-1])      # what it sends before its close counts, held back or not
    for _ in range(3):
        leaver.publish("out0")
    leaver.send(method(1, 20, 40, b"\0\xc8" + short("") + b"\0\0\0\0"))
    leaver.until(lambda: (20, 41) in leaver.answers, "a close is answered")
    scene.expected["out0"] += 3
    leaver.close()
    scene.drain(scene.clients[-1])
    scene.cleared()
    scene.await_alarms()
    log_says(cluster, cluster.nodes[0], "memory alarm: ", "memory alarm cleared: ")
    if len(cluster.nodes) > 1:
        log_says(cluster, cluster.nodes[1], f"memory alarm on node '{cluster.nodes[0].name}'")
    scene.close()
    return scene


def both(cluster):
    """The first node has no memory, then the second no disk; one after the other ends."""
    first, second, third = cluster.nodes
    scene = Scene(cluster)
    scene.fill()
    scene.await_alarms((first, "memory"))
    early = Client(third)
    early.publish("out0")
    early.until(lambda: early.told, "it is blocked")
    scene.clients[1].close()                # its node is restarted
    set_disk(cluster, second, [NO_DISK])
    scene.await_alarms((first, "memory"), (second, "disk"))
    late = Client(third)
    late.publish("out0")
    late.until(lambda: late.told, "it is blocked")
    expect("both reasons", late.told, ["low on disk & memory"])
    scene.drain(early)
    scene.await_alarms((second, "disk"))
    disk = Client(first)
    disk.publish("out0")
    disk.until(lambda: disk.told, "it is blocked")
    expect("told while one is left", (early.told, late.told, disk.told),
           (["low on memory"], ["low on disk & memory"], ["low on disk"]))
    for client in (early, late, disk):
        client.publish("out0")
        expect("confirmed while it is held back", client.confirmed, 0)
    set_disk(cluster, second, [])
    for client in (early, late, disk, scene.filler):
        client.until(lambda client=client: client.told[-1] is None, "it is unblocked")
        client.all_confirmed()
        expect("what was told", len(client.told), 2)
        client.close()
    scene.await_alarms()
    wait_until(lambda: scene.counts().get("out0") == 6, WAIT_S, "nothing is lost")
    log_says(cluster, second, "disk alarm: ")
    log_says(cluster, third, f"disk alarm on node '{second.name}'")
    scene.clients[0].close()
    scene.clients[2].close()


def set_disk(cluster, node, lines):
    cluster.stop(node)
    cluster.driver.own = {**cluster.driver.own,
                          node.index: [QUICK, *lines] if node.index != 1 else lines}
    cluster.driver.again(node)
    cluster.start(node)
    cluster.wait_ready([node])


def with_pika(cluster):
    """A library's client: told, consuming while it is held back, told again."""
    python = clients.Client("python")
    python.ensure()
    scene = Scene(cluster)
    count = 200
    with subprocess.Popen([python.python, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                       "alarms_pika.py"), cluster.nodes[-1].uri,
                           "out0", "source", str(count)], stdout=subprocess.PIPE, text=True) as other:
        first = scene.clients[0]
        first.declare("source")
        for _ in range(count):
            first.publish("source")
        first.all_confirmed()
        expect("pika", other.stdout.readline(), "READY\n")
        scene.fill()
        expect("pika", other.stdout.readline(), "BLOCKED low on memory\n")
        expect("pika", other.stdout.readline(), f"TAKEN {count}\n")
        scene.drain(scene.clients[0])
        expect("pika", other.stdout.readline(), "UNBLOCKED\n")
        published = int(other.stdout.readline().split()[1])
        expect("pika's exit code", other.wait(WAIT_S), 0)
    wait_until(lambda: scene.counts().get("out0") == published, WAIT_S, "nothing is lost")
    scene.close()


def flow(cluster):
    """A queue without majority holds its publisher's channel back, and nobody else."""
    first, others = cluster.nodes[0], cluster.nodes[1:]
    client = Client(first)
    client.declare("stuck", DURABLE, QUORUM)
    client.declare("works")
    client.publish("stuck")
    client.all_confirmed()
    for node in others:
        cluster.pause(node)
    for _ in range(12_000):
        client.publish("stuck")
    client.open_channel_two()
    client.on_channel_two("works", 50)
    neighbour = Client(first)
    for _ in range(50):
        neighbour.publish("works")
    neighbour.all_confirmed()
    neighbour.close()
    wait_until(lambda: "flow" in {row["state"] for row in
                                  cluster.ctl_json_of(first, "list_connections", "state") or []},
               WAIT_S, "the connection is in flow")
    for node in cluster.nodes:
        cluster.resume(node)
    client.all_confirmed()
    client.close()
    wait_until(lambda: {row["name"]: row["messages"] for row in
                        cluster.ctl_json("list_queues", "name", "messages") or []} ==
               {"stuck": 12_001, "works": 100}, WAIT_S, "nothing is lost")


def backlog(cluster, perf):
    """A million messages of 1 KiB in a durable queue, under a watermark of 256 MB."""
    node = cluster.nodes[0]
    done = subprocess.run([perf, "-h", node.uri, "-x1", "-y0", "-C", str(BACKLOG), "-s1024", "-f",
                           "persistent", "-c1000", "-u", "backlog", "-ad", "false", "--quiet"],
                          capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Failed(f"warren-perf ended with {done.returncode}: {done.stdout}{done.stderr}")
    used = node.rss_bytes()
    if used >= BACKLOG_WATERMARK:
        raise Failed(f"{used} bytes are resident")
    if "memory alarm" in cluster.tail(node, 100_000):
        raise Failed("there was a memory alarm")
    rows = cluster.ctl_json("list_queues", "name", "messages")
    expect("messages", [row["messages"] for row in rows if row["name"] == "backlog"], [BACKLOG])


def shallow(cluster):
    """Many queues with a few messages each, one after the other: not much more is resident than
    there is in them, also the second time; and it goes when they are purged, without an alarm."""
    node = cluster.nodes[0]
    names = [f"shallow.{i}" for i in range(SHALLOW)]
    with Client(node) as client:
        for name in names:
            client.declare(name)
        empty = node.rss_bytes()
        for _ in range(2):
            for _ in range(EACH):
                client.send(*[part for name in names for part in (
                    publish(1, "", name), frame(CONTENT, 1, struct.pack(">HHQH", 60, 0, 1024, 0)),
                    frame(BODY, 1, bytes(1024)))])
                client.pump(0)
            wait_until(lambda: sum(row["messages"] for row in cluster.ctl_json(
                "list_queues", "messages")) == SHALLOW * EACH, WAIT_S, "all is published")
            used = node.rss_bytes() - empty
            if used > SHALLOW * EACH * 1024 * 3:
                raise Failed(f"{used} bytes more are resident")
            for name in names:
                client.ask("purge", (50, 31), method(1, 50, 30, b"\0\0" + short(name) + b"\0"))
            if client.told:
                raise Failed(f"was told {client.told}")
        wait_until(lambda: node.rss_bytes() - empty < SHALLOW * EACH * 1024 / 2, 2 * 60,
                   "memory has come back")


def run(options, name, count, own, test):
    folder = options.folder or os.path.join(clusters.ROOT, ".dev", "real", "alarms")
    driver = OwnDriver(os.path.abspath(options.warren), os.path.abspath(options.warrenctl),
                       options.shards)
    driver.own = own
    begun = time.monotonic()
    cluster = clusters.Cluster(driver, count, f"{os.path.abspath(folder)}-{name}-{os.getpid()}")
    try:
        with cluster:
            try:
                test(cluster.form())
                why = "; ".join(cluster.end())
                if why:
                    raise Failed(why)
            except (OSError, Ended, ValueError, Failed, ClusterError, struct.error,
                    subprocess.SubprocessError) as error:
                raise Failed(f"{type(error).__name__} {error}") from error
    except Failed as error:
        print(f"not ok {name}: {error}", flush=True)
        return 1
    print(f"ok {name} ({time.monotonic() - begun:.1f} s)", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--perf", default=os.path.join(clusters.ROOT, "build", "release", "src", "perf",
                                                       "warren-perf"))
    parser.add_argument("--only", default="", help="tests that begin so")
    options = parser.parse_args()
    low = [f"vm_memory_high_watermark.absolute = {WATERMARK}", QUICK]
    tests = [("memory-1-node", 1, {1: low}, memory),
             ("memory-3-nodes", 3, {1: low}, memory),
             ("both-3-nodes", 3, {1: low, 2: [QUICK]}, both),
             ("pika-1-node", 1, {1: low}, with_pika),
             ("pika-3-nodes", 3, {1: low}, with_pika),
             ("flow-3-nodes", 3, {}, flow),
             ("backlog", 1, {1: [f"vm_memory_high_watermark.absolute = {BACKLOG_WATERMARK}", QUICK]},
              lambda cluster: backlog(cluster, options.perf)),
             ("shallow", 1, {1: [QUICK]}, shallow)]
    tests = [test for test in tests if test[0].startswith(options.only)]
    failed = sum(run(options, *test) for test in tests)
    print(f"alarms: {len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
