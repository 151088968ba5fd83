#!/usr/bin/env python3
"""The mirror test: policies move the replicas of a durable classic queue about while clients use it.

Confirmed publishers and acking consumers work on every node while `ha-mode` changes in rounds, with and without
kill -9 in the middle. What must hold in the end: workload.py. After each round the queue has the replicas that the
policy asks for, and one alone when it is cleared.
"""

import argparse
import json
import os
import subprocess
import sys

import cluster as clusters
import workload
from cluster import wait_until

SETTLE_S = 90
QUICK = 15


class MirrorTest(workload.Workload):
    NAME = "mirror"
    HEADER = f"{'round':>5} {'change':<14} {'replicas before':<16} {'after':<10} {'killed':<7} {'confirmed':>10}"
    CHANGES = ("newborn", "grow", "exactly", "elsewhere", "nobody", "grow-and-kill", "follower", "quick",
               "shrink-and-kill", "clear")

    def policy(self, mode, params=None):
        definition = {"ha-mode": mode, **({} if params is None else {"ha-params": params})}
        self.command("set_policy", "mirror", f"^{self.classic}$", json.dumps(definition), "--apply-to", "queues")

    def command(self, *arguments):
        """On any node that runs, until one of them has done it: while leaders are elected none can."""
        def done():
            return any(self.cluster.ctl(node, *arguments)[0] == 0 for node in self.cluster.nodes if node.running)
        wait_until(done, 60, " ".join(arguments), 0.1)

    def replicas(self):
        """(leader, the nodes' indices, those in reach) of the classic queue, as a node sees it."""
        for row in self.cluster.ctl_json("list_queues", "name", "leader", "members", "online") or []:
            if row["name"] == self.classic:
                index = lambda names: sorted(self.cluster.node(n).index for n in names or [])
                return self.cluster.node(row["leader"]), index(row["members"]), index(row["online"])
        return None, [], []

    def settled(self, right, what):
        def now():
            leader, members, online = self.replicas()
            return leader is not None and members == online and right(leader, members)
        wait_until(now, SETTLE_S, f"{what}: has {self.replicas()}", 0.1)
        self.await_progress(self.workers, f"all workers to work: {what}")

    def kill(self, *victims):
        for node in victims:
            self.cluster.kill(node)
        for node in victims:
            self.cluster.start(node)
        self.cluster.wait_ready(victims)
        return ",".join(str(node.index) for node in victims)

    def other_than(self, leader):
        return self.random.choice([n for n in self.cluster.nodes if n is not leader])

    def newborn(self):
        """A queue that is declared while the policy is there loses its leader the moment that it has confirmed."""
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "newborn.py")
        self.command("set_policy", "newborn", "^newborn", '{"ha-mode": "all"}', "--apply-to", "queues")
        killed = []
        for node in self.cluster.nodes:
            name, rest = f"newborn-{node.index}", [n for n in self.cluster.nodes if n is not node]
            with subprocess.Popen([self.python, program, "fill", node.uri, name, "20"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
                confirmed = client.stdout.readline().strip() == "confirmed"
                self.cluster.kill(node)
                _, said = client.communicate()
            if not confirmed:
                self.note(f"newborn: {said.strip()[-400:]}")
            done = subprocess.run([self.python, program, "drain", self.random.choice(rest).uri, name, "20"],
                                  capture_output=True, text=True, timeout=120, check=False)
            if done.returncode != 0:
                self.note(f"newborn, declared on node {node.index}, which was killed: {done.stderr.strip()[-400:]}")
            self.cluster.start(node)
            self.cluster.wait_ready([node])
            killed.append(str(node.index))
        return ",".join(killed)

    def change(self, what, leader):
        """Makes the change and waits until it is done: who was killed meanwhile."""
        killed, nodes = "", self.cluster.nodes
        if what == "newborn":
            killed = self.newborn()
        elif what in ("grow", "grow-and-kill"):
            self.policy("all")
            killed = self.kill(leader) if what == "grow-and-kill" else ""
            self.settled(lambda _, members: members == [1, 2, 3], what)
        elif what in ("exactly", "shrink-and-kill"):
            self.policy("exactly", 2)
            killed = self.kill(leader) if what == "shrink-and-kill" else ""
            self.settled(lambda _, members: len(members) == 2, what)
        elif what == "elsewhere":
            node = self.other_than(leader)
            self.policy("nodes", [node.name])
            self.settled(lambda now, members: now is node and members == [node.index], what)
        elif what == "nobody":
            self.policy("nodes", ["nobody@nowhere"])
            self.settled(lambda now, members: now is leader and members == [leader.index], what)
        elif what == "follower":
            killed = self.kill(self.other_than(leader))
            self.settled(lambda _, members: members == [1, 2, 3], what)
        elif what == "quick":
            for _ in range(QUICK):
                mode, params = self.random.choice([
                    ("all", None), ("exactly", 1), ("exactly", 2), ("exactly", 9),
                    ("nodes", [self.random.choice(nodes).name, "nobody@nowhere"]),
                    ("nodes", [n.name for n in self.random.sample(nodes, 2)])])
                self.policy(mode, params)
            self.policy("all")
            self.settled(lambda _, members: members == [1, 2, 3], what)
        else:
            self.command("clear_policy", "mirror")
            self.settled(lambda _, members: len(members) == 1, what)
        return killed

    def round(self, number):
        what = self.CHANGES[(number - 1) % len(self.CHANGES)]
        self.await_progress(self.workers, f"all workers to work before {what}")
        leader, before, _ = self.replicas()
        confirmed = self.confirmed()
        killed = self.change(what, leader)
        now, after, _ = self.replicas()
        row = (number, what, f"{before} {leader.index}", f"{after} {now.index}", killed, self.confirmed() - confirmed)
        self.rows.append(row)
        print("%5d %-14s %-16s %-10s %-7s %10d" % row, flush=True)


if __name__ == "__main__":
    sys.exit(workload.main(argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]), MirrorTest,
                           lambda options: clusters.from_options(options, 3, "mirror"),
                           rounds=len(MirrorTest.CHANGES)))
