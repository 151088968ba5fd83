"""Direct reply-to."""

from registry import script
from session import KINDS

REPLY = "amq.rabbitmq.reply-to"


def server(t):
    """A queue for requests and the channel that answers them."""
    ch = t.channel()
    return ch, t.queue(ch, "requests")


def request(t, ch, body="ask"):
    """Publishes a request and takes it from the queue: the name to answer to."""
    ch.publish("", t.name("requests"), body, reply_to=REPLY, correlation_id="c", mandatory=1)


def name_of(back, queue):
    """The name in the request that waits in the queue."""
    back.call("basic.consume", queue=queue, tag="serve", no_ack=1)
    event = back.next(("basic.deliver",))
    back.record("<", "the request")
    back.call("basic.cancel", tag="serve")
    return next(value for key, value in event[2] if key == "reply-to").decode()


@script("22", kinds=KINDS)
def request_and_reply(t):
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="replies", no_ack=1)
    request(t, ch)
    back.call("basic.consume", queue=queue, tag="serve", no_ack=1)
    event = back.next(("basic.deliver",))
    name = next(value for key, value in event[2] if key == "reply-to").decode()
    back.record("<", "the reply-to begins well: " + str(name.startswith(REPLY + ".")))
    back.call("confirm.select")
    back.publish("", name, "answer", correlation_id="c", headers={"h": 1})
    back.confirms(1)
    ch.deliveries(1)
    back.publish("", name, "another")
    back.confirms(1)
    ch.deliveries(1)


@script("22")
def many_in_order(t):
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, no_ack=1)
    request(t, ch)
    name = name_of(back, queue)
    for i in range(10):
        back.publish("", name, f"m{i}")
    ch.deliveries(10)


@script("22")
def consumer_must_not_ack(t):
    ch = t.channel()
    ch.call("basic.consume", queue=REPLY, tag="replies")


@script("22")
def second_consumer(t):
    ch = t.channel()
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    ch.call("basic.consume", queue=REPLY, tag="2", no_ack=1)


@script("22")
def two_channels_have_their_own(t):
    a = t.connect()
    one, two = a.channel(), a.channel()
    back, queue = server(t)
    for ch, tag in ((one, "1"), (two, "2")):
        ch.call("basic.consume", queue=REPLY, tag=tag, no_ack=1)
        request(t, ch)
        name = name_of(back, queue)
        back.publish("", name, "for " + tag)
        ch.deliveries(1)


@script("22")
def no_consumer(t):
    a = t.connect()
    ch = a.channel()
    t.queue(ch, "requests")
    request(t, ch)
    ch.closed()
    ch = a.channel()
    ch.publish("amq.direct", "nobody", "m", reply_to=REPLY)
    ch.closed()


@script("22")
def cancelled_and_again(t):
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    request(t, ch)
    name_of(back, queue)
    ch.call("basic.cancel", tag="1")
    ch.call("basic.consume", queue=REPLY, tag="2", no_ack=1)
    request(t, ch)
    name = name_of(back, queue)
    back.publish("", name, "to the second")
    ch.deliveries(1)


@script("22")
def exists(t):
    """Whether who asked is still there can be asked by declaring the name."""
    a = t.connect()
    ch = a.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    request(t, ch)
    name = name_of(back, queue)
    back.call("queue.declare", queue=name, passive=1)
    back.call("queue.declare", queue=name)
    ch.close()
    t.connections[1].channel().call("queue.declare", queue=name, passive=1)


@script("12", "13", "22")
def to_one_who_has_gone(t):
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    request(t, ch)
    name = name_of(back, queue)
    ch.close()
    back.call("confirm.select")
    back.publish("", name, "too late")
    back.confirms(1)


@script("12", "22")
def a_request_that_comes_back(t):
    """With the name that stands for the asking channel, as whoever was to answer would have seen it."""
    ch = t.channel()
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    for exchange in ("", "amq.fanout"):
        ch.publish(exchange, t.name("nowhere"), "m", reply_to=REPLY, mandatory=1,
                   headers={"BCC": ["nobody"]})
        ch.take(1, "basic.return")


@script("12", "13", "22")
def mandatory(t):
    """Reply names do not count as routed."""
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    request(t, ch)
    name = name_of(back, queue)
    back.call("confirm.select")
    back.publish("", name, "m", mandatory=1)
    back.confirms(1)
    ch.deliveries(1)


@script("22")
def the_name_itself(t):
    a = t.connect()
    ch = a.channel()
    ch.call("queue.declare", queue=REPLY)
    ch.call("queue.declare", queue=REPLY, passive=1)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    ch.call("queue.declare", queue=REPLY, passive=1)
    for method, fields in (("basic.get", {}), ("queue.purge", {}), ("queue.delete", {}),
                           ("queue.bind", dict(exchange="amq.fanout"))):
        a.channel().call(method, queue=REPLY, **fields)
    ch.call("confirm.select")
    ch.publish("", REPLY, "to the name itself", mandatory=1)
    ch.confirms(1)


@script("22")
def garbled_names(t):
    ch = t.channel()
    ch.call("confirm.select")
    # one with two more points ends the connection of 3.10 with an internal error
    for name in (REPLY + ".", REPLY + ".x", REPLY + "x"):
        ch.publish("", name, "m", mandatory=1)
        ch.confirms(1)


@script("22")
def other_reply_names_pass(t):
    ch = t.channel()
    name = t.queue(ch)
    for reply in ("plain", REPLY + ".g1h2AA.BB", "amq.gen-x"):
        ch.publish("", name, "m", reply_to=reply)
    t.counts(name, messages=3)
    for _ in range(3):
        ch.call("basic.get", queue=name, no_ack=1)


@script("14", "22", kinds=KINDS)
def in_a_transaction(t):
    ch = t.channel()
    back, queue = server(t)
    ch.call("basic.consume", queue=REPLY, tag="1", no_ack=1)
    ch.call("tx.select")
    request(t, ch)
    ch.call("tx.commit", in_order=True)
    name = name_of(back, queue)
    back.publish("", name, "answer")
    ch.deliveries(1)


@script("22")
def declared_last(t):
    """A queue name that is left out stands for the pseudo-queue, too."""
    for method, fields in (("basic.consume", dict(tag="t", no_ack=1)), ("basic.consume", dict(tag="t")),
                           ("basic.get", {}), ("queue.purge", {}), ("queue.delete", {}),
                           ("queue.bind", dict(exchange="amq.direct")),
                           ("queue.unbind", dict(exchange="amq.direct"))):
        ch = t.channel()
        ch.call("queue.declare", queue=REPLY)
        ch.call(method, queue="", **fields)
        ch.connection.close()
