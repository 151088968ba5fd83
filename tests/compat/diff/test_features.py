#!/usr/bin/env python3
"""What docs/features.md says of tests is true: they exist, and run in the ways that it names."""

import glob
import inspect
import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[1:1] = [HERE, os.path.join(ROOT, "tests", "real"), os.path.join(ROOT, "tests", "compat")]
# pylint: disable=wrong-import-position
import registry  # noqa: E402

WAYS = re.compile(r"yes\b.*|no queue|quorum queues only")


def features():
    """{row: (ways, [name of a test])}"""
    found = {}
    with open(os.path.join(ROOT, "docs", "features.md"), encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) != 5 or not cells[0].isdigit():
                continue
            if cells[0] in found:
                raise ValueError(f"row {cells[0]} is there twice")
            found[cells[0]] = cells[3], re.findall(r"`([^`]+)`", cells[4])
    return found


def unit_tests():
    found = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "unit", "*", "*.c")):
        with open(path, encoding="utf-8") as file:
            found.update("::".join(pair) for pair in re.findall(r"^Test\((\w+), (\w+)", file.read(), re.M))
    return found


def checks_of_clients():
    path = os.path.join(ROOT, "tests", "compat", "README.md")
    with open(path, encoding="utf-8") as file:
        return set(re.findall(r"^\| ([a-z]+\.[a-z0-9-]+) \|", file.read(), re.M))


def is_quorum(unit):
    return not unit.single and (unit.kind == "quorum" or 't.kind = "quorum"' in
                                inspect.getsource(unit.function))


class Features(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rows, cls.units = features(), {}
        for unit in registry.load():
            cls.units.setdefault(unit.base, []).append(unit)
        cls.elsewhere = unit_tests() | checks_of_clients()

    def ways_of(self, name):
        """The ways in which a test runs: (one node and not replicated, quorum)."""
        units = self.units.get(name)
        if units is None:
            return "::" not in name, "::" not in name       # unit tests are no real client
        quorum = [is_quorum(unit) for unit in units]
        # tables have all kinds of queues in their rows
        return not all(quorum), any(quorum) or any(unit.single for unit in units)

    def test_all_tests_exist(self):
        for row, (_, names) in self.rows.items():
            self.assertTrue(names, f"row {row} has no test")
            for name in names:
                there = os.path.isfile(os.path.join(ROOT, name)) if name.startswith("tests/") else \
                    name in self.units or name in self.elsewhere
                self.assertTrue(there, f"row {row}: there is no test {name}")

    def test_they_run_in_the_ways_that_are_named(self):
        for row, (ways, names) in self.rows.items():
            self.assertRegex(ways, WAYS, f"row {row}")
            found = [self.ways_of(name) for name in names]
            if not ways.startswith("quorum"):
                self.assertTrue(any(one for one, _ in found), f"row {row}: not on one node")
            if ways != "no queue":
                self.assertTrue(any(quorum for _, quorum in found), f"row {row}: no quorum queue")

    def test_rows_of_scripts_are_there(self):
        for units in self.units.values():
            for row in units[0].rows:
                self.assertIn(row, list(self.rows), f"{units[0].base} is of a row that is not listed")


if __name__ == "__main__":
    unittest.main()
