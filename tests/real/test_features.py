"""Tests of the features test's own judgement: it must find what is wrong. Runs with pika's Python."""

import time
import unittest
import unittest.mock
from types import SimpleNamespace

from features_client import World
from features_work import SCENARIOS


def scene(name, kind="quorum"):
    world = World(["amqp://nowhere"])
    made = SCENARIOS[name](world, kind)
    channels = [unittest.mock.MagicMock() for _ in range(3)]
    made.declare(channels)
    made.start()
    return world, made


def deliver(take, queue, words, redelivered=False, headers=None, name="c"):
    consumer = SimpleNamespace(queue=queue, name=name, channel=unittest.mock.MagicMock())
    take(consumer, SimpleNamespace(redelivered=redelivered, delivery_tag=1),
         SimpleNamespace(headers=headers), words.split())


def death(queue, reason, count=1, first=None):
    return {"x-death": [{"queue": queue, "reason": reason, "count": count}],
            "x-first-death-queue": queue, "x-first-death-reason": first or reason,
            "x-first-death-exchange": ""}


class FeaturesTest(unittest.TestCase):
    def found(self, world, made, *texts):
        made.judge()
        self.assertEqual(len(world.problems), len(texts), world.problems)
        for text, problem in zip(texts, world.problems):
            self.assertIn(text, problem)

    def test_dead(self):
        world, made = scene("dead")
        source, target = made.name("ttl"), made.name("target")
        publisher = made.publishers[0]
        publisher.confirmed = {1: 1, 2: 1}
        deliver(made.arrived, target, f"{source} 1 1", headers=death(source, "expired"))
        self.assertFalse(made.settled())
        self.found(world, made, "1 confirmed messages are lost")
        world.problems.clear()
        deliver(made.arrived, target, f"{source} 1 2", headers=death(source, "expired", 2))
        deliver(made.arrived, target, f"{source} 1 2", headers=death(source, "rejected"))
        deliver(made.arrived, target, f"{source} 1 2",
                headers=death(source, "expired", first="maxlen"))
        self.assertTrue(made.settled())
        self.found(world, made, "instead of", "instead of", "x-first-death-*", "x-first-death-*")

    def test_delay(self):
        world, made = scene("delay")
        queue, now = made.name("plain"), time.time()
        deliver(made.arrived, queue, f"{queue} 1 1 {now - 1:.6f} 1000")
        self.found(world, made)
        deliver(made.arrived, queue, f"{queue} 1 2 {now:.6f} 1000")
        self.found(world, made, "early")
        world.problems.clear()
        deliver(made.arrived, queue, f"{queue} 1 3 {now - 30:.6f} 1000")
        self.found(world, made, "late")
        world.problems.clear()
        world.faults.append([now - 31, None])
        deliver(made.arrived, queue, f"{queue} 1 4 {now - 30:.6f} 1000")
        self.found(world, made)

    def test_numbered(self):
        world, made = scene("numbered")
        made.publishers[0].confirmed = {1: 1}
        for i in range(3):
            deliver(made.accept, made.name(f"q{i}"), f"{made.publishers[0].name} 1 1")
        self.found(world, made)
        deliver(made.accept, made.name("q1"), f"{made.publishers[0].name} 2 1")
        self.found(world, made, "stored twice")

    def test_refuse(self):
        world, made = scene("refuse")
        queue, publisher = made.name("q"), made.publishers[0]
        publisher.attempts.update({(1, 1): 1, (1, 2): 1, (1, 3): 1})
        publisher.confirmed, publisher.nacked = {1: 1}, {(1, 2)}
        made.seen(made.LIMIT + 2)
        deliver(made.accept, queue, f"{publisher.name} 1 2")
        self.found(world, made, "lost", "were ready", "nacked and delivered",
                   "neither confirmed nor nacked")

    def test_single(self):
        world, made = scene("single")
        queue, publisher = made.name("q"), made.publishers[0]
        publisher.attempts.update({(1, 1): 1, (1, 2): 1})
        one, two = ({"name": name} for name in "ab")
        consumers = [SimpleNamespace(queue=queue, channel=unittest.mock.MagicMock(), **who)
                     for who in (one, two)]
        for consumer, seq in zip(consumers, (2, 1)):
            made.one(consumer, SimpleNamespace(redelivered=False, delivery_tag=1), None,
                     [publisher.name, "1", str(seq)])
        self.found(world, made, "for the first time after", "without a fault")

    def test_tx(self):
        world, made = scene("tx")
        publisher, two = made.publishers[0], made.name("two")
        publisher.attempted = {(1, 1), (1, 2)}
        deliver(made.part, two, f"{publisher.name} 1 1 0")
        self.found(world, made, "1 of 2")
        world.problems.clear()
        deliver(made.part, two, f"{publisher.name} 1 1 1")
        self.found(world, made)
        publisher.committed = {(1, 2)}
        self.assertFalse(made.settled())
        self.found(world, made, "which was committed", "which was committed")


if __name__ == "__main__":
    unittest.main()
