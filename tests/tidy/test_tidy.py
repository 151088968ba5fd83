#!/usr/bin/env python3
"""Proves that tidy.py sees what it should see: each test makes a small tree with one offence."""

import os
import tempfile
import unittest

import tidy

LAYERS = """
layer base src/base :
layer raft raft :
layer queue src/queue : base
layer os src/os : base
header buf.h base
header raft*.h raft
header queue.h queue
system os *
fragment include/warren/queue_frag.h
"""
BANNED = "malloc free | use mem | src/base/mem.c\ntime | env | src/os/*\n"
GOOD = "/* What: a file. */\n"


class TidyTest(unittest.TestCase):
    def check(self, files, ratchet="", compiler=()):
        """The rules that fire for these files."""
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
            checker = tidy.Tidy(root, tidy.Layers(LAYERS), tidy.parse_banned(BANNED),
                                tidy.parse_ratchet(ratchet))
            return [f"{f.rule}:{f.line}" for f in checker.run(list(compiler))]

    def test_clean_file_has_no_findings(self):
        text = GOOD + '#include <string.h>\n#include "warren/buf.h"\n#include "own.h"\n'
        header = "#ifndef WR_QUEUE_OWN_H\n#define WR_QUEUE_OWN_H\n#endif\n"
        self.assertEqual(self.check({"src/queue/a.c": text, "src/queue/own.h": header}), [])

    def test_upward_and_foreign_includes(self):
        self.assertEqual(self.check({"src/base/a.c": GOOD + '#include "warren/queue.h"\n'}),
                         ["layer:2"])
        self.assertEqual(self.check({"raft/a.c": GOOD + '#include "warren/buf.h"\n'}), ["layer:2"])
        self.assertEqual(self.check({"raft/a.c": GOOD + '#include "warren/raft_types.h"\n'}), [])
        self.assertEqual(self.check({"src/base/a.c": GOOD + '#include "../queue/own.h"\n'}),
                         ["layer:2"])
        self.assertEqual(self.check({"src/base/a.c": GOOD + '#include "other.h"\n'}), ["layer:2"])
        self.assertEqual(self.check({"src/base/a.c": GOOD + '#include "warren/new.h"\n'}),
                         ["layer:2"])
        self.assertEqual(self.check({"src/unknown/a.c": GOOD}), ["layer:1"])

    def test_system_headers(self):
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "#include <pthread.h>\n"}),
                         ["layer:2"])
        self.assertEqual(self.check({"src/os/a.c": GOOD + "#include <pthread.h>\n"}), [])
        self.assertEqual(self.check({"tests/unit/a.c": GOOD + "#include <pthread.h>\n"}), [])

    def test_public_headers_obey_their_layer(self):
        text = '#ifndef WR_BUF_H\n#define WR_BUF_H\n#include "warren/queue.h"\n#endif\n'
        self.assertEqual(self.check({"include/warren/buf.h": text}), ["layer:3"])

    def test_banned_calls(self):
        text = GOOD + "void f(void)\n{\n    malloc(1);\n}\n"
        self.assertEqual(self.check({"src/queue/a.c": text}), ["call:4"])
        self.assertEqual(self.check({"src/base/mem.c": text}), [])
        text = GOOD + "void f(void)\n{\n    time (NULL);\n}\n"
        self.assertEqual(self.check({"src/queue/a.c": text}), ["call:4"])
        self.assertEqual(self.check({"src/os/a.c": text}), [])

    def test_calls_in_comments_strings_and_members_are_none(self):
        text = GOOD + ("void f(struct p *p)\n{\n    /* malloc(1) */ // time(0)\n"
                       "    g(\"free(\");\n    p->free(p);\n    p->x.free(p);\n    my_free(p);\n}\n")
        self.assertEqual(self.check({"src/queue/a.c": text}), [])

    def test_function_length_and_ratchet(self):
        def body(lines, above=""):
            return GOOD + above + "int long_one(void)\n{\n" + "    x();\n" * (lines - 2) + "}\n"
        self.assertEqual(self.check({"src/queue/a.c": body(70)}), [])
        self.assertEqual(self.check({"src/queue/a.c": body(71)}), ["function:3"])
        listed = "function src/queue/a.c long_one 80\n"
        self.assertEqual(self.check({"src/queue/a.c": body(80)}, listed), [])
        self.assertEqual(self.check({"src/queue/a.c": body(81)}, listed), ["function:3"])
        self.assertEqual(self.check({"src/queue/a.c": body(79)}, listed), ["ratchet:1"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD}, listed), ["ratchet:1"])
        excuse = "/* Decodes.\n * tidy: long function: one case per method */\n"
        self.assertEqual(self.check({"src/queue/a.c": body(90, excuse)}), [])
        self.assertEqual(self.check({"src/queue/a.c": body(90, "/* tidy: long function: */\n")}),
                         ["function:4"])

    def test_tests_are_functions_too(self):
        text = GOOD + "Test(a, b)\n{\n" + "    x();\n" * 80 + "}\n"
        self.assertEqual(self.check({"tests/unit/a.c": text}), ["function:3"])
        self.assertEqual(self.check({"tests/unit/a.c": text}, "function tests/unit/a.c a.b 82\n"),
                         [])

    def test_long_tables_are_no_functions(self):
        text = GOOD + "static const int t[] = {\n" + "    1,\n" * 200 + "};\n"
        self.assertEqual(self.check({"src/queue/a.c": text}), [])

    def test_sizes_of_files_and_lines(self):
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "\n" * 1000}), ["file:1"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "/* " + "a" * 97 + "*/\n"}),
                         ["columns:2"])

    def test_text_rules(self):
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "int x; \n"}), ["space:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "\tint x;\n"}), ["space:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "int x;\r\n"}), ["space:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "int x;"}), ["space:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "/* FIX" + "ME */\n"}), ["marker:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "/* TO" + "DO later */\n"}),
                         ["marker:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + "/* TO" + "DO(#12) */\n"}), [])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + '/* /ho' + 'me/me/x */\n'}),
                         ["machine-path:2"])
        self.assertEqual(self.check({"src/queue/a.c": GOOD + 'void f(void)\n{\n    g("%p");\n}\n'}),
                         ["pointer:4"])
        self.assertEqual(self.check({"src/queue/a.c": "int x;\n"}), ["comment:1"])

    def test_guards(self):
        def guarded(name):
            return f"#ifndef {name}\n#define {name}\n#endif\n"
        self.assertEqual(self.check({"include/warren/buf.h": guarded("WR_BUF_H")}), [])
        self.assertEqual(self.check({"include/warren/buf.h": guarded("WR_X_BUF_H")}), ["guard:1"])
        self.assertEqual(self.check({"src/queue/own.h": guarded("WR_QUEUE_OWN_H")}), [])
        self.assertEqual(self.check({"src/queue/own.h": guarded("OWN_H")}), ["guard:1"])
        self.assertEqual(self.check({"src/queue/own.h": "int x;\n"}), ["guard:1"])

    def test_headers_compile_alone(self):
        good = "#ifndef WR_BUF_H\n#define WR_BUF_H\n#include <stdint.h>\nextern uint8_t x;\n#endif\n"
        bad = good.replace("#include <stdint.h>\n", "")
        self.assertEqual(self.check({"include/warren/buf.h": good}, compiler=["cc"]), [])
        self.assertEqual(self.check({"include/warren/buf.h": bad}, compiler=["cc"]), ["header:1"])

    def test_large_files(self):
        self.assertEqual(self.check({"docs/x.bin": "x" * (1 << 21)}), ["blob:1"])


if __name__ == "__main__":
    unittest.main()
