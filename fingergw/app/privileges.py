"""The user, group and root that the process changes to, and the file descriptors that it needs."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from fingergw.config import tables
from fingergw.core.errors import PrivilegeError
from fingergw.core.rules import Limits
from fingergw.core.setting_types import FilePath
from fingergw.core.settings import changed
from fingergw.listen.binding import BoundService
from fingergw.listen.reachability import is_reachable
from fingergw.net.identity import Identity, number_of

_log = Logger()
_OTHER_DESCRIPTORS = 192  # [admin]'s, the event loop's, logs, stores, listening sockets, pipes of programs


def becoming(process: tables.Process, options: Mapping[str, Any]) -> tables.Process:
    """Return ``[process]`` with the user, group and chroot of twistd's options, which take precedence.

    :param options: twistd's ``uid``, ``gid`` and ``chroot``, each None unless it was given.
    """
    user, group, chroot = (options.get(key) for key in ("uid", "gid", "chroot"))
    return changed(
        process,
        user=process.user if user is None else str(user),
        group=process.group if group is None else str(group),
        chroot=process.chroot if chroot is None else FilePath(Path(chroot).absolute()),
    )


def identity_of(process: tables.Process) -> Identity:
    """Return the identity that the process is to assume.

    :raises PrivilegeError: it cannot; the message says why.
    """
    try:
        uid = None if process.user is None else number_of("user", process.user)
        gid = None if process.group is None else number_of("group", process.group)
    except LookupError as error:
        raise PrivilegeError(f"[process]: {error}") from None
    if os.geteuid() != 0:
        if uid not in (None, os.getuid()) or gid not in (None, os.getgid()) or process.chroot is not None:
            raise PrivilegeError(
                "changing the user, the group or the root needs root: start it as root, "
                "or remove user, group and chroot from [process]"
            )
        return Identity()
    if uid is not None and gid is None:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            raise PrivilegeError(f"user {uid} is not in passwd, so name its group too: [process] group") from None
    return Identity.of(uid, gid)


def refuse_root(bound: Collection[BoundService], user: str | None) -> None:
    """Refuse to serve other hosts as root, and warn when only this host is served.

    :param bound: the sockets that are about to be served.
    :param user: the configured user; None if there is none.
    :raises PrivilegeError: the process is root, and another host could reach it.
    """
    if os.geteuid() != 0 or user in ("root", "0"):
        return
    reachable = [each.socket.name for each in bound if each.port is not None and is_reachable(each.port.getHost())]
    advice = 'name an ordinary user in [process] user, or "root" to allow it'
    if user is not None:
        advice = "start it by fingergw, or give the Application the uid and gid to change to"
    if reachable:
        raise PrivilegeError(f"running as root, and other hosts can reach the {', '.join(reachable)}: {advice}")
    if bound:
        _log.warn("running as root; {advice}", advice=advice)


def provide_descriptors(limits: Iterable[Limits]) -> None:
    """Raise the limit on file descriptors to the number that listeners may need, as far as possible."""
    # each connection has one, and often another while it waits for a backend
    needed = _OTHER_DESCRIPTORS + sum(each.max_connections + each.max_waiting for each in limits)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    provided = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (provided, hard))
    except (OSError, ValueError):  # a sandbox, or a kernel's own limit
        provided = soft
    if provided < needed:
        _log.warn(
            "{needed} file descriptors may be needed, but only {provided} are allowed: raise the limit (ulimit -n, or "
            "LimitNOFILE= under systemd), or lower max_connections and max_waiting",
            needed=needed,
            provided=provided,
        )
