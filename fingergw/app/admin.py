"""The pages at which the gateway is watched: its metrics, whether it lives, and whether it is ready."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import partial
from io import BytesIO
from ipaddress import IPv4Address
from typing import Any

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
from fingergw.telemetry.metrics import Exposition
from fingergw.telemetry.readings import ListenerReading, Readings, StoreReading

_TEXT = "text/plain; charset=utf-8"
_REQUEST_SECONDS = 10.0
_MAX_IDLE = 128
_MAX_ASKING = 32
_MAX_NAME_BYTES = 256
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# The only ones that are read, by Twisted or by a page.
_HEADERS_READ = frozenset({b"accept", b"content-length", b"expect", b"host", b"transfer-encoding"})
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::[0-9]{0,5})?")


def make_site(gateway: Gateway, reactor: Any, hosts: Collection[str] = ()) -> Site:
    """Return the pages at which a gateway is watched: ``/metrics``, ``/healthz`` and ``/readyz``.

    :param reactor: for the deadlines of requests.
    :param hosts: the names that it may be asked for by, beside ``localhost`` and addresses.
    """
    root = _Nothing()
    root.putChild(b"metrics", _Metrics(Exposition(partial(_read, gateway))))
    root.putChild(b"healthz", _Health())
    root.putChild(b"readyz", _Readiness(gateway))
    return _AdminSite(root, reactor, frozenset({"localhost", *map(normal_host, hosts)}))


def _read(gateway: Gateway) -> Readings:
    """Return what the metrics show of a gateway, as it is now."""
    parts, store = gateway.parts, gateway.parts.store
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
        cache_entries=parts.memory.entries,
        cache_bytes=parts.memory.bytes,
        store=None if store is None else StoreReading(store.is_open, store.failures),
    )


def _is_known(authority: bytes, names: Collection[str]) -> bool:
    """Tell whether a host is this one by no name that somebody else may have given it.

    :param authority: the host, and its port if any.
    """
    found = _AUTHORITY.fullmatch(authority.decode("latin-1"))
    if found is None:
        return False
    if found["six"] is not None:
        return ":" in found["six"] and parse_address(found["six"]) is not None
    return normal_host(found["name"]) in names or isinstance(parse_address(found["name"]), IPv4Address)


class _Page(Resource):
    """What can be read, and nothing else. Below it is nothing."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Nothing()

    def page(self, request: Request) -> tuple[int, str, bytes | Iterator[bytes]]:
        """Return the status, the content type and the body, whole or in pieces."""
        raise NotImplementedError

    def render(self, request: Request) -> bytes | int:
        """Send the page; without its body where only the header is asked for."""
        if request.method in (b"GET", b"HEAD"):
            status, content_type, body = self.page(request)
        else:
            status, content_type, body = 405, _TEXT, b"this can only be read\n"
            request.setHeader(b"allow", b"GET, HEAD")
        request.setResponseCode(status)
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
    """Sends a body piece by piece, as fast as it is taken, and other clients are served between."""

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
        """Do nothing: nobody asks for more."""


class _Metrics(_Page):
    """What the gateway has counted."""

    def __init__(self, exposition: Exposition) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._exposition = exposition

    def page(self, request: Request) -> tuple[int, str, Iterator[bytes]]:
        accept = b",".join(request.requestHeaders.getRawHeaders(b"accept", []))
        return 200, *self._exposition.texts(accept.decode("latin-1"))


class _Health(_Page):
    """That the reactor turns."""

    def page(self, request: Request) -> tuple[int, str, bytes]:
        return 200, _TEXT, b"ok\n"


class _Readiness(_Page):
    """Whether clients should be sent here, or why not."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gateway = gateway

    def page(self, request: Request) -> tuple[int, str, bytes]:
        reason = self._gateway.unready()
        return (503, _TEXT, f"{reason}\n".encode()) if reason else (200, _TEXT, b"ready\n")


class _Nothing(_Page):
    """That there is nothing, and where there is something."""

    def page(self, request: Request) -> tuple[int, str, bytes]:
        return 404, _TEXT, b"nothing is here; there are /metrics, /healthz and /readyz\n"


class _Misdirected(_Page):
    """That it is not asked for by a name of its own, as when a page in a browser asks by a name that leads here."""

    def page(self, request: Request) -> tuple[int, str, bytes]:
        return (
            421,
            _TEXT,
            b"ask by an address, by localhost, or by a name that the configuration has: hosts in [admin]\n",
        )


class _Nowhere(BytesIO):
    """Where a request's body goes, which nobody reads. Twisted would keep it in a file, however long it gets."""

    def write(self, data: Any) -> int:
        return len(data)


class _Channel(HTTPChannel):
    """One connection: one request, which has a deadline from the connection to the last byte of the answer."""

    factory: _AdminSite

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.closed(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """Take a header that somebody reads, and no other: Twisted keeps each name that it has seen, for ever."""
        name, colon, value = line.partition(b":")
        if len(name) > _MAX_NAME_BYTES:
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
        """Take what has come and was not yet read."""
        lost = self.transport.doRead()  # type: ignore[union-attr]  # every stream transport has it
        if lost is not None:
            self.abort()

    def abort(self) -> None:
        """Have it gone at once."""
        self.factory.closed(self)
        self.transport.abortConnection()  # type: ignore[union-attr]  # likewise


class _AdminSite(Site):
    """A site that whoever can reach it may ask, and that takes no more than a few sockets of the gateway.

    Where there are too many connections, the oldest of those goes from which no request has come. Who has asked is
    answered at once: too many of these are of clients that do not read, and again the oldest goes.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # Twisted's also has HTTP/2 for those who install it

    def __init__(self, root: Resource, reactor: Any, names: Collection[str]) -> None:
        super().__init__(root, timeout=None, reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self._names = names
        # their deadlines
        self._idle: dict[_Channel, IDelayedCall] = {}
        self._asking: dict[_Channel, IDelayedCall] = {}

    def opened(self, channel: _Channel) -> None:
        """Note a new connection."""
        self._idle[channel] = self.reactor.callLater(_REQUEST_SECONDS, channel.abort)
        while len(self._idle) > _MAX_IDLE:
            oldest = next(iter(self._idle))
            oldest.read()  # its request may have come, in the same instant as many connections
            if oldest in self._idle:
                oldest.abort()

    def asked(self, channel: _Channel) -> None:
        """Note that a connection's request has come whole."""
        deadline = self._idle.pop(channel, None)
        if deadline is not None:
            self._asking[channel] = deadline
        if len(self._asking) > _MAX_ASKING:
            next(iter(self._asking)).abort()

    def closed(self, channel: _Channel) -> None:
        """Note that a connection is gone, or as good as gone."""
        deadline = self._idle.pop(channel, None) or self._asking.pop(channel, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def getResourceFor(self, request: Request) -> Resource:
        """Return the page that is asked for, if the host is this one."""
        asked_for = list(request.requestHeaders.getRawHeaders(b"host", []))
        if (absolute := _ABSOLUTE.match(request.uri)) is not None:
            asked_for.append(absolute[1])
        if not all(_is_known(authority, self._names) for authority in asked_for):
            return _Misdirected()
        return super().getResourceFor(request)  # type: ignore[no-any-return, no-untyped-call]

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return what takes a request's body."""
        return _Nowhere()

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Open no log: Twisted's would also keep a clock for that, which wakes the process every second."""

    def stopFactory(self) -> None:
        for channel in (*self._idle, *self._asking):
            channel.abort()
        super().stopFactory()
