"""A gateway in this process, and a client of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.cache.cached_backend import CachedBackend
from tests.support.waiting import reactor


class Client(Protocol):
    """A client that collects all data that it receives.

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

    def endpoint(self, gateway: Gateway, listener: int = 0, *, source: str | None = None) -> IStreamClientEndpoint:
        """Return an endpoint to one of a gateway's plain listeners.

        :param source: the client's own address on the loopback, if it matters.
        """
        port = gateway.listeners[listener].port
        assert port is not None
        address: Any = port.getHost()
        if address.__class__.__name__ == "UNIXAddress":
            return UNIXClientEndpoint(reactor, address.name)
        if ":" in address.host:
            return TCP6ClientEndpoint(reactor, "::1", address.port)
        bound = None if source is None else (source, 0)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", address.port, bindAddress=bound)

    async def connect(self, gateway: Gateway, listener: int = 0, *, source: str | None = None) -> Client:
        """Connect a client; disconnect it at the end of the test."""
        client: Client = await connectProtocol(self.endpoint(gateway, listener, source=source), Client())
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


def port_of(gateway: Gateway, listener: int = 0) -> int:
    """Return the TCP port that a listener has."""
    port: Any = gateway.listeners[listener].port
    return int(port.getHost().port)


def caches(gateway: Gateway) -> list[CachedBackend]:
    """Return the caches of a gateway's backends, in file order."""
    return [each.entry for each in gateway.parts.backends.values() if isinstance(each.entry, CachedBackend)]
