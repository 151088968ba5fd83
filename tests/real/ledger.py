"""What the workers of the kill test wrote down, and whether it adds up."""

import collections


def port_of(broker):
    """Workers name their broker by its port or by its URI."""
    return int(broker.rsplit(":", maxsplit=1)[-1].split("/")[0])


class Publisher:
    """The lines of one publisher: A = attempted, C = confirmed, N = not taken."""

    def __init__(self):
        self.attempted = collections.Counter()     # (epoch, seq) -> times
        self.confirmed = {}                        # seq -> epoch
        self.nacked = set()                        # (epoch, seq)
        self.sessions, self.port, self.done = 0, None, None     # port: of the broker in use

    def take(self, words):
        if words[0] == "A":
            self.attempted[int(words[1]), int(words[2])] += 1
        elif words[0] == "C":
            self.confirmed[int(words[2])] = int(words[1])
        elif words[0] == "N":
            self.nacked.add((int(words[1]), int(words[2])))
        elif words[0] == "O":
            self.sessions, self.port = self.sessions + 1, port_of(words[2])
        elif words[0] == "L":
            self.port = None
        elif words[0] == "DONE":
            self.done = int(words[1])


class Consumer:
    """The lines of one consumer: D = delivered (producer, its epoch, seq, redelivered)."""

    def __init__(self):
        self.deliveries = []                       # (session, producer, epoch, seq, redelivered)
        self.sessions, self.done = 0, None

    def take(self, words):
        if words[0] == "D":
            self.deliveries.append((int(words[1]), words[2], int(words[3]), int(words[4]),
                                    words[5] == "1"))
        elif words[0] == "O":
            self.sessions += 1
        elif words[0] == "DONE":
            self.done = int(words[1])


class Tail:
    """Feeds the complete lines of a growing file to a ledger."""

    def __init__(self, path, ledger):
        self.path, self.ledger, self.offset = path, ledger, 0

    def read(self):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self.offset += end
        for line in data[:end].decode(errors="replace").split("\n"):
            words = line.split()
            if words:
                self.ledger.take(words)


def some(items):
    items = sorted(items)
    return f"{items[:5]}{' ...' if len(items) > 5 else ''}"


def check_order(consumers, publishers):
    """First deliveries from one connection of a publisher to one of a consumer come in order."""
    problems = []
    for name, consumer in sorted(consumers.items()):
        last = {}
        for session, producer, epoch, seq, redelivered in consumer.deliveries:
            nacked = producer in publishers and (epoch, seq) in publishers[producer].nacked
            if redelivered or nacked:
                continue
            key = session, producer, epoch
            if last.get(key, 0) > seq:
                problems.append(f"order: {name} got {producer} epoch {epoch} seq {seq} after "
                                f"{last[key]}, both for the first time")
            last[key] = max(seq, last.get(key, 0))
    return problems


def check(publishers, consumers):
    """(problems, numbers) of one queue; publishers and consumers by name."""
    problems = []
    delivered = collections.Counter()
    fresh = collections.Counter()
    for consumer in consumers.values():
        for _session, producer, epoch, seq, redelivered in consumer.deliveries:
            delivered[producer, epoch, seq] += 1
            if not redelivered:
                fresh[producer, epoch, seq] += 1
    for name, publisher in sorted(publishers.items()):
        got = {seq for (producer, _epoch, seq) in delivered if producer == name}
        lost = set(publisher.confirmed) - got
        if lost:
            problems.append(f"lost: {len(lost)} confirmed messages of {name}: {some(lost)}")
    unexpected = [key for key in delivered if key[0] not in publishers or
                  key[1:] not in publishers[key[0]].attempted]
    if unexpected:
        problems.append(f"unexpected: {len(unexpected)} never published: {some(unexpected)}")
    twice = [key for key, times in fresh.items()
             if key[0] in publishers and
             times > publishers[key[0]].attempted.get(key[1:], times)]
    if twice:
        problems.append(f"duplicates: {len(twice)} delivered again without the redelivered flag: "
                        f"{some(twice)}")
    problems += check_order(consumers, publishers)[:10]
    copies = collections.Counter((producer, seq) for (producer, _epoch, seq) in delivered)
    numbers = {
        "attempted": sum(sum(p.attempted.values()) for p in publishers.values()),
        "confirmed": sum(len(p.confirmed) for p in publishers.values()),
        "delivered": sum(delivered.values()),
        "redelivered": sum(delivered.values()) - sum(fresh.values()),
        "republished": sum(1 for n in copies.values() if n > 1),
    }
    return problems, numbers
