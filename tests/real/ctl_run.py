"""What the tests of warrenctl have in common: running it, and saying what it should have said."""

import os
import subprocess

WAIT_S = 60


class Failed(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {got!r}, not {wanted!r}")


def run_ctl(cluster, node, *words, tool=None, seconds=WAIT_S):
    """Exit code, standard output, standard error of the control program of that cluster's kind against a node; of
    RabbitMQ's the tool with that name."""
    command, environment = cluster.driver.ctl(node, *words)
    if tool is not None and cluster.driver.name != "warren":
        command[0] = os.path.join(os.path.dirname(command[0]), tool)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=environment,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr
