"""An HTTP agent whose responses cannot grow without end: Twisted bounds a header's length, but not their number."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

# More than the heads of an answer and of its redirects take, each by itself.
_MAX_HEAD_BYTES = 65536


def bounded_agent(
    reactor: Any, policy: IPolicyForHTTPS, pool: HTTPConnectionPool, *, timeout: float, max_bytes: int
) -> Agent:
    """Return an agent that breaks a connection off when the response to a request is larger than it may be.

    :param policy: how TLS is verified.
    :param timeout: seconds to connect in.
    :param max_bytes: what a body may have; twice that, for its chunks, and 64 KiB for its head may be received.
    """
    endpoints = _Endpoints(reactor, policy, timeout, _MAX_HEAD_BYTES + 2 * max_bytes)
    return Agent.usingEndpointFactory(reactor, endpoints, pool)  # type: ignore[no-any-return]


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    reactor: Any
    policy: IPolicyForHTTPS
    timeout: float
    max_bytes: int

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self.reactor, uri.host, uri.port, timeout=self.timeout)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self.policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return _BoundedEndpoint(endpoint, self.max_bytes)


@implementer(IStreamClientEndpoint)
@frozen
class _BoundedEndpoint:
    endpoint: IStreamClientEndpoint
    max_bytes: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[Any] = self.endpoint.connect(_Wrapping(protocolFactory, self.max_bytes))
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _Bounded(ProtocolWrapper):
    """Counts what is received since something was last sent."""

    factory: _Wrapping
    _received = 0

    def write(self, data: bytes) -> None:
        self._received = 0
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Any) -> None:
        self._received = 0
        super().writeSequence(data)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.factory.max_bytes:
            assert self.transport is not None
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._received > self.factory.max_bytes:
            reason = Failure(ConnectionAborted())  # under TLS it would be any loss
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Wrapping(WrappingFactory):
    protocol = _Bounded
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, max_bytes: int) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.max_bytes = max_bytes
