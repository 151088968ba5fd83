"""What a script is given: connections, channels, names. Everything that goes over them is recorded."""

import collections
import re
import struct
import threading
import time

from amqp_codec import CONTENT_METHODS, Octets, put_content, put_method, put_table, take_header, take_method
from amqp_raw import BODY, CONTENT, METHOD, Ended, start_ok, tune_ok, vhost_open

DEADLINE_S = 10.0
CLEAN_S = 15.0
NOW_S = 300                 # how far the time of a death may be from ours
SHOWN = 100                 # of a long string
CAPABILITIES = ("authentication_failure_close", "consumer_cancel_notify", "connection.blocked",
                "basic.nack", "publisher_confirms", "exchange_exchange_bindings")
OWN = ("basic.deliver", "basic.return", "basic.ack", "basic.nack", "basic.cancel")
KINDS = ("transient", "durable", "quorum")
GENERATED = ((re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}"), "amq.gen-*"),
             (re.compile(r"amq\.ctag-[A-Za-z0-9_-]{22}"), "amq.ctag-*"),
             (re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9+/=_.-]+"), "amq.rabbitmq.reply-to.*"),
             (re.compile(r"\b(rabbit|warren)[0-9-]*@localhost\b"), "<node>"),
             (re.compile(r"<[0-9]+\.[0-9]+\.[0-9]+>"), "<pid>"))


class Stop(Exception):
    """The script cannot go on; why has been recorded."""


def tidy(text):
    for pattern, instead in GENERATED:
        text = pattern.sub(instead, text)
    return text


def quoted(data, whole=False):
    """Octets as text on one line; long ones are cut but for their length."""
    data = data if isinstance(data, bytes) else str(data).encode()
    size = len(data)
    cut = size > SHOWN and not whole
    try:
        text = (data[:24] if cut else data).decode()
    except UnicodeDecodeError:
        text = (data[:24] if cut else data).decode("latin-1")
    text = "".join(c if c.isprintable() and c != "\\" else f"\\x{ord(c):02x}" for c in text)
    return f"'{tidy(text)}'" + (f"...({size})" if cut else "")


def shown_value(value, ordered):
    letter, inner = value
    if letter in "Sx":
        return f"{letter}:{quoted(inner)}"
    if letter == "A":
        return "A[" + " ".join(shown_value(item, ordered) for item in inner) + "]"
    if letter == "F":
        return "F" + shown_table(inner, ordered)
    if letter == "T" and abs(inner - time.time()) < NOW_S:
        return "T:now"
    return letter if letter == "V" else f"{letter}:{inner}"


def shown_table(table, ordered=True):
    pairs = table if ordered else sorted(table, key=lambda pair: pair[0])
    return "{" + " ".join(f"{n}={shown_value(v, ordered)}" for n, v in pairs) + "}"


def shown_field(name, value):
    if isinstance(value, list):
        # the broker's own headers: in which order they come is nobody's promise
        ordered = not any(key in ("x-death", "x-delivery-count") for key, _ in value)
        return f"{name}={shown_table(value, ordered)}"
    if isinstance(value, bytes):
        return f"{name}={quoted(value, whole=name == 'text')}"
    return f"{name}={value}"


def shown(event):
    """A line for what came."""
    name, values, properties, body = event
    words = [name]
    if name in ("channel.close", "connection.close"):
        words += [str(values["code"]), quoted(values["text"], True),
                  f"for {values['class']}.{values['method']}"]
        return " ".join(words)
    words += [shown_field(*pair) for pair in values.items()]
    if properties is not None:
        words += [shown_field(*pair) for pair in properties] + [f"body={quoted(body)}"]
    return " ".join(words)


def shown_sent(name, values):
    """A line for what was sent: only the fields that were given."""
    words = [name]
    for key, value in values.items():
        if isinstance(value, (str, bytes)) and not isinstance(value, Octets):
            value = quoted(value)
        if isinstance(value, list):         # a decoded table that a script sends back
            value = "as they came"
        if value != {}:
            words.append(f"{key.replace('_', '-')}={value}")
    return " ".join(words)


class Channel:
    def __init__(self, connection, number):
        self.connection, self.number = connection, number
        self.inbox, self.open = collections.deque(), True
        self.label = f"{connection.label}{number}"
        self.partial = None             # a method that waits for its content
        self.confirm_next = 1

    # --- recording and sending ---------------------------------------------------------------

    def record(self, mark, text):
        self.connection.test.record(f"{self.label} {mark} {text}")

    def stop(self, text):
        self.record("!", text)
        raise Stop()

    def usable(self):
        if not self.open:
            self.stop("is closed")

    def send(self, method, **values):
        self.usable()
        self.record(">", shown_sent(method, values))
        self.connection.raw.send(put_method(self.number, method, **values))

    def send_together(self, *calls):
        """Methods (name, values) in one packet."""
        self.usable()
        for method, values in calls:
            self.record(">", shown_sent(method, values))
        self.connection.raw.send(*[put_method(self.number, method, **values)
                                   for method, values in calls])

    def publish(self, exchange, key, body="", properties=None, mandatory=0, immediate=0, **more):
        """`properties` may be Octets; `more` are properties by name."""
        self.usable()
        body = body if isinstance(body, bytes) else body.encode()
        what = dict(exchange=exchange, key=key, body=body)
        if mandatory:
            what["mandatory"] = 1
        if immediate:
            what["immediate"] = 1
        self.record(">", shown_sent("basic.publish", {**what, **more}))
        more = properties if properties is not None else more
        self.connection.raw.send(
            put_method(self.number, "basic.publish", exchange=exchange, key=key,
                       mandatory=mandatory, immediate=immediate), put_content(self.number, body, more))

    # --- what comes --------------------------------------------------------------------------

    def find(self, names):
        for event in self.inbox:
            if event[0] in names:
                self.inbox.remove(event)
                return event
        return None

    def next(self, names, seconds=None):
        """The next event that is one of these, None when the channel was closed instead."""
        end = time.monotonic() + (seconds or DEADLINE_S)
        while True:
            event = self.find(names)
            if event is not None:
                return event
            if not self.open:
                return None
            try:
                self.connection.pump(end)
            except TimeoutError:
                self.stop(f"nothing came: {' '.join(names)}")

    def call(self, method, in_order=False, **values):
        """Sends and waits for the reply: its fields, None when the channel was closed. With
        in_order what came by itself before the reply is recorded before it."""
        self.send(method, **values)
        if values.get("nowait"):
            return {}
        replies = ("basic.get-ok", "basic.get-empty") if method == "basic.get" else (method + "-ok",)
        event = self.next(replies)
        if event is None:
            return None
        if in_order:
            for own in [e for e in self.inbox if e[0] in OWN]:
                self.inbox.remove(own)
                self.record("<", shown(own))
        self.record("<", shown(event))
        return event[1]

    def take(self, count, *names, seconds=None):
        """`count` things that come by themselves, all or those with one of the names."""
        found = []
        for _ in range(count):
            event = self.next(names or OWN, seconds)
            if event is None:
                break
            self.record("<", shown(event))
            found.append(event[1])
        return found

    def deliveries(self, count, seconds=None):
        return self.take(count, "basic.deliver", seconds=seconds)

    def confirms(self, count, seconds=None):
        """Waits until `count` more publishes are confirmed; each number once, in order of numbers;
        a return that comes between is recorded before the confirm that it precedes."""
        first, answers = self.confirm_next, {}
        while len(answers) < count:
            event = self.next(("basic.ack", "basic.nack", "basic.return"), seconds)
            if event is None:
                return
            if event[0] == "basic.return":
                self.record("<", shown(event))
                continue
            tag = event[1]["tag"]
            numbers = range(first, tag + 1) if event[1]["multiple"] else (tag,)
            for number in numbers:
                if number not in answers:
                    answers[number] = event[0][6:]
                elif not event[1]["multiple"]:
                    self.record("!", f"publish {number} is confirmed twice")
        for number in sorted(answers):
            self.record("<", f"publish {number}: {answers[number]}")
        self.confirm_next = first + count

    def sync(self):
        """A round trip that has no effect, not recorded: what was sent before has been read, and
        refused if it is to be."""
        self.usable()
        self.connection.raw.send(put_method(self.number, "channel.flow", active=1))
        return self.next(("channel.flow-ok",)) is not None

    def send_channel_open(self, number):
        """As the connection's own channel: one that may be refused."""
        self.record(">", f"channel.open {number}")
        self.connection.raw.send(put_method(number, "channel.open"))

    def closed(self):
        """Waits for the close that must come, which is recorded."""
        end = time.monotonic() + DEADLINE_S
        while self.open:
            try:
                self.connection.pump(end)
            except TimeoutError:
                self.stop("is still open")

    def close(self):
        """At the end; what nobody asked for is recorded."""
        if not self.open:
            return
        self.connection.raw.send(put_method(self.number, "channel.close", code=200))
        self.next(("channel.close-ok",))
        self.open = False
        for event in self.inbox:
            self.record("<", "surplus " + shown(event))
        self.inbox.clear()


class Connection:
    def __init__(self, test, label, port, capabilities=CAPABILITIES, user="guest",
                 password="guest", vhost="/"):
        self.test, self.label, self.port, self.left = test, label, port, 0
        self.raw, self.channels, self.alive = test.broker.raw(port, DEADLINE_S), {}, True
        self.own = Channel(self, 0)
        self.own.label = label
        self.channels[0] = self.own
        self.raw.start()
        can = put_table({"capabilities": {name: True for name in capabilities}})
        self.raw.send(start_ok(user, password, properties=can[4:]))
        self.raw.expect(10, 30)
        self.raw.send(tune_ok(), vhost_open(vhost))
        self.raw.expect(10, 41)

    def channel(self, number=None):
        number = number or max(self.channels) + 1
        channel = self.channels[number] = Channel(self, number)
        self.raw.send(put_method(number, "channel.open"))
        channel.next(("channel.open-ok",))
        return channel

    def pump(self, end):
        """Reads one frame and does what must be done at once."""
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError()
        try:
            kind, number, payload = self.raw.read_frame(left)
        except (Ended, ValueError, struct.error):
            self.test.record(f"{self.label} ! the peer hung up")
            self.gone()
            return
        channel = self.channels.get(number)
        if channel is None:
            self.test.record(f"{self.label} ! a frame for channel {number}")
        elif kind == METHOD:
            name, values = take_method(payload)
            if name in CONTENT_METHODS:
                channel.partial = [name, values, None, b""]
            else:
                self.came(channel, (name, values, None, None))
        elif kind == CONTENT:
            size, properties = take_header(payload)
            channel.partial[2], self.left = properties, size
            self.content(channel, b"")
        elif kind == BODY:
            self.content(channel, payload)

    def content(self, channel, data):
        channel.partial[3] += data
        self.left -= len(data)
        if self.left == 0:
            self.came(channel, tuple(channel.partial))
            channel.partial = None

    def came(self, channel, event):
        name = event[0]
        if name in ("channel.close", "connection.close"):
            channel.record("<", shown(event))
            channel.open = False
            self.raw.send(put_method(channel.number, name + "-ok"))
            if name == "connection.close":
                self.gone()
            return
        channel.inbox.append(event)

    def gone(self):
        self.alive = False
        for channel in self.channels.values():
            channel.open = False

    def closed(self):
        self.own.closed()

    def end(self):
        """As a client that closes nothing but the connection: its channels are open."""
        self.raw.send(put_method(0, "connection.close", code=200))
        self.own.next(("connection.close-ok",))
        self.gone()
        self.raw.close()

    def close(self):
        """In order; what was left is recorded."""
        if not self.alive:
            return
        for channel in list(self.channels.values())[1:]:
            channel.close()
        if self.alive:
            self.raw.send(put_method(0, "connection.close", code=200))
            self.own.next(("connection.close-ok",))
            self.gone()
        self.raw.close()


class Test:
    """One run of one script on one broker."""

    def __init__(self, broker, name, kind=None):
        self.broker, self.script, self.kind = broker, name, kind
        self.lines, self.connections, self.names, self.undo = [], [], [], []
        self.quiet, self.elsewhere = 0, True

    def record(self, text):
        if not self.quiet:
            self.lines.append(tidy(text).replace(f"{self.script}.", "$"))

    def name(self, suffix):
        """A name that is this script's own; what is called so is deleted at the end."""
        name = f"{self.script}.{suffix}"
        if name not in self.names:
            self.names.append(name)
        return name

    def connect(self, **options):
        """The connections are called a, b, c ..., and go to the nodes in turn."""
        label = "abcdefghij"[len(self.connections)]
        ports = self.broker.ports
        connection = Connection(self, label, ports[len(self.connections) % len(ports)], **options)
        self.connections.append(connection)
        return connection

    def refused(self, user="guest", password="guest", vhost="/"):
        """A connection that must not come about: why."""
        with self.broker.raw() as raw:
            raw.start()
            can = put_table({"capabilities": {name: True for name in CAPABILITIES}})
            raw.send(start_ok(user, password, properties=can[4:]))
            found = raw.read_method(DEADLINE_S)
            if found[1:3] == (10, 30):
                raw.send(tune_ok(), vhost_open(vhost))
                found = raw.read_method(DEADLINE_S)
            name, values = take_method(struct.pack(">HH", *found[1:3]) + found[3])
            self.record(f"refused? {user}, {vhost}: {shown((name, values, None, None))}")

    def channel(self):
        """A channel of a new connection."""
        return self.connect().channel()

    def queue(self, channel, suffix="q", arguments=None, **flags):
        """Declares a queue of the kind that the script is run with: its name."""
        fresh = f"{self.script}.{suffix}" not in self.names
        name, arguments = self.name(suffix), dict(arguments or {})
        if self.kind == "quorum":
            arguments["x-queue-type"] = "quorum"
        if self.kind in ("quorum", "durable"):
            flags["durable"] = 1
        if fresh and self.elsewhere and not flags.get("exclusive"):
            self.led_elsewhere(channel, name, arguments, flags)
        channel.call("queue.declare", queue=name, arguments=arguments, **flags)
        return name

    def led_elsewhere(self, channel, name, arguments, flags):
        """In a cluster: declares the queue over another node than the channel's first, so that it
        is led there. What is wrong with it the script hears. Not recorded."""
        ports = self.broker.ports
        other = ports[(ports.index(channel.connection.port) + 1) % len(ports)]
        if other == channel.connection.port:
            return
        with self.broker.raw(other) as raw:
            raw.open()
            raw.send(put_method(1, "queue.declare", queue=name, arguments=arguments, **flags))
            raw.read_method(DEADLINE_S)

    def exchange(self, channel, kind, suffix="x", arguments=None, **flags):
        name = self.name(suffix)
        channel.call("exchange.declare", exchange=name, type=kind, arguments=arguments or {}, **flags)
        return name

    def bind(self, channel, exchange, queue, key="", arguments=None):
        channel.call("queue.bind", queue=queue, exchange=exchange, key=key, arguments=arguments or {})

    def counts(self, queue, messages=None, consumers=None, seconds=None):
        """Waits until the queue has so many ready messages and consumers; the last counts are
        recorded. Counts may lag behind what a channel has been told."""
        end, found = time.monotonic() + (seconds or DEADLINE_S), None
        with self.broker.raw() as raw:
            raw.open()
            while True:
                raw.send(put_method(1, "queue.declare", queue=queue, passive=1))
                _, class_id, method_id, arguments = raw.read_method(DEADLINE_S)
                if (class_id, method_id) != (50, 11):
                    self.record(f"! counts: {queue} cannot be looked at")
                    raise Stop()
                values = take_method(struct.pack(">HH", 50, 11) + arguments)[1]
                found = values["messages"], values["consumers"]
                if (messages in (None, found[0]) and consumers in (None, found[1])) or \
                        time.monotonic() > end:
                    break
                time.sleep(0.01)
        shown_messages = found[0] if messages is not None else "-"
        shown_consumers = found[1] if consumers is not None else "-"
        self.record(f"counts of {queue}: messages={shown_messages} consumers={shown_consumers}")

    def counts_here(self, channel, queue, messages):
        """As counts, over a channel of the script: of a queue that nobody else may look at."""
        end, found = time.monotonic() + DEADLINE_S, None
        while found != messages and time.monotonic() < end:
            channel.usable()
            channel.connection.raw.send(
                put_method(channel.number, "queue.declare", queue=queue, passive=1))
            event = channel.next(("queue.declare-ok",))
            if event is None:
                return
            found = event[1]["messages"]
        self.record(f"counts of {queue}: messages={found}")

    def send_end(self, channel, queue):
        """A last message, so that a script knows that nothing else comes before it."""
        channel.connection.raw.send(
            put_method(channel.number, "basic.publish", exchange="", key=queue, mandatory=0,
                       immediate=0), put_content(channel.number, b"end", {}))

    def gone(self, queue, seconds=None):
        """Waits until the queue does not exist. Asked by binding it, which is no use of it, as
        declaring it would be."""
        end = time.monotonic() + (seconds or DEADLINE_S)
        with self.broker.raw() as raw:
            raw.open()
            while True:
                raw.send(put_method(1, "queue.bind", queue=queue, exchange="amq.match"))
                class_id, method_id = raw.read_method(DEADLINE_S)[1:3]
                if (class_id, method_id) == (20, 40):
                    self.record(f"{queue} is gone")
                    return
                if time.monotonic() > end:
                    self.record(f"! {queue} is still there")
                    raise Stop()
                time.sleep(0.02)

    def no_exchange(self, name):
        """Waits until there is no exchange of that name."""
        end = time.monotonic() + DEADLINE_S
        with self.broker.raw() as raw:
            raw.open()
            while True:
                raw.send(put_method(1, "exchange.declare", exchange=name, passive=1))
                if raw.read_method(DEADLINE_S)[1:3] == (20, 40):
                    self.record(f"{name} is gone")
                    return
                if time.monotonic() > end:
                    self.record(f"! {name} is still there")
                    raise Stop()
                time.sleep(0.02)

    def let_pass(self, ms):
        """Waits until `ms` have gone by: only where the passing of time is what a script is about,
        and nothing can be seen to happen."""
        self.record(f"{ms} ms pass")
        threading.Event().wait(ms / 1000)

    def ctl(self, *arguments, undo=()):
        """Runs rabbitmqctl or warrenctl; `undo` is run at the end."""
        if undo:
            self.undo.append(undo)
        code = self.broker.ctl(*arguments)
        self.record(f"ctl {' '.join(arguments)}: {code}")

    def finish(self):
        """Closes what is open, in order, and deletes what was made."""
        for connection in self.connections:
            try:
                connection.close()
            except Stop:
                pass
            except (OSError, Ended) as error:
                self.record(f"{connection.label} ! closing: {type(error).__name__}")
        for arguments in self.undo:
            self.broker.ctl(*arguments)
        if not self.names:
            return
        with self.broker.raw() as raw:
            raw.open()
            for name in self.names:
                for method, field in (("queue.delete", "queue"), ("exchange.delete", "exchange")):
                    raw.send(put_method(1, method, **{field: name}))
                    raw.read_method(CLEAN_S)
