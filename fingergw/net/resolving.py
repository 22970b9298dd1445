"""The addresses of hosts, asked for in threads that nothing waits for."""

# ruff: noqa: N802, N803  # Twisted's names

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import AF_INET, AF_INET6, AF_UNSPEC, AI_NUMERICHOST, SOCK_STREAM, getaddrinfo
from threading import Thread
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()
# A lookup that takes longer may never end, so another is begun beside it; the next after twice as long, and so on. So a
# thread that is lost does not lose its host, and a year of that takes 21 threads.
_PATIENCE_SECONDS = 30.0
_TYPES: dict[int, Callable[..., IAddress]] = {AF_INET: IPv4Address, AF_INET6: IPv6Address}
_ENDPOINTS: dict[int, Callable[..., IStreamClientEndpoint]] = {
    AF_INET: TCP4ClientEndpoint,
    AF_INET6: TCP6ClientEndpoint,
}

_Found: TypeAlias = Sequence[tuple[int, int, int, str, Sequence[Any]]]
"""What getaddrinfo returns; empty if there is no such host, or nobody knows."""


@define(eq=False)
class _Lookups:
    """Those of one host.

    :param began: when those that run began, in seconds.
    :param waiting: who is told what the first to find something finds, or else that none did.
    """

    began: list[float] = field(factory=list)
    waiting: dict[Deferred[_Found], None] = field(factory=dict)

    def need_another(self, now: float) -> bool:
        return not self.began or now - self.began[-1] >= _PATIENCE_SECONDS * 2 ** (len(self.began) - 1)


@define(eq=False)
class Resolver:
    """Ask the system for addresses, each host in a daemon thread of its own, which all who ask for that host share.

    A name server that hangs so holds up its own hosts alone: neither others, nor a stop, nor the process's end, as
    nothing joins the threads. There is one a host, and hosts come from the configuration only. What is found is not
    kept: that is for the system to do.

    :param reactor: an IReactorFromThreads, IReactorTCP and IReactorTime. Its own resolver is left alone: it is for all
        that run in the process, and has a few threads for all hosts together.
    :param look_up: asks the system; it is called in a thread, as getaddrinfo is.
    :param seconds: a clock that is never set back.
    """

    reactor: Any
    look_up: Callable[..., _Found] = getaddrinfo
    seconds: Callable[[], float] = time.monotonic
    _lookups: dict[str, _Lookups] = field(init=False, factory=dict)

    def endpoint(self, host: str, port: int, *, timeout: float) -> IStreamClientEndpoint:
        """Return an endpoint that connects to a host; whoever cancels that is let go at once.

        :param host: a name, or an address.
        :param timeout: seconds to connect to each address in; to find them takes as long as it takes.
        """
        return _Endpoint(self, host, port, timeout)

    def as_reactor(self) -> Any:
        """Return its reactor, but with this resolver, for a HostnameEndpoint that somebody else makes."""
        return _Reactor(self.reactor, self.find)

    def find(self, host: str) -> Deferred[_Found]:
        """Return a host's addresses: at once where it is one, or else when the system has said them."""
        with suppress(OSError, ValueError):
            return succeed(_ask(getaddrinfo, host, AI_NUMERICHOST))  # which asks nobody
        lookups = self._lookups.setdefault(host, _Lookups())
        waiting: Deferred[_Found] = Deferred(lambda cancelled: lookups.waiting.pop(cancelled, None))
        lookups.waiting[waiting] = None
        if lookups.need_another(began := self.seconds()):
            lookups.began.append(began)
            try:
                Thread(target=self._run, args=(host, began), name="getaddrinfo", daemon=True).start()
            except RuntimeError as error:
                _log.error("cannot look up hosts: {why}; let the process have more threads", why=str(error))
                # in a turn of its own: who is told may look the next one up, which would be a call within this one
                self.reactor.callLater(0, self._ended, host, began, ())
        return waiting

    def _run(self, host: str, began: float) -> None:
        found: _Found = ()
        try:
            with suppress(OSError, ValueError):  # no such host, no answer, or a name that can be no host's
                found = _ask(self.look_up, host, 0)
        finally:
            self.reactor.callFromThread(self._ended, host, began, found)

    def _ended(self, host: str, began: float, found: _Found) -> None:
        lookups = self._lookups[host]
        lookups.began.remove(began)
        if not lookups.began:
            del self._lookups[host]
        elif not found:
            return  # another may find something
        told, lookups.waiting = lookups.waiting, {}
        for waiting in told:
            if not waiting.called:  # one that was told before may have cancelled it
                waiting.callback(found)


def _ask(look_up: Callable[..., _Found], host: str, flags: int) -> _Found:
    # As bytes, ASCII takes no codec, which would refuse a long label, and may be out of reach in a chroot.
    return look_up(host.encode() if host.isascii() else host, 0, AF_UNSPEC, SOCK_STREAM, 0, flags)


@implementer(IStreamClientEndpoint)
@frozen
class _Endpoint:
    resolver: Resolver
    host: str
    port: int
    timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self.resolver.find(self.host).addCallback(self._connect, protocolFactory)

    def _connect(self, found: _Found, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if not found:
            raise DNSLookupError(f"no address is known of {self.host}")
        reactor, (address, _, *more) = _Reactor(self.resolver.reactor, lambda _: succeed(found)), found[0][4]
        if len(found) == 1:  # HostnameEndpoint would notice a refusal only when it is time to try another address
            if more and more[1]:  # the network that a link's own address is on
                address = f"{address}%{more[1]}"
            endpoint = _ENDPOINTS[found[0][0]](self.resolver.reactor, address, self.port, timeout=self.timeout)
            return endpoint.connect(factory)
        # not by its name: HostnameEndpoint refuses some that the system knows, such as those with a _
        return HostnameEndpoint(reactor, address, self.port, timeout=self.timeout).connect(factory)


@implementer(IHostnameResolver, IReactorPluggableNameResolver)
@frozen
class _Reactor:
    """A reactor, but that it finds hosts in another way."""

    reactor: Any
    find: Callable[[str], Deferred[_Found]]

    @property
    def nameResolver(self) -> IHostnameResolver:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        def tell(found: _Found) -> None:
            for family, _, _, _, (host, _, *scope) in found:
                kind = _TYPES[family]
                if not addressTypes or kind in addressTypes:
                    resolutionReceiver.addressResolved(kind(transportSemantics, host, portNumber, *scope))
            resolutionReceiver.resolutionComplete()

        finding = self.find(hostName)
        resolution = _Resolution(hostName, finding)
        resolutionReceiver.resolutionBegan(resolution)
        finding.addCallbacks(tell, lambda _: None)  # who has cancelled it is told nothing
        return resolution


@implementer(IHostResolution)
@frozen
class _Resolution:
    name: str
    finding: Deferred[_Found]

    def cancel(self) -> None:
        self.finding.cancel()
