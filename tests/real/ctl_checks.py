#!/usr/bin/env python3
"""warrenctl's health checks, as probes and scripts call rabbitmq-diagnostics and rabbitmqctl.

With --driver rabbitmq the same checks run on RabbitMQ, but for what is marked `ours`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

import cluster as clusters
from amqp_raw import Ended, Raw, longstr, queue_declare, short
from cluster import ClusterError, wait_until
from ctl_run import Failed, expect, run_ctl
from tls_pki import Pki

WAIT_S = 60
DURABLE = 2
USAGE, DATA, UNAVAILABLE, SOFTWARE, TEMPORARY = 64, 65, 69, 70, 75
AWAIT_ALONE = "Target node seems to be the only one in a single node cluster, the command does not apply\n"
QUORUM = short("x-queue-type") + b"S" + longstr("quorum")


class Checks:
    def __init__(self, cluster):
        self.cluster = cluster
        self.node = cluster.nodes[0]
        self.ours = cluster.driver.name == "warren"

    def run(self, *arguments, node=None, tool="rabbitmq-diagnostics"):
        """Exit code, standard output, standard error, with NODE for the node's name."""
        node = node or self.node
        code, out, err = run_ctl(self.cluster, node, *arguments, tool=tool)
        return code, out.replace(node.name, "NODE"), err.replace(node.name, "NODE")

    # --- one node ----------------------------------------------------------------------------------

    def texts(self):
        running = "RabbitMQ on node NODE is fully booted and running\n"
        quiet = "Node NODE reported no alarms, local or clusterwide\n"
        for command, banner, text in (
                ("check_running", "Checking if RabbitMQ is running on node NODE ...\n", running),
                ("is_running", "Asking node NODE for its status ...\n", running),
                ("is_booting", "Asking node NODE for its boot status ...\n",
                 "RabbitMQ on node NODE is fully booted (check with is_running), stopped or has not started "
                 "booting yet\n"),
                ("check_local_alarms", "Asking node NODE to report any local resource alarms ...\n",
                 "Node NODE reported no local alarms\n"),
                ("check_alarms", "Asking node NODE to report any local resource alarms ...\n", quiet),
                ("alarms", "Asking node NODE to report any known resource alarms ...\n", quiet),
                ("check_virtual_hosts", "Checking if all vhosts are running on node NODE ...\n",
                 "Node NODE reported all vhosts as running\n"),
                ("check_certificate_expiration", "Checking certificate expiration on node NODE ...\n",
                 "No certificates are expiring within 4 weeks.\n"),
                ("check_if_node_is_quorum_critical",
                 "Checking if node NODE is critical for quorum of any quorum queues ...\n",
                 "Node NODE seems to be the only one in a single node cluster, the check does not apply\n"),
                ("await_online_quorum_plus_one",
                 "Will wait for a quorum + 1 of nodes to be online for all quorum queues for 120 seconds...\n",
                 AWAIT_ALONE),
                ("await_online_synchronized_mirror",
                 "Will wait for a synchronised mirror be online for all classic mirrored queues for 120 seconds...\n",
                 AWAIT_ALONE)):
            tool = "rabbitmq-upgrade" if command.startswith("await_") else "rabbitmq-diagnostics"
            expect(command, self.run(command, tool=tool), (0, banner + text, ""))
            expect(f"-q {command}", self.run("-q", command, tool=tool),
                   (0, "" if command.startswith("await_") else text, ""))
        for command in ("check_local_alarms", "check_virtual_hosts"):
            expect(f"-s {command}", self.run("-s", command), (0, "", ""))

    def as_json(self):
        running = "RabbitMQ on node NODE is fully booted and running"
        for command, wanted in (
                ("check_running", {"message": running}),
                ("is_running", {"message": running, "result": True}),
                ("check_local_alarms", {"result": "ok"}), ("check_virtual_hosts", {"result": "ok"}),
                ("alarms", {"alarms": [], "node": "NODE", "result": "ok"})):
            code, text, errors = self.run("--formatter", "json", command)
            expect(command, (code, json.loads(text), errors), (0, wanted, ""))
        code, text, _ = self.run("--formatter", "json", "server_version")
        expect("server_version", (code, sorted(json.loads(text))), (0, ["result", "value"]))
        code, text, _ = self.run("--formatter", "json", "listeners")
        rows = json.loads(text)["listeners"]
        expect("keys", {tuple(sorted(row)) for row in rows},
               {("interface", "node", "port", "protocol", "purpose")})
        expect("protocols", sorted(row["protocol"] for row in rows), ["amqp", "clustering"])

    def listeners(self):
        port = self.node.amqp_port
        line = f"Interface: 127.0.0.1, port: {port}, protocol: amqp, purpose: AMQP 0-9-1"
        code, text, _ = self.run("-q", "listeners")
        expect("listeners", (code, len(text.splitlines()), any(
            row.startswith(line) for row in text.splitlines())), (0, 2, True))
        ports = sorted([port, self.node.cluster_port])
        code, text, errors = self.run("-q", "check_port_connectivity")
        expect("connectivity", (code, text.startswith("Successfully connected to ports "),
                                text.endswith(" on node NODE.\n"),
                                all(str(p) in text for p in ports), errors), (0, True, True, True, ""))
        expect("port", self.run("-q", "check_port_listener", str(port)),
               (0, f"A listener for port {port} is running on node NODE.\n", ""))
        expect("protocol", self.run("-q", "check_protocol_listener", "amqp"),
               (0, "A listener for protocol amqp is running on node NODE.\n", ""))
        for name in ("amqp091", "AMQP", "amqp1.0"):
            expect(name, self.run("-q", "check_protocol_listener", name)[:2],
                   (0, "A listener for protocol amqp is running on node NODE.\n"))
        code, text, errors = self.run("-q", "check_port_listener", "9")
        expect("another port", (code, text, "No listener for port 9 is active on node NODE. Found listeners "
                                "that use the following ports: " in errors), (UNAVAILABLE, "", True))
        code, text, errors = self.run("-q", "check_protocol_listener", "mqtt")
        expect("another protocol", (code, text, "No listener for protocol mqtt is active on node NODE. Found "
                                    "listeners for the following protocols: " in errors),
               (UNAVAILABLE, "", True))
        code, text, errors = self.run("check_port_listener", "abc")
        expect("no port", (code, text, errors.startswith(
            "Error (argument validation): Bad argument: Argument must be a positive integer\n")),
            (DATA, "", True))
        expect("none", self.run("check_port_listener")[0], USAGE)

    def alarms(self):
        line = "Free disk space alarm on node NODE\n"
        expect("set", self.run("-q", "set_disk_free_limit", "900GB", tool="rabbitmqctl")[0], 0)
        wait_until(lambda: self.run("-q", "check_local_alarms")[0] == UNAVAILABLE, WAIT_S, "an alarm")
        expect("check", self.run("-q", "check_local_alarms"), (UNAVAILABLE, "", "Error:\n" + line))
        expect("-s", self.run("-s", "check_local_alarms"), (UNAVAILABLE, "", ""))
        code, text, errors = self.run("-q", "check_alarms")
        expect("of all", (code, text, errors.endswith(line)), (UNAVAILABLE, "", True))
        expect("alarms", self.run("-q", "alarms"), (0, line, ""))
        expect("reset", self.run("-q", "set_disk_free_limit", "50MB", tool="rabbitmqctl")[0], 0)
        wait_until(lambda: self.run("-q", "check_local_alarms")[0] == 0, WAIT_S, "no alarm")

    def failed(self, *arguments, node=None):
        """What the JSON formatter shows of a check that fails: an object on standard error, nothing else."""
        code, text, errors = self.run("--formatter", "json", *arguments, node=node)
        expect(arguments, (code, text), (UNAVAILABLE, ""))
        return json.loads(errors)

    def failed_as_json(self):
        found = self.failed("check_port_listener", "9")
        expect("port", (sorted(found), found["missing"], sorted(found["ports"]), found["result"]),
               (["listeners", "missing", "ports", "result"], "9",
                sorted([self.node.amqp_port, self.node.cluster_port]), "error"))
        found = self.failed("check_protocol_listener", "mqtt")
        expect("protocol", (sorted(found), found["missing"], sorted(found["protocols"])),
               (["listeners", "missing", "protocols", "result"], "mqtt", ["amqp", "clustering"]))
        line = "Free disk space alarm on node NODE"
        expect("set", self.run("-q", "set_disk_free_limit", "900GB", tool="rabbitmqctl")[0], 0)
        wait_until(lambda: self.run("-q", "check_local_alarms")[0] == UNAVAILABLE, WAIT_S, "an alarm")
        both = {"local": [line], "global": [], "message": "Node NODE reported alarms"}
        expect("of the node", self.failed("check_local_alarms"),
               {"local": [line], "message": "Node NODE reported local alarms", "result": "error"})
        expect("of all", self.failed("check_alarms"), {**both, "result": "error"})
        code, text, errors = self.run("--formatter", "json", "alarms")
        expect("alarms", (code, json.loads(text), errors), (0, {**both, "result": "ok"}, ""))
        expect("bare", self.run("-q", "check_alarms"), (UNAVAILABLE, "", line + "\n"))
        expect("reset", self.run("-q", "set_disk_free_limit", "50MB", tool="rabbitmqctl")[0], 0)
        wait_until(lambda: self.run("-q", "check_local_alarms")[0] == 0, WAIT_S, "no alarm")

    def of_the_process(self):
        code, text, _ = self.run("-q", "memory_breakdown", "--unit", "mb")
        lines = [line for line in text.splitlines() if line]
        expect("memory", (code, len(lines) > 1, all(" mb (" in line and line.endswith("%)") for line in lines)),
               (0, True, True))
        code, text, _ = self.run("-q", "log_location")
        expect("log", (code, os.path.exists(text.splitlines()[0].replace("NODE", self.node.name))), (0, True))
        code, text, _ = self.run("-q", "server_version")
        expect("version", (code, len(text.split("."))), (0, 3))

    def waiting(self):
        head = "Will wait for at least 1 nodes to join the cluster of NODE. Timeout: 300 seconds.\n"
        expect("one", self.run("await_online_nodes", "1", tool="rabbitmqctl"), (0, head, ""))
        code, _, errors = self.run("-q", "await_online_nodes", "2", "-t", "1", tool="rabbitmqctl")
        expect("two", (code, errors), (SOFTWARE, "Error:\nError: timed out while waiting. Not enough nodes "
                                       "joined NODE's cluster.\n"))

    def waiting_for_a_process(self):
        """As an init script does that has started a server."""
        pid = self.server_pid()
        path = os.path.join(self.node.folder, "the.pid")
        lines = [f"Waiting for erlang distribution on node 'NODE' while OS process '{pid}' is running",
                 "Waiting for applications 'rabbit_and_plugins' to start on node 'NODE'",
                 "Applications 'rabbit_and_plugins' are running on node 'NODE'"]

        def wait(*arguments):
            return self.run(*arguments, tool="rabbitmqctl")
        expect("pid", wait("wait", "--pid", str(pid)), (0, "".join(line + "\n" for line in lines), ""))
        expect("-q", wait("-q", "wait", "-P", str(pid)), (0, "", ""))
        code, text, _ = wait("--formatter", "json", "wait", "--pid", str(pid))
        expect("json", (code, json.loads(text)), (0, [{"message": line} for line in lines]))
        code, text, errors = wait("wait", path, "-t", "1")
        expect("no file", (code, text, errors),
               (TEMPORARY, f"Waiting for pid file '{path}' to appear\n",
                "Error: operation wait on node NODE timed out. Timeout value used: 1000\n"))
        for content, wanted in (("xyz\n", UNAVAILABLE), ("4194999\n", TEMPORARY), (f"{pid}\n", 0)):
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
            expect(f"file with {content!r}", wait("-q", "wait", path, "-t", "5")[0], wanted)
        code, text, errors = wait("wait", "--pid", "4194999")
        expect("no process", (code, errors), (UNAVAILABLE, "Error:\nprocess_not_running\n"))
        for arguments in (("wait", ), ("wait", path, "--pid", str(pid)), ("wait", "--pid", "abc"), ("wait", "a", "b")):
            expect(arguments, wait(*arguments)[0], USAGE)

    def server_pid(self):
        """Of the process that is the node itself: RabbitMQ's is started by scripts."""
        if self.ours:
            return self.node.process.pid
        return json.loads(self.run("-q", "--formatter", "json", "status", tool="rabbitmqctl")[1])["pid"]

    def feature_flags(self):
        def run(*arguments):
            return self.run(*arguments, tool="rabbitmqctl")
        code, text, errors = run("list_feature_flags")
        lines = text.splitlines()
        expect("list", (code, lines[:2], errors), (0, ["Listing feature flags ...", "name\tstate"], ""))
        for name in ("quorum_queue", "user_limits", "virtual_host_metadata", "implicit_default_bindings"):
            expect(name, f"{name}\tenabled" in lines, True)
        rows = json.loads(run("--formatter", "json", "list_feature_flags", "name,state,stability,desc,provided_by")[1])
        expect("columns", {tuple(row) for row in rows}, {("name", "state", "stability", "desc", "provided_by")})
        expect("another column", run("list_feature_flags", "foo")[0], USAGE)
        expect("all", run("enable_feature_flag", "all"), (0, "Enabling all feature flags ...\n", ""))
        expect("one", run("enable_feature_flag", "quorum_queue"),
               (0, 'Enabling feature flag "quorum_queue" ...\n', ""))
        expect("json", json.loads(run("--formatter", "json", "enable_feature_flag", "all")[1]),
               {"node": "NODE", "result": "ok"})
        expect("none", run("-q", "enable_feature_flag", "nosuch"),
               (USAGE, "", "Error:\nThis feature flag is not supported by node NODE\n"))
        expect("empty", (run("enable_feature_flag", "")[0], run("enable_feature_flag")[0]), (DATA, USAGE))

    def quorum_status(self):
        columns = ["Node Name", "Raft State", "Log Index", "Commit Index", "Snapshot Index", "Term", "Machine Version"]

        def run(*arguments):
            return self.run(*arguments, tool="rabbitmq-queues")
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            for name, flags, arguments in (("s.quorum", DURABLE, QUORUM), ("s.transient", 0, b"")):
                raw.send(queue_declare(1, name, flags, arguments))
                raw.expect(50, 11, WAIT_S)
        code, text, errors = run("--formatter", "json", "quorum_status", "s.quorum")
        row, = json.loads(text)
        expect("row", (code, list(row), row["Node Name"], row["Raft State"], row["Snapshot Index"], errors),
               (0, columns, "NODE", "leader", "undefined", ""))
        expect("numbers", all(isinstance(row[c], int) for c in columns[2:4] + columns[5:]), True)
        code, text, errors = run("quorum_status", "s.quorum")
        expect("banner", (code, text.split("\n")[0], errors),
               (0, "Status of quorum queue s.quorum on node NODE ...", ""))
        expect("none", run("-q", "quorum_status", "nosuch"), (UNAVAILABLE, "", "Error:\nnot_found\n"))
        code, text, errors = run("-q", "quorum_status", "s.transient")
        expect("classic", (code, errors.startswith("Error:\nCannot get quorum status of a classic queue")),
               (UNAVAILABLE, True))
        expect("no queue", run("quorum_status")[0], USAGE)

    def synchronising(self):
        def run(*arguments):
            return self.run(*arguments, tool="rabbitmqctl")
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            for name, arguments in (("y.mirrored", b""), ("y.plain", b""), ("y.quorum", QUORUM)):
                raw.send(queue_declare(1, name, DURABLE, arguments))
                raw.expect(50, 11, WAIT_S)
        expect("policy", run("-q", "set_policy", "all", "^y.mirrored", '{"ha-mode":"all"}')[0], 0)
        wait_until(lambda: run("-q", "sync_queue", "y.mirrored")[0] == 0, WAIT_S, "it is mirrored")
        expect("mirrored", run("sync_queue", "y.mirrored"),
               (0, "Synchronising queue 'y.mirrored' in vhost '/' ...\n", ""))
        expect("json", json.loads(run("--formatter", "json", "sync_queue", "y.mirrored")[1]),
               {"node": "NODE", "result": "ok"})
        for queue, why in (("nosuch", "not_found"), ("y.plain", "not_mirrored"),
                           ("y.quorum", "quorum_queue_not_supported")):
            expect(queue, run("-q", "sync_queue", queue), (UNAVAILABLE, "", f"Error:\n{why}\n"))
        expect("cancel", run("cancel_sync_queue", "y.plain"),
               (0, "Stopping synchronising queue 'y.plain' in vhost '/' ...\nnot_syncing\n", ""))
        expect("cancel in json", json.loads(run("--formatter", "json", "cancel_sync_queue", "y.plain")[1]),
               {"node": "NODE", "result": "ok", "value": "not_syncing"})
        for queue, why in (("nosuch", "not_found"), ("y.quorum", "quorum_queue_not_supported")):
            expect(queue, run("-q", "cancel_sync_queue", queue), (UNAVAILABLE, "", f"Error:\n{why}\n"))

    def logs_are_opened_anew(self):
        """ours: RabbitMQ 3.10 refuses to."""
        path = os.path.join(self.node.folder, "log")
        os.rename(path, path + ".1")
        expect("rotate", self.run("rotate_logs", tool="rabbitmqctl"), (0, "Rotating logs for node NODE ...\n", ""))
        expect("a new file", os.path.exists(path), True)

    def no_node(self):
        for command in ("check_running", "is_running", "check_local_alarms", "check_port_connectivity",
                        "listeners", "server_version", "check_virtual_hosts"):
            code, _, errors = self.run("-n", "nosuch@localhost", command)
            expect(command, (code, errors.startswith("Error: unable to perform an operation on node "
                                                     "'nosuch@localhost'.")), (UNAVAILABLE, True))

    def certificate(self):
        """Of a node that listens with TLS: the certificate ends in 30 days."""
        for within, unit, code in (("2", "weeks", 0), ("29", "days", 0), ("31", "days", UNAVAILABLE),
                                   ("2", "months", UNAVAILABLE), ("1", "years", UNAVAILABLE)):
            done = self.run("-q", "check_certificate_expiration", "--within", within, "--unit", unit)
            expect(f"{within} {unit}", (done[0], "No certificates are expiring within" in done[1]),
                   (code, code == 0))
        expect("another unit", self.run("check_certificate_expiration", "--unit", "mb")[0], USAGE)
        expect("its port", self.run("-q", "check_protocol_listener", "amqps")[:2],
               (0, "A listener for protocol amqp/ssl is running on node NODE.\n"))

    # --- three nodes -------------------------------------------------------------------------------

    def critical(self):
        """A node that a quorum queue, or a mirrored one, cannot do without."""
        first, second, third = self.cluster.nodes
        pattern = '{"ha-mode":"exactly","ha-params":2,"ha-sync-mode":"automatic"}'
        expect("policy", self.run("-q", "set_policy", "two", "^mir", pattern, tool="rabbitmqctl")[0], 0)
        with Raw(first.amqp_port, timeout=WAIT_S).open() as raw:
            for name, arguments in (("c.quorum", QUORUM), ("mir", b"")):
                raw.send(queue_declare(1, name, DURABLE, arguments))
                raw.expect(50, 11, WAIT_S)
        for node in self.cluster.nodes:
            for check in ("check_if_node_is_quorum_critical", "check_if_node_is_mirror_sync_critical"):
                wait_until(lambda n=node, c=check: self.run("-q", c, node=n)[0] == 0, WAIT_S,
                           f"{check} of {node.name} is content")
        self.cluster.kill(third)
        for node in (first, second):
            wait_until(lambda n=node: self.run("-q", "check_if_node_is_quorum_critical", node=n)[0] ==
                       UNAVAILABLE, WAIT_S, "two of three: each is needed")
            _, text, errors = self.run("-q", "check_if_node_is_quorum_critical", node=node)
            expect("it is named", "queue 'c.quorum' in vhost '/' would lose quorum if node NODE is stopped\n" in
                   errors, True)
            expect("nothing else", text, "")
            found = self.failed("check_if_node_is_quorum_critical", node=node)
            expect("keys", sorted(found), ["message", "queues", "result"])
            expect("queue", {"name": "c.quorum", "readable_name": "queue 'c.quorum' in vhost '/'", "type": "quorum",
                             "virtual_host": "/"} in found["queues"], True)
            code, text, errors = self.run("-q", "await_online_quorum_plus_one", "-t", "5", node=node,
                                          tool="rabbitmq-upgrade")
            expect("waiting", (code, errors), (UNAVAILABLE, "Error:\ntime is up, no quorum + 1 online replicas came "
                                               "online for at least some quorum queues\n"))
        code, text, _ = self.run("--formatter", "json", "quorum_status", "c.quorum", node=first, tool="rabbitmq-queues")
        states = {row["Node Name"].replace("NODE", first.name): row["Raft State"] for row in json.loads(text)}
        expect("of the replicas", (code, sorted(states), sorted([states[first.name], states[second.name]])),
               (0, sorted(n.name for n in self.cluster.nodes), ["follower", "leader"]))
        expect("of the one that is gone", states[third.name] in ("follower", "leader"), False)
        self.cluster.start(third)
        self.cluster.wait_ready()
        wait_until(lambda: self.run("-q", "check_if_node_is_quorum_critical")[0] == 0, WAIT_S, "three again")
        expect("three", self.run("-q", "await_online_nodes", "3", tool="rabbitmqctl"), (0, "", ""))
        # one mirror alone: its node is needed, the others are not
        pattern = '{"ha-mode":"exactly","ha-params":1}'
        expect("policy", self.run("-q", "set_policy", "two", "^mir", pattern, tool="rabbitmqctl")[0], 0)
        wait_until(lambda: [self.run("-q", "check_if_node_is_mirror_sync_critical", node=node)[0]
                            for node in self.cluster.nodes].count(UNAVAILABLE) == 1, WAIT_S, "one is needed")


    def starting(self):
        """A node that waits for others to start knows of nothing that needs it: that must not look healthy."""
        first = self.cluster.nodes[0]
        code = UNAVAILABLE if self.ours else USAGE
        self.cluster.kill(*self.cluster.nodes)
        if self.ours:  # with its data it may be all that the catalog needs, when the others joined just now
            shutil.rmtree(os.path.join(first.folder, "data"))
        self.cluster.start(first)
        wait_until(lambda: self.run("-q", "ping")[0] == 0, WAIT_S, "the first one can be asked")
        for check in ("check_if_node_is_quorum_critical", "check_if_node_is_mirror_sync_critical", "check_alarms",
                      "check_local_alarms", "check_virtual_hosts", "alarms"):
            expect(check, self.run("-q", check)[:2], (code, ""))
        for check in (("check_port_listener", str(first.amqp_port)), ("check_protocol_listener", "amqp"),
                      ("check_port_connectivity", )):
            expect(check, self.run("-q", *check)[:2], (code, ""))
        for command in ("await_online_quorum_plus_one", "await_online_synchronized_mirror"):
            expect(command, self.run("-q", command, "-t", "5", tool="rabbitmq-upgrade")[:2], (code, ""))
        expect("running", self.run("-q", "check_running")[0], UNAVAILABLE)
        for command in ("status", "cluster_status"):
            expect(command, self.run("-q", command, tool="rabbitmqctl")[0], USAGE)


def with_tls(options):
    """One node that listens with TLS, too."""
    folder = options.folder or os.path.join(clusters.ROOT, ".dev", "real", f"ctl-checks-{os.getpid()}")
    pki = Pki(folder + "-pki")
    pki.certificate("server", "/CN=localhost", days=30)
    first, end = (int(port) for port in options.ports.split("-"))
    extra = [f"listeners.ssl.1 = 127.0.0.1:{clusters.free_ports(3, first, end)[2]}",
             f"ssl_options.cacertfile = {pki.path('ca.pem')}",
             f"ssl_options.certfile = {pki.path('server.pem')}",
             f"ssl_options.keyfile = {pki.path('server.key')}"]
    driver = clusters.RabbitDriver(extra) if options.driver == "rabbitmq" else clusters.WarrenDriver(
        os.path.abspath(options.warren), os.path.abspath(options.warrenctl), options.shards, extra)
    return clusters.Cluster(driver, 1, os.path.abspath(folder), ports=(first, end)), pki.folder


def run_all(cluster, names):
    """How many failed."""
    failed = 0
    checks = Checks(cluster)
    for name in names:
        try:
            getattr(checks, name)()
            print(f"ok {name}", flush=True)
        except (Failed, ClusterError, Ended, OSError, ValueError, KeyError, IndexError,
                subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"not ok {name}: {error!r}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    folder = options.folder
    failed = 0
    try:
        for count, names in ((1, ("texts", "as_json", "listeners", "alarms", "of_the_process", "waiting",
                                  "no_node", "failed_as_json", "waiting_for_a_process", "feature_flags",
                                  "quorum_status", "synchronising") + (("logs_are_opened_anew", ) if options.driver == "warren" else ())), (3, ("critical", "starting"))):
            options.folder = folder and f"{folder}-{count}"
            with clusters.from_options(options, count, f"ctl-checks-{count}") as cluster:
                cluster.form()
                failed += run_all(cluster, names)
        options.folder = folder and f"{folder}-tls"
        cluster, certificates = with_tls(options)
        with cluster:
            cluster.form()
            failed += run_all(cluster, ("certificate", ))
        shutil.rmtree(certificates)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
