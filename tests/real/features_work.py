#!/usr/bin/env python3
"""One scenario of the features test with all its clients: features_work.py NAME KIND URIS

Runs with the Python of the pika client. Reads `fault SECONDS`, `healed SECONDS` and `stop` from
stdin; prints `P client count` (progress), `PROBLEM text`, `SUM text`, `DONE`.
"""

import collections
import functools
import random
import sys
import threading
import time

import pika
from features_client import Client, Consumer, Poller, Publisher, World

TICK_S = 0.02
SAY_S = 0.2
DRAIN_S = 90
QUIET_S = 1.0           # nothing must come for that long before the sum
GRACE_S = 12            # a fault may be felt for so long after it
TRIPS = 3


class Scenario:
    RATE = 40
    KINDS = ("quorum", "classic")

    def __init__(self, world, kind):
        self.world, self.kind = world, kind
        self.publishers = []
        self.got = collections.Counter()    # (queue, publisher, epoch, seq)
        self.fresh = collections.Counter()  # of these, without the redelivered flag

    def name(self, what):
        return f"{type(self).__name__.lower()}.{self.kind}.{what}"

    def declare(self, channels):
        """One channel per node."""
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def settled(self):
        """Whether all is there that must come."""
        raise NotImplementedError

    def last(self):
        """Called once when all is settled, before the sum: more clients may be started."""

    def judge(self):
        """The line of the sum; notes problems in the world."""
        raise NotImplementedError

    # --- helpers -----------------------------------------------------------------------------

    def queue(self, channel, what, **arguments):
        arguments = {"x-" + k.replace("_", "-"): v for k, v in arguments.items()}
        arguments["x-queue-type"] = self.kind
        channel.queue_declare(self.name(what), durable=True, arguments=arguments)

    def publisher(self, what, make, **options):
        made = Publisher(self.world, self.name(what), make, options.pop("rate", self.RATE), **options)
        self.publishers.append(made)
        return made

    def to(self, what, **properties):
        """Messages for a queue, by the default exchange."""
        return lambda _publisher, _seq: ("", self.name(what), "", dict(properties))

    def note(self, method, words, queue):
        key = queue, words[0], int(words[1]), int(words[2])
        self.got[key] += 1
        if not method.redelivered:
            self.fresh[key] += 1

    def accept(self, consumer, method, _properties, words):
        self.note(method, words, consumer.queue)
        consumer.channel.basic_ack(method.delivery_tag)

    def seqs(self, queue):
        """publisher -> numbers that came to this queue"""
        found = collections.defaultdict(set)
        for where, publisher, _epoch, seq in self.got:
            if where == queue:
                found[publisher].add(seq)
        return found

    def missing(self, queue, publishers=None):
        found = self.seqs(queue)
        return [(p.name, seq) for p in publishers or self.publishers
                for seq in p.confirmed if seq not in found[p.name]]

    def check_lost(self, queue, publishers=None):
        lost = self.missing(queue, publishers)
        if lost:
            self.world.problem(f"{queue}: {len(lost)} confirmed messages are lost: {lost[:5]}")

    def check_fresh(self):
        """Nobody gets more without the redelivered flag than was sent."""
        by = {p.name: p for p in self.publishers}
        for (queue, publisher, epoch, seq), times in self.fresh.items():
            if times > by[publisher].attempts[epoch, seq]:
                self.world.problem(f"{queue}: {publisher} epoch {epoch} seq {seq} came {times} times "
                                   "without the redelivered flag")

    def totals(self):
        return (f"confirmed {sum(len(p.confirmed) for p in self.publishers)}, delivered "
                f"{sum(self.got.values())}, "
                f"twice {sum(n - 1 for n in self.got.values())}")


class Dead(Scenario):
    """Sources of every kind of death, all with one target; a loop that a consumer ends; and a target
    that refuses most of its letters, which is emptied slowly."""
    PAUSE_S = 0.03
    NARROW = 8      # so many a second go on: what was refused is tried again each second

    def declare(self, channels):
        for channel in channels[:1]:
            channel.exchange_declare(self.name("dlx"), "direct", durable=True)
        dlx = {"dead_letter_exchange": self.name("dlx")}
        self.queue(channels[0], "ttl", message_ttl=200, **dlx)
        self.queue(channels[1], "reject", **dlx)
        self.queue(channels[1], "target")
        self.queue(channels[2], "retry", **dlx)
        self.queue(channels[0], "wait", message_ttl=200, dead_letter_exchange="",
                   dead_letter_routing_key=self.name("retry"))
        sources = ["ttl", "reject", "own", "length"]
        self.queue(channels[2], "own", **dlx)    # each message has a TTL
        self.queue(channels[1], "length", max_length=0, **dlx)
        if self.kind == "quorum":
            self.queue(channels[2], "limit", delivery_limit=2, **dlx)
            sources.append("limit")
        for source in sources:
            channels[0].queue_bind(self.name("target"), self.name("dlx"), self.name(source))
        channels[0].queue_bind(self.name("wait"), self.name("dlx"), self.name("retry"))
        self.queue(channels[1], "tight", message_ttl=50, **dlx)
        self.queue(channels[2], "narrow", max_length=self.NARROW, overflow="reject-publish")
        channels[0].queue_bind(self.name("narrow"), self.name("dlx"), self.name("tight"))
        self.reasons = {"ttl": "expired", "own": "expired", "reject": "rejected",
                        "limit": "delivery_limit", "length": "maxlen", "tight": "expired"}
        self.sources = sources

    def start(self):
        for i, source in enumerate(self.sources):
            more = {"expiration": "150"} if source == "own" else {}
            self.publisher(source, self.to(source, **more), first=i)
        self.looped = self.publisher("retry", self.to("retry"), rate=20)
        self.kept = self.publisher("tight", self.to("tight"), rate=4)
        Getter(self.world, self.name("get"), self.name("narrow"), self.arrived, self.PAUSE_S, first=1)
        Consumer(self.world, self.name("c1"), self.name("target"), self.arrived, first=1)
        Consumer(self.world, self.name("c2"), self.name("target"), self.arrived, first=2)
        Consumer(self.world, self.name("rejecter"), self.name("reject"), self.reject)
        if "limit" in self.sources:
            Consumer(self.world, self.name("requeuer"), self.name("limit"), self.requeue)
        Consumer(self.world, self.name("trips"), self.name("retry"), self.trip, first=1)

    @staticmethod
    def reject(consumer, method, _properties, _words):
        consumer.channel.basic_reject(method.delivery_tag, requeue=False)

    @staticmethod
    def requeue(consumer, method, _properties, _words):
        consumer.channel.basic_nack(method.delivery_tag, requeue=True)

    def check_death(self, words, headers, wanted, first):
        """wanted: (queue, reason, count), newest first"""
        deaths = headers.get("x-death") or []
        found = [(d.get("queue"), d.get("reason"), d.get("count")) for d in deaths]
        if found != wanted:
            self.world.problem(f"{words[:3]}: x-death {found} instead of {wanted}")
        names = tuple(headers.get("x-first-death-" + k) for k in ("queue", "reason", "exchange"))
        if names != (*first, ""):
            self.world.problem(f"{words[:3]}: x-first-death-* {names} instead of {first}")

    def arrived(self, consumer, method, properties, words):
        self.note(method, words, consumer.queue)
        reason = self.reasons[words[0].rsplit(".", maxsplit=1)[-1]]
        self.check_death(words, properties.headers or {}, [(words[0], reason, 1)],
                         (words[0], reason))
        consumer.channel.basic_ack(method.delivery_tag)

    def trip(self, consumer, method, properties, words):
        headers = properties.headers or {}
        deaths = headers.get("x-death") or []
        trips = deaths[0].get("count") if deaths else 0
        if trips:
            source, wait = self.name("retry"), self.name("wait")
            self.check_death(words, headers, [(wait, "expired", trips), (source, "rejected", trips)],
                             (source, "rejected"))
        if trips >= TRIPS:
            self.note(method, words, consumer.queue)
            consumer.channel.basic_ack(method.delivery_tag)
        else:
            consumer.channel.basic_reject(method.delivery_tag, requeue=False)

    def wanted(self):
        """(where they arrive, publishers)"""
        straight = [p for p in self.publishers if p not in (self.looped, self.kept)]
        return ((self.name("target"), straight), (self.name("retry"), [self.looped]),
                (self.name("narrow"), [self.kept]))

    def settled(self):
        return not any(self.missing(*wanted) for wanted in self.wanted())

    def judge(self):
        for wanted in self.wanted():
            self.check_lost(*wanted)
        return self.totals()


class Delay(Scenario):
    """A delayed exchange, and a queue that obeys x-delay itself."""
    RATE = 60
    EARLY_S = 0.002         # both clocks are cut to milliseconds
    LATE_S = 4

    def declare(self, channels):
        channels[0].exchange_declare(self.name("x"), "x-delayed-message", durable=True,
                                     arguments={"x-delayed-type": "direct"})
        self.queue(channels[1], "plain")
        channels[0].queue_bind(self.name("plain"), self.name("x"), "k")
        self.queue(channels[2], "obeys", delayed_messages=True)

    def start(self):
        self.random = random.Random(7)
        self.latest = 0.0
        self.publisher("plain", functools.partial(self.make, self.name("x"), "k"), first=0)
        self.publisher("obeys", functools.partial(self.make, "", self.name("obeys")), first=1)
        for i, what in enumerate(("plain", "obeys")):
            Consumer(self.world, self.name("c." + what), self.name(what), self.arrived, first=i)

    def make(self, exchange, key, _publisher, _seq):
        delay = self.random.randrange(100, 3000)
        return exchange, key, f"{time.time():.6f} {delay}", {"headers": {"x-delay": delay}}

    def arrived(self, consumer, method, _properties, words):
        now, due = time.time(), float(words[3]) + int(words[4]) / 1000
        self.note(method, words, consumer.queue)
        consumer.channel.basic_ack(method.delivery_tag)
        if now < due - self.EARLY_S:
            self.world.problem(f"{words[:3]} came {due - now:.6f} s early, delay {words[4]} ms")
        wanted = self.world.healed_after(due, GRACE_S)
        self.latest = max(self.latest, now - due)
        if wanted is not None and now > wanted + self.LATE_S:
            self.world.problem(f"{words[:3]} came {now - due:.3f} s late, no fault explains it")

    def settled(self):
        return not any(self.missing(p.name, [p]) for p in self.publishers)

    def judge(self):
        for publisher in self.publishers:
            self.check_lost(publisher.name, [publisher])
        return f"{self.totals()}, at most {self.latest:.1f} s late"


class Numbered(Scenario):
    """Two publishers with names and numbers, three queues behind a fanout: consumed at the end."""
    RATE = 100
    REPEAT = 30

    def declare(self, channels):
        channels[0].exchange_declare(self.name("x"), "fanout", durable=True)
        for i in range(3):
            self.queue(channels[i], f"q{i}")
            channels[0].queue_bind(self.name(f"q{i}"), self.name("x"))

    def start(self):
        self.publisher("p0", self.make, repeat=self.REPEAT, first=0)
        self.publisher("p1", self.make, repeat=self.REPEAT, first=1)

    def make(self, publisher, seq):
        headers = {"x-publisher-id": publisher.name, "x-publish-seq": seq}
        return self.name("x"), "", "", {"headers": headers}

    def settled(self):
        return not self.consuming() or \
            not any(self.missing(self.name(f"q{i}")) for i in range(3))

    def consuming(self):
        return any(isinstance(c, Consumer) for c in self.world.clients)

    def last(self):
        for i in range(3):
            consumer = Consumer(self.world, self.name(f"c{i}"), self.name(f"q{i}"), self.accept,
                                prefetch=200, first=i)
            consumer.connect()

    def judge(self):
        for i in range(3):
            queue = self.name(f"q{i}")
            self.check_lost(queue)
            times = collections.Counter()
            for (where, publisher, _epoch, seq), n in self.got.items():
                if where == queue:
                    times[publisher, seq] += n
            doubled = sorted(key for key, n in times.items() if n > 1)
            if doubled:
                self.world.problem(f"{queue}: {len(doubled)} are stored twice: {doubled[:5]}")
        again = sum(sum(p.attempts.values()) - len(p.confirmed) for p in self.publishers)
        return f"{self.totals()}, sent again {again}"


class Refuse(Scenario):
    """A queue that refuses what is over its limit, emptied slowly with basic.get."""
    RATE = 150
    LIMIT = 20
    PAUSE_S = 0.012

    def declare(self, channels):
        self.queue(channels[0], "q", max_length=self.LIMIT, overflow="reject-publish")

    def start(self):
        self.most = 0
        self.publisher("p0", self.to("q"), final=True, first=0)
        self.publisher("p1", self.to("q"), final=True, first=1)
        self.getter = Getter(self.world, self.name("get"), self.name("q"), self.accept,
                             self.PAUSE_S, first=2)
        self.poller = Poller(self.world, self.name("poll"), self.name("q"), self.seen, first=1)

    def seen(self, ready):
        self.most = max(self.most, ready)

    def settled(self):
        return not self.missing(self.name("q")) and self.poller.ready == 0

    def judge(self):
        queue = self.name("q")
        self.check_lost(queue)
        self.check_fresh()
        if self.most > self.LIMIT + 1:      # one may come back
            self.world.problem(f"{queue}: {self.most} were ready")
        if self.most < self.LIMIT / 2:
            self.world.problem(f"{queue}: was never full, {self.most} at most")
        nacked = 0
        for p in self.publishers:
            nacked += len(p.nacked)
            both = [key for key in p.nacked if (queue, p.name, *key) in self.got]
            if both:
                self.world.problem(f"{queue}: {p.name}: nacked and delivered: {both[:5]}")
            sent = {seq for _epoch, seq in p.attempts}
            open_ = sent - set(p.confirmed) - {seq for _epoch, seq in p.nacked}
            if open_:
                self.world.problem(f"{p.name}: neither confirmed nor nacked: {sorted(open_)[:5]}")
        if nacked == 0:
            self.world.problem(f"{queue}: nothing was refused")
        return f"{self.totals()}, nacked {nacked}, at most {self.most} ready"


class Getter(Client):
    """Takes one message after the other with basic.get."""

    def __init__(self, world, name, queue, take, pause, first=0):
        super().__init__(world, name, first)
        self.queue, self.take, self.pause, self.due, self.asked = queue, take, pause, 0, False

    def opened(self):
        self.asked = False
        self.channel.add_callback(lambda _frame: self.next(False), [pika.spec.Basic.GetEmpty], False)

    def next(self, took):
        self.asked, self.count = False, self.count + took
        self.due = time.monotonic() + self.pause

    def on_message(self, channel, method, properties, body):
        self.world.heard = time.time()
        if channel is self.channel:
            self.next(True)
            self.take(self, method, properties, body.decode().split())

    def tick(self):
        if self.channel is not None and not self.asked and time.monotonic() >= self.due:
            self.asked = True
            self.channel.basic_get(self.queue, self.on_message)


class Single(Scenario):
    """Three candidates on three nodes for a queue with a single active consumer."""
    RATE = 100

    def declare(self, channels):
        self.queue(channels[0], "q", single_active_consumer=True)

    def start(self):
        self.highest = {}       # (publisher, epoch) -> (seq, who)
        self.active = None
        self.switches = []
        self.publisher("p0", self.to("q"), first=0)
        self.publisher("p1", self.to("q"), first=1)
        self.candidates = [Consumer(self.world, self.name(f"c{i}"), self.name("q"), self.one, first=i,
                                    fixed=True) for i in range(3)]

    def one(self, consumer, method, properties, words):
        now = time.time()
        if not method.redelivered:
            key = words[0], words[1]
            seq, who = self.highest.get(key, (0, None))
            nacked = any((int(words[1]), int(words[2])) in p.nacked for p in self.publishers
                         if p.name == words[0])
            if int(words[2]) < seq and not nacked:
                self.world.problem(f"{consumer.name} got {words[:3]} for the first time after {who} "
                                   f"got {seq}")
            self.highest[key] = max((int(words[2]), consumer.name), (seq, who or ""))
        if self.active is not consumer:
            if self.active is not None:
                self.switches.append((now, self.active.name, consumer.name))
            self.active = consumer
        self.accept(consumer, method, properties, words)

    def settled(self):
        return not self.missing(self.name("q"))

    def judge(self):
        self.check_lost(self.name("q"))
        self.check_fresh()
        for when, old, new in self.switches:    # by now all faults are known
            if not self.world.fault_between(when, when, GRACE_S):
                self.world.problem(f"{old} gave way to {new} at {when:.3f} without a fault")
        if len(self.switches) > 4 * len(self.world.faults) + 1:
            self.world.problem(f"the active consumer changed {len(self.switches)} times in "
                               f"{len(self.world.faults)} faults")
        return f"{self.totals()}, {len(self.switches)} changes of the active one"


class TxPublisher(Client):
    """Commits of three messages for one queue and two for another, one commit at a time."""

    def __init__(self, world, name, queues, first=0):
        super().__init__(world, name, first)
        self.queues, self.number, self.open = queues, 0, False
        self.attempted, self.committed = set(), set()       # (epoch, number)

    def opened(self):
        self.open = False
        self.channel.tx_select(lambda _frame: self.commit())

    def lost(self):
        self.open = False

    def commit(self):
        if self.world.stopping or self.channel is None:
            return
        self.number += 1
        key = self.epoch, self.number
        self.attempted.add(key)
        self.open = True
        for i, queue in enumerate(self.queues):
            for part in range(3 - i):
                self.channel.basic_publish("", queue, f"{self.name} {key[0]} {key[1]} {part}".encode(),
                                           pika.BasicProperties(delivery_mode=2))
        self.channel.tx_commit(lambda _frame: self.on_ok(key))

    def on_ok(self, key):
        self.committed.add(key)
        self.count += 1
        self.open = False
        self.world.ioloop.call_later(TICK_S, self.commit)

    def idle(self):
        return not self.open


class Tx(Scenario):
    """Publishers that commit; a consumer that moves one queue into a third, ack and publish in one commit."""

    def declare(self, channels):
        for i, what in enumerate(("three", "two", "moved")):
            self.queue(channels[i], what)

    def start(self):
        self.parts = collections.defaultdict(set)       # (queue, publisher, epoch, number) -> parts
        queues = self.name("three"), self.name("two")
        self.publishers = [TxPublisher(self.world, self.name(f"p{i}"), queues, first=i)
                           for i in range(2)]
        self.moved = collections.Counter()
        self.held = []      # (channel, tag, body): until commit-ok nothing may be sent
        Consumer(self.world, self.name("mover"), queues[0], self.move, first=1, select=True,
                 prefetch=10)
        Consumer(self.world, self.name("c2"), queues[1], self.part, first=2)
        Consumer(self.world, self.name("c3"), self.name("moved"), self.part, first=0)

    def part(self, consumer, method, _properties, words):
        self.parts[consumer.queue, words[0], int(words[1]), int(words[2])].add(words[3])
        self.moved[consumer.queue] += 1
        consumer.channel.basic_ack(method.delivery_tag)

    def move(self, consumer, method, _properties, words):
        self.held.append((consumer.channel, method.delivery_tag, " ".join(words).encode()))
        if len(self.held) == 1 or self.held[0][0] is not consumer.channel:
            del self.held[:-1]      # of an earlier channel
            self.move_next()

    def move_next(self):
        channel, tag, body = self.held[0]
        channel.basic_publish("", self.name("moved"), body, pika.BasicProperties(delivery_mode=2))
        channel.basic_ack(tag)
        channel.tx_commit(lambda _frame: self.on_moved(channel))

    def on_moved(self, channel):
        if self.held and self.held[0][0] is channel:
            self.held.pop(0)
            if self.held:
                self.move_next()

    def broken(self):
        """[(queue, key, how many of how many, committed)]"""
        found = []
        for queue, whole in ((self.name("moved"), 3), (self.name("two"), 2)):
            for p in self.publishers:
                for key in p.attempted:
                    n = len(self.parts.get((queue, p.name, *key), ()))
                    if n != whole and (n != 0 or key in p.committed):
                        found.append((queue, p.name, key, n, whole, key in p.committed))
        return found

    def settled(self):
        return not any(row[-1] for row in self.broken())

    def judge(self):
        for queue, publisher, key, n, whole, committed in self.broken():
            self.world.problem(f"{queue}: {n} of {whole} of {publisher} {key}"
                               f"{', which was committed' if committed else ''}")
        return (f"committed {sum(len(p.committed) for p in self.publishers)} of "
                f"{sum(len(p.attempted) for p in self.publishers)}, delivered "
                f"{sum(self.moved.values())}")


class Requester(Client):
    """One request at a time; asks again when no answer comes."""
    TIMEOUT_S = 3

    def __init__(self, world, name, queue, first=0):
        super().__init__(world, name, first, fixed=True)
        self.queue, self.number, self.sent, self.answered = queue, 0, 0.0, True
        self.again = 0
        self.ready = False

    def opened(self):
        self.ready, self.answered = False, True
        self.channel.basic_consume("amq.rabbitmq.reply-to", self.on_reply, auto_ack=True,
                                   callback=self.on_ready)

    def on_ready(self, _frame):
        self.ready = True

    def lost(self):
        self.ready = False

    def on_reply(self, _channel, _method, properties, body):
        self.world.heard = time.time()
        expected = f"{self.name} {self.epoch} {self.number}"
        words = body.decode().split()
        if words[0] != self.name or properties.correlation_id != " ".join(words):
            self.world.problem(f"{self.name}: a reply {words}, {properties.correlation_id}")
        if " ".join(words) == expected and not self.answered:
            self.answered = True
            self.count += 1

    def tick(self):
        late = time.monotonic() - self.sent > self.TIMEOUT_S
        if not self.ready or self.channel is None or not (self.answered or late):
            return
        if self.answered and self.world.stopping:
            return
        if not self.answered:
            self.again += 1
            if not self.world.fault_between(time.time() - self.TIMEOUT_S, time.time(), GRACE_S):
                self.world.problem(f"{self.name}: no reply within {self.TIMEOUT_S} s without a fault")
        self.number += 1
        self.answered, self.sent = False, time.monotonic()
        text = f"{self.name} {self.epoch} {self.number}"
        self.channel.basic_publish("", self.queue, text.encode(), pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id=text))

    def idle(self):
        return self.answered


class Rpc(Scenario):
    """Requesters on every node, two servers."""

    def declare(self, channels):
        self.queue(channels[0], "q")

    def start(self):
        self.publishers = [Requester(self.world, self.name(f"r{i}"), self.name("q"), first=i)
                           for i in range(3)]
        for i in range(2):
            Consumer(self.world, self.name(f"s{i}"), self.name("q"), self.serve, first=i)

    @staticmethod
    def serve(consumer, method, properties, words):
        consumer.channel.basic_publish("", properties.reply_to, " ".join(words).encode(),
                                       pika.BasicProperties(
                                           correlation_id=properties.correlation_id))
        consumer.channel.basic_ack(method.delivery_tag)

    def settled(self):
        return True

    def judge(self):
        return (f"answered {sum(r.count for r in self.publishers)}, asked again "
                f"{sum(r.again for r in self.publishers)}")


SCENARIOS = {c.__name__.lower(): c for c in (Dead, Delay, Numbered, Refuse, Single, Tx, Rpc)}


class Program:
    def __init__(self, scenario, kind, uris):
        self.world = World(uris)
        self.scenario = SCENARIOS[scenario](self.world, kind)
        self.until = self.after = None

    def declare(self):
        connections = []
        for uri in self.world.uris:
            params = pika.URLParameters(uri)
            params.blocked_connection_timeout = params.stack_timeout = 20
            connections.append(pika.BlockingConnection(params))
        self.scenario.declare([c.channel() for c in connections])
        for connection in connections:
            connection.close()

    def listen(self):
        for line in sys.stdin:
            words = line.split()
            self.world.ioloop.add_callback_threadsafe(functools.partial(self.obey, words))

    def obey(self, words):
        if words[0] == "fault":
            self.world.faults.append([float(words[1]), None])
        elif words[0] == "healed":
            self.world.faults[-1][1] = float(words[1])
        elif words[0] == "stop":
            self.world.stopping = True
            self.until = time.monotonic() + DRAIN_S

    def say(self):
        for client in self.world.clients:
            print("P", client.name, client.count)
        sys.stdout.flush()
        self.world.ioloop.call_later(SAY_S, self.say)

    def tick(self):
        for client in self.world.clients:
            client.tick()
        if self.world.stopping:
            self.look()
        if not self.world.ended:
            self.world.ioloop.call_later(TICK_S, self.tick)

    def look(self):
        """Ends the program when all is there and nothing more comes, or it is too late."""
        idle = all(p.idle() for p in self.scenario.publishers)
        late = time.monotonic() > self.until
        if late:
            stuck = [p.name for p in self.scenario.publishers if not p.idle()]
            self.world.problem(f"not all there after {DRAIN_S} s" +
                               (f"; publishers that do not end: {stuck}" if stuck else ""))
        elif not idle or not self.scenario.settled() or time.time() - self.world.heard < QUIET_S:
            return
        if not late and self.after is None:
            self.after = True
            self.scenario.last()
            self.world.heard = time.time()
            return
        self.world.ended = True
        self.world.ioloop.stop()

    def run(self):
        self.declare()
        self.scenario.start()
        for client in self.world.clients:
            client.connect()
        threading.Thread(target=self.listen, daemon=True).start()
        self.world.ioloop.call_later(TICK_S, self.tick)
        self.world.ioloop.call_later(SAY_S, self.say)
        self.world.ioloop.start()
        total = self.scenario.judge()
        for problem in self.world.problems:
            print("PROBLEM", problem)
        print("SUM", total)
        print("DONE", flush=True)


if __name__ == "__main__":
    Program(sys.argv[1], sys.argv[2], sys.argv[3].split(",")).run()
