"""The clients of features_work.py: several connections in one loop, each to the next node after a failure."""

import collections
import time

import pika
from pika.adapters.select_connection import IOLoop

RETRY_S = 0.2
TICK_S = 0.02


class World:
    """What the clients of one program share. Times are those of the wall clock, in seconds."""

    def __init__(self, uris):
        self.uris = uris
        self.ioloop = IOLoop()
        self.clients = []
        self.stopping = self.ended = False
        self.faults = []            # [from, to]; to is None while it lasts
        self.heard = time.time()    # of the last delivery
        self.problems = []

    def problem(self, text):
        if len(self.problems) < 40:
            self.problems.append(text)

    def fault_between(self, begin, end, grace):
        """Whether a fault, or the time that it takes to get over it, overlaps this span."""
        return any(start <= end and (stop is None or stop + grace >= begin)
                   for start, stop in self.faults)

    def healed_after(self, moment, grace):
        """When what is due at `moment` must be there at the latest, but for `grace`; None: some day."""
        for start, stop in self.faults:
            if stop is None and moment >= start - grace:
                return None
            if stop is not None and start - grace <= moment <= stop + grace:
                moment = stop + grace
        return moment


class Client:
    """One connection with one channel at a time; `first` is where it begins, `fixed`: and stays."""

    def __init__(self, world, name, first=0, fixed=False):
        self.world, self.name, self.first, self.fixed = world, name, first, fixed
        self.epoch = self.count = 0     # count: what counts as progress
        self.connection = self.channel = None
        self.down = True
        world.clients.append(self)

    def connect(self):
        if self.world.ended:
            return
        self.epoch += 1
        at = self.first + (0 if self.fixed else self.epoch)
        params = pika.URLParameters(self.world.uris[at % len(self.world.uris)])
        params.heartbeat, params.stack_timeout, params.socket_timeout = 10, 6, 3
        epoch = self.epoch
        self.down = False
        self.connection = pika.SelectConnection(
            params, on_open_callback=lambda c: c.channel(on_open_callback=self.on_channel),
            on_open_error_callback=lambda _c, why: self.on_lost(epoch, why),
            on_close_callback=lambda _c, why: self.on_lost(epoch, why),
            custom_ioloop=self.world.ioloop)

    def on_lost(self, epoch, _why):
        if epoch == self.epoch and not self.down:
            self.down, self.channel = True, None
            self.lost()
            self.world.ioloop.call_later(RETRY_S, self.connect)

    def on_channel(self, channel):
        channel.add_on_close_callback(self.on_channel_closed)
        self.channel = channel
        self.opened()

    def on_channel_closed(self, _channel, why):
        self.channel = None
        if not self.world.ended and not self.connection.is_closed and \
                not self.connection.is_closing:
            if getattr(why, "reply_code", 0) in (403, 404, 405, 406, 540):
                self.world.problem(f"{self.name}: channel closed: {why}")
            self.connection.close(200, "channel closed")

    def drop(self):
        """Ends the connection; the next one follows."""
        if not self.connection.is_closed and not self.connection.is_closing:
            self.connection.close(200, "next")

    def opened(self):
        """There is a channel."""

    def lost(self):
        """The connection has ended."""

    def tick(self):
        """Called every TICK_S."""


class Publisher(Client):
    """Every number is sent until one copy is confirmed; with `final` a nack settles it, too."""

    def __init__(self, world, name, make, rate, *, window=50, final=False, repeat=0,
                 first=0):
        super().__init__(world, name, first)
        self.make, self.rate, self.window, self.final = make, rate, window, final
        self.repeat = repeat    # so many of the confirmed are sent again after a failure
        self.next_seq, self.again, self.pending, self.tag = 1, [], {}, 0
        self.ready = False
        self.begun = time.monotonic()
        self.attempts = collections.Counter()   # (epoch, seq)
        self.confirmed = {}                     # seq -> epoch
        self.nacked = set()                     # (epoch, seq)
        self.returned = set()

    def opened(self):
        self.tag, self.pending, self.ready = 0, {}, False
        self.channel.add_on_return_callback(
            lambda _c, _m, _p, body: self.returned.add((self.epoch, int(body.split()[2]))))
        self.channel.confirm_delivery(self.on_confirm, callback=self.on_select_ok)

    def on_select_ok(self, _frame):
        self.ready = True

    def lost(self):
        self.ready = False
        repeated = sorted(self.confirmed)[-self.repeat:] if self.repeat else []
        self.again = sorted(set(self.again) | set(self.pending.values()) | set(repeated))
        self.pending = {}

    def on_confirm(self, frame):
        method = frame.method
        tags = [t for t in self.pending if t <= method.delivery_tag] if method.multiple else \
            [method.delivery_tag]
        for tag in tags:
            seq = self.pending.pop(tag, None)
            if seq is None:
                self.world.problem(f"{self.name}: a confirm of unknown tag {tag}")
                continue
            self.count += 1
            if method.NAME == "Basic.Ack" and (self.epoch, seq) not in self.returned:
                self.confirmed[seq] = self.epoch
            else:
                self.nacked.add((self.epoch, seq))
                if not self.final:
                    self.again.append(seq)

    def send(self, seq):
        exchange, key, extra, properties = self.make(self, seq)
        self.tag += 1
        self.pending[self.tag] = seq
        self.attempts[self.epoch, seq] += 1
        self.channel.basic_publish(
            exchange, key, f"{self.name} {self.epoch} {seq} {extra}".encode(),
            pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def tick(self):
        if not self.ready or self.channel is None:
            return
        again, self.again = self.again, []
        room = max(0, self.window - len(self.pending))
        for seq in again[:room]:
            self.send(seq)
        self.again = again[room:] + self.again
        due = int((time.monotonic() - self.begun) * self.rate)
        while not self.world.stopping and not self.again and self.next_seq <= due and \
                len(self.pending) < self.window:
            self.send(self.next_seq)
            self.next_seq += 1
        if self.next_seq < due - self.rate:     # no bursts after a long pause
            self.begun = time.monotonic() - self.next_seq / self.rate

    def idle(self):
        return not self.pending and not self.again


class Consumer(Client):
    """Hands each delivery to take(consumer, method, properties, words), which must settle it."""

    def __init__(self, world, name, queue, take, *, prefetch=20, first=0, fixed=False, select=False):
        super().__init__(world, name, first, fixed)
        self.queue, self.take, self.prefetch, self.select = queue, take, prefetch, select

    def opened(self):
        self.channel.basic_qos(prefetch_count=self.prefetch)
        if self.select:
            self.channel.tx_select(self.selected)
        else:
            self.selected(None)

    def selected(self, _frame):
        self.channel.add_on_cancel_callback(lambda _frame: self.drop())
        self.channel.basic_consume(self.queue, self.on_message)

    def on_message(self, channel, method, properties, body):
        self.count += 1
        self.world.heard = time.time()
        if channel is self.channel:
            self.take(self, method, properties, body.decode().split())


class Poller(Client):
    """Looks at the number of ready messages of a queue all the time."""

    def __init__(self, world, name, queue, seen, first=0):
        super().__init__(world, name, first)
        self.queue, self.seen, self.asked = queue, seen, False
        self.ready = None       # the last answer

    def opened(self):
        self.asked = False

    def lost(self):
        self.ready = None

    def tick(self):
        if self.channel is not None and not self.asked:
            self.asked = True
            self.channel.queue_declare(self.queue, passive=True, callback=self.on_answer)

    def on_answer(self, frame):
        self.asked = False
        self.ready = frame.method.message_count
        self.seen(self.ready)
