"""What libraries and frameworks do on top of AMQP: their topologies, and their habits."""

from registry import script
from scripts_dlx import EXCHANGE, KEY, delivered, rejected
from scripts_limit import drain

BOTH = ("durable", "quorum")
QUORUM = {"x-queue-type": "quorum"}


def quietly(t, ch, name):
    """The next message of a queue, with its properties, not recorded."""
    t.counts(name, messages=1)
    t.quiet += 1
    ch.send("basic.get", queue=name, no_ack=1)
    event = ch.next(("basic.get-ok",))
    t.quiet -= 1
    return event


# --- retries by time to live and dead letters -----------------------------------------------------


@script("23", "24", kinds=BOTH)
def retry_queue_and_parking_lot(t):
    """A template of Spring's: rejected goes to a queue that expires back; after three, parked."""
    ch = t.channel()
    work = t.exchange(ch, "topic", "work", durable=1)
    retry = t.exchange(ch, "topic", "retry", durable=1)
    name = t.queue(ch, arguments={EXCHANGE: retry})
    wait = t.queue(ch, "wait", {EXCHANGE: work, "x-message-ttl": 50})
    park = t.queue(ch, "park")
    t.bind(ch, work, name, "orders.#")
    t.bind(ch, retry, wait, "#")
    ch.publish(work, "orders.new", "m", message_id="id-1", headers={"__TypeId__": "Order"})
    ch.call("basic.qos", count=1)
    ch.call("basic.consume", queue=name, tag="listener")
    for _ in range(3):
        for delivery in ch.deliveries(1):
            ch.send("basic.reject", tag=delivery["tag"])
    event = ch.next(("basic.deliver",))
    ch.record("<", "the fourth time")
    ch.publish("", park, event[3], headers=dict(event[2])["headers"])
    ch.send("basic.ack", tag=event[1]["tag"])
    delivered(ch, park)


@script("23", "24", kinds=BOTH)
def retry_exchange_per_queue(t):
    """As Sneakers' handler has it: a retry and a requeue exchange, and one for errors."""
    ch = t.channel()
    retry, requeue = t.exchange(ch, "topic", "retry"), t.exchange(ch, "topic", "requeue")
    name = t.queue(ch, arguments={EXCHANGE: retry})
    wait = t.queue(ch, "wait", {EXCHANGE: requeue, "x-message-ttl": 50})
    t.bind(ch, retry, wait, "#")
    t.bind(ch, requeue, name, "#")
    t.bind(ch, "amq.direct", name, "clients.job")
    ch.publish("amq.direct", "clients.job", "m", delivery_mode=2, content_type="application/json")
    for _ in range(2):
        rejected(ch, name)
    delivered(ch, name)


@script("23", "24", kinds=BOTH)
def delay_queue_per_time(t):
    """As Symfony and Laravel: a queue for each delay, declared again with each message."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    for i in range(3):
        wait = t.queue(ch, "delay.60", {"x-message-ttl": 60, "x-expires": 20000, EXCHANGE: "", KEY: name})
        ch.publish("", wait, f"m{i}", delivery_mode=2)
        ch.deliveries(1)


@script("10", "23", "24", "40", kinds=("quorum",))
def delay_by_bits(t):
    """As NServiceBus and Celery: a ladder of queues, each twice as long, a key bit for each."""
    ch = t.channel()
    levels = 3
    deliver = t.exchange(ch, "topic", "delivery", durable=1)
    names = [t.exchange(ch, "topic", f"level{i}", durable=1) for i in range(levels)]
    for i, exchange in enumerate(names):
        below = names[i - 1] if i else deliver
        wait = t.queue(ch, f"wait{i}", {EXCHANGE: below, "x-message-ttl": 60 << i, "x-overflow": "reject-publish",
                                        "x-dead-letter-strategy": "at-least-once"})
        prefix = "*." * (levels - 1 - i)
        t.bind(ch, exchange, wait, f"{prefix}1.#")
        ch.call("exchange.bind", destination=below, source=exchange, key=f"{prefix}0.#")
    target = t.queue(ch)
    t.bind(ch, deliver, target, "#.clients.target")
    ch.call("confirm.select")
    ch.call("basic.consume", queue=target, tag="t", no_ack=1)
    for bits in ("0.0.0", "0.0.1", "0.1.0", "1.0.1"):
        ch.publish(names[-1], f"{bits}.clients.target", bits, mandatory=1)
        ch.confirms(1)
        ch.deliveries(1)


@script("24", "15", kinds=BOTH)
def republished_with_its_reason(t):
    """Spring's recoverer: what could not be done goes to another exchange, with a long header."""
    ch = t.channel()
    errors = t.exchange(ch, "fanout", "errors")
    name, dead = t.queue(ch), t.queue(ch, "dead")
    t.bind(ch, errors, dead)
    ch.publish("", name, "m", headers={"own": [1, "two", {"three": 3}]}, priority=1, app_id="app")
    event = quietly(t, ch, name)
    own = [pair for pair in dict(event[2])["headers"] if pair[0] != "x-delivery-count"]
    headers = own + [("x-exception-stacktrace", ("S", b"at line 1\n\t" * 2000)),
                     ("x-original-routingKey", ("S", name.encode()))]
    ch.publish(errors, "error", event[3], headers=headers)
    delivered(ch, dead)


# --- Celery ---------------------------------------------------------------------------------------


@script("6", "9", "16", "17")
def celery_worker(t):
    """Its exchanges and queues; prefetch that grows with what waits for its time; a warm stop."""
    a = t.connect()
    ch, control = a.channel(), a.channel()
    tasks = t.exchange(ch, "direct", "celery", durable=1)
    name = t.queue(ch, "celery", durable=1)
    t.bind(ch, tasks, name, "celery")
    pidbox = t.exchange(control, "fanout", "pidbox")
    box = t.queue(control, "worker.pidbox", {"x-expires": 10000, "x-message-ttl": 300000}, auto_delete=1)
    t.bind(control, pidbox, box)
    replies = t.exchange(control, "direct", "reply.pidbox")
    reply = t.queue(control, "oid.reply", {"x-expires": 10000}, auto_delete=1)
    t.bind(control, replies, reply, "oid")
    t.exchange(control, "topic", "celeryev", durable=1)
    control.call("basic.consume", queue=box, tag="1", no_ack=1)
    ch.call("basic.qos", count=2, **{"global": 1})
    ch.call("basic.consume", queue=name, tag="2")
    out = t.channel()
    for i in range(4):
        out.publish(tasks, "celery", f"task {i}", correlation_id=f"id{i}", reply_to="oid",
                    headers={"lang": "py", "eta": None, "retries": 0}, delivery_mode=2, priority=0)
    ch.deliveries(2)
    ch.call("basic.qos", count=3, **{"global": 1})
    ch.deliveries(1)
    ch.send("basic.ack", tag=1)
    ch.deliveries(1)
    ch.send("basic.reject", tag=2, requeue=1)
    ch.deliveries(1)
    out.publish(pidbox, "", "ping", reply_to="oid")
    control.deliveries(1)
    control.publish(replies, "oid", "pong")
    control.call("basic.get", queue=reply, no_ack=1)
    ch.call("basic.cancel", tag="2")
    ch.call("basic.recover", requeue=1)
    t.counts(name, messages=3)


# --- MassTransit ----------------------------------------------------------------------------------


@script("6", "10", "12", "13", kinds=BOTH)
def masstransit(t):
    """An exchange for each type of message, bound to that of the endpoint, bound to its queue."""
    ch = t.channel()
    kind, base = (t.exchange(ch, "fanout", f"Shop:{name}", durable=1) for name in ("OrderPlaced", "Event"))
    endpoint, skipped = t.exchange(ch, "fanout", "orders", durable=1), t.exchange(ch, "fanout", "orders_skipped",
                                                                                  durable=1)
    ch.call("exchange.bind", destination=base, source=kind)
    ch.call("exchange.bind", destination=endpoint, source=kind)
    ch.call("exchange.bind", destination=endpoint, source=base)
    name, left = t.queue(ch, "orders"), t.queue(ch, "orders_skipped")
    t.bind(ch, endpoint, name)
    t.bind(ch, skipped, left)
    ch.call("confirm.select")
    ch.publish(kind, "", "{}", mandatory=1, content_type="application/vnd.masstransit+json", delivery_mode=2,
               headers={"Content-Type": "application/vnd.masstransit+json"}, message_id="1")
    ch.confirms(1)
    drain(t, ch, name, 1)
    ch.publish(base, "", "{}", mandatory=1)
    ch.confirms(1)
    ch.publish(skipped, "", "{}", mandatory=1)
    ch.confirms(1)
    drain(t, ch, name, 1)
    drain(t, ch, left, 1)
    ch.call("exchange.unbind", destination=endpoint, source=kind)
    ch.call("exchange.unbind", destination=endpoint, source=base)
    ch.publish(kind, "", "nobody", mandatory=1)
    ch.confirms(1)


# --- requests and replies -------------------------------------------------------------------------


@script("9", "22")
def java_rpc_with_a_queue_of_its_own(t):
    a, b = t.connect(), t.connect()
    ask, serve = a.channel(), b.channel()
    name = t.queue(serve)
    serve.call("basic.consume", queue=name, tag="server")
    reply = ask.call("queue.declare", queue="", exclusive=1, auto_delete=1)["queue"]
    ask.call("basic.consume", queue=reply, tag="", no_ack=1)
    for i in range(2):
        ask.publish("", name, f"question {i}", reply_to=reply.decode(), correlation_id=str(i))
        event = serve.next(("basic.deliver",))
        serve.publish("", dict(event[2])["reply-to"].decode(), event[3], mandatory=1, correlation_id=str(i))
        ask.deliveries(1)
        serve.send("basic.ack", tag=event[1]["tag"])
    b2 = b.channel()
    b2.call("basic.consume", queue=reply)


# --- recovery of topologies -----------------------------------------------------------------------


@script("6", "9", "15", kinds=BOTH)
def topology_again(t):
    """A connection breaks, its client comes back and declares all of it again, in its order."""
    def declare(connection):
        ch, own = connection.channel(), connection.channel()
        exchange, other = t.exchange(ch, "topic", durable=1), t.exchange(ch, "fanout", "other", auto_delete=1)
        name = t.queue(ch, arguments={"x-max-length": 1000})
        mine = own.call("queue.declare", queue="", exclusive=1)["queue"].decode()
        ch.call("exchange.bind", destination=other, source=exchange, key="#")
        t.bind(ch, exchange, name, "a.*")
        t.bind(own, other, mine)
        ch.call("basic.qos", count=10)
        ch.call("basic.consume", queue=name, tag="shared")
        own.call("basic.consume", queue=mine, tag="own")
        return ch, own

    first, out = t.connect(), t.channel()
    ch, own = declare(first)
    out.publish(t.name("x"), "a.b", "m")
    ch.deliveries(1)
    own.deliveries(1)
    first.raw.close()
    first.gone()
    t.counts(t.name("q"), messages=1, consumers=0)
    t.no_exchange(t.name("other"))      # it went with its last binding: with the exclusive queue
    ch, own = declare(t.connect())
    for delivery in ch.deliveries(1):
        ch.send("basic.ack", tag=delivery["tag"])
    out.publish(t.name("x"), "a.c", "n")
    ch.deliveries(1)
    own.deliveries(1)


@script("9", "18")
def consumer_that_declares_after_a_cancel(t):
    """Spring's container: told that its queue is gone, it declares it, and consumes, again."""
    ch, other = t.channel(), t.channel()
    name = t.queue(ch)
    ch.call("basic.consume", queue=name, tag="c")
    other.call("queue.delete", queue=name)
    ch.take(1, "basic.cancel")
    ch.call("queue.declare", queue=name, passive=1)
    again = ch.connection.channel()
    t.queue(again)
    again.call("basic.consume", queue=name, tag="c")
    other.publish("", name, "m")
    again.deliveries(1)


@script("9", "4")
def checks_that_close_channels(t):
    """amqplib's checkQueue and checkExchange: each miss costs a channel, the connection stays."""
    a = t.connect()
    for _ in range(3):
        for method, fields in (("queue.declare", {"queue": t.name("none")}),
                               ("exchange.declare", {"exchange": t.name("none"), "type": ""})):
            ch = a.channel(1)
            ch.call(method, passive=1, **fields)
    ch = a.channel(1)
    t.queue(ch)


# --- links ----------------------------------------------------------------------------------------


@script("13", "15", "16", kinds=BOTH)
def shovel(t):
    """Moves by confirms: what is confirmed there is acked here, several at once."""
    source, target = t.channel(), t.channel()
    here, there = t.queue(source, "here"), t.queue(target, "there", {"x-max-length": 100})
    out = t.channel()
    out.call("confirm.select")
    for i in range(6):
        out.publish("", here, f"m{i}", headers={"n": i}, delivery_mode=2, expiration="600000", user_id="guest")
    out.confirms(6)
    source.call("basic.qos", count=3)
    target.call("confirm.select")
    source.call("basic.consume", queue=here, tag="shovel")
    for _ in range(2):
        tags = []
        for _ in range(3):
            event = source.next(("basic.deliver",))
            tags.append(event[1]["tag"])
            properties = dict(event[2])
            headers = [pair for pair in properties["headers"] if pair[0] != "x-delivery-count"]
            target.publish("", there, event[3], mandatory=1, delivery_mode=2, headers=headers + [
                ("x-shovelled", ("A", [("F", [("shovelled-by", ("S", b"me"))])]))])
        target.confirms(3)
        source.send("basic.ack", tag=tags[-1], multiple=1)
    t.counts(here, messages=0, consumers=1)
    source.call("basic.cancel", tag="shovel")
    drain(t, target, there, 6)


@script("8", "10", "23")
def exchange_link(t):
    """As a federation link: an internal exchange of its own, a queue that waits for it, bindings."""
    ch, link = t.channel(), t.channel()
    source = t.exchange(ch, "topic", durable=1)
    own = t.exchange(link, "fanout", "link", auto_delete=1, internal=1, durable=1)
    name = t.queue(link, "link-q", {"x-expires": 60000, "x-message-ttl": 60000, "x-internal-purpose": "federation"},
                   durable=1)
    link.call("exchange.bind", destination=own, source=source, key="a.#",
              arguments={"x-bindings": [{"vhost": "/", "hops": 1}]})
    t.bind(link, own, name)
    link.call("basic.consume", queue=name, tag="link", arguments={"x-priority": -1})
    ch.publish(source, "a.b", "m")
    link.deliveries(1)
    link.call("exchange.unbind", destination=own, source=source, key="a.#")
    ch.call("confirm.select")
    ch.publish(source, "a.b", "m", mandatory=1)
    ch.confirms(1)
    link.call("queue.delete", queue=name)
    link.call("exchange.declare", exchange=own, type="fanout", passive=1)


@script("13", "12", kinds=BOTH)
def confirms_with_returns_between(t):
    """Spring and amqp091-go count on it: each return before its own confirm."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.call("confirm.select")
    for i in range(4):
        ch.publish("", name if i % 2 else t.name("nowhere"), f"m{i}", mandatory=1,
                   headers={"spring_returned_message_correlation": f"c{i}"})
        ch.confirms(1)
    drain(t, ch, name, 2)


@script("15", "16", kinds=BOTH)
def nowait_everywhere(t):
    """php-amqplib and the Go client can: no replies, and what follows works."""
    ch = t.channel()
    name = t.name("q")
    arguments = QUORUM if t.kind == "quorum" else {}
    ch.call("queue.declare", queue=name, durable=1, nowait=1, arguments=arguments)
    ch.call("exchange.declare", exchange=t.name("x"), type="fanout", nowait=1)
    ch.call("queue.bind", queue=name, exchange=t.name("x"), nowait=1)
    ch.call("confirm.select", nowait=1)
    ch.call("basic.consume", queue=name, tag="t", nowait=1)
    ch.publish(t.name("x"), "k", "m")
    ch.confirms(1)
    ch.deliveries(1)
    ch.call("basic.cancel", tag="t", nowait=1)
    ch.call("queue.purge", queue=name, nowait=1)
    ch.send("basic.nack", tag=1, requeue=1)
    drain(t, ch, name, 1)
    ch.call("queue.delete", queue=name, nowait=1)
    ch.call("queue.declare", queue=name, passive=1)
