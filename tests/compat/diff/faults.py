"""What the tables of two faults in one method stand on: what is there before, and who sends."""

import json

USER = dict(user="faults-user", password="secret")
VHOST = "faults-vhost"


class Sender:
    """Makes rows: before, the queues and exchanges that a row needs; then the one method."""

    def __init__(self, *before, who=None):
        """`who`: guest, on the channel of the row; "user": one who may do all to names that begin
        with may-, and nothing else; "full": guest in a virtual host that has all the queues it
        may."""
        self.before, self.who = before, who

    def _row(self, send):
        def row(t, ch):
            kept = len(t.connections)
            t.quiet = 1
            try:
                for step in self.before:
                    step(t, ch)
                if self.who is not None:
                    ch = _connection(t, self.who).channel()
                t.quiet = 0
                send(t, ch)
            finally:
                t.quiet = 0
                for connection in reversed(t.connections[kept:]):
                    connection.close()
                del t.connections[kept:]
        return row

    def call(self, method, **fields):
        """Values that begin with $ are names of the table's own."""
        return self._row(lambda t, ch: ch.call(method, **_named(t, fields)))

    def calls(self, *methods):
        def send(t, ch):
            for method, fields in methods:
                if ch.open:
                    ch.call(method, **_named(t, fields))
        return self._row(send)

    def publish(self, exchange, key, modes=("confirm.select",), **more):
        """Confirmed, or refused; in the end what is wrong with a transaction is known, too."""
        def send(t, ch):
            t.quiet = 1
            for mode in modes:
                ch.call(mode)
            t.quiet = 0
            ch.publish(_name(t, exchange), _name(t, key), "m", **more)
            if "confirm.select" in modes:
                ch.confirms(1)
            elif ch.sync() and "tx.select" in modes:
                ch.call("tx.commit")
        return self._row(send)

    def does(self, function):
        return self._row(function)


def _name(t, value):
    return t.name(value[1:]) if isinstance(value, str) and value.startswith("$") else value


def _named(t, fields):
    return {key: {k: _name(t, v) for k, v in value.items()} if isinstance(value, dict)
            else _name(t, value) for key, value in fields.items()}


def _connection(t, who):
    if who == "user":
        undo = ("delete_user", USER["user"])
        if undo not in t.undo:
            t.ctl("add_user", USER["user"], USER["password"], undo=undo)
            t.ctl("set_permissions", USER["user"], *3 * (r"^faults[a-z-]*\.may-",))
            t.ctl("set_topic_permissions", USER["user"], _name(t, "$may-topic"), "^ok", "^ok")
        return t.connect(**USER)
    undo = ("delete_vhost", VHOST)
    if undo in t.undo:
        return t.connect(vhost=VHOST)
    t.ctl("add_vhost", VHOST, undo=undo)
    t.ctl("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
    connection = t.connect(vhost=VHOST)
    connection.channel().call("queue.declare", queue="faults.there", durable=1)
    t.ctl("set_vhost_limits", "-p", VHOST, json.dumps({"max-queues": 1}))
    return connection


# --- what is there before ------------------------------------------------------------------------

def queue(suffix="q", arguments=None, **flags):
    return lambda t, ch: ch.call("queue.declare", queue=t.name(suffix), arguments=arguments or {},
                                 **flags)


def quorum(suffix="q", **arguments):
    return queue(suffix, {"x-queue-type": "quorum", **arguments}, durable=1)


def locked(suffix="q", arguments=None, **flags):
    """Somebody else's exclusive queue."""
    return lambda t, _ch: t.connect().channel().call(
        "queue.declare", queue=t.name(suffix), exclusive=1, arguments=arguments or {}, **flags)


def exchange(kind, suffix="x", arguments=None, **flags):
    return lambda t, ch: ch.call("exchange.declare", exchange=t.name(suffix), type=kind,
                                 arguments=arguments or {}, **flags)


def bound(suffix="x", to="q", key="", arguments=None):
    return lambda t, ch: ch.call("queue.bind", queue=t.name(to), exchange=t.name(suffix), key=key,
                                 arguments=arguments or {})


def filled(suffix="q", count=1):
    def step(t, ch):
        for _ in range(count):
            ch.publish("", t.name(suffix), "m")
        t.counts(t.name(suffix), messages=count)
    return step


def consumed(suffix="q", tag="t", elsewhere=False, prefetch=0, **flags):
    def step(t, ch):
        ch = t.connect().channel() if elsewhere else ch
        ch.call("basic.qos", count=prefetch)
        ch.call("basic.consume", queue=t.name(suffix), tag=tag, **flags)
        t.counts(t.name(suffix), consumers=1)
        if prefetch:
            ch.deliveries(prefetch)
    return step


def together(faults, count=None):
    """Names of rows and what is wrong in them: all that is wrong from one place of the list on.
    So each is told before all that follow, and the order is known without trying each pair."""
    for first in range(len(faults) - (1 if count is None else 0)):
        wrong = faults[first:] if count is None else faults[first:first + count]
        yield " ".join(name for name, _ in wrong[:2]) + (" ..." if len(wrong) > 2 else ""), \
            [what for _, what in wrong]
