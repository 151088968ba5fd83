"""Declares a queue: declare.py URI NAME classic|quorum|transient (run with the Python of the pika client)."""

import sys

import pika

uri, name, kind = sys.argv[1:]
params = pika.URLParameters(uri)
params.blocked_connection_timeout = params.socket_timeout = params.stack_timeout = 10
connection = pika.BlockingConnection(params)
connection.channel().queue_declare(name, durable=kind != "transient",
                                   arguments={"x-queue-type": "quorum"} if kind == "quorum" else {})
connection.close()
