"""Bad input: two or more faults in what is published, consumed, settled; in modes and channels."""

import struct

from amqp_codec import Octets, put_content, put_method
from amqp_raw import frame
from faults import Sender, consumed, exchange, filled, locked, queue, quorum, together
from registry import table

GUEST, USER = Sender(), Sender(who="user")
# in the order in which RabbitMQ looks at them
CONTENT = (("reply-to", dict(reply_to="amq.rabbitmq.reply-to")), ("user-id", dict(user_id="nobody")),
           ("expiration", dict(expiration="x")), ("CC", dict(headers={"CC": "k"})),
           ("BCC", dict(headers={"BCC": 1})))
WAYS = (("missing", "$none", ()), ("internal", "$x", (exchange("fanout", internal=1),)),
        ("unroutable", "$x", (exchange("direct"),)))


def merged(faults):
    whole = {}
    for fault in faults:
        for name, value in fault.items():
            whole[name] = {**whole.get(name, {}), **value} if isinstance(value, dict) else value
    return whole


@table("faults-publish", "12", "13", "14", "20", "21", "22", "23", "55")
def publishing():
    """What is wrong with the exchange, and what with the message."""
    contents = list(together(list(CONTENT))) + list(together(list(CONTENT), 1))
    for way, name, before in WAYS:
        sender = Sender(*before)
        for label, wrong in contents:
            yield f"{way} {label}", sender.publish(name, "k", mandatory=1, **merged(wrong))
            if way == "unroutable":
                yield f"{way} {label} in a transaction", sender.publish(
                    name, "k", modes=("tx.select",), mandatory=1, **merged(wrong))
                yield f"{way} {label} no confirms", sender.publish(name, "k", modes=(), **merged(wrong))
        for bits in (dict(immediate=1), dict(immediate=1, mandatory=1),
                     dict(immediate=1, user_id="nobody")):
            yield f"{way} {' '.join(bits)}", sender.publish(name, "k", **bits)
        yield f"{way} BCC CC", sender.publish(name, "k", headers={"BCC": 1, "CC": "k"})
        yield f"{way} CC-of-numbers BCC", sender.publish(name, "k", headers={"CC": [1], "BCC": "k"})
        yield f"{way} x-delay CC", sender.publish(name, "k", headers={"x-delay": "a", "CC": "k"})
    for label, name, key in (("exchange missing", "$none", "k"), ("exchange", "$x", "k"),
                             ("default", "", "k"),
                             ("topic", "$may-topic", "no"), ("fine", "$may-topic", "ok")):
        before = (exchange("topic", "may-topic"), exchange("fanout", internal=1),
                  exchange("topic", "may-in", internal=1))
        sender = Sender(*before, who="user")
        for content, wrong in contents:
            if len(wrong) in (1, len(CONTENT)):
                yield f"permission {label} {content}", sender.publish(name, key, **merged(wrong))
        yield f"permission {label} immediate", sender.publish(name, key, immediate=1)
    yield "permission of a CC CC-of-numbers", Sender(exchange("topic", "may-topic"), who="user").publish(
        "$may-topic", "ok", headers={"CC": [1, "ok"], "BCC": "no"})
    yield "permission topic internal", Sender(
        exchange("topic", "may-topic", internal=1), who="user").publish("$may-topic", "no")
    for way, name, before in WAYS:
        yield f"{way} cut properties", Sender(*before).publish(name, "k",
                                                               properties=Octets(b"\x80\x00\x05a"))
        yield f"{way} properties in a cut table", Sender(*before).publish(
            name, "k", properties=Octets(b"\x21\x00\0\0\0\5\1aI\0\0\1x"))


@table("faults-consume", "15", "16", "18", "22", "28", "29")
def consumers():
    bad = dict(arguments={"x-priority": "high"})
    senders = (
        ("missing", Sender(), "$q"), ("no name", Sender(), ""), ("locked", Sender(locked()), "$q"),
        ("in exclusive use", Sender(queue(), consumed(exclusive=1, elsewhere=True)), "$q"),
        ("in use", Sender(queue(), consumed(elsewhere=True)), "$q"),
        ("quorum", Sender(quorum()), "$q"),
        ("single active", Sender(queue("q", {"x-single-active-consumer": True})), "$q"),
        ("reply", Sender(), "amq.rabbitmq.reply-to"),
        ("permission missing", Sender(who="user"), "$q"), ("permission no name", Sender(who="user"), ""),
        ("permission locked", Sender(locked(), who="user"), "$q"),
        ("permission in exclusive use", Sender(queue(), consumed(exclusive=1, elsewhere=True),
                                               who="user"), "$q"))
    for label, sender, name in senders:
        for words, fields in (("x-priority", bad), ("exclusive", dict(exclusive=1)),
                              ("exclusive x-priority", dict(exclusive=1, **bad)),
                              ("x-priority no-local", dict(no_local=1, **bad)),
                              ("no-ack exclusive", dict(no_ack=1, exclusive=1)),
                              ("stream", dict(arguments={"x-stream-offset": "next",
                                                         "x-priority": "high"}))):
            yield f"{label} {words}", sender.call("basic.consume", queue=name, tag="mine", **fields)
    used = (queue("own"), consumed("own", "mine"))
    for label, name, before in (("missing", "$q", ()), ("no name", "", ()),
                                ("locked", "$q", (locked(),)),
                                ("reply", "amq.rabbitmq.reply-to", ()), ("the same", "$own", ()),
                                ("in exclusive use", "$q",
                                 (queue(), consumed(exclusive=1, elsewhere=True)))):
        for words, fields in (("", {}), (" x-priority", bad),
                              (" no-ack exclusive", dict(no_ack=1, exclusive=1))):
            yield f"tag again, {label}{words}", Sender(*before, *used).call("basic.consume", queue=name,
                                                                            tag="mine", **fields)
    own = dict(queue="$may-own", tag="mine")
    yield "tag again, permission", Sender(queue("may-own"), queue(), who="user").calls(
        ("basic.consume", own), ("basic.consume", dict(queue="$q", tag="mine")))
    reply = dict(queue="amq.rabbitmq.reply-to")
    for words, second in (("twice", dict(tag="other", no_ack=1)), ("twice with acks", dict(tag="other")),
                          ("tag again", dict(tag="mine", no_ack=1)),
                          ("tag again with acks", dict(tag="mine"))):
        yield f"reply {words}", GUEST.calls(("basic.consume", dict(tag="mine", no_ack=1, **reply)),
                                            ("basic.consume", {**second, **reply}))
    yield "limit over the channel, quorum, x-priority", Sender(
        quorum(), lambda t, ch: ch.call("basic.qos", count=1, **{"global": 1})).call(
            "basic.consume", queue="$q", tag="mine", **bad)


@table("faults-get", "16", "17")
def getting():
    for label, sender, name in (
            ("locked", Sender(locked()), "$q"), ("no name", Sender(), ""),
            ("reply", Sender(), "amq.rabbitmq.reply-to"),
            ("permission missing", Sender(who="user"), "$q"),
            ("permission no name", Sender(who="user"), ""),
            ("permission locked", Sender(locked(), who="user"), "$q"),
            ("permission in exclusive use", Sender(queue(), consumed(exclusive=1, elsewhere=True),
                                                   who="user"), "$q"),
            ("in exclusive use", Sender(queue(), consumed(exclusive=1, elsewhere=True)), "$q")):
        yield label, sender.call("basic.get", queue=name, no_ack=1)
    yield "qos size global", GUEST.call("basic.qos", size=5, count=1, **{"global": 1})


def steps(*what, messages=3):
    """Messages are got; then methods, those with a reply waited for."""
    def row(t, ch):
        t.quiet = 1
        ch.call("queue.declare", queue=t.name("q"))
        filled(count=messages)(t, ch)
        for _ in range(messages):
            ch.call("basic.get", queue=t.name("q"))
        t.quiet = 0
        for method, fields in what:
            if not ch.open:
                return
            if method.split(".")[1] in ("ack", "nack", "reject"):
                ch.send(method, **fields)
            else:
                ch.call(method, **fields)
        if ch.open and ch.sync():
            ch.call("basic.get", queue=t.name("q"))
    return row


@table("faults-settle", "14", "15", "17")
def settling():
    """Tags that are wrong in more than one way, and in transactions."""
    ack, nack, reject = "basic.ack", "basic.nack", "basic.reject"
    select, commit, rollback = ("tx.select", {}), ("tx.commit", {}), ("tx.rollback", {})
    for label, method in (("ack", ack), ("nack", nack), ("reject", reject)):
        multiple = {} if method == reject else dict(multiple=1)
        yield f"{label} twice multiple", steps((method, dict(tag=2)), (method, dict(tag=2, **multiple)))
        yield f"{label} nothing-left zero", steps((ack, dict(tag=3, multiple=1)),
                                                  (method, dict(tag=0, **multiple)))
        yield f"{label} nothing-left beyond", steps((ack, dict(tag=3, multiple=1)),
                                                    (method, dict(tag=4, **multiple)))
        yield f"{label} zero", steps((method, dict(tag=0)))
        yield f"tx {label} unknown", steps(select, (method, dict(tag=9)), commit)
        yield f"tx {label} twice", steps(select, (ack, dict(tag=1)), (method, dict(tag=1)), commit)
        yield f"tx {label} zero multiple twice", steps(
            select, (ack, dict(tag=0, multiple=1)), (method, dict(tag=0, **multiple)), commit)
        yield f"tx {label} rolled back twice", steps(
            select, (ack, dict(tag=1)), rollback, (method, dict(tag=1)), (method, dict(tag=1)), commit)
        yield f"tx {label} committed before", steps(select, (ack, dict(tag=1)), commit,
                                                    (method, dict(tag=1)), commit)
        yield f"confirm {label} unknown then tx", steps(("confirm.select", {}), (method, dict(tag=9)),
                                                        select)
    yield "commit without select and unknown", steps(commit, (ack, dict(tag=9)))
    yield "confirm then tx then commit", steps(("confirm.select", {}), select, commit)
    yield "tx then confirm then commit", steps(select, ("confirm.select", {}), commit)
    yield "recover without requeue in tx", steps(select, ("basic.recover", dict(requeue=0)))
    yield "recover in tx and ack", steps(select, ("basic.recover", dict(requeue=1)), (ack, dict(tag=1)),
                                         commit)


@table("faults-channels", "4")
def channels():
    """Channels that are not open, or are already; with a fault that would be told on an open one."""
    def raw(*methods):
        def send(_t, ch):
            ch.connection.raw.send(*[put_method(number, name, **fields)
                                     for number, name, fields in methods])
            ch.sync()
        return Sender().does(send)

    declare = ("queue.declare", dict(queue="amq.faults", arguments={"x-max-length": -1}))
    yield "not open, declare", raw((77, *declare))
    yield "not open, publish", Sender().does(lambda _t, ch: (ch.connection.raw.send(
        put_method(77, "basic.publish", exchange="nowhere", immediate=1), put_content(77, b"m", {})),
        ch.sync()))
    yield "not open, ack", raw((77, "basic.ack", dict(tag=9)))
    yield "not open, close", raw((77, "channel.close", dict(code=200)))
    yield "not open, close-ok", raw((77, "channel.close-ok", {}))
    yield "not open, highest", raw((65535, *declare))
    for number in (77, 0):
        of = "zero" if number == 0 else "not open"
        for text, kind, payload in (("header", 2, struct.pack(">HHQH", 60, 0, 1, 0)), ("body", 3, b"x")):
            yield f"{of}, {text}", Sender().does(lambda _t, ch, data=frame(kind, number, payload): (
                ch.connection.raw.send(data), ch.sync()))
    yield "zero, declare", raw((0, *declare))
    yield "zero, open", raw((0, "channel.open", {}))
    yield "zero, close", raw((0, "channel.close", dict(code=200)))
    yield "zero, ack", raw((0, "basic.ack", dict(tag=9)))
    yield "flow off and on", raw((77, "channel.open", {}), (77, "channel.flow", dict(active=0)))
    yield "open twice", raw((77, "channel.open", {}), (77, "channel.open", {}))
    yield "open, flow-ok unasked", raw((77, "channel.open", {}), (77, "channel.flow-ok", dict(active=0)))
