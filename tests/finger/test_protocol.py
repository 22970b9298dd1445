"""One query, one answer: on real sockets, and against the clock."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from fingergw.app.gateway import Gateway
from fingergw.core.chain import Chain, Result
from fingergw.core.errors import ConfigError
from fingergw.core.outcome import Answered, Failed, Missing
from fingergw.core.routing import Route, Router
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import LINGER_SECONDS, Listener
from fingergw.finger.protocol import FingerProtocol
from tests.support.configuration import LISTENER
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, port_of
from tests.support.listener import FakeTransport, connect, make_listener, put
from tests.support.sockets import receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import in_thread, reactor, until

UNIX_LISTENER = '[[listeners]]\nendpoint = "unix:s"\n'
HELLO = """
[[routes]]
user = "hello"
backends = ["map"]
[backends.map]
type = "static"
[backends.map.entries]
hello = "Hello\\nyou"
[log]
access = "off"
"""
HELLO_WIRE = b"Hello\r\nyou\r\n"


def tcp_client(gateway: Gateway) -> socket.socket:
    """Connect a blocking client, every write of which is a segment of its own."""
    client = socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


@on_both_transports
class OneAnswerTests(GatewayCase):
    """What arrives at a client of each kind of endpoint."""

    async def _check(self, gateway: Gateway, query: bytes = b"hello\r\n") -> None:
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(query)
        assert await client.closed == HELLO_WIRE
        assert client.reason is not None
        assert client.reason.type is ConnectionDone

    async def test_tcp(self) -> None:
        """On TCP over IPv4: one answer with CRLF line ends, then a clean close."""
        await self._check(self.start(LISTENER + HELLO))

    async def test_tcp6(self) -> None:
        """On TCP over IPv6 likewise."""
        await self._check(
            self.start(LISTENER.replace("tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\\:\\:1") + HELLO)
        )

    async def test_unix(self) -> None:
        """On a unix socket likewise."""
        await self._check(self.start(UNIX_LISTENER + HELLO))

    async def test_unix_with_more_than_a_line(self) -> None:
        """On a unix socket more than a line resets nothing either."""
        await self._check(self.start(UNIX_LISTENER + HELLO), b"hello\r\n" + b"more\r\n" * 100)

    async def test_bare_line_feed(self) -> None:
        """A bare LF ends the line too."""
        await self._check(self.start(LISTENER + HELLO), b"hello\n")

    async def test_more_than_one_line(self) -> None:
        """The first line is answered; what follows is read and dropped, and the close stays clean."""
        await self._check(self.start(LISTENER + HELLO), b"hello\r\n" + b"another\r\n" * 1000)


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
class TlsTests(GatewayCase):
    """The same over TLS, with a client that checks the certificate."""

    def _start(self, endpoint: str, extra: str = "") -> tuple[Gateway, ssl.SSLContext]:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        self.write("localhost.pem", certificate.private_key_and_cert_chain_pem.bytes().decode())
        listener = f"[[listeners]]\nendpoint = '{endpoint}'\n"
        gateway = self.start(listener + extra + HELLO)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return gateway, context

    def _ask(self, gateway: Gateway, context: ssl.SSLContext, query: bytes) -> bytes:
        address: Any = gateway.listeners[0].port
        host = address.getHost().host
        with (
            socket.create_connection((host, port_of(gateway)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client,
        ):
            client.sendall(query)
            return receive_all(client)

    async def _check(self, endpoint: str, query: bytes = b"hello\r\n") -> None:
        gateway, context = self._start(endpoint)
        assert await in_thread(lambda: self._ask(gateway, context, query)) == HELLO_WIRE

    async def test_ssl(self) -> None:
        """An ssl: endpoint answers, and says goodbye in TLS's own way."""
        await self._check("ssl:0:privateKey=localhost.pem:certKey=localhost.pem:interface=127.0.0.1")

    async def test_tls(self) -> None:
        """A tls: endpoint likewise."""
        await self._check(r"tls:.:0:interface=\:\:1")

    async def test_more_than_one_line(self) -> None:
        """The answer arrives whole although more than a line was sent."""
        await self._check(
            "ssl:0:privateKey=localhost.pem:certKey=localhost.pem:interface=127.0.0.1",
            b"hello\r\n" + b"more\r\n" * 5000,
        )

    async def test_denied(self) -> None:
        """A client that is denied is closed on before any handshake, and nothing is logged as an error."""
        gateway, context = self._start(
            "ssl:0:privateKey=localhost.pem:certKey=localhost.pem:interface=127.0.0.1", 'deny = ["127.0.0.1"]\n'
        )
        with pytest.raises(OSError):  # noqa: PT011  # EOF or a reset, as it comes
            await in_thread(lambda: self._ask(gateway, context, b"hello\r\n"))

    async def test_busy(self) -> None:
        """A client too many completes the handshake and reads why it is turned away."""
        gateway, context = self._start(
            "ssl:0:privateKey=localhost.pem:certKey=localhost.pem:interface=127.0.0.1",
            "limits = { max_connections = 1 }\n",
        )
        await self.connect(gateway)
        answer = await in_thread(lambda: self._ask(gateway, context, b""))
        assert answer == b"Too many queries, try again later\r\n"


@on_both_transports
class UnicodeTests(GatewayCase):
    """Names in which an accent is a character of its own, as some keyboards and systems send them."""

    async def test_forms(self) -> None:
        """A name matches in either form, in routes, maps and files, with and without regard to case."""
        composed, decomposed = "jos\u00e9", "jose\u0301"
        for form in (composed, decomposed):
            self.write("people.toml", f'"file-{form}" = "File"')
            text = (
                f'[[routes]]\nuser = "{form}"\nbackends = ["map"]\nsummary = "Jos\u00e9"\n'
                f'[[routes]]\nusers = ["x", "{form}-2"]\nbackends = ["text"]\n'
                f'[[routes]]\npattern = "{form}-*"\nbackends = ["text"]\n'
                f"[[routes]]\nregex = '{form}_(?P<more>.+)'\nbackends = [\"echo\"]\n"
                '[[routes]]\npattern = "file-*"\nbackends = ["file"]\n[[routes]]\nindex = true\nbackends = ["menu"]\n'
                f'[backends.map]\ntype = "static"\nentries = {{ "{form}" = "Map" }}\n'
                '[backends.text]\ntype = "static"\ntext = "Text"\n'
                '[backends.file]\ntype = "static"\nfile = "people.toml"\n[backends.menu]\ntype = "menu"\n'
                '[backends.echo]\ntype = "command"\nargv = ["printf", "%s", "{more}"]\n[log]\naccess = "off"\n'
            )
            for case_sensitive in ("false", "true"):
                gateway = self.start(f"{LISTENER}{text}[answers]\ncase_sensitive = {case_sensitive}\n")
                for asked in (composed, decomposed):
                    for line, answer in (
                        (asked, "Map"),
                        (f"/W {asked}", "Map"),
                        (f"{asked}-2", "Text"),
                        (f"{asked}-3", "Text"),
                        (f"{asked}_{asked}", composed),
                        (f"file-{asked}", "File"),
                    ):
                        assert await self.ask(gateway, f"{line}\r\n".encode()) == f"{answer}\r\n".encode(), ascii(line)
                assert (await self.ask(gateway, b"\r\n")).decode().startswith(form)

    async def test_twice(self) -> None:
        """Two names in a map that no query could tell from each other are a mistake."""
        for case_sensitive in ("false", "true"):
            text = (
                '[backends.map]\ntype = "static"\n[backends.map.entries]\n"jos\u00e9" = "One"\n"jose\u0301" = "Two"\n'
                f"[answers]\ncase_sensitive = {case_sensitive}\n"
            )
            with pytest.raises(ConfigError) as caught:
                self.start(LISTENER + text)
            (problem,) = caught.value.problems
            assert "this name is defined twice, differing only by how its accents are composed; remove" in problem


@on_both_transports
class DeliveryTests(GatewayCase):
    """The answer arrives whole, however the client behaves."""

    async def test_half_close(self) -> None:
        """A client that closes its side after asking still gets an answer that takes its time."""
        gateway = self.start(LISTENER + HELLO)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(b"x\r\n")
        client.transport.loseWriteConnection()  # type: ignore[attr-defined]
        await until(lambda: backend.queries, "the query")
        await self.ask(gateway, b"other\r\n")  # by now the half-close has been seen
        backend.says.callback(Answered("late"))
        assert await client.closed == b"late\r\n"

    async def test_half_close_with_the_query(self) -> None:
        """A client that closes its side at once gets a long answer whole."""
        gateway = self.start(LISTENER + HELLO)
        put(gateway, FakeBackend(Answered("y" * 60000)))

        def ask() -> bytes:
            with tcp_client(gateway) as client:
                client.sendall(b"x\r\n")
                client.shutdown(socket.SHUT_WR)
                return receive_all(client)

        assert await in_thread(ask) == b"y" * 60000 + b"\r\n"

    async def test_a_byte_at_a_time(self) -> None:
        """Bytes that arrive one by one make a line. Whatever the client goes on sending, it gets the answer whole."""
        gateway = self.start(LISTENER + HELLO)

        def ask() -> bytes:
            with tcp_client(gateway) as client:
                # Bytes that the kernel has put together look like a whole line; then there is nobody to send more to.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for place in range(200):
                        client.sendall(b"hello\r\n"[place : place + 1] or b"z")
                return receive_all(client)

        for _ in range(50):
            assert await in_thread(ask) == HELLO_WIRE

    async def test_long_answer_to_a_client_that_sent_too_much(self) -> None:
        """64 KiB arrive whole at a client that sent much more than a line before it reads."""
        gateway = self.start(LISTENER + "[limits]\nmax_answer_bytes = 100000\n" + HELLO)
        put(gateway, FakeBackend(Answered("y" * 65536)))

        def ask() -> bytes:
            with tcp_client(gateway) as client:
                client.sendall(b"x\r\n" + b"z" * 50000)
                return receive_all(client)

        assert await in_thread(ask) == b"y" * 65536 + b"\r\n"

    async def test_answer_beyond_the_window_of_a_client_that_goes_on_sending(self) -> None:
        """4 KiB arrive whole at a client that takes little at a time, and sends more once the answer is under way."""
        gateway = self.start(LISTENER + HELLO)
        put(gateway, FakeBackend(Answered("y" * 4000)))
        meter = gateway.listeners[0].connections.meter
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.settimeout(10)
            client.connect(("127.0.0.1", port_of(gateway)))
            client.sendall(b"x\r\n")
            await until(lambda: meter.outcomes["r", "answered"], "the answer")
            client.sendall(b"more")
            assert await in_thread(lambda: receive_all(client)) == b"y" * 4000 + b"\r\n"

    async def test_flood(self) -> None:
        """A client that never stops sending is cut off after a bounded amount."""
        gateway = self.start(LISTENER + HELLO)

        def flood() -> bytes:
            with tcp_client(gateway) as client:
                try:
                    client.sendall(b"hello\r\n" + b"z" * (1 << 27))
                except ConnectionError:
                    return b"cut off"
                return b"read"

        assert await in_thread(flood) == b"cut off"

    async def test_busy_is_read_by_a_client_that_asks_at_once(self) -> None:
        """A client too many that has asked already still reads the refusal, and a clean end."""
        gateway = self.start(LISTENER + "[limits]\nmax_connections = 1\n" + HELLO)
        await self.connect(gateway)

        def ask() -> bytes:
            with tcp_client(gateway) as client:
                client.sendall(b"hello\r\n" * 100)
                return receive_all(client)

        for _ in range(10):
            assert await in_thread(ask) == b"Too many queries, try again later\r\n"


REFUSALS = [
    pytest.param(b"\r\n", b"Finger online user list denied", id="list_denied"),
    pytest.param(b"/W\r\n", b"Finger online user list denied", id="list_denied with /W"),
    pytest.param(b"nobody\r\n", b"No such user", id="no_such_user"),
    pytest.param(b"missing\r\n", b"No such user", id="no_such_user from the chain"),
    pytest.param(b"a@b\r\n", b"Finger forwarding service denied", id="forward_denied"),
    pytest.param(b"@b\r\n", b"Finger forwarding service denied", id="forward_denied without a user"),
    pytest.param(b"/W a@b@c@d\r\n", b"Finger forwarding service denied", id="forward_denied for a chain"),
    pytest.param(b"a@\r\n", b"Invalid query", id="bad_query for an empty host"),
    pytest.param(b"\x1b[2J\r\n", b"Invalid query", id="bad_query for a control character"),
    pytest.param(b"\xc3\x28\r\n", b"Invalid query", id="bad_query for what is not UTF-8"),
    pytest.param(b"x" * 600 + b"\r\n", b"Invalid query", id="bad_query for a long line"),
    pytest.param(b"x" * 600, b"Invalid query", id="bad_query for a long line without an end"),
    pytest.param(b"broken\r\n", b"Internal error in server", id="internal_error"),
]


def answer(listener: Listener, query: bytes) -> bytes:
    """Ask a listener whose backend knows at once."""
    transport = connect(listener)
    transport.protocol.dataReceived(query)
    assert transport.closed or transport.half_closed, "it is answered without a turn of the reactor"
    return transport.sent()


@pytest.mark.parametrize(("query", "refusal"), REFUSALS)
def test_refusals(query: bytes, refusal: bytes) -> None:
    """Each reason to refuse has its own text, and ends the connection."""
    chains = {"missing": Missing(), "broken": Failed("why")}
    routes = [Route(name, Chain(((name, FakeBackend(outcome)),)), users=(name,)) for name, outcome in chains.items()]
    assert answer(make_listener(router=Router(routes)), query) == refusal + b"\r\n"


def test_list_of_nobody() -> None:
    """The empty query is refused as a list, also where a route has it and knows nothing to say."""
    routes = [Route("index", Chain((("b", FakeBackend(Missing())),)), index=True)]
    for query in (b"\r\n", b"/W\r\n"):
        assert answer(make_listener(router=Router(routes)), query) == b"Finger online user list denied\r\n"


@pytest.mark.parametrize(
    ("refusal", "query"),
    [
        ("no_such_user", b"nobody\r\n"),
        ("internal_error", b"x\r\n"),
        ("list_denied", b"\r\n"),
        ("forward_denied", b"@h\r\n"),
        ("bad_query", b"\x07\r\n"),
    ],
)
def test_refusals_in_the_operators_words(refusal: str, query: bytes) -> None:
    """Texts from [answers] are what clients see, in the listener's charset and with CRLF line ends."""
    listener = make_listener(FakeBackend(Failed("why")), refusals={refusal: "Schön\nlassen"}, charset="ascii")
    assert answer(listener, query) == b"Sch?n\r\nlassen\r\n"


ANSWERS: list[Any] = [
    pytest.param("Zoë", {}, b"Zo\xc3\xab\r\n", id="utf-8"),
    pytest.param("Zoë", {"charset": "ascii"}, b"Zo?\r\n", id="ascii"),
    pytest.param("a\r\nb\rc\n", {}, b"a\r\nb\r\nc\r\n", id="line ends"),
    pytest.param("\x1b[31m\x07re\td\x00\x9b", {}, b"re\td\r\n", id="control characters"),
    pytest.param("", {}, b"", id="nothing"),
    pytest.param("y" * 100, {"max_answer_bytes": 10}, b"y" * 8 + b"\r\n", id="max_answer_bytes"),
    pytest.param("ë" * 100, {"max_answer_bytes": 9}, "ëëë\r\n".encode(), id="max_answer_bytes between characters"),
]


@pytest.mark.parametrize(("text", "settings", "wire"), ANSWERS)
def test_answers_are_cleaned(text: str, settings: dict[str, Any], wire: bytes) -> None:
    """Whatever a backend says, only text in the listener's charset leaves, with CRLF line ends and of bounded size."""
    assert answer(make_listener(FakeBackend(Answered(text)), **settings), b"x\r\n") == wire


@pytest.mark.parametrize(("case_sensitive", "wire"), [(False, b"hi\r\n"), (True, b"No such user\r\n")])
def test_case(case_sensitive: bool, wire: bytes) -> None:
    """Names are found whatever their case, unless told otherwise."""
    assert answer(make_listener(FakeBackend(Answered("hi")), case_sensitive=case_sensitive), b"X\r\n") == wire


def test_backend_sees_lower_case() -> None:
    """A backend is given the name in lower case, so that case cannot get round a cache."""
    backend = FakeBackend(Answered("hi"))
    answer(make_listener(backend), b"X\r\n")
    assert [query.user for query in backend.queries] == ["x"]


@pytest.mark.parametrize(("size", "wire"), [(512, b"No such user\r\n"), (513, b"Invalid query\r\n")])
def test_max_query_bytes(size: int, wire: bytes) -> None:
    """A line may be as long as max_query_bytes, its end not counted."""
    assert answer(make_listener(), b"n" * size + b"\r\n") == wire


def test_half_closeable() -> None:
    """The protocol provides what makes Twisted leave a half-closed connection open."""
    assert verifyObject(IHalfCloseableProtocol, FingerProtocol(make_listener(), "unix"))


class StaticAnswerTests(TestCase):
    """What is known at once is answered at once."""

    def test_at_once_and_without_a_timer_of_its_own(self) -> None:
        """An answer that needs no waiting is sent as the line is received; all connections share one timer."""
        clock = Clock()
        listener = make_listener(FakeBackend(Answered("hi")), clock=clock)
        for _ in range(10):
            assert answer(listener, b"x\r\n") == b"hi\r\n"
        assert len(clock.getDelayedCalls()) == 1

    def test_no_timer_without_clients(self) -> None:
        """Some time after the last client has gone no timer is left."""
        clock = Clock()
        answer(make_listener(FakeBackend(Answered("hi")), clock=clock), b"x\r\n")
        clock.pump([1.0] * 5)
        assert clock.getDelayedCalls() == []


class DeadlineTests(TestCase):
    """What happens when time is up."""

    def setUp(self) -> None:
        self.clock = Clock()

    def test_query_timeout(self) -> None:
        """A client that asks nothing is closed on after query_timeout, and no sooner."""
        transport = connect(make_listener(clock=self.clock, query_timeout=10))
        self.clock.pump([0.5] * 19)
        assert transport.closed == ""
        self.clock.pump([0.5] * 2)
        assert (transport.closed, transport.sent()) == ("clean", b"")

    def test_slow_loris(self) -> None:
        """A byte every second does not prolong query_timeout."""
        transport = connect(make_listener(clock=self.clock, query_timeout=10))
        for _ in range(10):
            transport.protocol.dataReceived(b"z")
            self.clock.advance(1)
        assert transport.closed == "clean"

    def test_answer_timeout(self) -> None:
        """When answer_timeout is up the client is told, and the backend's work cancelled."""
        cancelled: list[object] = []
        backend = FakeBackend(Deferred(cancelled.append))
        transport = connect(make_listener(backend, clock=self.clock, answer_timeout=5))
        transport.protocol.dataReceived(b"x\r\n")
        self.clock.pump([0.5] * 9)
        assert (transport.sent(), cancelled) == (b"", [])
        self.clock.pump([0.5] * 2)
        assert (transport.sent(), transport.closed) == (b"Internal error in server\r\n", "clean")
        assert cancelled == [backend.says]

    def test_answer_timeout_counts_from_the_line(self) -> None:
        """The time that the line took to arrive is not taken from the answer's."""
        backend = FakeBackend(Deferred())
        transport = connect(make_listener(backend, clock=self.clock, query_timeout=10, answer_timeout=5))
        self.clock.pump([1.0] * 9)
        transport.protocol.dataReceived(b"x\r\n")
        self.clock.pump([1.0] * 4)
        assert transport.sent() == b""
        self.clock.pump([1.0] * 2)
        assert transport.sent() == b"Internal error in server\r\n"

    def test_client_that_never_reads(self) -> None:
        """A client that does not take its answer by the deadline is cut off."""
        for size in (10, 60000):
            listener = make_listener(FakeBackend(Answered("y" * size)), clock=self.clock, answer_timeout=5)
            transport = connect(listener, reads=False)
            transport.protocol.dataReceived(b"x\r\n")
            self.clock.pump([0.5] * 9)
            assert transport.closed == ""
            self.clock.pump([0.5] * 2)
            assert transport.closed == "aborted"
            assert listener.connections.open == set()

    def test_client_that_neither_reads_nor_is_answered(self) -> None:
        """A client that does not even take the message of a timeout is cut off two seconds later."""
        transport = connect(make_listener(FakeBackend(Deferred()), clock=self.clock, answer_timeout=5), reads=False)
        transport.protocol.dataReceived(b"x\r\n")
        self.clock.pump([0.5] * 15)
        assert transport.closed == "aborted"

    def test_linger(self) -> None:
        """A client that may send more is read for two seconds after its answer, and no longer."""
        transport = connect(make_listener(FakeBackend(Answered("hi")), clock=self.clock))
        transport.protocol.dataReceived(b"x\r\nmore")
        assert (transport.sent(), transport.half_closed, transport.closed) == (b"hi\r\n", True, "")
        self.clock.pump([0.5] * 3)
        assert transport.closed == ""
        self.clock.pump([0.5] * 3)
        assert transport.closed == "clean"

    def test_linger_ends_with_the_client(self) -> None:
        """A client that closes its side after its answer is closed on at once."""
        transport = connect(make_listener(FakeBackend(Answered("hi")), clock=self.clock))
        transport.protocol.dataReceived(b"x\r\nmore")
        transport.protocol.readConnectionLost()
        assert transport.closed == "clean"

    async def test_slow_reader(self) -> None:
        """A client that begins to read long after its answer was handed to the kernel still gets it whole."""
        listener = make_listener(FakeBackend(Answered("z" * 60_000)), clock=self.clock)
        port = reactor.listenTCP(0, FingerFactory(listener), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port.getHost().port))
            client.sendall(b"x\r\n")
            connections = listener.connections.open
            await until(lambda: any(each.due == LINGER_SECONDS for each in connections), "the handing over")
            self.clock.pump([0.5] * 6)
            await until(lambda: not connections, "the connection's end")
            assert await in_thread(lambda: receive_all(client)) == b"z" * 60_000 + b"\r\n"

    def test_client_that_has_closed_its_side(self) -> None:
        """A long answer to a client that has closed its side already is closed on at once."""
        backend = FakeBackend(Deferred())
        transport = connect(make_listener(backend, clock=self.clock))
        transport.protocol.dataReceived(b"x\r\n")
        transport.protocol.readConnectionLost()
        backend.says.callback(Answered("z" * 60_000))
        assert transport.closed == "clean"

    def test_flood(self) -> None:
        """After 64 KiB beyond its line a client is cut off, an answer under way or not."""
        for backend in (FakeBackend(Answered("hi")), FakeBackend(Deferred())):
            transport = connect(make_listener(backend, clock=self.clock))
            transport.protocol.dataReceived(b"x\r\nmore")
            transport.protocol.dataReceived(b"z" * 65536)
            assert transport.closed == ""
            transport.protocol.dataReceived(b"z")
            assert transport.closed == "aborted"


class ConnectionCountTests(TestCase):
    """What ``max_connections`` bounds."""

    def test_more_than_twice_too_many(self) -> None:
        """Clients that do not even take their refusal, as under TLS they can, are bounded too."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections=2)
        clients = [connect(listener, reads=False) for _ in range(5)]
        assert [client.closed for client in clients] == ["", "", "", "", "aborted"]

    def test_counted_and_freed(self) -> None:
        """So many clients at once are served and one more is busy, again and again as they come and go."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections=5)
        for _ in range(3):
            clients = [connect(listener) for _ in range(5)]
            over = connect(listener)
            assert over.sent() == b"Too many queries, try again later\r\n"
            over.abortConnection()
            for client in clients:
                assert client.sent() == b""
                client.protocol.dataReceived(b"x\r\n")
                assert client.sent() == b"hi\r\n"
            assert listener.connections.open == set()

    def test_freed_by_clients_that_vanish(self) -> None:
        """Clients that ask nothing and go free their places."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections=5)
        for _ in range(15):
            connect(listener).abortConnection()
        assert answer(listener, b"x\r\n") == b"hi\r\n"

    def test_refused_clients_do_not_pile_up(self) -> None:
        """Clients that are refused are closed on at once."""
        listener = make_listener(FakeBackend(Answered("hi")), max_connections=5)
        transports = [connect(listener) for _ in range(50)]
        assert len(listener.connections.open) == 5
        assert {transport.closed for transport in transports[5:]} == {"clean"}


class FailureTests(TestCase):
    """Backends that fail, and clients that go."""

    def _errors(self, kind: type[Exception]) -> list[Failure]:
        return list(self.flushLoggedErrors(kind))

    def test_unforeseen_exception(self) -> None:
        """What a backend raises is logged with its traceback, and the client sees nothing of it."""
        backend = FakeBackend(ZeroDivisionError("secret"))
        assert answer(make_listener(backend), b"x\r\n") == b"Internal error in server\r\n"
        (logged,) = self._errors(ZeroDivisionError)
        assert "fakes.py" in logged.getTraceback()

    def test_unforeseen_exception_later(self) -> None:
        """Likewise where it is raised after a wait."""
        backend = FakeBackend(Deferred())
        transport = connect(make_listener(backend))
        transport.protocol.dataReceived(b"x\r\n")
        backend.says.errback(ZeroDivisionError("secret"))
        assert transport.sent() == b"Internal error in server\r\n"
        assert len(self._errors(ZeroDivisionError)) == 1

    def test_unforeseen_exception_of_a_chain(self) -> None:
        """Likewise where not a backend but what is around it raises."""

        class Broken(Chain):
            async def answer(self, query: object, start: int = 0) -> Result:
                del query, start
                raise ZeroDivisionError

        class BrokenAtOnce(Chain):
            def at_once(self, query: object) -> tuple[Result | None, int]:
                del query
                raise ZeroDivisionError

        for chain in (Broken(()), BrokenAtOnce(())):
            listener = make_listener(router=Router([Route("r", chain, users=("x",))]))
            assert answer(listener, b"x\r\n") == b"Internal error in server\r\n"
            assert len(self._errors(ZeroDivisionError)) == 1

    def test_reason_is_logged(self) -> None:
        """The reason of a failure is logged, escaped, and the client sees nothing of it."""
        with capturedLogs() as events:
            listener = make_listener(FakeBackend(Failed("10.0.0.1 \x1b")))
            assert answer(listener, b"x\r\n") == b"Internal error in server\r\n"
        assert [event["why"] for event in events] == ["10.0.0.1 \\x1b"]

    def test_client_gone(self) -> None:
        """When the client goes the work for it is cancelled."""
        cancelled: list[object] = []
        backend = FakeBackend(Deferred(cancelled.append))
        transport = connect(make_listener(backend))
        transport.protocol.dataReceived(b"x\r\n")
        transport.abortConnection()
        assert cancelled == [backend.says]
        assert transport.sent() == b""

    def test_exception_where_nobody_waits(self) -> None:
        """What a backend raises as its work is cancelled reaches no client."""
        backend = FakeBackend(Deferred(lambda deferred: deferred.errback(ZeroDivisionError())))
        transport = connect(make_listener(backend))
        transport.protocol.dataReceived(b"x\r\n")
        transport.abortConnection()
        assert transport.sent() == b""


class AccessLogTests(TestCase):
    """The line that each query leaves."""

    def _entry(self, backend: object, act: Callable[[FakeTransport, Clock], object], **settings: Any) -> dict[str, Any]:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "log")
            listener = make_listener(backend, clock=clock, log=path, **settings)
            act(connect(listener), clock)
            listener.access_log.close()
            (line,) = path.read_text().splitlines()
        entry: dict[str, Any] = json.loads(line)
        return entry

    def _check(self, line: bytes, asked: object, **expected: object) -> None:
        entry = self._entry(asked, lambda transport, _: transport.protocol.dataReceived(line))
        assert {key: entry[key] for key in expected} == expected

    def test_left_before_the_line(self) -> None:
        """A client that closes its side after telnet commands alone has a line too."""

        def act(transport: FakeTransport, _: Clock) -> None:
            transport.protocol.dataReceived(b"\xff\xfb\x18\xff")
            transport.protocol.readConnectionLost()

        entry = self._entry(None, act)
        assert (entry["outcome"], entry["bytes"]) == ("gone", 0)

    def test_reset_that_looks_like_an_end(self) -> None:
        """A reset that Twisted takes for the end of file ends no line."""

        def act(transport: FakeTransport, _: Clock) -> None:
            socket_with_error = SimpleNamespace(getsockopt=lambda level, option: errno.ECONNRESET)
            transport.getHandle = lambda: socket_with_error  # type: ignore[attr-defined]
            transport.protocol.dataReceived(b"x")
            transport.protocol.readConnectionLost()

        backend = FakeBackend(Answered("hi"))
        entry = self._entry(backend, act)
        assert (entry["query"], entry["outcome"], backend.queries) == ("x", "gone", [])

    def test_reset_in_the_middle(self) -> None:
        """So has one whose connection breaks off in its line; one that came and went without a byte has none."""

        def act(transport: FakeTransport, _: Clock) -> None:
            transport.protocol.dataReceived(b"hal")
            transport.abortConnection()
            connect(transport.protocol.listener).abortConnection()

        entry = self._entry(None, act)
        assert (entry["query"], entry["outcome"], entry["bytes"]) == ("hal", "gone", 0)

    def test_answered(self) -> None:
        """An answer's line has the listener, the client, the route, the backend and the size."""
        self._check(
            b"X\r\n",
            FakeBackend(Answered("hi")),
            listener="l",
            client="unix",
            query="X",
            route="r",
            backend="b",
            outcome="answered",
            bytes=4,
        )

    def test_missing(self) -> None:
        """A name that nobody knows has the refusal for its outcome, and no backend."""
        self._check(b"x\r\n", FakeBackend(Missing()), route="r", backend="", outcome="no_such_user", bytes=14)

    def test_failed(self) -> None:
        """A failure has the refusal for its outcome."""
        self._check(b"x\r\n", FakeBackend(Failed("why")), route="r", backend="", outcome="internal_error")

    def test_bad_query(self) -> None:
        """A query that is none is logged as it came, and cut to what a query may have."""
        self._check(b"z" * 1000, None, query="z" * 512, route="", outcome="bad_query")

    def test_forward_denied(self) -> None:
        """A query for another host is logged as such."""
        self._check(b"a@b\r\n", None, query="a@b", outcome="forward_denied")

    def test_list_denied(self) -> None:
        """The empty query is logged as such."""
        self._check(b"\r\n", None, query="", outcome="list_denied")

    def test_busy(self) -> None:
        """A client too many is logged."""
        entry = self._entry(None, lambda *_: None, max_connections=0)
        assert entry["outcome"] == "busy"

    def test_timeout(self) -> None:
        """A line that did not end in time is logged with what there was of it."""

        def act(transport: FakeTransport, clock: Clock) -> None:
            transport.protocol.dataReceived(b"slo")
            clock.pump([1.0] * 11)

        entry = self._entry(None, act)
        assert (entry["outcome"], entry["query"]) == ("timeout", "slo")

    def test_gone(self) -> None:
        """A client that went before its answer is logged."""

        def act(transport: FakeTransport, clock: Clock) -> None:
            transport.protocol.dataReceived(b"x\r\n")
            clock.advance(1.5)
            transport.abortConnection()

        entry = self._entry(FakeBackend(Deferred()), act)
        assert (entry["outcome"], entry["route"], entry["milliseconds"]) == ("gone", "r", 1500.0)

    def test_milliseconds(self) -> None:
        """The time is that from the line to the answer."""
        backend = FakeBackend(Deferred())

        def act(transport: FakeTransport, clock: Clock) -> None:
            clock.advance(3)
            transport.protocol.dataReceived(b"x\r\n")
            clock.advance(0.25)
            backend.says.callback(Answered("hi"))

        assert self._entry(backend, act)["milliseconds"] == 250.0
