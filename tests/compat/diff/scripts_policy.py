"""Policies and operator policies on live queues and exchanges; users and permissions."""

import json

from registry import script
from session import KINDS
from scripts_ttl import CLASSIC


def policy(t, definition, pattern=None, apply_to="queues", name="diff", priority="0", command="set_policy"):
    clear = "clear_policy" if command == "set_policy" else "clear_operator_policy"
    if (clear, name) not in t.undo:
        t.undo.append((clear, name))
    t.ctl(command, name, pattern or "^" + t.script.replace(".", r"\.") + r"\.", json.dumps(definition),
          "--apply-to", apply_to, "--priority", priority)


@script("23", "57", kinds=KINDS)
def message_ttl(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"message-ttl": 100})
    ch.call("confirm.select")
    ch.publish("", name, "expires")
    ch.confirms(1)
    t.counts(name, messages=0)
    t.ctl("clear_policy", "diff")
    ch.publish("", name, "stays")
    ch.confirms(1)
    t.let_pass(300)
    t.counts(name, messages=1)


@script("25", "57", kinds=KINDS)
def max_length(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for i in range(5):
        ch.publish("", name, f"m{i}")
    ch.confirms(5)
    policy(t, {"max-length": 2})
    ch.publish("", name, "m5")
    ch.confirms(1)
    t.counts(name, messages=2)
    t.ctl("clear_policy", "diff")
    for i in range(3):
        ch.publish("", name, f"n{i}")
    ch.confirms(3)
    t.counts(name, messages=5)


@script("25", "57", kinds=KINDS)
def smaller_of_argument_and_policy(t):
    ch = t.channel()
    policy(t, {"max-length": 3})
    ch.call("confirm.select")
    for suffix, length, left in (("less", 2, 2), ("more", 9, 3)):
        name = t.queue(ch, suffix, {"x-max-length": length})
        for i in range(5):
            ch.publish("", name, f"m{i}")
        ch.confirms(5)
        t.counts(name, messages=left)


@script("24", "57", kinds=KINDS)
def dead_letter_exchange(t):
    """An argument wins over a policy."""
    ch = t.channel()
    dead, own = t.queue(ch, "dead"), t.queue(ch, "own")
    policy(t, {"dead-letter-exchange": "", "dead-letter-routing-key": dead},
           pattern=r"^policy\.dead-letter-exchange\.q")
    name = t.queue(ch, "q1")
    other = t.queue(ch, "q2", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": own})
    for queue in (name, other):
        ch.publish("", queue, "m")
        t.counts(queue, messages=1)
        tag = ch.call("basic.get", queue=queue)["tag"]
        ch.send("basic.reject", tag=tag)
    for queue in (dead, own):
        ch.call("basic.consume", queue=queue, tag=queue[-3:], no_ack=1)
        ch.deliveries(1)


@script("25", "57", kinds=KINDS)
def operator_policy(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"max-length": 4})
    policy(t, {"max-length": 2}, command="set_operator_policy", name="op")
    ch.call("confirm.select")
    for i in range(6):
        ch.publish("", name, f"m{i}")
    ch.confirms(6)
    t.counts(name, messages=2)
    t.ctl("clear_operator_policy", "op")
    for i in range(6):
        ch.publish("", name, f"m{i}")
    ch.confirms(6)
    t.counts(name, messages=4)


@script("25", "57")
def highest_priority_only(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"max-length": 1}, name="low", priority="1")
    policy(t, {"max-length-bytes": 1000000}, name="high", priority="5")
    ch.call("confirm.select")
    for i in range(3):
        ch.publish("", name, f"m{i}")
    ch.confirms(3)
    t.counts(name, messages=3)


@script("11", "57", kinds=KINDS)
def alternate_exchange(t):
    ch = t.channel()
    name, other = t.exchange(ch, "direct"), t.exchange(ch, "fanout", "other")
    queue = t.queue(ch)
    t.bind(ch, other, queue)
    ch.call("confirm.select")
    ch.publish(name, "k", "before", mandatory=1)
    ch.confirms(1)
    policy(t, {"alternate-exchange": other}, pattern=r"^policy\.alternate-exchange\.x$",
           apply_to="exchanges")
    ch.publish(name, "k", "with", mandatory=1)
    ch.confirms(1)
    ch.call("basic.get", queue=queue, no_ack=1)


@script("23", "57", kinds=KINDS)
def expires(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"expires": 300})
    t.gone(name)


@script("57")
def bad_definitions(t):
    for definition in ({}, {"max-length": -1}, {"max-length": "x"}, {"odd": 1}, {"expires": 0},
                       {"overflow": "odd"}, {"message-ttl": -5}, {"ha-params": 2}, {"ha-mode": "exactly"},
                       {"dead-letter-exchange": 1}, {"delivery-limit": "x"}):
        policy(t, definition)


def user(t, configure, write, read, tags=()):
    name = "diff-user"
    t.ctl("add_user", name, "secret", undo=("delete_user", name))
    if tags:
        t.ctl("set_user_tags", name, *tags)
    t.ctl("set_permissions", name, configure, write, read)
    return t.connect(user=name, password="secret")


@script("55")
def permissions(t):
    """Each operation, refused for the one thing that is missing."""
    ch = t.channel()
    t.names += ["own.q", "own.x"]
    for suffix in ("c", "w", "r"):
        t.queue(ch, suffix)
        t.exchange(ch, "fanout", suffix + "x")
    base = t.script.replace(".", r"\.") + r"\."
    a = user(t, f"^(own.*|{base}(c|cx))$", f"^(own.*|{base}(w|wx))$", f"^(own.*|{base}(r|rx))$")
    queue, exchange = t.name, lambda suffix: t.name(suffix + "x")
    for method, fields in (
            ("queue.declare", dict(queue=queue("w"))), ("queue.declare", dict(queue=queue("c"))),
            ("queue.declare", dict(queue=queue("w"), passive=1)), ("queue.delete", dict(queue=queue("r"))),
            ("exchange.declare", dict(exchange=exchange("r"), type="fanout")),
            ("exchange.declare", dict(exchange=exchange("c"), type="fanout")),
            ("exchange.delete", dict(exchange=exchange("w"))),
            ("queue.bind", dict(queue=queue("r"), exchange=exchange("r"))),
            ("queue.bind", dict(queue=queue("w"), exchange=exchange("w"))),
            ("queue.bind", dict(queue=queue("w"), exchange=exchange("r"))),
            ("queue.unbind", dict(queue=queue("w"), exchange=exchange("w"))),
            ("exchange.bind", dict(destination=exchange("r"), source=exchange("r"))),
            ("exchange.bind", dict(destination=exchange("w"), source=exchange("w"))),
            ("exchange.bind", dict(destination=exchange("w"), source=exchange("r"))),
            ("basic.get", dict(queue=queue("w"))), ("basic.get", dict(queue=queue("r"))),
            ("basic.consume", dict(queue=queue("c"))), ("queue.purge", dict(queue=queue("w"))),
            ("queue.purge", dict(queue=queue("r"))),
            ("queue.declare", dict(queue="own.q", arguments={"x-dead-letter-exchange": exchange("r")})),
            ("queue.declare", dict(queue="own.q", arguments={"x-dead-letter-exchange": exchange("w")})),
            ("exchange.declare", dict(exchange="own.x", type="fanout",
                                      arguments={"alternate-exchange": exchange("r")}))):
        a.channel().call(method, **fields)
    for name in (exchange("r"), ""):
        ch = a.channel()
        ch.publish(name, "k", "m")
        ch.closed()


@script("55")
def permissions_of_what_does_not_exist(t):
    """Whoever may not is told nothing about what there is."""
    ch = t.channel()
    queue = t.queue(ch)
    exchange = t.exchange(ch, "fanout")
    a = user(t, "", "", "")
    none, nowhere = t.name("none"), t.name("nowhere")
    for method, fields in (
            ("queue.declare", dict(queue=none)), ("queue.declare", dict(queue=none, passive=1)),
            ("queue.delete", dict(queue=none)), ("queue.purge", dict(queue=none)),
            ("exchange.declare", dict(exchange=nowhere, type="fanout", passive=1)),
            ("exchange.delete", dict(exchange=nowhere)),
            ("queue.bind", dict(queue=none, exchange=nowhere)),
            ("queue.bind", dict(queue=queue, exchange=nowhere)),
            ("queue.bind", dict(queue=none, exchange=exchange)),
            ("queue.unbind", dict(queue=none, exchange=nowhere)),
            ("exchange.bind", dict(destination=nowhere, source=exchange)),
            ("exchange.bind", dict(destination=exchange, source=nowhere)),
            ("exchange.unbind", dict(destination=nowhere, source=exchange)),
            ("basic.get", dict(queue=none)), ("basic.consume", dict(queue=none))):
        a.channel().call(method, **fields)
    ch = a.channel()
    ch.publish(nowhere, "k", "m")
    ch.closed()


@script("20", "54")
def impersonator(t):
    a = user(t, ".*", ".*", ".*", tags=("impersonator",))
    ch = a.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "m", user_id="somebody")
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("55")
def topic_permissions(t):
    ch = t.channel()
    t.queue(ch)
    a = user(t, ".*", ".*", ".*")
    t.ctl("set_topic_permissions", "diff-user", "amq.topic", r"^ok\.", r"^ok\.{username}$")
    for key, headers in (("ok.1", {}), ("not.ok", {}), ("ok.1", {"CC": ["not.ok"]})):
        ch = a.channel()
        ch.call("confirm.select")
        ch.publish("amq.topic", key, "m", headers=headers)
        ch.confirms(1)
    for key in ("ok.diff-user", "ok.other"):
        a.channel().call("queue.bind", queue=t.name("q"), exchange="amq.topic", key=key)


@script("56")
def limit_of_queues(t):
    """Of a virtual host: declaring what is there already is allowed."""
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.ctl("set_permissions", "-p", "diff-vhost", "guest", ".*", ".*", ".*")
    t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps({"max-queues": 1}))
    a = t.connect(vhost="diff-vhost")
    ch = a.channel()
    for suffix in ("1", "1", "2"):
        ch.call("queue.declare", queue=t.name(suffix))
    a.channel().call("queue.declare", queue="", exclusive=1)
    ch = a.channel()
    ch.call("queue.delete", queue=t.name("1"))
    ch.call("queue.declare", queue=t.name("2"))


@script("56")
def limit_of_connections(t):
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.ctl("set_permissions", "-p", "diff-vhost", "guest", ".*", ".*", ".*")
    t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps({"max-connections": 1}))
    t.connect(vhost="diff-vhost")
    t.refused(vhost="diff-vhost")
    t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps({"max-connections": 0}))
    t.refused(vhost="diff-vhost")
    t.ctl("clear_vhost_limits", "-p", "diff-vhost")
    t.connect(vhost="diff-vhost")


@script("56")
def limits_of_a_user(t):
    t.ctl("add_user", "diff-limited", "secret", undo=("delete_user", "diff-limited"))
    t.ctl("set_permissions", "diff-limited", ".*", ".*", ".*")
    t.ctl("set_user_limits", "diff-limited", json.dumps({"max-connections": 1, "max-channels": 2}))
    login = dict(user="diff-limited", password="secret")
    a = t.connect(**login)
    t.refused(**login)
    a.channel()
    a.channel()
    a.own.send_channel_open(3)
    a.own.closed()


@script("1", "54", by_hand=True)
def users_with_hashes(t):
    """What is exported elsewhere logs in here. RabbitMQ's command has this since 3.11."""
    for name, digest in (("diff-h1", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"),
                         ("diff-h2", "not a hash")):
        t.ctl("add_user", name, digest, "--pre-hashed-password", undo=("delete_user", name))
        t.ctl("set_permissions", name, ".*", ".*", ".*")
    for name, password in (("diff-h1", "wrong"), ("diff-h1", ""), ("diff-h2", "")):
        t.refused(user=name, password=password)
    t.connect(user="diff-h1", password="test12")


@script("5", "55")
def two_virtual_hosts(t):
    """One name in both, and nothing of one in the other; who has no permission does not get in."""
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.refused(vhost="diff-vhost")
    t.ctl("set_permissions", "-p", "diff-vhost", "guest", ".*", ".*", ".*")
    one, other = t.channel(), t.connect(vhost="diff-vhost").channel()
    name = t.queue(one)
    other.call("queue.declare", queue=name)
    one.publish("", name, "of the one")
    t.counts(name, messages=1)
    other.call("basic.get", queue=name)
    one.call("basic.get", queue=name, no_ack=1)
    t.ctl("delete_vhost", "diff-vhost")
    other.closed()


@script("26", "29", "37", "57", kinds=("durable",))
def mirrored_with_priorities(t):
    """A queue that becomes replicated while it has messages, and what it is goes on: priorities,
    one active consumer, a length limit."""
    ch, out = t.channel(), t.channel()
    name = t.queue(ch, arguments={"x-max-priority": 5, "x-single-active-consumer": True, "x-max-length": 10})
    out.call("confirm.select")
    out.publish("", name, "p1", priority=1, delivery_mode=2)
    out.confirms(1)
    policy(t, {"ha-mode": "all", "ha-sync-mode": "automatic"})
    for priority in (5, 3):
        out.publish("", name, f"p{priority}", priority=priority, delivery_mode=2)
        out.confirms(1)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="1")
    ch.call("basic.consume", queue=name, tag="2")
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.ack", tag=delivery["tag"])
    t.ctl("clear_policy", "diff")
    out.publish("", name, "after it")
    out.confirms(1)
    ch.deliveries(1)


@script("9", "57")
def mirrored_exclusive(t):
    """Exclusive queues stay as they are, whatever a policy says."""
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch, exclusive=1)
    policy(t, {"ha-mode": "all"})
    ch.publish("", name, "m")
    t.counts_here(ch, name, 1)
    a.close()
    t.gone(name)


@script("29", "57", kinds=("durable", "quorum"))
def limit_that_sinks_below_what_is_there(t):
    """With a consumer that holds some of it."""
    ch, out = t.channel(), t.channel()
    name = t.queue(ch)
    out.call("confirm.select")
    for i in range(5):
        out.publish("", name, f"m{i}")
        out.confirms(1)
    ch.call("basic.qos", count=2)
    ch.call("basic.consume", queue=name, tag="t")
    ch.deliveries(2)
    policy(t, {"max-length": 1})
    out.publish("", name, "m5")
    out.confirms(1)
    t.counts(name, messages=1)
    ch.send("basic.ack", tag=2, multiple=1)
    ch.deliveries(1)
