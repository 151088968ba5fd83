"""The transient queue of the kill test: transient.py fill|drain URI QUEUE COUNT SURVIVED.

fill declares the queue if it is not there and publishes COUNT confirmed messages. drain takes them: all
of them in order when the node has survived; when it has not, the queue must be gone.
Run with the Python of the pika client.
"""

import sys
import time

import pika
from pika import exceptions as px

DEADLINE_S = 20


def connect(uri):
    params = pika.URLParameters(uri)
    params.blocked_connection_timeout = 10
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return pika.BlockingConnection(params)
        except px.AMQPConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def fill(channel, queue, count):
    channel.queue_declare(queue)
    channel.queue_purge(queue)
    channel.confirm_delivery()
    for i in range(count):
        channel.basic_publish("", queue, str(i).encode(), mandatory=True)


def drain(channel, queue, count):
    got = []
    for method, _properties, body in channel.consume(queue, inactivity_timeout=DEADLINE_S):
        if method is None:
            break
        got.append(int(body))
        channel.basic_ack(method.delivery_tag)
        if len(got) == count:
            break
    if got != list(range(count)):
        return f"got {len(got)} of {count}, in order: {got == sorted(got)}"
    return None


def main():
    mode, uri, queue, count, survived = sys.argv[1:]
    connection = connect(uri)
    channel = connection.channel()
    if mode == "fill":
        fill(channel, queue, int(count))
        return None
    try:
        channel.queue_declare(queue, passive=True)
    except px.ChannelClosedByBroker as error:
        return None if survived == "0" and error.reply_code == 404 else str(error)
    if survived == "0":
        return "the queue is still there although its node was killed"
    return drain(channel, queue, int(count))


if __name__ == "__main__":
    sys.exit(main())
