"""Builds the client programs, each once, below .dev/compat; quick when nothing has changed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(ROOT, ".dev", "compat")
NAMES = ("python", "go", "java", "node", "ruby", "c")


class BuildError(Exception):
    pass


def call(command, **options):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def sources_of(folder):
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in ("target", "node_modules", "__pycache__"))
        for name in sorted(files):
            yield os.path.join(where, name)


def digest_of(folder):
    digest = hashlib.sha256(sys.version.encode())
    for path in sources_of(folder):
        digest.update(os.path.relpath(path, folder).encode() + b"\0")
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


class Client:
    """One language: its source folder, its cache folder, and how to run its two programs."""

    def __init__(self, name):
        self.name = name
        self.source = os.path.join(HERE, name)
        self.cache = os.path.join(CACHE, name)

    def ensure(self):
        """Builds unless the cache is of these very sources; one at a time."""
        os.makedirs(self.cache, exist_ok=True)
        with open(os.path.join(self.cache, "lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.ensure_locked()

    def ensure_locked(self):
        stamp = os.path.join(self.cache, "stamp")
        wanted = digest_of(self.source)
        try:
            with open(stamp, encoding="utf-8") as file:
                if file.read() == wanted:
                    return
        except FileNotFoundError:
            pass
        getattr(self, "build_" + self.name)()
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)

    def program(self, which):
        """The command line of "suite" or "worker"."""
        return getattr(self, "run_" + self.name)(which)

    # Each language.

    @property
    def python(self):
        return os.path.join(self.cache, "venv", "bin", "python")

    def build_python(self):
        if not os.path.exists(self.python):
            venv.create(os.path.join(self.cache, "venv"), with_pip=True)
        call([self.python, "-m", "pip", "install", "-q", "-r",
              os.path.join(self.source, "requirements.txt")])

    def run_python(self, which):
        return [self.python, os.path.join(self.source, which + ".py")]

    def build_go(self):
        call(["go", "build", "-buildvcs=false", "-mod=readonly", "-o", self.cache + os.sep,
              "./suite", "./worker"], cwd=self.source)

    def run_go(self, which):
        return [os.path.join(self.cache, which)]

    def build_java(self):
        call(["mvn", "-q", "-B", f"-DbuildDirectory={self.cache}/target", "package"],
             cwd=self.source)

    def run_java(self, which):
        main = {"suite": "warren.compat.Suite", "worker": "warren.compat.Worker"}[which]
        path = f"{self.cache}/target/classes:{self.cache}/target/lib/*"
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", path,
                main]

    def build_node(self):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(self.source, name), self.cache)
        call(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=self.cache)

    def run_node(self, which):
        # modules are looked up from the cache folder, the program is in the source folder
        return ["env", f"NODE_PATH={self.cache}/node_modules", "node",
                os.path.join(self.source, which + ".js")]

    def build_ruby(self):
        call(["ruby", "-e", "require 'bunny'"])

    def run_ruby(self, which):
        return ["ruby", os.path.join(self.source, which + ".rb")]

    def build_c(self):
        call(["make", "-s", f"OUT={self.cache}"], cwd=self.source)

    def run_c(self, which):
        return [os.path.join(self.cache, which)]


def prepare(names):
    """The clients of these names, built; prints and leaves out what cannot be built."""
    ready, failed = [], []
    for name in names:
        client = Client(name)
        try:
            client.ensure()
            ready.append(client)
        except BuildError as error:
            print(f"{name}: cannot be built: {error}", file=sys.stderr)
            failed.append(name)
    return ready, failed
