"""HTTP responses of bounded size, heads and bodies."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from fingergw.net.http.response_framing import Head
from fingergw.net.resolving import Resolver
from fingergw.net.trust import over_tls

# More than the head of any sensible response.
_MAX_HEAD_BYTES = 65536
# How much is read in one turn of the reactor, as all chunks, lines and heads in it are parsed at once.
_READ_BYTES = 8192


def bounded_agent(
    resolver: Resolver, trust: Callable[[], Any], pool: HTTPConnectionPool, *, timeout: float, max_bytes: int
) -> Agent:
    """Return an agent that aborts the connection when a response is too large.

    :param resolver: looks up the hosts; its reactor connects to them.
    :param trust: returns the trust root; called for each connection.
    :param timeout: seconds to connect in.
    :param max_bytes: of a body; twice that, for chunked framing, plus 64 KiB for the head may be received.
    """
    endpoints = _Endpoints(resolver, trust, timeout, _MAX_HEAD_BYTES + 2 * max_bytes)
    return Agent.usingEndpointFactory(resolver.reactor, endpoints, pool)  # type: ignore[no-any-return]


@implementer(IAgentEndpointFactory)
@frozen(eq=False, repr=False)
class _Endpoints:
    resolver: Resolver
    trust: Callable[[], Any]
    timeout: float
    max_bytes: int

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii")
        endpoint = self.resolver.endpoint(host, uri.port, timeout=self.timeout)
        if uri.scheme == b"https":
            endpoint = over_tls(endpoint, host, self.trust())
        return _BoundedEndpoint(endpoint, self.max_bytes)


@implementer(IStreamClientEndpoint)
@frozen(eq=False, repr=False)
class _BoundedEndpoint:
    endpoint: IStreamClientEndpoint
    max_bytes: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[Any] = self.endpoint.connect(_Wrapping(protocolFactory, self.max_bytes))
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _Bounded(ProtocolWrapper):
    """Counts the bytes received since the last request, and checks the heads in them."""

    factory: _Wrapping
    _received = 0
    _is_broken_off = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = Head()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        while isinstance(transport, ProtocolWrapper):  # TLS
            transport = transport.transport
        transport.bufferSize = _READ_BYTES
        super().connectionMade()  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        self._received = 0
        self._head.begin()
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Any) -> None:
        self._received = 0
        self._head.begin()
        super().writeSequence(data)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        taken = self._head.take(data) if self._received <= self.factory.max_bytes else None
        if taken is None:
            self._is_broken_off = True
            assert self.transport is not None
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it
        elif taken and not self._is_broken_off:
            super().dataReceived(taken)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._is_broken_off:
            reason = Failure(ConnectionAborted())  # with TLS it could be another error
        elif left := self._head.end():
            super().dataReceived(left)  # type: ignore[no-untyped-call]
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Wrapping(WrappingFactory):
    protocol = _Bounded
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, max_bytes: int) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.max_bytes = max_bytes


class BodyError(Exception):
    """The body cannot be used; the message says why."""


@implementer(IAgent)
@define(eq=False, repr=False)
class Undecoded:
    """An agent for one request that hides the content coding from treq, which would decode without a bound.

    It drops cookies.

    :param encoding: the response's content coding.
    """

    agent: IAgent
    encoding: bytes = b""

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        return self.agent.request(method, uri, headers, bodyProducer).addCallback(self._note)

    def _note(self, response: IResponse) -> IResponse:
        self.encoding = b",".join(response.headers.getRawHeaders(b"content-encoding", [])).strip().lower()
        response.headers.removeHeader(b"content-encoding")
        for name in (b"set-cookie", b"set-cookie2"):  # they are not sent back, and parsing thousands is slow
            response.headers.removeHeader(name)
        return response


@define(eq=False, repr=False)
class Body(Protocol):
    """Collect and decode a body; abort when it is too large.

    :param encoding: its content coding (RFC 9110 §8.4).
    """

    max_bytes: int
    encoding: bytes
    data: bytearray = field(factory=bytearray)
    finished: Deferred[bytes] = field(init=False)
    _begun: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.finished = Deferred(lambda _: self.abort())
        self._gzip = None if self.encoding in (b"", b"identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)

    def connectionMade(self) -> None:
        if self.encoding not in (b"", b"identity", b"gzip", b"x-gzip", b"deflate"):
            self._fail("the server used a content coding that the request did not accept")

    def dataReceived(self, data: bytes) -> None:
        if self.finished.called:
            return  # data that was received before the abort
        self._begun = True
        room = self.max_bytes + 1 - len(self.data)
        try:
            self.data += self._gzip.decompress(data, room) if self._gzip else data[:room]
        except zlib.error:
            self._fail("the body is not valid gzip, though its header says so")
        if len(self.data) > self.max_bytes:
            self._fail(f"the answer is larger than max_bytes = {self.max_bytes}")
        elif self._gzip and self._gzip.unused_data:  # unused_data would grow without bound
            self._fail("the body has data after the end of its gzip")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if self._gzip and not self._gzip.eof and self._begun:
            self._fail("the gzip of the body ends early")
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.finished.callback(bytes(self.data))
        else:
            self.finished.errback(reason)

    def abort(self) -> None:
        """Abort the connection, without waiting for the other side to close."""
        # The transport of a body's protocol cannot abort, and closing would wait for a TLS peer that hangs.
        connection = getattr(self.transport, "_producer", None)
        if connection is not None:
            connection.abortConnection()

    def _fail(self, reason: str) -> None:
        if not self.finished.called:
            self.finished.errback(BodyError(reason))
            self.abort()


def read(response: IResponse, encoding: bytes, max_bytes: int) -> Deferred[bytes]:
    """Read a response's body.

    :param encoding: its content coding, from :class:`Undecoded`.
    :param max_bytes: of the decoded body.
    :return: the decoded body; fails with :class:`BodyError` or as the connection does. Cancelling it aborts the latter.
    """
    body = Body(max_bytes, encoding)
    response.deliverBody(body)
    return body.finished


def discard(response: IResponse) -> None:
    """Discard a response's body; a connection without one can be reused."""
    body = Body(0, b"")
    body.finished.addErrback(lambda _: None)
    response.deliverBody(body)
    body.finished.cancel()
