"""Client addresses and the networks they are in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


@lru_cache(maxsize=1024)
def _parse(client: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in(client: str, networks: Sequence[Network]) -> bool:
    """Tell whether a client is in one of the networks.

    :param client: its address as text; an IPv4 address mapped into IPv6 counts as IPv4. What is no
        address, as a client on a unix socket, is in no network.
    """
    address = _parse(client)
    return address is not None and any(address in network for network in networks)
