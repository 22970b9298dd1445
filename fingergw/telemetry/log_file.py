"""A log's file, opened so that nobody can have lines written to another one."""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from contextlib import suppress
from pathlib import Path

from fingergw.net.file_rights import is_for_root_alone
from fingergw.net.identity import Identity

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o666
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,6})")
_OF_ANOTHER = re.compile(r"/proc/\d+/fd/\d+")  # of which nobody can make a link to something else


def own_descriptor(path: str) -> int | None:
    """Return which of the process's own descriptors a path names, such as ``/dev/stdout``; None if it names a file."""
    match = _DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else _STREAMS.get(path)


def opened(path: str) -> int:
    """Open a log for appending, and make it where there is none.

    A symbolic link in the path's last part is not followed: it may be somebody else's, and lead to a file of root's.

    :return: a descriptor that does not wait.
    :raises OSError: it cannot be opened; the message says what to do.
    """
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | (0 if _OF_ANOTHER.fullmatch(path) else os.O_NOFOLLOW), _MODE)
    except OSError as error:
        raise OSError(error.errno, _why(path, error), path) from None
    status = os.fstat(fd)
    if os.geteuid() == 0 and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        os.close(fd)
        why = "has another name too (a hard link), and what root writes could go anywhere; remove one of the names"
        raise OSError(errno.EMLINK, why, path)
    return fd


def opened_for(path: str, identity: Identity) -> int:
    """Open a log as the user that the process is to become, so that it is that user's, or could be.

    Where that user may not, root does, in a folder where nobody else could have put anything.

    :raises OSError: as :func:`opened` does.
    :raises PrivilegeError: the process may not become that user.
    """
    try:
        with identity.borrowed():
            return opened(path)
    except PermissionError:
        folder = Path(path).parent.resolve()
        if identity.uid in (None, 0) or not is_for_root_alone(folder):
            raise
    path = str(folder / Path(path).name)
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return opened(path)
    os.fchown(fd, identity.uid, -1 if identity.gid is None else identity.gid)
    return fd


def ends_within_a_line(path: str, fd: int) -> bool:
    """Tell whether the last one to write to a log was cut short.

    :param fd: what was opened, which can only be written to.
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


def _why(path: str, error: OSError) -> str:
    if error.errno == errno.ELOOP and Path(path).is_symlink():
        return "is a symbolic link, which is not followed; name the file itself, or remove the link"
    return f"{error.strerror}{_advice(path, error.errno)}"


def _advice(path: str, number: int | None) -> str:
    if number == errno.ENXIO:
        return "; start what reads it first"
    if number in (errno.EACCES, errno.EPERM):
        user = str(os.geteuid())
        with suppress(KeyError):
            user = pwd.getpwuid(int(user)).pw_name
        return (
            f'; let user "{user}" write to the file (for logrotate: create 0640 {user} adm) and search its folder, '
            f"or let that user make files in {Path(path).parent}"
        )
    return ""
