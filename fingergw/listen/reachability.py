"""What only the machine itself can tell about addresses; what an address says by its form is in core/addresses."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from fingergw.core.addresses import Address, destinations, is_here, parse_address

_LOOPBACKS: dict[int, Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
_UNASSIGNABLE: dict[int, Address] = {4: IPv4Address("240.0.0.1"), 6: IPv6Address("100::1")}  # RFC 1112 §4, RFC 6666


def leads_to(peer: IAddress, own: IAddress, bound: IAddress) -> bool:
    """Tell whether a connection leads to the listener that is bound to an address.

    :param peer: the address that it was made to.
    :param own: that of this end.
    :param bound: what the listener is bound to.
    """
    if isinstance(bound, UNIXAddress) or isinstance(peer, UNIXAddress):
        return peer == bound
    if getattr(peer, "port", None) != getattr(bound, "port", None):
        return False
    peers, bound_host = destinations(getattr(peer, "host", "")), parse_address(getattr(bound, "host", ""))
    # the kernel takes what is no address in particular for the loopback
    peers |= {_LOOPBACKS[address.version] for address in peers if address.is_unspecified}
    if bound_host is None or not bound_host.is_unspecified:
        return bound_host in peers
    # it is bound to all that this machine has
    return is_here(peers) or parse_address(getattr(own, "host", "")) in peers or any(map(_is_own, peers))


def _is_own(address: Address) -> bool:
    """Tell whether this machine has an address; in doubt it has not."""
    # where a socket can be bound to any address (net.ipv4.ip_nonlocal_bind) that tells nothing
    return can_bind(address) and not can_bind(_UNASSIGNABLE[address.version])


def can_bind(address: Address) -> bool:
    """Tell whether a socket can be bound to an address, as only those of this machine can."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def is_reachable(address: IAddress) -> bool:
    """Tell whether another host could reach a bound address; in doubt it could."""
    if isinstance(address, UNIXAddress):
        return False
    ip = parse_address(getattr(address, "host", ""))
    return ip is None or not ip.is_loopback
