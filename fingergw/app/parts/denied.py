"""What the process cannot read, run or write after it has changed its root and its user."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

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


class _Use(NamedTuple):
    """What the process will do with a file.

    :param path: the file, as outside of a chroot.
    :param where: the key that names it.
    :param kind: "read" it again, "run" it, or write to it: a "log", without which it does not start, or a "store",
        without which it does. It is made if it is not there.
    """

    path: Path
    where: KeyPath
    kind: Literal["read", "run", "log", "store"]


_LATER = {
    "read": "cannot be read again when it changes, or at a reload",
    "run": "cannot be run",
    "log": "cannot be written",
    "store": "cannot be written, and answers are kept in memory alone",
}
_ADVICE = {
    "read": PERMISSION_ADVICE,
    "run": "see to it that this user can execute it, and enter its folder",
    "log": "let this user write the file, or make files in its folder",
    "store": "let this user write the file, and make files in its folder",
}


def denied(machine: Machine, source: model.Source | None, run_as: tables.Process) -> list[Problem]:
    """Return what cannot be read, run or written after the change of root and user; for a user, root alone can tell.

    A log is no warning, but is added to the problems.

    :param machine: has the files and programs that the configuration names.
    :param source: the configuration's own file, which a reload reads.
    :param run_as: what the process changes to.
    """
    chroot, found = run_as.chroot, list[Problem]()
    uses = [_Use(path, where, "read") for path, where in machine.files]
    if source is not None:
        uses.append(_Use(source.path.absolute(), ("process", "user" if chroot is None else "chroot"), "read"))
    uses += [_Use(path, where, "run") for path, where in machine.programs]
    uses += [_Use(path, where, "log" if where[0] == "log" else "store") for path, where in machine.outputs]
    within_reach: list[_Use] = []
    for use in dict.fromkeys(uses):
        if use.kind in ("read", "run") and not os.path.exists(use.path):  # noqa: PTH110  # pathlib's raises PermissionError
            continue  # that is a mistake, and no warning
        if root.in_chroot(use.path) is None:
            found.append(_refused(use, f"{root.outside_message()}; put it below that"))
        else:
            within_reach.append(use)
    try:
        identity = identity_of(run_as)
    except PrivilegeError:  # reported by itself
        return found
    if os.geteuid() != 0 or (identity == Identity() and chroot is None):
        return found
    user = f'user "{run_as.user}"' if run_as.user else "in the chroot"
    for use, number in zip(within_reach, _errors(within_reach, identity, chroot), strict=False):
        if number:
            advice = _NO_LINK if number == errno.ENOENT else _ADVICE[use.kind]
            refused = _refused(use, f"{user}: {os.strerror(number)}; {advice}")
            (machine.problems if use.kind == "log" else found).append(refused)
    return found


def _refused(use: _Use, why: str) -> Problem:
    return Problem(use.where, f"{use.path} {_LATER[use.kind]}: {why}")


def _errors(uses: Iterable[_Use], identity: Identity, chroot: Path | None) -> list[int]:
    """Return for each file the error number of using it as another user in another root; 0 if it can be used.

    A process that has changed to these tries, so that links, folders and access control lists count.

    :return: empty if no process can be started, or it may not change: then nobody can tell.
    """
    named = [(str(root.in_chroot(use.path)), use.kind) for use in uses]

    def attempt() -> bytes:
        if chroot is not None:
            os.chroot(chroot)
        identity.assume()
        return json.dumps([_error(name, kind) for name, kind in named]).encode()

    with suppress(OSError, limited.ExceededError):
        return list(json.loads(limited.run(attempt, _TRY_SECONDS)))
    return []


def _error(name: str, kind: str) -> int:
    try:
        if kind == "read":
            os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
        elif kind == "run":
            _try_access(name, os.X_OK)
        else:
            has_file = os.path.lexists(name)
            if has_file:
                _try_access(name, os.W_OK)
            if kind == "store" or not has_file:
                _try_access(os.path.dirname(name), os.W_OK | os.X_OK)  # noqa: PTH120  # pathlib is not needed for this
    except OSError as error:
        return error.errno or 0
    return 0


def _try_access(name: str, mode: int) -> None:
    """Raise OSError if this process may not access a file so."""
    os.stat(name)  # noqa: PTH116  # it tells more than access
    if not os.access(name, mode):
        raise PermissionError(errno.EACCES, "")
