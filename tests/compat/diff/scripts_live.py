"""Policies that change under queues and exchanges in use: what counts at once, what for new messages only."""

import json

from registry import script
from scripts_policy import policy
from session import KINDS

BOTH = ("durable", "quorum")


def fill(ch, name, *bodies, **properties):
    for body in bodies:
        ch.publish("", name, body, **properties)
    ch.confirms(len(bodies))


def drain(ch, name, count):
    for _ in range(count):
        ch.call("basic.get", queue=name, no_ack=1)


@script("24", "25", "57", kinds=KINDS)
def length_that_shrinks(t):
    """What is too much goes at once, oldest first, to the exchange for dead letters."""
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1", "m2", "m3")
    policy(t, {"max-length": 2}, pattern=r"\.q$")
    t.counts(dead, messages=2)
    policy(t, {"max-length": 1}, pattern=r"\.q$")
    t.counts(dead, messages=3)
    policy(t, {"max-length": 0}, pattern=r"\.q$")
    t.counts(dead, messages=4)
    if t.kind != "quorum":              # RabbitMQ's quorum queues send the letters out of order
        drain(ch, dead, 4)
    t.ctl("clear_policy", "diff")
    fill(ch, name, "m4", "m5")
    t.counts(name, messages=2)


@script("25", "57", kinds=("transient", "durable"))
def bytes_that_shrink(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    fill(ch, name, "12345", "123", "1234")
    policy(t, {"max-length-bytes": 7})
    t.counts(name, messages=2)
    policy(t, {"max-length-bytes": 3})
    t.counts(name, messages=0)


@script("25", "57", kinds=("transient", "durable"))
def length_that_shrinks_where_publishers_are_refused(t):
    ch = t.channel()
    name = t.queue(ch, arguments={"x-overflow": "reject-publish"})
    ch.call("confirm.select")
    fill(ch, name, "m0", "m1", "m2")
    policy(t, {"max-length": 1})
    fill(ch, name, "m3")
    t.counts(name, messages=3)
    drain(ch, name, 3)
    fill(ch, name, "m4", "m5")
    t.counts(name, messages=1)


@script("23", "57", kinds=KINDS)
def ttl_for_what_is_there(t):
    """A time to live counts from the moment at which a message came, if it was in force then."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    fill(ch, name, "before")
    policy(t, {"message-ttl": 100})
    t.let_pass(400)
    t.counts(name, messages=1)
    drain(ch, name, 1)
    fill(ch, name, "with")
    t.counts(name, messages=0)
    policy(t, {"message-ttl": 60000})
    fill(ch, name, "long")
    policy(t, {"message-ttl": 100})
    t.let_pass(400)
    t.counts(name, messages=1)


@script("23", "57", kinds=KINDS)
def ttl_that_is_cleared(t):
    """A message keeps the time that it came with."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    policy(t, {"message-ttl": 4000})
    fill(ch, name, "m")
    t.ctl("clear_policy", "diff")
    t.counts(name, messages=1)
    t.counts(name, messages=0)


@script("23", "57", kinds=KINDS)
def expires_that_changes(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"expires": 60000})
    t.let_pass(300)
    policy(t, {"expires": 300})
    t.gone(name)


@script("23", "57", kinds=("durable",))
def expires_that_is_cleared(t):
    ch = t.channel()
    name = t.queue(ch)
    policy(t, {"expires": 4000})
    t.ctl("clear_policy", "diff")
    t.let_pass(5000)
    t.counts(name, messages=0)


@script("23", "57", kinds=BOTH)
def expires_is_the_smaller(t):
    ch = t.channel()
    policy(t, {"expires": 60000})
    policy(t, {"expires": 300}, command="set_operator_policy", name="op")
    t.gone(t.queue(ch, "1"))
    t.gone(t.queue(ch, "2", {"x-expires": 40000}))
    t.ctl("clear_operator_policy", "op")
    t.gone(t.queue(ch, "3", {"x-expires": 300}))


@script("23", "57", kinds=BOTH)
def ttl_is_the_smaller(t):
    ch = t.channel()
    ch.call("confirm.select")
    policy(t, {"message-ttl": 60000})
    policy(t, {"message-ttl": 100}, command="set_operator_policy", name="op")
    one, two = t.queue(ch, "1"), t.queue(ch, "2", {"x-message-ttl": 40000})
    fill(ch, one, "m")
    fill(ch, two, "m")
    fill(ch, two, "m", expiration="50000")
    for name in (one, two):
        t.counts(name, messages=0)
    t.ctl("clear_operator_policy", "op")
    three = t.queue(ch, "3", {"x-message-ttl": 100})
    fill(ch, three, "m")
    t.counts(three, messages=0)
    fill(ch, one, "m", expiration="100")
    t.counts(one, messages=0)


@script("25", "57", kinds=("transient", "durable"))
def bytes_are_the_smaller(t):
    ch = t.channel()
    ch.call("confirm.select")
    policy(t, {"max-length-bytes": 6, "max-length": 100})
    policy(t, {"max-length-bytes": 4}, command="set_operator_policy", name="op")
    for suffix, arguments in (("1", {}), ("2", {"x-max-length-bytes": 2}), ("3", {"x-max-length-bytes": 8})):
        name = t.queue(ch, suffix, arguments)
        fill(ch, name, "aa", "bb", "cc", "dd")
        t.counts(name, messages={"1": 2, "2": 1, "3": 2}[suffix])


@script("39", "57")
def delivery_limit_is_the_smaller(t):
    t.kind = "quorum"
    ch = t.channel()
    ch.call("confirm.select")
    policy(t, {"delivery-limit": 2})
    for suffix, arguments in (("1", {}), ("2", {"x-delivery-limit": 1}), ("3", {"x-delivery-limit": 5})):
        name = t.queue(ch, suffix, arguments)
        fill(ch, name, "m")
        ch.call("basic.consume", queue=name, tag=suffix)
        for _ in range({"1": 3, "2": 2, "3": 3}[suffix]):
            for delivery in ch.deliveries(1):
                ch.send("basic.reject", tag=delivery["tag"], requeue=1)
        t.counts(name, messages=0)
        fill(ch, name, "end")
        ch.deliveries(1)


@script("39", "57")
def delivery_limit_that_comes_later(t):
    """It counts with the next return."""
    t.kind = "quorum"
    ch = t.channel()
    dead = t.queue(ch, "dead")
    name = t.queue(ch, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
                                  "x-delivery-limit": 10})
    ch.call("confirm.select")
    fill(ch, name, "m")
    ch.call("basic.consume", queue=name, tag="t")
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.reject", tag=delivery["tag"], requeue=1)
    found = ch.deliveries(1)
    policy(t, {"delivery-limit": 2}, pattern=r"\.q$")
    for delivery in found:
        ch.send("basic.reject", tag=delivery["tag"], requeue=1)
    t.counts(dead, messages=1)


@script("24", "57", kinds=BOTH)
def letters_of_argument_and_policy(t):
    """An argument wins, for the exchange and for the key, each by itself."""
    ch = t.channel()
    one, two = t.queue(ch, "one"), t.queue(ch, "two")
    exchange = t.exchange(ch, "direct")
    t.bind(ch, exchange, one, "one")
    t.bind(ch, exchange, two, "two")
    policy(t, {"dead-letter-exchange": exchange, "dead-letter-routing-key": "one"}, pattern=r"\.q\d$")
    ch.call("confirm.select")
    for suffix, arguments in (("q1", {"x-dead-letter-exchange": exchange}),
                              ("q2", {"x-dead-letter-exchange": ""}),
                              ("q3", {"x-dead-letter-exchange": exchange,
                                      "x-dead-letter-routing-key": "two"}), ("q4", {})):
        name = t.queue(ch, suffix, arguments)
        fill(ch, name, suffix)
        t.counts(name, messages=1)
        tag = ch.call("basic.get", queue=name)["tag"]
        ch.send("basic.reject", tag=tag)
        ch.sync()
    t.counts(one, messages=3)
    t.counts(two, messages=1)
    t.counts(t.name("q2"), messages=0)


@script("24", "57", kinds=BOTH)
def a_key_for_letters_alone(t):
    """By a policy it is no error, and nothing."""
    ch = t.channel()
    name, dead = t.queue(ch), t.queue(ch, "dead")
    policy(t, {"dead-letter-routing-key": dead}, pattern=r"\.q$")
    ch.call("confirm.select")
    fill(ch, name, "m")
    tag = ch.call("basic.get", queue=name)["tag"]
    ch.send("basic.reject", tag=tag)
    ch.sync()
    t.counts(dead, messages=0)
    t.counts(name, messages=0)


@script("25", "57", kinds=("durable",))
def overflow_of_argument_and_policy(t):
    ch = t.channel()
    ch.call("confirm.select")
    policy(t, {"max-length": 1, "overflow": "reject-publish"})
    for suffix, arguments in (("1", {"x-overflow": "drop-head"}), ("2", {})):
        name = t.queue(ch, suffix, arguments)
        fill(ch, name, "m0", "m1")
        drain(ch, name, 2)


@script("57", kinds=("durable",))
def patterns(t):
    """Where a pattern is found in the name, and as what."""
    ch = t.channel()
    ch.call("confirm.select")
    name = t.queue(ch, "a.B1-\u00e9")
    for pattern in ("", "live", "^live", "^live$", r"patterns\.a", "B1", "b1", "(?i)b1", r"\d-", r"^\d", "^(?!live)",
                    "^(?=live).*a", "(live|x).*1", r"\.a\.[A-Z]\d", "[[:upper:]]", "\u00e9$", r"-..$", r"-.$", r"\A\w+\.",
                    "(?<=a)\\.B", ".*", "^.*$", r"live\.patterns\Z", "a{1}", "a{2}", "l(i)v\\1", "(?x) l i v e"):
        policy(t, {"max-length": 1}, pattern=pattern)
        fill(ch, name, "m0", "m1")
        ch.call("queue.purge", queue=name)


@script("57", kinds=("durable",))
def patterns_that_do_not_compile(t):
    for pattern in ("(", "[a", "a{2,1}", "*", "a**", "(?<n>a)(?<n>b)", "\\"):
        policy(t, {"max-length": 1}, pattern=pattern)


@script("57")
def kinds_of_objects(t):
    """A policy for queues is none for an exchange of the same name, and the other way round."""
    ch = t.channel()
    ch.call("confirm.select")
    queue, other = t.queue(ch, "n"), t.queue(ch, "other")
    alternate = t.exchange(ch, "fanout", "alternate")
    t.bind(ch, alternate, other)
    ch.call("exchange.declare", exchange=queue, type="direct")
    for kind in ("queues", "exchanges", "all"):
        policy(t, {"alternate-exchange": alternate, "max-length": 1}, pattern=r"\.n$", apply_to=kind)
        fill(ch, queue, "m0", "m1")
        ch.publish(queue, "nowhere", "x", mandatory=1)
        ch.confirms(1)
        ch.call("queue.purge", queue=queue)
        ch.call("queue.purge", queue=other)


@script("57")
def only_one_policy(t):
    """The one of the highest priority, negative ones too, with all its keys and none of others."""
    ch = t.channel()
    ch.call("confirm.select")
    name = t.queue(ch)
    policy(t, {"max-length": 3}, name="low", priority="-5")
    fill(ch, name, "m0", "m1", "m2", "m3")
    policy(t, {"max-length": 2}, name="middle", priority="-1")
    t.counts(name, messages=2)
    policy(t, {"max-length-bytes": 100}, name="high", priority="7")
    fill(ch, name, "m4", "m5", "m6")
    t.counts(name, messages=5)
    policy(t, {"max-length-bytes": 100}, name="high", priority="-9")
    t.counts(name, messages=2)
    t.ctl("clear_policy", "middle")
    fill(ch, name, "m7", "m8")
    t.counts(name, messages=3)


@script("11", "57")
def alternate_that_changes(t):
    ch = t.channel()
    ch.call("confirm.select")
    name = t.exchange(ch, "direct")
    queues = []
    for suffix in ("a", "b"):
        exchange = t.exchange(ch, "fanout", suffix + "x")
        queues.append(t.queue(ch, suffix))
        t.bind(ch, exchange, queues[-1])
        policy(t, {"alternate-exchange": exchange}, pattern=r"\.x$", apply_to="exchanges")
        ch.publish(name, "k", suffix, mandatory=1)
        ch.confirms(1)
    policy(t, {"alternate-exchange": t.name("nowhere")}, pattern=r"\.x$", apply_to="exchanges")
    ch.publish(name, "k", "nobody's", mandatory=1)
    ch.confirms(1)
    t.ctl("clear_policy", "diff")
    ch.publish(name, "k", "nobody's", mandatory=1)
    ch.confirms(1)
    for queue in queues:
        drain(ch, queue, 2)


@script("57", kinds=("durable",))
def keys_without_effect(t):
    """Of mirroring, paging and versions: a queue goes on as before."""
    ch = t.channel()
    ch.call("confirm.select")
    name = t.queue(ch)
    for definition in ({"queue-mode": "lazy"}, {"queue-mode": "default"}, {"queue-version": 2}, {"queue-version": 1},
                       {"ha-mode": "all"}, {"ha-mode": "exactly", "ha-params": 5},
                       {"ha-mode": "all", "ha-sync-mode": "automatic", "ha-sync-batch-size": 10,
                        "ha-promote-on-shutdown": "always", "ha-promote-on-failure": "when-synced"},
                       {"queue-master-locator": "random"}):
        policy(t, definition)
        fill(ch, name, "m", delivery_mode=2)
        drain(ch, name, 1)


@script("57", kinds=("quorum",))
def keys_of_classic_queues(t):
    """A policy with one of them does not apply to other queues at all."""
    ch = t.channel()
    ch.call("confirm.select")
    name = t.queue(ch)
    policy(t, {"max-length": 1, "queue-mode": "lazy"})
    fill(ch, name, "m0", "m1", "m2")
    t.counts(name, messages=3)


@script("57", "37")
def bad_parameters_of_mirrors(t):
    for mode, params in (("all", 1), ("all", None), ("exactly", None), ("exactly", 0), ("exactly", -1), ("exactly", "2"),
                         ("exactly", ["a"]), ("nodes", None), ("nodes", []), ("nodes", 2), ("nodes", [1]),
                         ("nodes", ["rabbit@a", "rabbit@b"]), ("odd", 1)):
        policy(t, {"ha-mode": mode, **({} if params is None else {"ha-params": params})}, pattern="^nobody's$")


@script("56", "57")
def limits_of_the_command(t):
    """What is a limit, and of which kind."""
    t.ctl("add_vhost", "diff-vhost", undo=("delete_vhost", "diff-vhost"))
    t.ctl("add_user", "diff-limited", "secret", undo=("delete_user", "diff-limited"))
    for definition in ({"max-queues": "x"}, {"max-queues": 1.5}, {"max-queues": -1}, {"max-queues": -7},
                       {"max-connections": 0}, {"odd": 1}, {"max-channels": 1}, {}, {"max-queues": 1, "odd": 2},
                       {"max-queues": None}, {"max-queues": True}, {"max-connections": 2 ** 31}):
        t.ctl("set_vhost_limits", "-p", "diff-vhost", json.dumps(definition))
    for definition in ({"max-channels": "x"}, {"max-channels": -1}, {"max-connections": -7}, {"odd": 1},
                       {"max-queues": 1}, {}, {"max-channels": 1.5}, {"max-channels": 1, "odd": 1}):
        t.ctl("set_user_limits", "diff-limited", json.dumps(definition))
