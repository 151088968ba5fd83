#!/usr/bin/env python3
"""move, copy, delete_messages of warrenctl while messages come and go and leaders are killed.

For each kind of queue: publishers fill the source all the time, consumers empty the target, and move goes from one to
the other again and again; in the middle the leaders of both are killed with -9. At the end every confirmed
message has come out of one of them, in its own bytes; none has twice: the node that is asked lives.
Then, at rest: filters on every type of property and header, --dry-run, --limit, a target that is full, a target and
a source that are deleted meanwhile, progress on a terminal and elsewhere.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import threading

import cluster as clusters
from amqp_codec import put_method, put_content
from amqp_raw import Ended, Raw
from cluster import ClusterError, wait_until
from ctl_run import Failed, expect, run_ctl

WAIT_S = 90
DATA = 65
AHEAD = 3000
KINDS = {"classic": {}, "mirrored": {}, "quorum": {"x-queue-type": "quorum"}}
TYPES = {"t": ("t", 1), "b": ("b", -5), "B": ("B", 200), "s": ("s", -300), "u": ("u", 60000),
         "I": ("I", -70000), "i": ("i", 4000000000), "l": ("l", -2 ** 40), "L": ("l", 2 ** 40),
         "f": ("f", 0.5), "d": ("d", 2.25), "S": ("S", "größe"), "x": ("x", "bytes"), "T": ("T", 1234567890),
         "D": ("D", (2, 12345)), "V": ("V", None), "big": ("l", 2 ** 53 + 1), "A": ("A", [1, "two"]), "F": ("F", {"a": 1})}
PROPERTIES = {"content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 7,
              "correlation_id": "c-1", "reply_to": "r", "expiration": "3600000", "message_id": "id-7",
              "timestamp": 1700000000, "type": "order", "user_id": "guest", "app_id": "app",
              "cluster_id": "cl"}
# a filter, and whether the message with all of the above meets it
FILTERS = (
    ("content_type = 'text/plain' and content_encoding = 'gzip'", True), ("delivery_mode = 2", True),
    ("priority >= 7 and priority < 8", True), ("priority > 7", False), ("correlation_id like 'c-_'", True),
    ("reply_to in ('q', 'r')", True), ("expiration = '3600000'", True), ("message_id ~ '^id-[0-9]$'", True),
    ("timestamp between 1600000000 and 1700000000", True), ("timestamp > 1700000000", False),
    ("type = 'order' and user_id = 'guest' and app_id = 'app'", True),
    ("exchange = '' and routing_key like 'v.%' and size = 2", True), ("size > 2", False),
    ("headers.t = true", True), ("headers.t = false", False), ("headers.b = -5", True),
    ("headers.B = 200", True), ("headers.s < -299", True), ("headers.u = 60000", True),
    ("headers.I = -70000", True), ("headers.i = 4000000000", True), ("headers.l < 0", True),
    ("headers.L > 1000000000000", True), ("headers.f = 0.5", True), ("headers.d > 2.2", True),
    ("headers.S = 'größe'", True), ("headers.x = 'bytes'", True), ("headers.T = 1234567890", True),
    ("headers.V is null", True), ("headers.nosuch is null", True), ("headers.nosuch = 1", False),
    ("not (headers.nosuch = 1)", False), ("headers.A is not null and headers.F is not null", True),
    ("headers.A is null or headers.F is null or headers.D is null", False),
    ("headers.big = 9007199254740993", True), ("headers.big = 9007199254740992", False),
    ("headers.A not in (1)", False), ("cluster_id = 'cl'", True), ("headers.S = 1", False), ("headers.I = 'x'", False), ("headers['S'] is not null", True))


class Client:
    """A connection with one channel, through the codec."""

    def __init__(self, port):
        self.raw = Raw(port, timeout=WAIT_S).open()

    def call(self, name, reply, **values):
        self.raw.send(put_method(1, name, **values))
        return self.raw.expect(*reply, WAIT_S)

    def declare(self, queue, arguments=None):
        self.call("queue.declare", (50, 11), queue=queue, durable=1, arguments=arguments or {})

    def confirm(self):
        self.call("confirm.select", (85, 11))

    def publish(self, queue, bodies, properties=None):
        for body in bodies:
            self.raw.send(put_method(1, "basic.publish", exchange="", key=queue),
                          put_content(1, body, properties or {"delivery_mode": 2}))

    def close(self):
        self.raw.close()


class Flow:
    """Publishers to one queue, consumers of another, on one node which is not killed."""

    def __init__(self, port, source, target):
        self.port, self.source, self.target = port, source, target
        self.ended, self.lock = threading.Event(), threading.Lock()
        self.confirmed, self.got, self.errors = set(), [], []
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in
                        (self.produce, self.consume)]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        try:
            work()
        except (Ended, OSError, ClusterError, ValueError) as error:
            self.errors.append(f"{work.__name__}: {error!r}")

    def produce(self):
        client, number = Client(self.port), 0
        client.confirm()
        while not self.ended.is_set():
            count = 50
            # not so many ahead that it takes long to empty the queues at the end
            wait_until(lambda: number - len(self.got) < AHEAD or self.ended.is_set(), WAIT_S, "they are got")
            client.publish(self.source, [b"%d" % (number + i) for i in range(count)])
            acked = 0
            while acked < count:  # tags are those of this channel, from 1 on
                tag = int.from_bytes(client.raw.expect(60, 80, WAIT_S)[:8], "big")
                acked = tag - number
            with self.lock:
                self.confirmed.update(range(number, number + count))
            number += count
        client.close()

    def consume(self):
        client = Client(self.port)
        while not self.ended.is_set():
            self.take(client, self.target)
        client.close()

    def take(self, client, queue):
        """One message, acked; False: there is none."""
        client.raw.send(put_method(1, "basic.get", queue=queue))
        _, _, number, arguments = client.raw.read_method(WAIT_S)
        if number != 71:
            return False
        size, body = int.from_bytes(client.raw.read_frame(WAIT_S)[2][4:12], "big"), b""
        while len(body) < size:
            body += client.raw.read_frame(WAIT_S)[2]
        client.raw.send(put_method(1, "basic.ack", tag=int.from_bytes(arguments[:8], "big")))
        with self.lock:
            self.got.append((int(body), arguments[8] & 1 == 1))
        return True

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(WAIT_S)

    def judge(self):
        if self.errors:
            raise Failed("; ".join(self.errors))
        seen, twice = set(), []
        for number, redelivered in self.got:
            if number in seen and not redelivered:
                twice.append(number)
            seen.add(number)
        expect("lost", sorted(self.confirmed - seen)[:5], [])
        expect("twice", twice[:5], [])
        return len(seen)


class Checks:
    def __init__(self, cluster):
        self.cluster = cluster
        self.node = cluster.nodes[0]

    def ask(self, command, node=None):
        return run_ctl(self.cluster, node or self.node, *shlex.split(command), seconds=WAIT_S)

    def objects(self, command, node=None):
        code, text, errors = self.ask(f"-q --formatter json {command}", node)
        if code != 0:
            raise Failed(f"{command}: {code} {errors}")
        return json.loads(text)

    def messages(self, queue):
        return next(row["messages"] for row in self.objects("list_queues name messages")
                    if row["name"] == queue)

    def popen(self, command, **streams):
        words, environment = self.cluster.driver.ctl(self.node, *shlex.split(command))
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, text=True,
                                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})

    # --- while leaders are killed -----------------------------------------------------------------

    def synchronised(self, names):
        rows = self.objects("list_queues name members synchronised_slave_pids")
        return all(len(row["members"]) == 3 and len(row["synchronised_slave_pids"]) == 2
                   for row in rows if row["name"] in names)

    def leader(self, queue):
        return wait_until(lambda: next((self.cluster.node(row["leader"]) for row in self.objects(
            "list_queues name leader") if row["name"] == queue), None), WAIT_S, f"a leader of {queue}")

    def kill_in_the_middle(self, kind, flow, queue):
        """Messages arrive before and after, and meanwhile where others have them. False: it is the node asked."""
        def further(count):
            begun = len(flow.got)
            wait_until(lambda: flow.errors or len(flow.got) >= begun + count, WAIT_S, "messages arrive")
        if kind == "mirrored":
            wait_until(lambda: self.synchronised((flow.source, flow.target)), WAIT_S, "all mirrors have all")
        further(300)
        victim = self.leader(queue)
        if victim is self.node:
            return False
        self.cluster.kill(victim)
        if kind != "classic":
            further(300)
        self.cluster.start(victim)
        self.cluster.wait_ready([victim])
        further(300)
        return True

    def moved_under_load(self, kind):
        source, target = f"{kind}.source", f"{kind}.target"
        ports = [node.amqp_port for node in self.cluster.nodes]
        for queue, port in ((source, ports[1]), (target, ports[2])):
            client = Client(port)
            client.declare(queue, KINDS[kind])
            client.close()
        leaders = [self.leader(queue) for queue in (source, target)]
        self.node = next(node for node in self.cluster.nodes if node not in leaders)
        flow, codes = Flow(self.node.amqp_port, source, target), set()
        mover = threading.Thread(target=self.keep_moving, args=(flow, codes))
        mover.start()
        try:
            killed = [self.kill_in_the_middle(kind, flow, queue) for queue in (source, target)]
        finally:
            flow.stop()
            mover.join(WAIT_S)
        client = Client(self.node.amqp_port)
        while self.messages(source) > 0:
            code, _, errors = self.ask(f"-q move {source} {target}")
            expect(f"move at last: {errors}", code, 0)
        while flow.take(client, target):
            pass
        client.close()
        count = flow.judge()
        return f"{count} messages, {sum(killed)} leaders killed, exit codes {sorted(codes)}"

    def keep_moving(self, flow, codes):
        while not flow.ended.is_set():
            codes.add(self.ask(f"-q move {flow.source} {flow.target}")[0])

    # --- at rest ------------------------------------------------------------------------------------

    def fill(self, queue, bodies, arguments=None, properties=None):
        client = Client(self.node.amqp_port)
        client.declare(queue, arguments)
        client.confirm()
        for first in range(0, len(bodies), 500):  # who does not read its confirms is not read from
            part = bodies[first:first + 500]
            client.publish(queue, part, properties)
            while int.from_bytes(client.raw.expect(60, 80, WAIT_S)[:8], "big") < first + len(part):
                pass
        client.close()

    def bodies(self, queue):
        return [row["body"] for row in self.objects(f"peek {queue} --count 1000000")]

    def filters(self):
        for kind in ("classic", "quorum"):
            self.fill(f"v.{kind}", [b"{}"], KINDS[kind], dict(PROPERTIES, headers=TYPES))
            for text, met in FILTERS:
                rows = self.objects(f"peek v.{kind} --filter {shlex.quote(text)}")
                expect(f"{kind}: {text}", len(rows), int(met))

    def dry_runs(self):
        self.fill("d.from", [b"%d" % i for i in range(2500)])
        self.fill("d.to", [b"there"])
        before = [self.objects(f"peek {queue} --count 10000") for queue in ("d.from", "d.to")]
        for command in ("move d.from d.to", "copy d.from d.to", "delete_messages d.from",
                        "move d.from d.to --filter 'size = 1' --limit 3"):
            code, text, _ = self.ask(f"-q {command} --dry-run")
            expect(command, (code, text.endswith("messages match; nothing was changed\n")), (0, True))
        expect("nothing has changed", [self.objects(f"peek {queue} --count 10000")
                                       for queue in ("d.from", "d.to")], before)

    def a_full_target(self):
        bodies = [b"%d" % i for i in range(1500)]
        self.fill("f.from", bodies)
        self.fill("f.to", [b"there"], {"x-max-length": 4, "x-overflow": "reject-publish"})
        expect("move", self.ask("-q move f.from f.to")[:2],
               (0, "3 of 1500 messages moved, 1497 refused by the target\n"))
        expect("the target", self.bodies("f.to"), ["there", "0", "1", "2"])
        expect("the source", self.bodies("f.from"), [str(i) for i in range(3, 1500)])
        expect("copy", self.ask("-q copy f.from f.to")[:2],
               (0, "0 of 1497 messages copied, 1497 refused by the target\n"))
        expect("the source", self.bodies("f.from"), [str(i) for i in range(3, 1500)])

    def begun(self, command, queue, **streams):
        """A move of many that has moved some."""
        asking = self.popen(command, **streams)
        wait_until(lambda: self.messages(queue) > 0 or asking.poll() is not None, WAIT_S, "some are moved")
        return asking

    def a_deleted_target(self):
        count = 40000
        self.fill("g.from", [b"%d" % i for i in range(count)])
        self.fill("g.to", [])
        with self.begun("-q move g.from g.to", "g.to") as moving:
            code, text, _ = self.ask("-q delete_queue g.to")
            expect("deleted", code, 0)
            out, errors = moving.communicate(timeout=WAIT_S)
        gone = int(text.split()[-3])
        expect(f"exit code: {out} {errors}", moving.returncode, DATA)
        expect("all others are there", sorted(map(int, self.bodies("g.from"))), list(range(gone, count)))

    def a_deleted_source(self):
        count = 40000
        self.fill("s.from", [b"%d" % i for i in range(count)])
        self.fill("s.to", [])
        with self.begun("-q move s.from s.to", "s.to") as moving:
            expect("deleted", self.ask("-q delete_queue s.from")[0], 0)
            out, errors = moving.communicate(timeout=WAIT_S)
        expect(f"exit code: {out} {errors}", moving.returncode, DATA)
        moved = list(map(int, self.bodies("s.to")))
        expect("each once, in order", moved, list(range(len(moved))))

    def progress(self):
        """A bar on a terminal only, and only where the errors go."""
        count = 3000
        self.fill("p.from", [b"x"] * count)
        self.fill("p.to", [])
        for command, bar in (("copy p.from p.to", True), ("-q copy p.from p.to", False),
                             ("copy p.from p.to --dry-run", True)):
            ours, theirs = pty.openpty()
            with self.popen(command, stderr=theirs) as asking:
                os.close(theirs)
                text = read_all(ours)
                asking.communicate(timeout=WAIT_S)
            expect(f"{command}: {text!r}", (b"\r[##" in text, asking.returncode), (bar, 0))
        for columns, begins in ((20, rb" *[0-9]+%  "), (60, rb" *[0-9]+%  [0-9]+ of "), (200, rb"\[#*\.*\] ")):
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
            with self.popen("copy p.from p.to", stderr=theirs) as asking:
                os.close(theirs)
                lines = [line.replace(b"\x1b[K", b"") for line in read_all(ours).split(b"\r")]
                asking.communicate(timeout=WAIT_S)
            shown = [line for line in lines if line]
            expect(f"{columns} columns: {shown!r}", (max(map(len, shown)) < columns, all(
                re.match(begins, line) for line in shown), len(shown) > 1), (True, True, True))
        ours, theirs = pty.openpty()
        with self.popen("copy p.from p.to", stdout=theirs) as asking:
            os.close(theirs)
            text = read_all(ours)
            errors = asking.communicate(timeout=WAIT_S)[1]
        expect("no terminal", ("[" in errors, b"[" in text, asking.returncode), (False, False, 0))

    def run(self, kinds):
        failed = 0
        checks = [(f"moved_under_load {kind}", lambda kind=kind: self.moved_under_load(kind)) for kind in kinds]
        checks += [(check.__name__, check) for check in (
            self.filters, self.dry_runs, self.a_full_target, self.a_deleted_target, self.a_deleted_source,
            self.progress)]
        for name, check in checks:
            try:
                print(f"ok {name} {check() or ''}".rstrip(), flush=True)
            except (Failed, ClusterError, Ended, OSError, ValueError, StopIteration,
                    subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED {name}: {error!r}"[:2000], flush=True)
        return failed


def read_all(terminal):
    """What comes until the other end is closed."""
    text = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux says it of a terminal
            piece = b""
        if not piece:
            os.close(terminal)
            return text
        text += piece


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    try:
        with clusters.from_options(options, 3, "ctl-move") as cluster:
            cluster.form()
            checks = Checks(cluster)
            expect("policy", checks.ask("""-q set_policy mirrors ^mirrored '{"ha-mode":"all"}'""")[0], 0)
            failed = checks.run(options.kinds.split(","))
    except (ClusterError, Failed) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
