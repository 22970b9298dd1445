"""Who owns a file, and who else can read or change it."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

_MAX_LINKS = 40


def exposure(path: Path, mode: int) -> str:
    """Return what others can do with a file, and the command that ends it; empty if they can do nothing.

    Its group may read and write it.
    """
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return ""
    can = "read" if mode & stat.S_IROTH else "write"
    return f"others can {can} it; run: chmod o= {shlex.quote(str(path))}"


def is_for_root_alone(folder: Path) -> bool:
    """Tell whether only root can create files in a folder, or replace a folder above it.

    :param folder: an absolute path without symbolic links.
    """
    for each in (*reversed(folder.parents), folder):  # from the top: what was checked cannot be replaced
        status = each.lstat()
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and each != folder
        can_others = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not is_sticky
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or can_others:
            return False
    return True


def followed(path: Path) -> Path:
    """Follow a path's links, if they belong to our user or to root.

    :raises PermissionError: a link belongs to another user.
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
            raise _refused(path, f"is a link that belongs to user {status.st_uid}; remove it, or name another file")
        target = path.parent / path.readlink()
        path = target.parent.resolve() / target.name
    return path


def refuse_exposed(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others may have written to, or may read.

    :raises PermissionError: with what to do.
    """
    refuse_foreign(path, status)
    if why := exposure(path, status.st_mode):
        raise _refused(path, why)


def refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others may have written to, and a link.

    :raises PermissionError: with what to do.
    """
    if not _is_own(status):
        raise _refused(path, f"belongs to user {status.st_uid}; remove it, or name another file")
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "is a link; remove it")
    if status.st_mode & stat.S_IWOTH:
        raise _refused(path, "others can write to it, so its content cannot be trusted; remove it")


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _refused(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, why, str(path))
