#!/usr/bin/env python3
"""warrenctl's commands one after the other, with all that they print and their exit codes (ctl_table.txt).

The commands go to the nodes of the cluster in turn: what one node was told, the next one knows. With --record the
table is written anew, from what the first node answers.

In the table: "$ " and a command, "| " lines of standard output, "! " lines of standard error, "= " the exit code.
NODE is the name of the node that is asked. Of a wrong command line only the text before the usage is compared.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys

import cluster as clusters
from amqp_raw import BODY, Ended, Raw, content, frame, longstr, method, publish, queue_declare, short

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "ctl_table.txt")
DURABLE = 2
PROPERTIES = 1 << 15 | 1 << 13  # content type, headers
WAIT_S = 60


def load(path):
    cases = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            if line.startswith("$ "):
                cases.append([line[2:], "", "", 0])
            elif line.startswith("|"):
                cases[-1][1] += line[2:] + "\n"
            elif line.startswith("!"):
                cases[-1][2] += line[2:] + "\n"
            elif line.startswith("="):
                cases[-1][3] = int(line[2:])
    return cases


def save(path, cases):
    with open(path, "w", encoding="utf-8") as file:
        for command, out, errors, code in cases:
            file.write(f"$ {command}\n")
            file.writelines(f"| {line}\n" for line in out.splitlines())
            file.writelines(f"! {line}\n" for line in errors.splitlines())
            file.write(f"= {code}\n")


def run(cluster, node, command):
    words, environment = cluster.driver.ctl(node, *shlex.split(command))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=WAIT_S,
                          env=environment, stdin=subprocess.DEVNULL)
    errors = done.stderr.split("Arguments given:")[0].split("\nUsage\n")[0]
    return [command, done.stdout.replace(node.name, "NODE"), errors.replace(node.name, "NODE"),
            done.returncode]


def prepare(raw):
    """Queues with messages, and a consumer."""
    for name in ("t.from", "t.to", "t.purged", "t.consumed"):
        raw.send(queue_declare(1, name, DURABLE))
        raw.expect(50, 11, 20)
    raw.send(method(1, 85, 10, b"\0"))
    raw.expect(85, 11)
    for i in range(5):
        body = b"\xff\0\1" if i == 3 else b"message %d\ttab" % i
        properties = short("text/plain") + longstr(short("n") + b"I" + i.to_bytes(4, "big"))
        raw.send(publish(1, "", "t.from"), content(1, len(body), PROPERTIES, properties),
                 frame(BODY, 1, body))
    while int.from_bytes(raw.expect(60, 80, 20)[:8], "big") < 5:
        pass
    raw.send(method(1, 60, 20, b"\0\0" + short("t.consumed") + short("tag") + b"\0" + longstr(b"")))
    raw.expect(60, 21, 20)


class Checks:
    """What a table cannot say."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.first, self.last = cluster.nodes[0], cluster.nodes[-1]

    def expect(self, what, got, wanted):
        if got != wanted:
            raise clusters.ClusterError(f"{what}: {got!r}, not {wanted!r}")

    def ask(self, node, command, text=None):
        words, environment = self.cluster.driver.ctl(node, *shlex.split(command))
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=WAIT_S,
                              env=environment, input=text)
        return done.returncode, done.stdout, done.stderr

    def passwords(self):
        self.expect("typed", self.ask(self.first, "-q add_user p1", "one two\n")[0], 0)
        self.expect("it", self.ask(self.last, "-q authenticate_user p1 'one two'")[0], 0)
        self.expect("another", self.ask(self.last, "-q authenticate_user p1", "one\n")[0], 65)
        hashed = self.ask(self.last, "-q hash_password secret")[1].strip()
        self.expect("hash", self.ask(
            self.first, f"-q add_user p2 {hashed} --pre-hashed-password")[0], 0)
        self.expect("of it", self.ask(self.last, "-q authenticate_user p2 secret")[0], 0)
        self.expect("changed", self.ask(self.last, "-q change_password p2", "x\n")[0], 0)
        self.expect("no more", self.ask(self.first, "-q authenticate_user p2 secret")[0], 65)

    def connections(self):
        """Asked of one node, wherever they are; each hears why."""
        raws = [Raw(node.amqp_port).open() for node in self.cluster.nodes * 2]
        rows = [line.split("\t") for line in
                self.ask(self.last, "-s list_connections pid name")[1].splitlines()]
        self.expect("connections", len(rows), len(raws))
        names = {name: pid for pid, name in rows}
        ours = ["127.0.0.1:%d -> 127.0.0.1:%d" % (raw.socket.getsockname()[1],
                                                  raw.socket.getpeername()[1]) for raw in raws]
        self.expect("by pid", self.ask(self.last, f"close_connection '{names[ours[0]]}' one")[0], 0)
        self.expect("it", raws[0].read_close()[:3], ("connection", 320, "CONNECTION_FORCED - one"))
        self.expect("by name", self.ask(self.last, f"close_connection '{ours[1]}' two")[0], 0)
        self.expect("it", raws[1].read_close()[:3], ("connection", 320, "CONNECTION_FORCED - two"))
        for raw in raws[:2]:
            raw.close()
        self.expect("elsewhere", self.ask(self.first, "-q close_all_connections -p other x")[1],
                    "Closed 0 connections\n")
        self.expect("of nobody", self.ask(self.first, "-q close_all_user_connections p1 x"),
                    (0, "", ""))
        code, text, _ = self.ask(self.first, "-q close_all_connections --global "
                                 "--per-connection-delay 1 three")
        self.expect("all", (code, text.endswith(" connections\n")), (0, True))
        for raw in raws[2:]:
            self.expect("one of all", raw.read_close()[2], "CONNECTION_FORCED - three")
            raw.close()

    def interrupted(self):
        """Ctrl-C between two pages: what was done is said, and nothing is lost or double."""
        count = 60000
        with Raw(self.first.amqp_port).open() as raw:
            for name in ("i.from", "i.to"):
                raw.send(queue_declare(1, name, DURABLE))
                raw.expect(50, 11, 20)
            raw.send(method(1, 85, 10, b"\0"))
            raw.expect(85, 11)
            one = publish(1, "", "i.from") + content(1, 1) + frame(BODY, 1, b"x")
            for _ in range(count // 1000):
                raw.send(one * 1000)
            while int.from_bytes(raw.expect(60, 80, 20)[:8], "big") < count:
                pass
            words, environment = self.cluster.driver.ctl(self.last, "move", "i.from", "i.to")
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=environment) as moving:
                clusters.wait_until(lambda: self.messages("i.to") > 0, WAIT_S, "some are moved")
                moving.send_signal(signal.SIGINT)
                text, errors = moving.communicate(timeout=WAIT_S)
            done = self.messages("i.to")
            self.expect("exit code", moving.returncode, 130)
            self.expect("summary", f"{done} of {done} messages moved; stopped\n" in text, True)
            self.expect("errors", "Error" in errors, False)
            self.expect("all are there", done + self.messages("i.from"), count)
            self.expect("the rest", self.ask(self.last, "-q move i.from i.to")[:2],
                        (0, f"{count - done} of {count - done} messages moved\n"))
            self.expect("at last", self.messages("i.to"), count)

    def messages(self, queue, node=None):
        rows = self.ask(node or self.first, "-s list_queues name messages")[1].splitlines()
        return int(dict(row.split("\t") for row in rows)[queue] or 0)

    def mirrored(self):
        """Policies and replicas in the columns of list_queues."""
        nodes = len(self.cluster.nodes)
        self.expect("policy", self.ask(self.last, """-q set_policy mirrors ^mir '{"ha-mode":"all",
            "max-length":100000}'""")[0], 0)
        self.expect("another", self.ask(
            self.first, """-q set_operator_policy op ^mir '{"max-length":50000}'""")[0], 0)
        with Raw(self.first.amqp_port).open() as raw:
            raw.send(queue_declare(1, "mir", DURABLE))
            raw.expect(50, 11, 20)

        def row():
            columns = "name policy operator_policy effective_policy_definition slave_pids " \
                      "synchronised_slave_pids members"
            found = json.loads(self.ask(self.last, f"-q --formatter json list_queues {columns}")[1])
            return next(r for r in found if r["name"] == "mir")
        clusters.wait_until(lambda: len(row()["synchronised_slave_pids"]) == nodes - 1, WAIT_S,
                            "all mirrors are synchronised")
        found = row()
        self.expect("mirrors", (sorted(found["slave_pids"]), len(found["members"])),
                    (sorted(found["synchronised_slave_pids"]), nodes))
        self.expect("policies", (found["policy"], found["operator_policy"],
                                 found["effective_policy_definition"]),
                    ("mirrors", "op", {"ha-mode": "all", "max-length": 50000}))

    def activity(self):
        """activity_status of consumers; the name of the cluster."""
        single = short("x-single-active-consumer") + b"t\1"
        with Raw(self.first.amqp_port).open() as raw:
            for name, arguments in (("act.single", single), ("act.plain", b"")):
                raw.send(queue_declare(1, name, DURABLE, arguments))
                raw.expect(50, 11, 20)
            for queue, tag in (("act.single", "a"), ("act.single", "b"), ("act.plain", "c")):
                raw.send(method(1, 60, 20, b"\0\0" + short(queue) + short(tag) + b"\0" +
                                longstr(b"")))
                raw.expect(60, 21, 20)
            rows = self.ask(self.last, "-s list_consumers consumer_tag activity_status")[1]
            self.expect("consumers", sorted(line.split("\t") for line in rows.splitlines()),
                        [["a", "single_active"], ["b", "waiting"], ["c", "up"]])
            self.expect("in use", self.ask(self.last, "-q delete_queue act.plain -u"),
                        (64, "", "Error:\nQueue is in use\n"))
        self.expect("name", self.ask(self.last, "-q set_cluster_name 'a name'")[0], 0)
        status = json.loads(self.ask(self.first, "--formatter json cluster_status")[1])
        self.expect("it", status["cluster_name"], "a name")

    def moved_while_its_leader_dies(self):
        """A move from a mirrored queue whose leader dies: each message is in one of the queues, or in both."""
        count = 20000
        with Raw(self.last.amqp_port).open() as raw:
            for name in ("mir.from", "mir.to"):
                raw.send(queue_declare(1, name, DURABLE))
                raw.expect(50, 11, 20)
            raw.send(method(1, 85, 10, b"\0"))
            raw.expect(85, 11)
            one = publish(1, "", "mir.from") + content(1, 5)
            for i in range(count):
                raw.send(one + frame(BODY, 1, b"%05d" % i))
            while int.from_bytes(raw.expect(60, 80, 20)[:8], "big") < count:
                pass
        clusters.wait_until(lambda: self.synchronised("mir.from") and self.synchronised("mir.to"),
                            WAIT_S, "both are replicated")
        victim = next(n for n in self.cluster.nodes if n.name == self.leader("mir.from"))
        asked = next(n for n in self.cluster.nodes if n is not victim)
        words, environment = self.cluster.driver.ctl(asked, "-q", "move", "mir.from", "mir.to")
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment) as moving:
            clusters.wait_until(lambda: self.messages("mir.to", asked) > 0, WAIT_S, "some are moved")
            self.cluster.kill(victim)
            moving.communicate(timeout=WAIT_S)
        self.first, self.last = asked, asked
        self.ask(asked, "-q move mir.from mir.to")  # what the first one has not done
        clusters.wait_until(lambda: self.messages("mir.from") == 0, WAIT_S, "nothing is left")
        bodies = [row["body"] for row in json.loads(self.ask(
            asked, f"-q --formatter json peek mir.to --count {2 * count}")[1])]
        self.expect("all are there", len(set(bodies)), count)
        # each once, but for what was on its way when the leader died: a page at most
        self.expect("few are there twice", len(bodies) <= count + 1000, True)
        self.cluster.start(victim)
        self.cluster.wait_ready()

    def synchronised(self, queue):
        rows = json.loads(self.ask(self.last, "-q --formatter json list_queues name members "
                                   "synchronised_slave_pids")[1])
        row = next(r for r in rows if r["name"] == queue)
        return len(row["members"]) == 3 and len(row["synchronised_slave_pids"]) == 2

    def leader(self, queue):
        rows = self.ask(self.last, "-s list_queues name leader")[1].splitlines()
        return dict(row.split("\t") for row in rows)[queue]

    def alarms(self, node):
        status = json.loads(self.ask(node, "--formatter json cluster_status")[1])
        return sorted((alarm["node"], alarm["resource"]) for alarm in status["alarms"])

    def settings(self):
        """Set on the node that is asked, at once; all others hear of the alarm; ended the same way."""
        here = self.last
        for low, what, ordinary in (
                ("set_vm_memory_high_watermark absolute 1MB", "memory",
                 "set_vm_memory_high_watermark 0.7"),
                ("set_disk_free_limit 1000TB", "disk", "set_disk_free_limit 20MB")):
            self.expect(low, self.ask(here, "-q " + low), (0, "", ""))
            clusters.wait_until(lambda what=what: self.alarms(self.first) == [(here.name, what)],
                                WAIT_S, f"everybody knows of the {what} alarm")
            self.expect(ordinary, self.ask(here, "-q " + ordinary), (0, "", ""))
            clusters.wait_until(lambda: self.alarms(self.first) == [], WAIT_S, "no alarm")
        self.expect("log level", self.ask(here, "-q set_log_level warning")[0], 0)
        rabbit = json.loads(self.ask(here, "--formatter json environment")[1])["rabbit"]
        self.expect("environment", (rabbit["vm_memory_high_watermark"], rabbit["disk_free_limit"],
                                    rabbit["log_level"]), ({"relative": 0.7}, 20_000_000, "warning"))
        with open(os.path.join(here.folder, "log"), encoding="utf-8") as file:
            before = file.read()
        self.expect("a change that is not logged", self.ask(here, "-q add_user quiet pw")[0], 0)
        self.expect("a level", self.ask(here, "-q set_log_level info")[0], 0)
        self.expect("a change that is", self.ask(here, "-q delete_user quiet")[0], 0)
        with open(os.path.join(here.folder, "log"), encoding="utf-8") as file:
            logged = file.read()[len(before):]
        self.expect("the log", ("add_user" in logged, "delete_user 'quiet'" in logged), (False, True))
        status = json.loads(self.ask(here, "--formatter json status")[1])
        self.expect("status", (status["vm_memory_high_watermark_setting"], status["disk_free_limit"]),
                    ({"relative": 0.7}, 20_000_000))
        code, text, errors = self.ask(self.first, "report")
        self.expect("report", (code, errors, "Application environment of node" in text,
                               "Listing bindings for vhost /..." in text), (0, "", True, True))

    def without_a_leader(self):
        """Two of three are gone: lists say what is known, changes say why not."""
        self.cluster.kill(*self.cluster.nodes[1:])
        left = self.cluster.nodes[0]
        warning = "Warning: the cluster's catalog has no leader in reach; this is what the node knows\n"
        clusters.wait_until(lambda: self.ask(left, "-s list_users")[2] == warning, WAIT_S,
                            "a list with a warning")
        code, text, errors = self.ask(left, "-q add_user late pw")
        self.expect("a change", (code, text, "no leader was reached" in errors), (69, "", True))

    def run(self):
        failed = 0
        checks = [self.passwords, self.connections, self.interrupted, self.mirrored, self.activity,
                  self.settings]
        if len(self.cluster.nodes) > 1:
            checks += [self.moved_while_its_leader_dies, self.without_a_leader]
        for check in checks:
            try:
                check()
                print(f"ok {check.__name__}")
            except (clusters.ClusterError, KeyError, ValueError, StopIteration, Ended,
                    subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED {check.__name__}: {error!r}")
        return failed


def compare(cluster, cases, record):
    failed = 0
    for i, wanted in enumerate(cases):
        node = cluster.nodes[i % len(cluster.nodes)]
        got = run(cluster, node, wanted[0])
        if record:
            cases[i] = got
        elif got != wanted:
            failed += 1
            print(f"FAILED on {node.name}: {wanted[0]}\n  {got[1:]}\n  instead of\n  {wanted[1:]}")
    print(f"{len(cases) - failed} commands right, {failed} wrong, {len(cluster.nodes)} node(s)")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    cases = load(TABLE)
    failed = 0
    try:
        folder = options.folder
        for count in (1, ) if options.record else (1, 3):
            options.folder = folder and f"{folder}-{count}"
            with clusters.from_options(options, count, f"ctl-table-{count}") as cluster:
                cluster.form()
                cluster.wait_ready()
                with Raw(cluster.nodes[0].amqp_port).open() as raw:
                    prepare(raw)
                    failed += compare(cluster, cases, options.record)
                failed += 0 if options.record else Checks(cluster).run()
    except clusters.ClusterError as error:
        print(error, file=sys.stderr)
        return 2
    if options.record:
        save(TABLE, cases)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
