#!/usr/bin/env python3
"""Runs the client suites against running brokers and prints one table."""

import argparse
import concurrent.futures
import fnmatch
import os
import re
import subprocess
import sys
import time

import later
from clients import HERE, NAMES, prepare

TIMEOUT_S = 300


def checks_of_readme():
    """{name: set of clients that cannot express it}, in order"""
    checks = {}
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
        for line in file:
            match = re.fullmatch(r"\| ([a-z]+\.[a-z0-9-]+) \|.*\| ?([a-z ]*)\|\n", line)
            if match:
                checks[match.group(1)] = set(match.group(2).split())
    return checks


class Result:
    def __init__(self, client, queue_type):
        self.client, self.queue_type = client, queue_type
        self.passed, self.failed, self.error, self.seconds = [], {}, None, 0.0
        self.later, self.arrived = {}, []       # listed as later: failed, and passed all the same

    def sort_out(self, listed):
        """Moves the failures that are listed as later."""
        self.later = {n: why for n, why in self.failed.items() if n in listed}
        self.failed = {n: why for n, why in self.failed.items() if n not in listed}
        self.arrived = [n for n in self.passed if n in listed]

    def take(self, line):
        match = re.match(r"(not )?ok (\S+?)(?:: (.*))?$", line)
        if match and match.group(1):
            self.failed[match.group(2)] = match.group(3) or ""
        elif match:
            self.passed.append(match.group(2))


def run_suite(client, queue_type, uris, pattern, log_folder, left_out=()):
    result = Result(client.name, queue_type)
    command = client.program("suite") + ["--uris", uris, "--queue-type", queue_type,
                                         "--check", pattern]
    begun = time.monotonic()
    log = os.path.join(log_folder, f"{client.name}-{queue_type}.log")
    with open(log, "w", encoding="utf-8") as out:
        try:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT,
                                  timeout=TIMEOUT_S, check=False,
                                  env=dict(os.environ, COMPAT_EXCEPT=" ".join(left_out)))
            if done.returncode not in (0, 1):
                result.error = f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            result.error = f"did not end within {TIMEOUT_S} s"
    result.seconds = time.monotonic() - begun
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            result.take(line.rstrip("\n"))
    return result


def complete(result, wanted, pattern, left_out=()):
    """Adds as failures the checks that the suite did not report, or does not have to know."""
    reported = set(result.passed) | set(result.failed) | set(left_out)
    for name, cannot in wanted.items():
        if fnmatch.fnmatchcase(name, pattern) and name not in reported and \
                result.client not in cannot:
            result.failed[name] = result.error or "not reported"
    for name in sorted(reported - set(wanted) - set(left_out)):
        result.failed[name] = "not in README.md"


def show(results):
    print(f"\n{'client':<10}{'queues':<10}{'passed':>8}{'failed':>8}{'later':>8}{'seconds':>9}")
    for result in results:
        print(f"{result.client:<10}{result.queue_type:<10}{len(result.passed):>8}"
              f"{len(result.failed):>8}{len(result.later):>8}{result.seconds:>9.1f}"
              + (f"  {result.error}" if result.error else ""))
    passed = sum(len(r.passed) for r in results)
    failed = sum(len(r.failed) for r in results)
    print(f"{'total':<20}{passed:>8}{failed:>8}{sum(len(r.later) for r in results):>8}")
    return failed


def run_all(uris, only=NAMES, queue_types=("classic", "quorum"), pattern="*", jobs=2, listed=None,
            leave_out=False):
    """Runs everything, prints the table; the number of failures. A check in `listed` (see
    later.txt) that fails is none; with `leave_out` it is not even run."""
    wanted = checks_of_readme()
    clients, missing = prepare(only)
    listed = listed or {}
    left_out = sorted(listed) if leave_out else ()
    log_folder = os.path.join(os.path.dirname(os.path.dirname(HERE)), ".dev", "compat", "logs",
                              f"{int(time.time())}-{os.getpid()}")    # others may run at the same time
    os.makedirs(log_folder, exist_ok=True)
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run_suite, client, queue_type, uris, pattern, log_folder, left_out)
                   for client in clients for queue_type in queue_types]
        for future in futures:
            result = future.result()
            complete(result, wanted, pattern, left_out)
            result.sort_out(listed)
            for name, why in sorted(result.failed.items()):
                print(f"not ok {result.client} {result.queue_type} {name}: {why}", flush=True)
            for name in sorted(result.later):
                print(f"later  {result.client} {result.queue_type} {name}: {listed[name]}",
                      flush=True)
            for name in sorted(result.arrived):
                print(f"passes {result.client} {result.queue_type} {name}: is still in the list "
                      "of what comes later", flush=True)
            results.append(result)
    failed = show(results)
    for name in missing:
        print(f"{name}: could not be built")
    return failed + len(missing) + sum(1 for r in results if r.error and not r.failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uris", required=True, help="separated by commas")
    parser.add_argument("--queue-type", default="classic,quorum")
    parser.add_argument("--only", default=",".join(NAMES), help="clients, separated by commas")
    parser.add_argument("--check", default="*", help="only checks that match, such as 'consume.*'")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--later", help="file of checks that may fail: tests/compat/later.txt")
    parser.add_argument("--leave-out", action="store_true", help="do not run those of --later")
    options = parser.parse_args()
    failed = run_all(options.uris, options.only.split(","), options.queue_type.split(","),
                     options.check, options.jobs, later.read(options.later), options.leave_out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
