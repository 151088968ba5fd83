"""The runner's brokers over TLS: nodes that listen for it, too, and what a script's socket is then."""

import os

import cluster as clusters
from tls_pki import Pki
from tls_raw import TlsRaw


class OverTls:
    """Goes before a driver: its nodes have a port for TLS and ask for certificates."""
    pki, tls_ports = None, None

    def configure(self, node, nodes, cookie):
        node.tls_port = clusters.free_ports(len(nodes), *self.tls_ports)[node.index - 1]
        self.extra = [f"listeners.ssl.1 = 127.0.0.1:{node.tls_port}",
                      f"ssl_options.cacertfile = {self.pki.path('ca.pem')}",
                      f"ssl_options.certfile = {self.pki.path('server.pem')}",
                      f"ssl_options.keyfile = {self.pki.path('server.key')}",
                      "ssl_options.verify = verify_peer",
                      "ssl_options.fail_if_no_peer_cert = true"]
        super().configure(node, nodes, cookie)


def make_pki(folder):
    pki = Pki(folder)
    pki.certificate("server", "/CN=localhost")
    pki.certificate("client", "/CN=client")
    return pki


def over_tls(driver, folder, ports):
    """The driver, with TLS: its class with the above before it. The ports of the upper half are for
    TLS; the others are answered with."""
    first, end = ports
    middle = (first + end) // 2
    driver.__class__ = type("Tls" + type(driver).__name__, (OverTls, type(driver)), {})
    driver.pki, driver.tls_ports = make_pki(os.path.join(folder, f"pki-{os.getpid()}")), (middle, end)
    return first, middle


def raw(driver, port, timeout):
    return TlsRaw(port, driver.pki, "client", timeout=timeout, ragged=True)
