"""Servers that are asked over TLS, in each of the ways there are: who cannot be verified is told nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import AcceptableCiphers, Certificate, TLSVersion, trustRootFromCertificates
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import LogLevel, capturedLogs, formatEvent

from fingergw.cli.finger_client import Target, fetch
from fingergw.net import trust
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities
from tests.support.certificates import ACCEPTED, AUTHORITY, REFUSED, TRUSTED, Issued
from tests.support.finger_server import FingerServer, Script, hangs, says
from tests.support.gateway import GatewayCase
from tests.support.http_server import response
from tests.support.processes import COMMAND
from tests.support.waiting import reactor, until

LISTENER = '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n[log]\naccess = "off"\n'
SECRET = "sesame"
NO_VERSION = "the two sides have no version of TLS in common; it must be 1.2 or later"
NO_CIPHER = "the other side has no cipher in common with this one, or wants a certificate of it"
WANTED = "the other side wants a certificate of this side, which has none for it"
NO_TLS = "the other side does not speak TLS; check the port"
REFUSES = "the other side refuses the certificate of this side"
ALERT = b"\x15\x03\x03\x00\x02\x02"
SAID = {
    ALERT + bytes([40]): NO_CIPHER,
    ALERT + bytes([42]): REFUSES,
    ALERT + bytes([43]): REFUSES,
    ALERT + bytes([44]): f"{REFUSES}: it is revoked",
    ALERT + bytes([45]): f"{REFUSES}: it has expired; renew it",
    ALERT + bytes([46]): REFUSES,
    ALERT + bytes([48]): f"{REFUSES}: it does not trust its authority",
    ALERT + bytes([70]): NO_VERSION,
    ALERT + bytes([71]): "the other side wants safer ciphers",
    ALERT + bytes([80]): "the other side has an internal error; see its log",
    ALERT + bytes([112]): "the other side does not serve the host by this name; check the name",
    ALERT + bytes([116]): WANTED,
    b"SSH-2.0-x\r\n": NO_TLS,
    b"HTTP/1.1 400 Bad\r\n\r\n": NO_TLS,
    b"No such user\r\n": NO_TLS,
    b"\x16\x03\x03\xff\xff": NO_TLS,
}
VERSIONS = {
    "TLS 1.2": {"lowerMaximumSecurityTo": TLSVersion.TLSv1_2},
    "TLS 1.3": {"raiseMinimumTo": TLSVersion.TLSv1_3},
}


def quoted(host: str) -> str:
    """Return a host as it is in an endpoint string."""
    return host.replace(":", r"\:")


def bracketed(host: str) -> str:
    """Return a host as it is in a URL."""
    return f"[{host}]" if ":" in host else host


class Closing(Protocol):
    """Answer whatever is received by closing TLS (RFC 8446 §6.1)."""

    def dataReceived(self, _: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"\x15\x03\x03\x00\x02\x01\x00")
        self.transport.loseConnection()


def trusted() -> Any:
    """Return whom the tests' clients trust."""
    return authorities(TRUSTED.encode())


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
class TrustCase(GatewayCase):
    """One way to ask a server, whose certificate is each of those that there are."""

    timeout = 120  # a gateway is started for each of them
    script: Script

    def serve(self, host: str, issued: Issued, **options: Any) -> FingerServer:
        """Start a server."""
        interface = host if host == "::1" else "127.0.0.1"
        return FingerServer(self, self.script, context=issued.context(**options), interface=interface)

    def refused(self) -> Iterator[tuple[str, str, FingerServer, str]]:
        """Return the cases: what it is, its host, its server, and why nobody talks to that."""
        for version, options in VERSIONS.items():
            for name, (host, issued, why) in REFUSED.items():
                yield f"{name}, {version}", host, self.serve(host, issued, **options), why.format(host=host)

    def accepted(self) -> Iterator[tuple[str, str, FingerServer]]:
        """Return the cases of servers that are talked to."""
        for version, options in VERSIONS.items():
            for name, (host, issued) in ACCEPTED.items():
                yield f"{name}, {version}", host, self.serve(host, issued, **options)

    async def told_nothing(self, name: str, server: FingerServer) -> None:
        """See that nothing has come to a server, and nothing comes to it."""
        await until(lambda: server.connections and not server.open, f"the connection's end: {name}")
        assert set(server.lines) == {b""}, name

    def said(self, events: Sequence[Any], name: str) -> list[str]:
        """Return the errors in the log, in which there may be no traceback and nothing secret."""
        assert not [event for event in events if "log_failure" in event], name
        assert SECRET not in "".join(map(formatEvent, events)), name
        return [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]


class AskingCase(TrustCase):
    """A way to ask for each query anew."""

    async def asked(self, host: str, port: int) -> bytes:
        """Return what a client gets."""
        raise NotImplementedError

    async def check_refused(self, where: str) -> None:
        """See that the query fails, one line says which host and why, and nothing leaves."""
        for name, host, server, why in self.refused():
            with capturedLogs() as events:
                assert await self.asked(host, server.port) == b"Internal error in server\r\n", name
            assert self.said(events, name) == [f"{where}: TLS: {why}"], name
            await self.told_nothing(name, server)

    async def check_accepted(self, sent: str) -> None:
        """See that a server is asked, and what it is sent."""
        for name, host, server in self.accepted():
            assert await self.asked(host, server.port) == b"text\r\n", name
            assert sent.encode() in b"".join(server.lines), name


class HttpTests(AskingCase):
    """An http backend, which has a bearer token to send."""

    script = staticmethod(lambda served: served.answer(response(b"text", extra="Connection: close\r\n")))

    async def asked(self, host: str, port: int) -> bytes:
        self.write("ca.pem", TRUSTED)
        self.write("token", SECRET).chmod(0o600)
        gateway = self.start(
            LISTENER + '[[routes]]\npattern = "*"\nbackends = ["web"]\n'
            f'[backends.web]\ntype = "http"\nurl = "https://{bracketed(host)}:{port}/"\n'
            'ca_file = "ca.pem"\nbearer_token_file = "token"\n'
        )
        try:
            return await self.ask(gateway, b"x\r\n")
        finally:
            await gateway.stopService()

    async def test_refused(self) -> None:
        """Who cannot be verified gets no token."""
        await self.check_refused("backend web failed, asked by route *")

    async def test_accepted(self) -> None:
        """Who is verified gets it."""
        await self.check_accepted(f"Bearer {SECRET}")

    async def test_explained(self) -> None:
        """``explain --ask`` gives the reason that the log has."""
        host, issued, why = REFUSED["expired"]
        server = self.serve(host, issued)
        self.write("ca.pem", TRUSTED)
        config = self.write(
            "asked.toml",
            LISTENER + '[[routes]]\npattern = "*"\nbackends = ["web"]\n'
            f'[backends.web]\ntype = "http"\nurl = "https://{host}:{server.port}/"\nca_file = "ca.pem"\n',
        )
        arguments = [*COMMAND[1:], "explain", "--config", str(config), "--ask", "x"]
        out, _, code = await getProcessOutputAndValue(COMMAND[0], arguments)
        assert code == 1
        assert f"TLS: {why.format(host=host)}" in out.decode()
        await self.told_nothing("expired", server)


class ForwardingTests(AskingCase):
    """A ``tls:`` endpoint in ``[forwarding]``."""

    script = staticmethod(says(b"text\r\n"))

    async def asked(self, host: str, port: int) -> bytes:
        self.write("ca.pem", TRUSTED)
        gateway = self.start(
            LISTENER + f"[forwarding]\nallow = {{ other = 'tls:{quoted(host)}:{port}:trustRoots=.' }}\n"
        )
        try:
            return await self.ask(gateway, f"{SECRET}@other\r\n".encode())
        finally:
            await gateway.stopService()

    async def test_refused(self) -> None:
        """Who cannot be verified gets no query."""
        await self.check_refused("backend other failed, asked by route forwarding")

    async def test_accepted(self) -> None:
        """Who is verified gets it."""
        await self.check_accepted(f"{SECRET}\r\n")


class CacheTests(TrustCase):
    """A ``rediss:`` store, which has a password to send."""

    script = staticmethod(hangs())

    def begin(self, host: str, port: int) -> Any:
        self.write("ca.pem", TRUSTED)
        self.write("password", SECRET).chmod(0o600)
        return self.start(
            LISTENER + f'[cache]\nstore = "rediss://{bracketed(host)}:{port}/0"\n'
            'ca_file = "ca.pem"\npassword_file = "password"\n'
        )

    async def test_refused(self) -> None:
        """The store is left out, one line says which host and why, and no password leaves."""
        for name, host, server, why in self.refused():
            with capturedLogs() as events:
                gateway = self.begin(host, server.port)
                await until(partial(self.said, events, name), f"a line: {name}")
                await gateway.stopService()
            (line,) = self.said(events, name)
            assert f"TLS: {why}" in line, name
            await self.told_nothing(name, server)

    async def test_accepted(self) -> None:
        """A server that is verified is told the password."""
        for name, host, server in self.accepted():
            gateway = self.begin(host, server.port)
            await until(lambda server=server: SECRET.encode() in b"".join(server.lines), name)  # type: ignore[misc]
            await gateway.stopService()


class HandshakeTests(TrustCase):
    """Servers with whom there is no TLS session, before any certificate is looked at or in spite of it."""

    script = staticmethod(says(b"text\r\n"))

    async def problem(self, port: int) -> str:
        """Return what is told of a server."""
        answer = await fetch(Target("localhost", port, "x"), Resolver(reactor), timeout=20, trust=trusted())
        assert answer.text == ""
        return answer.problem

    async def test_no_common_version(self) -> None:
        """A server that knows old versions alone."""
        context = ACCEPTED["a name"][1].context(
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_0, lowerMaximumSecurityTo=TLSVersion.TLSv1_1
        )
        context.getContext().set_cipher_list(b"ALL:@SECLEVEL=0")
        server = FingerServer(self, self.script, context=context)
        assert await self.problem(server.port) == f"TLS: {NO_VERSION}"

    async def test_no_common_cipher(self) -> None:
        """A server that has a key for none of the ciphers that it takes."""
        ciphers = AcceptableCiphers.fromOpenSSLCipherString("ECDHE-RSA-AES128-GCM-SHA256")
        server = self.serve(*ACCEPTED["a name"], acceptableCiphers=ciphers, **VERSIONS["TLS 1.2"])
        assert await self.problem(server.port) == f"TLS: {NO_CIPHER}"

    async def test_client_certificates(self) -> None:
        """A server that wants one."""
        root = trustRootFromCertificates([Certificate.loadPEM(AUTHORITY.pem.encode())])
        for version, why in (("TLS 1.2", NO_CIPHER), ("TLS 1.3", WANTED)):
            server = self.serve(*ACCEPTED["a name"], trustRoot=root, **VERSIONS[version])
            assert await self.problem(server.port) == f"TLS: {why}", version

    async def test_end(self) -> None:
        """A server that ends TLS properly before it has begun has closed the connection."""
        server = Factory.forProtocol(Closing)
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with capturedLogs() as events:
            problem = await self.problem(port.getHost().port)
        assert problem == "the connection was lost; the server may not speak TLS on this port"
        assert self.said(events, "the end") == []

    async def test_alerts(self) -> None:
        """What a server says by an alert (RFC 8446 §6.2) is told in words, and so is what is no TLS at all."""
        received = b""

        class Server(Protocol):
            def dataReceived(self, _: bytes) -> None:
                assert self.transport is not None
                self.transport.write(received)
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        for received, why in SAID.items():
            assert await self.problem(port.getHost().port) == f"TLS: {why}", received


class QueryTests(TrustCase):
    """``fingergw query --tls``."""

    script = staticmethod(says(b"text\r\n"))

    async def test_refused(self) -> None:
        """Nothing is printed of any, what is wrong is told in a line for each, and the exit code is 1."""
        ca_file = str(self.write("ca.pem", TRUSTED))
        cases = list(self.refused())
        targets = [f"{SECRET}@{bracketed(host)}:{server.port}" for _, host, server, _ in cases]
        out, err, code = await getProcessOutputAndValue(
            COMMAND[0], [*COMMAND[1:], "query", "--tls", "--ca-file", ca_file, *targets]
        )
        assert (out, code) == (b"", 1)
        assert err.decode().splitlines() == [
            f"fingergw: {host}, port {server.port}: TLS: {why}" for _, host, server, why in cases
        ]
        for name, _, server, _ in cases:
            await self.told_nothing(name, server)

    async def test_accepted(self) -> None:
        """A server that is verified is asked."""
        for name, host, server in self.accepted():
            target = Target(host, server.port, "x")
            answer = await fetch(target, Resolver(reactor), timeout=20, trust=trusted())
            assert (answer.text, answer.problem) == ("text\n", ""), name

    async def test_unforeseen(self) -> None:
        """Whatever goes wrong in looking at a certificate, it is not verified then."""
        for error in (MemoryError("sesame"), SystemExit(0), AssertionError()):

            def fail(*_: object, error: BaseException = error) -> None:
                raise error

            self.patch(trust, "verify_certificate_hostname", fail)
            host, issued = ACCEPTED["a name"]
            server = self.serve(host, issued)
            target = Target(host, server.port, "x")
            answer = await fetch(target, Resolver(reactor), timeout=20, trust=trusted())
            name = type(error).__name__
            assert answer.problem == f"TLS: the certificate of {host} cannot be verified ({name}); issue it anew"
            await self.told_nothing(name, server)
