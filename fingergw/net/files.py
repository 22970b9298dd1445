"""Files that a configuration names, opened so that nothing can be kept waiting by what is no file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TextIO

from fingergw.net.root import here


def open_text(path: Path, *, or_pipe: bool = False) -> TextIO:
    """Open a file of UTF-8 text for reading.

    :param path: what it is called outside of a chroot, also once the root has been changed.
    :param or_pipe: it may be a pipe too, such as a shell's ``<(...)``; one that nobody writes to is empty.
    :raises OSError: it cannot be opened, or is a pipe, a device or a folder: reading from these may never end.
    """
    file = open(  # noqa: SIM115  # whoever asked for it closes it
        here(path), encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    )
    mode = os.fstat(file.fileno()).st_mode
    if or_pipe and stat.S_ISFIFO(mode):
        os.set_blocking(file.fileno(), True)
    elif not stat.S_ISREG(mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file; name one", str(path))
    return file
