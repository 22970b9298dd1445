"""The file that tells the process's number."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from attrs import define, field
from twisted.logger import Logger

from fingergw.core.errors import FingergwError

_log = Logger()
_NUMBER = re.compile(rb"\s*([1-9]\d{0,8})\s*")
_MAX_BYTES = 32
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o644


@define(eq=False)
class PidFile:
    """A file that is made anew, and is never what somebody else has put there.

    :param path: its absolute path.
    """

    path: Path
    _fd: int = field(init=False, default=-1)
    _folder: int = field(init=False, default=-1)

    def create(self, *, keeps_folder: bool) -> None:
        """Make it, empty, in the place of one whose process is gone.

        :param keeps_folder: so that the file can be removed. In a chroot it may not be kept: it would be a way out.
        :raises FingergwError: there is a file whose process is running, or something else; the message says what to do.
        :raises OSError: it cannot be made.
        """
        with ExitStack() as opened:
            folder = os.open(self.path.parent, _FOLDER_FLAGS)
            opened.callback(os.close, folder)
            stale = self._remove_stale(folder)
            if stale is not None:
                opened.callback(os.close, stale)  # locked until the new one is
            try:
                self._fd = self._open(folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                raise self._taken() from None
            self._lock(self._fd)
            if keeps_folder:
                self._folder = os.dup(folder)

    def write(self) -> None:
        """Write the process's number, which it knows once it is in the background."""
        os.write(self._fd, b"%d" % os.getpid())

    def remove(self) -> None:
        """Remove it, if that may be; empty it in any case, so that its number is never taken for another process's."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if self._folder >= 0 and os.path.samestat(
                os.fstat(self._fd), os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False)
            ):
                os.unlink(self.path.name, dir_fd=self._folder)
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)
        if self._folder >= 0:
            os.close(self._folder)
        self._fd = self._folder = -1

    def _open(self, folder: int, flags: int) -> int:
        try:
            return os.open(self.path.name, flags | _FLAGS, _MODE, dir_fd=folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _lock(self, fd: int) -> None:
        """Keep another start from taking a file, as long as this process, or the one that it becomes, has it open."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken() from None

    def _taken(self) -> FingergwError:
        return FingergwError(
            f"{self.path}: another gateway has it, or starts at this moment; stop that, or name another in --pidfile"
        )

    def _remove_stale(self, folder: int) -> int | None:
        """Remove the file of a process that is gone; one that was emptied at its end is such a one, too.

        :return: its descriptor, by which it is locked; None if there was none.
        """
        try:
            fd = self._open(folder, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                why = "is a symbolic link, which is not followed; name the file itself in --pidfile, or remove the link"
                raise FingergwError(f"{self.path}: {why}") from None
            raise
        with ExitStack() as opened:
            opened.callback(os.close, fd)
            self._refuse_unless_stale(folder, fd)
            os.unlink(self.path.name, dir_fd=folder)
            opened.pop_all()
        return fd

    def _refuse_unless_stale(self, folder: int, fd: int) -> None:
        status = os.fstat(fd)
        may_be_one = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
        text = os.read(fd, _MAX_BYTES) if may_be_one else b""
        match = _NUMBER.fullmatch(text)
        if not may_be_one or (text.strip() and match is None):
            raise FingergwError(f"{self.path}: is no pid file; remove it, or name another in --pidfile")
        if match is not None and _is_running(number := int(match[1])):
            raise FingergwError(
                f"{self.path}: process {number} is running; stop it if it is fingergw, and remove the file if not; "
                "or name another in --pidfile"
            )
        self._lock(fd)
        if not os.path.samestat(status, os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)):
            raise self._taken()
        if match is not None:
            _log.warn("{path}: process {number} is gone; the file is made anew", path=self.path, number=number)


def _is_running(number: int) -> bool:
    """Tell whether another process has a number; in a container the one before often had this process's own."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
