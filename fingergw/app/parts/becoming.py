"""What will fail once the process has changed its root and its user."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from twisted.python.util import gidFromString, uidFromString

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.core.settings import KeyPath
from fingergw.net.identity import Identity
from fingergw.net.root import later, outside
from fingergw.net.workers import limited

_ENTER = "see to it that the gateway's group can read it, and enter its folder"
_TRY_SECONDS = 5.0  # of processor time; to open a file takes next to none
_LINK = "put it there itself, as no link can lead out of a chroot"


def unfit(chroot: Path) -> str | None:
    """Return why a folder cannot become the root; None if it can, or this user may not look."""
    null = chroot / "dev/null"
    try:
        if not stat.S_ISDIR(chroot.stat().st_mode):
            return f"no folder {chroot}; make it"
        if stat.S_ISCHR(null.stat().st_mode):
            return None
    except PermissionError:
        return None
    except OSError:
        if not os.path.isdir(chroot):  # noqa: PTH112  # pathlib's raises where it must not look
            return f"no folder {chroot}; make it"
    make = f"mkdir -p {shlex.quote(str(null.parent))} && mknod -m 666 {shlex.quote(str(null))} c 1 3"
    return f"no /dev/null in it, which listeners and programs need; run: {make}"


def warnings_of(
    source: model.Source | None, files: Iterable[tuple[Path, KeyPath]], becoming: tables.Process
) -> list[Problem]:
    """Return what will fail, beside what is wrong already; what a user may read, root alone can know.

    :param source: the configuration's own file.
    :param files: what it names and is read again, each with the key that names it.
    :param becoming: what the process becomes.
    """
    chroot = becoming.chroot
    if source is not None:
        files = [*files, (source.path.absolute(), ("process", "user" if chroot is None else "chroot"))]
    return _unreadable(files, becoming)


def _unreadable(files: Iterable[tuple[Path, KeyPath]], becoming: tables.Process) -> list[Problem]:
    found = []
    within_reach: list[tuple[Path, KeyPath]] = []
    for path, where in dict.fromkeys(files):
        if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises where it must not look
            continue  # which is a mistake
        if later(path) is None:
            found.append(Problem(where, _again(path, f"{outside()}; put it below that")))
        else:
            within_reach.append((path, where))
    identity, chroot = _identity(becoming), becoming.chroot
    if identity is None or os.geteuid() != 0 or (identity == Identity() and chroot is None):
        return found
    for place, number in _tried([path for path, _ in within_reach], identity, chroot).items():
        path, where = within_reach[place]
        user = f'user "{becoming.user}"' if becoming.user else "in the chroot"
        advice = _LINK if number == errno.ENOENT else _ENTER
        found.append(Problem(where, _again(path, f"{user}: {os.strerror(number)}; {advice}")))
    return found


def _again(path: Path, why: str) -> str:
    return f"{path} cannot be read again when it changes, or at a reload: {why}"


def _identity(becoming: tables.Process) -> Identity | None:
    """Return whom the process becomes; None if nobody knows them."""
    try:
        uid = None if becoming.user is None else uidFromString(becoming.user)
        gid = None if becoming.group is None else gidFromString(becoming.group)
        if uid is not None and gid is None:
            gid = pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None
    return Identity.of(uid, gid)


def _tried(paths: Sequence[Path], identity: Identity, chroot: Path | None) -> dict[int, int]:
    """Return the places of the files that cannot be opened, with the errors' numbers, as a process that becomes it.

    All that decides is asked so: links, folders, access control lists.
    """
    names = [str(later(path)) for path in paths]

    def tried() -> bytes:
        if chroot is not None:
            os.chroot(chroot)
        identity.assume()
        lines = []
        for place, name in enumerate(names):
            try:
                os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
            except OSError as error:
                lines.append(b"%d %d" % (place, error.errno or 0))
        return b"\n".join(lines)

    try:
        told = limited.run(tried, _TRY_SECONDS)
    except (OSError, limited.ExceededError):  # no process to be had, or none that may become it: nobody can be asked
        return {}
    return {int(place): int(number) for place, number in map(bytes.split, told.splitlines())}
