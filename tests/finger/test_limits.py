"""What a listener's clients may have at once and in a time: connections, queries, waiting for backends."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fingergw.core.addresses import client_of
from fingergw.core.chain import Chain
from fingergw.core.outcome import Answered
from fingergw.core.routing import Route, Router
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase
from tests.support.listener import connect, make_listener, rate_of

BUSY = b"Too many queries, try again later\r\n"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("0:0:0:0:0:FFFF:C000:201", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unix", None),
        ("", None),
    ],
)
def test_client_of(address: str, client: str | None) -> None:
    """A client is an IPv4 address, mapped into IPv6 or not, or an IPv6 /64; a unix socket has none to tell apart."""
    assert client_of(address) == client


class ConnectionTests(TestCase):
    """``max_connections_per_client``."""

    def test_one_too_many(self) -> None:
        """A client with all the connections that it may have is busy; another is served."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections_per_client=2)
        mine = [connect(listener, client="192.0.2.1") for _ in range(3)]
        other = connect(listener, client="192.0.2.2")
        assert [transport.sent() for transport in mine] == [b"", b"", BUSY]
        assert [transport.closed for transport in mine] == ["", "", "clean"]
        other.protocol.dataReceived(b"x\r\n")
        assert other.sent() == b"hi\r\n"

    def test_the_addresses_of_a_network_are_one_client(self) -> None:
        """The addresses of an IPv6 /64 share its connections, and so do the two spellings of an IPv4 address."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections_per_client=1)
        clients = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1"]
        assert [connect(listener, client=client).sent() for client in clients] == [b"", BUSY, b"", b"", BUSY]

    def test_on_a_unix_socket(self) -> None:
        """Clients of a unix socket cannot be told apart, and have no limit but that of the listener."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections_per_client=1)
        assert [connect(listener).sent() for _ in range(3)] == [b"", b"", b""]

    def test_freed(self) -> None:
        """A connection that ends, in whatever way, makes room for one more, and one that was refused for none."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections_per_client=1)
        for _ in range(3):
            first = connect(listener, client="192.0.2.1")
            assert [connect(listener, client="192.0.2.1").sent() for _ in range(2)] == [BUSY, BUSY]
            first.abortConnection()
        assert len(listener.connections.per_client) == 0

    def test_refused_clients_that_stay(self) -> None:
        """Those who are refused for the listener's sake count for no client, and leave in order."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections=1, max_connections_per_client=1)
        first = connect(listener, client="192.0.2.1")
        second = connect(listener, client="192.0.2.2", reads=False)
        assert len(listener.connections.per_client) == 1
        second.abortConnection()
        first.abortConnection()
        assert (len(listener.connections.per_client), listener.connections.open) == (0, set())


class RateTests(TestCase):
    """``rate``."""

    def test_too_often(self) -> None:
        """Beyond the burst a client is busy until its time has come; another is served."""
        clock, backend = Clock(), FakeBackend(Answered("hi"))
        listener = make_listener(backend, clock=clock, rate=rate_of(queries=1, per=10, burst=2))

        def ask(client: str, line: bytes = b"x\r\n") -> bytes:
            transport = connect(listener, client=client)
            transport.protocol.dataReceived(line)
            return transport.sent()

        assert [ask("192.0.2.1") for _ in range(3)] == [b"hi\r\n", b"hi\r\n", BUSY]
        assert ask("192.0.2.2") == b"hi\r\n"
        clock.advance(10)
        assert [ask("192.0.2.1") for _ in range(2)] == [b"hi\r\n", BUSY]
        assert len(backend.queries) == 4

    def test_what_counts(self) -> None:
        """Every line counts, whether it is a query or not; a connection without one does not."""
        for line in (b"\x1b\r\n", b"z" * 1000, b"\r\n", b"@h\r\n"):
            listener = make_listener(FakeBackend(Answered("hi")), rate=rate_of(queries=1, per=10, burst=1))
            connect(listener, client="192.0.2.1").abortConnection()
            first, second = (connect(listener, client="192.0.2.1") for _ in range(2))
            first.protocol.dataReceived(line)
            second.protocol.dataReceived(b"x\r\n")
            assert first.sent() not in (b"", BUSY)
            assert second.sent() == BUSY

    def test_on_a_unix_socket(self) -> None:
        """Clients of a unix socket cannot be told apart, and have no rate."""
        listener = make_listener(FakeBackend(Answered("hi")), rate=rate_of(queries=1, per=10, burst=1))
        for _ in range(3):
            transport = connect(listener)
            transport.protocol.dataReceived(b"x\r\n")
            assert transport.sent() == b"hi\r\n"


class WaitingTests(TestCase):
    """``max_waiting``."""

    def test_too_many_wait(self) -> None:
        """Beyond the limit a query that would wait is busy, and given up; what is known at once is answered."""
        slow, gone = [FakeBackend(Deferred()) for _ in range(2)], list[object]()
        third = FakeBackend(Deferred(gone.append))
        names = {"a": slow[0], "b": slow[1], "c": third, "static": FakeBackend(Answered("hi"))}
        routes = [Route(name, Chain(((name, backend),)), users=(name,)) for name, backend in names.items()]
        listener = make_listener(router=Router(routes), max_waiting=2)
        transports = {name: connect(listener) for name in names}
        for name, transport in transports.items():
            transport.protocol.dataReceived(name.encode() + b"\r\n")
        assert {name: transport.sent() for name, transport in transports.items()} == {
            "a": b"",
            "b": b"",
            "c": BUSY,
            "static": b"hi\r\n",
        }
        assert gone == [third.says]
        assert listener.connections.waiting == 2
        slow[0].says.callback(Answered("late"))
        assert (transports["a"].sent(), listener.connections.waiting) == (b"late\r\n", 1)

    def test_freed_by_those_who_go(self) -> None:
        """A client that leaves, or waits too long, waits no more."""
        clock = Clock()
        listener = make_listener(FakeBackend(Deferred()), clock=clock, max_waiting=1)
        leaves = connect(listener)
        leaves.protocol.dataReceived(b"x\r\n")
        leaves.abortConnection()
        assert listener.connections.waiting == 0
        late = make_listener(FakeBackend(Deferred()), clock=clock, max_waiting=1)
        connect(late).protocol.dataReceived(b"x\r\n")
        assert late.connections.waiting == 1
        clock.pump([1.0] * 16)
        assert late.connections.waiting == 0


class RealTests(GatewayCase):
    """From the file to the socket."""

    async def test_limits_of_a_listener(self) -> None:
        """A listener's own limits hold for its clients, and each listener counts for itself."""
        gateway = self.start(
            '[[listeners]]\nname = "a"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            "limits = { max_connections_per_client = 1, rate = { queries = 1, per = 1000, burst = 1 } }\n"
            '[[listeners]]\nname = "b"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        )
        first = await self.connect(gateway)
        assert await self.ask(gateway, b"") == BUSY
        assert await self.ask(gateway, b"x\r\n", listener=1) == b"No such user\r\n"
        assert first.transport is not None
        first.transport.write(b"x\r\n")
        assert await first.closed == b"No such user\r\n"
        assert await self.ask(gateway, b"x\r\n") == BUSY
        assert gateway.listeners[0].connections.meter.outcomes == {("", "no_such_user"): 1, ("", "busy"): 2}
