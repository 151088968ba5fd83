#!/usr/bin/env python3
"""AMQP over TLS and logging in by certificate: real certificates, real clients, bad input.

With --driver rabbitmq the checks that concern both run against Debian's rabbitmq-server.
"""

import argparse
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time

import cluster as clusters
from amqp_raw import BODY, HEADER, Ended, Raw, content, frame, method, publish, queue_declare, \
    short, start_ok, tune_ok, vhost_open
from bad_handshake import CLIENT_HELLO
from cluster import ClusterError, wait_until
from tls_pki import Pki
from tls_raw import TlsRaw

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(clusters.ROOT, "tests", "compat"))
import clients  # noqa: E402  pylint: disable=wrong-import-position

SUBJECT = "/C=DE/O=Acme, Inc./CN=jürgen"
DN = "CN=j\\C3\\BCrgen,O=Acme\\, Inc.,C=DE"     # what RabbitMQ calls him
HALF_OPEN = 700                                 # more than one shard keeps
IDLE = 500
PERF = os.path.join(clusters.ROOT, "build", "release", "src", "perf", "warren-perf")


class Tls(TlsRaw):
    """An AMQP speaker over TLS."""

    def offered(self):
        """The mechanisms of connection.start."""
        arguments = self.start()
        at = 2 + 4 + int.from_bytes(arguments[2:6], "big")
        size = int.from_bytes(arguments[at:at + 4], "big")
        return sorted(arguments[at + 4:at + 4 + size].decode().split())

    def external(self):
        self.start()
        self.send(start_ok(mechanism="EXTERNAL", response=b""))
        self.expect(10, 30)
        self.send(tune_ok(), vhost_open())
        self.expect(10, 41)
        self.open_channel(1)
        return self

    def bye(self):
        """Closes as it should be: close-ok, then both say close_notify, the client first."""
        self.send(method(0, 10, 50, b"\0\xc8" + short("") + bytes(4)))
        self.expect(10, 51)
        self.socket.unwrap().close()


class Warren(clusters.WarrenDriver):
    """With TLS; `lines` are added to the file."""

    def __init__(self, options, pki, lines, ports):
        super().__init__(os.path.abspath(options.warren), os.path.abspath(options.warrenctl),
                         options.shards)
        self.pki, self.lines, self.ports = pki, lines, ports

    def configure(self, node, nodes, cookie):
        node.tls_port = clusters.free_ports(len(nodes), *self.ports)[node.index - 1]
        self.extra = tls_lines(node, self.pki) + list(self.lines)
        super().configure(node, nodes, cookie)


class Rabbit(clusters.RabbitDriver):
    """The same for RabbitMQ."""

    def __init__(self, _options, pki, lines, ports):
        super().__init__()
        self.pki, self.lines, self.ports = pki, lines, ports

    def configure(self, node, nodes, cookie):
        node.tls_port = clusters.free_ports(len(nodes), *self.ports)[node.index - 1]
        self.extra = tls_lines(node, self.pki) + list(self.lines)
        super().configure(node, nodes, cookie)
        with open(os.path.join(node.folder, "enabled_plugins"), "w", encoding="utf-8") as file:
            file.write("[rabbitmq_auth_mechanism_ssl].\n")


def tls_lines(node, pki):
    return [f"listeners.ssl.1 = 127.0.0.1:{node.tls_port}",
            f"ssl_options.cacertfile = {pki.path('ca.pem')}",
            f"ssl_options.certfile = {pki.path('server.pem')}",
            f"ssl_options.keyfile = {pki.path('server.key')}"]


PEER = ("ssl_options.verify = verify_peer", "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = AMQPLAIN", "auth_mechanisms.3 = EXTERNAL")
CHECKS = []


def check(*lines, nodes=1, both=False, live=False):
    """A check with a cluster of its own; both: RabbitMQ passes it, too; live: with files of its own
    as well."""
    def add(function):
        CHECKS.append((function.__name__.replace("_", "-"), function, lines, nodes, both, live))
        return function
    return add


def equal(what, got, wanted):
    if got != wanted:
        raise ClusterError(f"{what}: {got!r} instead of {wanted!r}")


def log_of(cluster, node):
    return cluster.tail(node, 100000)


def wait_for_line(cluster, node, text, count=1):
    wait_until(lambda: log_of(cluster, node).count(text) >= count, 20,
               f"{count} lines in the event log with '{text}'")
    equal(f"lines with '{text}'", log_of(cluster, node).count(text), count)


def add_user(cluster, name):
    for command in (("add_user", name, "unused"), ("set_permissions", name, ".*", ".*", ".*")):
        code, text = cluster.ctl(cluster.nodes[0], *command)
        if code != 0:
            raise ClusterError(f"{command[0]}: {text}")


def round_trip(raw, size=300000):
    """A message there and back over one channel that is open."""
    body = os.urandom(size)
    frames = b"".join(frame(BODY, 1, body[at:at + 131064]) for at in range(0, size, 131064))
    raw.send(queue_declare(1, "", 4 | 8))
    name = raw.expect(50, 11)
    name = name[1:1 + name[0]]
    raw.send(publish(1, "", name) + content(1, size) + frames,
             method(1, 60, 70, b"\0\0" + short(name) + b"\1"))
    raw.expect(60, 71, 20)
    got = b""
    raw.read_frame(20)
    while len(got) < size:
        got += raw.read_frame(20)[2]
    equal("the body", got == body, True)


# --- who is who --------------------------------------------------------------------------------

COLUMNS = ("user", "ssl", "ssl_protocol", "ssl_key_exchange", "ssl_cipher", "ssl_hash",
           "peer_cert_subject", "peer_cert_issuer", "auth_mechanism")


def rows(cluster, *columns):
    return cluster.ctl_json("list_connections", *columns) or []


@check(*PEER, both=True)
def columns_tell_how_a_connection_is_protected(cluster, pki):
    node = cluster.nodes[0]
    add_user(cluster, DN)
    for version, words in ((ssl.TLSVersion.TLSv1_3, ["tlsv1.3", "any", "aes_256_gcm", "aead"]),
                           (ssl.TLSVersion.TLSv1_2,
                            ["tlsv1.2", "ecdhe_rsa", "aes_256_gcm", "aead"])):
        with Tls(node.tls_port, pki, "client", version).external() as raw:
            wait_until(lambda: rows(cluster, "user"), 10, "the connection is listed")
            row = rows(cluster, *COLUMNS)[0]
            equal("columns", [row[c] for c in COLUMNS],
                  [DN, True] + words + [DN, "CN=ca", "EXTERNAL"])
            validity = rows(cluster, "peer_cert_validity")[0]["peer_cert_validity"]
            equal("validity", (len(validity), validity[10], validity[19:24]), (43, "T", "Z - 2"))
            round_trip(raw)
            raw.bye()
        wait_until(lambda: not rows(cluster, "user"), 10, "the connection is gone")
    with Tls(node.tls_port, pki).open() as raw:
        wait_until(lambda: rows(cluster, "user"), 10, "the connection is listed")
        row = rows(cluster, *COLUMNS)[0]
        equal("without a certificate", [row[c] for c in COLUMNS],
              ["guest", True, "tlsv1.3", "any", "aes_256_gcm", "aead", "", "", "PLAIN"])
        raw.bye()


@check(*PEER)
def external_is_offered_to_those_with_a_certificate(cluster, pki):
    node = cluster.nodes[0]
    with Raw(node.amqp_port) as raw:
        equal("plain", Tls.offered(raw), ["AMQPLAIN", "PLAIN"])
    with Tls(node.tls_port, pki) as raw:
        equal("without a certificate", raw.offered(), ["AMQPLAIN", "PLAIN"])
        raw.send(start_ok(mechanism="EXTERNAL", response=b""))
        equal("it is as if unknown", raw.read_close()[0], "eof")
    with Tls(node.tls_port, pki, "client") as raw:
        equal("with one", raw.offered(), ["AMQPLAIN", "EXTERNAL", "PLAIN"])


def refused(cluster, pki):
    with Tls(cluster.nodes[0].tls_port, pki, "client") as raw:
        raw.start()
        raw.send(start_ok(mechanism="EXTERNAL", response=b""))
        equal("answer", raw.read_close()[:3],
              ("connection", 403, "ACCESS_REFUSED - Login was refused using authentication mechanism "
               "EXTERNAL. For details see the broker logfile."))


@check(*PEER, both=True)
def a_certificate_of_nobody_is_refused(cluster, pki):
    refused(cluster, pki)


@check(*PEER, "ssl_cert_login_from = subject_alternative_name", "ssl_cert_login_san_type = dns",
       "ssl_cert_login_san_index = 7", both=True)
def a_certificate_without_that_name_is_refused(cluster, pki):
    refused(cluster, pki)


@check(*PEER, "ssl_cert_login_from = common_name", both=True)
def common_names_are_users(cluster, pki):
    add_user(cluster, "jürgen")
    Tls(cluster.nodes[0].tls_port, pki, "client").external().bye()


@check(*PEER, "ssl_cert_login_from = subject_alternative_name", "ssl_cert_login_san_type = email",
       both=True)
def alternative_names_are_users(cluster, pki):
    add_user(cluster, "j@example.org")
    Tls(cluster.nodes[0].tls_port, pki, "client").external().bye()


@check(PEER[0], "auth_mechanisms.1 = EXTERNAL", both=True)
def without_plain_no_password_helps(cluster, pki):
    add_user(cluster, DN)
    with Tls(cluster.nodes[0].tls_port, pki, "client") as raw:
        equal("offered", raw.offered(), ["EXTERNAL"])
        raw.send(start_ok())
        equal("a password", raw.read_close()[0], "eof")
    Tls(cluster.nodes[0].tls_port, pki, "client").external().bye()


@check(*PEER, "ssl_options.keyfile = PKI/pkcs8.key", "ssl_options.password = secret", both=True)
def a_locked_key_is_opened_with_its_password(cluster, pki):
    Tls(cluster.nodes[0].tls_port, pki).open().bye()


@check(*PEER, "ssl_options.keyfile = PKI/traditional.key", "ssl_options.password = secret",
       both=True)
def a_locked_key_of_the_old_form_too(cluster, pki):
    Tls(cluster.nodes[0].tls_port, pki).open().bye()


# --- what is refused ---------------------------------------------------------------------------

def cannot_connect(cluster, pki, certificate):
    try:
        with Tls(cluster.nodes[0].tls_port, pki, certificate) as raw:
            raw.start()     # in TLS 1.3 the client has finished before it hears
    except (ssl.SSLError, Ended, ConnectionError):
        return
    raise ClusterError(f"{certificate} is let in")


@check(*PEER, "ssl_options.fail_if_no_peer_cert = true")
def certificates_that_are_no_good_do_not_get_in(cluster, pki):
    node = cluster.nodes[0]
    for certificate, line in (
            ("expired", "its certificate is not accepted: certificate has expired"),
            ("stranger", "its certificate is not accepted: unable to get"),
            (None, "peer did not return a certificate")):
        cannot_connect(cluster, pki, certificate)
        wait_for_line(cluster, node, line)
    Tls(node.tls_port, pki, "client").open().bye()


@check(*PEER, "ssl_options.depth = 1", both=True)
def as_many_authorities_between_as_depth_says(cluster, pki):
    Tls(cluster.nodes[0].tls_port, pki, "deep").open().bye()
    cannot_connect(cluster, pki, "deeper")


@check(*PEER, "ssl_options.depth = 0", both=True)
def none_between_if_depth_is_zero(cluster, pki):
    Tls(cluster.nodes[0].tls_port, pki, "client").open().bye()
    cannot_connect(cluster, pki, "deep")


@check(*PEER, "ssl_options.versions.1 = tlsv1.3", both=True)
def one_version_only(cluster, pki):
    node = cluster.nodes[0]
    Tls(node.tls_port, pki, version=ssl.TLSVersion.TLSv1_3).open().bye()
    try:
        Tls(node.tls_port, pki, version=ssl.TLSVersion.TLSv1_2)
    except (ssl.SSLError, ConnectionError):
        return
    raise ClusterError("TLS 1.2 is spoken")


def chosen_suite(node, pki):
    """Which of two that the client has, in his order."""
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
    with socket.create_connection(("127.0.0.1", node.tls_port)) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as session:
        return session.cipher()[0]


SUITES = ("ssl_options.versions.1 = tlsv1.2",
          "ssl_options.ciphers.1 = ECDHE-RSA-AES256-GCM-SHA384",
          "ssl_options.ciphers.2 = ECDHE-RSA-AES128-GCM-SHA256")


@check(*PEER, *SUITES, "ssl_options.honor_cipher_order = true",
       "ssl_options.honor_ecc_order = true", both=True)
def our_order_of_suites_counts_if_it_is_to(cluster, pki):
    equal("the suite", chosen_suite(cluster.nodes[0], pki), "ECDHE-RSA-AES256-GCM-SHA384")


@check(*PEER, *SUITES, "ssl_options.honor_cipher_order = false", both=True)
def otherwise_the_clients_order_counts(cluster, pki):
    equal("the suite", chosen_suite(cluster.nodes[0], pki), "ECDHE-RSA-AES128-GCM-SHA256")


@check(*PEER)
def clients_that_do_not_trust_the_broker_are_told_of(cluster, pki):
    context = ssl.create_default_context(cafile=pki.path("stranger-ca.pem"))
    try:
        with socket.create_connection(("127.0.0.1", cluster.nodes[0].tls_port)) as plain:
            context.wrap_socket(plain, server_hostname="localhost")
        raise ClusterError("it is trusted")
    except ssl.SSLCertVerificationError:
        wait_for_line(cluster, cluster.nodes[0], "TLS: tlsv1 alert unknown ca")


def hello(pki):
    """A whole ClientHello."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    session = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def sends(node, data):
    """Sends bytes and hears the end; at most an alert comes before."""
    with Raw(node.tls_port) as raw:
        raw.send(data)
        answer = raw.wait_eof()
        if len(answer) > 7:
            raise ClusterError(f"{data[:20]!r} is answered with {answer[:40]!r}")


@check(*PEER, "handshake_timeout = 1000")
def bad_input_is_one_line_and_disturbs_nobody(cluster, pki):
    node = cluster.nodes[0]
    steady = Tls(node.tls_port, pki).open()
    for data, line in ((HEADER, "TLS: AMQP without TLS on a port for TLS"),
                       (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "TLS: http request"),
                       (bytes(2000), "TLS: wrong version number"),
                       (CLIENT_HELLO[:60] + bytes(200), "TLS: ")):
        before = log_of(cluster, node).count("TLS: ")
        sends(node, data)
        wait_until(lambda b=before: log_of(cluster, node).count("TLS: ") == b + 1, 10,
                   f"one line for {data[:8]!r}")
        if line not in log_of(cluster, node):
            raise ClusterError(f"no line '{line}'")
        round_trip(steady)
    with Raw(node.tls_port) as raw:     # says nothing more: the handshake's time limit
        raw.send(hello(pki)[:100])
        raw.wait_eof()
    wait_for_line(cluster, node, "TLS: closed in the middle of the handshake")
    with Raw(node.tls_port) as raw:     # the server's part of it is not read to the end
        raw.send(hello(pki))
        raw.take(100)
    wait_for_line(cluster, node, "TLS: closed in the middle of the handshake", 2)
    with Raw(node.amqp_port) as raw:    # the other way round
        raw.send(hello(pki))
        equal("TLS on the plain port", raw.wait_eof()[:4], b"AMQP")
    wait_for_line(cluster, node, "a TLS client on the plain port")
    round_trip(steady)
    steady.bye()


@check(*PEER)
def renegotiation_ends_the_connection(cluster, pki):
    node = cluster.nodes[0]
    with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{node.tls_port}", "-tls1_2",
                           "-CAfile", pki.path("ca.pem")], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        client.stdin.write(b"R\n")
        client.stdin.flush()
        wait_for_line(cluster, node, "TLS: it asked for a renegotiation")
        client.wait(20)


@check(*PEER)
def half_open_handshakes_keep_nobody_out(cluster, pki):
    node = cluster.nodes[0]
    part = hello(pki)[:100]
    halves = []
    for _ in range(HALF_OPEN):
        halves.append(Raw(node.tls_port))
        halves[-1].send(part)
    Tls(node.tls_port, pki).open().bye()
    for raw in halves:
        raw.close()
    wait_until(lambda: log_of(cluster, node).count("in the middle of the handshake") == HALF_OPEN,
               20, "one line for each")


@check(*PEER)
def one_byte_at_a_time(cluster, pki):
    node = cluster.nodes[0]
    with Raw(node.tls_port) as raw:
        incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=pki.path("ca.pem"))
        session = context.wrap_bio(incoming, out, server_hostname="localhost")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in out.read():
                    raw.send(bytes([byte]))
                incoming.write(raw.socket.recv(65536))
        session.write(HEADER)
        for byte in out.read():
            raw.send(bytes([byte]))
        data = b""
        while len(data) < 7:
            try:
                data += session.read()
            except ssl.SSLWantReadError:
                incoming.write(raw.socket.recv(65536))
        equal("the answer begins with a method frame", data[:3], b"\1\0\0")


# --- new files ---------------------------------------------------------------------------------

NEWS = "the files of TLS have changed and are in use from now on"
STAYS = "what was read before stays in use"


class Live:
    """The files that the node uses, below a folder of their own: they are exchanged while it runs."""

    def __init__(self, cluster, pki):
        self.node, self.cluster, self.pki = cluster.nodes[0], cluster, pki
        self.folder = pki.live

    def put(self, name, source):
        """Over the old one, byte by byte as cp does it."""
        shutil.copyfile(self.pki.path(source), os.path.join(self.folder, name))

    def status(self):
        return (self.cluster.ctl_json("status") or {}).get("tls_certificate") or {}

    def shown(self):
        """The common name of the certificate that a client sees now."""
        context = ssl.create_default_context(cafile=self.pki.path("ca.pem"))
        context.load_cert_chain(self.pki.path("client.pem"), self.pki.path("client.key"))
        with socket.create_connection(("127.0.0.1", self.node.tls_port)) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as session:
            subject = session.getpeercert()["subject"]
        return dict(pair for rdn in subject for pair in rdn)["commonName"]

    def await_shown(self, name):
        wait_until(lambda: self.shown() == name, 20, f"the certificate of {name} is in use")

    def await_refused(self, part):
        wait_until(lambda: part in self.status().get("problem", ""), 20,
                   f"the files are refused: {part}")

    def lets_in(self, certificate):
        Tls(self.node.tls_port, self.pki, certificate).open().bye()


@check(*PEER, live=True)
def a_new_certificate_counts_without_a_restart(cluster, pki):
    live = Live(cluster, pki)
    equal("before", live.shown(), "localhost")
    steady = Tls(live.node.tls_port, pki).open()
    live.put("server.pem", "next.pem")
    live.put("server.key", "next.key")
    live.await_shown("next")
    equal("status", [live.status()[k] for k in ("subject", "issuer", "problem")],
          ["CN=next", "CN=ca", ""])
    equal("lines", log_of(cluster, live.node).count(NEWS), 1)
    wait_for_line(cluster, live.node, "of 'CN=next' by 'CN=ca', is valid until "
                  + live.status()["valid_until"])
    round_trip(steady)
    steady.bye()
    code, text = cluster.ctl(live.node, "status")
    if code != 0 or f"Valid until: {live.status()['valid_until']}" not in text:
        raise ClusterError(f"status: {text}")


@check(*PEER, "ssl_options.fail_if_no_peer_cert = true", live=True)
def new_authorities_count_without_a_restart(cluster, pki):
    live = Live(cluster, pki)
    add_user(cluster, DN)
    steady = Tls(live.node.tls_port, pki, "client").external()
    cannot_connect(cluster, pki, "stranger")
    live.put("ca.pem", "stranger-ca.pem")
    wait_for_line(cluster, live.node, NEWS)
    live.lets_in("stranger")
    cannot_connect(cluster, pki, "client")
    round_trip(steady)      # he was let in, and stays
    steady.bye()


@check(*PEER, live=True)
def files_that_are_no_good_change_nothing(cluster, pki):
    live = Live(cluster, pki)
    live.put("server.pem", "server.ext")
    live.await_refused("ssl_options.certfile: ")
    for _ in range(20):
        equal("shown", live.shown(), "localhost")
        live.lets_in("client")
    wait_for_line(cluster, live.node, STAYS)
    code, text = cluster.ctl(live.node, "status")
    if code != 0 or "The files that are there now are not used: ssl_options.certfile: " not in text:
        raise ClusterError(f"status: {text}")
    os.unlink(os.path.join(live.folder, "ca.pem"))
    live.put("server.pem", "next.pem")
    live.put("server.key", "next.key")
    live.await_refused("ssl_options.cacertfile: ")
    equal("of a good certificate with missing authorities nothing is used", live.shown(), "localhost")
    live.put("ca.pem", "ca.pem")
    live.await_shown("next")
    equal("problem", live.status()["problem"], "")


@check(*PEER, live=True)
def a_key_may_come_after_its_certificate(cluster, pki):
    live = Live(cluster, pki)
    live.put("server.pem", "next.pem")
    live.await_refused("key values mismatch")
    equal("in between", live.shown(), "localhost")
    live.put("server.key", "next.key")
    live.await_shown("next")
    wait_for_line(cluster, live.node, STAYS)
    wait_for_line(cluster, live.node, NEWS)


@check(*PEER, live=True)
def files_behind_a_link_that_is_flipped_are_seen(cluster, pki):
    live = Live(cluster, pki)
    for name in ("server", "next"):
        folder = os.path.join(live.folder, "data-" + name)
        os.mkdir(folder)
        for file, source in (("ca.pem", "ca.pem"), ("server.pem", name + ".pem"),
                             ("server.key", name + ".key")):
            shutil.copyfile(pki.path(source), os.path.join(folder, file))

    def flip(name):
        path = os.path.join(live.folder, "..data")
        os.symlink("data-" + name, path + "_tmp")
        os.rename(path + "_tmp", path)
    flip("server")
    for file in ("ca.pem", "server.pem", "server.key"):
        os.symlink(os.path.join("..data", file), os.path.join(live.folder, file + "_tmp"))
        os.rename(os.path.join(live.folder, file + "_tmp"), os.path.join(live.folder, file))
    equal("shown", live.shown(), "localhost")
    flip("next")
    live.await_shown("next")
    flip("server")
    live.await_shown("localhost")
    equal("refused", log_of(cluster, live.node).count(STAYS), 0)


@check(*PEER, live=True)
def a_certificate_that_ends_soon_is_a_warning(cluster, pki):
    live = Live(cluster, pki)
    live.put("server.pem", "soon.pem")
    live.put("server.key", "soon.key")
    wait_for_line(cluster, live.node, "of 'CN=soon' by 'CN=ca', expires in 9 days: it is valid until")
    live.put("server.pem", "expired.pem")
    live.put("server.key", "expired.key")
    wait_for_line(cluster, live.node, "of 'CN=late' by 'CN=ca', has expired: it was valid until")


# --- memory ------------------------------------------------------------------------------------

def growth_by_a_lazy_consumer(node, feeder, lazy, queue):
    """How much more the node keeps when it has 64 MiB for a consumer that reads nothing."""
    size = 1 << 20
    frames = b"".join(frame(BODY, 1, bytes(size // 16)) for _ in range(16))
    feeder.send(queue_declare(1, queue, 0))
    feeder.expect(50, 11)
    lazy.send(method(1, 60, 20, b"\0\0" + short(queue) + short("") + b"\2" + bytes(4)))
    lazy.expect(60, 21)
    before = node.rss_bytes()
    for _ in range(64):
        feeder.send(publish(1, "", queue) + content(1, size) + frames, queue_declare(1, queue, 0))
        feeder.expect(50, 11, 30)
    return node.rss_bytes() - before


@check(*PEER)
def clients_that_do_not_read_cost_no_more_than_without_tls(cluster, pki):
    node = cluster.nodes[0]
    feeder, plain, lazy = Raw(node.amqp_port).open(), Raw(node.amqp_port).open(), \
        Tls(node.tls_port, pki).open()
    first = growth_by_a_lazy_consumer(node, feeder, plain, "plain")
    second = growth_by_a_lazy_consumer(node, feeder, lazy, "tls")
    print(f"   MiB for a consumer that reads nothing of 64: plain {first >> 20}, TLS {second >> 20}")
    if second > first + (8 << 20):
        raise ClusterError("that is more")
    plain.close()
    lazy.close()
    feeder.close()


@check(*PEER)
def idle_connections_are_cheap(cluster, pki):
    node = cluster.nodes[0]
    sizes, raws = {}, []
    for kind, connect in (("plain", lambda: Raw(node.amqp_port).open(channel=False)),
                          ("TLS", lambda: Tls(node.tls_port, pki).open(channel=False)),
                          ("TLS with a certificate",
                           lambda: Tls(node.tls_port, pki, "client").open(channel=False))):
        raws += [connect() for _ in range(20)]
        before = node.rss_bytes()
        raws += [connect() for _ in range(IDLE)]
        sizes[kind] = (node.rss_bytes() - before) // IDLE
    print("   bytes of an idle connection: " +
          ", ".join(f"{kind} {size}" for kind, size in sizes.items()))
    for raw in raws:
        raw.close()
    wait_until(lambda: not rows(cluster, "user"), 30, "all are gone")


# --- clients and clusters ----------------------------------------------------------------------

def suites(cluster, pki, names):
    """The client suites over TLS; they take the authority from the environment."""
    environment = dict(os.environ, SSL_CERT_FILE=pki.path("ca.pem"),
                       NODE_EXTRA_CA_CERTS=pki.path("ca.pem"))
    uris = ",".join(f"amqps://guest:guest@localhost:{node.tls_port}" for node in cluster.nodes)
    compat = os.path.join(clusters.ROOT, "tests", "compat")
    code = subprocess.run([sys.executable, os.path.join(compat, "run.py"), "--uris", uris, "--only",
                           ",".join(names), "--later", os.path.join(compat, "later.txt"), "--jobs",
                           "2", "--leave-out"], env=environment, check=False).returncode
    if code != 0:
        raise ClusterError("a client suite failed")


def pika_by_certificate(cluster, pki):
    client = clients.Client("python")
    client.ensure()
    add_user(cluster, DN)
    for node in cluster.nodes:
        done = subprocess.run([client.python, os.path.join(HERE, "tls_pika.py"),
                               f"amqps://localhost:{node.tls_port}/%2F", pki.path("ca.pem"),
                               pki.path("client.pem"), pki.path("client.key")], check=False)
        equal("pika", done.returncode, 0)


@check(*PEER)
def clients_on_one_node(cluster, pki):
    pika_by_certificate(cluster, pki)
    suites(cluster, pki, ("python", "go"))


@check(*PEER, nodes=3)
def clients_on_three_nodes(cluster, pki):
    pika_by_certificate(cluster, pki)
    suites(cluster, pki, ("python", "go"))


@check(*PEER, nodes=3)
def warren_perf_by_certificate(cluster, pki):
    add_user(cluster, DN)
    uris = ",".join(f"amqps://localhost:{node.tls_port}" for node in cluster.nodes)
    trust = ["--cacert", pki.path("ca.pem")]
    ours = ["--cert", pki.path("client.pem"), "--key", pki.path("client.key"), "-se"]
    load = ["-x2", "-y2", "-s", "50000", "-c", "50", "-q", "50", "-f", "persistent", "-u", "load",
            "-C500", "--quiet"]
    for more, wanted in ((trust + ours, 0), (ours, 0), (["--cacert", pki.path("stranger-ca.pem")], 1)):
        done = subprocess.run([PERF, "-H", uris, *load, *more], check=False)
        equal(f"warren-perf {more}", done.returncode, wanted)


# --- starting ----------------------------------------------------------------------------------

def does_not_start(options, pki, folder, lines, code, text):
    """The node ends with the code and says why."""
    driver = Warren(options, pki, lines, tls_ports(options))
    with clusters.Cluster(driver, 1, folder, ports=plain_ports(options)) as cluster:
        node = cluster.nodes[0]
        cluster.start(node)
        wait_until(lambda: not node.running, 20, "the node ends")
        said = cluster.tail(node)
        if node.process.returncode != code or text not in said:
            raise ClusterError(f"it ended with {node.process.returncode}: {said}")


def starts_only_with_what_it_needs(options, pki, folder):
    for number, (line, code, text) in enumerate((
            ("ssl_options.certfile = /nowhere/cert.pem", 1,
             "ssl_options.certfile: /nowhere/cert.pem: No such file or directory"),
            (f"ssl_options.keyfile = {pki.path('client.key')}", 1, "key values mismatch"),
            (f"ssl_options.keyfile = {pki.path('pkcs8.key')}", 1, "pkcs8.key: "),
            ("ssl_options.dhfile = /f", 78, "'ssl_options.dhfile' is not supported: only elliptic"),
            (f"ssl_options.certfile = {pki.path('server.ext')}", 1, "server.ext: "),
            ("ssl_options.ciphers.1 = NONE-SUCH", 1, "'NONE-SUCH' is no cipher suite known here"),
            ("ssl_options.verify = maybe", 78,
             "bad value for 'ssl_options.verify': expected verify_peer or verify_none"),
            ("ssl_options.versions.1 = sslv3", 78, "expected tlsv1.2 or tlsv1.3"),
            ("ssl_options.fail_if_no_peer_cert = true", 78, "needs ssl_options.verify"),
            ("auth_mechanisms.1 = EXTERNAL", 78, "needs listeners.ssl and"))):
        does_not_start(options, pki, f"{folder}-{number}", [line], code, text)


def plain_ports(options):
    first, end = clusters.port_range(options.ports)
    return first, (first + end) // 2


def tls_ports(options):
    first, end = clusters.port_range(options.ports)
    return (first + end) // 2, end


def make_pki(folder):
    pki = Pki(folder)
    pki.certificate("server", "/CN=localhost")
    pki.certificate("client", SUBJECT, "DNS:client.example.org,email:j@example.org")
    pki.certificate("expired", "/CN=late", days=-1)
    pki.certificate("next", "/CN=next")
    pki.certificate("soon", "/CN=soon", days=10)
    pki.certificate("middle", "/CN=middle", authority=True)
    pki.certificate("lower", "/CN=lower", issuer="middle", authority=True)
    for name, issuer, chain in (("deep", "middle", ["middle.pem"]),
                                ("deeper", "lower", ["lower.pem", "middle.pem"])):
        pki.certificate(name, f"/CN={name}", issuer=issuer)
        pki.join(name + ".pem", name + ".pem", *chain)
    pki.lock("pkcs8.key", "server.key", "secret")
    pki.lock("traditional.key", "server.key", "secret", traditional=True)
    pki.certificate("stranger", "/CN=stranger", issuer="stranger-ca")
    return pki


def form(cluster, pki, lines):
    """Without PLAIN the usual question whether a node is ready has no answer."""
    if any(line.endswith("= PLAIN") for line in lines if "auth_mechanisms" in line):
        cluster.form()
        return
    cluster.start_all()

    def listens():
        try:
            with Tls(cluster.nodes[0].tls_port, pki) as raw:
                return raw.start()
        except (OSError, Ended):
            return False
    wait_until(listens, clusters.START_S, "the node greets")


def live_files(pki, folder):
    """What the server uses, once more; the lines for it."""
    pki.live = folder
    os.makedirs(folder)
    for name in ("ca.pem", "server.pem", "server.key"):
        shutil.copyfile(pki.path(name), os.path.join(folder, name))
    return tuple(f"ssl_options.{key} = {os.path.join(folder, name)}" for key, name in (
        ("cacertfile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key")))


def run_check(options, pki, folder, chosen):
    name, function, lines, nodes, _both, live = chosen
    lines = tuple(line.replace("PKI/", pki.path("")) for line in lines)
    lines += live_files(pki, f"{folder}-{name}-live") if live else ()
    driver = (Rabbit if options.driver == "rabbitmq" else Warren)(options, pki, lines,
                                                                   tls_ports(options))
    with clusters.Cluster(driver, nodes, f"{folder}-{name}", ports=plain_ports(options)) as cluster:
        try:
            form(cluster, pki, lines)
            function(cluster, pki)
            problems = cluster.end()
            if problems:
                raise ClusterError("; ".join(problems))
        except BaseException:
            print(log_of(cluster, cluster.nodes[0])[-6000:])
            raise


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    parser.add_argument("--check", default="", help="only those whose name contains this")
    options = parser.parse_args()
    folder = os.path.abspath(options.folder or
                             os.path.join(clusters.ROOT, ".dev", "real", f"tls-{os.getpid()}"))
    pki = make_pki(folder + "-pki")
    failed = done = 0
    for chosen in CHECKS:
        if options.check not in chosen[0] or (options.driver == "rabbitmq" and not chosen[4]):
            continue
        begun = time.monotonic()
        try:
            run_check(options, pki, folder, chosen)
            print(f"ok {chosen[0]} ({time.monotonic() - begun:.1f} s)", flush=True)
        except (ClusterError, OSError, ValueError, Ended) as error:
            failed += 1
            print(f"not ok {chosen[0]}: {type(error).__name__} {error}", flush=True)
        done += 1
    if options.driver == "warren" and options.check in "starting":
        try:
            starts_only_with_what_it_needs(options, pki, folder + "-start")
            print("ok starting", flush=True)
        except (ClusterError, OSError) as error:
            failed += 1
            print(f"not ok starting: {error}", flush=True)
        done += 1
    print(f"{done - failed} checks passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
