"""Files of transcripts, deviations, and comparing."""

import difflib
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "transcripts")
FOLLOWS = re.compile(r"3\.\d+|4\.x|neither")


def matches(pattern, text):
    """True when text is like the pattern, in which * stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text,
                        re.S) is not None


def same_but(pattern_before, pattern_after, before, after):
    """True when both lines are like their patterns, in which ** stands for anything and * for the
    same text in both."""
    def expression(pattern, star):
        parts = [re.escape(part) for part in pattern.split("**")]
        return ".*".join(part.replace(r"\*", star) for part in parts)

    found = re.fullmatch(expression(pattern_before, "(.*?)"), before, re.S)
    if found is None:
        return False
    wanted = expression(pattern_after, "\0")
    if wanted.count("\0") == len(found.groups()):
        for text in found.groups():
            wanted = wanted.replace("\0", re.escape(text), 1)
    return re.fullmatch(wanted.replace("\0", ".*"), after, re.S) is not None


def read(path):
    """{name: [line]}; a name with one line stands on its line, others have a section."""
    found, lines = {}, None
    if not os.path.exists(path):
        return found
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            if line.startswith("== "):
                lines = found[line[3:]] = []
            elif line.startswith("-- "):
                name, _, text = line[3:].partition(" => ")
                found[name] = [text]
            else:
                lines.append(line)
    return found


def write(path, comment, transcripts, single):
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"# {line}\n" for line in comment.split("\n")))
        for name, lines in transcripts.items():
            if single and len(lines) == 1:
                file.write(f"-- {name} => {lines[0]}\n")
            else:
                file.write(f"\n== {name}\n" + "".join(line + "\n" for line in lines))


class Deviation:
    def __init__(self, number, pattern):
        self.number, self.pattern = number, pattern
        self.why, self.follows, self.lost, self.gained = "", "", [], []
        self.used = 0

    def excuses(self, name, lost, gained):
        if not matches(self.pattern, name) or len(lost) != len(self.lost) or \
                len(gained) != len(self.gained):
            return False
        if len(lost) == len(gained):
            return all(same_but(*four) for four in zip(self.lost, self.gained, lost, gained))
        return all(same_but(p, "", line, "")
                   for p, line in zip(self.lost + self.gained, lost + gained))


def read_deviations(path):
    """One for each name; names on lines that follow each other have the rest in common."""
    found, same, before = [], [], ""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            key, _, rest = line.partition(" ")
            if not line.strip() or key == "#":
                continue
            if key == "=":
                same = [*(same if before == "=" else []), Deviation(number, rest)]
                found.append(same[-1])
            elif not found:
                raise ValueError(f"{path}:{number}: begins with '= NAME'")
            elif key not in ("why:", "follows:", "-", "+") or \
                    key == "follows:" and not FOLLOWS.fullmatch(rest):
                raise ValueError(f"{path}:{number}: not understood: {line}")
            for deviation in same:
                if key == "why:":
                    deviation.why = rest
                elif key == "follows:":
                    deviation.follows = rest
                elif key == "-":
                    deviation.lost.append(rest)
                elif key == "+":
                    deviation.gained.append(rest)
            before = key
    for deviation in found:
        if not deviation.why or not deviation.follows or not deviation.lost + deviation.gained:
            raise ValueError(f"{path}:{deviation.number}: wants why, follows, and what differs")
    return found


def differences(wanted, got):
    """[(lines that are missing, lines that came instead)]"""
    found = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, wanted, got, False).get_opcodes():
        if tag != "equal":
            found.append((wanted[i:j], got[k:m]))
    return found


def excused(name, lost, gained, deviations):
    """Whether a deviation is exactly this difference, or for each pair of lines one is."""
    excuse = next((d for d in deviations if d.excuses(name, lost, gained)), None)
    if excuse is not None:
        excuse.used += 1
        return True
    if len(lost) != len(gained) or len(lost) == 1:
        return False
    return all([excused(name, [a], [b], deviations) for a, b in zip(lost, gained)])


def compare(name, wanted, got, deviations):
    """The differences that no deviation excuses."""
    return [(lost, gained) for lost, gained in differences(wanted, got)
            if not excused(name, lost, gained, deviations)]
