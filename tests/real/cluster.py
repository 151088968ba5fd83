"""Starts, stops, kills and watches broker processes: Warren, or RabbitMQ to compare with."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from amqp_raw import answers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WARREN = os.path.join(ROOT, "build", "release", "src", "warren")
WARRENCTL = os.path.join(ROOT, "build", "release", "src", "ctl", "warrenctl")
START_S = 60
COOKIE = "warren-tests-cookie"
COMPLAINTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
              "WARNING: ThreadSanitizer", "FATAL: ThreadSanitizer", "warren: panic:")
POLL_S = 0.02
LOOPBACK = "127.0.0.1"


class ClusterError(Exception):
    pass


def becomes(test, seconds, poll=POLL_S):
    """The first true value of test(), or the last false one when time is up."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value or time.monotonic() > end:
            return value
        time.sleep(poll)


def wait_until(test, seconds, what, poll=POLL_S):
    """The first true value of test()."""
    value = becomes(test, seconds, poll)
    if not value:
        raise ClusterError(f"not within {seconds:.0f} s: {what}")
    return value


def port_range(text):
    """FIRST-END as two numbers."""
    first, end = (int(port) for port in text.split("-"))
    return first, end


# Below the ephemeral range, so that no client of ours gets the port of a node that is down. Programs that run at once are
# given a part of it each, so that none takes what another one's node will want again.
PORTS = os.environ.get("WARREN_TEST_PORTS", "20000-32000")


def free_ports(count, *span):
    """That many free ports of span (first, end), or of PORTS."""
    start, end = span or port_range(PORTS)
    found = []
    offset = (os.getpid() * 37) % (end - start)
    for i in range(end - start):
        port = start + (offset + i) % (end - start)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("no free ports")


class Node:
    """One process (group); index from 1."""

    def __init__(self, index, name, folder, amqp_port, cluster_port, host):
        self.index, self.name, self.folder = index, name, folder
        self.amqp_port, self.cluster_port, self.host = amqp_port, cluster_port, host
        self.process, self.paused = None, False

    @property
    def uri(self):
        return f"amqp://guest:guest@{self.host}:{self.amqp_port}"

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        """The processes of the node's group."""
        found = []
        if self.process is None:
            return found
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid:
                found.append(int(entry))
        return found

    def cpu_seconds(self):
        """User and system time of the living processes of the node."""
        ticks = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        pages = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
                    pages += int(file.read().split()[1])
            except OSError:
                continue
        return pages * os.sysconf("SC_PAGE_SIZE")


class WarrenDriver:
    name = "warren"

    def __init__(self, binary=WARREN, ctl=WARRENCTL, shards=1, extra=()):
        self.binary, self.ctl_binary, self.shards, self.extra = binary, ctl, shards, list(extra)

    def node_name(self, index, _ports, host):
        return f"warren{index}@{'localhost' if host == LOOPBACK else host}"

    def configure(self, node, nodes, cookie):
        lines = [
            f"nodename = {node.name}",
            f"listeners.tcp.1 = {node.host}:{node.amqp_port}",
            f"distribution.listener.interface = {node.host}",
            f"distribution.listener.port_range.min = {node.cluster_port}",
            f"distribution.listener.port_range.max = {node.cluster_port}",
            f"erlang.cookie = {cookie}",
            f"log.file = {node.folder}/log",
            "log.file.level = info",
            f"shards = {self.shards}",
        ]
        if node.host != LOOPBACK:
            lines.append("loopback_users = none")
        if len(nodes) > 1:
            lines += [f"cluster_formation.classic_config.nodes.{other.index} = "
                      f"{other.name}:{other.cluster_port}" for other in nodes]
        with open(os.path.join(node.folder, "warren.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines + self.extra) + "\n")

    def command(self, node):
        return [self.binary, "--config", os.path.join(node.folder, "warren.conf"),
                "--data", os.path.join(node.folder, "data")], None

    def form(self, cluster):
        """The nodes find each other by their configuration."""
        cluster.start_all()

    def ctl(self, node, *arguments):
        return [self.ctl_binary, "--config", os.path.join(node.folder, "warren.conf"),
                "-n", node.name, *arguments], None


class RabbitDriver:
    name = "rabbitmq"

    def __init__(self, extra=()):
        found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
        if not found:
            raise ClusterError("rabbitmq-server is not installed")
        self.sbin, self.extra = found[-1], list(extra)

    def node_name(self, index, ports, _host):
        return f"rabbit{index}-{ports[0]}@localhost"

    def configure(self, node, nodes, cookie):
        lines = [f"listeners.tcp.1 = 127.0.0.1:{node.amqp_port}", "log.console = false",
                 "disk_free_limit.absolute = 50MB", "cluster_formation.node_type = disc"]
        if len(nodes) > 1:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines += [f"cluster_formation.classic_config.nodes.{other.index} = {other.name}"
                      for other in nodes]
        with open(os.path.join(node.folder, "rabbitmq.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines + self.extra) + "\n")
        with open(os.path.join(node.folder, "enabled_plugins"), "w", encoding="utf-8") as file:
            file.write("[].\n")
        path = os.path.join(node.folder, ".erlang.cookie")
        with open(path, "w", encoding="utf-8") as file:
            file.write(cookie)
        os.chmod(path, 0o400)

    def environment(self, node):
        return dict(os.environ, HOME=node.folder, RABBITMQ_NODENAME=node.name,
                    RABBITMQ_NODE_IP_ADDRESS="127.0.0.1", RABBITMQ_NODE_PORT=str(node.amqp_port),
                    RABBITMQ_DIST_PORT=str(node.cluster_port),
                    RABBITMQ_MNESIA_BASE=os.path.join(node.folder, "mnesia"),
                    RABBITMQ_LOG_BASE=os.path.join(node.folder, "logs"),
                    RABBITMQ_CONFIG_FILE=os.path.join(node.folder, "rabbitmq"),
                    RABBITMQ_ENABLED_PLUGINS_FILE=os.path.join(node.folder, "enabled_plugins"),
                    RABBITMQ_CONF_ENV_FILE="/dev/null", ERL_EPMD_ADDRESS="127.0.0.1")

    def command(self, node):
        return [os.path.join(self.sbin, "rabbitmq-server")], self.environment(node)

    def form(self, cluster):
        """The first node first: the others find it and join."""
        for node in cluster.nodes:
            cluster.start(node)
            cluster.wait_ready([node])

    def ctl(self, node, *arguments):
        return [os.path.join(self.sbin, "rabbitmqctl"), "-n", node.name, *arguments], \
            self.environment(node)


class Loopback:
    """All nodes on this host. Another network has the same methods (netns.py)."""

    def host(self, _index):
        return LOOPBACK

    def enter(self, _node):
        """The words before a command line that is to run where the node runs."""
        return []

    def close(self):
        pass


class Cluster:
    """`count` nodes below `folder`, which must not hold another run."""

    def __init__(self, driver, count, folder, network=None, ports=()):
        self.driver, self.folder, self.network = driver, folder, network or Loopback()
        shutil.rmtree(folder, ignore_errors=True)
        ports = free_ports(2 * count, *ports)
        self.nodes = []
        for i in range(1, count + 1):
            path = os.path.join(folder, f"node{i}")
            os.makedirs(path)
            host = self.network.host(i)
            self.nodes.append(Node(i, driver.node_name(i, ports, host), path, ports[2 * i - 2],
                                   ports[2 * i - 1], host))
        for node in self.nodes:
            driver.configure(node, self.nodes, COOKIE)

    def __enter__(self):
        # asked to end, we must still end the nodes: they are in sessions of their own
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, _error, _trace):
        self.destroy(keep=kind is not None)

    @property
    def uris(self):
        return [node.uri for node in self.nodes]

    def node(self, name):
        return next((n for n in self.nodes if n.name == name), None)

    def form(self):
        self.driver.form(self)
        self.wait_ready()
        return self

    def start(self, node):
        command, environment = self.driver.command(node)
        command = self.network.enter(node) + command
        with open(os.path.join(node.folder, "stdout"), "ab") as out:
            node.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True)
        node.paused = False

    def start_all(self):
        for node in self.nodes:
            if not node.running:
                self.start(node)

    def wait_ready(self, nodes=None, seconds=START_S):
        for node in nodes or self.nodes:
            def ready(node=node):
                if not node.running:
                    raise ClusterError(f"{node.name} ended with {node.process.poll()}: "
                                       f"{self.tail(node)}")
                return answers(node.amqp_port, node.host)
            wait_until(ready, seconds, f"{node.name} accepts connections")

    def signal(self, node, number):
        # once reaped, its number may belong to somebody else's processes
        if node.process is not None and node.process.returncode is None:
            try:
                os.killpg(node.process.pid, number)
            except ProcessLookupError:
                pass

    def kill(self, *nodes):
        """kill -9, all at once."""
        for node in nodes:
            self.signal(node, signal.SIGKILL)
        for node in nodes:
            if node.process is not None:
                node.process.wait(10)
            node.paused = False

    def pause(self, node):
        self.signal(node, signal.SIGSTOP)
        node.paused = True

    def resume(self, node):
        self.signal(node, signal.SIGCONT)
        node.paused = False

    def stop(self, node, seconds=30):
        """SIGTERM; the exit code."""
        self.signal(node, signal.SIGTERM)
        try:
            return node.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{node.name} did not end within {seconds} s of SIGTERM") from error

    def end(self, seconds=60):
        """SIGTERM to all running nodes at once; what was not in order, a list of texts."""
        problems = []
        running = [node for node in self.nodes if node.process is not None]
        for node in running:
            self.signal(node, signal.SIGTERM)
        for node in running:
            try:
                code = node.process.wait(seconds)
            except subprocess.TimeoutExpired:
                problems.append(f"{node.name} did not end within {seconds} s of SIGTERM")
                continue
            if code != 0:
                problems.append(f"{node.name} ended with {code}")
        for node in running:
            problems += [f"{node.name}: {line}" for line in self.reports(node)]
        return problems

    def reports(self, node):
        """First lines of what sanitizers and assertions wrote."""
        try:
            with open(os.path.join(node.folder, "stdout"), encoding="utf-8",
                      errors="replace") as file:
                return [line.strip()[:300] for line in file if any(m in line for m in COMPLAINTS)]
        except FileNotFoundError:
            return []

    def ctl(self, node, *arguments, seconds=30):
        """Runs the control program against a node: (exit code, stdout)."""
        command, environment = self.driver.ctl(node, *arguments)
        command = self.network.enter(node) + command
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True,
                                  timeout=seconds, check=False)
        except (subprocess.TimeoutExpired, FileNotFoundError) as error:
            return 127, str(error)
        return done.returncode, done.stdout

    def ctl_json(self, *arguments):
        """The control program's answer from the first node that gives one, else None."""
        for node in self.nodes:
            if node.running and not node.paused:
                answer = self.ctl_json_of(node, *arguments)
                if answer is not None:
                    return answer
        return None

    def ctl_json_of(self, node, *arguments):
        code, text = self.ctl(node, *arguments, "--formatter", "json", "-q")
        try:
            return json.loads(text) if code == 0 else None
        except ValueError:
            return None

    def queue_leader(self, queue):
        """The node that leads the queue, None if it is not known."""
        for row in self.ctl_json("list_queues", "name", "leader") or []:
            if row.get("name") == queue:
                return self.node(row.get("leader"))
        return None

    def catalog_leader(self):
        """The node that leads the metadata; RabbitMQ 3 has none."""
        status = self.ctl_json("cluster_status")
        return self.node(status.get("catalog_leader")) if isinstance(status, dict) else None

    def cpu_seconds(self):
        return sum(node.cpu_seconds() for node in self.nodes)

    def rss_bytes(self):
        return sum(node.rss_bytes() for node in self.nodes)

    def tail(self, node, lines=15):
        text = []
        for pattern in ("stdout", "log", "logs/*.log"):
            for path in glob.glob(os.path.join(node.folder, pattern)):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text += [f"{os.path.basename(path)}: {line.rstrip()}"
                             for line in file.readlines()[-lines:]]
        return "\n".join(text)

    def destroy(self, keep=False):
        """Ends all processes; the folder stays when `keep`."""
        for node in self.nodes:
            if node.process is not None:
                self.signal(node, signal.SIGCONT)
                self.signal(node, signal.SIGKILL)
                node.process.wait(10)
        self.network.close()
        if keep:
            print(f"logs and data are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def add_options(parser):
    """The options that every program of this folder has."""
    parser.add_argument("--driver", choices=("warren", "rabbitmq"), default="warren")
    parser.add_argument("--warren", default=WARREN, help="the server program")
    parser.add_argument("--warrenctl", default=WARRENCTL)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--folder", help="where the nodes live; default: a new one in .dev/real")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    parser.add_argument("--ports", default=PORTS, help="FIRST-END: where to look for free ones")


def from_options(options, count, name, network=None):
    """A cluster, not started yet."""
    if options.driver == "rabbitmq":
        driver = RabbitDriver()
    else:
        driver = WarrenDriver(os.path.abspath(options.warren), os.path.abspath(options.warrenctl),
                              options.shards)
    folder = options.folder or os.path.join(ROOT, ".dev", "real", f"{name}-{os.getpid()}")
    return Cluster(driver, count, os.path.abspath(folder), network, port_range(options.ports))
