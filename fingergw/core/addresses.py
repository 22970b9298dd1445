"""Client addresses and the networks they are in."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from socket import inet_aton
from typing import Final, TypeAlias

from attrs import define

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

# IPv6 addresses that end with an IPv4 address, besides mapped ones: compatible (RFC 4291 §2.5.5.1), translated (RFC
# 2765 §2.1, RFC 6052 §2.1)
_ENDS_WITH_IPV4 = tuple(IPv6Network(prefix) for prefix in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
# A network's own translation prefixes (RFC 8215). The IPv4 address may be at several places after the prefix; bits
# 64 to 71 are skipped (RFC 6052 §2.2).
_OWN_TRANSLATION = IPv6Network("64:ff9b:1::/48")
_ISATAP = {0x0000_5EFE, 0x0200_5EFE}
HOST_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
"""A part of a host's name. Names of containers and of DNS services have underscores (RFC 2181 §11)."""
_NAME = re.compile(rf"(?:{HOST_LABEL}\.)*(?P<last>{HOST_LABEL})\.?")
_MAX_NAME = 254  # with a final dot


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Parse an address, without its zone. One mapped into IPv6 becomes IPv4. Return None if the text is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_host(text: str) -> bool:
    """Tell whether a text in ASCII can name a host that there is: it is an address without a zone, or a name."""
    if "%" not in text and parse_address(text) is not None:
        return True
    name = _NAME.fullmatch(text)
    if name is None or len(text) > _MAX_NAME:
        return False
    if not name["last"].isdigit():
        return True
    try:  # no name ends with a number (RFC 1123 §2.1), but an address may have fewer parts, or others
        inet_aton(text)
    except OSError:
        return False
    return True


def ascii_host(text: str) -> str:
    """Return a host to connect to in ASCII: other letters in their xn-- form (RFC 5890). An address may have a zone.

    :raises ValueError: it can name no host; the message says so.
    """
    try:
        name = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not is_host(name.partition("%")[0]):
        raise ValueError(f'"{text}" cannot be the name of a host')
    return name


@lru_cache(maxsize=1024)
def destinations(text: str) -> frozenset[Address]:
    """Return where packets to an address may go: there, and to the IPv4 addresses that are embedded in an IPv6 address.

    :param text: the address, with or without brackets.
    :return: empty if the text is no address.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    address = parse_address(text)
    if address is None:
        return frozenset()
    if isinstance(address, IPv4Address):
        return frozenset({address})
    return frozenset({address, *map(IPv4Address, _embedded(address))})


def _embedded(address: IPv6Address) -> set[int]:
    """Return the IPv4 addresses that may be embedded in an IPv6 address, as numbers."""
    number = int(address)
    last = number & 0xFFFF_FFFF
    found = set()
    if any(address in network for network in _ENDS_WITH_IPV4) or (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        found.add(last)
    if address.sixtofour is not None:  # RFC 3056 §2
        found.add(int(address.sixtofour))
    if address.teredo is not None:  # RFC 4380 §4: a client behind a server
        found.update(map(int, address.teredo))
    if address in _OWN_TRANSLATION:
        rest = (number >> 64 & 0xFFFF) << 56 | number & (1 << 56) - 1
        candidates = {last, *(rest >> places & 0xFFFF_FFFF for places in (40, 32, 24))}
        found |= candidates - {0} or {0}  # at the other prefix lengths mostly zeros are read
    return found


def is_here(addresses: Iterable[Address]) -> bool:
    """Tell whether any of the addresses means the local machine: a loopback or the unspecified address."""
    return any(address.is_loopback or address.is_unspecified for address in addresses)


@lru_cache(maxsize=1024)
def client_of(address: str) -> str | None:
    """Return what counts as one client: an IPv4 address, or the /64 that an IPv6 address is in.

    :param address: as text; an IPv4 address mapped into IPv6 counts as IPv4.
    :return: None if it is no address, as for a client on a unix socket.
    """
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return None if parsed is None else str(parsed)


@lru_cache(maxsize=1024)
def anonymised(client: str) -> str:
    """Return the first address of the network that a client is in: an IPv4 /24, or an IPv6 /48.

    :param client: an address, or a network as :func:`client_of` returns it. Any other text is returned as it is.
    """
    address = parse_address(client.partition("/")[0])
    if address is None:
        return client
    length = 24 if isinstance(address, IPv4Address) else 48
    if isinstance(address, IPv6Address) and address.sixtofour is not None:
        length = 40  # 16 bits, and the /24 of an IPv4 address (RFC 3056 §2)
    return str(ip_network((address, length), strict=False).network_address)


def without_client(text: str, client: str) -> str:
    """Return a text with a client's network, as :func:`anonymised` returns it, wherever it has the client's address."""
    network = anonymised(client)
    return text if network == client else re.sub(rf"(?<![\w.]){re.escape(client)}(?!\w|\.\w)", network, text)


@define(init=False, eq=False, repr=False)
class Networks:
    """A set of networks. Looking up a client is a binary search, so thousands of networks are no slower than a few.

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

        :param client: its address as text; an IPv4 address mapped into IPv6 counts as IPv4. Anything that is no
            address, such as a client on a unix socket, is in no network.
        """
        address = parse_address(client)
        if address is None:
            return False
        number = int(address)
        place = bisect_right(self._starts[address.version], number) - 1
        return place >= 0 and number <= self._ends[address.version][place]

    def covers(self, network: Network) -> bool:
        """Tell whether all addresses of a network are in these networks."""
        place = bisect_right(self._starts[network.version], int(network.network_address)) - 1
        # merged as they are, a network that several of them make up is one of them
        return place >= 0 and int(network.broadcast_address) <= self._ends[network.version][place]

    def overlaps(self, network: Network) -> bool:
        """Tell whether any address of a network is in these networks."""
        place = bisect_right(self._starts[network.version], int(network.broadcast_address)) - 1
        return place >= 0 and int(network.network_address) <= self._ends[network.version][place]
