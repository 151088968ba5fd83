"""What the checks share: connections that rotate over the URIs, names, waiting, comparing errors."""

import contextlib
import fnmatch
import os
import time
import traceback

import pika
from pika import exceptions as px

DEADLINE_S = 10


class Failed(Exception):
    pass


def expect(condition, why):
    if not condition:
        raise Failed(why)


def equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got!r} instead of {wanted!r}"[:600])


class Context:
    """One check: its connections, its names, and what it must clean up."""

    def __init__(self, uris, queue_type, number):
        self.uris, self.queue_type, self.number = uris, queue_type, number
        self.opened, self.queues, self.exchanges, self.serial = [], [], [], 0

    def params(self, index=None, **changes):
        if index is None:
            index = self.number + len(self.opened)
        params = pika.URLParameters(self.uris[index % len(self.uris)])
        params.blocked_connection_timeout = 30
        for key, value in changes.items():
            setattr(params, key, value)
        return params

    def connect(self, **changes):
        connection = pika.BlockingConnection(self.params(**changes))
        self.opened.append(connection)
        return connection

    def channel(self, confirm=False):
        channel = self.connect().channel()
        if confirm:
            channel.confirm_delivery()
        return channel

    def name(self, kind="q"):
        self.serial += 1
        name = f"compat.python.{os.getpid()}.{self.number}.{kind}{self.serial}"
        (self.exchanges if kind == "x" else self.queues).append(name)
        return name

    def type_args(self, **more):
        args = {"x-queue-type": "quorum"} if self.queue_type == "quorum" else {}
        args.update({"x-" + k.replace("_", "-"): v for k, v in more.items()})
        return args

    def queue(self, channel, **args):
        """The queue: durable, of the type given on the command line."""
        name = self.name()
        channel.queue_declare(name, durable=True, arguments=self.type_args(**args))
        return name

    def classic(self, channel, **args):
        name = self.name()
        channel.queue_declare(name, durable=True, arguments={
            "x-" + k.replace("_", "-"): v for k, v in args.items()})
        return name

    def exchange(self, channel, kind="direct", **options):
        name = self.name("x")
        channel.exchange_declare(name, kind, **options)
        return name

    def clean(self):
        for connection in self.opened:
            with contextlib.suppress(px.AMQPError):
                if connection.is_open:
                    connection.close()
        if not self.queues and not self.exchanges:
            return
        connection = pika.BlockingConnection(self.params(self.number))
        channel = connection.channel()
        for name in self.queues:
            channel.queue_delete(name)
        for name in self.exchanges:
            channel.exchange_delete(name)
        connection.close()


def until(test, what):
    """The first true value of test(), within the deadline."""
    end = time.monotonic() + DEADLINE_S
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.02)


def closed(kind, code, text, call, *args, **options):
    """call() must end with the broker closing the channel or the connection with code and text."""
    exception = px.ChannelClosedByBroker if kind == "channel" else px.ConnectionClosedByBroker
    try:
        call(*args, **options)
    except exception as error:
        equal(error.reply_code, code, "reply code")
        if text.endswith("..."):
            expect(error.reply_text.startswith(text[:-3]), f"reply text: {error.reply_text!r}")
        elif text.startswith("..."):
            expect(text[3:] in error.reply_text, f"reply text: {error.reply_text!r}")
        else:
            equal(error.reply_text, text, "reply text")
    else:
        raise Failed(f"no {kind} error {code}")


def pump(channel, test, what):
    """Lets the connection work until test() is true."""
    end = time.monotonic() + DEADLINE_S
    while not test():
        if time.monotonic() > end:
            raise Failed(f"not within {DEADLINE_S} s: {what}")
        channel.connection.process_data_events(0.05)


def quiet(channel, seconds=0.3):
    """Lets the connection work for a moment in which nothing should happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        channel.connection.process_data_events(0.05)


class Consumer:
    """Collects deliveries as (method, properties, body)."""

    def __init__(self, channel, queue, **options):
        self.channel, self.got = channel, []
        self.tag = channel.basic_consume(
            queue, lambda _c, m, p, b: self.got.append((m, p, b)), **options)

    def wait(self, count):
        pump(self.channel, lambda: len(self.got) >= count, f"{count} deliveries")
        return self.got

    def bodies(self):
        return [body for _m, _p, body in self.got]


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def wait_count(channel, queue, wanted):
    until(lambda: count(channel, queue) == wanted, f"{wanted} messages in {queue}")


def get(channel, queue, auto_ack=True):
    """A message of the queue; waits for one."""
    def one():
        found = channel.basic_get(queue, auto_ack)
        if found[0] is None:
            return None
        # RabbitMQ 3 adds it to what is taken from a quorum queue for the first time, 4 does not
        if found[1].headers and found[1].headers.get("x-delivery-count") == 0:
            del found[1].headers["x-delivery-count"]
            found[1].headers = found[1].headers or None
        return found
    return until(one, f"a message in {queue}")


def run(checks, uris, queue_type, pattern):
    left_out = os.environ.get("COMPAT_EXCEPT", "").split()
    chosen = [(i, n, f) for i, (n, f) in enumerate(checks)
              if fnmatch.fnmatchcase(n, pattern) and n not in left_out]
    print(f"1..{len(chosen)}", flush=True)
    failures = 0
    for number, name, function in chosen:
        context = Context(uris, queue_type, number)
        why = None
        try:
            function(context)
        except Failed as error:
            why = str(error)
        except Exception as error:  # pylint: disable=broad-except
            where = traceback.extract_tb(error.__traceback__)
            line = [f.lineno for f in where if f.filename.endswith("checks.py")] or [0]
            why = f"{type(error).__name__} {error} (line {line[-1]})"
        try:
            context.clean()
        except Exception as error:  # pylint: disable=broad-except
            why = why or f"cleaning up: {type(error).__name__} {error}"
        if why is None:
            print(f"ok {name}", flush=True)
        else:
            failures += 1
            print(f"not ok {name}: {' '.join(why.split())}", flush=True)
    return 1 if failures else 0
