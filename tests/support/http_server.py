"""An HTTP server on a real socket that does what a test tells it to, and gateways that ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tomli_w
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import LoopingCall

from fingergw.app.gateway import Gateway
from fingergw.core.outcome import Failed, Outcome
from fingergw.core.query import Query
from tests.support import GatewayCase, RawServer, Upstream

Script: TypeAlias = Callable[[RawServer, bytes], object]
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
