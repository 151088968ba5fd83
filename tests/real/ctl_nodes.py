#!/usr/bin/env python3
"""warrenctl and nodes that do not answer, or are not the ones that are meant.

Three nodes, of which one is suspended, and then killed: listings say whose answer is missing, connections are
closed where somebody answers, and all ends within --timeout. And a node of the same name in the place of another.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import cluster as clusters
from amqp_raw import Ended, Raw, longstr, queue_declare, short
from cluster import ClusterError, wait_until
from ctl_run import Failed, expect, run_ctl

WAIT_S = 60
DURABLE = 2
UNAVAILABLE, TIMED_OUT, INTERRUPTED = 69, 75, 130
QUORUM = short("x-queue-type") + b"S" + longstr("quorum")


def name_of(raw):
    here, there = raw.socket.getsockname(), raw.socket.getpeername()
    return f"127.0.0.1:{here[1]} -> 127.0.0.1:{there[1]}"


def catches(pid, number):
    """Whether the process has a handler of its own for the signal."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        masks = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    return int(masks["SigCgt"], 16) >> (number - 1) & 1 == 1


class Checks:
    """All with the same three nodes, of which the last one does not answer."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.first, self.second, self.third = cluster.nodes
        self.raws = []

    def ask(self, node, command):
        return run_ctl(self.cluster, node, *shlex.split(command))

    def open(self, node):
        raw = Raw(node.amqp_port).open()
        self.raws.append(raw)
        return raw

    def names(self, node, options=""):
        code, text, errors = self.ask(node, f"-s {options} list_connections name")
        expect("list_connections", code, 0)
        return sorted(text.splitlines()), errors

    def warning(self):
        return f"Warning: node '{self.third.name}' did not answer in time; the listing is not complete\n"

    def prepare(self):
        with Raw(self.third.amqp_port).open() as raw:
            for name, arguments in (("n.classic", b""), ("n.quorum", QUORUM)):
                raw.send(queue_declare(1, name, DURABLE, arguments))
                raw.expect(50, 11, 20)
        wait_until(lambda: self.names(self.first) == ([], ""), WAIT_S, "the connection is gone")

    # --- the third node is suspended ------------------------------------------------------------

    def lists_without_it(self):
        here = [self.open(node) for node in (self.first, self.second)]
        there = self.open(self.third)
        expect("all", self.names(self.first), (sorted(map(name_of, here + [there])), ""))
        self.cluster.pause(self.third)
        found = sorted(map(name_of, here))
        # at once, when nobody knows yet that it does not answer, and when all do
        expect("at once", self.names(self.first, "-t 6"), (found, self.warning()))
        expect("later", self.names(self.second, "-t 2"), (found, self.warning()))
        code, text, errors = self.ask(self.first, "-s -t 4 list_channels connection")
        expect("channels", (code, len(text.splitlines()), errors), (0, 2, self.warning()))

    def it_is_asked_itself(self):
        for command in ("list_connections", "list_queues", "close_all_connections x", "status",
                        "set_log_level info"):
            code, _, errors = self.ask(self.third, f"-t 1 {command}")
            operation = command.split()[0]
            expect(command, (code, errors),
                   (TIMED_OUT, f"Error: operation {operation} on node {self.third.name} timed out. "
                    "Timeout value used: 1000\n"))

    def unresponsive_queues(self):
        def queues(node):
            code, text, _ = self.ask(node, "-s -t 8 list_unresponsive_queues name")
            expect("list_unresponsive_queues", code, 0)
            return sorted(text.splitlines())
        for node in (self.first, self.second):
            wait_until(lambda node=node: queues(node) == ["n.classic"], WAIT_S,
                       "the queue that is there only")

    def closes_what_answers(self):
        one, two, there = self.raws[0], self.raws[1], self.raws[2]
        left = f"Error:\n'{self.third.name}' did not answer in time: connections there were not closed\n"
        expect("by name", self.ask(self.second, f"-q close_connection '{name_of(one)}' one"),
               (0, "", ""))
        expect("it", one.read_close()[2], "CONNECTION_FORCED - one")
        expect("one there", self.ask(self.first, f"-q close_connection '{name_of(there)}' two"),
               (UNAVAILABLE, "", left))
        code, _, errors = self.ask(self.first, "-q close_all_user_connections guest three")
        expect("of a user", (code, errors), (UNAVAILABLE, left))
        expect("it", two.read_close()[2], "CONNECTION_FORCED - three")
        again = self.open(self.second)
        code, _, errors = self.ask(self.first, "-q -t 3 close_all_connections four")
        expect("all", (code, errors), (UNAVAILABLE, left))
        expect("it", again.read_close()[2], "CONNECTION_FORCED - four")
        for raw in (one, two, again):
            raw.close()

    def it_goes_on(self):
        self.cluster.resume(self.third)
        there = self.raws[2]
        wait_until(lambda: self.names(self.first) == ([name_of(there)], ""), WAIT_S,
                   "its connection is listed again")
        expect("from elsewhere", self.ask(self.first, f"-q close_connection '{name_of(there)}' five"),
               (0, "", ""))
        expect("it", there.read_close()[2], "CONNECTION_FORCED - five")
        there.close()

    # --- the third node is killed ---------------------------------------------------------------

    def without_its_process(self):
        """Nothing can be there: nobody misses it."""
        here = self.open(self.second)
        gone = self.open(self.third)
        self.cluster.kill(self.third)
        wait_until(lambda: self.names(self.first) == ([name_of(here)], ""), WAIT_S,
                   "only the other's connection")
        expect("one that was there", self.ask(self.first, f"close_connection '{name_of(gone)}' x")[0],
               UNAVAILABLE)
        expect("closed", self.ask(self.first, "-q close_all_connections x"),
               (0, "Closed 1 connections\n", ""))
        expect("it", here.read_close()[2], "CONNECTION_FORCED - x")
        wait_until(lambda: self.ask(self.first, "-s list_unresponsive_queues")[1] == "n.classic\n",
                   WAIT_S, "its queue is listed")
        self.cluster.start(self.third)
        self.cluster.wait_ready()

    def interrupted(self):
        """Ctrl-C ends a command that waits for it, however much of --timeout is left."""
        self.cluster.pause(self.third)
        for words in (("move", "n.quorum", "n.classic"), ("delete_messages", "n.quorum"),
                      ("peek", "n.quorum")):
            command, environment = self.cluster.driver.ctl(self.third, "-q", *words)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=environment, stdin=subprocess.DEVNULL) as asking:
                wait_until(lambda asking=asking: catches(asking.pid, signal.SIGINT), WAIT_S, "it runs")
                asking.send_signal(signal.SIGINT)
                text, errors = asking.communicate(timeout=WAIT_S)
            expect(words, (asking.returncode, text, errors.startswith("Error:\nstopped before ")),
                   (INTERRUPTED, "", True))
        self.cluster.resume(self.third)

    def run(self):
        self.prepare()
        failed = 0
        for check in (self.lists_without_it, self.it_is_asked_itself, self.unresponsive_queues,
                      self.closes_what_answers, self.it_goes_on, self.without_its_process, self.interrupted):
            try:
                check()
                print(f"ok {check.__name__}")
            except (Failed, ClusterError, Ended, OSError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED {check.__name__}: {error!r}")
        for raw in self.raws:
            raw.close()
        return failed


class HomeDriver(clusters.WarrenDriver):
    """Nodes and warrenctl with a home of their own; warrenctl finds the node by its note."""

    home = None

    def command(self, node):
        return super().command(node)[0], dict(os.environ, HOME=self.home)

    def by_note(self, home, node, *arguments):
        done = subprocess.run([self.ctl_binary, "-n", node.name, *arguments], capture_output=True,
                              text=True, check=False, timeout=WAIT_S, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, HOME=home))
        return done.returncode, done.stderr


def put_another(cluster, node, home):
    """A node of the same name and port, of a cluster of its own, in place of the one that was."""
    cluster.kill(node)
    shutil.rmtree(os.path.join(node.folder, "data"))
    cluster.driver.home = home
    cluster.start_all()
    cluster.wait_ready()


def another_in_its_place(cluster, homes):
    """A node is killed, and one of its name, of another cluster and user, gets its port: not what is meant."""
    node, driver = cluster.nodes[0], cluster.driver
    driver.home = homes[0]
    cluster.form()
    expect("by its note", driver.by_note(homes[0], node, "ping"), (0, ""))
    put_another(cluster, node, homes[1])
    code, errors = driver.by_note(homes[0], node, "stop")
    expect("refused", (code, "is another" in errors and "--config" in errors, node.running),
           (UNAVAILABLE, True, True))
    expect("by the other note", driver.by_note(homes[1], node, "ping"), (0, ""))
    # the second node under one user takes the note over, and says so
    put_another(cluster, node, homes[0])
    expect("taken over", driver.by_note(homes[0], node, "ping"), (0, ""))
    with open(os.path.join(node.folder, "log"), encoding="utf-8") as file:
        expect("said", "there was a note for warrenctl of another node" in file.read(), True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    folder = options.folder
    failed = 0
    try:
        options.folder = folder and f"{folder}-3"
        with clusters.from_options(options, 3, "ctl-nodes") as cluster:
            cluster.form()
            failed += Checks(cluster).run()
        options.folder = folder and f"{folder}-1"
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two, \
                clusters.from_options(options, 1, "ctl-place") as cluster:
            cluster.driver = HomeDriver(cluster.driver.binary, cluster.driver.ctl_binary)
            another_in_its_place(cluster, (one, two))
            print("ok another_in_its_place")
    except (ClusterError, Failed) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
