#!/usr/bin/env python3
"""Features under kill -9: dead letters, delays, numbered publishers, refusals, single active consumers,
transactions and direct replies, on quorum queues and on durable classic ones, while nodes are killed.

Each scenario (features_work.py) is a program with all its clients, on queues of one kind. In rounds a
node that leads a queue of the scenario whose turn it is, one that does not, one after the other while the one
before has just come back, or all three are killed and started again. Meanwhile every client must make
progress; at the end each scenario says whether its sum is right.
"""

import argparse
import os
import random
import subprocess
import sys
import time

import cluster as clusters
from cluster import ClusterError, wait_until
from ledger import Tail

sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import clients  # noqa: E402  pylint: disable=wrong-import-position

HERE = os.path.dirname(os.path.abspath(__file__))
SCENARIOS = ("dead", "delay", "numbered", "refuse", "single", "tx", "rpc")
KINDS = ("quorum", "classic")
# the queue whose leader is killed
QUEUE = {"dead": ("ttl", "target", "reject", "wait", "narrow", "length"), "delay": ("plain", "obeys"),
         "numbered": ("q0", "q1", "q2"), "refuse": ("q",), "single": ("q",),
         "tx": ("three", "two", "moved"), "rpc": ("q",)}
FAULTS = ("leader", "follower", "rolling", "all")
PROGRESS = 5            # steps of a client that count as "works again"
PROGRESS_S = 60
END_S = 120


class Program:
    """A scenario on queues of one kind."""

    def __init__(self, python, scenario, kind, uris, folder):
        self.name, self.scenario, self.kind = f"{scenario}.{kind}", scenario, kind
        self.path = os.path.join(folder, self.name + ".log")
        self.counts, self.problems, self.sum, self.done = {}, [], "", False
        with open(self.path, "wb") as out, open(self.path + ".err", "wb") as err:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [python, os.path.join(HERE, "features_work.py"), scenario, kind, ",".join(uris)],
                stdin=subprocess.PIPE, stdout=out, stderr=err)
        self.tail = Tail(self.path, self)

    def take(self, words):
        if words[0] == "P":
            self.counts[words[1]] = int(words[2])
        elif words[0] == "PROBLEM":
            self.problems.append(" ".join(words[1:]))
        elif words[0] == "SUM":
            self.sum = " ".join(words[1:])
        elif words[0] == "DONE":
            self.done = True

    def say(self, *words):
        try:
            self.process.stdin.write((" ".join(str(w) for w in words) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass        # that it has ended is found out elsewhere

    def read(self):
        self.tail.read()
        if self.process.poll() is not None and not self.done:
            with open(self.path + ".err", encoding="utf-8", errors="replace") as file:
                raise ClusterError(f"{self.name} ended with {self.process.returncode}: "
                                   f"{file.read()[-600:]}")
        return self.counts


class FeaturesTest:
    def __init__(self, options, cluster, python):
        self.options, self.cluster = options, cluster
        self.random = random.Random(options.seed)
        self.problems, self.programs, self.rounds = [], [], 0
        folder = os.path.join(cluster.folder, "workers")
        os.makedirs(folder)
        for scenario in options.scenarios.split(","):
            for kind in options.kinds.split(","):
                self.programs.append(Program(python, scenario, kind, cluster.uris, folder))

    def say(self, *words):
        for program in self.programs:
            program.say(*words)

    def await_progress(self, what, kinds=KINDS, idle=()):
        """Seconds until every client has gone on (but single active consumers that wait)."""
        begun = time.monotonic()
        programs = [p for p in self.programs if p.kind in kinds]
        before = {p.name: dict(p.read()) for p in programs}

        def stuck():
            found = []
            for p in programs:
                first = before[p.name]
                gone_on = {n: c - first.get(n, 0) for n, c in p.read().items()}
                if p.scenario == "single":      # one of the candidates is enough
                    rest = [n for n in gone_on if ".c" in n.split(p.kind, 1)[1]]
                    gone_on[p.name] = sum(gone_on.pop(n) for n in rest)
                found += [n for n, c in gone_on.items()
                          if c < PROGRESS and not n.endswith(".poll") and n not in idle]
                if not gone_on:
                    found.append(p.name)
            return found
        try:
            wait_until(lambda: not stuck(), PROGRESS_S, what, 0.1)
        except ClusterError as error:
            raise ClusterError(f"{error}; stuck: {', '.join(stuck())}") from error
        return time.monotonic() - begun

    def victims(self, fault, number):
        if fault in ("all", "rolling"):
            return self.random.sample(self.cluster.nodes, 3), fault
        program = self.programs[(number - 1) * 3 % len(self.programs)]
        what = self.random.choice(QUEUE[program.scenario])
        leader = self.cluster.queue_leader(f"{program.name}.{what}")
        if leader is None:
            return [self.random.choice(self.cluster.nodes)], "?"
        if fault == "follower":
            return [self.random.choice([n for n in self.cluster.nodes if n is not leader])], \
                f"{program.name}.{what}"
        return [leader], f"{program.name}.{what}"

    @staticmethod
    def stay_away(victims):
        """Requesters stay with their node."""
        return [f"rpc.{kind}.r{n.index - 1}" for n in victims for kind in KINDS]

    def round(self, number):
        fault = FAULTS[(number - 1) % len(FAULTS)]
        before = self.await_progress("all clients to work before the fault")
        victims, queue = self.victims(fault, number)
        self.say("fault", time.time())
        went_on = 0.0
        if fault == "rolling":
            for node in victims:    # the others have not got over the one before yet
                self.cluster.kill(node)
                self.cluster.start(node)
                self.cluster.wait_ready([node])
        else:
            self.cluster.kill(*victims)
            if fault != "all":
                went_on = self.await_progress("quorum queues to be used with two nodes", ("quorum",),
                                              self.stay_away(victims))
            for node in victims:
                self.cluster.start(node)
            self.cluster.wait_ready(victims)
        healed = self.await_progress("all clients to work after the restart")
        self.say("healed", time.time())
        self.rounds += 1
        print(f"{number:>5} {fault:<9} {','.join(str(n.index) for n in victims):<7} {before:>8.2f} "
              f"{went_on:>9.2f} {healed:>9.2f}  {queue}", flush=True)

    def finish(self):
        self.say("stop")
        for program in self.programs:
            try:
                program.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{program.name} did not end within {END_S} s")
            program.read()

    def run(self):
        print(f"{'round':>5} {'fault':<9} {'nodes':<7} {'before s':>8} {'went on s':>9} "
              f"{'healed s':>9}  leader of", flush=True)
        try:
            begun = time.monotonic()
            number = 0
            while number < self.options.rounds or \
                    time.monotonic() - begun < self.options.seconds:
                number += 1
                self.round(number)
        except ClusterError as error:
            self.problems.append(str(error))
        try:
            self.finish()
        except ClusterError as error:
            self.problems.append(str(error))
        finally:
            for program in self.programs:
                if program.process.poll() is None:
                    program.process.kill()
                    program.process.wait()
        for program in self.programs:
            print(f"{program.name:<18}{program.sum}")
            self.problems += [f"{program.name}: {text}" for text in program.problems]
        for problem in self.problems:
            print(f"PROBLEM {problem}")
        print(f"features test: {self.rounds} rounds, seed {self.options.seed}, "
              f"{len(self.programs)} scenarios: {'FAILED' if self.problems else 'passed'}")
        return 1 if self.problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=0, help="more rounds until so much time is over")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    ready, failed = clients.prepare(["python"])
    if failed:
        return 2
    with clusters.from_options(options, 3, "features") as cluster:
        cluster.form()
        code = FeaturesTest(options, cluster, ready[0].python).run()
        for problem in cluster.end():
            print(f"PROBLEM at the orderly stop: {problem}")
            code = 1
        if code != 0 or options.keep:
            raise SystemExit(code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
