#!/usr/bin/env python3
"""The kill test: three processes, clients of several languages, kill -9, and then the sum.

Confirmed publishers and acking consumers work on every node while nodes are killed in rounds: the
leader of the quorum queue, a follower, the leader of the catalog, all three at once. In the end every
confirmed message must have been consumed, nothing that was never published may have come, first
deliveries of one publisher must be in order, and a message that came twice must say so.
"""

import argparse
import os
import random
import subprocess
import sys
import time

import cluster as clusters
from cluster import ClusterError, wait_until
from ledger import Consumer, Publisher, Tail, check

sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import clients  # noqa: E402  pylint: disable=wrong-import-position

FAULTS = ("leader", "follower", "catalog", "all")
PROGRESS = 20           # confirms per publisher that count as "works again"
PROGRESS_S = 60
DRAIN_S = 120
TRANSIENT_BATCH = 200


class Worker:
    """A client program and the file with what it says."""

    def __init__(self, client, mode, name, queue, uris, first, options, folder):
        self.name, self.mode, self.queue = name, mode, queue
        self.ledger = Publisher() if mode == "publisher" else Consumer()
        path = os.path.join(folder, name + ".log")
        command = client.program("worker") + [
            mode, "--uris", ",".join(uris), "--queue", queue, "--id", name, "--first", str(first),
            "--rate", str(options.rate), "--window", "100", "--prefetch", "50"]
        with open(path, "wb") as out, open(path + ".err", "wb") as err:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.PIPE, stdout=out, stderr=err)
        self.tail = Tail(path, self.ledger)
        self.path = path

    def progress(self):
        self.tail.read()
        return len(self.ledger.confirmed) if self.mode == "publisher" else \
            len(self.ledger.deliveries)

    def ask_to_stop(self):
        try:
            self.process.stdin.write(b"stop\n")
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def wait(self, seconds):
        """None, or what is wrong."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.tail.read()
            return f"{self.name} did not end within {seconds} s of being asked to"
        self.tail.read()
        if code != 0 or self.ledger.done is None:
            with open(self.path + ".err", encoding="utf-8", errors="replace") as file:
                return f"{self.name} ended with {code}: {file.read()[-500:]}"
        return None


class Transient:
    """A transient queue is accounted for only while the node lives on which it was declared."""

    def __init__(self, python, node, queue):
        self.python, self.node, self.queue = python, node, queue

    def _run(self, mode, survives):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "transient.py")
        done = subprocess.run([self.python, program, mode, self.node.uri, self.queue,
                               str(TRANSIENT_BATCH), "1" if survives else "0"],
                              capture_output=True, text=True, timeout=60, check=False)
        return None if done.returncode == 0 else \
            f"transient queue, {mode}: {(done.stdout + done.stderr).strip()[-300:]}"

    def fill(self):
        return self._run("fill", True)

    def drain(self, survived):
        return self._run("drain", survived)


class KillTest:
    def __init__(self, options, cluster, ready):
        self.options, self.cluster, self.ready = options, cluster, ready
        self.random = random.Random(options.seed)
        self.problems, self.rows, self.workers = [], [], []
        self.python = clients.Client("python").python
        self.quorum, self.classic = "kill.quorum", "kill.classic"
        self.transient = Transient(self.python, cluster.nodes[1], "kill.transient")

    def declare(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "declare.py")

        def declared(uri, name, kind):
            done = subprocess.run([self.python, program, uri, name, kind], capture_output=True,
                                  text=True, timeout=30, check=False)
            return done.returncode == 0
        wait_until(lambda: declared(self.cluster.nodes[0].uri, self.quorum, "quorum"), 60,
                   "the quorum queue to be declared", 0.2)
        wait_until(lambda: declared(self.cluster.nodes[0].uri, self.classic, "classic"), 60,
                   "the classic queue to be declared", 0.2)

    def start_workers(self):
        folder = os.path.join(self.cluster.folder, "workers")
        os.makedirs(folder)
        plan = [(c, mode, self.quorum) for c in self.ready for mode in ("publisher", "consumer")]
        plan += [(c, mode, self.classic) for c in self.ready[:2]
                 for mode in ("publisher", "consumer")]
        for i, (client, mode, queue) in enumerate(plan):
            name = f"{client.name}-{queue.split('.')[1]}-{mode[0]}"
            self.workers.append(Worker(client, mode, name, queue, self.cluster.uris, i // 2 + i % 2,
                                       self.options, folder))

    def of(self, mode, queue=None):
        return [w for w in self.workers if w.mode == mode and queue in (None, w.queue)]

    def await_progress(self, workers, what):
        """Seconds until the first and until the last has made progress."""
        begun = time.monotonic()
        before = {w.name: w.progress() for w in workers}
        first = []

        def all_on():
            for worker in workers:
                if worker.process.poll() is not None:
                    raise ClusterError(worker.wait(1) or f"{worker.name} ended early")
            counts = {w.name: w.progress() - before[w.name] for w in workers}
            if not first and any(c > 0 for c in counts.values()):
                first.append(time.monotonic() - begun)
            return all(c >= PROGRESS for c in counts.values())
        try:
            wait_until(all_on, PROGRESS_S, what)
        except ClusterError as error:
            counts = {w.name: w.progress() - before[w.name] for w in workers}
            stuck = sorted(n for n, c in counts.items() if c < PROGRESS)
            raise ClusterError(f"{error}; stuck: {', '.join(stuck)}") from error
        return first[0], time.monotonic() - begun

    def victims(self, fault):
        """(whom to kill, whether the broker could say who it is; else it is anybody)"""
        nodes = self.cluster.nodes
        if fault == "all":
            return list(nodes), True
        leader = self.cluster.catalog_leader() if fault == "catalog" else \
            self.cluster.queue_leader(self.quorum)
        if fault == "follower":
            return [self.random.choice([n for n in nodes if n is not leader])], leader is not None
        return [leader or self.random.choice(nodes)], leader is not None

    def note(self, problem):
        if problem:
            self.problems.append(problem)

    def round(self, number, fault):
        self.await_progress(self.workers, "all workers to work before the fault")
        self.note(self.transient.fill())
        victims, known = self.victims(fault)
        confirmed = sum(w.progress() for w in self.of("publisher"))
        self.cluster.kill(*victims)
        first = last = None
        if fault != "all":
            first, last = self.await_progress(self.of("publisher", self.quorum),
                                              "publishers to go on with two nodes")
        for node in victims:
            self.cluster.start(node)
        begun = time.monotonic()
        self.cluster.wait_ready(victims)
        restart = time.monotonic() - begun
        if fault == "all":
            first, last = self.await_progress(self.of("publisher", self.quorum),
                                              "publishers to go on after the restart")
        self.note(self.transient.drain(self.transient.node not in victims))
        confirmed = sum(w.progress() for w in self.of("publisher")) - confirmed
        row = (number, fault if known else fault + "?", ",".join(str(n.index) for n in victims), f"{first:.2f}",
               f"{last:.2f}", f"{restart:.2f}", confirmed)
        self.rows.append(row)
        print("%5d %-9s %-7s %10s %10s %10s %10d" % row, flush=True)

    def finish(self):
        self.await_progress(self.workers, "all workers to work at the end")
        for worker in self.of("publisher"):
            worker.ask_to_stop()
        for worker in self.of("publisher"):
            self.note(worker.wait(DRAIN_S))
        for queue in (self.quorum, self.classic):
            try:
                wait_until(lambda q=queue: not self.missing(q), DRAIN_S,
                           f"{queue} to be consumed", 0.1)
            except ClusterError as error:
                self.note(f"{error}: {self.missing(queue)} are missing")
        for worker in self.of("consumer"):
            worker.ask_to_stop()
        for worker in self.of("consumer"):
            self.note(worker.wait(30))

    def missing(self, queue):
        """How many confirmed messages have not been delivered yet."""
        got = set()
        for worker in self.of("consumer", queue):
            worker.progress()
            got.update((d[1], d[3]) for d in worker.ledger.deliveries)
        return sum(1 for w in self.of("publisher", queue) for seq in w.ledger.confirmed
                   if (w.name, seq) not in got)

    def sums(self):
        print(f"\n{'queue':<14}{'attempted':>10}{'confirmed':>10}{'delivered':>10}"
              f"{'redelivered':>12}{'republished':>12}")
        for queue in (self.quorum, self.classic):
            found, n = check({w.name: w.ledger for w in self.of("publisher", queue)},
                             {w.name: w.ledger for w in self.of("consumer", queue)})
            print(f"{queue:<14}{n['attempted']:>10}{n['confirmed']:>10}{n['delivered']:>10}"
                  f"{n['redelivered']:>12}{n['republished']:>12}")
            self.problems += [f"{queue}: {text}" for text in found]

    def run(self):
        self.declare()
        self.start_workers()
        print(f"{'round':>5} {'fault':<9} {'nodes':<7} {'first s':>10} {'all s':>10} "
              f"{'restart s':>10} {'confirmed':>10}", flush=True)
        try:
            for number in range(1, self.options.rounds + 1):
                self.round(number, FAULTS[(number - 1) % len(FAULTS)])
            self.finish()
        except ClusterError as error:
            self.note(str(error))
        finally:
            for worker in self.workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                    worker.process.wait()
        self.sums()
        for problem in self.problems:
            print(f"PROBLEM {problem}")
        print(f"kill test: {len(self.rows)} rounds, seed {self.options.seed}, "
              f"{len(self.workers)} workers: {'FAILED' if self.problems else 'passed'}")
        return 1 if self.problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=100, help="messages/s of each publisher")
    parser.add_argument("--clients", default=",".join(clients.NAMES))
    options = parser.parse_args()
    ready, failed = clients.prepare(dict.fromkeys(["python"] + options.clients.split(",")))
    if failed:
        print(f"cannot be built: {', '.join(failed)}")
        return 2
    with clusters.from_options(options, 3, "kill") as cluster:
        cluster.form()
        code = KillTest(options, cluster, ready).run()
        for problem in cluster.end():
            print(f"PROBLEM at the orderly stop: {problem}")
            code = 1
        if code != 0 or options.keep:
            raise SystemExit(code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
