"""Clients of several languages at work on a cluster while it is hurt, and the sum in the end.

Confirmed publishers and acking consumers of a quorum queue and of a durable classic one. In the end every
confirmed message must have been consumed, nothing that was never published may have come, first
deliveries of one publisher must be in order, and a message that came twice must say so (ledger.py).
"""

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

PROGRESS = 20           # confirms per publisher that count as "works again"
PROGRESS_S = 60
DRAIN_S = 120


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


class Workload:
    """A test of this kind says what a round does: round(number), and what its table shows: HEADER."""

    NAME = HEADER = ""

    def __init__(self, options, cluster, ready):
        self.options, self.cluster, self.ready = options, cluster, ready
        self.random = random.Random(options.seed)
        self.problems, self.rows, self.workers = [], [], []
        self.python = clients.Client("python").python
        self.quorum, self.classic = f"{self.NAME}.quorum", f"{self.NAME}.classic"
        self.uris = cluster.uris        # where the clients connect

    def round(self, number):
        raise NotImplementedError

    def declare_queue(self, node, name, kind):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "declare.py")

        def declared():
            done = subprocess.run([self.python, program, node.uri, name, kind], capture_output=True,
                                  text=True, timeout=30, check=False)
            return done.returncode == 0
        wait_until(declared, 60, f"{name} to be declared", 0.2)

    def declare(self):
        self.declare_queue(self.cluster.nodes[0], self.quorum, "quorum")
        self.declare_queue(self.cluster.nodes[0], self.classic, "classic")

    def start_workers(self):
        folder = os.path.join(self.cluster.folder, "workers")
        os.makedirs(folder)
        plan = [(c, mode, self.quorum) for c in self.ready for mode in ("publisher", "consumer")]
        plan += [(c, mode, self.classic) for c in self.ready[:2]
                 for mode in ("publisher", "consumer")]
        for i, (client, mode, queue) in enumerate(plan):
            name = f"{client.name}-{queue.split('.')[1]}-{mode[0]}"
            self.workers.append(Worker(client, mode, name, queue, self.uris, i // 2 + i % 2,
                                       self.options, folder))

    def of(self, mode, queue=None):
        return [w for w in self.workers if w.mode == mode and queue in (None, w.queue)]

    def await_progress(self, workers, what, enough=all):
        """Seconds until the first and until the last has made progress (or enough of them have)."""
        begun = time.monotonic()
        before = {w.name: w.progress() for w in workers}
        first = []

        def on():
            for worker in workers:
                if worker.process.poll() is not None:
                    raise ClusterError(worker.wait(1) or f"{worker.name} ended early")
            counts = {w.name: w.progress() - before[w.name] for w in workers}
            if not first and any(c > 0 for c in counts.values()):
                first.append(time.monotonic() - begun)
            return enough(c >= PROGRESS for c in counts.values())
        try:
            wait_until(on, PROGRESS_S, what)
        except ClusterError as error:
            counts = {w.name: w.progress() - before[w.name] for w in workers}
            stuck = sorted(n for n, c in counts.items() if c < PROGRESS)
            raise ClusterError(f"{error}; stuck: {', '.join(stuck)}") from error
        return first[0], time.monotonic() - begun

    def note(self, problem):
        if problem:
            self.problems.append(problem)

    def confirmed(self):
        return sum(w.progress() for w in self.of("publisher"))

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
        print(self.HEADER, flush=True)
        try:
            for number in range(1, self.options.rounds + 1):
                self.round(number)
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
        print(f"{self.NAME} test: {len(self.rows)} rounds, seed {self.options.seed}, "
              f"{len(self.workers)} workers: {'FAILED' if self.problems else 'passed'}")
        return 1 if self.problems else 0


def main(parser, workload, form, rounds=4):
    """Parses the options, forms the cluster that form(options) makes, runs, and ends it in order."""
    clusters.add_options(parser)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=100, help="messages/s of each publisher")
    parser.add_argument("--clients", default=",".join(clients.NAMES))
    options = parser.parse_args()
    ready, failed = clients.prepare(dict.fromkeys(["python"] + options.clients.split(",")))
    if failed:
        print(f"cannot be built: {', '.join(failed)}")
        return 2
    with form(options) as cluster:
        cluster.form()
        code = workload(options, cluster, ready).run()
        for problem in cluster.end():
            print(f"PROBLEM at the orderly stop: {problem}")
            code = 1
        if code != 0 or options.keep:
            raise SystemExit(code)
    return 0
