#!/usr/bin/env python3
"""Everything that runs on real processes: client suites, bad input, kill test; one table at the end."""

import argparse
import os
import subprocess
import sys
import time

import cluster as clusters

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import clients  # noqa: E402  pylint: disable=wrong-import-position
import run as compat  # noqa: E402  pylint: disable=wrong-import-position

PARTS = ("ledger", "bad-input", "compat-1", "compat-3", "kill")


def script(name, options, *more):
    command = [sys.executable, os.path.join(HERE, name), "--driver", options.driver, "--warren",
               options.warren, "--warrenctl", options.warrenctl, "--shards", str(options.shards)]
    return subprocess.run(command + list(more), check=False).returncode


def client_suites(options, count):
    """The client suites against a cluster of `count` nodes."""
    with clusters.from_options(options, count, f"compat-{count}") as cluster:
        cluster.form()
        # with three nodes it is the queues on several nodes that are of interest
        kinds = ("classic", "quorum")
        failed = compat.run_all(",".join(cluster.uris), options.clients.split(","), kinds)
        for node in cluster.nodes:
            if not node.running:
                failed += 1
                print(f"{node.name} has ended: {cluster.tail(node)}")
            elif cluster.stop(node) != 0:
                failed += 1
                print(f"{node.name} did not end with 0 after SIGTERM: {cluster.tail(node)}")
        if failed:
            raise SystemExit(1)
    return 0


def part(name, options):
    """The exit code of one part."""
    if name == "ledger":
        return subprocess.run([sys.executable, "-m", "unittest", "-q", "test_ledger"], cwd=HERE,
                              check=False).returncode
    if name == "bad-input":
        return script("bad_input.py", options)
    if name == "kill":
        return script("kill_test.py", options, "--rounds", str(options.rounds), "--clients",
                      options.clients)
    try:
        return client_suites(options, int(name[-1]))
    except SystemExit as error:
        return error.code
    except clusters.ClusterError as error:
        print(error)
        return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    clusters.add_options(parser)
    parser.add_argument("--rounds", type=int, default=4, help="of the kill test")
    parser.add_argument("--clients", default=",".join(clients.NAMES))
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    rows = []
    for name in options.parts.split(","):
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        code = part(name, options)
        rows.append((name, code, time.monotonic() - begun))
    print(f"\n{'part':<12}{'result':<8}{'seconds':>8}")
    for name, code, seconds in rows:
        print(f"{name:<12}{'passed' if code == 0 else 'FAILED':<8}{seconds:>8.1f}")
    return 1 if any(code for _name, code, _seconds in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
