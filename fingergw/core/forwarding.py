"""Queries with a host chain, and the hosts that they may be forwarded to (RFC 1288 §2.4, §3.2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from attrs import field, frozen

from fingergw.core.addresses import Address, Networks, destinations, is_here, parse_address
from fingergw.core.query import Query

T = TypeVar("T")

_HOST_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*(?P<last>[a-z0-9_-]+)")
# many programs use inet_aton(3), which accepts 127.1, 0x7f000001 and 2130706433 as addresses
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# localhost (RFC 6761 §6.3), and other names of the loopback in hosts files
_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost4", "localhost6", "localdomain", "localdomain4", "localdomain6"}
    | {"ip6-localhost", "ip6-loopback", "loopback"}
)


def normal_host(host: str) -> str:
    """Return a host in the form that is compared: in lower case, without the final dot of an absolute name."""
    return host.lower().removesuffix(".")


def local_form(host: str) -> str:
    """Return a host in the form in which local names are compared: an address has one spelling, without brackets."""
    name = normal_host(host)
    address = None if "%" in name else parse_address(name[1:-1] if name[:1] + name[-1:] == "[]" else name)
    return name if address is None else str(address)


@frozen
class Denied:
    """Why a query is not forwarded.

    :param why: ``client``: not for this client; ``hops``: too many hosts, or none; ``target``: the last host is not
        among the targets; ``own``, ``loopback``, ``not plain``: a host is this gateway, a loopback, or neither a plain
        name nor an address.
    :param host: the host in question; empty for ``client`` and ``hops``.
    """

    why: Literal["client", "hops", "target", "own", "loopback", "not plain"]
    host: str = ""


@frozen(eq=False, repr=False)
class Forwarding(Generic[T]):
    """The hosts that queries may be forwarded to, and no others.

    :param targets: each host as clients name it, and where a query for it goes.
    :param own_names: names and addresses of this gateway. A query with one of them anywhere is not forwarded.
    :param max_hops: the most hosts that a query may have.
    :param clients: the clients whose queries are forwarded; None for all.
    :param local_names: names and addresses of this gateway whose queries it answers itself, as :func:`local_form`
        returns them.
    """

    targets: Mapping[str, T]
    own_names: frozenset[str]
    max_hops: int
    clients: Networks | None = None
    local_names: frozenset[str] = frozenset()
    _targets: dict[str, T] = field(init=False)
    _own_names: frozenset[str] = field(init=False)
    _own_addresses: frozenset[Address] = field(init=False)

    @_targets.default
    def _find_targets(self) -> dict[str, T]:
        return {normal_host(host): target for host, target in self.targets.items()}

    @_own_names.default
    def _find_own_names(self) -> frozenset[str]:
        return frozenset(normal_host(name) for name in self.own_names)

    @_own_addresses.default
    def _find_own_addresses(self) -> frozenset[Address]:
        return frozenset[Address]().union(*(destinations(name) for name in self._own_names))

    def without_local_names(self, query: Query) -> Query:
        """Return a query without its last hosts as far as they are local names."""
        kept = len(query.hosts)
        while kept and local_form(query.hosts[kept - 1]) in self.local_names:
            kept -= 1
        return query if kept == len(query.hosts) else query._replace(hosts=query.hosts[:kept])

    def find(self, query: Query, own_address: str) -> T | None:
        """Return where a query is forwarded to.

        :param own_address: the address that the client connected to; empty or any other text if there is none.
        :return: the target of the last host; None if the query is not forwarded. A client is not told why.
        """
        return None if self.denied(query, own_address) else self._targets[normal_host(query.hosts[-1])]

    def denied(self, query: Query, own_address: str) -> Denied | None:
        """Tell why a query is not forwarded; None if it is.

        :param own_address: as for :meth:`find`.
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
        """Tell why a host is refused: it is, or could be, this machine or gateway. Return None for any other host."""
        if "%" in host:  # a zone means nothing on another machine
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
