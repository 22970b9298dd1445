"""What TCP connections do on the fast path alone. What both ways have in common is tested on both in other files."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.logger import capturedLogs

from fingergw.core.outcome import Answered
from fingergw.finger import fast_path
from fingergw.finger.accepted import Accepted
from fingergw.finger.factory import FingerFactory
from fingergw.finger.fast_path import accept_function, is_available
from fingergw.finger.known_answers import KnownAnswers
from fingergw.finger.polling import WRITABLE
from fingergw.finger.protocol import FingerProtocol
from fingergw.finger.transport import Transport, has_unread
from tests.support.configuration import HELLO, LISTENER
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, port_of
from tests.support.listener import put
from tests.support.sockets import drop, finger, receive_all
from tests.support.waiting import in_thread, reactor, until

MAP = f"""
{HELLO}
[log]
access = "off"
[limits]
max_connections_per_client = 1000
"""


class Broken(FingerProtocol):
    """A protocol with a bug."""

    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("a bug")


class FastPathTests(GatewayCase):
    """A gateway whose TCP listener takes it."""

    async def test_more_clients_than_a_batch(self) -> None:
        """Six hundred clients that have asked before any is accepted are all answered."""
        gateway = self.start(LISTENER + MAP)
        address = ("127.0.0.1", port_of(gateway))
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(600)]
            for client in clients:
                client.sendall(b"hello\r\n")
            answers = await in_thread(lambda: b"".join(map(receive_all, clients)))
        assert answers == b"Hello\r\n" * 600

    async def test_bug_ends_one_connection(self) -> None:
        """A protocol that raises loses its own connection, which is logged and counted out; others are served."""
        gateway = self.start(LISTENER + MAP)
        service, port = gateway.listeners[0], port_of(gateway)
        self.patch(FingerFactory, "protocol_for", lambda factory, peer: Broken(factory.listener, peer))
        with capturedLogs() as logged:
            assert await in_thread(lambda: finger(port, b"hel")) == b""
        self.flushLoggedErrors(RuntimeError)
        assert [event["log_format"] for event in logged if event.get("log_failure")] == ["a connection failed"]
        self.patch(FingerFactory, "protocol_for", lambda factory, peer: FingerProtocol(factory.listener, peer))
        assert await in_thread(lambda: finger(port, b"hello\r\n")) == b"Hello\r\n"
        assert (service.connections.open, service.connections.entered) == (set(), 0)

    async def test_bug_in_a_batch(self) -> None:
        """What raises at the end of a batch ends one connection, too; the others of the batch and later are served."""
        gateway = self.start(LISTENER + MAP)
        connections, port = gateway.listeners[0].connections, port_of(gateway)
        outcomes = iter([RuntimeError("a bug")])

        def once(sock: socket.socket) -> bool:
            for error in outcomes:
                raise error
            return has_unread(sock)

        self.patch(fast_path, "has_unread", once)
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
            for client in clients[:2]:
                client.sendall(b"hello\r\n")
            answers = await in_thread(lambda: b"".join(map(receive_all, clients[:2])))
            clients[2].sendall(b"hello\r\n")  # who has waited since
            answers += await in_thread(lambda: receive_all(clients[2]))
        self.flushLoggedErrors(RuntimeError)
        assert answers == b"Hello\r\n" * 3
        assert (connections.open, connections.entered) == (set(), 0)

    async def test_bug_with_what_is_known(self) -> None:
        """Where what is known cannot be used, the protocol answers, and a proxy's client is counted once."""
        proxied = LISTENER.replace("tcp:0", "haproxy:tcp:0") + 'trusted_proxies = ["127.0.0.1"]\n'
        gateway = self.start(proxied + MAP)
        connections, port = gateway.listeners[0].connections, port_of(gateway)
        query = b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\nhello\r\n"

        def use(*_: object) -> bytes:
            raise RuntimeError("a bug")

        self.patch(KnownAnswers, "use", use)
        answers = [await in_thread(lambda: finger(port, query)) for _ in range(3)]
        assert self.flushLoggedErrors(RuntimeError)
        assert answers == [b"Hello\r\n"] * 3
        await until(lambda: not connections.open, "the end of all")
        assert (connections.entered, len(connections.per_client)) == (0, 0)

    async def test_sockets_that_would_wait(self) -> None:
        """Where a program sets a time-out for all new sockets, with which a read would wait, Twisted's way is taken."""
        gateway = self.start(LISTENER + MAP)
        port = port_of(gateway)
        self.addCleanup(socket.setdefaulttimeout, socket.getdefaulttimeout())
        socket.setdefaulttimeout(5)
        silent = socket.create_connection(("127.0.0.1", port))
        self.addCleanup(silent.close)
        assert await in_thread(lambda: finger(port, b"hello\r\n")) == b"Hello\r\n"
        assert not any(isinstance(each, Accepted) for each in gateway.listeners[0].connections.open)

    async def test_client_that_is_gone_before_its_query(self) -> None:
        """Clients that close or reset, before they are accepted or after, without a query, leave nothing behind."""
        gateway = self.start(LISTENER + MAP)
        connections = gateway.listeners[0].connections
        address = ("127.0.0.1", port_of(gateway))
        clients = [socket.create_connection(address) for _ in range(4)]
        drop(clients[0])
        clients[1].close()
        await until(lambda: len(connections.open) == 2, "the other two")
        drop(clients[2])
        clients[3].close()
        await until(lambda: not connections.open, "the end of all")
        assert (connections.meter.accepted, connections.entered, len(connections.per_client)) == (4, 0, 0)

    async def test_answer_whose_client_sends_on(self) -> None:
        """With something unread the connection is not closed until the client has closed its side, too."""
        gateway = self.start(LISTENER + MAP)
        meter = gateway.listeners[0].connections.meter
        waiting = FakeBackend(Deferred())
        put(gateway, waiting)
        with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as client:
            client.sendall(b"x\r\n")
            await until(lambda: waiting.queries, "the query")
            client.sendall(b"more")  # comes in the same turn as the answer, or before it
            waiting.says.callback(Answered("late"))
            await until(lambda: meter.outcomes["r", "answered"], "the answer")
            assert await in_thread(lambda: receive_all(client)) == b"late\r\n"
            client.sendall(b"yet more")
            client.shutdown(socket.SHUT_WR)
            await until(lambda: not gateway.listeners[0].connections.open, "its end")
            assert client.recv(1) == b""


class Called:
    """What stands in for the polling: it calls nobody."""

    events = 0

    def later(self, acting: object) -> None:
        pass

    def watch(self, fd: int, waiting: object, events: int) -> None:
        self.events = events

    def forget(self, fd: int) -> None:
        pass


def test_a_big_answer_is_sent_in_parts() -> None:
    """However much a socket takes, only so much of an answer is sent at once: then others have their turn."""
    answer, polling, received = b"0123456789abcdef" * 32768, Called(), []
    server, client = socket.socketpair()
    with client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        transport = Transport(server, Protocol(), polling)  # type: ignore[arg-type]
        transport.write(answer)
        transport.act()
        while polling.events & WRITABLE:
            received.append(client.recv(1 << 20))
            transport.ready(WRITABLE)
        received.append(client.recv(1 << 20))
        transport.abortConnection()
        transport.act()
    assert b"".join(received) == answer
    assert max(map(len, received)) <= 131072


def test_public_way_to_accept() -> None:
    """Where a socket has no private method that accepts, the public one is used, and a socket is as good."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        without = SimpleNamespace(accept=listening.accept)
        connection, address = accept_function(without)()  # type: ignore[arg-type]
        with connection:
            assert address == client.getsockname()


def test_private_way_to_accept() -> None:
    """On this Python a connection is accepted without Python's own class, which costs more than the system call."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        connection, address = accept_function(listening)()
        try:
            assert (type(connection), address) == (socket.SocketType, client.getsockname())
            client.sendall(b"x")
            assert connection.recv(10) == b"x"
        finally:
            connection.close()


def test_where_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TCP port has it where there is epoll; nothing else has."""
    port = tcp.Port(0, None, reactor=reactor)  # type: ignore[arg-type]
    assert is_available(port)
    assert not is_available(object())
    monkeypatch.delattr(select, "epoll")
    assert not is_available(port)
