"""The root directory, which may change once all is read: files keep the names that they have outside of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from attrs import define


@define
class _Expected:
    """What the root will be changed to, or has been.

    :param identity: what tells it from another folder, by whatever name.
    """

    chroot: Path | None = None
    identity: tuple[int, int] | None = None

    @property
    def is_reached(self) -> bool:
        """Whether the root has been changed."""
        return self.identity is not None and _identity(Path("/")) == self.identity


_expected = _Expected()


def expect(chroot: Path | None) -> None:
    """Say what the root of this process will be changed to, before that is done.

    :param chroot: the folder's absolute path; None for a root that stays.
    """
    _expected.chroot = chroot
    try:
        _expected.identity = None if chroot is None else _identity(chroot)
    except OSError:  # whoever changes to it is told
        _expected.identity = None


def changes() -> bool:
    """Tell whether the root will be changed, or has been."""
    return _expected.chroot is not None


def later(path: Path) -> Path | None:
    """Return what a file is called once the root has been changed; None if it is out of reach then.

    :param path: its absolute path outside.
    """
    return path if _expected.chroot is None else inside(path, _expected.chroot)


def below(path: Path) -> Path:
    """Return what a file is called outside that will have this name once the root has been changed."""
    path = path.absolute()
    return path if _expected.chroot is None else _expected.chroot / path.relative_to("/")


def here(path: Path) -> Path:
    """Return what a file is called at this moment.

    :param path: its absolute path outside.
    :raises PermissionError: the root has been changed, and it is out of reach; the message says what to do.
    """
    if not _expected.is_reached:
        return path
    found = later(path)
    if found is None:
        raise PermissionError(errno.EACCES, f"{outside()}, which the root is now; put it below that", str(path))
    return found


def outside() -> str:
    """Return what to say of a file that is out of reach."""
    return f"it is outside of the chroot {_expected.chroot}"


def inside(path: Path, chroot: Path) -> Path | None:
    """Return what a file is called below another root; None if it is not there."""
    relative = os.path.relpath(path, chroot)
    return None if relative == ".." or relative.startswith("../") else Path("/", relative)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
