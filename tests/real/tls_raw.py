"""The small AMQP speaker over TLS."""

import ssl

from amqp_raw import Raw


class TlsRaw(Raw):
    """Trusts the authority of `pki`; shows the certificate of that name, if one is given."""

    def __init__(self, port, pki, certificate=None, version=None, host="127.0.0.1", timeout=5.0,
                 ragged=False):
        """ragged: that the peer ends without close_notify is an end like any other."""
        super().__init__(port, host, timeout)
        context = ssl.create_default_context(cafile=pki.path("ca.pem"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        try:
            if certificate is not None:
                context.load_cert_chain(pki.path(certificate + ".pem"),
                                        pki.path(certificate + ".key"))
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost",
                                              suppress_ragged_eofs=ragged)
        except BaseException:
            self.socket.close()
            raise
