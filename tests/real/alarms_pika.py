"""pika under an alarm: alarms_pika.py URI QUEUE IN COUNT. Run with the Python of the pika client.

Publishes to QUEUE until it is told that it is blocked (without confirms, for which pika would wait: the
message that comes under the alarm waits for its end); then takes and acks the COUNT
messages of IN over the same channel, and cancels its consumer; then waits until it is told that it is
unblocked, and publishes again. Says each step in a line, at last how many were published.
"""

import sys
import time

import pika

DEADLINE_S = 40


class Client:
    def __init__(self, uri, queue, source, count):
        self.queue, self.source, self.count = queue, source, count
        self.told, self.taken, self.published = [], 0, 0
        self.connection = pika.BlockingConnection(pika.URLParameters(uri))
        self.connection.add_on_connection_blocked_callback(
            lambda _connection, frame: self.told.append(frame.method.reason))
        self.connection.add_on_connection_unblocked_callback(
            lambda _connection, _frame: self.told.append(None))
        self.channel = self.connection.channel()

    def wait(self, test, what):
        end = time.monotonic() + DEADLINE_S
        while not test():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {DEADLINE_S} s: {what}")
            self.connection.process_data_events(0.1)

    def publish(self):
        self.channel.basic_publish("", self.queue, b"pika", mandatory=True)
        self.published += 1

    def take(self, channel, method, _properties, _body):
        self.taken += 1
        channel.basic_ack(method.delivery_tag)

    def run(self):
        print("READY", flush=True)
        end = time.monotonic() + DEADLINE_S
        while not self.told and time.monotonic() < end:
            self.publish()
            self.connection.process_data_events(0)
        print("BLOCKED", self.told[0], flush=True)
        tag = self.channel.basic_consume(self.source, self.take)
        self.wait(lambda: self.taken == self.count, "all messages are taken")
        self.channel.basic_cancel(tag)
        print("TAKEN", self.taken, flush=True)
        self.wait(lambda: self.told[-1] is None, "it is unblocked")
        print("UNBLOCKED", flush=True)
        self.publish()
        self.connection.close()
        print("PUBLISHED", self.published, flush=True)


if __name__ == "__main__":
    Client(*sys.argv[1:4], int(sys.argv[4])).run()
