"""The pages at which the gateway is watched: its metrics, whether it lives, and whether it is ready."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from fingergw.gateway import Gateway
from fingergw.metrics import Exposition

_TEXT = "text/plain; charset=utf-8"
_REQUEST_SECONDS = 10.0
_MAX_CONNECTIONS = 32


def make_site(gateway: Gateway, reactor: Any) -> Site:
    """Return the pages at which a gateway is watched: ``/metrics``, ``/healthz`` and ``/readyz``.

    :param reactor: for the deadlines of requests.
    """
    root = _Nothing()
    root.putChild(b"metrics", _Metrics(Exposition(gateway)))
    root.putChild(b"healthz", _Health())
    root.putChild(b"readyz", _Readiness(gateway))
    return _AdminSite(root, reactor)


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

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        request.setHeader(b"connection", b"close")
        return False


class _AdminSite(Site):
    """A site that whoever can reach it may ask, and that takes no more than a few sockets of the gateway.

    Where there are too many connections the oldest goes: what is asked is answered at once, so that one is idle.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # Twisted's also has HTTP/2 for those who install it

    def __init__(self, root: Resource, reactor: Any) -> None:
        super().__init__(root, timeout=None, reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self._deadlines: dict[_Channel, IDelayedCall] = {}

    def opened(self, channel: _Channel) -> None:
        """Note a new connection."""
        if len(self._deadlines) >= _MAX_CONNECTIONS:
            self._abort(next(iter(self._deadlines)))
        self._deadlines[channel] = self.reactor.callLater(_REQUEST_SECONDS, self._abort, channel)

    def closed(self, channel: _Channel) -> None:
        """Note that a connection is gone, or as good as gone."""
        deadline = self._deadlines.pop(channel, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _abort(self, channel: _Channel) -> None:
        self.closed(channel)
        channel.transport.abortConnection()  # type: ignore[union-attr]  # every stream transport has it

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return what takes a request's body."""
        return _Nowhere()

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Open no log: Twisted's would also keep a clock for that, which wakes the process every second."""

    def stopFactory(self) -> None:
        for channel in list(self._deadlines):
            self._abort(channel)
        super().stopFactory()
