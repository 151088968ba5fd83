"""What the scenarios of bench.py and features.py share: brokers, warren-perf, queues and bindings."""

import json
import os
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "real"))
import cluster as clusters  # noqa: E402  pylint: disable=wrong-import-position
from amqp_raw import Ended, Raw, longstr, method, queue_declare, short  # noqa: E402  pylint: disable=wrong-import-position

PERF = os.path.join(ROOT, "build", "release", "src", "perf", "warren-perf")
QUEUE = "bench"


class BenchError(Exception):
    pass


def perf_command(options, arguments, seconds):
    return [options.perf] + arguments + ["-z", str(seconds), "--json-summary", "--quiet"]


def perf(options, arguments, seconds):
    """Runs warren-perf to its end; its summary."""
    command = perf_command(options, arguments, seconds)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60,
                          check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_rate(summary, rate, seconds):
    """A rate that the load generator did not keep makes the latencies of the run worthless."""
    if summary["sent"] < 0.9 * rate * seconds:
        raise BenchError(f"sent {summary['sent']} messages instead of {rate * seconds:.0f}")


def start(broker, nodes, options, extra=()):
    """extra: lines for warren.conf."""
    if broker == "rabbitmq":
        driver = clusters.RabbitDriver()
    else:
        shards = options.shards or max(1, (os.cpu_count() or 1) // nodes)
        driver = clusters.WarrenDriver(options.warren, options.warrenctl, shards, extra)
    folder = os.path.join(ROOT, ".dev", "bench", f"{broker}-{os.getpid()}")
    ports = {} if options.ports is None else {"ports": options.ports}
    return clusters.Cluster(driver, nodes, folder, **ports)


def table(arguments):
    """An AMQP table of texts and integers."""
    data = b""
    for key, value in arguments.items():
        data += short(key)
        data += (b"S" + longstr(value)) if isinstance(value, str) else \
            (b"l" + struct.pack(">q", value))
    return data


def declare(cluster, durable, arguments=None, name=QUEUE):
    """Declares the queue on the first node, as soon as the cluster does that."""
    def declared():
        try:
            with Raw(cluster.nodes[0].amqp_port, timeout=10).open() as raw:
                raw.send(queue_declare(1, name, 2 if durable else 0, table(arguments or {})))
                raw.expect(50, 11, 10)
                return True
        except (OSError, ValueError, Ended):
            return False
    clusters.wait_until(declared, 60, "the queue to be declared", 0.2)


def queue_delete(channel, name, nowait=False):
    return method(channel, 50, 40, b"\0\0" + short(name) + (b"\4" if nowait else b"\0"))


def delete(cluster, name=QUEUE):
    with Raw(cluster.nodes[0].amqp_port, timeout=30).open() as raw:
        raw.send(queue_delete(1, name))
        raw.expect(50, 41, 30)


def exchange_declare(channel, name, kind):
    return method(channel, 40, 10, b"\0\0" + short(name) + short(kind) + b"\2" + longstr(b""))


def queue_bind(channel, queue, exchange, key, nowait=False):
    return method(channel, 50, 20, b"\0\0" + short(queue) + short(exchange) + short(key)
                  + (b"\1" if nowait else b"\0") + longstr(b""))
