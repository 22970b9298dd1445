"""What fails after the process has changed its root and its user."""

from __future__ import annotations

import errno
import json
import os
import shlex
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from twisted.python.util import gidFromString, uidFromString

from fingergw.app.parts.machine import Machine
from fingergw.app.privileges import identity_of
from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.core.errors import PrivilegeError
from fingergw.core.settings import KeyPath
from fingergw.net import root
from fingergw.net.files import PERMISSION_ADVICE
from fingergw.net.identity import Identity
from fingergw.net.workers import limited

_TRY_SECONDS = 5.0  # of processor time; opening a file takes next to none
_NO_LINK = "put the file itself there, as no link can lead out of a chroot"


def check_run_as(machine: Machine, process: tables.Process, run_as: tables.Process) -> None:
    """Check the users, groups and root that a process changes to; what is wrong is added to the problems.

    :param process: ``[process]``.
    :param run_as: what the process does change to.
    """
    root.announce_chroot(run_as.chroot)
    if run_as.chroot is not None and (why_not := _unfit(run_as.chroot)):
        machine.problems.append(Problem(("process", "chroot"), why_not))
    for kind, name, lookup in (("user", process.user, uidFromString), ("group", process.group, gidFromString)):
        try:
            if name is not None:
                lookup(name)  # type: ignore[no-untyped-call]
        except KeyError:
            why = f'no {kind} "{name}" on this machine; create it, or name another'
            machine.problems.append(Problem(("process", kind), why))


def _unfit(chroot: Path) -> str | None:
    """Return why a folder cannot be the root; None if it can, or this user cannot see."""
    null = chroot / "dev/null"
    try:
        if stat.S_ISCHR(null.stat().st_mode):
            return None
    except PermissionError:
        return None
    except OSError:
        if not os.path.isdir(chroot):  # noqa: PTH112  # pathlib's raises for a name that is too long
            return f"no folder {chroot}; make it: mkdir -p {shlex.quote(str(chroot))}"
    make = f"mkdir -p {shlex.quote(str(null.parent))} && mknod -m 666 {shlex.quote(str(null))} c 1 3"
    return f"the folder has no /dev/null, which listeners and programs need; run: {make}"


def unreadable(
    files: Iterable[tuple[Path, KeyPath]], source: model.Source | None, run_as: tables.Process
) -> list[Problem]:
    """Return the files that cannot be read again after the change of root and user; for a user, root alone can tell.

    :param files: the files that the configuration names, each with the key that names it.
    :param source: the configuration's own file, which a reload reads.
    :param run_as: what the process changes to.
    """
    chroot, found = run_as.chroot, list[Problem]()
    if source is not None:
        files = [*files, (source.path.absolute(), ("process", "user" if chroot is None else "chroot"))]
    within_reach: list[tuple[Path, KeyPath]] = []
    for path, where in dict.fromkeys(files):
        if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises PermissionError
            continue  # that is a mistake, and no warning
        if root.in_chroot(path) is None:
            found.append(Problem(where, _again(path, f"{root.outside_message()}; put it below that")))
        else:
            within_reach.append((path, where))
    try:
        identity = identity_of(run_as)
    except PrivilegeError:  # reported by itself
        return found
    if os.geteuid() != 0 or (identity == Identity() and chroot is None):
        return found
    user = f'user "{run_as.user}"' if run_as.user else "in the chroot"
    for (path, where), number in zip(within_reach, _errors(within_reach, identity, chroot), strict=False):
        if number:
            advice = _NO_LINK if number == errno.ENOENT else PERMISSION_ADVICE
            found.append(Problem(where, _again(path, f"{user}: {os.strerror(number)}; {advice}")))
    return found


def _again(path: Path, why: str) -> str:
    return f"{path} cannot be read again when it changes, or at a reload: {why}"


def _errors(files: Iterable[tuple[Path, KeyPath]], identity: Identity, chroot: Path | None) -> list[int]:
    """Return for each file the error number of opening it as another user in another root; 0 if it can be opened.

    A process that has changed to these opens them, so that links, folders and access control lists count.

    :return: empty if no process can be started, or it may not change: then nobody can tell.
    """
    names = [str(root.in_chroot(path)) for path, _ in files]

    def attempt() -> bytes:
        if chroot is not None:
            os.chroot(chroot)
        identity.assume()
        return json.dumps(list(map(_error, names))).encode()

    with suppress(OSError, limited.ExceededError):
        return list(json.loads(limited.run(attempt, _TRY_SECONDS)))
    return []


def _error(name: str) -> int:
    try:
        os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return error.errno or 0
    return 0
