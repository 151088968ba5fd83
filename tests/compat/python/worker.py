#!/usr/bin/env python3
"""The publisher and the consumer of the kill test for pika; see tests/real/README.md."""

import argparse
import sys
import threading
import time

import pika

TICK_S = 0.02
RETRY_S = 0.2


def say(*words):
    sys.stdout.write(" ".join(str(w) for w in words) + "\n")


class Worker:
    """One connection at a time, to the next URI after each failure."""

    def __init__(self, options):
        self.options = options
        self.uris = options.uris.split(",")
        self.epoch = 0
        self.channel = None
        self.connection = None
        self.stopping = threading.Event()
        self.finished = False
        self.lost = False

    def listen(self):
        sys.stdin.readline()
        self.stopping.set()

    def run(self):
        threading.Thread(target=self.listen, daemon=True).start()
        while not self.finished:
            self.epoch += 1
            params = pika.URLParameters(self.uris[(self.options.first + self.epoch) % len(self.uris)])
            params.heartbeat, params.stack_timeout, params.socket_timeout = 4, 4, 2
            self.lost, self.channel = False, None
            self.connection = pika.SelectConnection(
                params, on_open_callback=lambda c: c.channel(on_open_callback=self.on_channel),
                on_open_error_callback=lambda _c, error: self.on_lost(error),
                on_close_callback=lambda _c, error: self.on_lost(error))
            self.connection.ioloop.call_later(TICK_S, self.on_tick)
            self.connection.ioloop.start()
            sys.stdout.flush()
            if not self.finished:
                self.between()
                time.sleep(RETRY_S)
        sys.stdout.flush()

    def on_lost(self, why):
        if not self.lost:
            self.lost = True
            if not self.finished:
                say("L", self.epoch, " ".join(repr(why).split())[:200])
        self.connection.ioloop.stop()

    def on_channel(self, channel):
        self.channel = channel
        channel.add_on_close_callback(self.on_channel_closed)
        say("O", self.epoch, self.connection.params.port)
        self.opened()

    def on_channel_closed(self, _channel, why):
        self.channel = None
        if not self.connection.is_closed and not self.connection.is_closing:
            self.connection.close(200, str(why)[:100])

    def on_tick(self):
        if self.lost:
            return
        self.tick()
        sys.stdout.flush()
        self.connection.ioloop.call_later(TICK_S, self.on_tick)

    def finish(self):
        self.finished = True
        if not self.connection.is_closed and not self.connection.is_closing:
            self.connection.close()

    def between(self):
        """Called after each connection that has ended by itself."""

    def opened(self):
        raise NotImplementedError

    def tick(self):
        raise NotImplementedError


class Publisher(Worker):
    """Every sequence number is sent until one copy is confirmed."""

    def __init__(self, options):
        super().__init__(options)
        self.next_seq = 1
        self.again = []          # unconfirmed numbers of earlier connections, ascending
        self.pending = {}        # delivery tag -> seq
        self.returned = set()
        self.tag = 0
        self.ready = False
        self.begun = time.monotonic()

    def opened(self):
        self.tag, self.pending, self.ready = 0, {}, False
        self.returned.clear()
        self.channel.add_on_return_callback(self.on_return)
        self.channel.confirm_delivery(self.on_confirm, callback=self.on_select_ok)

    def on_select_ok(self, _frame):
        self.ready = True

    def on_lost(self, why):
        self.ready = False
        self.again = sorted(set(self.again) | set(self.pending.values()))
        self.pending = {}
        super().on_lost(why)

    def on_return(self, _channel, _method, _properties, body):
        self.returned.add(int(body.split()[2]))

    def on_confirm(self, frame):
        method = frame.method
        tags = [t for t in self.pending if t <= method.delivery_tag] if method.multiple else \
            [method.delivery_tag]
        for tag in tags:
            seq = self.pending.pop(tag, None)
            if seq is None:
                continue
            if method.NAME == "Basic.Ack" and seq not in self.returned:
                say("C", self.epoch, seq)
            else:
                say("N", self.epoch, seq)
                self.returned.discard(seq)
                self.again.append(seq)

    def send(self, seq):
        body = f"{self.options.id} {self.epoch} {seq} ".encode()
        self.tag += 1
        self.pending[self.tag] = seq
        say("A", self.epoch, seq)
        self.channel.basic_publish("", self.options.queue, body.ljust(self.options.size, b"."),
                                   pika.BasicProperties(delivery_mode=2), mandatory=True)

    def tick(self):
        if not self.ready or self.channel is None or not self.channel.is_open:
            return
        # a tick's worth of what was nacked or lost with a connection comes before anything new
        again, self.again = self.again, []
        room = self.options.window - len(self.pending)
        for seq in again[:room]:
            self.send(seq)
        self.again = again[room:] if room > 0 else again
        due = int((time.monotonic() - self.begun) * self.options.rate)
        while not self.stopping.is_set() and not self.again and self.next_seq <= due and \
                len(self.pending) < self.options.window:
            self.send(self.next_seq)
            self.next_seq += 1
        if self.next_seq < due - self.options.rate:      # no bursts after a long pause
            self.begun = time.monotonic() - self.next_seq / self.options.rate
        if self.stopping.is_set() and not self.pending and not self.again:
            say("DONE", self.next_seq - 1)
            self.finish()


class Consumer(Worker):
    """Acks every delivery once it is written down."""

    def __init__(self, options):
        super().__init__(options)
        self.number = 0
        self.tag = None
        self.cancelling = False

    def opened(self):
        self.channel.basic_qos(prefetch_count=self.options.prefetch)
        self.channel.add_on_cancel_callback(lambda _frame: self.connection.close(200, "cancelled"))
        self.tag = self.channel.basic_consume(self.options.queue, self.on_message)

    def on_message(self, channel, method, _properties, body):
        words = body.split(None, 3)
        say("D", self.epoch, words[0].decode(), int(words[1]), int(words[2]),
            int(method.redelivered))
        self.number += 1
        channel.basic_ack(method.delivery_tag)

    def tick(self):
        if self.stopping.is_set() and not self.cancelling:
            self.cancelling = True
            say("DONE", self.number)
            self.finish()

    def between(self):
        if self.stopping.is_set():
            say("DONE", self.number)
            self.finished = True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("publisher", "consumer"))
    parser.add_argument("--uris", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--prefetch", type=int, default=50)
    options = parser.parse_args()
    (Publisher if options.mode == "publisher" else Consumer)(options).run()


main()
