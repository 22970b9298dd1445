"""Client addresses and the networks they are in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address
from typing import TypeAlias

from attrs import define

Network: TypeAlias = IPv4Network | IPv6Network


@lru_cache(maxsize=1024)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a text is, without its zone, one mapped into IPv6 as IPv4; None for no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=1024)
def client_of(address: str) -> str | None:
    """Return what counts as one client: an IPv4 address, or the /64 that an IPv6 address is in.

    :param address: as text; an IPv4 address mapped into IPv6 counts as IPv4.
    :return: None for what is no address, as a client on a unix socket.
    """
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return None if parsed is None else str(parsed)


@define(init=False, eq=False)
class Networks:
    """Some networks; to look for a client in thousands takes no longer than in a few.

    :param networks: of either family, in any order; they may overlap.
    """

    _starts: dict[int, list[int]]
    _ends: dict[int, list[int]]

    def __init__(self, networks: Iterable[Network]) -> None:
        self._starts, self._ends = {4: [], 6: []}, {4: [], 6: []}
        networks = list(networks)
        merged: list[Network] = [
            *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
            *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
        ]
        for network in merged:  # in order
            self._starts[network.version].append(int(network.network_address))
            self._ends[network.version].append(int(network.broadcast_address))

    def __contains__(self, client: str) -> bool:
        """Tell whether a client is in one of them.

        :param client: its address as text; an IPv4 address mapped into IPv6 counts as IPv4. What is no
            address, as a client on a unix socket, is in no network.
        """
        address = parse_address(client)
        if address is None:
            return False
        number = int(address)
        place = bisect_right(self._starts[address.version], number) - 1
        return place >= 0 and number <= self._ends[address.version][place]
