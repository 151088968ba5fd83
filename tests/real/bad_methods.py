"""Legal frames with bad or hostile arguments."""

import os
import select
import struct
import time

from amqp_raw import BODY, Raw, content, frame, longstr, method, publish, queue_declare, short

CASES = []
SERIAL = [0]


def case(name):
    def add(function):
        CASES.append((name, function))
        return function
    return add


def new_name(kind="q"):
    SERIAL[0] += 1
    return f"bad.{os.getpid()}.{kind}{SERIAL[0]}"


def refused(name, kind, code, *parts, text=None):
    """parts are answered by a close of the channel or of the connection with code."""
    def run(port):
        with Raw(port).open() as raw:
            raw.send(*parts)
            found = raw.read_close()
            if found[:2] != (kind, code) or (text is not None and not found[2].startswith(text)):
                return str(found)
            if kind == "channel":
                # only the channel is closed: its number can be used again
                raw.send(method(1, 20, 41))
                raw.open_channel(1)
        return None
    CASES.append((name, run))


def ack(tag, multiple=0):
    return method(1, 60, 80, struct.pack(">QB", tag, multiple))


for _tag in (0, 1, 2 ** 63, 2 ** 64 - 1):
    refused(f"ack.tag-{_tag}", "channel", 406, ack(_tag),
            text=f"PRECONDITION_FAILED - unknown delivery tag {_tag}")
refused("ack.multiple-unknown", "channel", 406, ack(7, 1))
refused("ack.nack-unknown", "channel", 406, method(1, 60, 120, struct.pack(">QB", 5, 2)))
refused("ack.reject-unknown", "channel", 406, method(1, 60, 90, struct.pack(">QB", 5, 1)))
refused("qos.size", "connection", 540, method(1, 60, 10, struct.pack(">IHB", 1, 0, 0)))
refused("recover.no-requeue", "connection", 540, method(1, 60, 110, b"\0"))
refused("publish.immediate", "connection", 540, publish(1, "", "q", 2), content(1, 0))
refused("flow.off", "connection", 540, method(1, 20, 20, b"\0"))
refused("channel.second-open", "connection", 504, method(1, 20, 10, short("")))
refused("channel.close-ok-unasked", "connection", 503, method(1, 20, 41))
refused("channel.close-ok-never-opened", "connection", 504, method(7, 20, 41))
refused("tx.then-confirm", "channel", 406, method(1, 90, 10), method(1, 85, 10, b"\0"))
refused("tx.commit-without-select", "channel", 406, method(1, 90, 20))
refused("tx.rollback-without-select", "channel", 406, method(1, 90, 30))
refused("tx.after-confirm", "channel", 406, method(1, 85, 10, b"\0"), method(1, 90, 10),
        text="PRECONDITION_FAILED - cannot switch from confirm to tx mode")
_queue = new_name()
refused("tx.disturbed", "connection", 504, queue_declare(1, _queue, 4), method(1, 90, 10),
        publish(1, "", _queue), content(1, 0), method(1, 90, 20), publish(1, "", _queue),
        content(1, 0),
        text="CHANNEL_ERROR - unexpected command while processing 'tx.commit'")
REPLY_TO = "amq.rabbitmq.reply-to"


def consume_replies(bits=2):
    return method(1, 60, 20, b"\0\0" + short(REPLY_TO) + short("") + bytes([bits]) + longstr(b""))


refused("reply.acks", "channel", 406, consume_replies(0),
        text="PRECONDITION_FAILED - reply consumer cannot acknowledge")
refused("reply.twice", "channel", 406, consume_replies(), consume_replies(),
        text="PRECONDITION_FAILED - reply consumer already set")
refused("reply.no-consumer", "channel", 406, publish(1, "", "q"),
        content(1, 0, 1 << 9, short(REPLY_TO)),
        text="PRECONDITION_FAILED - fast reply consumer does not exist")
for _name in (".", ".x", "x", "." + "A" * 40, "." + "\u00e9" * 20):
    refused(f"reply.name-{_name[:4]}", "channel", 404, queue_declare(1, REPLY_TO + _name))
refused("reply.get", "channel", 404, method(1, 60, 70, b"\0\0" + short(REPLY_TO) + b"\1"))
refused("exchange.missing", "channel", 404, publish(1, "no-such-exchange", "k"), content(1, 0))


def property_refused(name, code, flags, data, text=None):
    refused(name, "channel", code, publish(1, "amq.direct", "k"), content(1, 0, flags, data),
            text=text)


for _value in ("-1", "abc", "12x", "1e3", "", "9" * 30, " 5", "0x10"):
    property_refused(f"expiration.{_value!r}", 406, 0x0100, short(_value),
                     "PRECONDITION_FAILED - invalid expiration")
property_refused("user-id.spoofed", 406, 0x0010, short("admin"))
property_refused("cc.not-an-array", 406, 0x2000, longstr(short("CC") + b"S" + longstr("q")))
property_refused("bcc.not-an-array", 406, 0x2000, longstr(short("BCC") + b"I\0\0\0\1"))


def argument_refused(name, argument, value, code=406):
    refused(f"argument.{argument}-{name}", "channel", code,
            queue_declare(1, new_name(), 0, short(argument) + value))


for _argument in ("x-max-length", "x-max-length-bytes", "x-message-ttl", "x-expires",
                  "x-max-priority"):
    argument_refused("string", _argument, b"S" + longstr("5"))
    argument_refused("negative", _argument, b"l" + struct.pack(">q", -1))
    argument_refused("array", _argument, b"A" + longstr(b""))
    argument_refused("bool", _argument, b"t\1")
argument_refused("too-large", "x-message-ttl", b"l" + struct.pack(">q", 2 ** 62))
argument_refused("too-large", "x-expires", b"l" + struct.pack(">q", 2 ** 62))
argument_refused("0", "x-expires", b"I\0\0\0\0")
argument_refused("256", "x-max-priority", b"I\0\0\1\0")
argument_refused("odd", "x-overflow", b"S" + longstr("odd"))
argument_refused("odd", "x-queue-type", b"S" + longstr("odd"))
argument_refused("integer", "x-dead-letter-exchange", b"I\0\0\0\1")
argument_refused("without-exchange", "x-dead-letter-routing-key", b"S" + longstr("k"))


@case("publish.odd-properties")
def odd_properties(port):
    """Passed on as they are; RabbitMQ refuses a delivery mode that is neither 1 nor 2 with 406."""
    for flags, data, codes in ((0x0800, b"\xff", ()), (0x1000, b"\0", (406,)), (0x1000, b"\3", (406,)),
                               (0x0200, short("amq.rabbitmq.reply-to.forged"), ())):
        with Raw(port).open() as raw:
            queue = new_name()
            raw.send(queue_declare(1, queue, 4), method(1, 85, 10, b"\0"))
            raw.expect(50, 11)
            raw.expect(85, 11)
            raw.send(publish(1, "", queue), content(1, 0, flags, data))
            _channel, class_id, method_id, arguments = raw.read_method()
            if (class_id, method_id) == (20, 40) and struct.unpack(">H", arguments[:2])[0] in codes:
                continue
            if (class_id, method_id) != (60, 80):
                return f"{flags:#x}: {class_id},{method_id} {arguments!r}"
            raw.send(method(1, 60, 70, b"\0\0" + short(queue) + b"\1"))
            raw.expect(60, 71)
            header = raw.read_frame()[2]
            if not header.endswith(struct.pack(">H", flags) + data):
                return f"{flags:#x}: came back as {header!r}"
    return None


@case("publish.many-cc")
def many_cc(port):
    with Raw(port).open() as raw:
        keys = b"".join(b"S" + longstr(f"nowhere{i}") for i in range(5000))
        raw.send(method(1, 85, 10, b"\0"))
        raw.expect(85, 11)
        raw.send(publish(1, "", "nowhere"),
                 content(1, 0, 0x2000, longstr(short("CC") + b"A" + longstr(keys))))
        raw.expect(60, 80)


@case("publish.returns-not-read")
def returns_not_read(port):
    """Who does not read what comes back is not read either; and then all of it is there."""
    with Raw(port).open() as raw:
        body = bytes(100000)
        message = publish(1, "", "nowhere", 1) + content(1, len(body)) + frame(BODY, 1, body)
        raw.socket.setblocking(False)
        sent, rest = 0, b""
        while sent < 6000:
            rest = rest or message
            try:
                rest = rest[raw.socket.send(rest):]
                sent += not rest
            except BlockingIOError:
                if not select.select([], [raw.socket], [], 1.0)[1]:
                    break
        if sent == 6000:
            return "600 MB of returns were taken on"
        for number in range(sent):
            raw.expect(60, 50)
    return None


@case("publish.forged-reply-name")
def forged_reply(port):
    with Raw(port).open() as raw:
        raw.send(method(1, 85, 10, b"\0"))
        raw.expect(85, 11)
        for name in ("amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.x.y.z",
                     "amq.rabbitmq.reply-to." + "A" * 200):
            raw.send(publish(1, "", name), content(1, 0))
            raw.expect(60, 80)


@case("publish.to-a-closed-channel")
def closed_channel(port):
    with Raw(port).open() as raw:
        raw.send(publish(1, "no-such-exchange", "k"), content(1, 0))
        if raw.read_close()[:2] != ("channel", 404):
            return "no 404"
        raw.send((publish(1, "", "q") + content(1, 1) + frame(BODY, 1, b"x")) * 2000,
                 method(1, 20, 41))
        raw.open_channel(1)
    return None


@case("consume.tag-twice")
def tag_twice(port):
    with Raw(port).open() as raw:
        queue = new_name()
        consume = method(1, 60, 20, b"\0\0" + short(queue) + short("t") + b"\0" + longstr(b""))
        raw.send(queue_declare(1, queue, 4), consume, consume)
        found = raw.read_close()
    return None if found[:2] == ("connection", 530) else str(found)


@case("consume.many")
def many_consumers(port):
    with Raw(port).open() as raw:
        queue = new_name()
        raw.send(queue_declare(1, queue, 4))
        raw.expect(50, 11)
        for i in range(2000):
            raw.send(method(1, 60, 20, b"\0\0" + short(queue) + short(f"t{i}") + b"\0" +
                            longstr(b"")))
        for _ in range(2000):
            raw.expect(60, 21, 20)


@case("cancel.unknown")
def cancel_unknown(port):
    with Raw(port).open() as raw:
        raw.send(method(1, 60, 30, short("nobody") + b"\0"))
        raw.expect(60, 31)


@case("channel.flood")
def channel_flood(port):
    with Raw(port).open() as raw:
        for number in range(2, 1002):
            raw.send(method(number, 20, 10, short("")),
                     method(number, 20, 40, b"\0\xc8" + short("") + bytes(4)))
        answers = [raw.read_method(20)[1:3] for _ in range(2000)]
    if sorted(answers) != [(20, 11)] * 1000 + [(20, 41)] * 1000:
        return f"answers {set(answers)}"
    return None


@case("channel.over-the-limit")
def channel_limit(port):
    with Raw(port).open(channel=False, channel_max=10) as raw:
        for number in range(1, 11):
            raw.open_channel(number)
        raw.send(method(11, 20, 10, short("")))
        found = raw.read_close()
    return None if found[:2] in (("connection", 530), ("connection", 504)) else str(found)


@case("connection.more-after-close")
def after_close(port):
    with Raw(port).open() as raw:
        raw.send(method(0, 10, 50, b"\0\xc8" + short("bye") + bytes(4)),
                 (publish(1, "", "q") + content(1, 0)) * 1000)
        raw.expect(10, 51)


def exchange_declare(name, kind):
    return method(1, 40, 10, b"\0\0" + short(name) + short(kind) + b"\0" + longstr(b""))


def exchange_delete(name):
    return method(1, 40, 20, b"\0\0" + short(name) + b"\0")


def bind(queue, exchange, key):
    return method(1, 50, 20, b"\0\0" + short(queue) + short(exchange) + short(key) + b"\0" +
                  longstr(b""))


@case("topic.many-wildcards")
def topic_wildcards(port):
    """A pattern made to make a matcher try everything."""
    with Raw(port).open() as raw:
        queue, exchange = new_name(), new_name("x")
        raw.send(queue_declare(1, queue, 4), exchange_declare(exchange, "topic"))
        raw.expect(50, 11)
        raw.expect(40, 11)
        for pattern in (".".join(["#"] * 8 + ["x"]), ".".join(["#", "a"] * 6 + ["x"]),
                        ".".join(["*"] * 128)):
            raw.send(bind(queue, exchange, pattern))
            raw.expect(50, 21)
        raw.send(method(1, 85, 10, b"\0"))
        raw.expect(85, 11)
        raw.send(publish(1, exchange, ".".join(["a"] * 20)), content(1, 0))
        raw.expect(60, 80, 20)
        raw.send(exchange_delete(exchange))
        raw.expect(40, 21)


@case("exchange.cycle")
def exchange_cycle(port):
    with Raw(port).open() as raw:
        queue, names = new_name(), [new_name("x") for _ in range(20)]
        raw.send(queue_declare(1, queue, 4))
        raw.expect(50, 11)
        for name in names:
            raw.send(exchange_declare(name, "fanout"))
            raw.expect(40, 11)
        for i, name in enumerate(names):
            raw.send(method(1, 40, 30, b"\0\0" + short(names[(i + 1) % 20]) + short(name) +
                            short("") + b"\0" + longstr(b"")), bind(queue, name, ""))
            raw.expect(40, 31)
            raw.expect(50, 21)
        raw.send(method(1, 85, 10, b"\0"))
        raw.expect(85, 11)
        raw.send(publish(1, names[0], ""), content(1, 0))
        raw.expect(60, 80)
        raw.send(method(1, 50, 30, b"\0\0" + short(queue) + b"\0"))
        purged = struct.unpack(">I", raw.expect(50, 31))[0]
        for name in names:
            raw.send(exchange_delete(name))
            raw.expect(40, 21)
    return None if purged == 1 else f"{purged} copies"


@case("dead-letter.to-itself")
def dead_letter_cycle(port):
    with Raw(port).open() as raw:
        queue = new_name()
        raw.send(queue_declare(1, queue, 4, short("x-message-ttl") + b"I\0\0\0\1" +
                               short("x-dead-letter-exchange") + b"S" + longstr("") +
                               short("x-dead-letter-routing-key") + b"S" + longstr(queue)))
        raw.expect(50, 11)
        for _ in range(100):
            raw.send(publish(1, "", queue), content(1, 0))
        end = time.monotonic() + 8
        while time.monotonic() < end:
            raw.send(queue_declare(1, queue, 1))
            answer = raw.expect(50, 11)
            if struct.unpack(">II", answer[-8:])[0] == 0:
                return None
            time.sleep(0.05)
    return "still there after 8 s"


@case("consumer.that-does-not-read")
def slow_reader(port):
    """40 MiB for somebody who takes nothing; then he is gone, and so are they."""
    queue = new_name()
    body = bytes(100000)
    with Raw(port).open() as raw, Raw(port).open() as lazy:
        raw.send(queue_declare(1, queue))
        raw.expect(50, 11)
        lazy.send(method(1, 60, 20, b"\0\0" + short(queue) + short("") + b"\2" + longstr(b"")))
        lazy.expect(60, 21)
        raw.send(method(1, 85, 10, b"\0"))
        raw.expect(85, 11)
        raw.socket.settimeout(30)
        for _ in range(400):
            raw.send(publish(1, "", queue), content(1, len(body)), frame(BODY, 1, body))
        acked = 0
        while acked < 400:
            arguments = raw.expect(60, 80, 20)
            acked = struct.unpack(">QB", arguments)[0] if arguments[8] else acked + 1
        raw.send(method(1, 50, 40, b"\0\0" + short(queue) + b"\0"))
        raw.expect(50, 41)


@case("queue.delete-while-consuming")
def delete_while_consuming(port):
    with Raw(port).open() as raw, Raw(port).open() as other:
        for _ in range(50):
            queue = new_name()
            raw.send(queue_declare(1, queue))
            raw.expect(50, 11)
            other.send(method(1, 60, 20, b"\0\0" + short(queue) + short(queue) + b"\0" +
                              longstr(b"")))
            while other.read_method()[1:3] != (60, 21):
                pass
            raw.send((publish(1, "", queue) + content(1, 1) + frame(BODY, 1, b"x")) * 20,
                     method(1, 50, 40, b"\0\0" + short(queue) + b"\0"))
            raw.expect(50, 41)


@case("tx.large")
def tx_large(port):
    with Raw(port).open() as raw:
        queue = new_name()
        raw.send(queue_declare(1, queue, 4), method(1, 90, 10))
        raw.expect(50, 11)
        raw.expect(90, 11)
        raw.send((publish(1, "", queue) + content(1, 1) + frame(BODY, 1, b"x")) * 20000,
                 method(1, 90, 30))
        raw.expect(90, 31, 20)
        raw.send(queue_declare(1, queue, 1))
        left = struct.unpack(">II", raw.expect(50, 11)[-8:])[0]
    return None if left == 0 else f"{left} messages after the rollback"


@case("connection.flood")
def connection_flood(port):
    for _ in range(200):
        Raw(port).open().close()
