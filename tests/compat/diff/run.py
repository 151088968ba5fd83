#!/usr/bin/env python3
"""One and the same client script on RabbitMQ and on Warren, and what differs (docs/compat.md)."""

import argparse
import concurrent.futures
import glob
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[1:1] = [os.path.join(ROOT, "tests", "real"), os.path.join(ROOT, "tests", "compat")]
# pylint: disable=wrong-import-position
import cluster as clusters  # noqa: E402
import later as later_list  # noqa: E402
import over_tls  # noqa: E402
import registry  # noqa: E402
import session  # noqa: E402
import transcript  # noqa: E402
from amqp_raw import Raw  # noqa: E402

PLUGINS = ("rabbitmq_consistent_hash_exchange", "rabbitmq_random_exchange",
           "rabbitmq_recent_history_exchange", "rabbitmq_sharding")
# where the way of the bytes can matter: refused and ended connections, closes, frames, large bodies
SHARES = {"tls": "connection.*,clients.*,consume.*,publish.*,reply.*,properties/*,"
                 "settle/*,octets/*"}
COMMENT = """What RabbitMQ {version} says to the scripts of this group: run.py --record writes it.
Plugins: {plugins}."""


class RabbitDriver(clusters.RabbitDriver):
    """With the plugins that come with it, and a name server of its own."""

    def __init__(self, epmd_port):
        super().__init__()
        self.epmd_port = epmd_port

    def configure(self, node, nodes, cookie):
        super().configure(node, nodes, cookie)
        with open(os.path.join(node.folder, "enabled_plugins"), "w", encoding="utf-8") as file:
            file.write(f"[{','.join(PLUGINS)}].\n")

    def environment(self, node):
        return dict(super().environment(node), ERL_EPMD_PORT=str(self.epmd_port))


class Broker:
    """A private cluster of one of the two."""

    def __init__(self, kind, count, options, number=0):
        span = clusters.port_range(options.ports)
        self.kind, self.epmd_port = kind, span[1]
        if kind == "rabbitmq":
            driver = RabbitDriver(self.epmd_port)
        else:
            driver = clusters.WarrenDriver(os.path.abspath(options.warren),
                                           os.path.abspath(options.warrenctl), options.shards)
        folder = options.folder or os.path.join(ROOT, ".dev", "compat", "diff")
        self.tls = options.tls
        if self.tls:
            span = over_tls.over_tls(driver, folder, span)
        self.cluster = clusters.Cluster(driver, count, os.path.join(
            folder, f"{kind}-{count}-{os.getpid()}-{number}"), ports=span)
        try:
            self.cluster.form()
        except BaseException:
            self.close()
            raise
        self.ports = [node.tls_port if self.tls else node.amqp_port for node in self.cluster.nodes]

    def raw(self, port=None, timeout=5.0):
        """A connection to the first node, or to one of our ports: bytes and frames."""
        port = port or self.ports[0]
        return over_tls.raw(self.cluster.driver, port, timeout) if self.tls else \
            Raw(port, timeout=timeout)

    def ctl(self, *arguments):
        return self.cluster.ctl(self.cluster.nodes[0], *arguments, seconds=60)[0]

    def running(self):
        return all(node.running for node in self.cluster.nodes)

    def version(self):
        code, text = self.cluster.ctl(self.cluster.nodes[0], "version", seconds=60)
        return text.strip().splitlines()[-1] if code == 0 and text.strip() else "?"

    def close(self):
        """The exit codes of what was running, and reports of sanitizers, as texts."""
        problems = self.cluster.end() if self.kind == "warren" else []
        self.cluster.destroy(keep=bool(problems))
        if self.kind == "rabbitmq":
            subprocess.run(["epmd", "-port", str(self.epmd_port), "-kill"], check=False,
                           capture_output=True)
        return problems


def run_units(units, broker, wanted):
    """{unit: {name: [line]}}"""
    found = {}
    for unit in units:
        begun = time.monotonic()
        found[unit] = unit.run(broker, wanted)
        unit.seconds = time.monotonic() - begun
        if not broker.running():
            raise clusters.ClusterError(f"{unit.name}: a node has ended: " + "; ".join(
                line for node in broker.cluster.nodes for line in broker.cluster.reports(node)))
    return found


def stored(units):
    """{unit: {name: [line]}} of the tree"""
    files, found = {}, {}
    for unit in units:
        path = os.path.join(transcript.FOLDER, f"{unit.group}.txt")
        if path not in files:
            files[path] = transcript.read(path)
        if unit.single:
            found[unit] = {n: t for n, t in files[path].items() if n.startswith(unit.name + "/")}
        else:
            found[unit] = {n: t for n, t in files[path].items() if n == unit.name}
    return found


def record(units, found, version, options):
    """Writes the files of all groups; keeps what was not run when not everything was."""
    for group in dict.fromkeys(unit.group for unit in units if not unit.by_hand):
        path = os.path.join(transcript.FOLDER, f"{group}.txt")
        lines = {} if options.complete else {
            name: text for name, text in transcript.read(path).items() if not options.wanted(name)}
        for unit in units:
            if unit.group == group:
                lines.update(found[unit])
        comment = COMMENT.format(version=version, plugins=", ".join(PLUGINS))
        transcript.write(path, comment, lines, any(u.single for u in units if u.group == group))
        print(f"{len(lines):>5} in {os.path.relpath(path, ROOT)}")


class Judgement:
    """Counts and texts of one comparison."""

    def __init__(self, deviations, listed, options, known=()):
        self.deviations, self.listed, self.options = deviations, listed, options
        # a deviation of a feature that is to come need not occur yet
        self.waiting = [name for name in known if self.later(name)]
        self.table, self.bad, self.names = {}, 0, []

    def later(self, name):
        return next((p for p in self.listed if transcript.matches(p, name)), None)

    def unit(self, unit, wanted, got):
        row = self.table.setdefault(unit.group, dict(same=0, deviates=0, later=0, differs=0,
                                                     passes=0, seconds=0.0))
        row["seconds"] += unit.seconds
        for name in dict.fromkeys([*wanted, *got]):
            self.names.append(name)
            used = sum(d.used for d in self.deviations)
            if name not in wanted or name not in got:
                left = [(wanted.get(name, []), got.get(name, ["was not run"]))]
            else:
                left = transcript.compare(name, wanted[name], got[name], self.deviations)
            pattern = self.later(name)
            if left and pattern:
                row["later"] += 1
                self.listed[pattern] += 1
            elif left:
                row["differs"] += 1
                self.show(name, left)
            elif pattern:
                row["passes"] += 1
            row["same"] += not left and sum(d.used for d in self.deviations) == used
            row["deviates"] += not left and sum(d.used for d in self.deviations) > used

    def show(self, name, left):
        print(f"differs: {name}")
        if not self.options.quiet:
            for lost, gained in left:
                print("".join(f"   - {line}\n" for line in lost) +
                      "".join(f"   + {line}\n" for line in gained), end="", flush=True)

    def whole(self, pattern):
        """Whether everything that the pattern names has been run."""
        return self.options.complete or ("*" not in pattern and pattern in self.names)

    def end(self, title, seconds):
        """The table; the number of what is wrong."""
        columns = ("same", "deviates", "later", "differs")
        print(f"\n{title}, {seconds:.1f} s\n{'group':<18}" + "".join(f"{c:>10}" for c in (*columns, "seconds")))
        for group, row in self.table.items():
            print(f"{group:<18}" + "".join(f"{row[c]:>10}" for c in columns) +
                  f"{row['seconds']:>10.1f}")
        totals = {c: sum(row[c] for row in self.table.values()) for c in (*columns, "passes")}
        print(f"{'total':<18}" + "".join(f"{totals[c]:>10}" for c in columns))
        wrong = totals["differs"]
        for deviation in self.deviations:
            waits = any(transcript.matches(deviation.pattern, name) for name in self.waiting)
            if not deviation.used and self.whole(deviation.pattern) and not waits:
                print(f"deviations.txt:{deviation.number}: {deviation.pattern}: does not occur any more")
                wrong += 1
        for pattern, count in self.listed.items():
            if not count and self.whole(pattern) and not self.options.leave_out:
                print(f"later.txt: {pattern}: passes, take it off the list")
                wrong += 1
        return wrong


def judge(title, units, wanted, got, options, seconds):
    listed = {} if options.strict else dict.fromkeys(
        later_list.read(os.path.join(HERE, "later.txt")), 0)
    deviations = transcript.read_deviations(os.path.join(HERE, "deviations.txt"))
    known = [name for path in glob.glob(os.path.join(transcript.FOLDER, "*.txt"))
             for name in transcript.read(path)]
    judgement = Judgement(deviations, listed, options, known)
    for unit in units:
        chosen = {n: t for n, t in wanted[unit].items() if options.wanted(n)}
        judgement.unit(unit, chosen, got[unit])
    return judgement.end(title, seconds)


def show_rows(units):
    rows = {}
    for unit in units:
        for row in unit.rows:
            rows.setdefault(row, []).append(unit.name)
    for row in sorted(rows, key=int):
        print(f"{row:>4}  {', '.join(dict.fromkeys(n.partition('@')[0] for n in rows[row]))}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", action="store_true", help="start RabbitMQ too, instead of the "
                        "transcripts")
    parser.add_argument("--record", action="store_true", help="run RabbitMQ and write transcripts")
    parser.add_argument("--tls", action="store_true", help="everything over amqps, both brokers")
    parser.add_argument("--nodes", default="1", help="of Warren: 1, or 1,3 for one after the other")
    parser.add_argument("--only", default="*", help="names with *, separated by commas")
    parser.add_argument("--share", choices=tuple(SHARES), help="a share that has a name, as --only")
    parser.add_argument("--leave-out", action="store_true", help="do not run those of later.txt")
    parser.add_argument("--strict", action="store_true", help="as if nothing were in later.txt")
    parser.add_argument("--show", help="run these and print what was recorded")
    parser.add_argument("--rows", action="store_true", help="rows of the feature matrix")
    parser.add_argument("--driver", choices=("warren", "rabbitmq"), default="warren", help="of --show")
    parser.add_argument("--jobs", type=int, default=1, help="brokers of Warren that share the scripts")
    parser.add_argument("--quiet", action="store_true", help="names of what differs only")
    parser.add_argument("--ports", default=clusters.PORTS, help="FIRST-END: where to look for free ones")
    parser.add_argument("--warren", default=clusters.WARREN, help="the server program")
    parser.add_argument("--warrenctl", default=clusters.WARRENCTL)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=session.DEADLINE_S,
                        help="seconds for anything to come; a short one for scripts that fail anyway")
    parser.add_argument("--folder", help="where the nodes live; default: .dev/compat/diff")
    options = parser.parse_args()
    options.only = SHARES[options.share] if options.share else options.only
    patterns = (options.show or options.only).split(",")
    listed = later_list.read(os.path.join(HERE, "later.txt")) if options.leave_out else ()
    options.complete = patterns == ["*"]
    options.wanted = lambda name: any(transcript.matches(p, name) for p in patterns) and \
        not any(transcript.matches(p, name) for p in listed)
    return options


def choose(units, options):
    """The scripts that are wanted, and all tables, which look at each row."""
    if options.complete and not options.leave_out:
        return units
    patterns = (options.show or options.only).split(",")
    return [u for u in units if (options.wanted(u.name) if not u.single else any(
        transcript.matches(p, u.name + "/*") or p.startswith(u.name + "/") or p == "*"
        for p in patterns))]


def run_on_each(brokers, units, wanted):
    """Most scripts wait most of the time: each broker takes its part of them, at the same time."""
    found = {}
    with concurrent.futures.ThreadPoolExecutor(len(brokers)) as pool:
        parts = [pool.submit(run_units, units[i::len(brokers)], broker, wanted)
                 for i, broker in enumerate(brokers)]
        for part in parts:
            found.update(part.result())
    return found


def on_broker(kind, count, units, options):
    """(what was recorded, seconds, version)"""
    brokers, problems = [], []
    try:
        for i in range(options.jobs if kind == "warren" else 1):
            brokers.append(Broker(kind, count, options, i))
        begun = time.monotonic()
        found = run_on_each(brokers, units, options.wanted)
        seconds, version = time.monotonic() - begun, brokers[0].version() if options.record else ""
    finally:
        for broker in brokers:
            problems += broker.close()
    if problems:
        raise clusters.ClusterError("\n".join(problems))
    return found, seconds, version


def main():
    options = parse()
    session.DEADLINE_S = options.deadline
    # asked to end, we must still end the nodes: they are in sessions of their own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    units = choose(registry.load(), options)
    if options.rows:
        show_rows(units)
        return 0
    if options.show:
        found = on_broker(options.driver, 1, units, options)[0]
        for lines in found.values():
            for name, text in lines.items():
                print("\n".join([f"== {name}", *text]))
        return 0
    if options.record:
        chosen = [unit for unit in units if not unit.by_hand]
        found, seconds, version = on_broker("rabbitmq", 1, chosen, options)
        record(chosen, found, version, options)
        for unit in sorted(chosen, key=lambda unit: -unit.seconds)[:5]:
            print(f"{unit.seconds:>8.1f} s {unit.name}")
        print(f"RabbitMQ {version}, {seconds:.1f} s")
        return 0
    wanted = stored(units)
    wrong = 0
    if options.live:
        chosen = [unit for unit in units if not unit.by_hand]
        wanted.update(on_broker("rabbitmq", 1, chosen, options)[0])
    for count in options.nodes.split(","):
        got, seconds, _ = on_broker("warren", int(count), units, options)
        wrong += judge(f"Warren, nodes: {count}", units, wanted, got, options, seconds)
    print(f"{wrong} wrong" if wrong else f"{sum(map(len, got.values()))} scripts and rows of tables, "
          "each as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except clusters.ClusterError as error:
        print(f"FAILED: {error}")
        sys.exit(1)
