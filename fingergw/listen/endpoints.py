"""Endpoints from their strings, checked; and whom they lead to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    serverFromString,
    wrapServerTLS,
)
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint

from fingergw.core.addresses import Address, destinations, is_here, parse_address
from fingergw.core.errors import ListenError
from fingergw.listen import certificates
from fingergw.listen.certificates import Wrap
from fingergw.listen.endpoint_strings import (
    BACKLOG,
    EXAMPLES,
    anchor,
    in_later_root,
    is_proxied,
    on_loopback,
    reason,
    server,
    socket_of,
    split,
)

__all__ = [
    "anchor",
    "check",
    "files",
    "in_later_root",
    "is_proxied",
    "is_reachable",
    "leads_to",
    "on_loopback",
    "parse",
    "secured",
    "socket_of",
]

# Parsing these says something about the machine, not the text: sockets passed by systemd; Tor, which is launched.
_NOT_PARSED_BY_CHECK = ("systemd", "onion")
_QUEUEING = ("tcp", "unix")
_LOOPBACKS: dict[int, Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
# no machine's: RFC 1112 §4, RFC 6666
_NOBODYS: dict[int, Address] = {4: IPv4Address("240.0.0.1"), 6: IPv6Address("100::1")}


def secured(description: str, reactor: Any) -> Wrap:
    """Return what puts TLS before a factory's connections, where a server's endpoint string asks for that.

    :raises ListenError: a key or certificate is not what it should be; the message says which and why.
    """
    files = server(description).files
    return (lambda factory: factory) if files is None else certificates.secured(files, reactor)


def files(description: str) -> Iterable[Path]:
    """Return the files that TLS needs at a server's endpoint, as its string has them."""
    found = server(description).files
    return () if found is None else found.files()


def parse(description: str, reactor: Any) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes; for a proxied one that which the proxy connects to.

    :raises ListenError: it describes none; the message says why.
    """
    parts = server(description)
    kind, *arguments = split(parts.socket)
    longer = kind in _QUEUEING and not any(argument.startswith("backlog=") for argument in arguments)
    try:
        endpoint: IStreamServerEndpoint = serverFromString(
            reactor, f"{parts.socket}:backlog={BACKLOG}" if longer else parts.socket
        )
    except OSError as error:
        raise ListenError(f"{error.filename or kind}: {error.strerror or error}") from None
    except LookupError as error:
        if kind == "systemd":
            name = f"named {error}" if isinstance(error, KeyError) else "of that index"
            raise ListenError(f"systemd passed no socket {name}; start the .socket unit of that name") from None
        raise ListenError(f"unknown argument or value {error}") from None
    except Exception as error:  # plug-ins raise what they like
        if kind == "systemd" and isinstance(error, AttributeError):
            raise ListenError("expected domain=INET6, INET or UNIX") from None
        raise ListenError(reason(error, kind, EXAMPLES)) from None
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        _take_over(endpoint)
    return endpoint if parts.files is None else wrapServerTLS(certificates.creator(parts.files), endpoint, reactor)


def _take_over(endpoint: AdoptedStreamServerEndpoint) -> None:
    """Look at a socket that was passed to this process, and give the endpoint a duplicate.

    Twisted closes what it is given once it listens. What was passed stays, for a listener that goes and comes back.

    :raises ListenError: it is not there, or of another kind.
    """
    try:
        with socket.socket(fileno=os.dup(endpoint.fileno)) as passed:
            if passed.type != socket.SOCK_STREAM:
                raise ListenError("systemd passed a socket that is no stream; write ListenStream= in its .socket unit")
            name = passed.getsockname()
            if passed.family == socket.AF_UNIX and isinstance(name, str) and name:  # an abstract one is bytes
                raise ListenError("systemd passed a socket with a path; let the gateway make it: unix:PATH")
            endpoint.fileno = passed.detach()
    except OSError as error:
        raise ListenError(f"the socket that systemd passed cannot be used: {error.strerror}; restart it") from None


def check(description: str, reactor: Any) -> None:
    """Look whether a string describes an endpoint, without binding or launching anything.

    :raises ListenError: it describes none; the message says why.
    """
    if split(socket_of(description))[0] not in _NOT_PARSED_BY_CHECK:
        parse(description, reactor)


def leads_to(peer: IAddress, own: IAddress, bound: IAddress) -> bool:
    """Tell whether a connection has one of this process's own listeners at its other end.

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
    return _can_bind(address) and not _can_bind(_NOBODYS[address.version])


def _can_bind(address: Address) -> bool:
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
