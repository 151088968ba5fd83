#!/usr/bin/env python3
"""RabbitMQ and Warren under the same load on the same machine, and the ratios between them.

Each scenario starts a fresh broker (or three), loads it through warren-perf, and measures throughput, the
CPU time of the broker's processes per million messages, memory and latency. The brokers never run at the
same time. With --runs N each measurement is made N times, in turn for the two brokers, and the median
counts. What features and large topologies cost (f to i) is in features.py. Results: a table,
.dev/bench/result.json and .dev/bench/report.txt. How the measures are meant and what they were:
docs/performance.md.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

import features
from load import (PERF, QUEUE, ROOT, BenchError, Ended, check_rate, clusters, declare, delete, perf,
                  start)

BROKERS = ("rabbitmq", "warren")
GAP_RATE = 500
FAULT_AFTER_S = 4
BUSY_MAX = 10             # per cent of the machine that others may use
GAP_RUN_S = 22
QUORUM = {"x-queue-type": "quorum"}

# name: (what, nodes, durable, quorum, warren-perf options). In b and c the prefetch count is above the
# window of confirms; in j and k far below: the consumer, whose credit comes back with the commit of its
# acks, must not be starved by a publisher that is ahead.
LOADS = {
    "a": ("one node, transient, 16 B, auto-ack", 1, False, False, ["-s", "16", "-a"]),
    "b": ("one node, durable, persistent, confirmed, 1 KiB", 1, True, False,
          ["-s", "1024", "-f", "persistent", "-c", "1000", "-q", "2000"]),
    "c": ("three nodes, quorum queue, confirmed, 1 KiB", 3, True, True,
          ["-s", "1024", "-f", "persistent", "-c", "1000", "-q", "2000"]),
    "j": ("b with a small prefetch", 1, True, False,
          ["-s", "1024", "-f", "persistent", "-c", "1000", "-q", "100"]),
    "k": ("c with a small prefetch", 3, True, True,
          ["-s", "1024", "-f", "persistent", "-c", "1000", "-q", "100"]),
}
SLOW = ["-r", "200"]
SCENARIOS = ("a", "b", "c", "d", "e") + tuple(features.SCENARIOS) + ("j", "k")

# What Warren is meant to reach, as a ratio to RabbitMQ (">=": Warren / RabbitMQ at least) or absolute.
AIMS = {
    "a.throughput": (">=", 6.0), "b.throughput": (">=", 5.0), "c.throughput": (">=", 4.0),
    "a.cpu": ("<=", 1 / 8), "b.cpu": ("<=", 1 / 8), "c.cpu": ("<=", 1 / 8),
    "d.b.median": ("<=", 0.5), "d.c.median": ("<=", 0.5),
    "e.killed": ("abs", 300.0), "e.silent": ("abs", 2000.0),
    "e.near.killed": ("abs", 300.0), "e.near.silent": ("abs", 2000.0),
    **features.AIMS,
}
UNITS = {"throughput": "msg/s", "sent": "msg/s", "cpu": "CPU s / million", "rss": "MiB",
         "peak": "MiB", "median": "µs", "p99": "µs", "killed": "ms", "silent": "ms",
         **features.UNITS}


def busy_percent(seconds=1.0):
    """How busy the machine is while we do nothing: what else runs on it."""
    def sample():
        with open("/proc/stat", encoding="utf-8") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]
    total, idle = sample()
    time.sleep(seconds)
    total_after, idle_after = sample()
    return 100 * (1 - (idle_after - idle) / max(total_after - total, 1))


def peak_mib(cluster):
    """The most memory that each process had at any time, added up."""
    total = 0
    for pid in (pid for node in cluster.nodes for pid in node.pids()):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
        except OSError:
            continue
    return total / 1024


def target(cluster, order=None):
    uris = order or cluster.uris
    return ["-H", ",".join(uris), "-p", "-u", QUEUE, "-x", "1", "-y", "1"]


def load(broker, name, options):
    """Throughput, CPU and memory at full speed; latency at a low rate ("d.")."""
    _what, nodes, durable, quorum, arguments = LOADS[name]
    numbers = {}
    with start(broker, nodes, options) as cluster:
        cluster.form()
        declare(cluster, durable, QUORUM if quorum else None)
        if name in options.scenario:
            perf(options, target(cluster) + arguments, options.warm)
            cpu = cluster.cpu_seconds()
            summary = perf(options, target(cluster) + arguments, options.seconds)
            cpu = cluster.cpu_seconds() - cpu
            numbers[f"{name}.throughput"] = summary["receiving_rate"]
            numbers[f"{name}.sent"] = summary["sending_rate"]
            numbers[f"{name}.cpu"] = cpu / max(summary["received"], 1) * 1e6
            numbers[f"{name}.rss"] = cluster.rss_bytes() / (1 << 20)
            numbers[f"{name}.peak"] = peak_mib(cluster)
        if "d" in options.scenario and name in "bc":
            empty(cluster, durable, quorum)
            summary = perf(options, target(cluster) + arguments + SLOW, options.seconds)
            check_rate(summary, int(SLOW[1]), options.seconds)
            latency = summary["confirm_latency_us"]
            numbers[f"d.{name}.median"] = latency["median"]
            numbers[f"d.{name}.p99"] = latency["p99"]
    return numbers


def empty(cluster, durable, quorum):
    """What the run before has left in the queue must not count."""
    delete(cluster)
    declare(cluster, durable, QUORUM if quorum else None)


def failover(broker, kind, options):
    """The longest time without a confirm when the queue's leader is killed or falls silent."""
    with start(broker, 3, options) as cluster:
        cluster.form()
        declare(cluster, True, QUORUM)
        leader = clusters.wait_until(lambda: cluster.queue_leader(QUEUE), 30, "a queue leader", 0.2)
        if kind.startswith("near."):       # the clients lose their connections, too
            order = [leader.uri] + [n.uri for n in cluster.nodes if n is not leader]
            patience = ["--silence", "500", "--connect-timeout", "500"]
        else:                              # what is measured is the queue, not their reconnecting
            order = [n.uri for n in cluster.nodes if n is not leader] + [leader.uri]
            patience = ["--silence", "60000"]
        command = [options.perf] + target(cluster, order) + [
            "-s", "1024", "-f", "persistent", "-c", "1000", "-q", "100", "-r", str(GAP_RATE),
            "-z", str(GAP_RUN_S), "--gap-report", "--json-summary", "--quiet"] + patience
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True) as process:
            time.sleep(FAULT_AFTER_S)
            if kind.endswith("killed"):
                cluster.kill(leader)
            else:
                cluster.pause(leader)
            out, _ = process.communicate(timeout=GAP_RUN_S + 90)
        if process.returncode != 0:
            raise BenchError(out[-500:])
        summary = json.loads(out.strip().splitlines()[-1])
        gap = summary["gaps"]["confirm_all"]["ms"]
        # nothing can be sent while the window of confirms is full
        check_rate(summary, GAP_RATE, GAP_RUN_S - gap / 1000)
        return {f"e.{kind}": gap}


def steps(options):
    """(name, function of the broker) for what has to be run."""
    for name in LOADS:
        if name in options.scenario or ("d" in options.scenario and name in "bc"):
            yield name, lambda broker, name=name: load(broker, name, options)
    if "e" in options.scenario:
        for kind in ("killed", "silent", "near.killed", "near.silent"):
            yield f"e.{kind}", lambda broker, kind=kind: failover(broker, kind, options)
    for name, run in features.steps(options):
        yield name, run


def measure(options):
    """{broker: {measure: [value of each run]}}, what went wrong, how busy the machine was"""
    found = {broker: {} for broker in options.only}
    problems, busy = [], []
    for name, run in steps(options):
        for number in range(1, options.runs + 1):
            for broker in options.only:
                if broker != "warren" and name in features.ALONE:
                    continue
                busy.append(busy_percent())
                print(f"{name}: {broker}, run {number} of {options.runs} (others use "
                      f"{busy[-1]:.0f} % of the machine)", flush=True)
                try:
                    for key, value in run(broker).items():
                        found[broker].setdefault(key, []).append(value)
                except (BenchError, clusters.ClusterError, subprocess.TimeoutExpired, OSError,
                        ValueError, KeyError, Ended) as error:
                    problems.append(f"{name} {broker}: {type(error).__name__} {error}")
                    print(f"  {problems[-1]}", flush=True)
    return found, problems, busy


def unit(key):
    return UNITS[key.rsplit(".", 1)[1]]


def verdict(key, warren, rabbit):
    """(ratio, aim, reached) as text"""
    ratio = warren / rabbit if (warren or 0) > 0 and (rabbit or 0) > 0 else None
    shown = "" if ratio is None else f"{ratio:.2f}" if ratio >= 0.1 else f"1/{1 / ratio:.1f}"
    if key not in AIMS or warren is None:
        return shown, "", ""
    sign, aim = AIMS[key]
    if sign == "abs":
        return shown, f"<= {aim:g} {unit(key).split()[0]}", "yes" if warren <= aim else "NO"
    if sign == "least":
        return shown, f">= {aim:g}", "yes" if warren >= aim else "NO"
    text = f"{sign} {aim:g}" if aim >= 0.5 else f"{sign} 1/{1 / aim:g}"
    if ratio is None:
        return shown, text, ""
    return shown, text, "yes" if (ratio >= aim if sign == ">=" else ratio <= aim) else "NO"


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return next(iter(done.stdout.strip().splitlines()), "unknown")


def facts(options):
    """What the numbers depend on."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")),
                   platform.machine())
    return {
        "machine": f"{os.cpu_count()} x {cpu}, {memory:.0f} GiB, Linux {platform.release()}, "
                   + first_line(["stat", "-f", "-c", "%T", options.out]),
        "warren": first_line([options.warren, "--version"]) + " "
                  + first_line(["git", "-C", ROOT, "describe", "--always", "--dirty"]),
        "rabbitmq": first_line(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]),
        "erlang": first_line(["dpkg-query", "-W", "-f", "${Version}", "erlang-base"]),
    }


def report(options, about, found, problems, busy):
    lines = [f"{about['machine']}; Warren {about['warren']}; RabbitMQ {about['rabbitmq']} on Erlang "
             f"{about['erlang']}",
             f"{options.seconds} s per run after {options.warm} s of the same load, "
             f"{options.runs} run(s), median; load by warren-perf on the same machine", ""]
    lines += [f"{name}: {what}; {' '.join(arguments)}"
              for name, (what, _n, _d, _q, arguments) in LOADS.items()]
    lines += ["d: confirm latency of b and c at 200 msg/s",
              f"e: longest time without a confirm at {GAP_RATE} msg/s, three nodes, quorum queue, "
              "when its leader is killed (kill -9) or silent (SIGSTOP)",
              "   clients on the other nodes; e.near: on the leader's node, they must reconnect"]
    lines += [f"{name}: {what}" for name, what in features.SCENARIOS.items()] + [""]
    lines.append(f"{'':<33}{'unit':<18}{'RabbitMQ':>12}{'Warren':>12}{'ratio':>9}  "
                 f"{'aim':<11}{'reached'}")
    keys = sorted({key for values in found.values() for key in values})
    for key in keys:
        value = {b: statistics.median(found[b][key]) if b in found and key in found[b] else None
                 for b in BROKERS}
        shown = {b: "" if v is None else f"{v:,.0f}" if v >= 100 else f"{v:.2f}"
                 for b, v in value.items()}
        ratio, aim, reached = verdict(key, value["warren"], value["rabbitmq"])
        lines.append(f"{key:<33}{unit(key):<18}{shown['rabbitmq']:>12}"
                     f"{shown['warren']:>12}{ratio:>9}  {aim:<11}{reached}")
    for broker in options.only:
        for key, values in sorted(found[broker].items()):
            if unit(key)[0] != "%" and max(values) > 1.3 * min(values):
                lines.append(f"NOISY {key} {broker}: {min(values):,.2f} .. {max(values):,.2f}")
    if busy and max(busy) > BUSY_MAX:
        lines += ["", f"NOT A QUIET MACHINE: others used up to {max(busy):.0f} % of it between the "
                  "runs. The two brokers did not have the same conditions: quote none of this."]
    if options.runs < 3 or options.seconds < 20:
        lines += ["", "TOO SHORT TO QUOTE: at least 3 runs of 20 s."]
    if problems:
        lines += [""] + [f"PROBLEM {problem}" for problem in problems]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def interrupted(_number, _frame):
    sys.exit(130)       # through the clusters' ends: no broker stays behind


def main():
    signal.signal(signal.SIGTERM, interrupted)
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default=",".join(BROKERS), help="rabbitmq, warren")
    parser.add_argument("--scenario", default=",".join(SCENARIOS), help=f"default: {','.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=int, default=10, help="of each run (to quote: 20)")
    parser.add_argument("--runs", type=int, default=1, help="of each measurement (to quote: 3)")
    parser.add_argument("--warm", type=int, default=5, help="seconds of the load before it counts")
    parser.add_argument("--shards", type=int, help="of each Warren node (default: cores / nodes)")
    parser.add_argument("--json", metavar="FILE", help="write the results to this file, too")
    parser.add_argument("--perf", default=PERF)
    parser.add_argument("--warren", default=clusters.WARREN)
    parser.add_argument("--warrenctl", default=clusters.WARRENCTL)
    parser.add_argument("--ports", type=clusters.port_range,
                        help="FIRST-END of the ports to choose from (default: 20000-32000)")
    parser.add_argument("--out", default=os.path.join(ROOT, ".dev", "bench"))
    options = parser.parse_args()
    options.only, options.scenario = options.only.split(","), options.scenario.split(",")
    unknown = set(options.only) - set(BROKERS) | set(options.scenario) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.makedirs(options.out, exist_ok=True)
    about = facts(options)
    found, problems, busy = measure(options)
    text = report(options, about, found, problems, busy)
    for path in filter(None, (os.path.join(options.out, "result.json"), options.json)):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"about": about, "runs": found, "problems": problems, "busy_percent": busy,
                       "seconds": options.seconds}, file, indent=1)
    with open(os.path.join(options.out, "report.txt"), "w", encoding="utf-8") as file:
        file.write(text)
    print("\n" + text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
