"""Read the files that a configuration names. Each reader takes the path that the file has outside of a chroot."""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from pathlib import Path

from fingergw.core.errors import ConfigError
from fingergw.net.file_rights import exposure
from fingergw.net.root import usable_now

PERMISSION_ADVICE = "see to it that the gateway's group can read it, and enter its folder"
"""What to do about a file that the gateway may not read."""
_SYSTEMD_FOLDERS = tuple(map(Path, ("/run", "/var/run", "/var/lib", "/var/cache", "/var/log")))
_SYSTEMD_VARIABLES = ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY")


def read_file(path: Path, *, max_bytes: int | None = None, or_pipe: bool = False) -> tuple[bytes, int]:
    """Read a file, and its mode as it was when it was opened.

    :param max_bytes: the size above which it is refused.
    :param or_pipe: accept a pipe too, such as a shell's ``<(...)``; one that nobody writes to is empty.
    :return: its content and its ``st_mode``.
    :raises OSError: it cannot be read, is too large, or is a pipe, a device or a folder: reading these may never end.
    """
    with open(usable_now(path), "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if or_pipe and stat.S_ISFIFO(status.st_mode):
            os.set_blocking(file.fileno(), True)
        elif not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file; name a regular file", str(path))
        if max_bytes is not None and status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        return file.read(), status.st_mode


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text.

    :raises ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        data, _ = read_file(path)
    except OSError as error:
        raise ConfigError(f"{unreadable(path, error)}{path_advice(error)}") from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{line_of(data, error.start)}: not UTF-8; save it as UTF-8") from None


def line_of(data: bytes, place: int) -> int:
    """Return the line, from 1, that a byte of a file is in."""
    return data.count(b"\n", 0, place) + 1


def read_secret(path: Path, what: str) -> str:
    """Read the one secret in a file that others may neither read nor write.

    Its group may: such a file usually belongs to root, and the gateway's group can read it.

    :param what: the kind of secret, for the message.
    :raises ConfigError: it cannot be read, others may read or write it, or it does not hold exactly one secret.
    """
    try:
        data, mode = read_file(path)
    except OSError as error:
        raise ConfigError(f"{unreadable(path, error)}{path_advice(error)}") from None
    exposed = exposure(path, mode)
    problems = [exposed] if exposed else []
    secret = data.strip().decode("ascii", "replace")
    strange = re.search(rb"[^ -~]", data.strip())
    if strange or not secret:
        line = f":{line_of(data, data.index(data.strip()) + strange.end())}" if strange else ""
        problems.append(f"{path}{line}: expected one {what} in it, in one line of printable ASCII")
    if problems:
        raise ConfigError(problems)
    return secret


def path_advice(error: OSError) -> str:
    """Return what to do about a path that leads to no file."""
    if error.errno == errno.EISDIR:
        return "; name a file in it"
    return "; create it, or name another file" if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""


def unreadable(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, and what to do where the system's words do not say it."""
    advice = f"; {PERMISSION_ADVICE}" if error.strerror == os.strerror(errno.EACCES) else ""
    return f"{path}: {error.strerror}{advice}"


def no_folder(folder: Path) -> str:
    """Return the message about a folder that is not there."""
    return f"no folder {folder}; {_make(folder)}"


def no_folder_yet(folder: Path) -> str:
    """Return the warning about a folder that is not there, and that systemd may make as it starts the gateway."""
    directory = "a systemd unit makes it if it has a RuntimeDirectory=, StateDirectory= or the like"
    return f"no folder {folder} now, and without it the gateway cannot start; {directory}; or {_make(folder)}"


def _make(folder: Path) -> str:
    return f"make it: mkdir -p {shlex.quote(str(folder))}"


def may_be_made_by_systemd(folder: Path) -> bool:
    """Tell whether a folder may be one that systemd makes as it starts a unit (systemd.exec(5), RuntimeDirectory=)."""
    return any(folder != base and folder.is_relative_to(base) for base in _SYSTEMD_FOLDERS)


def is_made_by_systemd(folder: Path) -> bool:
    """Tell whether the environment says that systemd makes a folder (systemd.exec(5), RUNTIME_DIRECTORY)."""
    named = [each for variable in _SYSTEMD_VARIABLES for each in os.environ.get(variable, "").split(":") if each]
    return str(folder) in named
