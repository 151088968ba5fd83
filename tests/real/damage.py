#!/usr/bin/env python3
"""Damaged data and strangers: the node concerned says clearly what is wrong and leaves the others alone.

Three nodes with a quorum queue that holds confirmed messages. The third node is stopped, something is
done to its files or its configuration, it is started: it must refuse in the way that the case wants
(exit code and text, or a line in the event log), while a client that stays connected to the first node all
the time goes on publishing confirmed messages. Then the node gets its own files back and must work
again. At the end no confirmed message may be missing.
"""

import argparse
import glob
import os
import shutil
import struct
import sys
import time

import cluster as clusters
from amqp_raw import BODY, Ended, Raw, answers, content, frame, longstr, method, publish, \
    queue_declare, short
from cluster import ClusterError, wait_until

QUEUE = "damage.quorum"
DURABLE = 2
BODY_SIZE = 1024
FILL = 600                      # messages: some ten segments of the smallest size
REFUSE_S = 30
LOOK_S = 20
ADVICE = "from a backup"


class Witness:
    """A client of the first node that publishes confirmed messages over one connection."""

    def __init__(self, port):
        self.raw = Raw(port).open()
        self.confirmed = 0
        self.raw.send(queue_declare(1, QUEUE, DURABLE, short("x-queue-type") + b"S" +
                                    longstr("quorum")), method(1, 85, 10, b"\0"))
        self.raw.expect(50, 11, 20)
        self.raw.expect(85, 11)
        self.tag = 0

    def publish(self, number, seconds=20):
        body = b"x" * BODY_SIZE
        # persistent
        self.raw.send(*[publish(1, "", QUEUE) + content(1, BODY_SIZE, 0x1000, b"\2") +
                        frame(BODY, 1, body) for _ in range(number)])
        self.tag += number
        end = time.monotonic() + seconds
        while self.confirmed < self.tag:
            arguments = self.raw.expect(60, 80, max(0.01, end - time.monotonic()))
            tag, multiple = struct.unpack(">QB", arguments[:9])
            self.confirmed = tag if multiple else max(self.confirmed + 1, tag)


def stored(port):
    """The number of messages of the queue as a node says."""
    with Raw(port).open() as raw:
        raw.send(queue_declare(1, QUEUE, 1))
        arguments = raw.expect(50, 11, 20)
        return struct.unpack(">I", arguments[1 + arguments[0]:5 + arguments[0]])[0]


def segments(node):
    """The segments in use, oldest first."""
    paths = glob.glob(os.path.join(node.folder, "data", "log", "**", "segment-*.log"), recursive=True)
    return [p for p in sorted(paths) if written(p) > 4096]


def written(path):
    """Bytes up to the last one that is not zero."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


def flip(path, offset, size=16):
    with open(path, "r+b") as file:
        file.seek(offset)
        data = file.read(size)
        file.seek(offset)
        file.write(bytes(b ^ 0x5A for b in data))


# Each case damages the files of the node and answers with texts that its complaint must contain.

def flipped_bytes(node):
    path = segments(node)[-3]
    flip(path, written(path) // 2)
    return [os.path.basename(path)]


def missing_segment(node):
    path = segments(node)[-3]
    os.remove(path)
    return ["segment"]


def truncated_segment(node):
    path = segments(node)[-3]
    os.truncate(path, os.path.getsize(path) // 2)
    return [os.path.basename(path)]


def missing_identity(node):
    os.remove(os.path.join(node.folder, "data", "node.id"))
    return ["node.id", "missing"]


def damaged_identity(node):
    with open(os.path.join(node.folder, "data", "node.id"), "w", encoding="utf-8") as file:
        file.write("not an identity\n")
    return ["node.id", "damaged"]


def foreign_identity(node):
    with open(os.path.join(node.folder, "data", "node.id"), "w", encoding="utf-8") as file:
        file.write("0123456789abcdef" * 2 + "\n")
    return ["segment"]


def missing_checkpoints(node):
    shutil.rmtree(os.path.join(node.folder, "data", "checkpoints"))
    return ["checkpoints", "missing"]


def missing_log(node):
    shutil.rmtree(os.path.join(node.folder, "data", "log"))
    return ["log", "missing"]


def emptied_log(node):
    for path in glob.glob(os.path.join(node.folder, "data", "log", "log", "segment-*")):
        os.unlink(path)
    return ["segments", "missing"]


REFUSING = (("flipped-bytes", flipped_bytes), ("truncated-segment", truncated_segment),
            ("missing-segment", missing_segment), ("missing-identity", missing_identity),
            ("damaged-identity", damaged_identity), ("foreign-identity", foreign_identity),
            ("missing-checkpoints", missing_checkpoints), ("missing-log", missing_log),
            ("emptied-log", emptied_log))


class Damage:
    def __init__(self, options, cluster):
        self.options, self.cluster, self.driver = options, cluster, cluster.driver
        self.victim = cluster.nodes[2]
        self.witness, self.passed, self.failed = None, 0, 0
        self.data = os.path.join(self.victim.folder, "data")
        self.kept = os.path.join(self.victim.folder, "data.kept")
        self.log = os.path.join(self.victim.folder, "log")

    def others(self):
        """None, or how the other nodes were disturbed."""
        for node in self.cluster.nodes[:2]:
            if not node.running:
                return f"{node.name} has ended with {node.process.poll()}"
        try:
            self.witness.publish(10)
        except (OSError, Ended, ValueError, TimeoutError) as error:
            return f"a client of {self.cluster.nodes[0].name} was disturbed: {error!r}"
        return None

    def new_lines(self, node, offset):
        path = os.path.join(node.folder, "log")
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            return file.read()

    def size(self, node):
        try:
            return os.path.getsize(os.path.join(node.folder, "log"))
        except FileNotFoundError:
            return 0

    def case(self, name, run):
        begun = time.monotonic()
        node = self.victim
        code = self.cluster.stop(node)
        why = None if code == 0 else f"the orderly stop before ended with {code}"
        shutil.copytree(self.data, self.kept)
        shutil.copy(os.path.join(node.folder, "warren.conf"), self.kept + ".conf")
        try:
            why = why or run()
        except (OSError, Ended, ValueError, TimeoutError, ClusterError) as error:
            why = why or f"{type(error).__name__} {error}"
        why = why or self.others()
        self.cluster.kill(node)
        shutil.rmtree(self.data)
        os.rename(self.kept, self.data)
        os.replace(self.kept + ".conf", os.path.join(node.folder, "warren.conf"))
        self.cluster.start(node)
        try:
            self.cluster.wait_ready([node])
        except ClusterError as error:
            why = why or f"with its own files again: {error}"
        why = why or self.others()
        print(("not ok " if why else "ok ") + name + (f": {why}" if why else "") +
              f" ({time.monotonic() - begun:.1f} s)", flush=True)
        self.failed += 1 if why else 0
        self.passed += 0 if why else 1

    def refuses(self, damage):
        """The node must end with code 1, and say why in its event log and to who started it."""
        def run():
            offset = self.size(self.victim)
            wanted = damage(self.victim)
            self.cluster.start(self.victim)
            wait_until(lambda: not self.victim.running, REFUSE_S, "the node to refuse to start")
            if self.victim.process.poll() != 1:
                return f"exit code {self.victim.process.poll()} instead of 1"
            text = self.new_lines(self.victim, offset)
            lines = [line for line in text.split("\n") if "cannot start" in line]
            if not lines:
                return f"no reason in the event log: {text[-300:]}"
            print(f"   {lines[-1].partition('cannot start: ')[2]}")
            missing = [word for word in wanted + [ADVICE] if word not in lines[-1]]
            return f"{missing} not in: {lines[-1]}" if missing else None
        return run

    def waits(self, prepare, wanted, alone=False):
        """The node runs and does not become a member; (which, texts) of its or another's log say
        why. `alone`: it may serve clients as a member of its own cluster."""
        def run():
            offsets = {node: self.size(node) for node in self.cluster.nodes}
            prepare()
            self.cluster.start(self.victim)

            def said():
                if not self.victim.running:
                    raise ClusterError(f"it ended with {self.victim.process.poll()}: "
                                       f"{self.new_lines(self.victim, offsets[self.victim])[-300:]}")
                return all(any(text in self.new_lines(node, offsets[node]) for text in texts)
                           for node, texts in wanted)
            wait_until(said, LOOK_S, f"the logs to say {[texts for _node, texts in wanted]}", 0.1)
            if not alone and answers(self.victim.amqp_port):
                return "it serves clients"
            if self.cluster.stop(self.victim) != 0:
                return f"the orderly stop ended with {self.victim.process.poll()}"
            return None
        return run

    def change_cookie(self):
        path = os.path.join(self.victim.folder, "warren.conf")
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("erlang.cookie")]
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines + ["erlang.cookie = quite-another-secret\n"])

    def come_from_elsewhere(self):
        """Data of a member of another cluster, with the configuration of this one."""
        with clusters.Cluster(self.driver, 1, self.cluster.folder + "-other") as other:
            other.form()
            if other.stop(other.nodes[0]) != 0:
                raise ClusterError("the node of the other cluster did not stop well")
            shutil.rmtree(self.data)
            shutil.copytree(os.path.join(other.nodes[0].folder, "data"), self.data)

    def run(self):
        first = self.cluster.nodes[0]
        self.witness = Witness(first.amqp_port)
        for _ in range(FILL // 50):
            self.witness.publish(50)
        for name, damage in REFUSING:
            self.case(name, self.refuses(damage))
        self.case("wrong-cookie", self.waits(self.change_cookie, [
            (self.victim, ["another cluster cookie"]), (first, ["another cluster cookie"])]))
        self.case("other-cluster", self.waits(self.come_from_elsewhere, [
            (self.victim, ["belong to different clusters"])], alone=True))
        self.case("wiped", self.waits(lambda: shutil.rmtree(self.data), [
            (self.victim, ["refuses this node"])]))
        for node in self.cluster.nodes:
            wait_until(lambda n=node: stored(n.amqp_port) == self.witness.confirmed, 20,
                       f"{node.name} to see all {self.witness.confirmed} confirmed messages", 0.2)
        self.witness.raw.close()
        for problem in self.cluster.end():
            print(f"not ok stop: {problem}")
            self.failed += 1
        print(f"damage: {self.passed} passed, {self.failed} failed, "
              f"{self.witness.confirmed} confirmed messages, none lost")
        return self.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    with clusters.from_options(options, 3, "damage") as cluster:
        cluster.driver.extra = ["log.segment_size = 65536", "log.segments_max = 64"]
        for node in cluster.nodes:
            cluster.driver.configure(node, cluster.nodes, "warren-tests-cookie")
        cluster.form()
        failed = Damage(options, cluster).run()
        if failed or options.keep:
            raise SystemExit(1 if failed else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
