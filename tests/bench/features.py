"""Scenarios f to i of bench.py: what features and large topologies cost.

f: the same load on a queue with a feature and, before and after it, on one without, on the same broker, so
that what the machine does meanwhile is in both. g: 10,000 queues and bindings are declared, on a broker that has just
started. h: queues among 10,000 bound ones are deleted while publishers run at full speed. i: 100 and 100,000
bindings on two topic exchanges of one node. What the measures mean and what they were: docs/performance.md.
"""

import json
import subprocess
import threading
import time

from load import (QUEUE, BenchError, Ended, Raw, clusters, declare, delete, exchange_declare, perf,
                  perf_command, queue_bind, queue_declare, queue_delete, start)

SCENARIOS = {
    "f": "cost of message TTL, priorities, length limits against the same load without; rate of "
         "expired messages that are dead-lettered",
    "g": "declaring 10,000 durable queues, each bound to a topic exchange",
    "h": "longest time without a confirm of any publisher while bound queues of 10,000 are deleted",
    "i": "received with 100 and with 100,000 bindings on a topic exchange, Warren alone",
}

ALONE = ("i",)      # steps that have an aim of their own, and that RabbitMQ needs minutes for

KINDS = {       # durable, options of warren-perf, messages to a queue that nobody reads
    "transient": (False, ["-s", "100", "-c", "1000", "-a"], 1000000),
    "durable": (True, ["-s", "1024", "-f", "persistent", "-c", "1000", "-q", "2000"], 300000),
}
FEATURES = {    # the queue's arguments, options of warren-perf
    "ttl": ({"x-message-ttl": 60000}, []),
    "expiration": ({}, ["-mp", "expiration=60000"]),
    "priority": ({"x-max-priority": 10}, ["--mixed-priorities", "11"]),
    "far": ({"x-max-length": 10000000}, []),
}
FULL = {"x-max-length": 1000, "x-overflow": "drop-head"}
LETTERS = "letters"

EXCHANGE = "bench.topic"
QUEUES = 10000
DELETED = 1000
GAP_RUN_S = 6
DECLARE_S = 180
SETUP_CLIENTS = 50        # where how long the declaring takes is not what is measured
THREE_S = 60
FEW, MANY = 100, 100000

AIMS = {f"f.{kind}.{feature}.cost": ("abs", 20.0)
        for kind in KINDS for feature in [*FEATURES, "full"]}
AIMS |= {f"g.{clients}.{way}.seconds": ("<=", 1 / 10)
         for clients in ("one", "ten") for way in ("nowait", "sync")}
AIMS |= {"g.three.seconds": ("<=", 1 / 10), "i.kept": ("least", 0.5)}
UNITS = {"cost": "% of throughput", "more_cpu": "% more CPU/msg", "rate": "msg/s", "seconds": "s", "same_promise": "s",
         "gap": "ms", "per_second": "queues/s", "kept": "of the rate"}


# --- f: features ------------------------------------------------------------------------------------

def once(cluster, options, durable, arguments, load, rate="receiving_rate", queue=QUEUE):
    """Declares the queue anew, runs the load: (messages per second, CPU seconds of a message)"""
    delete(cluster, queue)
    declare(cluster, durable, arguments, queue)
    cpu = cluster.cpu_seconds()
    summary = perf(options, ["-H", cluster.uris[0], "-p"] + load, slice_s(options))
    cpu = cluster.cpu_seconds() - cpu
    if not summary[rate]:
        raise BenchError(f"nothing went through: {' '.join(load)}")
    return summary[rate], cpu / (summary[rate] * summary["duration_s"])


def slice_s(options):
    return max(2, options.seconds // 5)


def costs(name, plain, other):
    return {f"{name}.cost": 100 * (1 - other[0] / plain[0]), f"{name}.rate": other[0],
            f"{name}.more_cpu": 100 * (other[1] / max(plain[1], 1e-9) - 1)}


def features_of(cluster, kind, options):
    durable, load, unread_max = KINDS[kind]
    numbers, plain_rates = {}, []
    plain = None
    both = ["-u", QUEUE] + load
    declare(cluster, durable)
    perf(options, ["-H", cluster.uris[0], "-p"] + both, options.warm)
    for feature, (arguments, extra) in FEATURES.items():
        before = plain or once(cluster, options, durable, {}, both)
        other = once(cluster, options, durable, arguments, both + extra)
        plain = once(cluster, options, durable, {}, both)
        plain_rates.append(plain[0])
        between = [(a + b) / 2 for a, b in zip(before, plain)]
        numbers.update(costs(f"f.{kind}.{feature}", between, other))
    numbers[f"f.{kind}.plain.rate"] = sum(plain_rates) / len(plain_rates)
    # A queue that is always full has no reader; so it is compared with one without limit and reader.
    alone = both + ["-y", "0", "-C", str(unread_max)]
    unread = once(cluster, options, durable, {}, alone, "confirm_rate")
    full = once(cluster, options, durable, FULL, alone, "confirm_rate")
    numbers.update(costs(f"f.{kind}.full", unread, full))
    # Everything expires after a millisecond; the consumer reads the dead letters.
    delete(cluster, LETTERS)
    declare(cluster, durable, {}, LETTERS)
    expiring = {"x-message-ttl": 1, "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": LETTERS}
    letters = once(cluster, options, durable, expiring,
                   ["-u", LETTERS, "-e", "", "-k", QUEUE] + load)
    numbers[f"f.{kind}.letters.rate"] = letters[0]
    delete(cluster)
    return numbers


def features(broker, options):
    numbers = {}
    with start(broker, 1, options) as cluster:
        cluster.form()
        for kind in KINDS:
            numbers.update(features_of(cluster, kind, options))
    return numbers


# --- g: many queues ---------------------------------------------------------------------------------

def bound(number):
    return f"bench.q{number}", f"q.{number}.*"


def declare_exchange(cluster):
    with Raw(cluster.nodes[0].amqp_port, timeout=30).open() as raw:
        raw.send(exchange_declare(1, EXCHANGE, "topic"))
        raw.expect(40, 11, 30)


def topology(numbers, nowait):
    """The frames that declare and bind these queues: pairs of one of each"""
    for number in numbers:
        queue, key = bound(number)
        yield (queue_declare(1, queue, 0x12 if nowait else 2),
               queue_bind(1, queue, EXCHANGE, key, nowait))


def declare_share(raw, frames, nowait, last, end):
    def left():
        return max(0.01, end - time.monotonic())
    if nowait:
        raw.socket.settimeout(left())
        raw.socket.sendall(b"".join(one for pair in frames for one in pair))
    else:
        for queue, binding in frames:
            raw.send(queue)
            raw.expect(50, 11, left())
            raw.send(binding)
            raw.expect(50, 21, left())
    raw.send(queue_declare(1, bound(last)[0], 1))       # passive: answered when all before is done
    raw.expect(50, 11, left())


def at_once(port, clients, work):
    """work(connection, index) on so many connections at the same time; seconds until all are done."""
    raws = [Raw(port, timeout=30).open() for _ in range(clients)]
    errors = []

    def guarded(raw, index):
        try:
            work(raw, index)
        except (OSError, ValueError, Ended) as error:
            errors.append(f"{type(error).__name__} {error}")

    begin = time.monotonic()
    threads = [threading.Thread(target=guarded, args=pair) for pair in zip(raws, range(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    for raw in raws:
        raw.close()
    if errors:
        raise BenchError(f"{clients} client(s), after {took:.1f} s: {errors[0]}")
    return took


def declare_queues(port, clients, nowait, seconds=DECLARE_S):
    """Seconds that it took until all queues of all clients were declared and bound."""
    shares = [range(i, QUEUES, clients) for i in range(clients)]
    frames = [list(topology(share, nowait)) for share in shares]
    end = time.monotonic() + seconds
    return at_once(port, clients, lambda raw, i: declare_share(raw, frames[i], nowait,
                                                               shares[i][-1], end))


def check_declared(cluster):
    """What was measured must have happened."""
    with Raw(cluster.nodes[-1].amqp_port, timeout=30).open() as raw:
        for number in range(0, QUEUES, QUEUES // 20):
            raw.send(queue_declare(1, bound(number)[0], 1))
            raw.expect(50, 11, 30)


def declaring(broker, nodes, clients, nowait, options, extra=()):
    with start(broker, nodes, options, extra) as cluster:
        cluster.form()
        clusters.wait_until(lambda: not declare_exchange(cluster), 30, "the exchange")
        seconds = declare_queues(cluster.nodes[0].amqp_port, clients, nowait,
                                 DECLARE_S if nodes == 1 else THREE_S)
        check_declared(cluster)
        return seconds


def many_queues(broker, nodes, clients, nowait, options):
    seconds = declaring(broker, nodes, clients, nowait, options)
    if nodes > 1:
        return {"g.three.seconds": seconds}
    name = f"g.{'one' if clients == 1 else 'ten'}.{'nowait' if nowait else 'sync'}"
    numbers = {f"{name}.seconds": seconds}
    if not nowait:
        # RabbitMQ answers before what is declared is on the disk: the same promise, too.
        numbers[f"{name}.same_promise"] = seconds if broker == "rabbitmq" else \
            declaring(broker, nodes, clients, nowait, options, ("log.sync = false",))
    return numbers


# --- h: deleting ------------------------------------------------------------------------------------

def delete_queues(port, numbers, process):
    """One after the other, while the publishers run: how many, and the seconds they took."""
    done, begin = 0, time.monotonic()
    with Raw(port, timeout=30).open() as raw:
        for number in numbers:
            if process.poll() is not None:
                break
            raw.send(queue_delete(1, bound(number)[0]))
            raw.expect(50, 41, 30)
            done += 1
    return done, time.monotonic() - begin


def await_publishers(cluster, process):
    """Until the publishers are at work: their queue fills."""
    def working():
        rows = cluster.ctl_json("list_queues", "name", "messages") or []
        return process.poll() is not None or \
            any(row["name"] == QUEUE and row["messages"] > 1000 for row in rows)
    clusters.wait_until(working, 30, "the publishers to be at work", 0.2)


def gap_while(cluster, options, numbers):
    """The longest time without a confirm of a publisher while these queues are deleted."""
    load = ["-H", cluster.uris[0], "-p", "-u", QUEUE, "-x", "2", "-s", "100", "-f", "persistent",
            "-c", "500", "-q", "2000", "-e", EXCHANGE, "-k", "hot.%d", "--routing-keys", "100",
            "--gap-report"]
    with subprocess.Popen(perf_command(options, load, GAP_RUN_S), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        try:
            await_publishers(cluster, process)
            deleted = delete_queues(cluster.nodes[0].amqp_port, numbers, process)
            out, _ = process.communicate(timeout=GAP_RUN_S + 60)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise BenchError(out[-500:])
    summary = json.loads(out.strip().splitlines()[-1])
    return summary["gaps"]["confirm_worst_producer"]["ms"], summary["confirm_rate"], deleted


def deleting(broker, options):
    with start(broker, 1, options) as cluster:
        cluster.form()
        declare_exchange(cluster)
        port = cluster.nodes[0].amqp_port
        declare_queues(port, SETUP_CLIENTS, True)
        declare(cluster, True)
        with Raw(port, timeout=30).open() as raw:
            raw.send(queue_bind(1, QUEUE, EXCHANGE, "hot.#"))
            raw.expect(50, 21, 30)
        gap_while(cluster, options, [])
        numbers = {}
        for name, some in (("none", []), ("one", [QUEUES // 2]), ("thousand", range(DELETED))):
            gap, rate, (count, seconds) = gap_while(cluster, options, some)
            numbers[f"h.{name}.gap"], numbers[f"h.{name}.rate"] = gap, rate
            if name == "thousand":
                numbers["h.thousand.per_second"] = count / seconds
        return numbers


# --- i: many bindings -------------------------------------------------------------------------------

def bind_many(cluster, exchange, count):
    """Binds so many patterns; seconds."""
    with Raw(cluster.nodes[0].amqp_port, timeout=30).open() as raw:
        raw.send(exchange_declare(1, exchange, "topic"))
        raw.expect(40, 11, 30)

    def bind(raw, index):
        raw.socket.settimeout(DECLARE_S)
        raw.socket.sendall(b"".join(queue_bind(1, QUEUE, exchange, f"k.{i}.*", True)
                                    for i in range(index, count, SETUP_CLIENTS)))
        raw.send(queue_declare(1, QUEUE, 1))            # passive: answered when all is bound
        raw.expect(50, 11, DECLARE_S)
    return at_once(cluster.nodes[0].amqp_port, SETUP_CLIENTS, bind)


def bindings(broker, options):
    """Every message matches one binding, to the same queue; keys spread over all of them."""
    with start(broker, 1, options) as cluster:
        cluster.form()
        declare(cluster, False)
        numbers = {}
        for name, count in (("few", FEW), ("many", MANY)):
            numbers[f"i.{name}.seconds"] = bind_many(cluster, f"{EXCHANGE}.{name}", count)
        rates = {"few": [], "many": []}
        for turn in range(3):
            for name, count in (("few", FEW), ("many", MANY)):
                summary = perf(options, [
                    "-H", cluster.uris[0], "-p", "-u", QUEUE, "-s", "16", "-c", "1000", "-a",
                    "-e", f"{EXCHANGE}.{name}", "-k", "k.%d.x", "--routing-keys", str(count)],
                    slice_s(options))
                if turn > 0:            # the first is to warm up
                    rates[name].append(summary["receiving_rate"])
        for name, values in rates.items():
            numbers[f"i.{name}.rate"] = sum(values) / len(values)
        numbers["i.kept"] = numbers["i.many.rate"] / numbers["i.few.rate"]
        return numbers


def steps(options):
    """(name, function of the broker) for what has to be run."""
    if "f" in options.scenario:
        yield "f", lambda broker: features(broker, options)
    if "g" in options.scenario:
        for nodes, clients, nowait in ((1, 1, True), (1, 1, False), (1, 10, True), (1, 10, False),
                                       (3, 1, True)):
            name = f"g {nodes} node(s), {clients} client(s), {'nowait' if nowait else 'sync'}"
            yield name, lambda broker, of=(nodes, clients, nowait): many_queues(broker, *of,
                                                                                options)
    if "h" in options.scenario:
        yield "h", lambda broker: deleting(broker, options)
    if "i" in options.scenario:
        yield "i", lambda broker: bindings(broker, options)
