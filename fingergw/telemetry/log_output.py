"""Where a log's lines go: a file, or standard output."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fingergw.telemetry.log_file import ends_within_a_line, opened, own_descriptor

_log = Logger()
_MAX_WAITING_BYTES = 1 << 20
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.01, 1.0
_CLOSE_SECONDS = 1.0
# What a pipe has room for once it has any, and takes whole (pipe(7)).
_ATOMIC_BYTES = select.PIPE_BUF


@define(eq=False)
class Output:
    """Write lines, and wait neither for a disk that is full nor for a reader that does not read.

    What cannot be written yet is kept, a MiB of it. What is more is lost, and counted. A line that has been begun is
    finished before another begins.

    :param path: a file, or ``-`` for standard output; see :func:`standard_output`.
    :param name: what messages call it.
    :param lost: how many lines could not be written.
    :param is_journal: whether it leads to the systemd journal.
    """

    path: str
    name: str
    clock: IReactorTime
    lost: int = field(init=False, default=0)
    is_journal: bool = field(init=False, default=False)
    _fd: int = field(init=False, default=-1)
    _is_own: bool = field(init=False, default=False)  # a descriptor that the process was started with
    _users: int = field(init=False, default=0)
    _poll: select.poll | None = field(init=False, default=None)  # None for a file, which nobody has to read
    _may_wait: bool = field(init=False, default=False)  # a write, if it is not asked before whether it would
    _waiting: bytes = field(init=False, default=b"")
    _is_begun: bool = field(init=False, default=False)  # the first line that waits
    _is_in_trouble: bool = field(init=False, default=False)  # and that is logged
    _lost_before: int = field(init=False, default=0)  # and that is logged
    _delay: float = field(init=False, default=_FIRST_RETRY_SECONDS)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self, path: str | None = None, opener: Callable[[str], int] = opened) -> None:
        """Open it, unless another has.

        :param path: where it is now, if that is not where it will be.
        :param opener: opens a file for appending.
        :raises OSError: it cannot be opened for appending; the message says what to do.
        """
        if not self._users:
            number = 1 if self.path == "-" else own_descriptor(self.path)
            if number is not None:
                self._use(*_own_output(number))
                self.is_journal = self.path == "-" and _is_journal()
            else:
                found = path or self.path
                self._use(opener(found))
                if ends_within_a_line(found, self._fd):
                    self._waiting = b"\n"
            self._is_own = number is not None
        self._users += 1

    def write(self, lines: bytes) -> None:
        """Write whole lines, now or as soon as that is possible."""
        if self._fd < 0:
            return
        self._waiting += lines
        self._write()
        if len(self._waiting) > _MAX_WAITING_BYTES:
            # the first line, however long, as it may have been begun
            kept = self._waiting.rfind(b"\n", 0, _MAX_WAITING_BYTES) + 1 or self._waiting.find(b"\n") + 1
            self.lost += _count(self._waiting[kept:])
            self._waiting = self._waiting[:kept]
            self._trouble("nobody reads it")

    def reopen(self) -> None:
        """Write what waits, and go on in the file that has the name now; if there can be none, in the old one."""
        if self._fd < 0 or self._is_own:
            return
        self._write()
        try:
            fd = opened(self.path)
        except OSError as error:
            text = "{name}: cannot be opened anew, so the file from before is written to: {why}"
            _log.error(text, name=self.name, why=error.strerror, is_asked_for=True)
            return
        os.close(self._fd)
        self._use(fd)
        if self._is_begun:  # in the other file
            self._is_begun, self._waiting = False, self._waiting.partition(b"\n")[2]
            self.lost += 1
        self._write()

    def close(self) -> None:
        """Once nobody uses it any more, write what waits, for which a reader is given a second, and close it."""
        self._users = max(0, self._users - 1)
        if self._users or self._fd < 0:
            return
        ends = time.monotonic() + _CLOSE_SECONDS
        self._write()
        while self._waiting and self._poll is not None:
            left, before = ends - time.monotonic(), len(self._waiting)
            if left <= 0 or not self._poll.poll(left * 1000):
                break
            self._write()
            if len(self._waiting) >= before and self._is_in_trouble:
                break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.lost += _count(self._waiting)
        if self.lost > self._lost_before:
            _log.error("{name}: {lost} lines are lost", name=self.name, lost=self.lost - self._lost_before)
        os.close(self._fd)
        self._fd, self._waiting, self._lost_before = -1, b"", self.lost
        self._is_begun = self._is_in_trouble = False

    def _use(self, fd: int, is_shared: bool = False) -> None:
        self._fd, self._poll = fd, None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)
        # others have it too, who may not expect that it does not wait
        self._may_wait = is_shared and self._poll is not None

    def _write(self) -> None:
        """Write what can be written at once, and see to it that the rest is tried again."""
        waiting, done, why = self._waiting, 0, None
        try:
            while done < len(waiting):
                taken = self._write_some(waiting, done)
                if not taken:
                    break
                done += taken
        except OSError as error:
            why = error.strerror
        if done:
            self._waiting, self._is_begun = waiting[done:], waiting[done - 1 : done] != b"\n"
            self._delay = _FIRST_RETRY_SECONDS
        if self._waiting:
            if self._timer is None:
                self._timer = self.clock.callLater(self._delay, self._retry)
            if why is not None:
                self._trouble(f"cannot be written: {why}")
        elif self._is_in_trouble or self.lost > self._lost_before:
            lost, self._lost_before, self._is_in_trouble = self.lost - self._lost_before, self.lost, False
            _log.error("{name}: is written again; {lost} lines are lost", name=self.name, lost=lost)

    def _write_some(self, waiting: bytes, start: int) -> int:
        end = len(waiting)
        if self._may_wait:
            assert self._poll is not None
            if not self._poll.poll(0):
                return 0
            # whole lines, so that those of other processes do not come between
            end = waiting.rfind(b"\n", start, start + _ATOMIC_BYTES) + 1 or start + _ATOMIC_BYTES
        try:
            return os.write(self._fd, memoryview(waiting)[start:end])
        except BlockingIOError:
            return 0

    def _retry(self) -> None:
        self._timer = None
        self._delay = min(self._delay * 2, _LAST_RETRY_SECONDS)
        self._write()

    def _trouble(self, why: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            text = "{name}: {why}; a MiB is kept until that is mended, and lines beyond it are lost"
            _log.error(text, name=self.name, why=why)


@cache
def standard_output(clock: IReactorTime) -> Output:
    """Return standard output, which is the same for all logs that go there, so that none breaks another's lines."""
    return Output("-", "standard output", clock)


def is_null() -> bool:
    """Tell whether standard output leads nowhere."""
    status = _status()
    return status is None or (stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev)


def _is_journal() -> bool:
    """Tell whether standard output leads to the systemd journal: systemd.exec(5), JOURNAL_STREAM."""
    status = _status()
    return status is not None and os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _status(number: int = 1) -> os.stat_result | None:
    """Return what standard output or error is; None if it was closed at the start: the number may be anything now."""
    with suppress(OSError):
        if (sys.__stdout__, sys.__stderr__)[number - 1] is not None:
            return os.fstat(number)
    return None


def _own_output(number: int) -> tuple[int, bool]:
    """Return a descriptor for one that the process was started with, and whether others have that, too.

    A terminal is opened once more, as for this process alone it is never waited for: whether a terminal has room can be
    asked, but not for how much.
    """
    if number in (1, 2) and _status(number) is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), False
    with suppress(OSError):
        return os.open(os.ttyname(number), os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK), False
    return os.dup(number), True  # whoever may not open it may write to it all the same


def _count(lines: bytes) -> int:
    return sum(1 for line in lines.split(b"\n") if line)
