#!/usr/bin/env python3
"""Real clients against real processes: everything of ./dev test that needs a running broker.

Each step starts its own nodes on free ports, below .dev/real/suite-PID, and ends them in an orderly way,
which must succeed with exit code 0 and, for the sanitizers' programs, without a report. What a step
prints goes to STEP.log there; when it fails, its lines that tell of failures and its end are shown. Nothing
is left running.

Two steps are under way at a time, since most of them wait more than they compute, each in a lane: a part of the
ports of its own.
"""

import argparse
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import cluster as clusters
from cluster import ClusterError

HERE = os.path.dirname(os.path.abspath(__file__))
COMPAT = os.path.join(clusters.ROOT, "tests", "compat")
sys.path.insert(0, COMPAT)
import clients  # noqa: E402  pylint: disable=wrong-import-position
import later  # noqa: E402  pylint: disable=wrong-import-position

LANES = 2
STEP_S = 600
LOAD_S = 60
SHOWN = 40              # lines of a failed step
FAILURES = ("not ok ", "FAILED", "Traceback", "==")     # ... and those that begin so, wherever they are
SANITIZERS = {
    # What was freed and is watched for use counts as the node's memory: not the default of 256 MiB.
    "ASAN_OPTIONS": "exitcode=97:detect_leaks=1:quarantine_size_mb=64",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=97:second_deadlock_stack=1:suppressions=" +
                    os.path.join(clusters.ROOT, "tests", "tsan.supp"),
}
QUORUM = ("--quorum-queue", "-s", "1024", "-c", "100", "-q", "100")
# name, options of warren-perf
LOADS = (
    ("transient", ("-x2", "-y2", "-s16", "-a", "-z3")),
    ("durable", ("-x2", "-y2", "-s1024", "-c500", "-q500", "-f", "persistent", "-u", "durable", "-z3")),
    ("quorum", ("-x2", "-y2", "-u", "quorum", "-z3") + QUORUM),
    ("many-queues", ("-x2", "-y2", "-X4", "-Y10", "-qp", "many-%d", "-qpf", "1", "-qpt", "20",
                     "--quorum-queue", "-s50000", "-c10", "-q10", "-z3")),
    ("fill", ("-x1", "-y0", "-s1024", "-c1000", "-f", "persistent", "-u", "backlog", "-C10000")),
    ("drain", ("-x0", "-y1", "-s1024", "-q50", "-f", "persistent", "-u", "backlog", "-D10000")),
)
# the same after a restart: what was filled before it is drained after it
BEFORE, AFTER = LOADS[:-1], LOADS[-1:] + LOADS[2:3]


class StepFailed(Exception):
    pass


class Step:
    """One of them, while it runs: its log, its lane, what it has started."""

    def __init__(self, options, folder, name, lane, stopping):
        self.options, self.folder, self.name, self.stopping = options, folder, name, stopping
        self.names = list(clients.NAMES)
        self.log = os.path.join(folder, name + ".log")
        self.out = None
        first, end = clusters.port_range(clusters.PORTS)
        width = (end - first) // LANES
        self.ports = first + lane * width, first + (lane + 1) * width
        self.env = dict(os.environ, WARREN_TEST_PORTS="%d-%d" % self.ports)

    def run(self, work, *arguments):
        """work(self, ...) answers with a short text for the table. Returns seconds, that text, why it failed."""
        begun = time.monotonic()
        with open(self.log, "w", encoding="utf-8") as self.out:
            try:
                note, why = work(self, *arguments), None
            except (StepFailed, ClusterError, OSError, subprocess.SubprocessError) as error:
                note, why = "", f"{error}"
            except Exception:   # pylint: disable=broad-exception-caught
                note, why = "", traceback.format_exc()     # a fault of ours: a thread would keep it to itself
        return time.monotonic() - begun, note, why

    def end_of_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = ["      " + line for line in file]
        said = [line for line in lines[:-SHOWN] if line.lstrip().startswith(FAILURES)]
        return "".join(said[:SHOWN] + ["      ...\n"] * bool(said) + lines[-SHOWN:])

    # --- what they are made of ---------------------------------------------------------------

    def program(self, *command, seconds=STEP_S):
        """Runs a program with its output in the step's log; its exit code. At its time limit, or when all
        is to end, it is interrupted, so that it can end what it has started."""
        self.out.write(f"\n$ {' '.join(command)}\n")
        self.out.flush()
        end = time.monotonic() + seconds
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.out,
                              stderr=subprocess.STDOUT, env=self.env) as process:
            while time.monotonic() < end and not self.stopping.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(0.5)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        if self.stopping.is_set():
            raise StepFailed("interrupted")
        raise StepFailed(f"{os.path.basename(command[1])} did not end within {seconds} s")

    def last_line(self):
        self.out.flush()
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1] if lines else ""

    @contextlib.contextmanager
    def cluster(self, name, count, shards, binary=None):
        """A formed cluster whose orderly end is checked."""
        driver = clusters.WarrenDriver(binary or self.options.warren, self.options.warrenctl, shards)
        cluster = clusters.Cluster(driver, count, os.path.join(self.folder, name), ports=self.ports)
        try:
            yield cluster.form()
            self.all_running(cluster)
            problems = cluster.end()
            if problems:
                raise StepFailed("\n".join(problems))
        except BaseException:
            for node in cluster.nodes:
                self.out.write(f"\n--- {node.name}\n{cluster.tail(node, 200)}\n")
            cluster.destroy(keep=True)
            raise
        cluster.destroy()

    def all_running(self, cluster):
        for node in cluster.nodes:
            if not node.running:
                raise StepFailed(f"{node.name} has ended with {node.process.poll()}: " +
                                 "; ".join(cluster.reports(node)))

    def suites(self, cluster, only, with_later):
        """The client suites; raises when one fails."""
        left = [] if with_later else ["--leave-out"]
        code = self.program(sys.executable, os.path.join(COMPAT, "run.py"), "--uris",
                            ",".join(cluster.uris), "--only", ",".join(only), "--later",
                            later.FILE, "--jobs", "4", *left)
        self.all_running(cluster)
        total = self.last_line().split()
        if code != 0:
            raise StepFailed("a client suite failed")
        counts = f"{len(only)} clients, {total[1]} checks"
        return counts + (f", {total[3]} later" if total[3] != "0" else "")

    def load(self, cluster, name, arguments):
        """One load; answers with messages received (or confirmed) per second."""
        path = os.path.join(cluster.folder, "load.json")
        code = self.program(self.options.perf, "-H", ",".join(cluster.uris), "--quiet", "--json",
                            path, *arguments, seconds=LOAD_S)
        self.all_running(cluster)
        if code != 0:
            raise StepFailed(f"load {name}: warren-perf ended with {code}")
        with open(path, encoding="utf-8") as file:
            summary = json.load(file)
        wanted = "confirmed" if name == "fill" else "received"
        if not summary[wanted]:
            raise StepFailed(f"load {name}: nothing was {wanted}")

    def churn(self, cluster):
        """Connections that come and go, and consumers that are killed in the middle of it."""
        uris = ",".join(cluster.uris)
        for _ in range(8):
            code = self.program(self.options.perf, "-H", uris, "--quiet", "-x4", "-y4", "-X3", "-Y3",
                                "-s100", "-a", "-C20", "-D20", seconds=LOAD_S)
            if code != 0:
                raise StepFailed(f"churn: warren-perf ended with {code}")
        common = [self.options.perf, "-H", uris, "--quiet", "-u", "killed", *QUORUM]
        with subprocess.Popen([*common, "-x1", "-y0", "-z4"], stdout=self.out,
                              stderr=subprocess.STDOUT) as publisher:
            for _ in range(3):
                with subprocess.Popen([*common, "-x0", "-y4", "-z30"], stdout=self.out,
                                      stderr=subprocess.STDOUT) as consumers:
                    self.await_consumers(cluster, "killed", 4)
                    consumers.kill()
            if publisher.wait(LOAD_S) != 0:
                raise StepFailed(f"the publisher ended with {publisher.returncode} when consumers "
                                 "were killed")
        self.all_running(cluster)
        self.load(cluster, "what the killed left", ("-x0", "-y1", "-z2", "-u", "killed", *QUORUM))

    def await_consumers(self, cluster, queue, count):
        def there():
            rows = cluster.ctl_json("list_queues", "name", "consumers") or []
            return any(row["name"] == queue and row["consumers"] >= count for row in rows)
        clusters.wait_until(there, LOAD_S, f"{count} consumers of {queue}", 0.2)

    def restart(self, cluster):
        problems = cluster.end()
        if problems:
            raise StepFailed("\n".join(problems))
        cluster.form()

    # --- the steps ---------------------------------------------------------------------------

    def all_clients(self, name, count, shards):
        with self.cluster(name, count, shards) as cluster:
            return self.suites(cluster, self.names, False)

    def later_checks(self):
        """What is not there yet must fail in an orderly way too."""
        with self.cluster("later", 1, 2) as cluster:
            return self.suites(cluster, ["python"], True)

    def differences(self, count, shards, binary):
        """Client scripts and bad input, compared with what RabbitMQ has said (docs/compat.md)."""
        folder = os.path.join(self.folder, f"diff-{count}")
        code = self.program(sys.executable, os.path.join(COMPAT, "diff", "run.py"), "--nodes",
                            str(count), "--shards", str(shards), "--warren", binary,
                            "--warrenctl", self.options.warrenctl, "--folder", folder, "--leave-out",
                            "--jobs", "2")
        if code != 0:
            raise StepFailed(f"diff/run.py ended with {code}; {self.last_line()}")
        return self.last_line()

    def differences_over_tls(self, shards, binary):
        """Those scripts where it can matter how the bytes come, over TLS."""
        code = self.program(sys.executable, os.path.join(COMPAT, "diff", "run.py"), "--tls", "--share",
                            "tls", "--shards", str(shards), "--warren", binary, "--warrenctl",
                            self.options.warrenctl, "--folder",
                            os.path.join(self.folder, "diff-tls"), "--leave-out")
        if code != 0:
            raise StepFailed(f"diff/run.py --tls ended with {code}; {self.last_line()}")
        return self.last_line()

    def script(self, name, *arguments):
        """One of the programs of this folder, against the program that is given or the release."""
        folder = os.path.join(self.folder, name)
        code = self.program(sys.executable, os.path.join(HERE, name + ".py"), "--warrenctl",
                            self.options.warrenctl, "--folder", folder, *arguments)
        if code != 0:
            raise StepFailed(f"{name}.py ended with {code}; logs and data are in {folder}")
        return self.last_line()

    def kill_test(self):
        return self.script("kill_test", "--warren", self.options.warren, "--rounds", "6",
                           "--clients", ",".join(self.workers()))

    def features_test(self):
        judgement = os.path.join(HERE, "test_features.py")
        if self.program(clients.Client("python").python, judgement) != 0:
            raise StepFailed("the features test's own judgement is wrong")
        return self.script("features_test", "--warren", self.options.warren, "--rounds", "4")

    def mirror_test(self):
        return self.script("mirror_test", "--warren", self.options.warren, "--shards", "2",
                           "--clients", ",".join(self.workers()))

    def partition_test(self):
        return self.script("partition_test", "--warren", self.options.warren, "--rounds", "10",
                           "--clients", "python,go,c")

    def proxy_test(self):
        return self.script("proxy_test", "--warren", self.options.warren, "--rounds", "2",
                           "--clients", "python,c")

    def full_disk(self, binary):
        return self.script("full_disk_test", "--warren", binary, "--shards", "2", "--clients", "python,c")

    def workers(self):
        """The clients that have a worker program."""
        return [name for name in self.names
                if glob.glob(os.path.join(COMPAT, name, "**", "[wW]orker*"), recursive=True)]

    def sanitized(self, name, binary, count, shards):
        """pika, loads, churn, a restart with data, and a clean end."""
        with self.cluster(name, count, shards, binary) as cluster:
            note = self.suites(cluster, ["python"], False)
            for load, arguments in BEFORE:
                self.load(cluster, load, arguments)
            self.churn(cluster)
            self.restart(cluster)
            for load, arguments in AFTER:
                self.load(cluster, load, arguments)
        return f"{note}, {len(BEFORE) + len(AFTER)} loads, churn, restart: no report"

    def prepare(self):
        """Builds all clients first, so that no other step pays for it."""
        _ready, failed = clients.prepare(self.names)
        if failed:
            raise StepFailed(f"cannot be built: {', '.join(failed)}")
        return ", ".join(self.names)


def all_steps(o):
    """(name, what does it, its arguments ...), in their order; the first one by itself, before all others."""
    hard = o.asan_warren or o.warren    # where a bug would show best
    yield "clients", Step.prepare
    yield "diff-1-node", Step.differences, 1, 2, hard
    yield "tls", Step.script, "tls", "--warren", hard, "--shards", "2"
    yield "suites-1-node", Step.all_clients, "suites-1", 1, 2
    yield "diff-tls", Step.differences_over_tls, 2, hard
    if not o.quick:
        yield "diff-3-nodes", Step.differences, 3, 1, o.warren
        yield "suites-3-nodes", Step.all_clients, "suites-3", 3, 1
        yield "suites-later", Step.later_checks
    yield "kill-test", Step.kill_test
    yield "mirror-test", Step.mirror_test
    yield "features-test", Step.features_test
    yield "partition-test", Step.partition_test
    yield "proxy-test", Step.proxy_test
    yield "full-disk", Step.full_disk, hard
    for kind, binary, shards in (("asan", o.asan_warren, 2), ("tsan", o.tsan_warren, 3)):
        if binary and not o.quick:
            yield f"{kind}-1-node", Step.sanitized, f"{kind}-1", binary, 1, shards
            yield f"{kind}-3-nodes", Step.sanitized, f"{kind}-3", binary, 3, shards
    yield "bad-input", Step.script, "bad_input", "--warren", hard, "--later", later.FILE
    yield "damage", Step.script, "damage", "--warren", hard
    yield "limits", Step.script, "limits", "--warren", hard
    yield "slow-link", Step.script, "slow_link", "--warren", o.warren
    yield "consumers", Step.script, "consumers", "--warren", hard
    yield "ctl", Step.script, "ctl", "--warren", hard
    yield "ctl-checks", Step.script, "ctl_checks", "--warren", hard
    yield "ctl-head", Step.script, "ctl_head", "--warren", hard
    yield "ctl-table", Step.script, "ctl_table", "--warren", hard
    yield "ctl-nodes", Step.script, "ctl_nodes", "--warren", hard
    yield "ctl-move", Step.script, "ctl_move", "--warren", hard
    yield "alarms", Step.script, "alarms", "--warren", o.warren, "--perf", o.perf


class Suite:
    """Runs the steps that are wanted, in LANES threads, and tells how it went."""

    def __init__(self, options):
        self.options = options
        self.folder = os.path.join(clusters.ROOT, ".dev", "real", f"suite-{os.getpid()}")
        self.rows, self.failed = [], []
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.left = [step for step in all_steps(options)
                     if any(step[0].startswith(wanted) for wanted in options.steps)]

    def lane(self, number, most):
        """Takes one step after the other, `most` at the most."""
        for _ in range(most):
            with self.lock:
                if not self.left or self.stopping.is_set():
                    return
                name, work, *arguments = self.left.pop(0)
            step = Step(self.options, self.folder, name, number, self.stopping)
            seconds, note, why = step.run(work, *arguments)
            with self.lock:
                self.tell(step, seconds, note, why)

    def tell(self, step, seconds, note, why):
        result = "FAILED" if why else "passed"
        self.rows.append((step.name, result, f"{seconds:.1f}", (why or note).split("\n", maxsplit=1)[0]))
        print(f"   {step.name} {result} ({seconds:.1f} s) {note}", flush=True)
        if why:
            self.failed.append(step.name)
            print(f"{why}\n   the end of {step.log}:\n{step.end_of_log()}", flush=True)

    def run(self):
        os.makedirs(self.folder)
        if self.left and self.left[0][0] == "clients":
            self.lane(0, 1)     # so that no other one pays for it
        threads = [threading.Thread(target=self.lane, args=(number, len(self.left)))
                   for number in range(LANES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def show(self, seconds):
        print(f"\n{'step':<16}{'result':<8}{'seconds':>8}  what")
        for row in self.rows:
            print("%-16s%-8s%8s  %s" % row)
        print(f"{len(self.rows) - len(self.failed)} steps passed, {len(self.failed)} failed, "
              f"{seconds:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    build = os.path.join(clusters.ROOT, "build", "release", "src")
    parser.add_argument("--warren", default=clusters.WARREN, help="the server program")
    parser.add_argument("--warrenctl", default=clusters.WARRENCTL)
    parser.add_argument("--perf", default=os.path.join(build, "perf", "warren-perf"))
    parser.add_argument("--asan-warren", help="the server built with address,undefined")
    parser.add_argument("--tsan-warren", help="the server built with thread")
    parser.add_argument("--quick", action="store_true", help="one node, no sanitizers")
    parser.add_argument("--steps", default="", help="only steps that begin like one of these")
    options = parser.parse_args()
    for name in ("warren", "warrenctl", "perf", "asan_warren", "tsan_warren"):
        path = getattr(options, name)
        if path is not None:
            setattr(options, name, os.path.abspath(path))
            if not os.access(path, os.X_OK):
                parser.error(f"{path} is not a program")
    options.steps = options.steps.split(",")
    os.environ.update(SANITIZERS)

    begun = time.monotonic()
    suite = Suite(options)
    # no exception: threads are joined. And what is started is not to ignore SIGINT, as background jobs do.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda *_: suite.stopping.set())
    suite.run()
    if suite.stopping.is_set():
        print(f"\ninterrupted; logs are in {suite.folder}")
        return 130
    suite.show(time.monotonic() - begun)
    if suite.failed:
        print(f"logs and data are in {suite.folder}")
        return 1
    shutil.rmtree(suite.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
