"""Authorities and certificates, made with the openssl program when they are needed."""

import os
import subprocess


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"openssl {arguments[0]}: {done.stderr.strip()[-300:]}")


class Pki:
    """Files below `folder`: ca, and NAME.pem with NAME.key for each certificate."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        for name in ("ca", "stranger-ca"):
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", "-subj",
                    f"/CN={name}", "-keyout", self.path(name + ".key"), "-out",
                    self.path(name + ".pem"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def certificate(self, name, subject, names="DNS:localhost,IP:127.0.0.1", issuer="ca", days=60,
                    authority=False):
        """Signed by an issuer; days < 0: it was valid until then; authority: it may sign others."""
        extensions = self.path(name + ".ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={names}\n")
            if authority:
                file.write("basicConstraints=critical,CA:TRUE\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-utf8", "-subj", subject, "-keyout",
                self.path(name + ".key"), "-out", self.path(name + ".csr"))
        openssl("x509", "-req", "-in", self.path(name + ".csr"), "-CA",
                self.path(issuer + ".pem"), "-CAkey", self.path(issuer + ".key"),
                "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out",
                self.path(name + ".pem"))
        return self.path(name + ".pem"), self.path(name + ".key")

    def lock(self, name, source, password, traditional=False):
        """The key once more, encrypted: as PKCS#8, or in the form that OpenSSL wrote before."""
        if traditional:
            openssl("rsa", "-in", self.path(source), "-aes256", "-traditional", "-passout",
                    "pass:" + password, "-out", self.path(name))
        else:
            openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", self.path(source), "-passout",
                    "pass:" + password, "-out", self.path(name))

    def join(self, name, *sources):
        """Files one behind the other."""
        texts = []
        for source in sources:
            with open(self.path(source), "rb") as file:
                texts.append(file.read())
        with open(self.path(name), "wb") as out:
            out.write(b"".join(texts))
