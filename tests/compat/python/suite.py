#!/usr/bin/env python3
"""The client suite of tests/compat/README.md for pika."""

import argparse
import sys

from checks import CHECKS
from harness import run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uris", required=True)
    parser.add_argument("--queue-type", default="classic", choices=("classic", "quorum"))
    parser.add_argument("--check", default="*")
    options = parser.parse_args()
    return run(CHECKS, options.uris.split(","), options.queue_type, options.check)


sys.exit(main())
