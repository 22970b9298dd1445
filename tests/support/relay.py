"""A relay of TCP connections, behind which addresses are hidden as behind a NAT."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.waiting import reactor, until


class Relay:
    """A port of the loopback that leads to another one. It stops at the end of the test.

    :param target: the other port, to be set before anybody connects.
    :param connections: how many there ever were.
    :param open: those that are open.
    """

    def __init__(self, case: TestCase) -> None:
        self.target = 0
        self.connections = 0
        self.open: set[Any] = set()
        self._port: Any = reactor.listenTCP(0, _Relaying(self), interface="127.0.0.1")
        case.addCleanup(self._stop)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._port.getHost().port)

    def cut(self) -> None:
        """Reset all connections."""
        for connection in list(self.open):
            connection.transport.abortConnection()

    async def _stop(self) -> None:
        await maybeDeferred(self._port.stopListening)
        self.cut()
        await until(lambda: not self.open, "the end of connections")


class _Relayed(ProxyServer):
    factory: _Relaying

    def connectionMade(self) -> None:
        relay = self.factory.relay
        relay.connections += 1
        relay.open.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.relay.open.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Relaying(ProxyFactory):
    noisy = False
    protocol = _Relayed

    def __init__(self, relay: Relay) -> None:
        super().__init__("127.0.0.1", 0)
        self.relay = relay

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.port = self.relay.target
        return super().buildProtocol(addr)
