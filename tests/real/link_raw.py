"""A very small peer on a node's cluster port (docs/links.md): for bad input behind a good handshake."""

import hashlib
import hmac
import os
import socket
import struct

from amqp_raw import Ended

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED = 1, 2, 3, 4, 5
PING, PONG, PARCEL, CONTROL, REQUEST, REPLY = 16, 17, 18, 19, 20, 21
NODE, TOOL = 1, 2


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def frame(kind, payload):
    data = bytes([kind]) + payload
    return struct.pack("<II", len(data), crc32c(data)) + data


def sized(data):
    """A varint size and the octets."""
    size, head = len(data), b""
    while size >= 128:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + data


def parcel(kind, group, body, to_shard=0, from_shard=0):
    return struct.pack("<BBIIQ", kind, 1, to_shard, from_shard, group) + body


class Link:
    """The initiating end."""

    def __init__(self, port, cookie, kind=NODE, node=(1, 2), cluster=(0, 0)):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.cookie, self.buffer, self.challenge = cookie.encode(), b"", b""
        self.hello = (struct.pack("<IB", 1, kind) + struct.pack(">QQQQ", *node, *cluster) +
                      sized(b"peer@localhost") + sized(b"localhost") +
                      struct.pack("<HHII", 29999, 0, 0, 1) + os.urandom(32))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        """A peer that has closed already is not an error here but in the next read."""
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            pass

    def read(self, seconds=5.0):
        """(type, payload)"""
        self.socket.settimeout(seconds)
        while len(self.buffer) < 8 or len(self.buffer) < 8 + struct.unpack("<I", self.buffer[:4])[0]:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise Ended() from error
            if not data:
                raise Ended()
            self.buffer += data
        end = 8 + struct.unpack("<I", self.buffer[:4])[0]
        data, self.buffer = self.buffer[8:end], self.buffer[end:]
        return data[0], data[1:]

    def mac(self, role):
        return hmac.new(self.cookie, sized(role) + sized(self.hello) + sized(self.challenge),
                        hashlib.sha256).digest()

    def greet(self):
        """HELLO; the MAC of the CHALLENGE."""
        self.send(frame(HELLO, self.hello))
        kind, payload = self.read()
        if kind != CHALLENGE:
            raise ValueError(f"{kind} {payload!r} instead of a challenge")
        self.challenge = payload[:-32]
        return payload[-32:]

    def shake_hands(self):
        """(type, payload) of the answer"""
        self.greet()
        self.send(frame(PROOF, self.mac(b"warren link initiator")))
        return self.read()

    def open(self):
        kind, payload = self.shake_hands()
        if kind != WELCOME:
            raise ValueError(f"{kind} {payload!r} instead of a welcome")
        return self

    def cluster(self):
        """The acceptor's cluster id, once greeted."""
        return struct.unpack(">QQ", self.challenge[21:37])
