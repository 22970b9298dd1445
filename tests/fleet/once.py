"""Folders that are built once a machine, whoever asks first."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def once(name: str, recipe: object, build: Callable[[Path], None]) -> Path:
    """Return a folder; have it built if there is none, or wait until another process has.

    :param name: what is in it.
    :param recipe: what it depends on; another folder for each.
    :param build: builds it in a folder that is empty; what it leaves by an exception is not taken for whole.
    """
    caches = Path("/var/cache")
    parent = (caches if os.access(caches, os.W_OK) else Path(tempfile.gettempdir())) / "fingergw-tests"
    folder = parent / f"{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if not folder.exists():
        parent.mkdir(exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(mode=0o700)
                build(part)
                part.rename(folder)
    return folder
