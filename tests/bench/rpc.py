#!/usr/bin/env python3
"""Round trips through direct reply-to, against any broker that is running.

    tests/bench/rpc.py PORT [PORT-OF-THE-REPLIERS] [--pairs 2] [--window 100] [--seconds 5] [--size 100]

Each pair is a requester and a replier, two processes with a connection each; the requester keeps `window`
requests under way. Messages of a pair are all of one length, so both sides count bytes and build their
answers once: what is measured is the broker, not this script.
"""

import argparse
import multiprocessing
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "real"))
from amqp_raw import BODY, CONTENT, Raw, content, frame, longstr, method, publish, \
    queue_declare, short  # noqa: E402  pylint: disable=wrong-import-position

REPLY_TO = "amq.rabbitmq.reply-to"
HAS_REPLY_TO = 1 << 9


def consume(queue):
    return method(1, 60, 20, b"\0\0" + short(queue) + short("c") + b"\2" + longstr(b""))


def message(key, body, flags=0, properties=b""):
    return publish(1, "", key) + content(1, len(body), flags, properties) + frame(BODY, 1, body)


def delivery(raw):
    """The next one: its length on the wire and its properties."""
    size, properties = 0, b""
    while True:
        kind, _channel, payload = raw.read_frame(10)
        size += len(payload) + 8
        if kind == CONTENT:
            properties = payload[14:]
        elif kind == BODY:
            return size, properties


def count(raw, size, rest):
    """How many deliveries of that size came, and what is left of the bytes."""
    data = raw.socket.recv(1 << 18)
    if not data:
        raise SystemExit("the broker closed the connection")
    return divmod(rest + len(data), size)


def replier(port, queue, ready):
    with Raw(port).open() as raw:
        raw.send(queue_declare(1, queue, 4), consume(queue))
        raw.expect(50, 11)
        raw.expect(60, 21)
        ready.set()
        size, properties = delivery(raw)
        answer = message(properties[1:1 + properties[0]].decode(), b"x" * 8)
        raw.socket.settimeout(None)
        raw.send(answer)
        number, rest = divmod(len(raw.buffer), size)
        while True:
            if number > 0:
                raw.send(answer * number)
            number, rest = count(raw, size, rest)


def requester(port, queue, options, results):
    with Raw(port).open() as raw:
        raw.send(consume(REPLY_TO))
        raw.expect(60, 21)
        request = message(queue, b"x" * options.size, HAS_REPLY_TO, short(REPLY_TO))
        raw.send(request)
        size, _properties = delivery(raw)
        raw.socket.settimeout(None)
        raw.send(request * options.window)
        done, rest, begun = 0, 0, time.monotonic()
        while time.monotonic() < begun + options.seconds:
            number, rest = count(raw, size, rest)
            if number > 0:
                raw.send(request * number)
            done += number
        results.put(done / (time.monotonic() - begun))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("port", type=int)
    parser.add_argument("reply_port", type=int, nargs="?")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--size", type=int, default=100)
    options = parser.parse_args()
    results, processes = multiprocessing.Queue(), []
    for i in range(options.pairs):
        queue, ready = f"rpc.{os.getpid()}.{i}", multiprocessing.Event()
        processes.append(multiprocessing.Process(
            target=replier, args=(options.reply_port or options.port, queue, ready), daemon=True))
        processes[-1].start()
        if not ready.wait(10):
            raise SystemExit("the replier is not ready after 10 s")
        processes.append(multiprocessing.Process(
            target=requester, args=(options.port, queue, options, results), daemon=True))
    for requesting in processes[1::2]:
        requesting.start()
    rates = [results.get(timeout=options.seconds + 30) for _ in range(options.pairs)]
    print(f"{options.pairs} pairs, {options.window} under way, {options.size} bytes: "
          f"{sum(rates):,.0f} round trips/s")
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
