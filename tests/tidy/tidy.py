#!/usr/bin/env python3
"""Checks the source tree against the rules of docs/style.md that a machine can check.

Rules: layers of #include lines (layers.txt), banned calls (banned.txt), sizes of lines, functions
and files (with ratchet.txt for what exists already), opening comments, guards, headers that compile
alone, white space, left-over markers, machine paths and large files.

A long function may stay when the comment right before it says "tidy: long function: <reason>".
Prints one line per finding, "path:line: rule: text", and exits 1 when there is any.
"""

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

LINE_MAX = 100
FUNCTION_MAX = 70
FILE_MAX = 1000
BLOB_MAX = 1 << 20

SOURCE_ROOTS = ("include", "src", "raft", "cluster", "tests")
TEXT_SUFFIXES = (".c", ".h", ".def", ".py", ".sh", ".build", ".md")
SKIP_FOLDERS = {".git", ".dev", "node_modules", "__pycache__", "target", "subprojects"}

# What every layer may include of libc: no threads, no clock, no files, no sockets.
LIBC_PURE = {
    "assert.h", "ctype.h", "errno.h", "inttypes.h", "limits.h", "setjmp.h", "stdalign.h",
    "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h",
    "string.h", "strings.h",
}

SYNTAX_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-DWARREN_VERSION=\"0\"", "-Wall", "-Wextra",
                "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c"]


class Finding:
    def __init__(self, path, line, rule, text):
        self.path, self.line, self.rule, self.text = path, line, rule, text

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def strip_code(text):
    """The text with the insides of comments, strings and character constants blanked out."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[0]
        return re.sub(r"[^\n]", " ", found)

    return pattern.sub(blank, text)


class Layers:
    """layers.txt"""

    def __init__(self, text):
        self.folders, self.uses, self.headers, self.system, self.fragments = {}, {}, [], {}, set()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#", 1)[0].split()
            if not words:
                continue
            if words[0] == "layer" and len(words) >= 4 and words[3] == ":":
                self.uses[words[1]] = set(words[4:])
                if words[2] != "-":
                    self.folders[words[2]] = words[1]
            elif words[0] == "header" and len(words) == 3:
                self.headers.append((words[1], words[2]))
            elif words[0] == "system" and len(words) >= 3:
                self.system.setdefault(words[1], []).extend(words[2:])
            elif words[0] == "fragment" and len(words) == 2:
                self.fragments.add(words[1])
            else:
                raise SystemExit(f"layers.txt:{number}: not understood: {line}")
        known = set(self.uses)
        for name in [u for uses in self.uses.values() for u in uses] + \
                [h[1] for h in self.headers] + list(self.system):
            if name not in known:
                raise SystemExit(f"layers.txt: no such layer: {name}")

    def of_header(self, name):
        """The layer that owns include/warren/<name>, or None."""
        for pattern, layer in self.headers:
            if fnmatch.fnmatchcase(name, pattern):
                return layer
        return None

    def of_file(self, path):
        """The layer of a source file: the deepest folder that has one; None outside of all."""
        if path.startswith("include/warren/"):
            return self.of_header(path[len("include/warren/"):])
        folder = os.path.dirname(path)
        while folder:
            if folder in self.folders:
                return self.folders[folder]
            folder = os.path.dirname(folder)
        return None


def parse_banned(text):
    """banned.txt as {name: (reason, [patterns])}"""
    banned = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3:
            raise SystemExit(f"banned.txt:{number}: not understood: {line}")
        for name in parts[0].split():
            banned[name] = (parts[1], parts[2].split())
    return banned


def parse_ratchet(text):
    """ratchet.txt as {(rule, path, name): value}"""
    ratchet = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 4 or not words[3].isdigit():
            raise SystemExit(f"ratchet.txt:{number}: not understood: {line}")
        ratchet[tuple(words[:3])] = int(words[3])
    return ratchet


def functions_of(text, code):
    """(name, first line, lines, exempt) of every function; a function's braces are in column 0, or
    the opening one ends its signature."""
    lines = code.split("\n")
    original = text.split("\n")
    found = []
    start = None
    for number, line in enumerate(lines):
        opens = line.rstrip() == "{" or re.match(r"[A-Za-z_].*\)\s*\{\s*$", line)
        if start is None and opens:
            signature = number
            while signature > 0 and lines[signature - 1].strip() and \
                    not re.search(r"[;}]\s*$|^#", lines[signature - 1]):
                signature -= 1
            head = " ".join(lines[signature:number + 1])
            name = re.search(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(", head)
            if name is not None and "=" not in head.split("(")[0]:
                start = (name.group(1), number)
                # Criterion: Test(suite, name)
                test = re.match(r"\s*Test\(\s*(\w+),\s*(\w+)", head)
                if test is not None:
                    start = (f"{test.group(1)}.{test.group(2)}", number)
                exempt = is_exempt(original, signature)
        elif start is not None and re.match(r"\}", line):
            found.append((start[0], start[1] + 1, number - start[1] + 1, exempt))
            start = None
    return found


def is_exempt(lines, signature):
    """True when the comment right before the line gives a reason for length."""
    above = signature - 1
    comment = []
    while above >= 0 and (lines[above].startswith((" *", "/*", "//"))):
        comment.insert(0, lines[above])
        above -= 1
    return re.search(r"tidy: long function: [A-Za-z]", " ".join(comment)) is not None


class Tidy:
    def __init__(self, root, layers, banned, ratchet):
        self.root, self.layers, self.banned, self.ratchet = root, layers, banned, ratchet
        self.findings = []
        self.measured = {}

    def add(self, path, line, rule, text):
        self.findings.append(Finding(path, line, rule, text))

    def files(self):
        """Relative paths, sorted: what git knows or would add; without git, the whole tree."""
        if os.path.exists(os.path.join(self.root, ".git")):
            done = subprocess.run(["git", "ls-files", "-z", "--cached", "--others",
                                   "--exclude-standard"], cwd=self.root, capture_output=True,
                                  text=True, check=True)
            return sorted(set(done.stdout.split("\0")) - {""})
        return list(self.walk())

    def walk(self):
        for folder, folders, names in os.walk(self.root):
            relative = os.path.relpath(folder, self.root)
            top = relative == "."
            folders[:] = sorted(f for f in folders if f not in SKIP_FOLDERS and
                                not (top and f.startswith("build")))
            for name in sorted(names):
                yield name if top else f"{relative}/{name}"

    def run(self, compiler):
        headers = []
        for path in self.files():
            full = os.path.join(self.root, path)
            if os.path.islink(full) or not os.path.isfile(full):
                continue
            if os.path.getsize(full) > BLOB_MAX:
                self.add(path, 1, "blob", f"larger than {BLOB_MAX} bytes")
                continue
            if not path.endswith(TEXT_SUFFIXES):
                continue
            with open(full, encoding="utf-8", errors="replace", newline="") as file:
                text = file.read()
            self.check_text(path, text)
            if path.endswith((".c", ".h", ".def")) and path.split("/")[0] in SOURCE_ROOTS:
                self.check_source(path, text)
                if path.endswith(".h") and path not in self.layers.fragments:
                    headers.append(path)
        self.check_ratchet()
        if compiler:
            self.compile_headers(compiler, headers)
        return sorted(self.findings, key=lambda f: (f.path, f.line, f.rule))

    # Any text file.

    def check_text(self, path, text):
        if text and not text.endswith("\n"):
            self.add(path, text.count("\n") + 1, "space", "no newline at the end")
        own = path.startswith("tests/tidy/")
        for number, line in enumerate(text.split("\n"), 1):
            if line.endswith("\r"):
                self.add(path, number, "space", "carriage return")
            elif line != line.rstrip() and not path.endswith(".md"):
                self.add(path, number, "space", "trailing space")
            if path.endswith((".c", ".h", ".def")) and "\t" in line:
                self.add(path, number, "space", "tab")
            if own:
                continue
            if re.search(r"\bFIXME\b|\bXXX\b", line):
                self.add(path, number, "marker", "finish it, or open an issue")
            if re.search(r"\bTODO\b(?!\()", line):
                self.add(path, number, "marker", "TODO needs an issue: TODO(#number)")
            if re.search(r"(?<![\w.])/(work|home|root)/\w", line) and \
                    path.split("/")[0] in SOURCE_ROOTS:
                self.add(path, number, "machine-path", "a path of one machine")

    # C.

    def check_source(self, path, text):
        code = strip_code(text)
        self.check_sizes(path, text, code)
        self.check_calls(path, code)
        self.check_includes(path, text)
        if path.endswith(".c") and not text.startswith("/*"):
            self.add(path, 1, "comment", "a .c file opens with a block comment")
        if path.endswith(".h") and path not in self.layers.fragments:
            self.check_guard(path, code)
        if re.match(r"(include|src|raft|cluster)/", path):
            for match in re.finditer(r'"[^"\n]*%p[^"\n]*"', text):
                self.add(path, text.count("\n", 0, match.start()) + 1, "pointer",
                         "an address in output is different in every run")

    def check_sizes(self, path, text, code):
        lines = text.split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        self.measure("file", path, "-", len(lines), FILE_MAX, 1, "lines in the file")
        long_lines = [n for n, line in enumerate(lines, 1) if len(line) > LINE_MAX]
        self.measure("columns", path, "-", len(long_lines), 0, long_lines[0] if long_lines else 1,
                     f"lines over {LINE_MAX} columns")
        for name, line, length, exempt in functions_of(text, code):
            if not exempt:
                self.measure("function", path, name, length, FUNCTION_MAX, line,
                             f"lines in {name}")

    def measure(self, rule, path, name, value, limit, line, text):
        """A value over its limit is a finding unless the ratchet allows it."""
        if value <= limit:
            return
        key = (rule, path, name)
        self.measured[key] = max(value, self.measured.get(key, 0))
        allowed = self.ratchet.get(key, limit)
        if value > allowed:
            self.add(path, line, rule, f"{value} {text}, at most {allowed}")

    def check_ratchet(self):
        for (rule, path, name), value in sorted(self.ratchet.items()):
            now = self.measured.get((rule, path, name), 0)
            if now < value:
                self.add("tests/tidy/ratchet.txt", 1, "ratchet",
                         f"{rule} {path} {name} is better than {value} now: run tidy.py --shrink")

    def check_calls(self, path, code):
        for match in re.finditer(r"(?<![\w.>])([A-Za-z_]\w*)\s*\(", code):
            rule = self.banned.get(match.group(1))
            if rule is None or any(fnmatch.fnmatchcase(path, pattern) for pattern in rule[1]):
                continue
            self.add(path, code.count("\n", 0, match.start()) + 1, "call",
                     f"{match.group(1)}: {rule[0]}")

    def check_guard(self, path, code):
        stem = re.sub(r"\W", "_", os.path.basename(path)[:-2]).upper()
        exact = f"WR_{stem}_H"
        match = re.search(r"#ifndef\s+(\w+)\s*\n#define\s+(\w+)", code)
        if match is None or match.group(1) != match.group(2):
            self.add(path, 1, "guard", f"no include guard {exact}")
            return
        guard = match.group(1)
        public = path.startswith("include/")
        if guard != exact and (public or not re.fullmatch(rf"WR_(\w+_)?{stem}_H", guard)):
            self.add(path, code.count("\n", 0, match.start()) + 1, "guard",
                     f"{guard} should be {exact}")

    def check_includes(self, path, text):
        layer = self.layers.of_file(path)
        in_tests = path.startswith("tests/")
        if layer is None and not in_tests:
            self.add(path, 1, "layer", "belongs to no layer of tests/tidy/layers.txt")
            return
        for number, line in enumerate(text.split("\n"), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if match is None:
                continue
            name = match.group(2)
            if match.group(1) == "<":
                if not in_tests:
                    self.check_system(path, number, layer, name)
            elif ".." in name.split("/"):
                self.add(path, number, "layer", f"{name}: leaves its folder")
            elif name.startswith("warren/"):
                self.check_public(path, number, layer, name[len("warren/"):], in_tests)
            elif not in_tests and not self.is_local(path, layer, name):
                self.add(path, number, "layer", f"{name}: not in this folder")

    def is_local(self, path, layer, name):
        if path.startswith("include/"):
            return False
        folders = [f for f, of in self.layers.folders.items() if of == layer]
        folders.append(os.path.dirname(path))
        return any(os.path.isfile(os.path.join(self.root, f, name)) for f in folders)

    def check_system(self, path, number, layer, name):
        allowed = self.layers.system.get(layer, [])
        if name not in LIBC_PURE and not any(fnmatch.fnmatchcase(name, p) for p in allowed):
            self.add(path, number, "layer", f"<{name}> is not for layer {layer}")

    def check_public(self, path, number, layer, name, in_tests):
        owner = self.layers.of_header(name)
        if owner is None:
            self.add(path, number, "layer", f"warren/{name} belongs to no layer of layers.txt")
        elif not in_tests and owner != layer and owner not in self.layers.uses[layer]:
            self.add(path, number, "layer", f"layer {layer} may not use {owner} (warren/{name})")

    def compile_headers(self, compiler, headers):
        def compile_one(path):
            folder = os.path.dirname(path)
            includes = ["-Iinclude", f"-I{folder}"]
            if folder.startswith("tests/"):
                includes += ["-Itests/lib", "-Itests/sim", "-Isrc"]
            mirrored = re.match(r"tests/unit/([^/]+)$", folder)
            if mirrored:
                name = mirrored.group(1)
                includes.append(f"-I{name if name in ('raft', 'cluster') else 'src/' + name}")
            with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
                file.write(f'#include "{path}"\n')
                file.flush()
                done = subprocess.run(compiler + SYNTAX_FLAGS + includes + ["-I.", file.name],
                                      cwd=self.root, capture_output=True, text=True, check=False)
            error = re.search(r"(error|fatal error): .*", done.stderr)
            return path, done.returncode, error.group(0) if error else done.stderr.strip()[:200]

        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for path, code, error in pool.map(compile_one, headers):
                if code != 0:
                    self.add(path, 1, "header", f"does not compile alone: {error}")


def shrink(tidy, path, accept):
    """Write the ratchet anew: values only go down, unless `accept` takes what is there now."""
    with open(path, encoding="utf-8") as file:
        head = [line for line in file if line.startswith("#")]
    rows = []
    for key, value in sorted(tidy.measured.items()):
        before = tidy.ratchet.get(key)
        if accept or before is not None:
            rows.append((key, value if accept or value < before else before))
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(head)
        for (rule, name, item), value in rows:
            file.write(f"{rule} {name} {item} {value}\n")


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--cc", nargs="+", default=["cc"], help="compiler for the headers")
    parser.add_argument("--no-compile", action="store_true", help="leave the headers alone")
    parser.add_argument("--shrink", action="store_true", help="take down what got better")
    parser.add_argument("--accept", action="store_true",
                        help="list what offends now (for a merge that a reviewer has agreed to)")
    options = parser.parse_args()
    tidy = Tidy(options.root, Layers(read(here, "layers.txt")),
                parse_banned(read(here, "banned.txt")), parse_ratchet(read(here, "ratchet.txt")))
    findings = tidy.run([] if options.no_compile else options.cc)
    if options.shrink or options.accept:
        shrink(tidy, os.path.join(here, "ratchet.txt"), options.accept)
        return 0
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
