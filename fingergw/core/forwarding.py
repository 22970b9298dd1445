"""Queries with a host chain, and whom they may be passed on to (RFC 1288 §2.4, §3.2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from attrs import field, frozen

from fingergw.core.addresses import Address, Networks, destinations, is_here
from fingergw.core.query import Query

T = TypeVar("T")

_HOST_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*(?P<last>[a-z0-9_-]+)")
# inet_aton(3) takes the likes of 127.1, 0x7f000001 and 2130706433 for addresses, and many programs ask it
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# localhost (RFC 6761 §6.3), and what hosts files name the loopback beside
_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost4", "localhost6", "localdomain", "localdomain4", "localdomain6"}
    | {"ip6-localhost", "ip6-loopback", "loopback"}
)


def normal_host(host: str) -> str:
    """Return a host as it is compared: without case, and without the dot that may end a whole name."""
    return host.lower().removesuffix(".")


@frozen
class Denied:
    """Why a query is not passed on.

    :param why: its client's queries are not; there are too many hosts, or none; nothing is passed on to the last one;
        or one is this gateway itself, a loopback, or no plain name or address.
    :param host: the host that it is about; empty where it is about none.
    """

    why: Literal["client", "hops", "target", "own", "loopback", "not plain"]
    host: str = ""


@frozen
class Forwarding(Generic[T]):
    """Whom queries may be passed on to, and nobody else.

    :param targets: hosts as clients ask for them, and what such a query is sent to.
    :param own_names: names and addresses of this gateway, to which nothing is passed on, by no detour either.
    :param max_hops: how many hosts a query may have.
    :param clients: whose queries are passed on; None for everyone's.
    """

    targets: Mapping[str, T]
    own_names: frozenset[str]
    max_hops: int
    clients: Networks | None = None
    _targets: dict[str, T] = field(init=False, repr=False)
    _own_names: frozenset[str] = field(init=False, repr=False)
    _own_addresses: frozenset[Address] = field(init=False, repr=False)

    @_targets.default
    def _find_targets(self) -> dict[str, T]:
        return {normal_host(host): target for host, target in self.targets.items()}

    @_own_names.default
    def _find_own_names(self) -> frozenset[str]:
        return frozenset(normal_host(name) for name in self.own_names)

    @_own_addresses.default
    def _find_own_addresses(self) -> frozenset[Address]:
        return frozenset[Address]().union(*(destinations(name) for name in self._own_names))

    def find(self, query: Query, own_address: str) -> T | None:
        """Return whom a query of its client's is passed on to.

        :param own_address: the address at which the query came in; empty or any other text where there is none.
        :return: the target of the last host; None if nobody may have it: the last
            host is not among them, there are too many, or one is not a plain name or address, or is this gateway or a
            loopback. A client is not told which of these.
        """
        return None if self.denied(query, own_address) else self._targets[normal_host(query.hosts[-1])]

    def denied(self, query: Query, own_address: str) -> Denied | None:
        """Tell why a query is not passed on; None if it is.

        :param own_address: likewise :meth:`find`.
        """
        if self.clients is not None and query.client not in self.clients:
            return Denied("client")
        if not 0 < len(query.hosts) <= self.max_hops:
            return Denied("hops")
        hosts = [normal_host(host) for host in query.hosts]
        if hosts[-1] not in self._targets:
            return Denied("target", hosts[-1])
        own = self._own_addresses | destinations(own_address)
        return next((denied for host in hosts if (denied := self._refused(host, own))), None)

    def _refused(self, host: str, own: frozenset[Address]) -> Denied | None:
        """Tell why a host is refused that leads, or could lead, back to where it was asked, or is not plainly other."""
        if "%" in host:  # a zone means nothing elsewhere
            return Denied("not plain", host)
        if addresses := destinations(host):
            if is_here(addresses):
                return Denied("loopback", host)
            return None if addresses.isdisjoint(own) else Denied("own", host)
        name = _HOST_NAME.fullmatch(host)
        if name is None or _NUMBER.fullmatch(name["last"]):
            return Denied("not plain", host)
        if name["last"] in _LOOPBACK_NAMES:
            return Denied("loopback", host)
        return Denied("own", host) if host in self._own_names else None
