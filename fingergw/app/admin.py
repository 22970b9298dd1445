"""The admin site: ``/metrics``, ``/healthz`` and ``/readyz``, over HTTP, within limits that hold for any client."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from http import HTTPStatus
from io import BytesIO
from ipaddress import IPv4Address
from typing import Any, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from fingergw.app.gateway import Gateway
from fingergw.core.addresses import parse_address
from fingergw.core.forwarding import normal_host
from fingergw.telemetry.metrics import ListenerReading, Readings, exposition

_TEXT = "text/plain; charset=utf-8"
_CONNECTION_SECONDS = 10.0
_MAX_IDLE = 128
_MAX_ASKING = 32
_MAX_HEADER_NAME_BYTES = 256
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADERS_READ = frozenset({b"accept", b"content-length", b"expect", b"host", b"transfer-encoding"})
_ABSOLUTE_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::[0-9]{0,5})?")

_Content: TypeAlias = tuple[int, str, bytes | Iterator[bytes]]
"""A page's status, its content type, and its body, whole or in pieces."""
_NOT_FOUND: _Content = 404, _TEXT, b"not found: the pages are /metrics, /healthz and /readyz\n"
_WHY_MISDIRECTED = b"unknown host: use an IP address, localhost, or a name listed as hosts in [admin]\n"
_MISDIRECTED: _Content = 421, _TEXT, _WHY_MISDIRECTED


def make_site(gateway: Gateway, reactor: Any, hosts: Collection[str] = ()) -> Site:
    """Return the admin site of a gateway.

    :param reactor: for the deadlines of connections.
    :param hosts: names that requests may have in ``Host``, besides ``localhost`` and IP addresses.
    """

    def metrics(request: Request) -> _Content:
        accept = b",".join(request.requestHeaders.getRawHeaders(b"accept", []))
        return 200, *exposition(partial(_read, gateway), accept.decode("latin-1"))

    def readiness(_: Request) -> _Content:
        reason = gateway.unready()
        return (503, _TEXT, f"{reason}\n".encode()) if reason else (200, _TEXT, b"ready\n")

    root = _Page(lambda _: _NOT_FOUND)
    root.putChild(b"metrics", _Page(metrics))
    root.putChild(b"healthz", _Page(lambda _: (200, _TEXT, b"ok\n")))
    root.putChild(b"readyz", _Page(readiness))
    return _AdminSite(root, reactor, frozenset({"localhost", *map(normal_host, hosts)}))


def _read(gateway: Gateway) -> Readings:
    """Return the gateway's numbers as they are now."""
    parts = gateway.parts
    return Readings(
        is_ready=not gateway.unready(),
        reloads=gateway.reloads,
        last_reload_applied=gateway.last_reload_applied,
        configured_at=gateway.configured_at,
        lost_lines=parts.access_log.lost,
        listeners=[
            ListenerReading(
                name=each.rules.listener,
                limits=each.rules.limits,
                meter=each.connections.meter,
                open_connections=len(each.connections.open),
                waiting=each.connections.waiting,
            )
            for each in gateway.listeners
        ],
        backends=parts.meters,
        backends_up={name: not each.breaker.is_open for name, each in parts.backends.items() if each.breaker},
        hosts_up={host: not breaker.is_open for (host, _), breaker in parts.hosts.items()},
        memory=parts.memory,
        store=parts.store,
    )


def _is_known(authority: bytes, names: Collection[str]) -> bool:
    """Tell whether a request is for a host that no stranger's DNS can name: against DNS rebinding.

    :param authority: the host, and its port if any.
    :param names: hosts that are known by name; IP addresses always are.
    """
    found = _AUTHORITY.fullmatch(authority.decode("latin-1"))
    if found is None:
        return False
    if found["ipv6"] is not None:
        return ":" in found["ipv6"] and parse_address(found["ipv6"]) is not None
    return normal_host(found["name"]) in names or isinstance(parse_address(found["name"]), IPv4Address)


class _Page(Resource):
    """A page that can be read and not changed, with nothing below it.

    :param content: returns what a request is answered with.
    """

    def __init__(self, content: Callable[[Request], _Content]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._content = content

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Page(lambda _: _NOT_FOUND)

    def render(self, request: Request) -> bytes | int:
        """Answer GET with the page, HEAD with its header, and any other method with 405."""
        if request.method in (b"GET", b"HEAD"):
            status, content_type, body = self._content(request)
        else:
            status, content_type, body = 405, _TEXT, b"not allowed: use GET or HEAD\n"
            request.setHeader(b"allow", b"GET, HEAD")
        request.setResponseCode(status, HTTPStatus(status).phrase.encode())  # Twisted has none for 421
        request.responseHeaders.removeHeader(b"server")
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"cache-control", b"no-store")
        if isinstance(body, bytes):
            request.setHeader(b"content-length", b"%d" % len(body))
        if request.method == b"HEAD":
            return b""
        if isinstance(body, bytes):
            return body
        request.registerProducer(_Pieces(request, body), False)
        return NOT_DONE_YET


@implementer(IPullProducer)
class _Pieces:
    """Sends a body piece by piece, as fast as the client reads. The reactor serves others between two pieces."""

    def __init__(self, request: Request, pieces: Iterator[bytes]) -> None:
        self._request, self._left = request, pieces

    def resumeProducing(self) -> None:
        piece = next(self._left, None)
        if piece is None:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(piece)

    def stopProducing(self) -> None:
        """Do nothing: pieces are only made when they are asked for."""


class _Discarded(BytesIO):
    """Takes a request's body, and drops it. Twisted would write a long one to a temporary file."""

    def write(self, data: Any) -> int:
        return len(data)


class _Channel(HTTPChannel):
    """A connection: one request, and one deadline from accepting the connection to the last byte of the answer."""

    factory: _AdminSite

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.closed(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """Skip headers that nothing here reads: Twisted caches each header name that it parses, for ever."""
        name, colon, value = line.partition(b":")
        if len(name) > _MAX_HEADER_NAME_BYTES:
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n")  # type: ignore[union-attr]
            self.loseConnection()
            return False
        if name.lower() not in _HEADERS_READ and colon and _TOKEN.fullmatch(name):
            return True
        return super().headerReceived(name.lower() + colon + value)  # type: ignore[no-any-return, no-untyped-call]

    def allContentReceived(self) -> None:
        self.factory.asked(self)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        request.setHeader(b"connection", b"close")
        return False

    def read(self) -> None:
        """Read what the kernel has received for this connection."""
        lost = self.transport.doRead()  # type: ignore[union-attr]  # every stream transport has it
        if lost is not None:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.factory.closed(self)
        self.transport.abortConnection()  # type: ignore[union-attr]  # likewise


class _AdminSite(Site):
    """A site with a bounded number of connections, whoever opens them.

    When there are too many that have not sent a whole request, the oldest of these is closed. One that has sent it is
    answered at once, so when there are too many of those, their clients do not read, and again the oldest is closed.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # Twisted's own would speak HTTP/2 where that is installed

    def __init__(self, root: Resource, reactor: Any, names: Collection[str]) -> None:
        super().__init__(root, timeout=None, reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self._names = names
        self.idle: dict[_Channel, IDelayedCall] = {}
        """The deadlines of connections that have not sent a whole request, the oldest first."""
        self.asking: dict[_Channel, IDelayedCall] = {}
        """The deadlines of connections that have sent a request and not read the whole answer."""

    def opened(self, channel: _Channel) -> None:
        """Note a new connection."""
        self.idle[channel] = self.reactor.callLater(_CONNECTION_SECONDS, channel.abort)
        while len(self.idle) > _MAX_IDLE:
            oldest = next(iter(self.idle))
            oldest.read()  # many may have connected since the reactor last read
            if oldest in self.idle:
                oldest.abort()

    def asked(self, channel: _Channel) -> None:
        """Note that a connection has sent its request."""
        deadline = self.idle.pop(channel, None)
        if deadline is not None:
            self.asking[channel] = deadline
        if len(self.asking) > _MAX_ASKING:
            next(iter(self.asking)).abort()

    def closed(self, channel: _Channel) -> None:
        """Note that a connection is closed, or about to be."""
        deadline = self.idle.pop(channel, None) or self.asking.pop(channel, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def getResourceFor(self, request: Request) -> Resource:
        """Return the page that is asked for, if all hosts that the request names are known."""
        hosts = list(request.requestHeaders.getRawHeaders(b"host", []))
        if (absolute := _ABSOLUTE_URL.match(request.uri)) is not None:
            hosts.append(absolute[1])
        if not all(_is_known(host, self._names) for host in hosts):
            return _Page(lambda _: _MISDIRECTED)
        return super().getResourceFor(request)  # type: ignore[no-any-return, no-untyped-call]

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return what takes a request's body."""
        return _Discarded()

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Do not start Twisted's access log, whose clock would wake the process every second."""

    def stopFactory(self) -> None:
        for channel in (*self.idle, *self.asking):
            channel.abort()
        super().stopFactory()
