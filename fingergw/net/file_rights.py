"""Whose a file is, and who else can change it."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

_MAX_LINKS = 40


def exposure(path: Path, mode: int) -> str:
    """Return what others can do with a file that is none of theirs, and how to end that; empty if they can do nothing.

    Its group may read and write it.
    """
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return ""
    can = "read" if mode & stat.S_IROTH else "write"
    return f"others can {can} it; run: chmod o= {shlex.quote(str(path))}"


def is_for_root_alone(folder: Path) -> bool:
    """Tell whether nobody but root can put anything into a folder, or another in the place of one above it.

    :param folder: an absolute path without symbolic links.
    """
    for each in (*reversed(folder.parents), folder):  # from above: what has been looked at cannot change any more
        status = each.lstat()
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and each != folder
        can_others = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not is_sticky
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or can_others:
            return False
    return True


def followed(path: Path) -> Path:
    """Return where a path leads, by links that are our user's or root's.

    :raises PermissionError: a link is another user's.
    """
    path = path.parent.resolve() / path.name
    for _ in range(_MAX_LINKS):
        try:
            status = path.lstat()
        except FileNotFoundError:
            break
        if not stat.S_ISLNK(status.st_mode):
            break
        if not _is_own(status):
            raise _refused(path, f"is a link of user {status.st_uid}; remove it, or name another file")
        target = path.parent / path.readlink()
        path = target.parent.resolve() / target.name
    return path


def refuse_exposed(path: Path, status: os.stat_result) -> None:
    """Refuse a file that somebody else may have written to, or may read.

    :raises PermissionError: somebody may; the message says what to do.
    """
    refuse_foreign(path, status)
    if why := exposure(path, status.st_mode):
        raise _refused(path, why)


def refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Refuse a file that somebody else may have written to, or a link.

    :raises PermissionError: somebody may have; the message says what to do.
    """
    if not _is_own(status):
        raise _refused(path, f"is user {status.st_uid}'s; remove it, or name another file")
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "is a link; remove it")
    if status.st_mode & stat.S_IWOTH:
        raise _refused(path, "others can write to it, so that what is in it may be theirs; remove it")


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _refused(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, why, str(path))
