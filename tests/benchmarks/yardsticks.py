"""What the gateway is measured beside: the server of Twisted's finger tutorial, and a loop in C."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.benchmarks import server
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
_LOOP = Path(__file__).with_name("epoll_loop.c")


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
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        program, port = str(Path(folder, "epoll_loop")), free_port()
        subprocess.run([compiler, "-O2", "-o", program, str(_LOOP)], check=True)
        with server(str(port), answer.decode(), port=port, program=program) as running:
            yield Yardstick(port, running.pid)
