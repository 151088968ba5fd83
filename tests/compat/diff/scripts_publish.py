"""Publishing: returns, confirms, sender-selected distribution, user-id, properties as they pass."""

import struct

from amqp_codec import Octets
from registry import script
from session import KINDS

ALL_PROPERTIES = dict(
    content_type="text/plain", content_encoding="gzip", headers={"h": "v"}, delivery_mode=2,
    priority=7, correlation_id="corr", reply_to="back", expiration="60000", message_id="id",
    timestamp=1234567890, type="kind", user_id="guest", app_id="app", cluster_id="cluster")


@script("12", "13", kinds=KINDS)
def return_before_confirm(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("amq.direct", t.name("nobody"), "back", mandatory=1, **ALL_PROPERTIES)
    ch.confirms(1)
    ch.publish("", name, "kept", mandatory=1)
    ch.confirms(1)
    ch.publish("amq.direct", t.name("nobody"), "dropped")
    ch.confirms(1)
    ch.publish("amq.direct", t.name("nobody"), "", mandatory=1)
    ch.confirms(1)


@script("12")
def return_without_confirms(t):
    ch = t.channel()
    for i in range(3):
        ch.publish("amq.fanout", f"k{i}", f"m{i}", mandatory=1, headers={"n": i})
    ch.take(3, "basic.return")


@script("13", kinds=KINDS)
def many_confirms(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.call("confirm.select")
    for i in range(40):
        ch.publish("" if i % 3 else "amq.fanout", name, f"m{i}", delivery_mode=1 + i % 2,
                   mandatory=i % 3 == 0)
    ch.confirms(40)
    t.counts(name, messages=26)


@script("13")
def confirms_are_per_channel(t):
    a = t.connect()
    one, two = a.channel(), a.channel()
    name = t.queue(one)
    one.call("confirm.select")
    one.publish("", name, "1")
    one.confirms(1)
    two.publish("", name, "not confirmed")
    two.call("confirm.select")
    two.publish("", name, "numbers begin here")
    two.confirms(1)
    t.counts(name, messages=3)


@script("13", kinds=KINDS)
def confirm_when_the_queue_is_deleted(t):
    ch, other = t.channel(), t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "1")
    ch.confirms(1)
    other.call("queue.delete", queue=name)
    ch.publish("", name, "2", mandatory=1)
    ch.confirms(1)


@script("6", "13")
def no_exchange_closes_the_channel(t):
    a = t.connect()
    ch = a.channel()
    ch.call("confirm.select")
    ch.publish(t.name("missing"), "k", "m", mandatory=1)
    ch.closed()
    ch = a.channel()
    ch.publish(t.name("missing"), "k", "m")
    ch.closed()


@script("15", kinds=KINDS)
def properties_pass_as_they_are(t):
    """Every property alone and all of them; a headers table of every type of value."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    values = {"A": [1, {"x": 2}], "D": ("D", (2, 12345)), "F": {"a": {"b": "c"}}, "I": -5, "S": "s",
              "T": ("T", 1234567890), "V": None, "B": ("B", 200), "b": ("b", -100), "d": 1.5,
              "f": ("f", 0.25), "l": ("l", -2 ** 40), "s": ("s", -300), "t": True, "x": b"\1\2\0",
              "u": ("u", 60000), "i": ("i", 4000000000), "L": ("L", 2 ** 40), "empty": "",
              "zz": {}, "none": [], "UTF": "größe"}
    messages = [{key: value} for key, value in ALL_PROPERTIES.items()]
    messages += [ALL_PROPERTIES, {}, {"headers": values}, {"headers": {}},
                 {"headers": Octets(b"\0\0\0\3\1aV")},
                 {"priority": 255}, {"content_type": ""}]
    for i, properties in enumerate(messages):
        ch.publish("", name, f"m{i}", mandatory=1, **properties)
    ch.confirms(len(messages))
    for _ in messages:
        ch.call("basic.get", queue=name, no_ack=1)


@script("15")
def a_field_twice_passes(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "m", headers=Octets(b"\0\0\0\x0e\1aI\0\0\0\1\1aI\0\0\0\2"))
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("15", kinds=KINDS)
def bodies(t):
    """Empty, one octet, a whole frame, some frames."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    sizes = (0, 1, 131072 - 8, 131072 - 7, 400000)
    for size in sizes:
        ch.publish("", name, bytes(size), headers={"size": size})
    ch.confirms(len(sizes))
    for _ in sizes:
        ch.call("basic.get", queue=name, no_ack=1)


@script("20", kinds=KINDS)
def user_id(t):
    a = t.connect()
    ch = a.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "mine", user_id="guest")
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)
    for other in ("", "Guest", "somebody"):
        ch = a.channel()
        ch.publish("", name, "not mine", user_id=other)
        ch.closed()


@script("21", kinds=KINDS)
def cc_and_bcc(t):
    ch = t.channel()
    names = [t.queue(ch, str(i)) for i in range(4)]
    ch.call("confirm.select")
    for headers in ({"CC": [names[1], names[2]]}, {"BCC": [names[3]], "other": 1},
                    {"CC": [names[1], names[0], names[1]], "BCC": [names[1], names[3]]},
                    {"CC": [t.name("nobody")]}, {"CC": []}, {"BCC": []}, {"cc": [names[1]]},
                    {"CC": [5, None, names[1]]}):
        ch.publish("", names[0], "m", headers=headers, mandatory=1)
        ch.confirms(1)
        for name in names:
            ch.call("basic.get", queue=name, no_ack=1)


@script("21")
def cc_alone_routes(t):
    """A key that nobody has, and CC or BCC that somebody has: routed, not returned."""
    ch = t.channel()
    name = t.queue(ch)
    t.bind(ch, "amq.direct", name, "cc")
    ch.call("confirm.select")
    for headers in ({"CC": ["cc"]}, {"BCC": ["cc"]}, {"CC": ["nobody"], "BCC": ["nobody"]}):
        ch.publish("amq.direct", t.name("nobody"), "m", headers=headers, mandatory=1)
        ch.confirms(1)
        ch.call("basic.get", queue=name, no_ack=1)


@script("10", "21", kinds=KINDS)
def cc_through_exchanges(t):
    ch = t.channel()
    first, second = t.exchange(ch, "topic", "1"), t.exchange(ch, "direct", "2")
    queue = t.queue(ch)
    ch.call("exchange.bind", destination=second, source=first, key="a.#")
    t.bind(ch, second, queue, "a.cc")
    ch.call("confirm.select")
    for headers in ({"CC": ["a.cc"]}, {"BCC": ["a.cc"]}):
        ch.publish(first, "a.main", "m", headers=headers, mandatory=1)
        ch.confirms(1)
        ch.call("basic.get", queue=queue, no_ack=1)


@script("21")
def cc_of_a_wrong_type(t):
    a = t.connect()
    for name in ("CC", "BCC"):
        for value in ("q", 1, None, {"a": 1}, True):
            ch = a.channel()
            ch.publish("amq.direct", "k", "m", headers={name: value})
            ch.closed()


@script("12")
def immediate(t):
    ch = t.channel()
    ch.publish("", "k", immediate=1)
    ch.closed()


@script("15")
def content_frames(t):
    """A header for another class, and a method where a body is due."""
    ch = t.channel()
    ch.connection.raw.send(b"\1\0\1" + struct.pack(">I", 10) + b"\0\x3c\0\x28\0\0\0\1k\0\xce",
                           b"\2\0\1" + struct.pack(">I", 14) + b"\0\x3d\0\0" + bytes(8) + b"\0\0\xce")
    ch.closed()


@script("15")
def method_instead_of_content(t):
    ch = t.channel()
    ch.send("basic.publish", exchange="", key="k")
    ch.send("queue.declare", queue="never")
    ch.closed()


@script("15")
def octet_properties(t):
    """Property flags that mean nothing, and a weight."""
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    ch.publish("", name, "m", properties=Octets(b"\0\2"))
    ch.confirms(1)
    ch.call("basic.get", queue=name, no_ack=1)


@script("15", "9", kinds=KINDS)
def order_of_one_publisher(t):
    ch = t.channel()
    name = t.queue(ch)
    ch.call("confirm.select")
    for i in range(20):
        ch.publish("", name, f"m{i}")
    ch.confirms(20)
    ch.call("basic.consume", queue=name, tag="t", no_ack=1)
    ch.deliveries(20)
