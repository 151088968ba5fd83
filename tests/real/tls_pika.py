"""pika over TLS: tls_pika.py URI CA CERTIFICATE KEY. Run with the Python of the pika client.

Logs in by the certificate (EXTERNAL), makes a round trip of a large message, and closes.
"""

import ssl
import sys

import pika

BODY = bytes(range(256)) * 4096


def main():
    uri, authority, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    parameters = pika.URLParameters(uri)
    parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    parameters.credentials = pika.credentials.ExternalCredentials()
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, BODY, mandatory=True)
    _method, _properties, body = channel.basic_get(queue, auto_ack=True)
    if body != BODY:
        raise ValueError("the body is another")
    connection.close()
    print("pika logged in by its certificate")


if __name__ == "__main__":
    main()
