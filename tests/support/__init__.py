"""What several tests need: a gateway in this process or in one of its own, and clients that behave as told."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.cache.cached_backend import CachedBackend
from tests.support.forked import Forked

reactor: Any = _reactor
ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 20.0
# routes and backends that answer the name "hello"
HELLO = """
[[routes]]
user = "hello"
backends = ["map"]
[backends.map]
type = "static"
entries = { hello = "Hello" }
"""


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait in the reactor until a condition holds; fail at the deadline."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS:g} s")
        await deferLater(reactor, 0.01)


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait without a reactor until a condition holds; fail at the deadline."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS:g} s")
        time.sleep(0.02)


class Client(Protocol):
    """A client that collects what it is sent.

    :param closed: fires with all of it when the connection is gone.
    :param reason: why it is gone.
    """

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure | None = None
        self.closed: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.closed.callback(self.received)


class GatewayCase(TestCase):
    """Tests with a gateway in this process, on real sockets."""

    timeout = 30

    def write(self, name: str, text: str) -> Path:
        """Write a file into the test's own folder."""
        if not hasattr(self, "_folder"):
            self._folder = tempfile.TemporaryDirectory()
            self.addCleanup(self._folder.cleanup)
        path = Path(self._folder.name, name)
        path.write_text(text)
        return path

    def start(self, text: str) -> Gateway:
        """Start a gateway, and have it stopped at the end. Let its listeners choose their ports."""
        config = fingergw.load(self.write("fingergw.toml", text))
        gateway = fingergw.make_service(config, reactor)
        assert isinstance(gateway, Gateway)
        gateway.privilegedStartService()
        gateway.startService()
        self.addCleanup(gateway.stopService)
        return gateway

    def endpoint(self, gateway: Gateway, listener: int = 0) -> IStreamClientEndpoint:
        """Return an endpoint to one of a gateway's plain listeners."""
        from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint

        port = gateway.listeners[listener].port
        assert port is not None
        address: Any = port.getHost()
        if address.__class__.__name__ == "UNIXAddress":
            return UNIXClientEndpoint(reactor, address.name)
        if ":" in address.host:
            return TCP6ClientEndpoint(reactor, "::1", address.port)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)

    async def connect(self, gateway: Gateway, listener: int = 0) -> Client:
        """Connect a client, and have it gone at the end."""
        client: Client = await connectProtocol(self.endpoint(gateway, listener), Client())
        self.addCleanup(self._disconnect, client)
        return client

    @staticmethod
    def _disconnect(client: Client) -> Deferred[bytes] | None:
        if client.reason is not None:
            return None
        assert client.transport is not None
        client.transport.abortConnection()  # type: ignore[attr-defined]
        return client.closed

    async def ask(self, gateway: Gateway, query: bytes, listener: int = 0) -> bytes:
        """Send a query whole, and return the answer."""
        client = await self.connect(gateway, listener)
        assert client.transport is not None
        client.transport.write(query)
        return await client.closed


def in_thread(function: Callable[[], bytes]) -> Deferred[bytes]:
    """Run a blocking client beside the reactor."""
    done: Deferred[bytes] = Deferred()

    def work() -> None:
        try:
            result: object = function()
        except BaseException:  # for the test to see
            result = Failure()
        reactor.callFromThread(done.callback, result)

    threading.Thread(target=work, daemon=True).start()
    return done


def port_of(gateway: Gateway, listener: int = 0) -> int:
    """Return the TCP port that a listener has."""
    port: Any = gateway.listeners[listener].port
    return int(port.getHost().port)


class RawServer(Protocol):
    """An HTTP server's side of one connection, as raw as the test wants it.

    :param requests: every request head received on any connection, shared.
    :param script: what to do for a request: it is given this protocol and the request's head.
    """

    def __init__(self, requests: list[bytes], script: Callable[[RawServer, bytes], object]) -> None:
        self.requests = requests
        self.script = script
        self.lost: Deferred[None] = Deferred()
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self.requests.append(head)
            self.script(self, head)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


def response(body: bytes, content_type: str = "text/plain", status: str = "200 OK", extra: str = "") -> bytes:
    """Return a whole HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class Upstream:
    """A real HTTP server on the loopback that does what it is told.

    :param script: what to do for a request, given the connection and the request's head.
    """

    def __init__(self, case: TestCase, script: Callable[[RawServer, bytes], object], *, context: Any = None) -> None:
        self.requests: list[bytes] = []
        self.connections: list[RawServer] = []
        self.script = script
        factory = Factory.forProtocol(RawServer)  # type: ignore[arg-type]

        def build(_: object) -> RawServer:
            connection = RawServer(self.requests, lambda server, head: self.script(server, head))
            self.connections.append(connection)
            return connection

        factory.buildProtocol = build  # type: ignore[method-assign, assignment]
        if context is None:
            self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.port = self._port.getHost().port
        case.addCleanup(self.stop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        await maybeDeferred(self._port.stopListening)
        for connection in self.connections:
            if not connection.lost.called and connection.transport is not None:
                connection.transport.abortConnection()  # type: ignore[attr-defined]
        await until(lambda: all(connection.lost.called for connection in self.connections), "the end of connections")


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """Return a TCP port that was free a moment ago, and that no client's own end can have."""
    chances = random.SystemRandom()
    while True:
        port = chances.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind(("", port))
            return port


def finger(port: int, query: bytes, *, timeout: float = DEADLINE_SECONDS) -> bytes:
    """Ask a server on the loopback, blocking, and return all it says."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        client.sendall(query)
        return receive_all(client)


def receive_all(client: socket.socket) -> bytes:
    """Read until the other side closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


COMMAND = [sys.executable, "-m", "fingergw"]


@contextlib.contextmanager
def process(
    arguments: Sequence[str],
    *,
    port: int | None = None,
    cwd: Path | None = None,
    command: Sequence[str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Run ``fingergw`` in a process of its own, wait until it serves on the port, and end it."""
    running = subprocess.Popen(
        [*(command or COMMAND), *arguments],
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        **options,
    )
    try:
        if port is not None:
            wait_until(lambda: serves(port) or running.poll() is not None, f"a listener on port {port}")
            if running.poll() is not None:
                raise AssertionError(f"it ended: {running.communicate()}")
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def serves(port: int) -> bool:
    """Tell whether a server is at work on a port of the loopback: one that has only bound does not close yet."""
    with contextlib.suppress(ConnectionError, TimeoutError), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.shutdown(socket.SHUT_WR)
        return not client.recv(1)
    return False


def listens(port: int) -> bool:
    """Tell whether something listens on a port of the loopback."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS).close()
        return True
    return False


@contextlib.contextmanager
def forked(arguments: Sequence[str], *, port: int | None = None, cwd: Path | None = None) -> Iterator[Forked]:
    """Do as ``process``, without what it takes to start Python and import: for all that is no test of the start."""
    running = Forked(arguments, cwd)
    try:
        if port is not None:
            wait_until(lambda: serves(port) or running.poll() is not None, f"a listener on port {port}")
            if running.poll() is not None:
                raise AssertionError(f"it ended: {running.communicate()}")
        yield running
    finally:
        running.forget()


def run(
    arguments: Sequence[str], *, cwd: Path | None = None, command: Sequence[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a ``fingergw`` command to its end.

    :param command: what to start for it, such as ``COMMAND``; without, it is forked, with all imported before.
    """
    if command is None:
        with forked(arguments, cwd=cwd) as running:
            out, err = running.communicate(timeout=60)
            assert running.returncode is not None
            return subprocess.CompletedProcess(arguments, running.returncode, out, err)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments], text=True, capture_output=True, check=False, timeout=60, env=env, cwd=cwd
    )


def caches(gateway: Gateway) -> list[CachedBackend]:
    """Return what keeps the answers of a gateway's backends, in the order of the file."""
    return [backend.cache for backend in gateway.parts.backends.values() if backend.cache is not None]


def sync(awaitable: Awaitable[Any]) -> Any:
    """Run what is awaitable and needs no reactor, and return its result."""
    coroutine: Any = awaitable.__await__()
    try:
        next(coroutine)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")
