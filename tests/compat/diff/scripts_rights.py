"""What users may, and what happens to their connections when that changes; limits; alarms."""

import json

from registry import script
from session import KINDS
from scripts_policy import user

NAME = "diff-user"


def may(t, configure, write, read, vhost="/"):
    t.ctl("set_permissions", "-p", vhost, NAME, configure, write, read)


def tried(connection, method, **fields):
    connection.channel().call(method, **fields)


def published(connection, exchange, key):
    """Whether the publish is let in."""
    ch = connection.channel()
    ch.call("confirm.select")
    ch.publish(exchange, key, "m")
    ch.confirms(1)


@script("55")
def server_named_queues(t):
    """The generated name is what the pattern is asked about."""
    a = user(t, r"^amq\.gen.*$", ".*", ".*")
    for pattern in (r"^amq\.gen.*$", "^$", "", "amq", "^amq.gen$", "^x"):
        may(t, pattern, ".*", ".*")
        tried(a, "queue.declare", queue="", exclusive=1)


@script("55")
def default_exchange(t):
    """It is called amq.default."""
    ch = t.channel()
    name = t.queue(ch)
    a = user(t, ".*", ".*", ".*")
    for pattern in (r"^amq\.default$", "^$", "", "amq", "^default$", ".", name):
        may(t, ".*", pattern, ".*")
        published(a, "", name)


@script("55")
def patterns_of_permissions(t):
    """Found anywhere in the name; an empty one nowhere; one that does not compile is refused."""
    ch = t.channel()
    name = t.queue(ch, "Aa-1")
    a = user(t, ".*", ".*", ".*")
    for pattern in ("", "^", "$", "rights", "^rights", "^rights$", "(?i)aA-1$", "aA", "^(?!rights)", r"\d$", "(a|b)-1", "[",
                    "(", "a{2}", "(?=r)ri"):
        may(t, ".*", ".*", pattern)
        tried(a, "basic.get", queue=name, no_ack=1)


@script("11", "24", "55")
def other_exchanges_in_arguments(t):
    """An exchange for dead letters wants the queue to be readable and itself writable; an alternate
    exchange the exchange readable and itself writable."""
    t.names += ["own.q", "own.x"]
    ch = t.channel()
    target = t.exchange(ch, "fanout")
    a = user(t, "^own", "", "")
    mine, theirs = "^own", "^" + target.replace(".", r"\.") + "$"
    for write, read in (("", ""), (theirs, ""), ("", mine), (theirs, mine), (mine, theirs)):
        may(t, "^own", write, read)
        tried(a, "queue.declare", queue="own.q", arguments={"x-dead-letter-exchange": target})
        tried(a, "exchange.declare", exchange="own.x", type="fanout", arguments={"alternate-exchange": target})
        ch.call("queue.delete", queue="own.q")
        ch.call("exchange.delete", exchange="own.x")
    may(t, "^own", "", "")
    tried(a, "queue.declare", queue="own.q", arguments={"x-dead-letter-routing-key": "k", "x-message-ttl": 5})
    tried(a, "queue.declare", queue="own.q", arguments={"x-dead-letter-exchange": 5})
    tried(a, "exchange.declare", exchange="own.x", type="fanout", arguments={"alternate-exchange": 5})
    tried(a, "queue.declare", queue="own.q", passive=1, arguments={"x-dead-letter-exchange": target})


@script("55")
def topics_with_variables(t):
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    user(t, ".*", ".*", ".*")
    may(t, ".*", ".*", ".*", vhost="diff-vhost")
    a = t.connect(user=NAME, password="secret", vhost="diff-vhost")
    ch = a.channel()
    ch.call("queue.declare", queue=t.name("q"))
    for write, read in ((r"^{vhost}\.", "^{username}$"), ("{vhost}-{username}", "{username}|{vhost}"),
                        (r"^\{vhost}$", "^{unknown}$"), ("", ""), ("^$", "^$"), (".*", "^a")):
        t.ctl("set_topic_permissions", "-p", "diff-vhost", NAME, "amq.topic", write, read)
        for key in ("diff-vhost.1", "diff-vhost-diff-user", NAME, "", "a"):
            published(a, "amq.topic", key)
            tried(a, "queue.bind", queue=t.name("q"), exchange="amq.topic", key=key)
    t.ctl("clear_topic_permissions", "-p", "diff-vhost", NAME)
    published(a, "amq.topic", "b")
    t.ctl("set_topic_permissions", "-p", "diff-vhost", NAME, "amq.direct", "^$", "^$")
    published(a, "amq.direct", "b")
    published(a, "amq.topic", "b")


@script("55")
def permissions_that_change(t):
    """On a connection that goes on: new channels hear of it; consumers stay."""
    ch = t.channel()
    name = t.queue(ch)
    a = user(t, ".*", ".*", ".*")
    consumer = a.channel()
    consumer.call("basic.consume", queue=name, tag="t", no_ack=1)
    may(t, "", "", "")
    for method, fields in (("basic.get", dict(queue=name)), ("queue.declare", dict(queue=t.name("other")))):
        tried(a, method, **fields)
    published(a, "", name)
    ch.publish("", name, "still delivered")
    consumer.deliveries(1)
    t.ctl("clear_permissions", NAME)
    tried(a, "queue.purge", queue=name)
    t.refused(user=NAME, password="secret")
    ch.publish("", name, "still delivered")
    consumer.deliveries(1)
    may(t, ".*", ".*", ".*")
    tried(a, "queue.purge", queue=name)


@script("1", "54")
def users_that_change(t):
    """A new password is for those who come; tags and passwords close nothing."""
    a = user(t, ".*", ".*", ".*")
    t.ctl("change_password", NAME, "other")
    t.refused(user=NAME, password="secret")
    a.channel()
    t.connect(user=NAME, password="other").channel()
    t.ctl("set_user_tags", NAME, "administrator", "odd")
    t.ctl("set_user_tags", NAME)
    a.channel()
    t.ctl("clear_password", NAME)
    for password in ("other", "secret", ""):
        t.refused(user=NAME, password=password)
    a.channel()
    t.ctl("delete_user", NAME)
    a.closed()


@script("1", "54")
def names_and_passwords(t):
    for name, password in (("diff-\u00e9", "p\u00e4ss"), ("diff space", "a b"), ("diff:colon", ":"), ("diff", "x" * 300)):
        t.ctl("add_user", name, password, undo=("delete_user", name))
        t.ctl("set_permissions", name, ".*", ".*", ".*")
        t.connect(user=name, password=password).channel()
        t.refused(user=name, password=password + "x")
        t.refused(user=name.upper(), password=password)
    t.ctl("add_user", "diff", "again")
    t.refused(user="", password="")
    t.refused(user="nobody", password="")
    t.refused(vhost="")
    t.refused(vhost="/x")


@script("56")
def no_limit_and_none(t):
    """Negative numbers, and zero."""
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.ctl("set_permissions", "-p", "diff-vhost", "guest", ".*", ".*", ".*")
    a = t.connect(vhost="diff-vhost")
    limit = lambda what: t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps(what))
    limit({"max-queues": 0})
    tried(a, "queue.declare", queue=t.name("1"))
    tried(a, "queue.declare", queue=t.name("1"), passive=1)
    limit({"max-queues": -1})
    tried(a, "queue.declare", queue=t.name("1"))
    limit({"max-queues": 0})
    for fields in (dict(), dict(passive=1), dict(arguments={"x-max-length": 1}), dict(exclusive=1)):
        tried(a, "queue.declare", queue=t.name("1"), **fields)
    tried(a, "queue.declare", queue=t.name("2"), passive=1)
    tried(a, "queue.declare", queue="", exclusive=1)
    limit({"max-connections": 0})
    t.refused(vhost="diff-vhost")
    a.channel()
    limit({"max-connections": -1})
    t.connect(vhost="diff-vhost")
    limit({"max-connections": 1})
    t.refused(vhost="diff-vhost")
    tried(a, "queue.declare", queue=t.name("2"))
    t.ctl("clear_vhost_limits", "-p", "diff-vhost")
    t.connect(vhost="diff-vhost")


@script("56")
def limits_of_users_in_use(t):
    a = user(t, ".*", ".*", ".*")
    login = dict(user=NAME, password="secret")
    a.channel(1)
    a.channel(2)
    limit = lambda what: t.ctl("set_user_limits", NAME, json.dumps(what))
    limit({"max-connections": 0})
    t.refused(**login)
    a.channel(3)
    limit({"max-connections": -1})
    b = t.connect(**login)
    limit({"max-connections": 1})
    t.refused(**login)
    b.close()
    t.refused(**login)
    limit({"max-connections": 2, "max-channels": 4})
    a.channel(4)
    a.own.send_channel_open(5)
    a.own.closed()
    b = t.connect(**login)
    limit({"max-channels": 0})
    b.own.send_channel_open(1)
    b.own.closed()
    limit({"max-channels": -1})
    t.connect(**login).channel()
    t.ctl("clear_user_limits", NAME, "all")
    t.connect(**login).channel()


@script("56")
def places_that_become_free(t):
    """Whoever has heard that a connection is closed can open the next one."""
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.ctl("set_permissions", "-p", "diff-vhost", "guest", ".*", ".*", ".*")
    t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps({"max-connections": 1}))
    for _ in range(10):
        t.connect(vhost="diff-vhost").close()


# --- alarms ------------------------------------------------------------------------------------------


def alarm(t):
    t.ctl("set_vm_memory_high_watermark", "0", undo=("set_vm_memory_high_watermark", "0.4"))


def over(t):
    t.ctl("set_vm_memory_high_watermark", "0.4")


@script("19", kinds=KINDS)
def blocked_by_its_first_publish(t):
    """Who only consumes hears nothing; a publish waits, what is delivered can be acknowledged."""
    a, b = t.connect(), t.connect()
    out, ch = a.channel(), b.channel()
    name = t.queue(ch)
    out.call("confirm.select")
    for body in ("m0", "m1"):
        out.publish("", name, body)
    out.confirms(2)
    alarm(t)
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="t")
    for _ in range(2):
        for delivery in ch.deliveries(1):
            ch.send("basic.ack", tag=delivery["tag"])
    t.counts(name, messages=0)
    out.publish("", name, "waits")
    a.own.take(1, "connection.blocked")
    t.counts(name, messages=0)
    over(t)
    a.own.take(1, "connection.unblocked")
    out.confirms(1)
    ch.deliveries(1)


@script("19")
def connections_that_come_under_an_alarm(t):
    alarm(t)
    a, b = t.connect(), t.connect(capabilities=("consumer_cancel_notify",))
    one, two = a.channel(), b.channel()
    name = t.queue(one)
    one.publish("", name, "of one that is told")
    a.own.take(1, "connection.blocked")
    two.publish("", name, "of one that is not")
    over(t)
    a.own.take(1, "connection.unblocked")
    t.counts(name, messages=2)


@script("19")
def blocked_and_blocked_again(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for _ in range(2):
        alarm(t)
        ch.publish("", name, "m")
        a.own.take(1, "connection.blocked")
        over(t)
        a.own.take(1, "connection.unblocked")
        ch.confirms(1)
    t.counts(name, messages=2)
