"""A scripted HTTP server on a real socket, and gateways that query it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tomli_w
import trustme
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from fingergw.app.gateway import Gateway
from fingergw.core.outcome import Failed, Outcome
from fingergw.core.query import Query
from tests.support.gateway import GatewayCase
from tests.support.waiting import reactor, until


class RawServer(Protocol):
    """The server side of one HTTP connection; the script writes raw bytes.

    :param requests: every request head received on any connection, shared.
    :param script: what to do for a request: it is given this protocol and the request's head.
    """

    def __init__(self, requests: list[bytes], script: Callable[[RawServer, bytes], object]) -> None:
        self.requests = requests
        self.script = script
        self.lost: Deferred[None] = Deferred()
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self.requests.append(head)
            self.script(self, head)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


def response(body: bytes, content_type: str = "text/plain", status: str = "200 OK", extra: str = "") -> bytes:
    """Return a whole HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


Script: TypeAlias = Callable[[RawServer, bytes], object]


class Upstream:
    """A scripted HTTP server on the loopback.

    :param script: what to do for a request, given the connection and the request's head.
    :ivar factory: of the connections, for another port of the same server.
    """

    def __init__(self, case: TestCase, script: Callable[[RawServer, bytes], object], *, context: Any = None) -> None:
        self.requests: list[bytes] = []
        self.connections: list[RawServer] = []
        self.script = script
        factory = Factory.forProtocol(RawServer)  # type: ignore[arg-type]

        def build(_: object) -> RawServer:
            connection = RawServer(self.requests, lambda server, head: self.script(server, head))
            self.connections.append(connection)
            return connection

        self.factory = factory
        factory.buildProtocol = build  # type: ignore[method-assign, assignment]
        if context is None:
            self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.port = self._port.getHost().port
        case.addCleanup(self.stop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        await maybeDeferred(self._port.stopListening)
        for connection in self.connections:
            if not connection.lost.called and connection.transport is not None:
                connection.transport.abortConnection()  # type: ignore[attr-defined]
        await until(lambda: all(connection.lost.called for connection in self.connections), "the end of connections")


INTERNAL_ERROR = b"Internal error in server\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"


def says(*pieces: bytes, close: bool = False) -> Script:
    """Return a script that sends something for each request, piece by piece, and may close then."""

    def script(server: RawServer, _: bytes) -> None:
        for piece in pieces:
            server.send(piece)
        if close:
            server.close()

    return script


def in_turn(*scripts: Script) -> Script:
    """Return a script that does each of some for one request; the last one is for all that follow."""
    return lambda server, head: scripts[min(len(server.requests), len(scripts)) - 1](server, head)


def chunk(data: bytes) -> bytes:
    """Return a chunk of a chunked body (RFC 9112 §7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def trickle(head: bytes) -> Script:
    """Return a script that sends a head, and then a byte now and then for ever."""

    def script(server: RawServer, _: bytes) -> None:
        server.send(head)
        loop = LoopingCall(server.send, b"x")
        loop.start(0.03)
        server.lost.addBoth(lambda _: loop.stop())

    return script


class HttpCase(GatewayCase):
    """Tests with a gateway that asks a server of the test's own."""

    def upstream(self, script: Script, authority: trustme.CA | None = None, name: str = "127.0.0.1") -> Upstream:
        """Start a server, with TLS if there is an authority."""
        if authority is None:
            return Upstream(self, script)
        pem = authority.issue_cert(name).private_key_and_cert_chain_pem.bytes()
        return Upstream(self, script, context=PrivateCertificate.loadPEM(pem).options())

    def gateway(self, url: str, *, match: dict[str, object] | None = None, **settings: Any) -> Gateway:
        """Start a gateway in which one URL answers everything."""
        return self.start(self.configuration(url, match=match, **settings))

    @staticmethod
    def configuration(url: str, *, match: dict[str, object] | None = None, **settings: Any) -> str:
        """Return the configuration of such a gateway."""
        return tomli_w.dumps(
            {
                "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                "limits": {"max_connections_per_client": 1000},
                "routes": [{"backends": ["web"], **(match or {"pattern": "*"})}],
                "backends": {"web": {"type": "http", "url": url, **settings}},
                "log": {"access": "off"},
            }
        )

    async def outcome(self, gateway: Gateway, user: str = "x") -> Outcome:
        """Ask the backend; it cannot raise."""
        query = Query(user)
        found = gateway.listeners[0].rules.router.find(query)
        assert found is not None
        route, groups = found
        result = await Deferred.fromCoroutine(route.target.answer(query._replace(groups=groups)))
        assert not isinstance(result.outcome, Failed) or result.outcome.error is None, result.outcome
        return result.outcome

    async def outcome_of(self, script: Script, user: str = "x", **settings: Any) -> Outcome:
        """Ask a backend whose server does as the script says."""
        return await self.outcome(self.gateway(self.upstream(script).url, **settings), user)
