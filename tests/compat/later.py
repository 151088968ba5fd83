"""The list of checks that may fail because what they check is not there yet: NAME | REASON."""

import os

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "later.txt")


def read(path):
    """{name: reason}; empty without a file."""
    listed = {}
    if path is None:
        return listed
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, separator, reason = (part.strip() for part in line.partition("|"))
            if not separator or not name or not reason or name in listed:
                raise ValueError(f"{path}:{number}: wants NAME | REASON, each name once")
            listed[name] = reason
    return listed
