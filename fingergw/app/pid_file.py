"""The pid file, which holds the process's number while it runs."""

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
_NUMBER = re.compile(rb"\s*0*([1-9]\d*)\s*")
_MAX_BYTES = 32
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o644


@define(eq=False, repr=False)
class PidFile:
    """A pid file that is created anew at each start; a file that somebody else has put in its place is left alone.

    Who holds it is told by the kernel's lock, which ends with the process, however that ends; not by the number in it,
    which may be another process's by now.

    :param path: its absolute path.
    """

    path: Path
    _fd: int = field(init=False, default=-1)
    _folder: int = field(init=False, default=-1)

    def create(self, *, keeps_folder: bool) -> None:
        """Create it, empty, in place of one that no gateway holds.

        :param keeps_folder: whether its folder stays open, so that the file can be removed. In a chroot that would be
            a way out.
        :raises FingergwError: another gateway holds it, or it is something else; the message says what to do.
        :raises OSError: it cannot be created.
        """
        with ExitStack() as opened:
            folder = os.open(self.path.parent, _FOLDER_FLAGS)
            opened.callback(os.close, folder)
            with suppress(FileNotFoundError):
                stale = self._open(folder, os.O_RDONLY | os.O_NONBLOCK)
                opened.callback(os.close, stale)  # it stays locked until the new file is
                self._remove_stale(folder, stale)
            try:
                self._fd = self._open(folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                raise self._taken() from None
            self._lock(self._fd)
            if keeps_folder:
                self._folder = os.dup(folder)

    def write(self) -> None:
        """Write the process's number, which is known once it is in the background.

        :raises OSError: there is no space for it.
        """
        try:
            os.write(self._fd, b"%d" % os.getpid())
        except OSError as error:
            raise self._named(error) from None

    def remove(self) -> None:
        """Remove it if possible, and empty it in any case, so that its number is never taken for another process's."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if self._folder >= 0 and self._is_in_place(self._folder, os.fstat(self._fd)):
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
            if error.errno == errno.ELOOP:
                why = "is a symbolic link, which is not followed; name the file itself in --pidfile, or remove the link"
                raise FingergwError(f"{self.path}: {why}") from None
            raise self._named(error) from None

    def _lock(self, fd: int, number: str = "") -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(number) from None
        except OSError as error:
            raise self._named(error, "cannot be locked: ") from None

    def _named(self, error: OSError, what: str = "") -> OSError:
        return OSError(error.errno, f"{what}{error.strerror}", str(self.path))

    def _taken(self, number: str = "") -> FingergwError:
        who = f"process {number}, another gateway," if number else "another gateway"
        return FingergwError(
            f"{self.path}: {who} has it, or is starting; stop that gateway, or name another file in --pidfile"
        )

    def _is_in_place(self, folder: int, status: os.stat_result) -> bool:
        return os.path.samestat(status, os.stat(self.path.name, dir_fd=folder, follow_symlinks=False))

    def _remove_stale(self, folder: int, fd: int) -> None:
        """Lock and remove a pid file that no gateway holds; refuse any other file."""
        status = os.fstat(fd)
        may_be_one = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
        text = os.read(fd, _MAX_BYTES) if may_be_one else b""
        match = _NUMBER.fullmatch(text)
        if not may_be_one or (text.strip() and match is None):
            raise FingergwError(f"{self.path}: is not a pid file; remove it, or name another file in --pidfile")
        number = match[1].decode() if match else ""
        self._lock(fd, number)
        if not self._is_in_place(folder, status):
            raise self._taken()
        try:
            os.unlink(self.path.name, dir_fd=folder)
        except OSError as error:
            raise self._named(error, "was left behind, and cannot be removed: ") from None
        if number:
            _log.warn("{path}: was left behind by process {number}; it is replaced", path=self.path, number=number)
