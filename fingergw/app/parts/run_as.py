"""The user, group and root that ``[process]`` names."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import Literal

from fingergw.app.parts.machine import Machine
from fingergw.config import tables
from fingergw.config.problems import Problem
from fingergw.net import root
from fingergw.net.files import no_folder
from fingergw.net.identity import number_of


def announce_root(machine: Machine, run_as: tables.Process) -> None:
    """Announce the root that a process changes to; what is wrong with it is added to the problems.

    :param run_as: what the process changes to.
    """
    chroot = run_as.chroot
    is_missing = chroot is not None and _is_missing(chroot)
    root.announce_chroot(None if is_missing else chroot)  # of one that is misspelt, each path would seem to be outside
    _check_chroot(machine, chroot)


def check_process(machine: Machine, process: tables.Process, run_as: tables.Process | None = None) -> None:
    """Check ``[process]``; what is wrong is added to the problems.

    :param run_as: what the process changes to, whose root has been checked.
    """
    if run_as is None or process.chroot != run_as.chroot:
        _check_chroot(machine, process.chroot)
    kinds: tuple[tuple[Literal["user", "group"], str | None], ...] = (("user", process.user), ("group", process.group))
    for kind, name in kinds:
        try:
            number = None if name is None else number_of(kind, name)
        except LookupError as error:
            machine.problems.append(Problem(("process", kind), str(error)))
            continue
        if kind == "user" and number is not None and process.group is None and not _is_in_passwd(number):
            why = f"user {number} is not in passwd, so that it has no group; name one in group, too"
            machine.problems.append(Problem(("process", kind), why))


def _is_in_passwd(number: int) -> bool:
    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True


def _check_chroot(machine: Machine, chroot: Path | None) -> None:
    if chroot is not None and (why_not := _unfit(chroot)):
        machine.problems.append(Problem(("process", "chroot"), why_not))


def _is_missing(chroot: Path) -> bool:
    """Tell whether there is no such folder, as far as this user can see."""
    try:
        return not stat.S_ISDIR(chroot.stat().st_mode)
    except PermissionError:
        return False
    except OSError:
        return True


def _unfit(chroot: Path) -> str | None:
    """Return why a folder cannot be the root; None if it can, or this user cannot see."""
    null = chroot / "dev/null"
    try:
        if stat.S_ISCHR(null.stat().st_mode):
            return None
    except PermissionError:
        return None
    except OSError:
        if os.path.isfile(chroot):  # noqa: PTH113  # pathlib's raises for a name that is too long
            return f"{chroot} is a file, not a folder; name a folder"
        if _is_missing(chroot):
            return no_folder(chroot)
    make = f"mkdir -p {shlex.quote(str(null.parent))} && mknod -m 666 {shlex.quote(str(null))} c 1 3"
    return f"the folder has no /dev/null, which listeners and programs need; run: {make}"
