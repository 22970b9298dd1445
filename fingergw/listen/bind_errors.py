"""Why a socket cannot be bound, and what to do about it."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable
from pathlib import Path
from socket import gaierror

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from fingergw.core.addresses import parse_address
from fingergw.core.errors import ListenError
from fingergw.listen.endpoint_strings import split, unquote
from fingergw.listen.taken import bound_to, overlap
from fingergw.net.root import outside


def reason(error: BaseException | None, socket_string: str, others: Iterable[tuple[str, IAddress]]) -> str:
    """Return why a socket cannot be bound, and what to do about it.

    :param socket_string: the endpoint string of the socket.
    :param others: the names and addresses of the other sockets that this process has bound.
    """
    error = getattr(error, "socketError", error)  # of a CannotListenError
    why, number = getattr(error, "strerror", None) or str(error) or type(error).__name__, getattr(error, "errno", None)
    kind = split(socket_string)[0]
    if kind == "unix":
        return _of_a_path(error, why, number, socket_string, others)
    if isinstance(error, gaierror):
        return f"{why}; interface= takes an IP address of this machine"
    if number == errno.EADDRINUSE and kind == "tcp" and (conflict := _conflict(socket_string, others)):
        return f"{why}: {conflict}"
    advice = {
        errno.EADDRINUSE: "stop the process that has it (ss -lntp lists them), or choose another port",
        errno.EADDRNOTAVAIL: "interface= takes an IP address of this machine (ip address lists them)",
        errno.EACCES: "start as root for a port below 1024, or let systemd pass the socket",
    }
    return f"{why}; {advice[number]}" if number in advice else why


def _of_a_path(
    error: BaseException | None,
    why: str,
    number: int | None,
    socket_string: str,
    others: Iterable[tuple[str, IAddress]],
) -> str:
    bound_path = unquote(split(socket_string)[1])
    if isinstance(error, ListenError):
        names = [name for name, address in others if address == UNIXAddress(bound_path)]
        return f"{names[0]} has this path; name another for one of the two" if names else why
    left: str | None = getattr(error, "filename", None)
    if number == errno.EPERM and left is not None:  # in a folder such as /tmp, where it is another user's
        return f"{why}; have its owner or root remove {outside(Path(left))}, or name another path"
    folder = shlex.quote(str(outside(Path(bound_path)).parent))
    permit = f"let the user that starts the gateway write to {folder}, or name another path"
    advice = {
        errno.EACCES: permit,
        errno.EPERM: permit,
        errno.EROFS: "name a path that the gateway may write to",
        errno.ENOLCK: "name a path on a file system with locks, or add lockfile=0",
        errno.ENOENT: f"make its folder: mkdir -p {folder}",
        errno.EPROTOTYPE: "there is a socket of another kind; name another path",
    }
    return f"{why}; {advice[number]}" if number in advice else why


def _conflict(socket_string: str, others: Iterable[tuple[str, IAddress]]) -> str | None:
    """Return which of the process's own sockets has a port already, and what to write; None if none has."""
    port, interface = bound_to(socket_string)
    for name, address in others:
        theirs = parse_address(getattr(address, "host", ""))
        if theirs is None or str(getattr(address, "port", "")) != port or not overlap(interface, theirs):
            continue
        if interface.version == theirs.version:
            return f"{name} has this port; choose another for one of the two"
        ours = "this one" if interface.version == 4 else name
        advice = f"remove {ours}, or have tcp6: name an IPv6 address in interface="
        return f"{name} has this port, and tcp6: includes IPv4; {advice}"
    return None
