"""A client that ends its line by closing its side, on real sockets of each kind."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from fingergw.app.gateway import Gateway
from fingergw.core.outcome import Answered
from tests.support.configuration import LISTENER
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, port_of
from tests.support.listener import put
from tests.support.sockets import drop, receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import in_thread, until

TEXTS = """
[limits]
answer_timeout = 3600
[[routes]]
user = "hello"
backends = ["texts"]
[[routes]]
index = true
backends = ["texts"]
[backends.texts]
type = "static"
text = "Hello"
[log]
access = "access.log"
format = "json"
"""
WIRE = b"Hello\r\n"
PROXY = b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\n"


def to_tcp(gateway: Gateway) -> socket.socket:
    """Connect a client that blocks to a gateway's TCP port."""
    return socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10)


def to_unix(gateway: Gateway) -> socket.socket:
    """Connect a client that blocks to a gateway's unix socket."""
    port: Any = gateway.listeners[0].port
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(port.getHost().name)
    return client


@on_both_transports
class EndOfFileTests(GatewayCase):
    """What a client gets that closes its side."""

    async def ended(
        self, gateway: Gateway, sent: bytes, to: Callable[[Gateway], socket.socket] = to_tcp, *, apart: bool = False
    ) -> bytes:
        """Send something, close that side, and return the answer.

        :param apart: send it byte by byte.
        """

        def ask() -> bytes:
            with to(gateway) as client:
                for piece in [bytes([byte]) for byte in sent] if apart else [sent]:
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                return receive_all(client)

        return await in_thread(ask)

    async def logged(self, gateway: Gateway) -> list[tuple[str, str, str]]:
        """Stop a gateway, and return the query, the outcome and the client of each line of its access log."""
        await gateway.stopService()
        lines = self.write("unused", "").with_name("access.log").read_text().splitlines()
        return [(entry["query"], entry["outcome"], entry["client"]) for entry in map(json.loads, lines)]

    async def test_denied(self) -> None:
        """A client that may not connect finds an end, and no reset, though it has sent its line."""
        gateway = self.start(LISTENER + 'deny = ["127.0.0.1"]\n' + TEXTS)
        with to_tcp(gateway) as client:
            client.sendall(b"hello\r\n")
            assert await in_thread(lambda: receive_all(client)) == b""

    async def test_tcp(self) -> None:
        """On TCP it is answered as with CRLF, also in pieces, with CRs behind it, or telnet commands around it."""
        gateway = self.start(LISTENER + TEXTS)
        sent = [b"hello", b"Hello\r", b"hello\r\r", b"\xff\xfb\x18hello\xff", b"/W hello", b" ", b"hello\r\r\n"]
        for each in sent:
            assert await self.ended(gateway, each) == WIRE, each
            assert await self.ended(gateway, each, apart=True) == WIRE, each
        assert {outcome for _, outcome, _ in await self.logged(gateway)} == {"answered"}

    async def test_unix(self) -> None:
        """On a unix socket likewise."""
        gateway = self.start('[[listeners]]\nendpoint = "unix:s"\n' + TEXTS)
        assert await self.ended(gateway, b"hello", to_unix) == WIRE
        assert await self.ended(gateway, b"", to_unix) == b""
        assert await self.logged(gateway) == [("hello", "answered", "unix")]

    async def test_proxy(self) -> None:
        """After a PROXY header likewise; the header alone, whole or not, is no query."""
        listener = LISTENER.replace("tcp:0", "haproxy:tcp:0") + 'trusted_proxies = ["127.0.0.1"]\n'
        gateway = self.start(listener + TEXTS)
        assert await self.ended(gateway, PROXY + b"hello") == WIRE
        assert await self.ended(gateway, PROXY + b"hello", apart=True) == WIRE
        for nothing in (b"", PROXY, PROXY[:20]):
            assert await self.ended(gateway, nothing) == b""
        assert await self.logged(gateway) == [("hello", "answered", "192.0.2.1")] * 2

    async def test_refused(self) -> None:
        """A line that is refused with its end is refused without it, too."""
        gateway = self.start(LISTENER + TEXTS)
        for line, answer in (
            (b"nobody", b"No such user\r\n"),
            (b"a@", b"Invalid query\r\n"),
            (b"GET / HTTP/1.0", b"Invalid query\r\n"),
            (b"x" * 513, b"Invalid query\r\n"),
            (b"a@h", b"Finger forwarding service denied\r\n"),
        ):
            assert await self.ended(gateway, line) == answer

    async def test_nothing(self) -> None:
        """What ends before a line has begun, also after telnet commands, is no query: the index is not asked for."""
        gateway = self.start(LISTENER + TEXTS)
        for nothing in (b"", b"\xff\xfb\x18", b"\xff\xfd\n", b"\xff", b"\xff\xfa\x18\x00xterm"):
            assert await self.ended(gateway, nothing) == b""
        logged = await self.logged(gateway)
        assert [outcome for _, outcome, _ in logged] == ["gone"] * 4  # none for the first
        assert gateway.listeners[0].connections.meter.outcomes == {("", "gone"): 4}

    async def test_reset(self) -> None:
        """A reset ends no line."""
        gateway = self.start(LISTENER + TEXTS)
        backend = FakeBackend(Answered("hi"))
        put(gateway, backend)
        for _ in range(20):
            client = to_tcp(gateway)
            client.sendall(b"x")
            await self.ask(gateway, b"other\r\n")  # by now it has been read
            drop(client)
        outcomes = gateway.listeners[0].connections.meter.outcomes
        await until(lambda: outcomes["", "gone"] == 20, "the end of the connections")
        assert backend.queries == []

    async def test_answer_that_takes_its_time(self) -> None:
        """The answer arrives though it is made long after the client has closed its side."""
        gateway = self.start(LISTENER + TEXTS)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(b"x")
        client.transport.loseWriteConnection()  # type: ignore[attr-defined]
        await until(lambda: backend.queries, "the query")
        backend.says.callback(Answered("late"))
        assert await client.closed == b"late\r\n"


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
class TlsTests(GatewayCase):
    """Under TLS close_notify ends what the client sends, and not the answer."""

    def _start(self) -> Gateway:
        certificate = trustme.CA().issue_cert("localhost")
        self.write("localhost.pem", certificate.private_key_and_cert_chain_pem.bytes().decode())
        endpoint = "ssl:0:privateKey=localhost.pem:certKey=localhost.pem:interface=127.0.0.1"
        return self.start(f"[[listeners]]\nendpoint = '{endpoint}'\n" + TEXTS)

    def _ask(self, gateway: Gateway, sent: bytes, *, notify: bool = True, end: bool = False) -> bytes:
        """Send something, and return the answer, up to the server's close_notify.

        :param notify: send close_notify after it.
        :param end: end the TCP connection's side, too.
        """
        with to_tcp(gateway) as plain:
            plain.setblocking(True)
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
            client.set_connect_state()
            client.do_handshake()
            if sent:
                client.sendall(sent)
            if notify:
                client.shutdown()
            if end:
                plain.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(SSL.ZeroReturnError):
                while True:
                    received += client.recv(1000)
            return received

    def _logged(self) -> list[str]:
        log: Path = self.write("unused", "").with_name("access.log")
        return [json.loads(line)["outcome"] for line in log.read_text().splitlines()]

    async def test_line(self) -> None:
        """A line that close_notify ends is answered, whether or not the connection's side ends, too."""
        gateway = self._start()
        for sent in (b"hello", b"hello\r\n", b"\xff\xfb\x18hello"):
            for end in (False, True):
                assert await in_thread(lambda: self._ask(gateway, sent, end=end)) == WIRE  # noqa: B023
        await until(lambda: not gateway.listeners[0].connections.open, "the end of the connections")

    async def test_nothing(self) -> None:
        """Without a line it is answered by close_notify alone."""
        gateway = self._start()
        for sent in (b"", b"\xff\xfb\x18"):
            assert await in_thread(lambda: self._ask(gateway, sent)) == b""  # noqa: B023
        await gateway.stopService()
        assert self._logged() == ["gone"]

    async def test_answer_that_takes_its_time(self) -> None:
        """The answer arrives though it is made long after the client has ended its side, in one way or both."""
        gateway = self._start()
        for sent, end in ((b"x", False), (b"x\r\n", True)):
            backend = FakeBackend(Deferred())
            put(gateway, backend)
            asked = in_thread(lambda: self._ask(gateway, sent, end=end))  # noqa: B023
            await until(lambda: backend.queries, "the query")  # noqa: B023
            await self.connect(gateway)  # by now all that the client has sent has been seen
            backend.says.callback(Answered("y" * 60000))
            assert await asked == b"y" * 60000 + b"\r\n"

    async def test_connection_that_just_ends(self) -> None:
        """Without close_notify something may be missing: it ends no line, and no answer is made any more."""
        gateway = self._start()
        backend = FakeBackend(Answered("hi"))
        put(gateway, backend)
        with pytest.raises(SSL.Error):
            await in_thread(lambda: self._ask(gateway, b"x", notify=False, end=True))
        await gateway.stopService()
        assert backend.queries == []
        assert self._logged() == ["gone"]
