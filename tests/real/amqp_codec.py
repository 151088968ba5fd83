"""AMQP 0-9-1 methods, tables and contents, both ways, with nothing interpreted: for tests that must
see what is on the wire. Values of tables are Python's, or (letter, value) where the letter matters."""

import struct

from amqp_raw import BODY, METHOD, frame

# name: (class, method, fields); a bit is "name!", reserved fields are "-short", "-bit" and so on
_SPEC = """
connection.start 10 10 version-major:octet version-minor:octet server-properties:table mechanisms:long locales:long
connection.tune 10 30 channel-max:u16 frame-max:u32 heartbeat:u16
connection.open-ok 10 41 -short
connection.close 10 50 code:u16 text:short class:u16 method:u16
connection.close-ok 10 51
connection.update-secret 10 70 secret:long reason:short
connection.update-secret-ok 10 71
connection.blocked 10 60 reason:short
connection.unblocked 10 61
channel.open 20 10 -short
channel.open-ok 20 11 -long
channel.flow 20 20 active!
channel.flow-ok 20 21 active!
channel.close 20 40 code:u16 text:short class:u16 method:u16
channel.close-ok 20 41
access.request 30 10 realm:short exclusive! passive! active! write! read!
access.request-ok 30 11 ticket:u16
exchange.declare 40 10 -u16 exchange:short type:short passive! durable! auto-delete! internal! nowait! arguments:table
exchange.declare-ok 40 11
exchange.delete 40 20 -u16 exchange:short if-unused! nowait!
exchange.delete-ok 40 21
exchange.bind 40 30 -u16 destination:short source:short key:short nowait! arguments:table
exchange.bind-ok 40 31
exchange.unbind 40 40 -u16 destination:short source:short key:short nowait! arguments:table
exchange.unbind-ok 40 51
queue.declare 50 10 -u16 queue:short passive! durable! exclusive! auto-delete! nowait! arguments:table
queue.declare-ok 50 11 queue:short messages:u32 consumers:u32
queue.bind 50 20 -u16 queue:short exchange:short key:short nowait! arguments:table
queue.bind-ok 50 21
queue.purge 50 30 -u16 queue:short nowait!
queue.purge-ok 50 31 messages:u32
queue.delete 50 40 -u16 queue:short if-unused! if-empty! nowait!
queue.delete-ok 50 41 messages:u32
queue.unbind 50 50 -u16 queue:short exchange:short key:short arguments:table
queue.unbind-ok 50 51
basic.qos 60 10 size:u32 count:u16 global!
basic.qos-ok 60 11
basic.consume 60 20 -u16 queue:short tag:short no-local! no-ack! exclusive! nowait! arguments:table
basic.consume-ok 60 21 tag:short
basic.cancel 60 30 tag:short nowait!
basic.cancel-ok 60 31 tag:short
basic.publish 60 40 -u16 exchange:short key:short mandatory! immediate!
basic.return 60 50 code:u16 text:short exchange:short key:short
basic.deliver 60 60 consumer:short tag:u64 redelivered! exchange:short key:short
basic.get 60 70 -u16 queue:short no-ack!
basic.get-ok 60 71 tag:u64 redelivered! exchange:short key:short messages:u32
basic.get-empty 60 72 -short
basic.ack 60 80 tag:u64 multiple!
basic.reject 60 90 tag:u64 requeue!
basic.recover-async 60 100 requeue!
basic.recover 60 110 requeue!
basic.recover-ok 60 111
basic.nack 60 120 tag:u64 multiple! requeue!
confirm.select 85 10 nowait!
confirm.select-ok 85 11
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
"""

PROPERTIES = (("content-type", 15, "short"), ("content-encoding", 14, "short"),
              ("headers", 13, "table"), ("delivery-mode", 12, "octet"), ("priority", 11, "octet"),
              ("correlation-id", 10, "short"), ("reply-to", 9, "short"), ("expiration", 8, "short"),
              ("message-id", 7, "short"), ("timestamp", 6, "u64"), ("type", 5, "short"),
              ("user-id", 4, "short"), ("app-id", 3, "short"), ("cluster-id", 2, "short"))
CONTENT_METHODS = ("basic.return", "basic.deliver", "basic.get-ok")

_NUMBERS = {"octet": ">B", "u16": ">H", "u32": ">I", "u64": ">Q"}
_LETTERS = {"t": ">B", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q",
            "L": ">q", "f": ">f", "d": ">d", "T": ">Q"}


class Octets(bytes):
    """Bytes that stand for a whole encoded value, right or wrong."""


def _parse_spec():
    by_name, by_ids = {}, {}
    for line in _SPEC.split("\n"):
        words = line.split()
        if not words:
            continue
        fields = []
        for word in words[3:]:
            name, _, kind = word.partition(":")
            if name.endswith("!"):
                name, kind = name[:-1], "bit"
            elif name.startswith("-"):
                name, kind = None, name[1:]
            fields.append((name, kind))
        by_name[words[0]] = (int(words[1]), int(words[2]), fields)
        by_ids[int(words[1]), int(words[2])] = words[0]
    return by_name, by_ids


METHODS, NAMES = _parse_spec()


def _bytes(value):
    return value if isinstance(value, bytes) else str(value).encode()


def _sized(fmt, data):
    return struct.pack(fmt, len(data)) + data


def put_value(value):
    """One value of a table with its letter."""
    if isinstance(value, Octets):
        return bytes(value)
    if not isinstance(value, tuple):
        value = with_letter(value)
    letter, inner = value
    if isinstance(inner, Octets):
        return letter.encode() + bytes(inner)
    if letter in _LETTERS:
        return letter.encode() + struct.pack(_LETTERS[letter], inner)
    if letter == "D":
        return b"D" + struct.pack(">BI", *inner)
    if letter in "Sx":
        return letter.encode() + _sized(">I", _bytes(inner))
    if letter == "A":
        return b"A" + _sized(">I", b"".join(put_value(item) for item in inner))
    if letter == "F":
        return b"F" + put_table(inner)
    if letter == "V":
        return b"V"
    raise ValueError(f"no such letter: {letter}")


def with_letter(value):
    """The usual letter of a Python value."""
    if value is None:
        return ("V", None)
    if isinstance(value, bool):
        return ("t", int(value))
    if isinstance(value, int):
        return ("I", value) if -2 ** 31 <= value < 2 ** 31 else ("l", value)
    if isinstance(value, float):
        return ("d", value)
    if isinstance(value, str):
        return ("S", value)
    if isinstance(value, bytes):
        return ("x", value)
    if isinstance(value, dict):
        return ("F", value)
    return ("A", value)


def put_table(table):
    """A dict, a list of pairs, or Octets."""
    if isinstance(table, Octets):
        return bytes(table)
    pairs = table.items() if isinstance(table, dict) else table
    return _sized(">I", b"".join(_sized(">B", _bytes(name)) + put_value(value)
                                 for name, value in pairs))


def _put_field(kind, value):
    if isinstance(value, Octets):
        return bytes(value)
    if kind in _NUMBERS:
        return struct.pack(_NUMBERS[kind], value or 0)
    if kind == "short":
        return _sized(">B", _bytes(value if value is not None else ""))
    if kind == "long":
        return _sized(">I", _bytes(value if value is not None else ""))
    return put_table(value or {})


def put_method(channel, name, **values):
    """A frame; fields by their names with _ for -, missing ones are empty."""
    class_id, method_id, fields = METHODS[name]
    values = {key.replace("_", "-"): value for key, value in values.items()}
    out, bits, count = struct.pack(">HH", class_id, method_id), 0, 0
    for field, kind in fields:
        if kind == "bit":
            bits |= bool(values.pop(field, 0)) << count
            count += 1
            continue
        if count:
            out, bits, count = out + bytes([bits]), 0, 0
        out += _put_field(kind, values.pop(field, None) if field else None)
    if count:
        out += bytes([bits])
    if values:
        raise ValueError(f"{name} has no {', '.join(values)}")
    return frame(METHOD, channel, out)


def put_content(channel, body, properties=None, frame_max=131072):
    """Header and body frames. Octets as properties are the flags and what follows them."""
    if isinstance(properties, Octets):
        raw = bytes(properties)
    else:
        properties = {key.replace("_", "-"): v for key, v in (properties or {}).items()}
        flags, raw = 0, b""
        for name, bit, kind in PROPERTIES:
            if name in properties:
                flags |= 1 << bit
                raw += _put_field(kind, properties.pop(name))
        if properties:
            raise ValueError(f"no such property: {', '.join(properties)}")
        raw = struct.pack(">H", flags) + raw
    out = frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + raw)
    step = frame_max - 8
    for at in range(0, len(body), step):
        out += frame(BODY, channel, body[at:at + step])
    return out


class Reader:
    """Takes values from bytes; struct.error or IndexError when they end too early."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, fmt):
        value = struct.unpack_from(fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return value

    def bytes(self, size):
        if self.at + size > len(self.data):
            raise IndexError("too short")
        self.at += size
        return self.data[self.at - size:self.at]

    def field(self, kind):
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == "short":
            return self.bytes(self.number(">B"))
        if kind == "long":
            return self.bytes(self.number(">I"))
        return self.table()

    def table(self):
        """[(name, (letter, value))]"""
        inner = Reader(self.bytes(self.number(">I")))
        found = []
        while inner.at < len(inner.data):
            name = inner.bytes(inner.number(">B"))
            found.append((name.decode(errors="replace"), inner.value()))
        return found

    def value(self):
        letter = chr(self.number(">B"))
        if letter in _LETTERS:
            return letter, self.number(_LETTERS[letter])
        if letter == "D":
            return letter, (self.number(">B"), self.number(">I"))
        if letter in "Sx":
            return letter, self.bytes(self.number(">I"))
        if letter == "F":
            return letter, self.table()
        if letter == "A":
            inner = Reader(self.bytes(self.number(">I")))
            items = []
            while inner.at < len(inner.data):
                items.append(inner.value())
            return letter, items
        if letter == "V":
            return letter, None
        raise ValueError(f"no such letter: {letter!r}")


def take_method(payload):
    """(name, {field: value}); strings are bytes"""
    reader = Reader(payload)
    ids = reader.number(">H"), reader.number(">H")
    name = NAMES.get(ids)
    if name is None:
        return "%d.%d" % ids, {"octets": payload[4:]}
    values, bits, count = {}, 0, 0
    for field, kind in METHODS[name][2]:
        if kind == "bit":
            if count == 0:
                bits = reader.number(">B")
            values[field] = bits >> count & 1
            count += 1
            continue
        count = 0
        value = reader.field(kind)
        if field:
            values[field] = value
    if reader.at != len(payload):
        values["octets-left"] = payload[reader.at:]
    return name, values


def take_header(payload):
    """(body size, [(property, value)])"""
    reader = Reader(payload)
    reader.bytes(4)
    size, flags = reader.number(">Q"), reader.number(">H")
    found = [(name, reader.field(kind)) for name, bit, kind in PROPERTIES if flags >> bit & 1]
    if reader.at != len(payload):
        found.append(("octets-left", payload[reader.at:]))
    return size, found
