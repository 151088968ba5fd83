#!/usr/bin/env python3
"""The runner finds what differs, excuses only what is described, and reads what it writes."""

import os
import sys
import tempfile
import unittest
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "..", "real"), os.path.join(HERE, "..")]
# pylint: disable=wrong-import-position
import amqp_codec  # noqa: E402
import run  # noqa: E402
import session  # noqa: E402
import transcript  # noqa: E402


def deviations(text):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        return transcript.read_deviations(file.name)


TEXT = """
= a.*
follows: 4.x
why: because
- * < refused code=* text=**
+ * < refused code=* text=other

= b
follows: neither
why: one line more
+ a1 < surplus
"""


class Deviations(unittest.TestCase):
    def left(self, name, wanted, got, text=TEXT):
        return transcript.compare(name, wanted, got, deviations(text))

    def test_only_what_is_described(self):
        self.assertEqual(self.left("a.x", ["a1 < refused code=1 text=t"],
                                   ["a1 < refused code=1 text=other"]), [])
        for got in ("a1 < refused code=2 text=other", "a2 < refused code=1 text=other",
                    "a1 < refused code=1 text=another"):
            self.assertTrue(self.left("a.x", ["a1 < refused code=1 text=t"], [got]), got)

    def test_only_where_it_is_named(self):
        self.assertTrue(self.left("b", ["a1 < refused code=1 text=t"],
                                  ["a1 < refused code=1 text=other"]))

    def test_lines_one_by_one(self):
        self.assertEqual(self.left("a.x", ["1 < refused code=1 text=t", "2 < refused code=2 text=t"],
                                   ["1 < refused code=1 text=other", "2 < refused code=2 text=other"]), [])
        self.assertTrue(self.left("a.x", ["1 < refused code=1 text=t", "2 < ok"],
                                  ["1 < refused code=1 text=other", "2 < not ok"]))

    def test_lines_that_are_missing_or_too_many(self):
        self.assertEqual(self.left("b", ["a1 < ok"], ["a1 < ok", "a1 < surplus"]), [])
        self.assertTrue(self.left("b", ["a1 < ok"], ["a1 < surplus"]))
        self.assertTrue(self.left("b", ["a1 < ok", "a1 < ok"], ["a1 < ok"]))
        self.assertTrue(self.left("b", ["a1 < ok"], []))

    def test_order_counts(self):
        self.assertTrue(self.left("c", ["a1 < 1", "a1 < 2"], ["a1 < 2", "a1 < 1"]))

    def test_several_names(self):
        text = TEXT.replace("= b\n", "= b\n= c.*\n")
        for name in ("b", "c.x"):
            self.assertEqual(self.left(name, ["a1 < ok"], ["a1 < ok", "a1 < surplus"], text), [])
        self.assertTrue(self.left("c", ["a1 < ok"], ["a1 < ok", "a1 < surplus"], text))
        self.assertEqual([d.pattern for d in deviations(text)], ["a.*", "b", "c.*"])

    def test_a_deviation_without_reason_is_refused(self):
        for text in ("= a\nfollows: 4.x\n- x\n", "= a\nwhy: w\n- x\n", "= a\nfollows: 4.x\nwhy: w\n",
                     "- x\n", "= a\nfollows: 2.0\nwhy: w\n- x\n"):
            with self.assertRaises(ValueError):
                deviations(text)


class Judging(unittest.TestCase):
    def judge(self, wanted, got, listed=(), complete=True, known=()):
        options = SimpleNamespace(quiet=True, complete=complete, leave_out=False)
        judgement = run.Judgement(deviations(TEXT), dict.fromkeys(listed, 0), options,
                                  known)
        unit = SimpleNamespace(group="g", seconds=0.0)
        sys.stdout, out = open(os.devnull, "w", encoding="utf-8"), sys.stdout
        try:
            judgement.unit(unit, wanted, got)
            return judgement.end("", 0)
        finally:
            sys.stdout.close()
            sys.stdout = out

    BOTH = {"a.x": ["1 < refused code=1 text=t"], "b": []}
    DEVIATE = {"a.x": ["1 < refused code=1 text=other"], "b": ["a1 < surplus"]}

    def test_as_described(self):
        self.assertEqual(self.judge(self.BOTH, self.DEVIATE), 0)

    def test_a_deviation_that_does_not_occur_any_more(self):
        self.assertEqual(self.judge(self.BOTH, dict(self.DEVIATE, b=[])), 1)
        self.assertEqual(self.judge(self.BOTH, self.BOTH), 2)
        self.assertEqual(self.judge({"c": []}, {"c": []}, complete=False), 0)

    def test_a_deviation_of_what_comes_later(self):
        got = dict(self.DEVIATE, b=[])
        self.assertEqual(self.judge(self.BOTH, got, known=["a.x", "b"]), 1)
        self.assertEqual(self.judge({"a.x": self.BOTH["a.x"]}, {"a.x": got["a.x"]}, ["b"],
                                    known=["a.x", "b"]), 1)     # b passes, too: it is to be taken off

    def test_what_comes_later(self):
        wanted, got = dict(self.BOTH, c=["x"]), dict(self.DEVIATE, c=["y"])
        self.assertEqual(self.judge(wanted, got), 1)
        self.assertEqual(self.judge(wanted, got, ["c"]), 0)
        self.assertEqual(self.judge(wanted, dict(got, c=["x"]), ["c"]), 1)

    def test_what_is_not_run_or_not_known(self):
        self.assertEqual(self.judge(dict(self.BOTH, c=["x"]), self.DEVIATE), 1)
        self.assertEqual(self.judge(self.BOTH, dict(self.DEVIATE, c=["x"])), 1)


class Files(unittest.TestCase):
    def test_round_trip(self):
        found = {"one": ["a1 > x", "a1 < y"], "none": [], "row": ["text => with an arrow"]}
        for single in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "t.txt")
                transcript.write(path, "two\nlines", found, single)
                self.assertEqual(transcript.read(path), found)


class Codec(unittest.TestCase):
    def test_tables(self):
        table = {"A": [1, {"x": None}], "D": ("D", (2, 5)), "I": -1, "S": "ö", "T": ("T", 7), "t": True,
                 "l": -2 ** 40, "d": 1.5, "x": b"\0\1", "B": ("B", 200), "u": ("u", 65535)}
        shown = session.shown_table(amqp_codec.Reader(amqp_codec.put_table(table)).table())
        self.assertEqual(shown, "{A=A[I:1 F{x=V}] D=D:(2, 5) I=I:-1 S=S:'ö' T=T:7 t=t:1 "
                         "l=l:-1099511627776 d=d:1.5 x=x:'\\x00\\x01' B=B:200 u=u:65535}")

    def test_methods(self):
        for name, (_class, _method, fields) in amqp_codec.METHODS.items():
            values = {}
            for number, (field, kind) in enumerate(fields):
                if field is not None:
                    values[field] = {"bit": number % 2, "short": b"s", "long": b"l",
                                     "table": []}.get(kind, number + 1)
            frame = amqp_codec.put_method(3, name, **values)
            self.assertEqual(amqp_codec.take_method(frame[7:-1]), (name, values))

    def test_contents(self):
        properties = {"content-type": b"t", "headers": [("h", ("I", 1))], "priority": 9,
                      "timestamp": 7, "cluster-id": b"c"}
        frames = amqp_codec.put_content(1, b"body", {k: dict(h=1) if k == "headers" else v
                                                    for k, v in properties.items()})
        size = int.from_bytes(frames[3:7], "big")
        self.assertEqual(amqp_codec.take_header(frames[7:7 + size]), (4, list(properties.items())))

    def test_what_may_differ_is_taken_out(self):
        self.assertEqual(session.tidy("amq.gen-" + "a" * 22 + " on rabbit1-7400@localhost, <0.1.2>"),
                         "amq.gen-* on <node>, <pid>")
        self.assertEqual(session.quoted(b"x" * 101), "'" + "x" * 24 + "'...(101)")


if __name__ == "__main__":
    unittest.main()
