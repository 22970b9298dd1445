"""The chroot, if there is one: paths in the gateway are those outside of it, and are translated here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from attrs import define


@define
class _Expected:
    """The root that this process will change to, or has changed to.

    :param identity: its device and inode.
    """

    chroot: Path | None = None
    identity: tuple[int, int] | None = None

    @property
    def is_reached(self) -> bool:
        """Whether the root has been changed."""
        return self.identity is not None and _identity(Path("/")) == self.identity


_expected = _Expected()


def announce_chroot(chroot: Path | None) -> None:
    """Announce the root that this process will change to.

    :param chroot: its absolute path; None if the root stays.
    """
    _expected.chroot = chroot
    try:
        _expected.identity = None if chroot is None else _identity(chroot)
    except OSError:  # changing to it will report that
        _expected.identity = None


def has_chroot() -> bool:
    """Tell whether there is a chroot, now or later."""
    return _expected.chroot is not None


def in_chroot(path: Path) -> Path | None:
    """Return a file's path in the chroot; None if it is outside.

    :param path: its absolute path, as outside of the chroot.
    """
    return path if _expected.chroot is None else inside(path, _expected.chroot)


def outside(path: Path) -> Path:
    """Return the path outside of the chroot of a file that has this path in it."""
    path = path.absolute()
    return path if _expected.chroot is None else _expected.chroot / path.relative_to("/")


def usable_now(path: Path) -> Path:
    """Return a file's path for use now, before or after the root was changed.

    :param path: its absolute path, as outside of the chroot.
    :raises PermissionError: the root was changed, and the file is outside; the message says what to do.
    """
    if not _expected.is_reached:
        return path
    found = in_chroot(path)
    if found is None:
        raise PermissionError(errno.EACCES, f"{outside_message()}, which the root is now; put it below that", str(path))
    return found


def outside_message() -> str:
    """Return the message about a file that is outside."""
    return f"it is outside of the chroot {_expected.chroot}"


def inside(path: Path, chroot: Path) -> Path | None:
    """Return a file's path below another root; None if it is outside."""
    relative = os.path.relpath(path, chroot)
    return None if relative == ".." or relative.startswith("../") else Path("/", relative)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
