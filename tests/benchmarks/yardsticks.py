"""What the gateway is measured beside: the server of Twisted's finger tutorial, and a loop in C."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from tests.benchmarks import ask_many, server
from tests.support.sockets import free_port

_TUTORIAL = """
from twisted.internet import defer, endpoints, protocol, reactor
from twisted.protocols import basic

class Finger(basic.LineReceiver):
    def lineReceived(self, user):
        d = self.factory.getUser(user)
        d.addErrback(lambda _: b"Internal error in server")
        def write(message):
            self.transport.write(message + b"\\r\\n")
            self.transport.loseConnection()
        d.addCallback(write)

class Factory(protocol.ServerFactory):
    protocol = Finger
    users = {users!r}
    def getUser(self, user):
        return defer.succeed(self.users.get(user, b"No such user"))

endpoints.serverFromString(reactor, "tcp:{port}:interface=127.0.0.1:backlog=4096").listen(Factory())
reactor.run()
"""


@frozen
class Yardstick:
    """A server that runs in a process of its own."""

    port: int
    pid: int


@contextmanager
def tutorial(users: Mapping[bytes, bytes]) -> Iterator[Yardstick]:
    """Run the tutorial's server.

    :param users: names, and their answers without the last line's end.
    """
    port = free_port()
    script = _TUTORIAL.format(users=dict(users), port=port)
    with server("-c", script, port=port) as running:
        yield Yardstick(port, running.pid)


@contextmanager
def c_loop(answer: bytes) -> Iterator[Yardstick | None]:
    """Compile the loop in C and run it.

    :param answer: what it says to any line.
    :return: None where there is no compiler.
    """
    with _compiled("epoll_loop.c") as program:
        if program is None:
            yield None
            return
        port = free_port()
        with server(str(port), answer.decode(), port=port, program=program) as running:
            yield Yardstick(port, running.pid)


Asking: TypeAlias = Callable[[int, int, Callable[[int], bytes], bytes, int], object]
"""Ask queries: at which port, how many, what returns the bytes of the n-th, the answer to all, how many at once."""


@contextmanager
def asking() -> Iterator[Asking]:
    """Return what asks: clients in C, as many as there are processors, or one in Python where there is no compiler.

    So the servers always have something to do, all of them: one that waits for its clients has to be woken for each.
    """
    with _compiled("asking.c") as program:

        def ask(port: int, count: int, query: Callable[[int], bytes], answer: bytes, in_flight: int) -> None:
            if program is None:
                ask_many(port, count, query, answer, in_flight=in_flight)
                return
            parts = [len(part).to_bytes(2, "little") + part for part in map(query, range(count))]
            clients = min(in_flight, len(os.sched_getaffinity(0)))
            running = []
            for place in range(clients):
                command = [program, str(port), str(in_flight // clients)]
                client = subprocess.Popen(command, stdin=subprocess.PIPE)
                running.append((client, len(answer).to_bytes(2, "little") + answer + b"".join(parts[place::clients])))
            with ThreadPoolExecutor(clients) as threads:
                for _ in threads.map(lambda each: each[0].communicate(each[1]), running):
                    pass
            if any(client.returncode for client, _ in running):
                raise SystemExit("a client has failed")

        yield ask


@contextmanager
def _compiled(name: str) -> Iterator[str | None]:
    """Compile a program in C; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "program"))
        subprocess.run([compiler, "-O2", "-o", program, str(Path(__file__).with_name(name))], check=True)
        yield program
