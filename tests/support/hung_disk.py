"""A disk that hangs, as one across a network does while its server is away."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.waiting import DEADLINE_SECONDS


class HungDisk:
    """Have whoever opens, writes to or closes a regular file below a folder wait, while another file is there.

    The thread of the reactor fails instead: it must not wait. What has to be patched is a few functions of :mod:`os`,
    in this process or in one that was started for it: no file system can be had everywhere that hangs at will.

    :param folder: the disk.
    :param switch: the file.
    """

    def __init__(self, folder: Path, switch: Path) -> None:
        self.folder, self.switch = folder, switch
        self.calls = {name: getattr(os, name) for name in ("open", "write", "close")}
        self.began = 0
        """How many calls have come to wait."""

    def hang(self) -> None:
        """Respond no more."""
        self.switch.touch()

    def respond(self) -> None:
        """Respond again."""
        self.switch.unlink(missing_ok=True)

    def patch(self, patch: Callable[[Any, str, Any], object] = setattr) -> None:
        """Put the disk in place.

        :param patch: as ``setattr`` does, perhaps for the time of a test.
        """
        for name, call in self.calls.items():
            patch(os, name, self._waiting(call))

    def _waiting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wait(file: Any, *args: Any, **options: Any) -> Any:
            if self.switch.exists() and self._has(file):
                assert threading.current_thread() is not threading.main_thread(), "the reactor waits for the disk"
                self.began += 1
                ends = time.monotonic() + 2 * DEADLINE_SECONDS
                while self.switch.exists() and time.monotonic() < ends:
                    time.sleep(0.01)
            return call(file, *args, **options)

        return wait

    def _has(self, file: object) -> bool:
        if not isinstance(file, int):
            return Path(os.fsdecode(file)).parent == self.folder  # type: ignore[arg-type]
        try:
            is_regular = stat.S_ISREG(os.fstat(file).st_mode)
        except OSError:
            return False
        return is_regular and Path(f"/proc/self/fd/{file}").readlink().parent == self.folder
