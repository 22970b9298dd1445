"""Client addresses and the networks they are in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

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


def is_in(client: str, networks: Sequence[Network]) -> bool:
    """Tell whether a client is in one of the networks.

    :param client: its address as text; an IPv4 address mapped into IPv6 counts as IPv4. What is no
        address, as a client on a unix socket, is in no network.
    """
    address = parse_address(client)
    return address is not None and any(address in network for network in networks)
