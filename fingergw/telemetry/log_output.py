"""Writing a log's lines without blocking."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from functools import cache

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fingergw.telemetry.log_file import (
    ends_within_a_line,
    explained,
    is_journal,
    open_log,
    opened_again,
    own_descriptor,
)

_log = Logger()
MAX_WAITING_BYTES = 1 << 20
_RETRY_SECONDS = 0.05
_TROUBLE_SECONDS = 1.0  # until the next attempt, once nobody reads it or the disk is full
_CLOSE_SECONDS = 1.0
# A pipe that has any room takes this much whole: pipe(7).
_ATOMIC_BYTES = select.PIPE_BUF


@define(eq=False)
class Output:
    """Write lines, and wait neither for space on a disk nor for a reader.

    Up to 1 MiB of what cannot be written is kept. What is beyond that is lost, and counted. A line that was partly
    written is always completed before the next one.

    :param path: a file, or ``-`` for standard output; see :func:`standard_output`.
    :param name: what messages call it.
    :param lost: how many lines were lost.
    :param is_journal: whether it is the systemd journal.
    """

    path: str
    name: str
    clock: IReactorTime
    lost: int = field(init=False, default=0)
    is_journal: bool = field(init=False, default=False)
    _fd: int = field(init=False, default=-1)
    _users: int = field(init=False, default=0)
    _poll: select.poll | None = field(init=False, default=None)  # None for a file, which needs no reader
    _is_shared: bool = field(init=False, default=False)  # with others, so it must stay as blocking as it is
    _waiting: bytes = field(init=False, default=b"")
    _is_begun: bool = field(init=False, default=False)  # the first line of what waits
    _is_in_trouble: bool = field(init=False, default=False)  # and this was logged
    _logged_lost: int = field(init=False, default=0)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self, path: str | None = None, opener: Callable[[str], int] = open_log) -> None:
        """Open it, unless another log has opened it already.

        :param path: where it is now, if it will have another path in a chroot.
        :param opener: opens a file for appending.
        :raises OSError: it cannot be opened for appending; the message says what to do.
        """
        if not self._users:
            number = own_descriptor(self.path)
            if number is not None:
                self._use(*opened_again(number))
                self.is_journal = self.path == "-" and is_journal()
            else:
                found = path or self.path
                self._use(opener(found))
                if ends_within_a_line(found, self._fd):
                    self._waiting = b"\n"
        self._users += 1

    def write(self, lines: bytes) -> None:
        """Write whole lines, now or as soon as possible."""
        if self._fd < 0:
            return
        self._waiting += lines
        self._write()
        if len(self._waiting) > MAX_WAITING_BYTES:
            # keep the first line, however long: a part of it may be written
            kept = self._waiting.rfind(b"\n", 0, MAX_WAITING_BYTES) + 1 or self._waiting.find(b"\n") + 1
            self.lost += _count(self._waiting[kept:])
            self._waiting = self._waiting[:kept]
            self._trouble("it has no reader; start the program that reads it")

    def reopen(self) -> None:
        """Write what waits, and continue in the file that has the path now; if it cannot be opened, in the old one."""
        if self._fd < 0 or own_descriptor(self.path) is not None:  # the process was started with it
            return
        self._write()
        try:
            fd = open_log(self.path)
        except OSError as error:
            text = "{name}: cannot be reopened, so lines go to the old file: {why}"
            _log.error(text, name=self.name, why=error.strerror, throttled=False)
            return
        os.close(self._fd)
        self._use(fd)
        if self._is_begun:  # in the old file
            self._is_begun, self._waiting = False, self._waiting.partition(b"\n")[2]
            self.lost += 1
        self._write()

    def close(self) -> None:
        """When the last log that uses it closes it, write what waits, giving a reader one second, and close it."""
        self._users = max(0, self._users - 1)
        if self._users or self._fd < 0:
            return
        deadline = time.monotonic() + _CLOSE_SECONDS
        self._write()
        while self._waiting and self._poll is not None:
            left, before = deadline - time.monotonic(), len(self._waiting)
            if left <= 0 or not self._poll.poll(left * 1000):
                break
            self._write()
            if len(self._waiting) >= before and self._is_in_trouble:
                break
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.lost += _count(self._waiting)
        if self.lost > self._logged_lost:
            _log.error("{name}: lines lost: {lost}", name=self.name, lost=self.lost - self._logged_lost)
        os.close(self._fd)
        self._fd, self._waiting, self._logged_lost = -1, b"", self.lost
        self._is_begun = self._is_in_trouble = False

    def _use(self, fd: int, is_shared: bool = False) -> None:
        self._fd, self._poll = fd, None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)
        self._is_shared = is_shared

    def _write(self) -> None:
        """Write what can be written at once, and have the rest tried again."""
        waiting, done, why = self._waiting, 0, None
        try:
            while done < len(waiting) and (taken := self._write_some(waiting, done)):
                done += taken
        except OSError as error:
            why = explained(error)
        if done:
            self._waiting, self._is_begun = waiting[done:], waiting[done - 1 : done] != b"\n"
        if self._waiting:
            if self._timer is None or not self._timer.active():
                self._timer = self.clock.callLater(
                    _TROUBLE_SECONDS if self._is_in_trouble else _RETRY_SECONDS, self._write
                )
            if why is not None:
                self._trouble(f"cannot be written: {why}")
        elif self._is_in_trouble or self.lost > self._logged_lost:
            lost, self._logged_lost, self._is_in_trouble = self.lost - self._logged_lost, self.lost, False
            _log.error("{name}: can be written again; lines lost: {lost}", name=self.name, lost=lost)

    def _write_some(self, waiting: bytes, start: int) -> int:
        """Return how many bytes were written; 0 if a write would block."""
        end = len(waiting)
        if self._is_shared and self._poll is not None:
            if not self._poll.poll(0):
                return 0
            # whole lines, so that those of other processes do not come between their parts
            end = waiting.rfind(b"\n", start, start + _ATOMIC_BYTES) + 1 or start + _ATOMIC_BYTES
        try:
            return os.write(self._fd, memoryview(waiting)[start:end])
        except BlockingIOError:
            return 0

    def _trouble(self, why: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            text = "{name}: {why}. Until then 1 MiB of lines is kept, and further lines are lost"
            _log.error(text, name=self.name, why=why)


@cache
def standard_output(clock: IReactorTime) -> Output:
    """Return standard output. Logs that go there share it, so that none breaks into another's line."""
    return Output("-", "standard output", clock)


def _count(lines: bytes) -> int:
    return sum(1 for line in lines.split(b"\n") if line)
