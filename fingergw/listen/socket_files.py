"""The files of unix sockets: what may be at a path, and what a process that is gone has left there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from fingergw.core.errors import ListenError
from fingergw.net.root import outside, usable_now

_MAX_PATH_BYTES: Final = 107  # unix(7): 108 with the zero byte at the end
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file"}


def lock_path(path: Path) -> Path:
    """Return where the lock of a socket is."""
    return Path(f"{path}.lock")


def check_length(path: Path) -> None:
    """Refuse a path that is too long for a unix socket.

    :raises ListenError: it is.
    """
    length = len(os.fsencode(path))
    if length > _MAX_PATH_BYTES:
        bounds = f"at most {_MAX_PATH_BYTES} bytes, and this one has {length}"
        raise ListenError(f"the path of a unix socket has {bounds}; name a shorter one")


def check_file(path: Path) -> None:
    """Refuse a path at which something else than a socket is.

    :param path: the socket's, in the later root.
    :raises ListenError: there is, or what should be its folder is none.
    :raises FileNotFoundError: there is no such folder.
    """
    shown = outside(path)
    _check_file(usable_now(shown), shown)


def _check_file(path: Path, shown: Path) -> None:
    """Do as :func:`check_file`.

    :param path: as this process sees it now.
    :param shown: as messages have it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        path.parent.stat()
        return
    except PermissionError:  # nobody can tell
        return
    except OSError as error:
        raise ListenError(f"{shown}: {error.strerror}; name another path") from None
    if not stat.S_ISSOCK(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        advice = "name a path in it" if stat.S_ISDIR(mode) else "remove it, or name another path"
        raise ListenError(f"{shown} is {kind}, not a socket; {advice}")


def is_stale(path: Path) -> bool:
    """Tell whether there is a socket whose process is gone, so that it refuses connections.

    :return: False if nothing is there.
    :raises ListenError: somebody answers there; or it is no socket.
    :raises OSError: who has it cannot be told.
    """
    shown = outside(path)
    _check_file(path, shown)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        number = client.connect_ex(str(path))
    if number in (0, errno.EAGAIN):  # or its queue is full
        raise ListenError(f"another process answers at {shown}; stop it, or name another path")
    if number not in (errno.ECONNREFUSED, errno.ENOENT):
        raise OSError(number, os.strerror(number), str(path))
    return number == errno.ECONNREFUSED


def is_in_place(status: os.stat_result | None, path: Path) -> bool:
    """Tell whether a file is still at its path; in doubt it is.

    :param status: the file's, which is open, so that no other has its number; None if there is none.
    """
    try:
        return status is not None and os.path.samestat(status, path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # the process has given up the rights to see it
        return True
