"""The finger client behind ``fingergw query``, with servers that misbehave."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred

from fingergw.cli.finger_client import Answer, Target, fetch, parse_target
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities
from tests.support import GatewayCase, free_port, reactor, until
from tests.support.certificates import UNTRUSTED
from tests.support.finger_server import FingerServer, Script, Stuck, breaks_off, half_closes, hangs, says, trickles


class FetchTests(GatewayCase):
    async def fetched(self, script: Script, *, timeout: float = 20) -> Answer:
        """Return what is fetched from a server that does as the script says, once the connection is gone."""
        server = FingerServer(self, script)
        answer = await fetch(Target("127.0.0.1", server.port, "x"), Resolver(reactor), timeout=timeout)
        await until(lambda: server.connections and not server.open, "the end of the connection")
        return answer

    async def test_whole(self) -> None:
        """A whole answer comes as it was sent, and nothing is said against it."""
        answer = await self.fetched(says(b"\x1b[2J\xff\r\n"))
        assert (answer.received, answer.text, answer.reason) == (b"\x1b[2J\xff\r\n", "[2J\ufffd\n", "")
        for script in (half_closes(b"whole\r\n"), trickles(b"whole\r\n")):
            assert await self.fetched(script) == Answer(b"whole\r\n")
        assert await self.fetched(says(b"")) == Answer(b"")

    async def test_a_part(self) -> None:
        """Where only a part came, there is that part, and why there is no more."""
        assert await self.cut(breaks_off(b"half")) == (
            b"half",
            "the connection was broken off, 4 bytes into the answer",
        )
        assert await self.cut(hangs(b"half"), timeout=0.2) == (b"half", "its end did not come within 0.2 s")
        for script in (says(b"x" * (2 << 20)), hangs(b"x" * (2 << 20))):
            assert await self.cut(script) == (b"x" * (1 << 20), "more than 1048576 bytes")

    async def cut(self, script: Script, *, timeout: float = 20) -> tuple[bytes, str]:
        answer = await self.fetched(script, timeout=timeout)
        said, _, why = answer.reason.partition(": ")
        assert said == "the answer is not whole"
        return answer.received, why

    async def test_nothing(self) -> None:
        """Where nothing came, there is why."""
        server = Target("127.0.0.1", free_port(), "x")
        assert (await fetch(server, Resolver(reactor), timeout=20)).reason == "Connection refused"
        assert (await self.fetched(hangs(), timeout=0.2)).reason == "no answer within 0.2 s"
        broken = await self.fetched(breaks_off())
        assert (broken.received, broken.reason) == (b"", "the connection was broken off")

    async def test_no_connection(self) -> None:
        """A connection that does not come about takes no longer than an answer may, and is given up."""
        stuck = Stuck(self)
        before = stuck.attempts()
        answer = await fetch(Target("127.0.0.1", stuck.port, "x"), Resolver(reactor), timeout=0.3)
        assert answer.reason == "no answer within 0.3 s"
        await until(lambda: stuck.attempts() == before, "the attempt's end")

    async def test_lookup_that_hangs(self) -> None:
        """A name server that says nothing takes no longer than an answer may."""
        released = threading.Event()
        self.addCleanup(released.set)

        def hang(*_: object) -> list[Any]:
            released.wait()
            return []

        resolver = Resolver(reactor, look_up=hang)
        assert (await fetch(Target("host.example", 79, "x"), resolver, timeout=0.2)).reason == "no answer within 0.2 s"

    async def test_cancelled(self) -> None:
        """What is cancelled is no answer, and leaves no connection."""
        server = FingerServer(self, hangs())
        asking = Deferred.fromCoroutine(fetch(Target("127.0.0.1", server.port, "x"), Resolver(reactor), timeout=20))
        await until(lambda: server.open)
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        await until(lambda: not server.open)

    async def test_unix(self) -> None:
        """A unix socket is asked the whole of what was written."""
        path = str(self.write("none", "").with_name("finger.sock"))
        server = FingerServer(self, says(b"here\r\n"), path=path)
        target = parse_target("a@h:7", verbose=True, path=path)
        assert (await fetch(target, Resolver(reactor), timeout=20)).text == "here\n"
        assert (server.lines, target.place) == ([b"/W a@h:7\r\n"], path)

    async def test_no_unix_socket(self) -> None:
        """A unix socket that is not there is said to be so."""
        target = parse_target("a", path="/none/finger.sock")
        assert (await fetch(target, Resolver(reactor), timeout=20)).reason == "No such file or directory"


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
class TlsTests(GatewayCase):
    def setUp(self) -> None:
        self.authority = trustme.CA()
        self.server = FingerServer(self, says(b"secret\r\n"), authority=self.authority)

    async def fetched(self, host: str, authority: trustme.CA) -> Answer:
        """Return what a client gets that trusts the authority."""
        trust = authorities(authority.cert_pem.bytes())
        target = Target(host, self.server.port, "x")
        return await fetch(target, Resolver(reactor), timeout=20, trust=trust)

    async def test_trusted(self) -> None:
        """A server whose certificate is right is asked."""
        assert (await self.fetched("127.0.0.1", self.authority)).text == "secret\n"
        assert self.server.lines == [b"x\r\n"]

    async def test_other_host(self) -> None:
        """A server with a certificate for another host is told nothing."""
        answer = await self.fetched("localhost", self.authority)
        assert (answer.received, answer.reason) == (b"", "TLS: the certificate is not for localhost")
        assert self.server.lines == [b""]

    async def test_other_authority(self) -> None:
        """Neither is one whose authority is not trusted."""
        answer = await self.fetched("127.0.0.1", trustme.CA())
        assert (answer.received, answer.reason) == (
            b"",
            UNTRUSTED,
        )
        assert self.server.lines == [b""]


@pytest.mark.parametrize("path", ["", "x" * 108])
def test_path_that_no_socket_can_have(path: str) -> None:
    """A unix socket's path that the system has no room for is refused."""
    with pytest.raises(ValueError, match="of 107 bytes at most"):
        parse_target("a", path=path)


@pytest.mark.parametrize("pem", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_authorities(pem: bytes) -> None:
    """A file without certificates is no file of authorities."""
    with pytest.raises(ValueError, match="expected one or more certificates in PEM form"):
        authorities(pem)
