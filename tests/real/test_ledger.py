"""Tests of the kill test's own judgement: it must find what is wrong."""

import unittest

from ledger import Consumer, Publisher, check


def publisher(*lines):
    made = Publisher()
    for line in lines:
        made.take(line.split())
    return made


def consumer(*lines):
    made = Consumer()
    for line in lines:
        made.take(line.split())
    return made


def problems(publish, *consume):
    found, _numbers = check({"p": publish}, {f"c{i}": c for i, c in enumerate(consume)})
    return [text.split(":")[0] for text in found]


class LedgerTest(unittest.TestCase):
    def test_all_well(self):
        self.assertEqual(problems(publisher("A 1 1", "A 1 2", "C 1 1", "C 1 2"),
                                  consumer("D 1 p 1 1 0", "D 1 p 1 2 0")), [])

    def test_lost(self):
        self.assertEqual(problems(publisher("A 1 1", "C 1 1"), consumer()), ["lost"])

    def test_unconfirmed_may_be_lost(self):
        self.assertEqual(problems(publisher("A 1 1"), consumer()), [])

    def test_unexpected(self):
        self.assertEqual(problems(publisher("A 1 1", "C 1 1"),
                                  consumer("D 1 p 1 1 0", "D 1 p 1 7 0")), ["unexpected"])
        self.assertEqual(problems(publisher(), consumer("D 1 x 1 1 0")), ["unexpected"])

    def test_duplicate_needs_the_flag(self):
        well = publisher("A 1 1", "C 1 1")
        self.assertEqual(problems(well, consumer("D 1 p 1 1 0"), consumer("D 1 p 1 1 1")), [])
        self.assertEqual(problems(well, consumer("D 1 p 1 1 0"), consumer("D 1 p 1 1 0")),
                         ["duplicates"])

    def test_resent_after_an_unknown_outcome(self):
        self.assertEqual(problems(publisher("A 1 1", "A 2 1", "C 2 1"),
                                  consumer("D 1 p 1 1 0", "D 1 p 2 1 0")), [])

    def test_order(self):
        publish = publisher("A 1 1", "A 1 2", "C 1 1", "C 1 2")
        self.assertEqual(problems(publish, consumer("D 1 p 1 2 0", "D 1 p 1 1 0")), ["order"])
        self.assertEqual(problems(publish, consumer("D 1 p 1 2 0", "D 1 p 1 1 1")), [])
        self.assertEqual(problems(publish, consumer("D 1 p 1 2 0", "D 2 p 1 1 0")), [])
        self.assertEqual(problems(publish, consumer("D 1 p 1 2 0"), consumer("D 1 p 1 1 0")), [])

    def test_nacked_is_sent_again_out_of_order(self):
        publish = publisher("A 1 1", "A 1 2", "N 1 1", "A 1 1", "C 1 2", "C 1 1")
        self.assertEqual(problems(publish, consumer("D 1 p 1 2 0", "D 1 p 1 1 0")), [])


if __name__ == "__main__":
    unittest.main()
