"""Look up the addresses of hosts, in threads that nothing waits for."""

# ruff: noqa: N803  # Twisted's names

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EAFNOSUPPORT
from functools import partial
from socket import AF_INET, AF_INET6, AF_UNSPEC, AI_NUMERICHOST, SOCK_STREAM, getaddrinfo
from threading import Thread
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectBindError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
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

from fingergw.net.attempts import Address, connect_to_first, in_turns

_log = Logger()
RETRY_SECONDS = 60.0
"""How old a lookup is when another is started beside it, as what it waits for may be working again."""
MAX_WORKED = 1000
"""Of how many hosts and ports the address that connected last is kept."""
_CONNECT_SECONDS = 30.0
_CONNECT_PART = 0.9
_MAX_LOOKUPS = 4  # of one host at once
_TYPES: dict[int, Callable[..., IAddress]] = {AF_INET: IPv4Address, AF_INET6: IPv6Address}
_ENDPOINTS: dict[int, Callable[..., IStreamClientEndpoint]] = {
    AF_INET: TCP4ClientEndpoint,
    AF_INET6: TCP6ClientEndpoint,
}

_Found: TypeAlias = Sequence[tuple[int, int, int, str, Sequence[Any]]]
"""The result of ``getaddrinfo``; empty if the host has no address, or the lookup failed."""


@define(eq=False, repr=False)
class Resolver:
    """Look up hosts with ``getaddrinfo``, in one daemon thread for each host that is being looked up.

    All who ask for a host meanwhile share its lookup. One that hangs delays neither other hosts, nor a stop, nor the
    end of the process, which joins no daemon thread. The number of threads is bounded, as hosts come from the
    configuration only. Results are not cached: the system does that.

    :param reactor: an IReactorFromThreads, IReactorTCP and IReactorTime. Its own resolver is not used: its few threads
        are shared by all hosts.
    :param look_up: called in a thread, with the arguments of ``getaddrinfo``.
    """

    reactor: Any
    look_up: Callable[..., _Found] = getaddrinfo
    worked: dict[tuple[str, int], Address] = field(init=False, factory=dict)
    """The address that connected last, of each host and port: the first to try next time (RFC 8305 §4)."""
    _waiting: dict[str, dict[Deferred[_Found], None]] = field(init=False, factory=dict)
    _running: dict[str, list[float]] = field(init=False, factory=dict)  # when each lookup of a host began

    def endpoint(
        self, host: str, port: int, *, timeout: float, bind_address: str | None = None
    ) -> IStreamClientEndpoint:
        """Return an endpoint that connects to a host; cancelling a connection attempt takes effect at once.

        :param host: a name, or an address.
        :param timeout: seconds to connect in, lookup and all addresses included.
        :param bind_address: the address of this machine to connect from; addresses of another family are not tried.
        """
        return _Endpoint(self, host, port, timeout, bind_address)

    def as_reactor(self) -> Any:
        """Return its reactor with this resolver in it, for a HostnameEndpoint that somebody else makes."""
        return _Reactor(self.reactor, self.find)

    def find(self, host: str) -> Deferred[_Found]:
        """Look up a host; an address is returned at once."""
        with suppress(OSError, ValueError):
            return succeed(_ask(getaddrinfo, host, AI_NUMERICHOST))  # it asks no server
        waiting = self._waiting.setdefault(host, {})
        finding: Deferred[_Found] = Deferred(lambda cancelled: waiting.pop(cancelled, None))
        waiting[finding] = None
        running, now = self._running.setdefault(host, []), self.reactor.seconds()
        if not running or (now - running[-1] >= RETRY_SECONDS and len(running) < _MAX_LOOKUPS):
            running.append(now)
            try:
                Thread(target=self._run, args=(host, now), name="getaddrinfo", daemon=True).start()
            except RuntimeError as error:
                _log.error("cannot look up hosts: {why}; raise the process's limit on threads", why=str(error))
                # in another turn of the reactor, or callbacks that look up the next host would recurse
                self.reactor.callLater(0, self._ended, host, now, ())
        return finding

    def _run(self, host: str, began_at: float) -> None:
        found: _Found = ()
        try:
            with suppress(OSError, ValueError):  # no such host, no answer, or an invalid name
                found = _ask(self.look_up, host, 0)
        finally:
            self.reactor.callFromThread(self._ended, host, began_at, found)

    def _ended(self, host: str, began_at: float, found: _Found) -> None:
        running = self._running[host]
        running.remove(began_at)
        if running and not found:
            return  # another lookup of the host may find something
        if not running:
            del self._running[host]
        for waiting in list(self._waiting.pop(host, {})):
            if not waiting.called:  # a callback before it may have cancelled it
                waiting.callback(found)


def connect_seconds(timeout: float | None) -> float:
    """Return how long a connection may take: a little less than the answer, so that it is known what has failed.

    :param timeout: of the answer, in seconds; None for no limit.
    """
    return _CONNECT_SECONDS if timeout is None else _CONNECT_PART * timeout


def _ask(look_up: Callable[..., _Found], host: str, flags: int) -> _Found:
    # As bytes, as a str is encoded by a codec that refuses long labels, and that a chroot may not have.
    return look_up(host.encode() if host.isascii() else host, 0, AF_UNSPEC, SOCK_STREAM, 0, flags)


@implementer(IStreamClientEndpoint)
@frozen(eq=False, repr=False)
class _Endpoint:
    resolver: Resolver
    host: str
    port: int
    timeout: float
    bind_address: str | None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[Any] = self.resolver.find(self.host).addCallback(self._connect, protocolFactory)
        return connecting.addTimeout(self.timeout, self.resolver.reactor, self._late)

    def _late(self, *_: object) -> Any:
        raise ConnectTimeoutError(f"no connection to {self.host} within {self.timeout:g} s")

    def _connect(self, found: _Found, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if not found:
            raise DNSLookupError(f"{self.host} has no address; check the name, and the name server")
        addresses = [_address(each) for each in found if self._can_bind(each[0])]
        if not addresses:
            raise ConnectBindError(EAFNOSUPPORT, f"no address of {self.host} can be reached from {self.bind_address}")
        addresses = in_turns(addresses, self.resolver.worked.get((self.host, self.port)))
        attempts = [partial(self._attempt, address) for address in addresses]
        return connect_to_first(self.resolver.reactor, attempts, factory)

    def _can_bind(self, family: int) -> bool:
        is_other = isIPv6Address if family == AF_INET else isIPAddress
        return self.bind_address is None or not is_other(self.bind_address)

    def _attempt(self, address: Address, factory: IProtocolFactory) -> Deferred[IProtocol]:
        family, host = address
        source = None if self.bind_address is None else (self.bind_address, 0)
        endpoint = _ENDPOINTS[family](self.resolver.reactor, host, self.port, None, source)  # all share one timeout
        connecting: Deferred[IProtocol] = endpoint.connect(factory)
        return connecting.addCallback(self._note, address)

    def _note(self, protocol: IProtocol, address: Address) -> IProtocol:
        worked = self.resolver.worked
        worked.pop((self.host, self.port), None)
        worked[self.host, self.port] = address
        if len(worked) > MAX_WORKED:
            del worked[next(iter(worked))]
        return protocol


def _address(found: tuple[int, int, int, str, Sequence[Any]]) -> Address:
    family, *_, (host, _, *more) = found
    return family, f"{host}%{more[1]}" if more and more[1] else host  # the scope of a link-local address


@implementer(IHostnameResolver, IReactorPluggableNameResolver)
@frozen(eq=False, repr=False)
class _Reactor:
    """A reactor with another name resolver."""

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
        finding.addCallbacks(tell, lambda _: None)  # it was cancelled
        return resolution


@implementer(IHostResolution)
@frozen(eq=False, repr=False)
class _Resolution:
    name: str
    finding: Deferred[_Found]

    def cancel(self) -> None:
        self.finding.cancel()
