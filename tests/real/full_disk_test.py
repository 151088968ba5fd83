#!/usr/bin/env python3
"""Disks that somebody else fills to the last byte while the node writes.

Each of three nodes has its data on a file system of its own, in a mount namespace. Clients of several languages
work while in rounds one node's disk, or every node's, is filled until the node says that its checkpoint store waits
for space. It must stay up, and go on by itself when there is space; or end in order, or be killed, while it waits.
What must hold in the end: workload.py.
"""

import argparse
import os
import struct
import subprocess
import sys
import threading

import cluster as clusters
import workload
from amqp_raw import BODY, Ended, Raw, content, frame, method, publish, queue_declare, short
from cluster import ClusterError, becomes, wait_until

DISK_MIB = 96
LINES = ("disk_free_limit.absolute = 20MB", "log.segment_size = 1MiB", "log.segments_max = 3")
DURABLE = 2
KEPT, LARGE, WINDOW = 20, 40000, 50
TRIES, FULL_S = 40, 1
INSIDE = "WARREN_TEST_OWN_MOUNTS"
WAITS, GOES_ON = b"writes wait until there is some", b"there is space again: writes go on"


def enter_namespace():
    """Starts this program anew in a mount namespace, as root of a user namespace if it is not root."""
    if INSIDE not in os.environ:
        how = "-m" if os.geteuid() == 0 else "-rm"
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", how, sys.executable, *sys.argv])


class OwnDisks(clusters.WarrenDriver):
    def configure(self, node, nodes, cookie):
        super().configure(node, nodes, cookie)
        disk = self.disk(node)
        os.makedirs(disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk], check=True)

    def disk(self, node):
        return os.path.join(node.folder, "disk")

    def command(self, node):
        return [self.binary, "--config", os.path.join(node.folder, "warren.conf"),
                "--data", os.path.join(self.disk(node), "data")], None

    def ballast(self, node):
        return os.path.join(self.disk(node), "ballast")

    def fill(self, node):
        """Takes what is free, to the last page."""
        with open(self.ballast(node), "ab", buffering=0) as file:
            try:
                while True:
                    free = os.statvfs(self.disk(node))
                    file.write(b"x" * max(free.f_bsize, free.f_bavail * free.f_frsize // 2))
            except OSError:
                pass

    def free(self, node):
        os.unlink(self.ballast(node))


class Heavy(threading.Thread):
    """Large confirmed messages into a queue that keeps few of them: segments and checkpoints come and go."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.ending, self.confirmed = node, threading.Event(), 0

    def run(self):
        while not self.ending.is_set():
            try:
                with Raw(self.node.amqp_port).open() as raw:
                    self.work(raw)
            except (Ended, OSError, ValueError):    # the last: closed by a node that ends, or has no leader yet
                self.ending.wait(0.1)

    def work(self, raw):
        name, body = f"full.heavy-{self.node.index}", b"x" * LARGE
        raw.send(queue_declare(1, name, DURABLE, short("x-max-length") + b"I" + struct.pack(">i", KEPT)),
                 method(1, 85, 10, b"\0"))
        raw.expect(50, 11)
        raw.expect(85, 11)
        sent = upto = 0
        while not self.ending.is_set():
            while sent < upto + WINDOW:
                raw.send(publish(1, "", name) + content(1, LARGE, 0x1000, b"\2") + frame(BODY, 1, body))
                sent += 1
            try:
                tag, multiple = struct.unpack(">QB", raw.expect(60, 80, 1)[:9])
            except TimeoutError:
                continue
            now = tag if multiple else upto + 1
            self.confirmed, upto = self.confirmed + now - upto, now

    def end(self):
        self.ending.set()
        self.join(30)


class FullDiskTest(workload.Workload):
    NAME = "full"
    HEADER = f"{'round':>5} {'whose':<9} {'it':<9} {'nodes':<7} {'full':>5} {'healed s':>9} {'confirmed':>10}"
    ROUNDS = (("follower", "stays"), ("leader", "stays"), ("everybody", "stays"), ("leader", "ends"),
              ("everybody", "killed"), ("everybody", "ends"))

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.heavy = []

    def log_size(self, node):
        return os.path.getsize(os.path.join(node.folder, "log"))

    def said(self, node, text, since):
        """How often a node has, in its log from there on."""
        with open(os.path.join(node.folder, "log"), "rb") as file:
            file.seek(since)
            return file.read().count(text)

    def victims(self, whose):
        if whose == "everybody":
            return self.cluster.nodes
        leader = self.cluster.queue_leader(self.quorum)
        others = [node for node in self.cluster.nodes if node is not leader]
        return [self.random.choice(others) if whose == "follower" or leader is None else leader]

    def waits(self, victims, since):
        for node in victims:
            if not node.running:
                raise ClusterError(f"{node.name} ended with {node.process.poll()}: {self.cluster.tail(node)}")
        return any(self.said(node, WAITS, since[node]) > 0 for node in victims)

    def await_heavy(self):
        before = {heavy: heavy.confirmed for heavy in self.heavy}
        wait_until(lambda: all(h.confirmed > n + 2 * WINDOW for h, n in before.items()), 60, "large messages to go on")

    def fill(self, victims, since):
        """Until one of them waits: how often it took, since a disk must be full at a moment when its store writes."""
        for tries in range(1, TRIES + 1):
            for node in victims:
                self.cluster.driver.fill(node)
            if becomes(lambda: self.waits(victims, since), FULL_S):
                return tries
            for node in victims:
                self.cluster.driver.free(node)
            self.await_heavy()
        raise ClusterError(f"full {TRIES} times, and none of {[n.name for n in victims]} has said that it waits")

    def serves(self, node):
        """What needs no space goes on."""
        code, said = self.cluster.ctl(node, "status")
        if code != 0:
            self.note(f"{node.name} waits for space and status ends with {code}: {said}")
        with Raw(node.amqp_port).open():
            pass

    def start_workers(self):
        super().start_workers()
        self.heavy += [Heavy(node) for node in self.cluster.nodes]
        for heavy in self.heavy:
            heavy.start()

    def finish(self):
        for heavy in self.heavy:
            heavy.end()
        super().finish()

    def go_on(self, victims, meanwhile, since):
        for node in victims:
            if meanwhile == "ends":
                code = self.cluster.stop(node)
                if code != 0:
                    self.note(f"{node.name} ended with {code} while it waited for space")
            elif meanwhile == "killed":
                self.cluster.kill(node)
            else:
                self.serves(node)
        for node in victims:
            self.cluster.driver.free(node)
            if meanwhile != "stays":
                self.cluster.start(node)
        for node in victims if meanwhile == "stays" else ():
            wait_until(lambda n=node: self.said(n, GOES_ON, since[n]) >= self.said(n, WAITS, since[n]), 30,
                       f"{node.name} to go on")
        self.cluster.wait_ready(victims)

    def round(self, number):
        whose, meanwhile = self.ROUNDS[(number - 1) % len(self.ROUNDS)]
        self.await_progress(self.workers, f"all workers to work before {whose} {meanwhile}")
        self.await_heavy()
        confirmed, victims = self.confirmed(), self.victims(whose)
        since = {node: self.log_size(node) for node in victims}
        tries = self.fill(victims, since)
        self.go_on(victims, meanwhile, since)
        _, healed = self.await_progress(self.workers, f"all workers to work after {whose} {meanwhile}")
        self.await_heavy()
        row = (number, whose, meanwhile, ",".join(str(n.index) for n in victims), tries, healed,
               self.confirmed() - confirmed)
        self.rows.append(row)
        print("%5d %-9s %-9s %-7s %5d %9.2f %10d" % row, flush=True)


def form(options):
    driver = OwnDisks(os.path.abspath(options.warren), os.path.abspath(options.warrenctl), options.shards, LINES)
    folder = options.folder or os.path.join(clusters.ROOT, ".dev", "real", f"full-disk-{os.getpid()}")
    return clusters.Cluster(driver, 3, os.path.abspath(folder), ports=clusters.port_range(options.ports))


if __name__ == "__main__":
    enter_namespace()
    sys.exit(workload.main(argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]), FullDiskTest, form,
                           rounds=len(FullDiskTest.ROUNDS)))
