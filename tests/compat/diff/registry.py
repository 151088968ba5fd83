"""Scripts and tables, as the modules scripts_*.py and table_*.py announce them; and how one is run."""

import glob
import importlib
import os
import re
import struct

from amqp_codec import put_method
from amqp_raw import Ended
from session import CLEAN_S, Stop, Test

HERE = os.path.dirname(os.path.abspath(__file__))
UNITS = []


class Script:
    """One script with one kind of queue."""
    single = False

    def __init__(self, name, group, rows, function, kind=None, by_hand=False):
        self.base, self.name = name, name + (f"@{kind}" if kind else "")
        # what is written by hand has a file of its own, which no recording touches
        self.group = "by-hand" if by_hand else group
        self.rows, self.function, self.kind, self.by_hand = rows, function, kind, by_hand

    def run(self, broker, _wanted):
        """{name: [line]}"""
        test = Test(broker, self.base, self.kind)
        try:
            self.function(test)
        except Stop:
            pass
        except (OSError, Ended, ValueError, LookupError, AttributeError, struct.error) as error:
            test.record(f"! {type(error).__name__}: {error}")
        test.finish()
        return {self.name: test.lines}


class Table:
    """Rows of bad input: each a function of (test, channel), each on a channel of its own."""
    single, by_hand = True, False

    def __init__(self, name, rows, function):
        self.base = self.name = self.group = name
        self.rows, self.function = rows, function

    def run(self, broker, wanted):
        test, found, connection = Test(broker, self.name), {}, None
        test.elsewhere = False
        with broker.raw() as admin:
            admin.open()
            for name, row in self.function():
                name = f"{self.name}/{name}"
                if name in found:
                    raise ValueError(f"two rows are called {name}")
                if not wanted(name):
                    continue
                if connection is None or not connection.alive:
                    test.connections.clear()
                    connection = test.connect()
                found[name] = self.outcome(test, connection, row)
                clean(admin, test)
        if connection is not None:
            connection.close()
        for arguments in test.undo:
            broker.ctl(*arguments)
        return found

    @staticmethod
    def outcome(test, connection, row):
        test.lines = []
        try:
            channel = connection.channel()
            row(test, channel)
            channel.close()
        except Stop:
            pass
        except (OSError, Ended, struct.error) as error:
            test.record(f"! {type(error).__name__}: {error}")
            connection.gone()
        lines = [re.sub(r"^[a-j][0-9]* < ", "", line) for line in test.lines if " > " not in line]
        for number in list(connection.channels):
            if number and not connection.channels[number].open:
                del connection.channels[number]
        return [" ; ".join(re.sub(r"^[a-j][0-9]+ !", "!", line) for line in lines) or "nothing"]


def clean(admin, test):
    for name in test.names:
        for method, field in (("queue.delete", "queue"), ("exchange.delete", "exchange")):
            admin.send(put_method(1, method, **{field: name}))
            if admin.read_method(CLEAN_S)[1:3] == (20, 40):     # somebody's exclusive queue
                admin.send(put_method(1, "channel.close-ok"))
                admin.open_channel(1)
    test.names.clear()


def script(*rows, kinds=(None,), by_hand=False):
    """`rows` of the feature matrix that the function covers."""
    def add(function):
        group = function.__module__.removeprefix("scripts_")
        name = f"{group}.{function.__name__.replace('_', '-')}"
        UNITS.extend(Script(name, group, rows, function, kind, by_hand) for kind in kinds)
        return function
    return add


def table(name, *rows):
    def add(function):
        UNITS.append(Table(name, rows, function))
        return function
    return add


def load():
    """All units, in the order of files and of lines."""
    for pattern in ("scripts_*.py", "table_*.py"):
        for path in sorted(glob.glob(os.path.join(HERE, pattern))):
            importlib.import_module(os.path.basename(path)[:-3])
    return UNITS
