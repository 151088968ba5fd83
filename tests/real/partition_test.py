#!/usr/bin/env python3
"""The partition test: three hosts in network namespaces, iptables between them, and then the sum.

Clients of several languages work on every node while the network between the nodes is cut in rounds: in
every shape, one-way too, for moments and for longer than it takes to be declared dead. While a majority of nodes
can talk, somebody must get confirms; when the cuts are gone, everybody must. What must hold in the end:
workload.py. That a leader which is cut off confirms nothing shows as a lost message if it does.
"""

import argparse
import sys

import cluster as clusters
import netns
import workload
from cluster import wait_until

GONE_S = 40

# name, and who must go on: all publishers whose node can talk with a majority, anybody, nobody
SHAPES = (
    ("leader", all), ("follower", all), ("catalog", all), ("from-leader", all), ("to-leader", all),
    ("bridge", any), ("clients-too", all), ("split", None), ("resets", all), ("flap", any),
)


class PartitionTest(workload.Workload):
    NAME = "partition"
    HEADER = (f"{'round':>5} {'shape':<12} {'time':<6} {'node':<5} {'went on s':>10} {'healed s':>10} "
              f"{'confirmed':>10}")

    def victim(self, shape):
        leader = self.cluster.catalog_leader() if shape == "catalog" else \
            self.cluster.queue_leader(self.quorum)
        if shape == "follower":
            return self.random.choice([n for n in self.cluster.nodes if n is not leader])
        return leader or self.random.choice(self.cluster.nodes)

    def apply(self, shape, node):
        net = self.cluster.network
        others = [n for n in self.cluster.nodes if n is not node]
        if shape == "split":
            net.cut(node, others[0])
            net.cut(node, others[1])
            net.cut(*others)
        elif shape == "bridge":        # both can talk with the third, but not with each other
            net.cut(node, others[0])
        else:
            for other in others:
                if shape == "resets":
                    net.refuse(other, node)
                    net.refuse(node, other)
                elif shape == "from-leader":
                    net.lose(node, other)
                elif shape == "to-leader":
                    net.lose(other, node)
                else:
                    net.cut(node, other)
            if shape == "clients-too":
                net.cut(None, node)

    def on_majority(self, cut_off):
        """Publishers that are connected now, and not to the node that is cut off."""
        return [w for w in self.of("publisher", self.quorum)
                if w.ledger.port not in (None, cut_off.amqp_port)]

    def await_declared_dead(self, node):
        """Until the others have given the node up: its transient queues are gone."""
        def gone():
            for other in self.cluster.nodes:
                rows = None if other is node else self.cluster.ctl_json_of(other, "list_queues", "name")
                if rows and not any(row["name"] == self.mark(node) for row in rows):
                    return True
            return False
        wait_until(gone, GONE_S, f"{node.name} to be given up by the others", 0.2)

    def mark(self, node):
        return f"partition.mark-{node.index}"

    def round(self, number):
        shape, enough = SHAPES[(number - 1) % len(SHAPES)]
        lasting = shape in ("leader", "follower", "clients-too") and self.random.random() < 0.5
        self.await_progress(self.workers, "all workers to work before the fault")
        node, confirmed, went_on = self.victim(shape), self.confirmed(), 0.0
        if lasting:
            self.declare_queue(node, self.mark(node), "transient")
        for _ in range(5 if shape == "flap" else 1):
            self.cluster.network.heal()
            self.apply(shape, node)
            # A bridge leaves every node a majority; of a node that is cut off nothing can be expected.
            going = self.of("publisher", self.quorum) if shape == "bridge" else self.on_majority(node)
            if enough is not None and going:       # all may be on the node that is cut off
                went_on = max(went_on, self.await_progress(
                    going, f"confirms to go on (shape {shape}, node {node.index})", enough)[1])
        if lasting:
            self.await_declared_dead(node)
        self.cluster.network.heal()
        _first, healed = self.await_progress(self.workers, "all workers to work after the fault")
        row = (number, shape, "long" if lasting else "short", node.index, f"{went_on:.2f}",
               f"{healed:.2f}", self.confirmed() - confirmed)
        self.rows.append(row)
        print("%5d %-12s %-6s %-5d %10s %10s %10d" % row, flush=True)


def form(options):
    network = netns.Namespaces(3)
    network.enter_hub()
    return clusters.from_options(options, 3, "partition", network)


if __name__ == "__main__":
    netns.become_root()
    sys.exit(workload.main(argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]),
                           PartitionTest, form))
