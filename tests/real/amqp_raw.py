"""A very small AMQP 0-9-1 speaker on a plain socket: for readiness probes and for bad input."""

import socket
import struct
import time

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8


class Ended(Exception):
    """The peer closed the connection."""


def short(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">B", len(data)) + data


def longstr(data):
    data = data if isinstance(data, bytes) else data.encode()
    return struct.pack(">I", len(data)) + data


def frame(kind, channel, payload, size=None, end=0xCE):
    size = len(payload) if size is None else size
    return struct.pack(">BHI", kind, channel, size) + payload + bytes([end])


def method(channel, class_id, method_id, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def start_ok(user="guest", password="guest", mechanism="PLAIN", response=None, properties=b"",
             locale="en_US"):
    if response is None:
        response = f"\0{user}\0{password}".encode()
    if not properties:
        capabilities = short("authentication_failure_close") + b"t\x01"
        properties = short("capabilities") + b"F" + longstr(capabilities)
    return method(0, 10, 11, longstr(properties) + short(mechanism) + longstr(response) +
                  short(locale))


def tune_ok(channel_max=2047, frame_max=131072, heartbeat=0):
    return method(0, 10, 31, struct.pack(">HIH", channel_max, frame_max, heartbeat))


def vhost_open(vhost="/"):
    return method(0, 10, 40, short(vhost) + short("") + b"\0")


def queue_declare(channel, name, bits=0, arguments=b""):
    return method(channel, 50, 10, b"\0\0" + short(name) + bytes([bits]) + longstr(arguments))


def publish(channel, exchange, key, bits=0):
    return method(channel, 60, 40, b"\0\0" + short(exchange) + short(key) + bytes([bits]))


def content(channel, size, flags=0, properties=b"", class_id=60, weight=0):
    return frame(CONTENT, channel, struct.pack(">HHQH", class_id, weight, size, flags) +
                 properties)


class Raw:
    """A socket and what came over it as frames."""

    def __init__(self, port, host="127.0.0.1", timeout=5.0):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *parts):
        """Sends; a peer that has closed already is not an error here but in the next read."""
        try:
            self.socket.sendall(b"".join(parts))
        except OSError:
            pass

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise
        except OSError as error:
            raise Ended() from error
        if not data:
            raise Ended()
        self.buffer += data

    def take(self, size, seconds=5.0):
        end = time.monotonic() + seconds
        while len(self.buffer) < size:
            self._fill(end)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_frame(self, seconds=5.0):
        """(type, channel, payload)"""
        end = time.monotonic() + seconds
        head = self.take(7, seconds)
        kind, channel, size = struct.unpack(">BHI", head)
        payload = self.take(size + 1, max(0.01, end - time.monotonic()))
        if payload[-1] != 0xCE:
            raise ValueError(f"frame ends with {payload[-1]:#x}")
        return kind, channel, payload[:-1]

    def read_method(self, seconds=5.0):
        """(channel, class, method, arguments); skips heartbeats and contents"""
        end = time.monotonic() + seconds
        while True:
            kind, channel, payload = self.read_frame(max(0.01, end - time.monotonic()))
            if kind == METHOD:
                return (channel,) + struct.unpack(">HH", payload[:4]) + (payload[4:],)

    def expect(self, class_id, method_id, seconds=5.0):
        found = self.read_method(seconds)
        if found[1:3] != (class_id, method_id):
            raise ValueError(f"method {found[1:3]} {found[3][:80]!r} instead of "
                             f"{(class_id, method_id)}")
        return found[3]

    def start(self):
        """Up to and with connection.start."""
        self.send(HEADER)
        return self.expect(10, 10)

    def open(self, channel=True, frame_max=131072, channel_max=2047, heartbeat=0):
        self.start()
        self.send(start_ok())
        self.expect(10, 30)
        self.send(tune_ok(channel_max, frame_max, heartbeat), vhost_open())
        self.expect(10, 41)
        if channel:
            self.open_channel(1)
        return self

    def open_channel(self, number):
        self.send(method(number, 20, 10, short("")))
        self.expect(20, 11)

    def read_close(self, seconds=8.0):
        """What ends it: ("channel"|"connection", code, text, class, method), or ("eof", ...)"""
        end = time.monotonic() + seconds
        try:
            while True:
                found = self.read_method(max(0.01, end - time.monotonic()))
                if found[1:3] in ((10, 50), (20, 40)):
                    arguments = found[3]
                    code, size = struct.unpack(">HB", arguments[:3])
                    text = arguments[3:3 + size].decode()
                    ids = struct.unpack(">HH", arguments[3 + size:7 + size])
                    kind = "connection" if found[1] == 10 else "channel"
                    return (kind, code, text) + ids
        except (Ended, ValueError, struct.error):
            return ("eof", 0, "", 0, 0)

    def wait_eof(self, seconds=8.0):
        """Reads to the end; everything that still came."""
        end = time.monotonic() + seconds
        data, self.buffer = self.buffer, b""
        try:
            while True:
                self._fill(end)
                data, self.buffer = data + self.buffer, b""
        except Ended:
            return data


def answers(port, host="127.0.0.1", seconds=2.0):
    """True when a client could log in now."""
    try:
        with Raw(port, host, seconds) as raw:
            raw.socket.settimeout(seconds)
            raw.open(channel=True)
            return True
    except (OSError, Ended, ValueError, struct.error):
        return False
