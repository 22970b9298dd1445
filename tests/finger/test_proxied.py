"""Listeners behind a proxy, which says who the client is."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from fingergw.core.addresses import Networks
from fingergw.core.outcome import Answered
from fingergw.finger.factory import Closed, FingerFactory
from fingergw.finger.listener import Listener
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase
from tests.support.listener import connect, make_listener
from tests.support.transports import on_both_transports

PROXIES = Networks([ip_network("203.0.113.0/24")])
PROXY = "203.0.113.1"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\n"
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
V2_SHORT = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\0"  # a unix socket without its addresses


def proxied(**settings: Any) -> tuple[Listener, FakeBackend]:
    """Return a listener that only proxies reach, and its backend."""
    backend = FakeBackend(Answered("hi"))
    return make_listener(backend, trusted_proxies=PROXIES, **settings), backend


class HeaderTests(TestCase):
    """The PROXY header that comes before the query."""

    def test_with_the_query(self) -> None:
        """The query may come with the header, and the backend is told the client that the header names."""
        listener, backend = proxied()
        transport = connect(listener, client=PROXY)
        transport.protocol.dataReceived(V1 + b"x\r\n")
        assert transport.sent() == b"hi\r\n"
        assert [query.client for query in backend.queries] == ["192.0.2.1"]

    def test_in_pieces(self) -> None:
        """Header and query may come in pieces of any size."""
        for size in (1, 7, len(V1), len(V1) + 1):
            listener, backend = proxied()
            transport = connect(listener, client=PROXY)
            whole = V1 + b"x\r\n"
            for place in range(0, len(whole), size):
                transport.protocol.dataReceived(whole[place : place + size])
            assert transport.sent() == b"hi\r\n"
            assert [query.client for query in backend.queries] == ["192.0.2.1"]

    def test_the_proxy_itself(self) -> None:
        """A health check of the proxy's, in its own name, is answered as one of its own address."""
        listener, backend = proxied()
        transport = connect(listener, client=PROXY)
        transport.protocol.dataReceived(V2_LOCAL + b"x\r\n")
        assert transport.sent() == b"hi\r\n"
        assert [query.client for query in backend.queries] == [PROXY]

    def test_a_second_header_is_no_header(self) -> None:
        """Only the first header is one: what a client sends cannot change who it is."""
        listener, _ = proxied()
        transport = connect(listener, client=PROXY)
        transport.protocol.dataReceived(V1 + V1.replace(b"192.0.2.1", b"10.0.0.1"))
        assert transport.sent() == b"Invalid query\r\n"
        assert transport.protocol.client == "192.0.2.1"

    def _closed(self, data: bytes, outcome: str, client: str = PROXY, **settings: Any) -> None:
        listener, backend = proxied(**settings)
        transport = connect(listener, client=client)
        with capturedLogs():
            transport.protocol.dataReceived(data)
            transport.protocol.dataReceived(b"x\r\n")
        assert (transport.sent(), transport.closed) == (b"", "clean")
        assert listener.connections.meter.outcomes == {("", outcome): 1}
        assert backend.queries == []

    def test_malformed(self) -> None:
        """Whatever is no header ends the connection without a word, and is counted."""
        for data in (b"x\r\n", b"PROXY TCP4\r\n", b"\r\n\r\nx", b"z" * 100000, b"PROXY " + b"z" * 200):
            self._closed(data, "bad_proxy_header")

    def test_denied(self) -> None:
        """The client that the header names is whom allow and deny are about."""
        self._closed(V1, "denied", allow=PROXIES)
        self._closed(V1 + b"x\r\n", "denied", allow=PROXIES)

    def test_late(self) -> None:
        """A header that takes longer than a query may ends the connection, and is counted."""
        for begun in (b"", V1[:20], V2_LOCAL[:14]):
            clock = Clock()
            listener, _ = proxied(clock=clock)
            transport = connect(listener, client=PROXY)
            transport.protocol.dataReceived(begun)
            clock.pump([1.0] * 13)
            assert (transport.sent(), transport.closed) == (b"", "clean")
            assert listener.connections.meter.outcomes == {("", "timeout"): 1}

    def test_header_and_query_share_the_time(self) -> None:
        """A query that comes too late after a timely header ends the connection too."""
        clock = Clock()
        listener, _ = proxied(clock=clock)
        transport = connect(listener, client=PROXY)
        clock.advance(6)
        transport.protocol.dataReceived(V1 + b"x")
        clock.pump([1.0] * 6)
        assert transport.closed == "clean"

    def test_untrusted(self) -> None:
        """Anyone else is closed on before a byte is read, and counted."""
        listener, _ = proxied()
        for address in (IPv4Address("TCP", "192.0.2.1", 1), None):
            assert isinstance(FingerFactory(listener).buildProtocol(address), Closed)
        assert listener.connections.meter.outcomes == {("", "untrusted_proxy"): 2}


class LimitTests(TestCase):
    """Limits are those of the clients, not of the proxy."""

    def test_per_client(self) -> None:
        """A client has its connections through any proxy; another client of the same proxy has its own."""
        listener, _ = proxied(max_connections_per_client=1)
        transports = [connect(listener, client=f"203.0.113.{number}") for number in (1, 2, 2)]
        headers = [V1, V1, V1.replace(b"192.0.2.1", b"192.0.2.2")]
        for transport, header in zip(transports, headers, strict=True):
            transport.protocol.dataReceived(header)
        assert [transport.sent() for transport in transports] == [b"", b"Too many queries, try again later\r\n", b""]
        for transport in transports:
            transport.abortConnection()
        assert len(listener.connections.per_client) == 0

    def test_before_the_header(self) -> None:
        """Connections whose header has not come count for the listener, and for no client."""
        listener, _ = proxied(max_connections=3, max_connections_per_client=1)
        transports = [connect(listener, client=PROXY) for _ in range(4)]
        assert [transport.sent()[:8] for transport in transports] == [b"", b"", b"", b"Too many"]
        assert len(listener.connections.per_client) == 0


@on_both_transports
class RealTests(GatewayCase):
    """From the file to the socket."""

    def _start(self, trusted: str, log: Path) -> Any:
        return self.start(
            f'[[listeners]]\nname = "front"\nendpoint = "haproxy:tcp:0:interface=127.0.0.1"\n'
            f'trusted_proxies = ["{trusted}"]\ndeny = ["192.0.2.66"]\n'
            '[[routes]]\nuser = "x"\nclients = ["192.0.2.0/24"]\nbackends = ["b"]\n'
            f'[backends.b]\ntype = "static"\ntext = "hi"\n[log]\naccess = "{log}"\nformat = "json"\n'
        )

    async def test_clients_of_a_proxy(self) -> None:
        """Routes, allow and deny and the log go by the client's address."""
        log = self.write("log", "")
        gateway = self._start("127.0.0.1", log)
        assert await self.ask(gateway, V1 + b"x\r\n") == b"hi\r\n"
        assert await self.ask(gateway, V1.replace(b"192.0.2.1", b"10.0.0.1") + b"x\r\n") == b"No such user\r\n"
        assert await self.ask(gateway, V1.replace(b"192.0.2.1 ", b"192.0.2.66 ") + b"x\r\n") == b""
        assert await self.ask(gateway, V2_LOCAL + b"x\r\n") == b"No such user\r\n"
        assert await self.ask(gateway, b"x\r\n") == b""
        assert await self.ask(gateway, V2_SHORT + b"x\r\n") == b""
        await gateway.stopService()
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(entry["client"], entry["outcome"]) for entry in entries] == [
            ("192.0.2.1", "answered"),
            ("10.0.0.1", "no_such_user"),
            ("192.0.2.66", "denied"),
            ("127.0.0.1", "no_such_user"),
            ("127.0.0.1", "bad_proxy_header"),
            ("127.0.0.1", "bad_proxy_header"),
        ]

    async def test_half_close(self) -> None:
        """A proxy that closes its side with the query gets the answer, and one that only connects is let go."""
        gateway = self._start("127.0.0.1", self.write("log", ""))
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(V1 + b"x\r\n")
        client.transport.loseWriteConnection()  # type: ignore[attr-defined]
        assert await client.closed == b"hi\r\n"
        client = await self.connect(gateway)
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        assert await client.closed == b""

    async def test_not_a_proxy(self) -> None:
        """From an address that is not trusted no header is believed."""
        gateway = self._start("10.0.0.0/8", self.write("log", ""))
        assert await self.ask(gateway, V1 + b"x\r\n") == b""
        assert gateway.listeners[0].connections.meter.outcomes == {("", "untrusted_proxy"): 1}
