#!/usr/bin/env python3
"""RabbitMQ and Warren under the same load, one after the other, on this machine.

Each scenario starts a fresh broker (one node or three processes of this machine), runs warren-perf
against it, reads the brokers' CPU time and memory from /proc, and stops it. At the end: a table of
both, the ratio, and the aim. What is measured and how it is to be read: docs/performance.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "real"))
import cluster as clusters  # noqa: E402  pylint: disable=wrong-import-position
from cluster import ClusterError, wait_until  # noqa: E402  pylint: disable=wrong-import-position

PERF = os.path.join(ROOT, "build", "release", "src", "perf", "warren-perf")
BROKERS = ("rabbitmq", "warren")
SMALL = ["-x1", "-y1", "-s16", "-a"]
DURABLE = ["-x1", "-y1", "-s1024", "-f", "persistent", "-q2000"]
QUORUM = ["-x1", "-y1", "-s1024", "--quorum-queue", "-q2000"]
FAST = ["-c1000"]
SLOW = ["-c100", "-r200"]
FAULT = ["-c100", "-r1000", "--gap-report", "--silence", "500", "--connect-timeout", "500"]
FAULT_AT_S, AFTER_KILL_S, AFTER_SILENCE_S = 4, 12, 26

# key: nodes, options of warren-perf, kind, what it is
RUNS = {
    "a": (1, SMALL, "throughput", "one node, transient, 16 B, no acks, no confirms"),
    "b": (1, DURABLE + FAST, "throughput", "one node, durable, confirmed (window 1000), 1 KiB"),
    "c": (3, QUORUM + FAST, "throughput", "three nodes, quorum queue, confirmed (window 1000), 1 KiB"),
    "d1": (1, DURABLE + SLOW, "latency", "as b, at 200 messages/s"),
    "d3": (3, QUORUM + SLOW, "latency", "as c, at 200 messages/s"),
    "e1": (3, QUORUM + FAULT, "kill", "as c, at 1000 messages/s: the leader's process is killed"),
    "e2": (3, QUORUM + FAULT, "silence", "as c, at 1000 messages/s: the leader's host falls silent"),
}
SCENARIOS = {"a": ["a"], "b": ["b"], "c": ["c"], "d": ["d1", "d3"], "e": ["e1", "e2"]}


def queue_of(run):
    return f"bench-{run}"


def say(text):
    print(text, flush=True)


def status_kib(pid, key):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def memory_mib(cluster, key):
    """Of all broker processes together; key is VmHWM (each one's peak) or VmRSS."""
    return sum(status_kib(pid, key) for node in cluster.nodes for pid in node.pids()) / 1024


class Load:
    """One run of warren-perf; every run has a queue of its own."""

    def __init__(self, options, uris, run, seconds, folder):
        self.summary_path = os.path.join(folder, "summary.json")
        self.log_path = os.path.join(folder, "perf.log")
        if os.path.exists(self.summary_path):
            os.remove(self.summary_path)
        command = [os.path.abspath(options.perf), "-H", ",".join(uris), *RUNS[run][1], "-z",
                   str(seconds), "--json", self.summary_path]
        if run != "a":
            command += ["-u", queue_of(run)]
        self.seconds = seconds
        with open(self.log_path, "wb") as out:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def finish(self):
        """The summary."""
        try:
            self.process.wait(self.seconds + 60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ClusterError("warren-perf did not end") from None
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            tail = file.read()[-1500:]
        if not os.path.exists(self.summary_path):
            raise ClusterError(f"warren-perf ended with {self.process.returncode}: {tail}")
        with open(self.summary_path, encoding="utf-8") as file:
            summary = json.load(file)
        if not summary["ok"]:
            raise ClusterError(f"the broker closed a connection or a channel: {tail}")
        return summary


def steady(options, cluster, run):
    """A load without faults: rates, latencies, CPU, memory."""
    cpu = cluster.cpu_seconds()
    load = Load(options, [cluster.nodes[0].uri], run, options.seconds, cluster.folder)
    summary = load.finish()
    cpu = cluster.cpu_seconds() - cpu
    received = summary["received"]
    if received == 0:
        raise ClusterError("nothing was received")
    result = {
        "sending_rate": summary["sending_rate"],
        "confirm_rate": summary["confirm_rate"],
        "receiving_rate": summary["receiving_rate"],
        "cpu_s_per_million": cpu / received * 1e6,
        "rss_peak_mib": memory_mib(cluster, "VmHWM"),
        "rss_end_mib": memory_mib(cluster, "VmRSS"),
        "client_cpu_s": summary["client_cpu_s"],
    }
    for key in ("confirm_latency_us", "consumer_latency_us"):
        if summary.get(key, {}).get("count"):
            result[key] = {part: summary[key][part] for part in ("median", "p99", "p999", "max")}
    return result


def interrupted(options, cluster, run):
    """The queue's leader, which both clients are connected to, is killed or stopped."""
    kind = RUNS[run][2]
    first = cluster.nodes[0]
    seconds = FAULT_AT_S + (AFTER_KILL_S if kind == "kill" else AFTER_SILENCE_S)
    load = Load(options, [node.uri for node in cluster.nodes], run, seconds, cluster.folder)
    begun = time.monotonic()

    def strike():
        if kind == "kill":
            cluster.signal(first, clusters.signal.SIGKILL)
        else:
            cluster.pause(first)

    timer = threading.Timer(max(0.0, begun + FAULT_AT_S - time.monotonic()), strike)
    timer.start()
    leader = wait_until(lambda: cluster.queue_leader(queue_of(run)), FAULT_AT_S, "the queue has a leader") \
        if cluster.driver.name == "warren" else first
    if leader is not first:
        timer.cancel()
        load.process.kill()
        load.process.wait()
        raise ClusterError(f"the queue is led by {leader.name}, not where it was declared")
    timer.join()
    summary = load.finish()
    gap = summary["gaps"]["confirm_all"]
    recovered = gap["at_s"] + gap["ms"] / 1000 < summary["duration_s"] - 0.5
    return {
        "gap_s": gap["ms"] / 1000, "gap_at_s": gap["at_s"], "recovered": recovered,
        "delivery_gap_s": summary["gaps"]["delivery_all"]["ms"] / 1000,
        "reconnects": summary["reconnects"],
    }


def driver_for(options, broker, count):
    if broker == "rabbitmq":
        return clusters.RabbitDriver()
    shards = options.shards or max(1, (os.cpu_count() or 1) // count)
    return clusters.WarrenDriver(os.path.abspath(options.warren),
                                 os.path.abspath(options.warrenctl), shards)


def measure(options, broker, runs):
    """Runs that share one broker; yields (run, result or the error's text)."""
    count = RUNS[runs[0]][0]
    folder = os.path.join(options.folder, f"{broker}-{runs[0]}")
    with clusters.Cluster(driver_for(options, broker, count), count, folder) as cluster:
        cluster.form()
        for run in runs:
            if RUNS[run][2] in ("kill", "silence"):
                yield run, interrupted(options, cluster, run)
            else:
                yield run, steady(options, cluster, run)


def best(run, one, other):
    """Of two results of the same run: the one that counts (docs/performance.md says why)."""
    if one is None or "error" in one:
        return other
    if "error" in other:
        return one
    kind = RUNS[run][2]
    if kind == "throughput":
        return max(one, other, key=lambda r: r["receiving_rate"])
    if kind == "latency":
        return min(one, other, key=lambda r: r["confirm_latency_us"]["median"])
    return max(one, other, key=lambda r: (not r["recovered"], r["gap_s"]))  # the worst one


def brief(run, result):
    if "error" in result:
        return result["error"].splitlines()[0]
    kind = RUNS[run][2]
    if kind == "throughput":
        return (f"received {result['receiving_rate']:,.0f}/s, sent {result['sending_rate']:,.0f}/s, "
                f"CPU {result['cpu_s_per_million']:.2f} s per million, "
                f"memory {result['rss_peak_mib']:.0f} MiB")
    if kind == "latency":
        confirm = result["confirm_latency_us"]
        return f"confirm median {confirm['median']:.0f} µs, 99 % {confirm['p99']:.0f} µs"
    return (f"longest gap without a confirm {result['gap_s']:.3f} s"
            f"{'' if result['recovered'] else ', and still without one at the end'}")


def groups(options):
    """Runs that share a broker: the slow load, then the fast one; a fault has its own."""
    wanted = [run for scenario in options.scenario for run in SCENARIOS[scenario]]
    found = []
    for group in (["a"], ["d1", "b"], ["d3", "c"], ["e1"], ["e2"]):
        group = [run for run in group if run in wanted]
        if group:
            found.append(group)
    return found


# --- aims: (of which run, what, how to get it, better is, what the aim is, whether it is met) -----

def cell(results, broker, run, path):
    value = results.get(broker, {}).get(run)
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


ROWS = [
    ("a", "received, msg/s", ("receiving_rate",), "{:,.0f}", ">=", 6.0),
    ("a", "sent, msg/s", ("sending_rate",), "{:,.0f}", None, None),
    ("a", "broker CPU, s per million", ("cpu_s_per_million",), "{:.2f}", "<=", 1 / 8),
    ("a", "memory, peak, MiB", ("rss_peak_mib",), "{:.0f}", None, None),
    ("a", "memory, end, MiB", ("rss_end_mib",), "{:.0f}", None, None),
    ("b", "received, msg/s", ("receiving_rate",), "{:,.0f}", ">=", 5.0),
    ("b", "confirm median, µs", ("confirm_latency_us", "median"), "{:.0f}", None, None),
    ("b", "broker CPU, s per million", ("cpu_s_per_million",), "{:.2f}", "<=", 1 / 8),
    ("b", "memory, peak, MiB", ("rss_peak_mib",), "{:.0f}", None, None),
    ("b", "memory, end, MiB", ("rss_end_mib",), "{:.0f}", None, None),
    ("c", "received, msg/s", ("receiving_rate",), "{:,.0f}", ">=", 4.0),
    ("c", "confirm median, µs", ("confirm_latency_us", "median"), "{:.0f}", None, None),
    ("c", "broker CPU, s per million", ("cpu_s_per_million",), "{:.2f}", "<=", 1 / 8),
    ("c", "memory, peak, MiB", ("rss_peak_mib",), "{:.0f}", None, None),
    ("c", "memory, end, MiB", ("rss_end_mib",), "{:.0f}", None, None),
    ("d1", "confirm median, µs", ("confirm_latency_us", "median"), "{:.0f}", "<=", 1 / 2),
    ("d1", "confirm 99 %, µs", ("confirm_latency_us", "p99"), "{:.0f}", None, None),
    ("d1", "end to end median, µs", ("consumer_latency_us", "median"), "{:.0f}", None, None),
    ("d3", "confirm median, µs", ("confirm_latency_us", "median"), "{:.0f}", "<=", 1 / 2),
    ("d3", "confirm 99 %, µs", ("confirm_latency_us", "p99"), "{:.0f}", None, None),
    ("d3", "end to end median, µs", ("consumer_latency_us", "median"), "{:.0f}", None, None),
    ("e1", "longest gap, s", ("gap_s",), "{:.3f}", "s", 0.3),
    ("e2", "longest gap, s", ("gap_s",), "{:.3f}", "s", 2.0),
]


def judge(results, row):
    """(ratio text, aim text, met: True, False or None for no aim or no figure)"""
    run, _what, path, _form, kind, aim = row
    ours, theirs = cell(results, "warren", run, path), cell(results, "rabbitmq", run, path)
    ratio = ours / theirs if ours is not None and theirs else None
    ratio_text = "" if ratio is None else f"{ratio:.2f} x" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"
    if kind == ">=":
        return ratio_text, f">= {aim:g} x", None if ratio is None else ratio >= aim
    if kind == "<=":
        return ratio_text, f"<= 1/{1 / aim:.0f}", None if ratio is None else ratio <= aim
    if kind == "s":
        ended = cell(results, "warren", run, ("recovered",))
        return ratio_text, f"<= {aim:g} s", None if ours is None else ours <= aim and bool(ended)
    return ratio_text, "", None


def shown(results, broker, run, path, form):
    value = cell(results, broker, run, path)
    if value is None:
        return "failed" if cell(results, broker, run, ("error",)) else "-"
    text = form.format(value)
    return "> " + text if cell(results, broker, run, ("recovered",)) is False else text


def table(results):
    lines, last, missed = [], None, 0
    lines.append(f"{'':30}{'RabbitMQ':>14}{'Warren':>14}{'ratio':>10}  aim")
    for row in ROWS:
        run, what, path, form = row[:4]
        if all(run not in results[broker] for broker in results):
            continue
        if run != last:
            lines.append(f"({run}) {RUNS[run][3]}")
            last = run
        ratio, aim, met = judge(results, row)
        missed += met is False
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        lines.append(f"    {what:26}{shown(results, 'rabbitmq', run, path, form):>14}"
                     f"{shown(results, 'warren', run, path, form):>14}{ratio:>10}  "
                     f"{aim:9} {verdict}".rstrip())
    lines.append(f"aims missed: {missed}")
    return "\n".join(lines)


# --- the machine and the versions ---------------------------------------------------------------

def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def facts(options):
    model, memory = "unknown", "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = f"{int(file.readline().split()[1]) / 1048576:.1f} GiB"
    return {
        "cores": os.cpu_count(), "cpu": model, "memory": memory,
        "kernel": platform.release(),
        "filesystem": first_line(["stat", "-f", "-c", "%T", options.folder]),
        "load_average": os.getloadavg()[0],
        "warren": first_line([options.warren, "--version"]),
        "warren_commit": first_line(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]),
        "rabbitmq": first_line(["dpkg-query", "-W", "-f", "${Version}\n", "rabbitmq-server"]),
        "erlang": first_line(["dpkg-query", "-W", "-f", "${Version}\n", "erlang-base"]),
    }


def scenario_list(text):
    chosen = [part for part in text.replace(",", "")]
    if not chosen or any(part not in SCENARIOS for part in chosen):
        raise argparse.ArgumentTypeError("expected letters of a,b,c,d,e")
    return sorted(set(chosen))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", type=scenario_list, default=sorted(SCENARIOS),
                        help="which of a,b,c,d,e (default: all)")
    parser.add_argument("--only", choices=BROKERS, help="only this broker: no ratios")
    parser.add_argument("--seconds", type=int, default=12, help="of each load without a fault")
    parser.add_argument("--repeat", type=int, default=1,
                        help="so many times; the best one counts, of (e) the worst")
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    parser.add_argument("--shards", type=int, help="of each Warren node (default: cores / nodes)")
    parser.add_argument("--warren", default=clusters.WARREN)
    parser.add_argument("--warrenctl", default=clusters.WARRENCTL)
    parser.add_argument("--perf", default=PERF)
    parser.add_argument("--folder", default=os.path.join(ROOT, ".dev", "bench"),
                        help="where the nodes live (default: .dev/bench)")
    options = parser.parse_args()
    if options.seconds < 2 or options.repeat < 1:
        parser.error("--seconds takes at least 2, --repeat at least 1")
    return options


def run_all(options, results):
    for turn in range(options.repeat):
        for runs in groups(options):
            for broker in results:
                name = f"[{turn + 1}/{options.repeat}] {broker:8} "
                say(f"{name} {'+'.join(runs)}: starting")
                done = set()
                try:
                    for run, result in measure(options, broker, runs):
                        done.add(run)
                        say(f"{name} {run}: {brief(run, result)}")
                        results[broker][run] = best(run, results[broker].get(run), result)
                except ClusterError as error:
                    for run in runs:
                        if run not in done:
                            result = {"error": str(error)}
                            say(f"{name} {run}: failed: {error}")
                            results[broker][run] = best(run, results[broker].get(run), result)


def main():
    options = parse()
    os.makedirs(options.folder, exist_ok=True)
    machine = facts(options)
    for key, value in machine.items():
        say(f"{key:14} {value}")
    results = {broker: {} for broker in BROKERS if options.only in (None, broker)}
    begun = time.monotonic()
    run_all(options, results)
    say("")
    say(table(results))
    say(f"took {time.monotonic() - begun:.0f} s; best of {options.repeat}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "seconds": options.seconds, "repeat": options.repeat,
                       "results": results}, file, indent=2)
            file.write("\n")
    failed = any("error" in result for of_broker in results.values() for result in of_broker.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
