"""A queue that loses a node in its first moments: newborn.py fill|drain URI QUEUE COUNT.

fill declares it, publishes COUNT messages, and writes a line the moment that all are confirmed; whoever reads it may
kill the node. drain takes them on another node: all of them, in order.
Run with the Python of the pika client.
"""

import sys

import pika
from transient import connect, drain


def fill(channel, queue, count):
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2)
    for i in range(count):
        channel.basic_publish("", queue, str(i).encode(), properties, mandatory=True)
    print("confirmed", flush=True)
    sys.stdin.read()


def main():
    mode, uri, queue, count = sys.argv[1:]
    channel = connect(uri).channel()
    if mode == "fill":
        fill(channel, queue, int(count))
        return None
    problem = drain(channel, queue, int(count))
    channel.queue_delete(queue)
    return problem


if __name__ == "__main__":
    sys.exit(main())
