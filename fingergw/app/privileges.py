"""What the process may do, and needs to be able to."""

from __future__ import annotations

import os
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
from fingergw.listen.endpoints import is_reachable

_log = Logger()
_OTHER_DESCRIPTORS = 192  # [admin]'s, the event loop's, logs, stores, listening sockets, pipes of programs


def becoming(process: tables.Process, options: Mapping[str, Any]) -> tables.Process:
    """Return what the process becomes before it serves.

    :param process: what the configuration says of it.
    :param options: twistd's ``uid``, ``gid`` and ``chroot``, each None unless it was given; they win.
    """
    user, group, chroot = (options.get(key) for key in ("uid", "gid", "chroot"))
    return changed(
        process,
        user=process.user if user is None else str(user),
        group=process.group if group is None else str(group),
        chroot=process.chroot if chroot is None else FilePath(Path(chroot).absolute()),
    )


def refuse_root(bound: Collection[BoundService[Any]], user: str | None) -> None:
    """Refuse to serve other hosts as root, and warn where only this one is served.

    :param bound: what is about to be served.
    :param user: the user that the configuration wants the process to be; None if it does not say.
    :raises PrivilegeError: the process is root, and another host could reach it.
    """
    if os.geteuid() != 0 or user in ("root", "0"):
        return
    reachable = [each.plan.name for each in bound if each.port is not None and is_reachable(each.port.getHost())]
    advice = 'name an ordinary user in [process] user, or "root" to insist'
    if user is not None:
        advice = "start it by fingergw, or give the Application the uid and gid to change to"
    if reachable:
        raise PrivilegeError(f"running as root, and other hosts can reach the {', '.join(reachable)}: {advice}")
    if bound:
        _log.warn("running as root; {advice}", advice=advice)


def provide_descriptors(limits: Iterable[Limits]) -> None:
    """Raise the limit on file descriptors to what listeners may take, as far as it can be raised."""
    # a connection has one, and while it waits for a backend often another
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
            "{needed} file descriptors may be needed, and there may be {provided}: raise the limit (ulimit -n, or "
            "LimitNOFILE= under systemd), or lower max_connections and max_waiting",
            needed=needed,
            provided=provided,
        )
