"""The finger client behind ``fingergw query``, with servers that misbehave."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from fingergw.cli.finger_client import Answer, Target, fetch, parse_target
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities
from tests.support.certificates import UNTRUSTED
from tests.support.finger_server import FingerServer, Script, Stuck, breaks_off, half_closes, hangs, says, trickles
from tests.support.gateway import GatewayCase
from tests.support.sockets import free_port
from tests.support.waiting import reactor, until


class FetchTests(GatewayCase):
    async def fetched(self, script: Script, *, timeout: float = 20) -> Answer:
        """Return the answer of a server that follows the script, once the connection is closed."""
        server = FingerServer(self, script)
        answer = await fetch(Target("127.0.0.1", server.port, "x"), Resolver(reactor), timeout=timeout)
        await until(lambda: server.connections and not server.open, "the end of the connection")
        return answer

    async def test_whole(self) -> None:
        """A whole answer comes as it was sent, and has no problem."""
        answer = await self.fetched(says(b"\x1b[2J\xff\r\n"))
        assert (answer.received, answer.text, answer.problem) == (b"\x1b[2J\xff\r\n", "\ufffd\n", "")
        for script in (half_closes(b"whole\r\n"), trickles(b"whole\r\n")):
            assert await self.fetched(script) == Answer(b"whole\r\n")
        assert await self.fetched(says(b"no line end")) == Answer(b"no line end")

    async def test_a_part(self) -> None:
        """An answer that breaks off has the part that came, and why there is no more."""
        assert await self.cut(breaks_off(b"half")) == (
            b"half",
            "the connection was lost, 4 bytes into the answer",
        )
        assert await self.cut(hangs(b"half"), timeout=0.2) == (b"half", "its end did not arrive within 0.2 s")
        for script in (says(b"x" * (2 << 20)), hangs(b"x" * (2 << 20))):
            assert await self.cut(script) == (b"x" * (1 << 20), "more than 1048576 bytes")

    async def cut(self, script: Script, *, timeout: float = 20) -> tuple[bytes, str]:
        answer = await self.fetched(script, timeout=timeout)
        said, _, why = answer.problem.partition(": ")
        assert said == "the answer is incomplete"
        return answer.received, why

    async def test_nothing(self) -> None:
        """Where there is no answer, or no text in it, the reason is told."""
        server = Target("127.0.0.1", free_port(), "x")
        assert (await fetch(server, Resolver(reactor), timeout=20)).problem == "Connection refused"
        assert (await self.fetched(hangs(), timeout=0.2)).problem == "no answer within 0.2 s"
        assert await self.fetched(breaks_off()) == Answer(b"", "the connection was lost")
        for script in (says(b""), half_closes(b"")):
            assert await self.fetched(script) == Answer(b"", "the server closed the connection without an answer")
        for blank in (b"\r\n", b" \t\r\n\n", b"\0\x07", b"\xe2\x80\x8f\xc2\xa0", "\ufeff\u200b".encode()):
            assert await self.fetched(says(blank)) == Answer(blank, "the answer has no text")

    async def test_no_connection(self) -> None:
        """Connecting takes no longer than the timeout, and is given up then."""
        stuck = Stuck(self)
        before = stuck.attempts()
        answer = await fetch(Target("127.0.0.1", stuck.port, "x"), Resolver(reactor), timeout=0.3)
        assert answer.problem == "no answer within 0.3 s"
        await until(lambda: stuck.attempts() == before, "the attempt's end")

    async def test_lookup_that_hangs(self) -> None:
        """A lookup takes no longer than the timeout."""
        released = threading.Event()
        self.addCleanup(released.set)

        def hang(*_: object) -> list[Any]:
            released.wait()
            return []

        resolver = Resolver(reactor, look_up=hang)
        assert (await fetch(Target("host.example", 79, "x"), resolver, timeout=0.2)).problem == "no answer within 0.2 s"

    async def test_cancelled(self) -> None:
        """Cancelling closes the connection, and raises."""
        server = FingerServer(self, hangs())
        asking = Deferred.fromCoroutine(fetch(Target("127.0.0.1", server.port, "x"), Resolver(reactor), timeout=20))
        await until(lambda: server.open)
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        await until(lambda: not server.open)

    async def test_unix(self) -> None:
        """At a unix socket the whole target is the query."""
        path = str(self.write("none", "").with_name("finger.sock"))
        server = FingerServer(self, says(b"here\r\n"), path=path)
        target = parse_target("a@h:7", verbose=True, path=path)
        assert (await fetch(target, Resolver(reactor), timeout=20)).text == "here\n"
        assert (server.lines, target.place) == ([b"/W a@h:7\r\n"], path)

    async def test_unknown_host(self) -> None:
        """For a host without an address the message says what to check."""
        resolver = Resolver(reactor, look_up=lambda *_: [])
        answer = await fetch(Target("host.example", 79, "x"), resolver, timeout=20)
        assert answer == Answer(b"", "the host has no address; check its name, and the name server")

    async def test_no_unix_socket(self) -> None:
        """A missing unix socket is reported."""
        target = parse_target("a", path="/none/finger.sock")
        assert (await fetch(target, Resolver(reactor), timeout=20)).problem == "No such file or directory"


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
class TlsTests(GatewayCase):
    def setUp(self) -> None:
        self.authority = trustme.CA()
        self.server = FingerServer(self, says(b"secret\r\n"), authority=self.authority)

    async def fetched(self, host: str, authority: trustme.CA) -> Answer:
        """Return what a client gets if it trusts the authority."""
        trust = authorities(authority.cert_pem.bytes())
        target = Target(host, self.server.port, "x")
        return await fetch(target, Resolver(reactor), timeout=20, trust=trust)

    async def test_trusted(self) -> None:
        """A server with a valid certificate is asked."""
        assert (await self.fetched("127.0.0.1", self.authority)).text == "secret\n"
        assert self.server.lines == [b"x\r\n"]

    async def test_other_host(self) -> None:
        """A server with a certificate for another host is sent nothing."""
        answer = await self.fetched("localhost", self.authority)
        why = "the certificate is for 127.0.0.1, not for localhost; ask for the former, or issue it anew"
        assert (answer.received, answer.problem) == (b"", f"TLS: {why}")
        assert self.server.lines == [b""]

    async def test_other_authority(self) -> None:
        """Neither is a server whose authority is not trusted."""
        answer = await self.fetched("127.0.0.1", trustme.CA())
        assert (answer.received, answer.problem) == (
            b"",
            UNTRUSTED,
        )
        assert self.server.lines == [b""]


class PlainServer(Protocol):
    """A server without TLS that answers whatever it receives first.

    :param answer: what it sends before it closes.
    """

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self.answer)
        self.transport.loseConnection()


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
class NoTlsTests(GatewayCase):
    async def problem(self, answer: bytes, host: str = "127.0.0.1") -> str:
        """Return why a client that speaks TLS gets nothing from a server that does not."""
        factory = Factory()
        factory.buildProtocol = lambda _: PlainServer(answer)  # type: ignore[method-assign, assignment]
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        target = Target(host, port.getHost().port, "x")
        got = await fetch(target, Resolver(reactor), timeout=20, trust=authorities(trustme.CA().cert_pem.bytes()))
        assert got.received == b""
        return got.problem

    async def test_plain_server(self) -> None:
        """That a server has no TLS is reported, whether it sends text or only closes."""
        assert await self.problem(b"No TLS here\r\n") == "TLS: the other side does not speak TLS; check the port"
        closed = "the connection was lost; the server may not speak TLS on this port"
        assert await self.problem(b"") == closed

    async def test_impossible_name(self) -> None:
        """A name that no certificate can be for is reported."""
        assert await self.problem(b"", "a..example") == "this is not a valid host name or address; correct it"


@pytest.mark.parametrize("path", ["", "x" * 108])
def test_path_that_no_socket_can_have(path: str) -> None:
    """A unix socket's path that is empty or too long for the system is refused."""
    with pytest.raises(ValueError, match="of 107 bytes at most"):
        parse_target("a", path=path)


@pytest.mark.parametrize("pem", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_authorities(pem: bytes) -> None:
    """A file of authorities without certificates is refused."""
    with pytest.raises(ValueError, match="expected one or more certificates in PEM form"):
        authorities(pem)
