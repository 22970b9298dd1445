"""What a listener's clients may have at once and in a time: connections, queries, waiting for backends."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fingergw.core.addresses import client_of
from fingergw.core.chain import Chain
from fingergw.core.outcome import Answered, Outcome
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from fingergw.finger.listener import Listener
from tests.support.configuration import HELLO, listener
from tests.support.fakes import FakeBackend, say
from tests.support.gateway import GatewayCase
from tests.support.listener import FakeTransport, connect, make_listener, rate_of
from tests.support.processes import process
from tests.support.sockets import finger, free_port
from tests.support.transports import on_both_transports

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


@define(eq=False)
class SlowBackend:
    """A backend that answers when the test says so.

    :param ends_late: whether cancelled work ends only when the test says so.
    :param asked: what each query waits for.
    :param cancelled: the places in this list of the queries that were cancelled.
    :param endings: the ends of cancelled work.
    """

    ends_late: bool = False
    asked: list[Deferred[Any]] = field(factory=list)
    cancelled: list[int] = field(factory=list)
    endings: list[Deferred[Any]] = field(factory=list)

    async def answer(self, query: Query) -> Outcome:
        """Wait for the test."""
        place = len(self.asked)
        self.asked.append(Deferred())
        self.endings.append(Deferred())
        ending = self.endings[place] if self.ends_late else None
        return await say(self.asked[place], lambda: self.cancelled.append(place), ending)  # type: ignore[no-any-return]


def ask(listener: Listener, client: str) -> FakeTransport:
    """Ask for what takes long."""
    transport = connect(listener, client=client)
    transport.protocol.dataReceived(b"x\r\n")
    return transport


class SharesOfWaitingTests(TestCase):
    """Who is busy at ``max_waiting``."""

    def test_a_client_with_most_gives_one_up(self) -> None:
        """A client that holds all places loses its newest query to another client; its older ones still wait."""
        backend = SlowBackend()
        listener = make_listener(backend, max_waiting=3)
        mine = [ask(listener, "192.0.2.1") for _ in range(3)]
        other = ask(listener, "192.0.2.2")
        assert [each.sent() for each in (*mine, other)] == [b"", b"", BUSY, b""]
        assert (listener.connections.waiting, backend.cancelled) == (3, [2])
        assert listener.connections.meter.rejections == {"waiting": 1}
        backend.asked[3].callback(Answered("hi"))
        assert (other.sent(), listener.connections.waiting) == (b"hi\r\n", 2)

    def test_who_has_as_many_as_any_other_is_busy(self) -> None:
        """Nobody loses a place to a client that would then have more, or to one that already has as many."""
        listener = make_listener(SlowBackend(), max_waiting=4)
        clients = [ask(listener, f"192.0.2.{number}") for number in (1, 1, 1, 1, 2, 2, 1, 2)]
        assert [each.sent() for each in clients] == [b"", b"", BUSY, BUSY, b"", b"", BUSY, BUSY]

    def test_the_addresses_of_a_network_are_one_client(self) -> None:
        """The queries of an IPv6 /64 count together, whatever their addresses."""
        listener = make_listener(SlowBackend(), max_waiting=2)
        clients = [ask(listener, client) for client in ("2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::3")]
        assert [each.sent() for each in clients] == [b"", BUSY, b"", BUSY]

    def test_on_a_unix_socket(self) -> None:
        """Clients of a unix socket cannot be told apart, and count as one: the last to come is busy."""
        listener = make_listener(SlowBackend(), max_waiting=2)
        assert [ask(listener, "unix").sent() for _ in range(3)] == [b"", b"", BUSY]

    def test_given_up_work_that_ends_late(self) -> None:
        """A query that was given up is answered and logged once, and leaves its place once, however its work ends."""
        for end in (Answered("late"), CancelledError()):
            with tempfile.TemporaryDirectory() as folder:
                log, backend = Path(folder, "log"), SlowBackend(ends_late=True)
                listener = make_listener(backend, log=log, max_waiting=2)
                clients = [ask(listener, client) for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
                assert (clients[1].sent(), listener.connections.waiting) == (BUSY, 2)
                backend.endings[1].callback(end)
                assert (clients[1].sent(), listener.connections.waiting) == (BUSY, 2)
                listener.access_log.close()
                assert [json.loads(line)["outcome"] for line in log.read_text().splitlines()] == ["busy"]

    def test_gone_clients_whose_work_ends_late(self) -> None:
        """What still works for a client that is gone takes no place from another, and has one line in the log."""
        with tempfile.TemporaryDirectory() as folder:
            log, backend = Path(folder, "log"), SlowBackend(ends_late=True)
            listener = make_listener(backend, log=log, max_waiting=2)
            for _ in range(2):
                ask(listener, "192.0.2.1").abortConnection()
            other = ask(listener, "192.0.2.2")
            assert (other.sent(), listener.connections.waiting) == (b"", 2)
            for ending in backend.endings[:2]:
                ending.errback(CancelledError())
            assert (other.sent(), listener.connections.waiting) == (b"", 1)
            listener.access_log.close()
            assert [json.loads(line)["outcome"] for line in log.read_text().splitlines()] == ["gone", "gone"]

    def test_random_events(self) -> None:
        """Whatever happens, nobody is busy while there is a place, and else the newest query of a client with most."""
        random, backend = Random(17), SlowBackend()
        listener = make_listener(backend, max_waiting=6)
        waiting: dict[FakeTransport, tuple[str, Deferred[Any]]] = {}  # the newest last
        for _ in range(3000):
            if waiting and random.random() < 0.4:
                transport = random.choice(list(waiting))
                _, work = waiting.pop(transport)
                if random.random() < 0.5:
                    work.callback(Answered("hi"))
                    assert transport.sent() == b"hi\r\n"
                else:
                    transport.abortConnection()
                    assert transport.sent() == b""
            else:
                client = f"192.0.2.{random.choice((1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8))}"
                newcomer = ask(listener, client)
                waiting[newcomer] = (client, backend.asked[-1])
                busy = [each for each in waiting if each.sent() == BUSY]
                assert len(busy) == (len(waiting) > 6)
                for each in busy:
                    held = Counter(client for client, _ in waiting.values())
                    loser = waiting[each][0]
                    assert held[loser] == max(held.values())
                    assert each is newcomer or held[client] < held[loser]
                    assert each is [other for other in waiting if waiting[other][0] == loser][-1]
                    del waiting[each]
            assert all(each.sent() == b"" for each in waiting)
            assert listener.connections.waiting == len(waiting)


@on_both_transports
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


@on_both_transports
def test_one_after_the_other(tmp_path: Path) -> None:
    """A client that asks again as soon as its connection is closed is never told that it has too many."""
    port, path = free_port(), tmp_path / "fingergw.toml"
    limits = "limits = { max_connections_per_client = 2 }"
    path.write_text(listener(port) + limits + HELLO + '[log]\naccess = "off"\nlevel = "debug"\n')
    with process(["--config", str(path)], port=port, stdout=subprocess.DEVNULL):
        answers = Counter(finger(port, b"\x1b\r\n") for _ in range(500))
    assert answers == {b"Invalid query\r\n": 500}
