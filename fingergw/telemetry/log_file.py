"""Opening what logs are written to, so that nobody can redirect the lines elsewhere, and writing to it.

On a disk that hangs, all of it waits.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import select
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fingergw.net.file_rights import is_for_root_alone
from fingergw.net.identity import Identity

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o666
_STREAMS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,6})")
_OF_ANOTHER = re.compile(r"/proc/\d+/fd/\d+")  # nobody can make these links lead somewhere else
_ADVICE = {
    errno.ENOENT: "create its folder (mkdir -p), or name another",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "name a file",
    errno.ENXIO: "start the program that reads it first",
    errno.EROFS: "name a file on another file system",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EPIPE: "restart the program that reads it, then fingergw",
}
# A pipe that has any room takes this much whole: pipe(7).
_ATOMIC_BYTES = select.PIPE_BUF


class OpenFile(NamedTuple):
    """A log that is open: its descriptor, whether it is a regular file, and whether that ends within a line."""

    fd: int
    is_regular: bool
    ends_within_line: bool = False


def own_descriptor(path: str) -> int | None:
    """Return which of the process's own descriptors a path names, such as ``/dev/stdout``; None if it names a file."""
    match = _DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else _STREAMS.get(path)


def may_be_link(path: str) -> bool:
    """Tell whether a log's path may be a symbolic link: another process's descriptor is one."""
    return _OF_ANOTHER.fullmatch(path) is not None


def open_log(path: str) -> int:
    """Open a log for appending; create it if need be.

    A symbolic link in the path's last part is not followed: somebody else may have made it lead to a file of root's.

    :return: a non-blocking descriptor.
    :raises OSError: it cannot be opened; the message says what to do.
    """
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | (0 if may_be_link(path) else os.O_NOFOLLOW), _MODE)
    except OSError as error:
        raise OSError(error.errno, _why(path, error), path) from None
    status = os.fstat(fd)
    if os.geteuid() == 0 and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        os.close(fd)
        why = "has a second name (a hard link), so root would write to a file of another name, too; remove one of them"
        raise OSError(errno.EMLINK, why, path)
    return fd


def open_log_as(path: str, identity: Identity) -> int:
    """Open a log as the user that the process will become, so that the user owns it, or could.

    If that user may not, root creates it for the user, but only in a folder where nobody else can put files.

    :raises OSError: as :func:`open_log` does.
    :raises PrivilegeError: the process may not become that user.
    """
    try:
        with identity.borrowed():
            return open_log(path)
    except PermissionError:
        folder = Path(path).parent.resolve()
        if identity.uid in (None, 0) or not is_for_root_alone(folder):
            raise
    path = str(folder / Path(path).name)
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return open_log(path)
    os.fchown(fd, identity.uid, -1 if identity.gid is None else identity.gid)
    return fd


def opened_again(number: int) -> tuple[int, bool]:
    """Return a descriptor for one that the process was started with, and whether other processes may share that.

    A terminal is opened by its name instead, as non-blocking for this process alone: ``poll`` tells that a terminal has
    room, but not for how much.
    """
    if number in (1, 2) and _status(number) is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), False
    with suppress(OSError):
        return os.open(os.ttyname(number), os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK), False
    return os.dup(number), True  # this user may write to it, even where it may not open it


def is_null() -> bool:
    """Tell whether standard output is closed, or /dev/null."""
    status = _status(1)
    return status is None or (stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev)


def is_journal() -> bool:
    """Tell whether standard output is the systemd journal: systemd.exec(5), JOURNAL_STREAM."""
    status = _status(1)
    return status is not None and os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _status(number: int) -> os.stat_result | None:
    """Return the status of standard output (1) or error (2).

    :return: None if it was closed when Python started: anything may have been opened under its number since.
    """
    with suppress(OSError):
        if (sys.__stdout__, sys.__stderr__)[number - 1] is not None:
            return os.fstat(number)
    return None


def opened(path: str, opener: Callable[[str], int] = open_log) -> OpenFile:
    """Open a log for appending.

    :param opener: does that.
    :raises OSError: as :func:`open_log` does.
    """
    fd = opener(path)
    return OpenFile(fd, is_regular(fd), _ends_within_line(path, fd))


def tried_to_open(path: str) -> OpenFile | OSError:
    """Return what :func:`opened` returns or raises."""
    try:
        return opened(path)
    except OSError as error:
        return error


def is_regular(fd: int) -> bool:
    """Tell whether it is a regular file, not a pipe, a terminal or the like."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _ends_within_line(path: str, fd: int) -> bool:
    """Tell whether a log's last line is incomplete, as its writer ran out of space.

    :param fd: the log, opened for writing.
    """
    with suppress(OSError):
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(found)
            if stat.S_ISREG(status.st_mode) and status.st_size and os.path.samestat(status, os.fstat(fd)):
                return os.pread(found, 1, status.st_size - 1) != b"\n"
        finally:
            os.close(found)
    return False


def write_at_once(fd: int, lines: bytes, shared: select.poll | None = None) -> tuple[int, OSError | None]:
    """Write what can be written at once.

    :param shared: tells when there is room, where others write there too, and it is as blocking as they left it.
    :return: how many bytes were written, and why the rest was not; None if there is no room at present.
    """
    done = 0
    try:
        while done < len(lines):
            end = len(lines)
            if shared is not None:
                if not shared.poll(0):
                    break
                # whole lines, so that those of other processes do not come between their parts
                end = lines.rfind(b"\n", done, done + _ATOMIC_BYTES) + 1 or done + _ATOMIC_BYTES
            done += os.write(fd, memoryview(lines)[done:end])
    except BlockingIOError:
        return done, None
    except OSError as error:
        return done, error
    return done, None


def write_and_reopen(fd: int, lines: bytes, path: str) -> tuple[int, OSError | None, OpenFile | OSError]:
    """Write to a log what can be written at once, and then open what has its path now in its place.

    :return: what :func:`write_at_once` returns; and the new file, or why it cannot be opened and the old one is open.
    """
    done, error = write_at_once(fd, lines)
    file = tried_to_open(path)
    if isinstance(file, OpenFile):
        _close(fd)
    return done, error, file


def write_and_close(fd: int, lines: bytes) -> int:
    """Write to a log what can be written at once, and close it.

    :return: how many bytes were written.
    """
    done, _ = write_at_once(fd, lines)
    _close(fd)
    return done


def _close(fd: int) -> None:
    with suppress(OSError):  # a disk across a network may tell only now that it is full; it is closed all the same
        os.close(fd)


def explained(error: OSError) -> str:
    """Return why a log cannot be opened or written to, with what to do about it where that is known."""
    advice = _ADVICE.get(error.errno or 0)
    return f"{error.strerror}; {advice}" if advice else str(error.strerror)


def _why(path: str, error: OSError) -> str:
    if error.errno == errno.ELOOP and Path(path).is_symlink():
        return "is a symbolic link, which is not followed; name the file itself, or remove the link"
    if error.errno not in (errno.EACCES, errno.EPERM):
        return explained(error)
    user = str(os.geteuid())
    with suppress(KeyError):
        user = pwd.getpwuid(int(user)).pw_name
    return (
        f'{error.strerror}; let user "{user}" write to the file (for logrotate: create 0640 {user} adm) and search its '
        f"folder, or let that user make files in {Path(path).parent}"
    )
