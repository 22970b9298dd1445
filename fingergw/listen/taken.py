"""Sockets that cannot be bound beside each other, as one takes what the other needs."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fingergw.core.addresses import Address, parse_address
from fingergw.listen.endpoint_strings import split, unquote

_ANY: Final = IPv4Address(0)
_ALL: Final[tuple[Address, ...]] = (_ANY, IPv6Address(0))


def taken_twice(sockets: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Find sockets that an earlier one leaves no room for.

    :param sockets: the ``socket`` of each :class:`fingergw.listen.endpoints.Server`.
    :return: the position of each, that of the earlier one, and what both need.
    """
    found: dict[str, dict[Address, int]] = defaultdict(dict)
    for place, description in enumerate(sockets):
        kind, *arguments = split(description)
        if kind == "tcp":
            port, address = bound_to(description)
            need = f"port {port}"
            if port == "0":  # any that is free
                continue
        elif kind == "unix":
            need, address = f"path {os.path.normpath(unquote(arguments[0]))}", _ANY
        else:
            continue
        earlier = found[need]
        # an address is taken by itself or by all addresses: there may be thousands of others with this port
        others = earlier if address.is_unspecified else [each for each in (address, *_ALL) if each in earlier]
        first = min((earlier[each] for each in others if overlap(each, address)), default=None)
        if first is not None:
            yield place, first, need
        earlier.setdefault(address, place)


def bound_to(socket_string: str) -> tuple[str, Address]:
    """Return the port and the address that a ``tcp:`` socket is bound to; a unix socket has no port, but a path."""
    _, port, *arguments = split(socket_string)
    named = dict(each.split("=", 1) for each in arguments)
    return port, parse_address(unquote(named.get("interface", ""))) or _ANY


def overlap(one: Address, other: Address) -> bool:
    """Tell whether two sockets with the same port, each bound to an address, take it from each other."""
    for wide, narrow in ((one, other), (other, one)):
        if wide.is_unspecified and (wide.version == narrow.version or (wide.version == 6 and _takes_both_families())):
            return True
    return one == other


def _takes_both_families() -> bool:
    """Tell whether a socket for all IPv6 addresses of this machine takes IPv4, too."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False
