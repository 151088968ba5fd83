"""The checks of tests/compat/README.md through pika."""

import datetime
import decimal
import os
import re

import pika
from pika import exceptions as px

from harness import (Consumer, Failed, closed, count, equal, expect, get, pump, quiet, until,
                     wait_count)

CHECKS = []
Props = pika.BasicProperties


def check(name):
    def add(function):
        CHECKS.append((name, function))
        return function
    return add


def text_no_queue(name):
    return f"NOT_FOUND - no queue '{name}' in vhost '/'"


def text_no_exchange(name):
    return f"NOT_FOUND - no exchange '{name}' in vhost '/'"


def fill(channel, queue, number, first=0):
    for i in range(first, first + number):
        channel.basic_publish("", queue, str(i).encode(), Props(delivery_mode=2))
    wait_count(channel, queue, number)


# Connections and channels.

@check("connect.good")
def connect_good(t):
    connection = t.connect()
    channel = connection.channel()
    expect(channel.is_open, "channel not open")
    channel.close()
    connection.close()
    expect(connection.is_closed, "not closed")


@check("connect.bad-password")
def connect_bad_password(t):
    try:
        t.connect(credentials=pika.PlainCredentials("guest", "wrong"))
    except px.ProbableAuthenticationError as error:
        expect("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
               "For details see the broker logfile." in str(error), f"text: {error}")
    else:
        raise Failed("accepted")


@check("connect.bad-vhost")
def connect_bad_vhost(t):
    try:
        t.connect(virtual_host="no-such")
    except px.AMQPConnectionError as error:
        expect("NOT_ALLOWED - vhost no-such not found" in repr(error), f"text: {error!r}")
    else:
        raise Failed("accepted")


@check("connect.properties")
def connect_properties(t):
    properties = t.connect()._impl.server_properties  # pylint: disable=protected-access
    expect(properties.get("product"), "no product")
    expect(re.match(r"\d+\.\d+\.\d+", str(properties.get("version"))), "no version")
    for name in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack",
                 "consumer_cancel_notify", "connection.blocked", "consumer_priorities",
                 "authentication_failure_close", "per_consumer_qos", "direct_reply_to"):
        equal(properties["capabilities"].get(name), True, f"capability {name}")


@check("connect.frame-max")
def connect_frame_max(t):
    channel = t.connect(frame_max=8192).channel()
    queue = t.queue(channel)
    body = os.urandom(100000)
    channel.basic_publish("", queue, body)
    equal(get(channel, queue)[2] == body, True, "body")


@check("connect.heartbeat")
def connect_heartbeat(t):
    connection = t.connect(heartbeat=1)
    channel = connection.channel()
    quiet(channel, 4)
    t.queue(channel)


@check("channel.many")
def channel_many(t):
    connection = t.connect()
    channels = [connection.channel() for _ in range(100)]
    queue = t.queue(channels[0])
    for channel in channels:
        channel.basic_publish("", queue, b"x")
    wait_count(channels[50], queue, 100)


@check("channel.reopen")
def channel_reopen(t):
    connection = t.connect()
    for _ in range(200):
        connection.channel(1).close()
    t.queue(connection.channel(1))


@check("channel.error-keeps-connection")
def channel_error(t):
    connection = t.connect()
    one, other = connection.channel(), connection.channel()
    name = t.name()
    closed("channel", 404, text_no_queue(name), one.queue_declare, name, passive=True)
    t.queue(other)
    t.queue(connection.channel())


# Exchanges.

@check("exchange.types")
def exchange_types(t):
    channel = t.channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        name = t.exchange(channel, kind, durable=True)
        channel.exchange_declare(name, kind, durable=True)
        channel.exchange_delete(name)
        closed("channel", 404, text_no_exchange(name), t.connect().channel().exchange_declare,
               name, passive=True)


@check("exchange.passive")
def exchange_passive(t):
    channel = t.channel()
    channel.exchange_declare(t.exchange(channel), passive=True)
    channel.exchange_declare("amq.topic", passive=True)


@check("exchange.passive-missing")
def exchange_passive_missing(t):
    name = t.name("x")
    closed("channel", 404, text_no_exchange(name), t.channel().exchange_declare, name,
           passive=True)


@check("exchange.inequivalent")
def exchange_inequivalent(t):
    channel = t.channel()
    name = t.exchange(channel)
    closed("channel", 406, f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{name}' "
           "in vhost '/': received 'fanout' but current is 'direct'",
           channel.exchange_declare, name, "fanout")


@check("exchange.unknown-type")
def exchange_unknown_type(t):
    try:
        t.channel().exchange_declare(t.name("x"), "no-such-type")
    except (px.ConnectionClosedByBroker, px.ChannelClosedByBroker) as error:
        expect(error.reply_code in (503, 406), f"code {error.reply_code}")
        expect("exchange type" in error.reply_text, f"text {error.reply_text}")
    else:
        raise Failed("accepted")


@check("exchange.reserved-name")
def exchange_reserved(t):
    closed("channel", 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix "
           "'amq.*'", t.channel().exchange_declare, "amq.mine", "direct")


@check("exchange.default-refused")
def exchange_default(t):
    channel = t.channel()
    queue = t.queue(channel)
    closed("channel", 403, "ACCESS_REFUSED - operation not permitted on the default exchange",
           channel.queue_bind, queue, "", "k")


@check("exchange.delete-missing")
def exchange_delete_missing(t):
    t.channel().exchange_delete(t.name("x"))


@check("exchange.delete-if-unused")
def exchange_if_unused(t):
    channel = t.channel()
    name, queue = t.exchange(channel), t.queue(channel)
    channel.queue_bind(queue, name, "k")
    closed("channel", 406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use",
           channel.exchange_delete, name, if_unused=True)
    channel = t.channel()
    channel.queue_unbind(queue, name, "k")
    channel.exchange_delete(name, if_unused=True)
    closed("channel", 404, text_no_exchange(name), channel.exchange_declare, name, passive=True)


@check("exchange.auto-delete")
def exchange_auto_delete(t):
    channel = t.channel()
    name, queue = t.exchange(channel, auto_delete=True), t.queue(channel)
    channel.exchange_declare(name, passive=True)
    channel.queue_bind(queue, name, "k")
    channel.queue_unbind(queue, name, "k")
    closed("channel", 404, text_no_exchange(name), channel.exchange_declare, name, passive=True)


@check("exchange.publish-missing")
def exchange_publish_missing(t):
    name = t.name("x")
    closed("channel", 404, text_no_exchange(name), t.channel(True).basic_publish, name, "k", b"x")


@check("exchange.internal")
def exchange_internal(t):
    channel = t.channel(True)
    name = t.exchange(channel, internal=True)
    closed("channel", 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in "
           "vhost '/'", channel.basic_publish, name, "k", b"x")


@check("exchange.alternate")
def exchange_alternate(t):
    channel = t.channel(True)
    alternate, queue = t.exchange(channel, "fanout"), t.queue(channel)
    channel.queue_bind(queue, alternate)
    name = t.exchange(channel, arguments={"alternate-exchange": alternate})
    channel.basic_publish(name, "nowhere", b"x", mandatory=True)
    equal(get(channel, queue)[2], b"x", "body")


# Queues.

@check("queue.named")
def queue_named(t):
    channel = t.channel()
    name = t.name()
    for _ in range(2):
        ok = channel.queue_declare(name, durable=True, arguments=t.type_args()).method
        equal((ok.queue, ok.message_count, ok.consumer_count), (name, 0, 0), "declare-ok")


@check("queue.server-named")
def queue_server_named(t):
    channel = t.channel()
    names = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    expect(names[0] != names[1], "the same name twice")
    expect(all(n.startswith("amq.gen-") for n in names), f"names {names}")


@check("queue.passive-missing")
def queue_passive_missing(t):
    name = t.name()
    closed("channel", 404, text_no_queue(name), t.channel().queue_declare, name, passive=True)


@check("queue.inequivalent")
def queue_inequivalent(t):
    channel = t.channel()
    name = t.classic(channel)
    closed("channel", 406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' "
           "in vhost '/': received 'false' but current is 'true'",
           t.channel().queue_declare, name, durable=False)


@check("queue.inequivalent-arg")
def queue_inequivalent_arg(t):
    channel = t.channel()
    name = t.queue(channel, max_length=10)
    closed("channel", 406, f"...inequivalent arg 'x-max-length' for queue '{name}' in vhost '/'",
           t.channel().queue_declare, name, durable=True, arguments=t.type_args(max_length=11))


@check("queue.bad-arg")
def queue_bad_arg(t):
    name = t.name()
    closed("channel", 406, f"...invalid arg 'x-message-ttl' for queue '{name}' in vhost '/'",
           t.channel().queue_declare, name, durable=True,
           arguments=t.type_args(message_ttl="soon"))


@check("queue.exclusive-locked")
def queue_exclusive(t):
    name = t.name()
    t.channel().queue_declare(name, exclusive=True)
    text = ("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue "
            f"'{name}' in vhost '/'...")
    other = t.connect()
    closed("channel", 405, text, other.channel().queue_declare, name, exclusive=True)
    closed("channel", 405, text, other.channel().queue_declare, name, passive=True)
    closed("channel", 405, text, other.channel().basic_consume, name, lambda *_: None)
    closed("channel", 405, text, other.channel().queue_purge, name)
    closed("channel", 405, text, other.channel().queue_delete, name)
    closed("channel", 405, text, other.channel().basic_get, name)
    t.queues.remove(name)


@check("queue.exclusive-gone")
def queue_exclusive_gone(t):
    name = t.name()
    owner = t.connect()
    owner.channel().queue_declare(name, exclusive=True)
    owner.close()
    closed("channel", 404, text_no_queue(name), t.channel().queue_declare, name, passive=True)


@check("queue.auto-delete")
def queue_auto_delete(t):
    channel = t.channel()
    name = t.name()
    channel.queue_declare(name, auto_delete=True)
    channel.queue_declare(name, passive=True)
    channel.basic_cancel(Consumer(channel, name).tag)
    closed("channel", 404, text_no_queue(name), channel.queue_declare, name, passive=True)


@check("queue.reserved-name")
def queue_reserved(t):
    closed("channel", 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix "
           "'amq.*'", t.channel().queue_declare, "amq.mine")


@check("queue.delete-missing")
def queue_delete_missing(t):
    equal(t.channel().queue_delete(t.name()).method.message_count, 0, "messages")


@check("queue.delete-if-unused")
def queue_if_unused(t):
    channel = t.channel()
    name = t.classic(channel)
    Consumer(channel, name)
    closed("channel", 406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use",
           t.channel().queue_delete, name, if_unused=True)


@check("queue.delete-if-empty")
def queue_if_empty(t):
    channel = t.channel()
    name = t.classic(channel)
    fill(channel, name, 1)
    closed("channel", 406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty",
           channel.queue_delete, name, if_empty=True)


@check("queue.purge")
def queue_purge(t):
    channel = t.channel()
    name = t.queue(channel)
    fill(channel, name, 3)
    equal(channel.queue_purge(name).method.message_count, 3, "purged")
    equal(channel.basic_get(name)[0], None, "message")


@check("queue.counts")
def queue_counts(t):
    channel, other = t.channel(), t.channel()
    name = t.queue(channel)
    channel.basic_qos(prefetch_count=1)
    fill(channel, name, 4)
    Consumer(channel, name).wait(1)
    until(lambda: (lambda m: (m.message_count, m.consumer_count) == (3, 1))(
        other.queue_declare(name, passive=True).method), "3 messages, 1 consumer")


@check("queue.bind-missing")
def queue_bind_missing(t):
    queue, name = t.queue(t.channel()), t.name("x")
    closed("channel", 404, text_no_exchange(name), t.channel().queue_bind, queue, name, "k")
    missing = t.name()
    closed("channel", 404, text_no_queue(missing), t.channel().queue_bind, missing,
           "amq.direct", "k")


@check("queue.unbind")
def queue_unbind(t):
    channel = t.channel(True)
    queue, name = t.queue(channel), t.exchange(channel)
    channel.queue_bind(queue, name, "k")
    channel.queue_unbind(queue, name, "k")
    channel.queue_unbind(queue, name, "k")
    channel.queue_unbind(queue, name, "never")
    channel.basic_publish(name, "k", b"x")
    equal(count(channel, queue), 0, "messages")


# Routing.

def arrived(channel, queue):
    """All bodies that are in the queue; to be called when all publishes are confirmed."""
    bodies = []
    while True:
        method, _properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body.decode())


@check("route.default")
def route_default(t):
    channel = t.channel(True)
    one, other = t.queue(channel), t.queue(channel)
    channel.basic_publish("", one, b"1")
    equal((arrived(channel, one), arrived(channel, other)), (["1"], []), "bodies")


@check("route.direct")
def route_direct(t):
    channel = t.channel(True)
    exchange = t.exchange(channel)
    queues = [t.queue(channel) for _ in range(3)]
    for queue, key in zip(queues, ("a", "a", "b")):
        channel.queue_bind(queue, exchange, key)
    for key in ("a", "b", "c", "A"):
        channel.basic_publish(exchange, key, key.encode())
    equal([arrived(channel, q) for q in queues], [["a"], ["a"], ["b"]], "bodies")


@check("route.fanout")
def route_fanout(t):
    channel = t.channel(True)
    exchange = t.exchange(channel, "fanout")
    queues = [t.queue(channel) for _ in range(3)]
    for queue in queues:
        channel.queue_bind(queue, exchange, "ignored")
    channel.basic_publish(exchange, "any", b"1")
    channel.basic_publish(exchange, "", b"2")
    equal([arrived(channel, q) for q in queues], [["1", "2"]] * 3, "bodies")


TOPIC_KEYS = ["", "a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", "."]
TOPIC_TABLE = {
    "#": TOPIC_KEYS,
    "*": ["a"],  # the empty key has no words at all
    "a": ["a"],
    "a.*": ["a.b"],
    "a.#": ["a", "a.b", "a.b.c", "a..b", "a.b.a.b"],
    "#.b": ["a.b", "a..b", "a.b.a.b"],
    "*.b": ["a.b"],
    "*.*": ["a.b", "b.a", "."],
    "a.*.b": ["a..b"],
    "#.a.#": ["a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b"],
    "*.#.*": ["a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", "."],
    "": [""],
}


@check("route.topic")
def route_topic(t):
    channel = t.channel(True)
    exchange = t.exchange(channel, "topic")
    queues = {}
    for pattern in TOPIC_TABLE:
        queues[pattern] = t.queue(channel)
        channel.queue_bind(queues[pattern], exchange, pattern)
    for key in TOPIC_KEYS:
        channel.basic_publish(exchange, key, key.encode())
    for pattern, wanted in TOPIC_TABLE.items():
        equal(arrived(channel, queues[pattern]), wanted, f"pattern {pattern!r}")


HEADER_CASES = [
    ("both", {"a": 1, "b": "x"}), ("one", {"a": 1}), ("other", {"b": "x"}),
    ("wrong", {"a": 2, "b": "y"}), ("mixed", {"a": 1, "b": "y"}),
    ("more", {"a": 1, "b": "x", "c": True}), ("none", {}), ("type", {"a": "1", "b": "x"}),
]


def route_headers(t, match, wanted):
    channel = t.channel(True)
    exchange, queue = t.exchange(channel, "headers"), t.queue(channel)
    channel.queue_bind(queue, exchange, "", {"x-match": match, "a": 1, "b": "x"})
    for name, headers in HEADER_CASES:
        channel.basic_publish(exchange, "", name.encode(), Props(headers=headers))
    equal(arrived(channel, queue), wanted, "bodies")


@check("route.headers-all")
def route_headers_all(t):
    route_headers(t, "all", ["both", "more"])


@check("route.headers-any")
def route_headers_any(t):
    route_headers(t, "any", ["both", "one", "other", "mixed", "more", "type"])


@check("route.e2e")
def route_e2e(t):
    channel = t.channel(True)
    source, target = t.exchange(channel, "topic"), t.exchange(channel, "fanout")
    queue = t.queue(channel)
    channel.queue_bind(queue, target)
    channel.exchange_bind(target, source, "a.*")
    channel.basic_publish(source, "a.b", b"1")
    channel.basic_publish(source, "b.b", b"2")
    channel.exchange_unbind(target, source, "a.*")
    channel.basic_publish(source, "a.b", b"3")
    equal(arrived(channel, queue), ["1"], "bodies")


@check("route.one-copy")
def route_one_copy(t):
    channel = t.channel(True)
    exchange, queue = t.exchange(channel, "topic"), t.queue(channel)
    for key in ("a.*", "*.b", "#", "a.b"):
        channel.queue_bind(queue, exchange, key)
    channel.basic_publish(exchange, "a.b", b"1")
    equal(arrived(channel, queue), ["1"], "bodies")


@check("route.cc-bcc")
def route_cc(t):
    channel = t.channel(True)
    to, cc, bcc = (t.queue(channel) for _ in range(3))
    channel.basic_publish("", to, b"1", Props(headers={"CC": [cc, to], "BCC": [bcc]}))
    for queue in (to, cc, bcc):
        _method, properties, _body = get(channel, queue)
        equal(properties.headers, {"CC": [cc, to]}, f"headers in {queue}")
        equal(arrived(channel, queue), [], "more bodies")


# Publishing.

@check("publish.confirm-single")
def confirm_single(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    for i in range(20):
        channel.basic_publish("", queue, str(i).encode(), Props(delivery_mode=1 + i % 2))
    equal(arrived(channel, queue), [str(i) for i in range(20)], "bodies")


class BatchPublisher:
    """Publishes without waiting, on pika's asynchronous connection."""

    def __init__(self, params, queue, number):
        self.queue, self.number = queue, number
        self.acked, self.nacked, self.lowest, self.error = set(), set(), 1, None
        self.connection = pika.SelectConnection(
            params, on_open_callback=lambda c: c.channel(on_open_callback=self.on_channel),
            on_open_error_callback=lambda _c, error: self.stop(error),
            on_close_callback=lambda _c, _why: self.connection.ioloop.stop())
        self.connection.ioloop.call_later(60, lambda: self.stop("no confirms for 60 s"))

    def stop(self, error):
        self.error = error
        self.connection.ioloop.stop()

    def on_channel(self, channel):
        channel.add_on_close_callback(lambda _c, why: self.stop(why))
        channel.confirm_delivery(self.on_confirm)
        for i in range(self.number):
            channel.basic_publish("", self.queue, str(i).encode(), Props(delivery_mode=2))

    def on_confirm(self, frame):
        method = frame.method
        into = self.acked if method.NAME == "Basic.Ack" else self.nacked
        first = method.delivery_tag
        if method.multiple:
            first = self.lowest
        for tag in range(first, method.delivery_tag + 1):
            if tag not in self.acked and tag not in self.nacked:
                into.add(tag)
        if method.multiple:
            self.lowest = method.delivery_tag + 1
        if len(self.acked) + len(self.nacked) >= self.number:
            self.connection.close()

    def run(self):
        self.connection.ioloop.start()
        return self


@check("publish.confirm-batch")
def confirm_batch(t):
    channel = t.channel()
    queue = t.queue(channel)
    done = BatchPublisher(t.params(), queue, 10000).run()
    equal(len(done.acked), 10000, f"confirms ({done.error})")
    wait_count(channel, queue, 10000)


@check("publish.confirm-unroutable")
def confirm_unroutable(t):
    channel = t.channel(True)
    channel.basic_publish(t.exchange(channel), "nowhere", b"x")


@check("publish.mandatory")
def publish_mandatory(t):
    channel = t.channel(True)
    exchange = t.exchange(channel)
    try:
        # pika raises only when the return came before the confirm
        channel.basic_publish(exchange, "nowhere", b"body", Props(message_id="m"), mandatory=True)
    except px.UnroutableError as error:
        back = error.messages[0]
        equal((back.method.reply_code, back.method.reply_text, back.method.exchange,
               back.method.routing_key, back.properties.message_id, back.body),
              (312, "NO_ROUTE", exchange, "nowhere", "m", b"body"), "return")
    else:
        raise Failed("not returned before the confirm")


@check("publish.mandatory-routed")
def publish_mandatory_routed(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    channel.basic_publish("", queue, b"x", mandatory=True)
    equal(arrived(channel, queue), ["x"], "bodies")


@check("publish.user-id")
def publish_user_id(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    channel.basic_publish("", queue, b"x", Props(user_id="guest"))
    closed("channel", 406, "PRECONDITION_FAILED - user_id property set to 'other' but "
           "authenticated user was 'guest'",
           channel.basic_publish, "", queue, b"x", Props(user_id="other"))


@check("publish.bad-expiration")
def publish_bad_expiration(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    closed("channel", 406, "PRECONDITION_FAILED - invalid expiration '12x'...",
           channel.basic_publish, "", queue, b"x", Props(expiration="12x"))


@check("publish.empty-body")
def publish_empty(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    channel.basic_publish("", queue, b"", Props(message_id="m", headers={"a": 1}))
    _method, properties, body = get(channel, queue)
    equal((body, properties.message_id, properties.headers), (b"", "m", {"a": 1}), "message")


@check("publish.bodies")
def publish_bodies(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    frame_max = channel.connection._impl.params.frame_max  # pylint: disable=protected-access
    for size in [1, 2] + [frame_max + d for d in range(-9, 2)] + [3 * frame_max]:
        body = os.urandom(size)
        channel.basic_publish("", queue, body)
        equal(get(channel, queue)[2] == body, True, f"body of {size} bytes")


@check("publish.properties")
def publish_properties(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    values = {"content_type": "text/plain", "content_encoding": "utf-8", "headers": {"k": "v"},
              "delivery_mode": 2, "priority": 3, "correlation_id": "c-1", "reply_to": "r",
              "expiration": "60000", "message_id": "m-1", "timestamp": 1700000000,
              "type": "t", "user_id": "guest", "app_id": "app"}
    channel.basic_publish("", queue, b"x", Props(**values))
    properties = get(channel, queue)[1]
    equal({k: getattr(properties, k) for k in values}, values, "properties")


@check("publish.headers")
def publish_headers(t):
    channel = t.channel(True)
    queue = t.queue(channel)
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    headers = {"bool": True, "no": False, "int": -5, "big": 2 ** 31, "long": -2 ** 62,
               "decimal": decimal.Decimal("3.14"), "text": "h\u00e9llo",
               "bytes": b"\x00\xff", "time": moment, "void": None, "empty": {}, "list": [],
               "table": {"a": {"b": [1, "two", {"three": 3}]}}, "array": [1, -2, "x", None, True],
               "x" * 128: "long key", "y": "z" * 5000}
    channel.basic_publish("", queue, b"x", Props(headers=headers))
    equal(get(channel, queue)[1].headers, headers, "headers")


@check("publish.order")
def publish_order(t):
    channel, other = t.channel(), t.channel()
    queue = t.queue(channel)
    consumer = Consumer(other, queue, auto_ack=True)
    for i in range(5000):
        channel.basic_publish("", queue, str(i).encode())
    consumer.wait(5000)
    equal(consumer.bodies() == [str(i).encode() for i in range(5000)], True, "order")


# Consuming.

@check("consume.ack")
def consume_ack(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 5)
    consumer = Consumer(channel, queue)
    consumer.wait(5)
    equal([m.delivery_tag for m, _p, _b in consumer.got], [1, 2, 3, 4, 5], "tags")
    equal([m.redelivered for m, _p, _b in consumer.got], [False] * 5, "redelivered")
    equal(consumer.bodies(), [b"0", b"1", b"2", b"3", b"4"], "bodies")
    for method, _properties, _body in consumer.got:
        equal(method.consumer_tag, consumer.tag, "consumer tag")
        channel.basic_ack(method.delivery_tag)
    channel.close()
    equal(t.channel().queue_declare(queue, passive=True).method.message_count, 0, "left")


@check("consume.tag-reuse")
def consume_tag_reuse(t):
    channel = t.channel()
    queue = t.queue(channel)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="T")
    try:
        closed("connection", 530, "NOT_ALLOWED - attempt to reuse consumer tag 'T'",
               channel.basic_consume, queue, lambda *_: None, consumer_tag="T")
    except px.DuplicateConsumerTag:
        pass


@check("consume.exclusive")
def consume_exclusive(t):
    channel = t.channel()
    queue = t.classic(channel)
    Consumer(channel, queue, exclusive=True)
    closed("channel", 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use",
           Consumer, t.channel(), queue)


@check("consume.missing-queue")
def consume_missing(t):
    name = t.name()
    closed("channel", 404, text_no_queue(name), Consumer, t.channel(), name)


@check("consume.cancel")
def consume_cancel(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 2)
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    # pika gives back by itself what arrives during the cancel; the acks below are for what came before
    channel.basic_cancel(consumer.tag)
    channel.basic_publish("", queue, b"late")
    wait_count(channel, queue, 1)
    equal(len(consumer.got), 2, "deliveries")
    channel.basic_ack(2, multiple=True)
    channel.close()
    wait_count(t.channel(), queue, 1)


@check("consume.cancel-notify")
def consume_cancel_notify(t):
    channel, other = t.channel(), t.channel()
    queue = t.queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    consumer = Consumer(channel, queue)
    other.queue_delete(queue)
    pump(channel, lambda: cancelled, "a cancel")
    quiet(channel)
    equal(cancelled, [consumer.tag], "cancelled")


@check("consume.ack-multiple")
def consume_ack_multiple(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 10)
    Consumer(channel, queue).wait(10)
    channel.basic_ack(7, multiple=True)
    channel.close()
    channel = t.channel()
    wait_count(channel, queue, 3)
    equal(arrived(channel, queue), ["7", "8", "9"], "left")


def bad_ack(t, tag, times):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 1)
    Consumer(channel, queue).wait(1)

    def acks():
        for _ in range(times):
            channel.basic_ack(tag)
        channel.queue_declare(queue, passive=True)
    closed("channel", 406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", acks)


@check("consume.ack-unknown")
def consume_ack_unknown(t):
    bad_ack(t, 99, 1)


@check("consume.ack-twice")
def consume_ack_twice(t):
    bad_ack(t, 1, 2)


@check("consume.nack-requeue")
def consume_nack_requeue(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_nack(1, requeue=True)
    method, _properties, body = consumer.wait(2)[1]
    equal((method.redelivered, method.delivery_tag, body), (True, 2, b"0"), "second delivery")
    channel.basic_ack(2)


@check("consume.delivery-count")
def consume_delivery_count(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_nack(1, requeue=True)
    _method, properties, _body = consumer.wait(2)[1]
    equal((properties.headers or {}).get("x-delivery-count"),
          1 if t.queue_type == "quorum" else None, "x-delivery-count")
    channel.basic_ack(2)


@check("consume.nack-multiple")
def consume_nack_multiple(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 5)
    consumer = Consumer(channel, queue)
    consumer.wait(5)
    channel.basic_nack(5, multiple=True, requeue=True)
    again = consumer.wait(10)[5:]
    equal(sorted(b for _m, _p, b in again), [b"0", b"1", b"2", b"3", b"4"], "bodies")
    equal([m.redelivered for m, _p, _b in again], [True] * 5, "redelivered")


@check("consume.reject-drop")
def consume_reject(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 2)
    Consumer(channel, queue).wait(2)
    channel.basic_reject(1, requeue=False)
    channel.basic_nack(2, requeue=False)
    channel.close()
    equal(t.channel().basic_get(queue)[0], None, "left")


def dead_lettered(channel, queue, origin, reason, number=1, expiration=None):
    """Waits for the message in queue and looks at its x-death."""
    _method, properties, body = get(channel, queue)
    death = properties.headers["x-death"][0]
    equal((death["count"], death["reason"], death["queue"], death["exchange"],
           death["routing-keys"]), (number, reason, origin, "", [origin]), "x-death")
    expect(isinstance(death["time"], datetime.datetime), "x-death time")
    equal(properties.headers["x-first-death-reason"], reason, "x-first-death-reason")
    equal(properties.headers["x-first-death-queue"], origin, "x-first-death-queue")
    equal(death.get("original-expiration"), expiration, "original-expiration")
    equal(properties.expiration, None, "expiration")
    return body


def with_dead_letters(t, channel, **args):
    exchange, target = t.exchange(channel, "fanout"), t.queue(channel)
    channel.queue_bind(target, exchange)
    return t.queue(channel, dead_letter_exchange=exchange, **args), target


@check("consume.dead-letter")
def consume_dead_letter(t):
    channel = t.channel()
    queue, target = with_dead_letters(t, channel)
    fill(channel, queue, 1)
    Consumer(channel, queue).wait(1)
    channel.basic_reject(1, requeue=False)
    equal(dead_lettered(channel, target, queue, "rejected"), b"0", "body")


@check("consume.redelivered-on-close")
def consume_redelivered(t):
    connection = t.connect()
    channel = connection.channel()
    queue = t.queue(channel)
    fill(channel, queue, 5)
    Consumer(channel, queue).wait(5)
    connection.close()
    consumer = Consumer(t.channel(), queue)
    consumer.wait(5)
    equal(consumer.bodies(), [b"0", b"1", b"2", b"3", b"4"], "bodies")
    equal([m.redelivered for m, _p, _b in consumer.got], [True] * 5, "redelivered")


@check("consume.recover")
def consume_recover(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 3)
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    channel.basic_ack(1)
    channel.basic_recover(requeue=True)
    again = consumer.wait(5)[3:]
    equal(sorted(b for _m, _p, b in again), [b"1", b"2"], "bodies")
    equal([m.redelivered for m, _p, _b in again], [True] * 2, "redelivered")


@check("consume.qos-consumer")
def consume_qos(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 6)
    channel.basic_qos(prefetch_count=3)
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    quiet(channel)
    equal(len(consumer.got), 3, "deliveries")
    channel.basic_ack(2)
    consumer.wait(4)
    quiet(channel)
    equal(len(consumer.got), 4, "deliveries after an ack")
    channel.basic_ack(4, multiple=True)
    consumer.wait(6)


@check("consume.qos-channel")
def consume_qos_channel(t):
    channel = t.channel()
    queues = [t.classic(channel), t.classic(channel)]
    for queue in queues:
        fill(channel, queue, 5)
    channel.basic_qos(prefetch_count=4, global_qos=True)
    got = []
    for queue in queues:
        channel.basic_consume(queue, lambda _c, m, _p, _b: got.append(m.delivery_tag))
    pump(channel, lambda: len(got) >= 4, "4 deliveries")
    quiet(channel)
    equal(len(got), 4, "deliveries")
    channel.basic_ack(1)
    pump(channel, lambda: len(got) >= 5, "5 deliveries")
    quiet(channel)
    equal(len(got), 5, "deliveries after an ack")


@check("consume.auto-ack")
def consume_auto_ack(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 5)
    Consumer(channel, queue, auto_ack=True).wait(5)
    channel.close()
    equal(t.channel().basic_get(queue)[0], None, "left")


@check("consume.priority")
def consume_priority(t):
    channel = t.channel()
    queue = t.queue(channel)
    low = Consumer(channel, queue, auto_ack=True, arguments={"x-priority": -1})
    high = Consumer(channel, queue, auto_ack=True, arguments={"x-priority": 10})
    for i in range(20):
        channel.basic_publish("", queue, str(i).encode())
    high.wait(20)
    equal(len(low.got), 0, "deliveries to the lower priority")
    channel.basic_cancel(high.tag)
    channel.basic_publish("", queue, b"x")
    low.wait(1)


@check("consume.single-active")
def consume_single_active(t):
    channel = t.channel()
    queue = t.queue(channel, single_active_consumer=True)
    first, second = Consumer(channel, queue), Consumer(channel, queue)
    for i in range(5):
        channel.basic_publish("", queue, str(i).encode())
    first.wait(5)
    quiet(channel)
    equal(len(second.got), 0, "deliveries to the second")
    channel.basic_ack(5, multiple=True)
    channel.basic_cancel(first.tag)
    channel.basic_publish("", queue, b"x")
    second.wait(1)


@check("consume.round-robin")
def consume_round_robin(t):
    channel = t.channel()
    queue = t.queue(channel)
    channel.basic_qos(prefetch_count=1)
    got = {}

    def on_message(ch, method, _properties, _body):
        got[method.consumer_tag] = got.get(method.consumer_tag, 0) + 1
        ch.basic_ack(method.delivery_tag)
    for _ in range(3):
        channel.basic_consume(queue, on_message)
    for i in range(30):
        channel.basic_publish("", queue, str(i).encode())
    pump(channel, lambda: sum(got.values()) == 30, "30 deliveries")
    expect(len(got) == 3 and min(got.values()) >= 5, f"shares {sorted(got.values())}")


# Get.

@check("get.message")
def get_message(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 3)
    method, _properties, body = channel.basic_get(queue)
    equal((method.delivery_tag, method.exchange, method.routing_key, method.redelivered,
           method.message_count, body), (1, "", queue, False, 2, b"0"), "get-ok")
    channel.basic_ack(1)
    channel.close()
    wait_count(t.channel(), queue, 2)


@check("get.empty")
def get_empty(t):
    channel = t.channel()
    equal(channel.basic_get(t.queue(channel)), (None, None, None), "get")


@check("get.no-ack")
def get_no_ack(t):
    channel = t.channel()
    queue = t.queue(channel)
    fill(channel, queue, 1)
    equal(channel.basic_get(queue, auto_ack=True)[2], b"0", "body")
    channel.close()
    equal(t.channel().basic_get(queue)[0], None, "left")


# Expiry, limits, priorities.

@check("ttl.message")
def ttl_message(t):
    channel = t.channel()
    queue, target = with_dead_letters(t, channel)
    channel.basic_publish("", queue, b"x", Props(expiration="50"))
    equal(dead_lettered(channel, target, queue, "expired", expiration="50"), b"x", "body")
    wait_count(channel, queue, 0)


@check("ttl.queue")
def ttl_queue(t):
    channel = t.channel()
    queue, target = with_dead_letters(t, channel, message_ttl=50)
    channel.basic_publish("", queue, b"x")
    equal(dead_lettered(channel, target, queue, "expired"), b"x", "body")
    wait_count(channel, queue, 0)


@check("ttl.expires")
def ttl_expires(t):
    connection = t.connect()
    queue = t.queue(connection.channel(), expires=300)

    def gone():
        try:
            connection.channel().queue_declare(queue, passive=True)
        except px.ChannelClosedByBroker as error:
            equal(error.reply_text, text_no_queue(queue), "text")
            return True
        # a passive declare is a use of the queue: leave it alone for longer than its lease
        quiet(connection.channel(), 0.6)
        return False
    until(gone, "the queue to expire")


@check("limit.drop-head")
def limit_drop_head(t):
    channel = t.channel(True)
    queue, target = with_dead_letters(t, channel, max_length=3)
    for i in range(5):
        channel.basic_publish("", queue, str(i).encode())
    equal([dead_lettered(channel, target, queue, "maxlen") for _ in range(2)], [b"0", b"1"],
          "dead letters")
    equal(arrived(channel, queue), ["2", "3", "4"], "left")


@check("limit.reject-publish")
def limit_reject_publish(t):
    channel = t.channel(True)
    queue = t.queue(channel, max_length=3, overflow="reject-publish")
    accepted = []
    try:
        for i in range(200):
            channel.basic_publish("", queue, str(i).encode())
            accepted.append(str(i))
    except px.NackError:
        pass
    expect(3 <= len(accepted) < 200, f"{len(accepted)} accepted")
    equal(arrived(channel, queue), accepted, "bodies")


@check("priority.levels")
def priority_levels(t):
    channel = t.channel(True)
    queue = t.classic(channel, max_priority=5)
    for i, priority in enumerate((0, 5, 1, 9, None, 1)):
        channel.basic_publish("", queue, str(i).encode(), Props(priority=priority))
    equal(arrived(channel, queue), ["1", "3", "2", "5", "0", "4"], "order")


# Transactions, request and reply, errors of the connection.

@check("tx.commit")
def tx_commit(t):
    channel, other = t.channel(), t.channel()
    queue = t.queue(channel)
    channel.tx_select()
    for i in range(3):
        channel.basic_publish("", queue, str(i).encode())
    channel.queue_declare(queue, passive=True)
    equal(count(other, queue), 0, "messages before commit")
    channel.tx_commit()
    wait_count(other, queue, 3)


@check("tx.rollback")
def tx_rollback(t):
    channel, other = t.channel(), t.channel()
    queue = t.queue(channel)
    channel.tx_select()
    channel.basic_publish("", queue, b"no")
    channel.tx_rollback()
    channel.basic_publish("", queue, b"yes")
    channel.tx_commit()
    equal(get(other, queue)[2], b"yes", "body")
    equal(other.basic_get(queue)[0], None, "more")


@check("tx.confirm-refused")
def tx_confirm(t):
    channel = t.channel()
    channel.tx_select()
    closed("channel", 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
           channel.confirm_delivery)


@check("tx.returns")
def tx_returns(t):
    channel = t.channel()
    exchange = t.exchange(channel)
    returns = []
    channel.add_on_return_callback(lambda _c, m, _p, b: returns.append((m.reply_code, b)))
    channel.tx_select()
    channel.basic_publish(exchange, "nowhere", b"body", mandatory=True)
    quiet(channel)
    equal(returns, [], "returns before commit")
    channel.tx_commit()
    pump(channel, lambda: returns, "a return")
    equal(returns, [(312, b"body")], "returns")


@check("tx.acks")
def tx_acks(t):
    one, other = t.channel(), t.channel()
    queue = t.queue(other)
    fill(other, queue, 2)
    for end in ("rollback", "commit"):
        channel = one.connection.channel()
        channel.tx_select()
        for _ in range(2):
            last = get(channel, queue, auto_ack=False)[0].delivery_tag
        channel.basic_ack(last, multiple=True)
        if end == "rollback":
            channel.tx_rollback()
        else:
            channel.tx_commit()
        channel.close()
        wait_count(other, queue, 2 if end == "rollback" else 0)


@check("tx.not-selected")
def tx_not_selected(t):
    closed("channel", 406, "PRECONDITION_FAILED - channel is not transactional",
           t.channel().tx_commit)


@check("rpc.direct-reply-to")
def rpc_direct(t):
    client, server = t.channel(), t.channel()
    queue = t.queue(server)
    replies = Consumer(client, "amq.rabbitmq.reply-to", auto_ack=True)
    client.basic_publish("", queue, b"ping",
                         Props(reply_to="amq.rabbitmq.reply-to", correlation_id="7"))
    _method, properties, _body = get(server, queue)
    expect(properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties.reply_to)
    server.basic_publish("", properties.reply_to, b"pong", Props(correlation_id="7"))
    method, properties, body = replies.wait(1)[0]
    equal((properties.correlation_id, body, method.exchange), ("7", b"pong", ""), "reply")


@check("rpc.reply-gone")
def rpc_reply_gone(t):
    client, server = t.channel(), t.channel()
    queue = t.queue(server)
    Consumer(client, "amq.rabbitmq.reply-to", auto_ack=True)
    client.basic_publish("", queue, b"ping", Props(reply_to="amq.rabbitmq.reply-to"))
    name = get(server, queue)[1].reply_to
    equal(server.queue_declare(name, passive=True).method.consumer_count, 1, "consumers")
    client.close()
    closed("channel", 404, text_no_queue(name), server.queue_declare, name, passive=True)


@check("rpc.refused")
def rpc_refused(t):
    closed("channel", 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
           t.channel().basic_consume, "amq.rabbitmq.reply-to", lambda *_: None)
    channel = t.channel(True)
    queue = t.queue(channel)
    closed("channel", 406, "PRECONDITION_FAILED - fast reply consumer does not exist",
           channel.basic_publish, "", queue, b"x", Props(reply_to="amq.rabbitmq.reply-to"))


@check("error.qos-size")
def error_qos_size(t):
    closed("connection", 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)", t.channel().basic_qos,
           prefetch_size=10)


@check("error.recover-no-requeue")
def error_recover(t):
    closed("connection", 540, "NOT_IMPLEMENTED - requeue=false", t.channel().basic_recover, False)


# Several nodes.

@check("cluster.declare-there")
def cluster_declare(t):
    one, other = t.channel(), t.channel()
    for i in range(20):
        queue = t.queue((one, other)[i % 2])
        (other, one)[i % 2].queue_declare(queue, passive=True)


@check("cluster.bind-there")
def cluster_bind(t):
    one, other = t.channel(True), t.channel(True)
    exchange = t.exchange(one)
    queue = t.queue(other)
    for i in range(20):
        one.queue_bind(queue, exchange, str(i))
        other.basic_publish(exchange, str(i), str(i).encode(), mandatory=True)
    equal(arrived(one, queue), [str(i) for i in range(20)], "bodies")


@check("cluster.consume-there")
def cluster_consume(t):
    one, other, third = t.channel(), t.channel(), t.channel()
    queue = t.queue(third)
    consumer = Consumer(other, queue)
    for i in range(2000):
        one.basic_publish("", queue, str(i).encode(), Props(delivery_mode=2))
    consumer.wait(2000)
    equal(consumer.bodies() == [str(i).encode() for i in range(2000)], True, "order")
    other.basic_ack(0, multiple=True)
    other.close()
    equal(third.basic_get(queue)[0], None, "left")


@check("cluster.delete-there")
def cluster_delete(t):
    one, other = t.channel(), t.connect()
    for _ in range(10):
        queue = t.queue(one)
        one.queue_delete(queue)
        closed("channel", 404, text_no_queue(queue), other.channel().queue_declare, queue,
               passive=True)
