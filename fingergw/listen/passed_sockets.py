"""Sockets that systemd passed to this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString

from fingergw.core.errors import FingergwError, ListenError

_STARTED_AS = os.getpid()  # sockets are passed to this process; a daemon gets another number later


def take_over(endpoint: AdoptedStreamServerEndpoint) -> None:
    """Check a socket that was passed to this process, and give the endpoint a duplicate.

    Twisted closes the socket that it is given once it listens. The one that was passed must stay open for a start after
    one that failed.

    :raises ListenError: it is closed, or of another kind.
    """
    try:
        with socket.socket(fileno=os.dup(endpoint.fileno)) as passed:
            if passed.type != socket.SOCK_STREAM:
                raise ListenError(
                    "systemd passed a socket that is not a stream socket; write ListenStream= in its .socket unit"
                )
            name = passed.getsockname()
            if passed.family == socket.AF_UNIX and isinstance(name, str) and name:  # an abstract one is bytes
                raise ListenError(
                    "systemd passed a socket with a path; write unix:PATH, so that the gateway creates it"
                )
            endpoint.fileno = passed.detach()
    except OSError as error:
        raise ListenError(
            f"the socket that systemd passed cannot be used: {error.strerror}; restart its .socket unit"
        ) from None


def refuse_untaken(socket_strings: Iterable[str], reactor: Any) -> None:
    """Refuse to leave a socket that was passed without a listener: its clients would wait for ever.

    :param socket_strings: the endpoint strings of all sockets that are to be bound.
    :raises FingergwError: there is one; the message has its name.
    """
    passed = dict[int, str]()
    named = os.environ.get("LISTEN_FDNAMES", "")  # Twisted has as many names as sockets, or none at all
    for index, name in enumerate(named.split(":") if named else ()):  # asking it for one loads all of its plug-ins
        number = _descriptor(f"systemd:domain=INET:index={index}", reactor)
        if number is None:
            break
        passed[number] = name
    if not passed and _are_unnamed():
        raise FingergwError(
            "sockets were passed without a name for each in LISTEN_FDNAMES, so that no listener can have one, and "
            "their clients would wait for ever: name them, as systemd-socket-activate does with --fdname=NAME"
        )
    taken = {_descriptor(each, reactor) for each in socket_strings if each.startswith("systemd:")}
    for number, name in passed.items():
        if number in taken:
            continue
        if any(passed[other] == name for other in taken if other is not None):
            raise FingergwError(
                f'systemd passed two sockets by the name "{name}", and a listener gets only one of them: put each '
                "ListenStream= into a .socket file of its own, with its own FileDescriptorName="
            )
        raise FingergwError(
            f'systemd passed the socket "{name}", and no listener uses it, so that its clients would wait for ever: '
            f'add a listener with endpoint = "systemd:domain=INET6:name={name}", or disable its .socket unit and '
            "restart the gateway"
        )


def _are_unnamed() -> bool:
    """Tell whether sockets were passed to this process, if Twisted has found none, as each needs a name."""
    try:  # Twisted has removed it from os.environ
        begun_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"LISTEN_PID=%d" % _STARTED_AS in begun_with and b"LISTEN_FDS=0" not in begun_with


def _descriptor(socket_string: str, reactor: Any) -> int | None:
    """Return the number of the descriptor that was passed for a socket; None if there is none."""
    try:
        endpoint = serverFromString(reactor, socket_string)
    except LookupError:
        return None
    return int(endpoint.fileno) if isinstance(endpoint, AdoptedStreamServerEndpoint) else None
