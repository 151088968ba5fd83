#!/usr/bin/env python3
"""warrenctl's output as scripts read it: formats, columns, options, texts and exit codes.

With --driver rabbitmq the same checks run on rabbitmqctl, but for those that are marked `ours`.
"""

import argparse
import json
import re
import struct
import subprocess
import sys

import cluster as clusters
from amqp_raw import (BODY, Raw, content, frame, longstr, method, publish, queue_declare, short,
                      start_ok, tune_ok, vhost_open)
from cluster import ClusterError, wait_until
from ctl_run import Failed, expect, run_ctl

WAIT_S = 60
PASSIVE, DURABLE, EXCLUSIVE, NOWAIT = 1, 2, 4, 16
LONG = 450
PID = re.compile(r"<[^<>@]+@[^<>]+\.\d+\.\d+\.\d+>")
USAGE, DATA, UNAVAILABLE, IO_ERROR = 64, 65, 69, 74
TABLE = b"".join((short("x-max-length") + b"I" + (10).to_bytes(4, "big"),
                  short("x-queue-mode") + b"S" + longstr("lazy"),
                  short("x-bytes") + b"x" + longstr("b"),
                  short("x-dict") + b"F" + longstr(short("a") + b"t\1"),
                  short("x-dead-letter-exchange") + b"S" + longstr(""),
                  short("x-none") + b"x" + longstr(""), short("") + b"t\1"))
TABLE_TEXT = '[{"x-max-length",10},{"x-queue-mode","lazy"},{"x-bytes",<<"b">>},{"x-dict",[{"a",true}]},' \
             '{"x-dead-letter-exchange",[]},{"x-none",<<>>},{[],true}]'
TABLE_JSON = [["x-max-length", "signedint", 10], ["x-queue-mode", "longstr", "lazy"],
              ["x-bytes", "binary", "b"],
              ["x-dict", "table", [["a", "bool", True]]],
              ["x-dead-letter-exchange", "longstr", ""], ["x-none", "binary", ""], ["", "bool", True]]
QUEUE_COLUMNS = (
    "arguments auto_delete consumer_capacity consumer_utilisation consumers disk_reads disk_writes "
    "durable exclusive exclusive_consumer_pid exclusive_consumer_tag head_message_timestamp leader "
    "members memory message_bytes message_bytes_persistent message_bytes_ram message_bytes_ready "
    "message_bytes_unacknowledged messages messages_persistent messages_ram messages_ready "
    "messages_ready_ram messages_unacknowledged messages_unacknowledged_ram name online owner_pid "
    "pid policy slave_pids state synchronised_slave_pids type").split()
# what Warren does not count: empty, never a wrong number
UNKNOWN = ("messages_ram", "messages_ready_ram", "messages_unacknowledged_ram", "message_bytes_ram",
           "disk_reads", "disk_writes", "memory")
CONNECTION_COLUMNS = (
    "auth_mechanism channel_max channels client_properties connected_at frame_max host name "
    "peer_cert_issuer peer_cert_subject peer_cert_validity peer_host peer_port pid port protocol "
    "recv_cnt recv_oct send_cnt send_oct send_pend ssl ssl_cipher ssl_hash ssl_key_exchange "
    "ssl_protocol state timeout user vhost").split()
CHANNEL_COLUMNS = (
    "acks_uncommitted confirm connection consumer_count global_prefetch_count "
    "messages_unacknowledged messages_uncommitted messages_unconfirmed name number pid "
    "prefetch_count transactional user vhost").split()
CONSUMER_COLUMNS = ("queue_name channel_pid consumer_tag ack_required prefetch_count active "
                    "activity_status arguments").split()


class Checks:
    def __init__(self, cluster):
        self.cluster = cluster
        self.node = cluster.nodes[0]
        self.ours = cluster.driver.name == "warren"

    def run(self, *arguments):
        return run_ctl(self.cluster, self.node, *arguments)

    def out(self, *arguments):
        code, text, errors = self.run(*arguments)
        if code != 0 or errors:
            raise Failed(f"{' '.join(arguments)}: {code} {errors}")
        return text

    def rows(self, *arguments):
        return [line.split("\t") for line in self.out("-s", *arguments).splitlines()]

    def objects(self, *arguments):
        return json.loads(self.out("-s", "--formatter", "json", *arguments))

    # --- what a listing looks like -------------------------------------------------------------

    def banners_and_headers(self):
        head = "Timeout: 60.0 seconds ...\nListing queues for vhost / ...\n"
        full = self.out("list_queues", "name", "durable")
        expect("with banner", full.startswith(head + "name\tdurable\n"), True)
        expect("-q", self.out("-q", "list_queues", "name", "durable"), full[len(head):])
        expect("-s", self.out("-s", "list_queues", "name", "durable"),
               full[len(head + "name\tdurable\n"):])
        expect("--no-table-headers",
               self.out("list_queues", "name", "durable", "--no-table-headers"),
               full.replace("name\tdurable\n", "", 1))
        expect("nothing to list", self.out("-q", "list_queues", "--offline"), "")

    def options_in_other_forms(self):
        wanted = self.out("-q", "list_queues", "name", "messages")
        for arguments in (("list_queues", "name,messages", "-q"),
                          ("list_queues", "--quiet", "--vhost=/", "--formatter=table"),
                          ("-q", "list_queues", "-p", "/", "-t", "30"),
                          ("-qp", "/", "list_queues"), ("list_queues", "-qt", "30"),
                          ("list_queues", "--quiet=true", "--online=true"),
                          ("list_queues", "-q", "--offline=false"),
                          ("-q", "list_queues", "--online")):
            expect(arguments, self.out(*arguments), wanted)
        expect("-sq", self.out("list_queues", "-sq"), self.out("list_queues", "-s"))
        expect("-s in CSV", self.out("-s", "list_queues", "--formatter", "csv"),
               self.out("list_queues", "--formatter", "csv"))

    def tables_in_every_format(self):
        names = {row[0]: row[1] for row in self.rows("list_queues", "name", "arguments")}
        expect("table", names["ctl.args"], TABLE_TEXT)
        expect("empty table", names["ctl.plain"], "[]")
        names = {row["name"]: row["arguments"]
                 for row in self.objects("list_queues", "name", "arguments")}
        expect("json", names["ctl.args"], TABLE_JSON)
        expect("empty in json", names["ctl.plain"], [])
        lines = self.out("--formatter", "csv", "list_queues", "name", "arguments").splitlines()
        expect("csv header", lines[0], '"name","arguments"')
        for line in ('"ctl.args","' + TABLE_TEXT.replace('"', '""') + '"',
                     '"ctl,""quoted""","[]"'):
            expect(line, line in lines, True)

    def erlang_terms(self):
        text = self.out("-q", "--formatter", "erlang", "list_queues", "name", "messages")
        expect("row", '[{name,<<"ctl.plain">>},{messages,0}]' in text, True)
        expect("whole", re.fullmatch(r"\[\[\{.*\}\](,\n \[\{.*\}\])*\]\n", text) is not None, True)

    def nul_bytes_in_names(self):
        """One client's odd names must not keep everybody's rows from the operator."""
        name, text = "ctl\0nul", "ctl\\000nul"
        names = {row[0]: row[1] for row in self.rows("list_queues", "name", "arguments")}
        if self.ours:               # of control characters in RabbitMQ's tables: Erlang's business
            expect("table", names[text], '[{"x-nul","a\\000b"}]')
            expect("csv", f'"{text}"' in self.out("--formatter", "csv", "list_queues"), True)
            expect("erlang", f'<<"{text}">>' in self.out("--formatter", "erlang", "list_queues"),
                   True)
        names = {row["name"]: row["arguments"]
                 for row in self.objects("list_queues", "name", "arguments")}
        expect("json", names[name], [["x-nul", "longstr", "a\0b"]])
        expect("binding", name in [row["routing_key"] for row in self.objects("list_bindings")],
               True)
        with Raw(self.node.amqp_port) as odd:
            open_with_nul(odd)
            tags = [row["consumer_tag"] for row in self.objects("list_consumers")]
            products = [{field[0]: field[2] for field in row["client_properties"]}.get("product")
                        for row in self.objects("list_connections", "client_properties")]
        expect("consumer", name in tags, True)
        expect("connection", "ctl\0product" in products, True)
        if self.ours:
            expect("body", [row["body"] for row in self.objects("peek", "ctl.args")], ["a\0b"])
            expect("body in a table", "a\\000b" in self.out("-s", "peek", "ctl.args"), True)

    # --- every column that is documented --------------------------------------------------------

    def every_column(self):
        for command, columns in (("list_queues", QUEUE_COLUMNS),
                                 ("list_connections", CONNECTION_COLUMNS),
                                 ("list_channels", CHANNEL_COLUMNS),
                                 ("list_consumers", CONSUMER_COLUMNS)):
            lines = self.out("-q", command, *columns).split("\n")
            expect(f"{command}: header", lines[0].split("\t"), columns)
            for line in lines[1:-1]:
                expect(f"{command}: cells of {line!r}", line.count("\t"), len(columns) - 1)
            for row in self.objects(command, *columns):
                expect(f"{command}: keys", list(row), columns)

    def columns_are_there_once(self):
        for arguments in (("name", "durable", "name"), ("name,durable,name", "durable")):
            expect(arguments, self.out("-q", "list_queues", *arguments),
                   self.out("-q", "list_queues", "name", "durable"))
        expect("of vhosts", self.out("-q", "list_vhosts", "name", "name").split("\n")[0], "name")
        code, text, errors = self.run("list_queues", "zz", "name", "aa,zz")
        expect("unknown ones", (code, text, errors.split("\n")[0]),
               (USAGE, "", "Error (argument validation): Info key(s) aa,zz are not supported"))

    def consumers_come_in_a_fixed_order(self):
        expect("header", self.out("-q", "list_consumers", "consumer_tag", "queue_name").split("\n")[0],
               "queue_name\tconsumer_tag")

    def types_in_json(self):
        queue = next(row for row in self.objects("list_queues", *QUEUE_COLUMNS)
                     if row["name"] == "ctl.excl")
        for column in QUEUE_COLUMNS:
            if not column.startswith("message") and column not in UNKNOWN + ("consumers", ):
                continue
            if self.ours and column in UNKNOWN:
                expect(f"{column} is not known", queue[column], "")
            else:
                expect(f"{column} is a number", isinstance(queue[column], (int, float)), True)
        expect("flags", (queue["durable"], queue["exclusive"]), (False, True))
        expect("nothing there", (queue["policy"], queue["slave_pids"]), ("", ""))
        connection = self.objects("list_connections", *CONNECTION_COLUMNS)[0]
        expect("addresses", (connection["host"], connection["peer_host"]), ([127, 0, 0, 1],) * 2)
        expect("protocol", connection["protocol"], [0, 9, 1])
        expect("no certificate", (connection["ssl"], connection["ssl_cipher"]), (False, ""))

    def pids_of_one_thing_are_one(self):
        (connection, ), = self.rows("list_connections", "pid")
        (channel, of), = self.rows("list_channels", "pid", "connection")
        (consumed, ), = self.rows("list_consumers", "channel_pid")
        queues = {row[0]: row[1:] for row in self.rows(
            "list_queues", "name", "pid", "owner_pid", "exclusive_consumer_pid",
            "exclusive_consumer_tag")}
        for pid in (connection, channel, queues["ctl.excl"][0]):
            expect(f"{pid} is a pid", PID.fullmatch(pid) is not None, True)
        expect("the channel's connection", of, connection)
        expect("the consumer's channel", consumed, channel)
        expect("the exclusive queue", queues["ctl.excl"][1:], [connection, channel, "tag"])
        expect("another queue", queues["ctl.plain"][1:], ["", "", ""])

    def what_was_got_is_unacknowledged(self):
        """By basic.get too, of two queues on one channel, until it is settled."""
        def unacknowledged():
            return max(row["messages_unacknowledged"] for row in self.objects(
                "list_channels", "messages_unacknowledged"))
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            for name in ("ctl.got.1", "ctl.got.2"):
                raw.send(queue_declare(1, name, EXCLUSIVE))
                raw.expect(50, 11)
                for _ in range(3):
                    raw.send(publish(1, "", name), content(1, 0))
                for no_ack in (b"\0", b"\0", b"\1"):
                    raw.send(method(1, 60, 70, b"\0\0" + short(name) + no_ack))
                    raw.expect(60, 71)
            expect("got", unacknowledged(), 4)
            raw.send(method(1, 60, 80, struct.pack(">QB", 2, 1)))
            wait_until(lambda: unacknowledged() == 2, WAIT_S, "two to be settled")
            raw.send(method(0, 10, 50, b"\0\xc8" + short("") + b"\0\0\0\0"))
            raw.expect(10, 51, WAIT_S)

    def prefetch_of_consumers(self):
        """The channel's when it was consumed, with and without acknowledgements; not the limit over a channel."""
        quorum = short("x-queue-type") + b"S" + longstr("quorum")
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            for name, flags, arguments in (("ctl.seven", EXCLUSIVE, b""), ("ctl.q", DURABLE, quorum)):
                raw.send(queue_declare(1, name, flags, arguments))
                raw.expect(50, 11, WAIT_S)
            for count, over_channel, consumers in (
                    (7, b"\0", (("ctl.seven", "m7", 0), ("ctl.seven", "a7", 2),
                                ("ctl.q", "qm7", 0), ("ctl.q", "qa7", 2))),
                    (11, b"\1", (("ctl.seven", "a7g", 2), )),
                    (4, b"\0", (("ctl.seven", "a4", 2), ("ctl.seven", "m4", 0))),
                    (0, b"\0", (("ctl.seven", "a0", 2), ))):
                raw.send(method(1, 60, 10, struct.pack(">IH", 0, count) + over_channel))
                raw.expect(60, 11, WAIT_S)
                for queue, tag, flags in consumers:
                    raw.send(method(1, 60, 20, b"\0\0" + short(queue) + short(tag) + bytes([flags]) +
                                    longstr(b"")))
                    raw.expect(60, 21, WAIT_S)
            found = {row["consumer_tag"]: row["prefetch_count"] for row in self.objects(
                "list_consumers", "consumer_tag", "prefetch_count") if row["consumer_tag"] != "tag"}
            expect("prefetch", found, {"m7": 7, "a7": 7, "qm7": 7, "qa7": 7, "a7g": 7, "a4": 4,
                                       "m4": 4, "a0": 0})
            raw.send(method(1, 50, 40, b"\0\0" + short("ctl.q") + b"\0"))
            raw.expect(50, 41, WAIT_S)
            raw.send(method(0, 10, 50, b"\0\xc8" + short("") + b"\0\0\0\0"))
            raw.expect(10, 51, WAIT_S)

    def bindings_are_sorted(self):
        rows = [row for row in self.rows("list_bindings") if row[0] == "amq.headers"]
        expect("rows", rows, [["amq.headers", "exchange", "ctl.plain", "queue", "",
                               '[{"a",true},{"x-match","all"}]']])

    def long_lists_are_whole(self):
        """Lists that take a node several turns."""
        names = [f"ctl.long.{i}" for i in range(LONG)]
        with Raw(self.node.amqp_port, timeout=WAIT_S).open() as raw:
            declare_long(raw, names)
            queues = self.objects("list_queues", "name", "consumers", "state")
            bindings = self.objects("list_bindings", "source_name", "destination_name", "routing_key")
            # pids as a table has them: RabbitMQ's JSON has those of the tool's own point of view
            consumers = self.rows("list_consumers", "queue_name", "channel_pid", "consumer_tag")
            exchanges = [row["name"] for row in self.objects("list_exchanges", "name")]
            raw.send(*(method(1, 40, 20, b"\0\0" + short(name) + b"\2") for name in names))
            raw.send(method(0, 10, 50, b"\0\xc8" + short("") + b"\0\0\0\0"))
            raw.expect(10, 51, WAIT_S)
        wanted = sorted(names)
        expect("queues", sorted((row["name"], row["consumers"], row["state"]) for row in queues
                                if row["name"] in names),
               [(name, 1, "running") for name in wanted])
        expect("default bindings", sorted(row["destination_name"] for row in bindings
                                          if row["source_name"] == "" and
                                          row["routing_key"] in names), wanted)
        expect("bindings", sorted((row["destination_name"], row["routing_key"]) for row in bindings
                                  if row["source_name"] == "amq.topic"),
               [(name, f"{name}.*") for name in wanted])
        expect("consumers", sorted(tag for queue, _, tag in consumers if queue == tag), wanted)
        expect("their channels", [pid for _, pid, _ in consumers if not PID.fullmatch(pid)], [])
        expect("exchanges", sorted(name for name in exchanges if name in names), wanted)

    # --- commands --------------------------------------------------------------------------------

    def ping(self):
        expect("-q", self.out("-q", "ping"), "Ping succeeded\n")
        expect("json", json.loads(self.out("--formatter", "json", "ping")),
               {"message": "Ping succeeded"})
        expect("await_startup", self.out("await_startup"), "")

    def status_as_json(self):
        status = json.loads(self.out("--formatter", "json", "status"))
        expect("totals", (status["totals"]["connection_count"],
                          status["totals"]["virtual_host_count"]), (1, 1))
        expect("alarms", status["alarms"], [])
        expect("listeners", self.node.amqp_port in [row["port"] for row in status["listeners"]], True)
        expect("process", status["pid"] in self.node.pids(), True)
        for name in ("disk_free", "disk_free_limit", "uptime", "vm_memory_high_watermark_limit"):
            expect(name, isinstance(status[name], int), True)
        counts = status["file_descriptors"]
        expect("descriptors", sorted(counts), ["sockets_limit", "sockets_used", "total_limit", "total_used"])
        expect("their order", (0 < counts["sockets_used"] < counts["sockets_limit"] < counts["total_limit"],
                               counts["total_used"] < counts["total_limit"]), (True, True))
        memory = status["memory"]
        expect("memory", (memory["strategy"], isinstance(memory["total"]["rss"], int)), ("rss", True))
        expect("watermark", round(status["vm_memory_high_watermark_setting"]["relative"], 6),
               status["vm_memory_high_watermark_setting"]["relative"])
        expect("texts", (status["os"], status["vm_memory_calculation_strategy"], len(status["config_files"])),
               ("Linux", "rss", 1))
        expect("plugins", status["active_plugins"], [])
        cluster = json.loads(self.out("--formatter", "json", "cluster_status"))
        expect("running", cluster["running_nodes"], [self.node.name])
        expect("maintenance", cluster["maintenance_status"], {self.node.name: "not under maintenance"})

    def status_in_units(self):
        for unit, number in (("mb", r"\d+\.\d{1,4}"), ("GB", r"\d+\.\d{1,4}"), ("bytes", r"\d+")):
            text = self.out("status", "--unit", unit)
            for line in ("Total memory used: ", "Low free disk space watermark: ",
                         "Free disk space: "):
                expect(f"{line} in {unit}", re.search(f"^{line}{number} {unit}$", text, re.M) is not None,
                       True)
        expect("no zeros at the end", "Low free disk space watermark: 0.05 gb\n" in self.out("status"),
               True)
        text = self.out("status")
        for line in (r"OS PID: \d+", "OS: Linux", r"Total: \d+, limit: \d+", r"Sockets: \d+, limit: \d+",
                     r" \* .*\.conf", r"[a-z_]+: \d+\.\d+ gb \(\d+\.\d+ %\)"):
            expect(line, re.search(f"^{line}$", text, re.M) is not None, True)
        expect("a listener", f"\nInterface: 127.0.0.1, port: {self.node.amqp_port}, protocol: amqp, "
               in self.out("status"), True)
        expect("of the cluster", f"\nNode: {self.node.name}, status: not under maintenance\n" in
               self.out("cluster_status"), True)

    # --- wrong usage -------------------------------------------------------------------------------

    def wrong_usage(self):
        for arguments, line in (
                (("list_queus", ), "Did you mean 'list_queues'? "),
                (("list_queues", "nosuch", "name", "other"),
                 "Error (argument validation): Info key(s) nosuch,other are not supported"),
                (("status", "extra"), "Error (argument validation): too many arguments."),
                (("list_queues", "--nosuch"),
                 "Error (argument validation): Invalid options for this command:"),
                (("status", "--unit", "kib"), "Error (argument validation): \"unit 'kib' is not supported. "
                 "Please use one of: bytes, mb, gb\""),
                (("list_queues", "--nosuch=1"), "--nosuch : "),
                (("list_queues", "--timeout=abc"), "--timeout : abc"),
                (("list_queues", "-t", "abc"), "-t : abc"),
                (("list_queues", "--online=x"), "--online : x"),
                (("list_queues", "--version"), "--version : "),
                (("autocomplete", ), "Error (argument validation): not enough arguments."),
                (("ping", "--local"), "--local : ")):
            code, text, errors = self.run(*arguments)
            expect(f"{arguments}: exit code", code, USAGE)
            expect(f"{arguments}: stdout", text, "")
            expect(f"{arguments}: {line!r} in {errors!r}", line in errors.split("\n"), True)

    def help_is_no_error(self):
        for arguments in (("help", ), ("help", "list_queues"), ("list_queues", "--help")):
            expect(arguments, "Usage" in self.out(*arguments), True)
        expect("columns", "exclusive_consumer_pid" in self.out("help", "list_queues"), True)

    def without_a_node(self):
        """What a shell's completion and an installer's check of the version ask."""
        expect("names", self.out("autocomplete", "close_"),
               "close_all_connections\nclose_all_user_connections\nclose_connection\n")
        expect("none", self.out("autocomplete", "nosuch"), "")
        command, environment = self.cluster.driver.ctl(self.node)
        for arguments, wanted in ((["--version"], r"\d+\.\d+\.\d+\n"),
                                  (["--auto-complete", "list_q"], "list_queues\n")):
            done = subprocess.run([command[0], *arguments], capture_output=True, text=True,
                                  check=False, timeout=WAIT_S, env=environment)
            expect(arguments, (done.returncode, done.stderr), (0, ""))
            expect(f"{arguments}: {done.stdout}", re.fullmatch(wanted, done.stdout) is not None, True)

    def messages_of_no_node(self):
        if self.ours:
            for arguments in (("peek", "q"), ("peek", "q", "--formatter", "json"), ("move", "a", "b")):
                code, text, _errors = self.run("-n", "nosuch@localhost", *arguments)
                expect(arguments, (code, text.startswith("{") or text == ""), (UNAVAILABLE, True))

    def other_nodes(self):
        first = "Error: unable to perform an operation on node 'nosuch@localhost'."
        for arguments in (("-n", "nosuch@localhost", "list_queues"),
                          ("-n", "nosuch@localhost", "status"),
                          ("-n", "nosuch@localhost", "list_users"),
                          ("-n", "nosuch@localhost", "add_user", "u"),
                          ("-n", "nosuch@localhost", "delete_queue", "q"),
                          ("-n", "nosuch@localhost", "close_all_connections", "bye")):
            code, text, errors = self.run(*arguments)
            expect(f"{arguments}: exit code", (code, text), (UNAVAILABLE, ""))
            expect(f"{arguments}: {errors!r}", errors.startswith(first), True)
        code, text, errors = self.run("--erlang-cookie", "wrong", "list_queues")
        expect("wrong cookie", (code, text, errors.startswith("Error: unable to perform")),
               (UNAVAILABLE, "", True))

    def bytes_that_are_no_text(self):
        """A request cannot hold them. Left out of it, a filter would match every message."""
        if self.ours:
            before = self.out("-s", "list_queues", "name", "messages")
            for arguments in (("delete_messages", "ctl.args", "--filter", b"routing_key = '\xe9'"),
                              ("list_queues", "-p", b"\xff"), ("peek", b"ctl\xff"),
                              ("close_all_connections", "-p", b"\xff", "bye"),
                              ("add_vhost", "odd", "--description", b"caf\xe9")):
                expect(arguments, self.run(*arguments),
                       (DATA, "", "Error:\nan argument is not UTF-8\n"))
            expect("messages", self.out("-s", "list_queues", "name", "messages"), before)
            expect("vhosts", self.out("-s", "list_vhosts"), "/\n")

    def output_that_is_lost(self):
        if self.ours:
            command, environment = self.cluster.driver.ctl(self.node, "list_queues", "name")
            with open("/dev/full", "wb") as full:
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True,
                                      check=False, timeout=WAIT_S, env=environment)
            expect("exit code", done.returncode, IO_ERROR)
            expect("text", done.stderr.startswith("Error:\nstandard output: "), True)

    def missing_vhost(self):
        """RabbitMQ lists nothing and is content; a name that is mistyped should be said."""
        if self.ours:
            expect("list_queues", self.run("-q", "-p", "nosuch", "list_queues"),
                   (DATA, "", "Error:\nVirtual host 'nosuch' does not exist\n"))

    def stop(self):
        if self.ours:
            missing = self.cluster.folder + "/no-pid-file"
            expect("no PID file", self.run("stop", missing)[0], DATA)
            pid_file = self.cluster.folder + "/pid"
            with open(pid_file, "w", encoding="utf-8") as file:
                file.write(str(self.node.process.pid))
            command, environment = self.cluster.driver.ctl(self.node, "stop", pid_file)
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as stopping:
                # the process is our child: it is there until we have asked for its end
                wait_until(lambda: not self.node.running, WAIT_S, "the node ends")
                expect("exit code", stopping.wait(WAIT_S), 0)
            # a sanitizer's report would show here
            expect("the node's exit code", self.node.process.returncode, 0)
            expect("it is stopped", self.run("stop")[0], UNAVAILABLE)
            expect("--idempotent", self.run("stop", "--idempotent")[0], 0)

    def no_time_and_no_deeds(self):
        """--timeout 0 is over at once; with --dry-run nothing is done."""
        for arguments in (("list_users", "-t", "0"), ("add_vhost", "ctl.none", "--timeout=0")):
            code, text, errors = self.run(*arguments)
            expect(arguments, (code, text, errors), (75, "", f"Error: operation {arguments[0]} on node "
                                                     f"{self.node.name} timed out. Timeout value used: 0\n"))
        for text in ("abc", "1.5"):
            expect(text, self.run("list_users", "-t", text)[0], USAGE)
        expect("three weeks, less three days", self.run("-q", "list_users", "-t", "604800")[0], 0)
        expect("dry run", self.out("delete_user", "guest", "--dry-run"), 'Deleting user "guest" ...\n')
        expect("of a list", self.out("list_users", "--dry-run"), "Listing users ...\n")
        expect("users", [row["user"] for row in self.objects("list_users")], ["guest"])
        expect("vhosts", "ctl.none" in self.out("-q", "list_vhosts"), False)

    def all(self):
        return [self.banners_and_headers, self.options_in_other_forms, self.tables_in_every_format,
                self.nul_bytes_in_names, self.erlang_terms, self.every_column, self.columns_are_there_once, self.consumers_come_in_a_fixed_order,
                self.types_in_json, self.pids_of_one_thing_are_one,
                self.what_was_got_is_unacknowledged, self.prefetch_of_consumers, self.bindings_are_sorted,
                self.ping, self.status_as_json, self.status_in_units, self.wrong_usage, self.help_is_no_error, self.without_a_node,
                self.messages_of_no_node, self.other_nodes, self.bytes_that_are_no_text, self.output_that_is_lost, self.missing_vhost, self.no_time_and_no_deeds, self.long_lists_are_whole,
                self.stop]


def declare_long(raw, names):
    """So many exclusive queues with a binding and a consumer each, and so many exchanges."""
    for name in names:
        raw.send(queue_declare(1, name, EXCLUSIVE | NOWAIT),
                 method(1, 50, 20, b"\0\0" + short(name) + short("amq.topic") + short(f"{name}.*") +
                        b"\1" + longstr(b"")),
                 method(1, 40, 10, b"\0\0" + short(name) + short("fanout") + bytes([NOWAIT]) +
                        longstr(b"")),
                 method(1, 60, 20, b"\0\0" + short(name) + short(name) + b"\x08" + longstr(b"")))
    raw.send(queue_declare(1, names[-1], PASSIVE))
    raw.expect(50, 11, WAIT_S)


def prepare(raw):
    """What the checks find: some queues, a binding, a connection with a channel and a consumer."""
    for name, flags, arguments in (("ctl.plain", DURABLE, b""), ("ctl.args", DURABLE, TABLE),
                                   ('ctl,"quoted"', DURABLE, b""), ("ctl.excl", EXCLUSIVE, b"")):
        raw.send(queue_declare(1, name, flags, arguments))
        raw.expect(50, 11, 20)
    headers = short("x-match") + b"S" + longstr("all") + short("a") + b"t\1"
    raw.send(method(1, 50, 20, b"\0\0" + short("ctl.plain") + short("amq.headers") + short("") +
                    b"\0" + longstr(headers)))
    raw.expect(50, 21, 20)
    raw.send(method(1, 60, 20, b"\0\0" + short("ctl.excl") + short("tag") + b"\4" + longstr(b"")))
    raw.expect(60, 21, 20)
    name = "ctl\0nul"
    raw.send(queue_declare(1, name, DURABLE, short("x-nul") + b"S" + longstr("a\0b")),
             publish(1, "", "ctl.args"), content(1, 3), frame(BODY, 1, b"a\0b"))
    raw.expect(50, 11, 20)


def open_with_nul(raw):
    """A client that calls itself something odd."""
    raw.start()
    raw.send(start_ok(properties=short("product") + b"S" + longstr("ctl\0product")))
    raw.expect(10, 30)
    raw.send(tune_ok(), vhost_open())
    raw.expect(10, 41)
    raw.open_channel(1)
    raw.send(method(1, 60, 20, b"\0\0" + short("ctl.plain") + short("ctl\0nul") + b"\0" + longstr(b"")))
    raw.expect(60, 21, 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    clusters.add_options(parser)
    options = parser.parse_args()
    cluster = clusters.from_options(options, 1, "ctl")
    failed = 0
    try:
        with cluster:
            cluster.form()
            cluster.wait_ready()
            checks = Checks(cluster)
            with Raw(cluster.nodes[0].amqp_port).open() as raw:
                prepare(raw)
                for check in checks.all():
                    try:
                        check()
                        print(f"ok {check.__name__}")
                    except (Failed, ClusterError, KeyError, ValueError, IndexError,
                            subprocess.TimeoutExpired) as error:
                        failed += 1
                        print(f"not ok {check.__name__}: {error!r}")
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(checks.all()) - failed} checks passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
