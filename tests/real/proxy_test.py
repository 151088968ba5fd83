#!/usr/bin/env python3
"""Clients behind HAProxy: deploy/haproxy.cfg with the addresses of three nodes on this machine.

The client suite of pika runs through the proxy; then publishers and consumers that know the proxy only go on
while the node that leads their queue is killed and comes back. What must hold in the end: workload.py.
"""

import argparse
import os
import re
import signal
import subprocess
import sys

import cluster as clusters
import workload
from amqp_raw import answers
from cluster import ClusterError, wait_until

CONFIG = os.path.join(clusters.ROOT, "deploy", "haproxy.cfg")
COMPAT = os.path.join(clusters.ROOT, "tests", "compat")
SUITE_S = 200


class Proxy:
    def __init__(self, cluster):
        self.port = clusters.free_ports(1)[0]
        self.path = os.path.join(cluster.folder, "haproxy.cfg")
        with open(CONFIG, encoding="utf-8") as file:
            text, binds = re.subn(r"bind :\d+", f"bind 127.0.0.1:{self.port}", file.read())
        for node in cluster.nodes:
            text, servers = re.subn(rf"(server warren{node.index}) \S+",
                                    rf"\1 {node.host}:{node.amqp_port}", text)
            if binds != 1 or servers != 1:
                raise ClusterError(f"{CONFIG} has not the lines that are to be replaced")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)
        self.process = None

    @property
    def uri(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def __enter__(self):
        with open(self.path + ".log", "wb") as out:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                ["haproxy", "-db", "-f", self.path], stdout=out, stderr=subprocess.STDOUT,
                env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin"))
        wait_until(lambda: answers(self.port), 20, "the proxy to reach a node")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


class ProxyTest(workload.Workload):
    NAME = "proxy"
    HEADER = f"{'round':>5} {'killed':<7} {'all s':>10} {'confirmed':>10}"

    def __init__(self, options, cluster, ready):
        super().__init__(options, cluster, ready)
        self.proxy = Proxy(cluster)
        self.uris = [self.proxy.uri]

    def suite(self):
        code = subprocess.run([sys.executable, os.path.join(COMPAT, "run.py"), "--uris",
                               self.proxy.uri, "--only", "python", "--later",
                               os.path.join(COMPAT, "later.txt"), "--leave-out"],
                              timeout=SUITE_S, check=False).returncode
        if code != 0:
            self.note("the client suite failed behind the proxy")

    def round(self, number):
        self.await_progress(self.workers, "all workers to work before the fault")
        leader = wait_until(lambda: self.cluster.queue_leader(self.quorum), 20, "a leader")
        confirmed = self.confirmed()
        self.cluster.kill(leader)
        _first, last = self.await_progress(self.of("publisher", self.quorum),
                                           "publishers to go on through the proxy")
        self.cluster.start(leader)
        self.cluster.wait_ready([leader])
        row = (number, leader.index, f"{last:.2f}", self.confirmed() - confirmed)
        self.rows.append(row)
        print("%5d %-7d %10s %10d" % row, flush=True)

    def run(self):
        with self.proxy:
            self.suite()
            return super().run()


if __name__ == "__main__":
    sys.exit(workload.main(argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]),
                           ProxyTest, lambda options: clusters.from_options(options, 3, "proxy")))
