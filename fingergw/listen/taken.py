"""Sockets that cannot be bound beside each other, as one takes what the other needs."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence

from fingergw.core.addresses import parse_address
from fingergw.listen.endpoint_strings import split, unquote


def taken_twice(sockets: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Find sockets that an earlier one leaves no room for.

    :param sockets: the ``socket`` of each :class:`fingergw.listen.endpoints.Server`.
    :return: the position of each, that of the earlier one, and what both need.
    """
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for place, description in enumerate(sockets):
        kind, *arguments = split(description)
        if kind == "tcp":
            named = [each.removeprefix("interface=") for each in arguments if each.startswith("interface=")]
            need, interface = ("port", arguments[0]), unquote(named[0]) if named else "0.0.0.0"  # noqa: S104
        elif kind == "unix":
            need, interface = ("path", os.path.normpath(unquote(arguments[0]))), ""
        else:
            continue
        if need == ("port", "0"):  # any that is free
            continue
        for earlier, other in found[need]:
            if kind == "unix" or _overlap(other, interface):
                yield place, earlier, " ".join(need)
                break
        found[need].append((place, interface))


def _overlap(one: str, other: str) -> bool:
    """Tell whether two sockets with the same port, each at an interface, take it from each other."""
    addresses = [parse_address(each) for each in (one, other)]
    if one == other or (addresses[0] is not None and addresses[0] == addresses[1]):
        return True
    for wide, narrow in (addresses, addresses[::-1]):
        if wide is None or not wide.is_unspecified:
            continue
        if narrow is None:
            return True
        if wide.version == narrow.version or (wide.version == 6 and _takes_both_families()):
            return True
    return False


def _takes_both_families() -> bool:
    """Tell whether a socket for all IPv6 addresses of this machine takes IPv4, too."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False
