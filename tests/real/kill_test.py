#!/usr/bin/env python3
"""The kill test: three processes, clients of several languages, kill -9, and then the sum.

Confirmed publishers and acking consumers work on every node while nodes are killed in rounds: the
leader of the quorum queue, a follower, the leader of the catalog, all three at once. What must hold in the
end: workload.py. A transient queue must keep its messages while its node lives, and be gone otherwise.
"""

import argparse
import os
import subprocess
import sys
import time

import cluster as clusters
import workload

FAULTS = ("leader", "follower", "catalog", "all")
TRANSIENT_BATCH = 200


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


class KillTest(workload.Workload):
    NAME = "kill"
    HEADER = (f"{'round':>5} {'fault':<9} {'nodes':<7} {'first s':>10} {'all s':>10} "
              f"{'restart s':>10} {'confirmed':>10}")

    def __init__(self, options, cluster, ready):
        super().__init__(options, cluster, ready)
        self.transient = Transient(self.python, cluster.nodes[1], "kill.transient")

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

    def round(self, number):
        fault = FAULTS[(number - 1) % len(FAULTS)]
        self.await_progress(self.workers, "all workers to work before the fault")
        self.note(self.transient.fill())
        victims, known = self.victims(fault)
        confirmed = self.confirmed()
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
        confirmed = self.confirmed() - confirmed
        row = (number, fault if known else fault + "?", ",".join(str(n.index) for n in victims), f"{first:.2f}",
               f"{last:.2f}", f"{restart:.2f}", confirmed)
        self.rows.append(row)
        print("%5d %-9s %-7s %10s %10s %10s %10d" % row, flush=True)


if __name__ == "__main__":
    sys.exit(workload.main(argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]),
                           KillTest, lambda options: clusters.from_options(options, 3, "kill")))
