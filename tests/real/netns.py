"""A network of hosts on this machine: a namespace each, cables to a switch, and what can cut them.

The switch is in a namespace of its own, in which this process and its clients run from then on (enter_hub);
nothing outside the namespaces is touched. Whoever is not root becomes it in a user namespace. A packet is dropped where it arrives, so each
direction between two hosts can be cut by itself.
"""

import ctypes
import os
import subprocess
import sys

CLONE_NEWNET = 0x40000000
NET = "10.77.0."
HUB = NET + "254"
ENVIRONMENT = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class NetworkError(Exception):
    pass


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")


def become_root():
    """Starts this program anew as root of a user namespace, where `ip netns` has a /run of its own."""
    if os.geteuid() != 0:
        os.execvp("unshare", ["unshare", "-rnm", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"',
                              "sh", sys.executable, *sys.argv])


class Namespaces:
    """Hosts 1 to `count`. The same methods as cluster.Loopback, and cutting."""

    def __init__(self, count):
        self.tag, self.count, self.names = f"wr{os.getpid()}", count, []
        try:
            self.build()
        except NetworkError:
            self.close()
            raise

    def name(self, index):
        return f"{self.tag}-{index}"

    def host(self, index):
        return f"{NET}{index}"

    def add(self, name):
        run("ip", "netns", "add", name)
        self.names.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def build(self):
        hub = self.name("hub")
        self.add(hub)
        run("ip", "-n", hub, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", hub, "addr", "add", HUB + "/24", "dev", "switch")
        run("ip", "-n", hub, "link", "set", "switch", "up")
        for i in range(1, self.count + 1):
            name = self.name(i)
            self.add(name)
            run("ip", "-n", hub, "link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0",
                "netns", name)
            run("ip", "-n", hub, "link", "set", f"port{i}", "master", "switch", "up")
            run("ip", "-n", name, "addr", "add", self.host(i) + "/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def enter(self, node):
        return ["ip", "netns", "exec", self.name(node.index)]

    def enter_hub(self):
        """This process and all that it starts from now on are clients on the switch."""
        with open(f"/run/netns/{self.name('hub')}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")

    def lose(self, source, target):
        """What `source` (a node; None: the clients) sends to `target` (likewise) is lost."""
        where, address = self.where(target), HUB if source is None else self.host(source.index)
        run("ip", "netns", "exec", where, "iptables", "-A", "INPUT", "-s", address, "-j", "DROP")

    def refuse(self, source, target):
        """What `source` sends to `target` is answered with a reset."""
        address = HUB if source is None else self.host(source.index)
        run("ip", "netns", "exec", self.where(target), "iptables", "-A", "INPUT", "-p", "tcp", "-s",
            address, "-j", "REJECT", "--reject-with", "tcp-reset")

    def where(self, node):
        return self.name("hub" if node is None else node.index)

    def cut(self, one, other):
        self.lose(one, other)
        self.lose(other, one)

    def heal(self):
        for name in self.names:
            run("ip", "netns", "exec", name, "iptables", "-F", "INPUT")

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.names = []
