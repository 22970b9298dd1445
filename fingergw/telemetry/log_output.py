"""Writing a log's lines without waiting for a disk or a reader."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from attrs import Factory, define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from fingergw.telemetry.disk_thread import DiskThread
from fingergw.telemetry.log_file import (
    OpenFile,
    explained,
    is_journal,
    is_regular,
    open_log,
    opened,
    opened_again,
    own_descriptor,
    tried_to_open,
    write_and_close,
    write_and_reopen,
    write_at_once,
)

_log = Logger()
MAX_WAITING_BYTES = 1 << 20
_RETRY_SECONDS = 0.05
_TROUBLE_SECONDS = 1.0  # until the next attempt, once nobody reads it or the disk is full
HUNG_SECONDS = 5.0  # after which a disk is said to hang
CLOSE_SECONDS = 1.0
_HANGS = "its disk does not respond"


@define(eq=False, repr=False)
class Output:
    """Write lines, and wait neither for a disk nor for a reader.

    Up to 1 MiB of what cannot be written is kept. What is beyond that is lost, and counted. A line that was partly
    written is always completed before the next one. Once the reactor runs, a regular file is opened, written to and
    closed in a thread: no flag keeps these calls from waiting for a disk that hangs.

    :param path: a file, or ``-`` for standard output; see :func:`standard_output`.
    :param name: what messages call it.
    :param lost: how many lines were lost.
    :param is_journal: whether it is the systemd journal.
    """

    path: str
    name: str
    reactor: Any
    lost: int = field(init=False, default=0)
    is_journal: bool = field(init=False, default=False)
    _fd: int = field(init=False, default=-1)
    _users: int = field(init=False, default=0)
    _poll: select.poll | None = field(init=False, default=None)  # None for a regular file, which needs no reader
    _is_shared: bool = field(init=False, default=False)  # with others, so it must stay as blocking as it is
    _disk: DiskThread = field(init=False, default=Factory(lambda self: DiskThread(self.reactor), takes_self=True))
    _waiting: bytes = field(init=False, default=b"")
    _writing: int = field(init=False, default=0)  # how many of these bytes are being written
    _busy_since: float = field(init=False, default=0.0)
    _is_begun: bool = field(init=False, default=False)  # the first line of what waits
    _is_in_trouble: bool = field(init=False, default=False)  # and this was logged
    _logged_lost: int = field(init=False, default=0)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _reopens: bool = field(init=False, default=False)  # once the disk is not busy
    _closes: bool = field(init=False, default=False)  # likewise
    _closed: Deferred[None] | None = field(init=False, default=None)  # what waits for that

    def open(self, path: str | None = None, opener: Callable[[str], int] = open_log) -> None:
        """Open it, unless another log has opened it already.

        :param path: where it is now, if it will have another path in a chroot.
        :param opener: opens a file for appending.
        :raises OSError: it cannot be opened for appending, or still hangs; the message says what to do.
        """
        if self._closes:
            raise OSError(errno.ETIMEDOUT, _HANGS, self.path)
        if not self._users:
            number = own_descriptor(self.path)
            if number is not None:
                fd, is_shared = opened_again(number)
                self._use(OpenFile(fd, is_regular(fd)), is_shared)
                self.is_journal = self.path == "-" and is_journal()
            else:
                self._use(opened(path or self.path, opener))
        self._users += 1

    async def open_while_running(self) -> None:
        """Do as :meth:`open`, while the reactor goes on, even if the disk hangs.

        :raises OSError: likewise; or the disk hangs.
        """
        if self._users or own_descriptor(self.path) is not None:
            self.open()
            return
        opening: Deferred[OpenFile | OSError] = Deferred()

        def done(result: OpenFile | OSError) -> None:
            if not opening.called:
                opening.callback(result)
            elif isinstance(result, OpenFile):  # too late
                os.close(result.fd)

        self._disk.do(partial(tried_to_open, self.path), done)
        hung = OSError(errno.ETIMEDOUT, _HANGS, self.path)
        result = await opening.addTimeout(HUNG_SECONDS, self.reactor, lambda *_: hung)
        if isinstance(result, OSError):
            self._disk.end()
            raise result
        self._use(result)
        self._users += 1

    def write(self, lines: bytes) -> None:
        """Write whole lines, now or as soon as possible."""
        if self._fd < 0:
            return
        self._waiting += lines
        self._write()
        is_hung = self._disk.is_busy and self.reactor.seconds() - self._busy_since > HUNG_SECONDS
        is_full = len(self._waiting) > MAX_WAITING_BYTES
        if is_full:
            # keep what is being written, and the first line, however long: a part of it may be written
            kept = max(self._waiting.rfind(b"\n", 0, MAX_WAITING_BYTES) + 1, self._writing)
            kept = kept or self._waiting.find(b"\n") + 1
            self.lost += _count(self._waiting[kept:])
            self._waiting = self._waiting[:kept]
        if is_hung or is_full:
            no_reader = "it has no reader; start the program that reads it"
            self._trouble(f"{_HANGS}; find out what it waits for" if self._disk.is_busy else no_reader)

    def reopen(self) -> None:
        """Write what waits, and continue in the file that has the path now; if it cannot be opened, in the old one."""
        if self._fd < 0 or own_descriptor(self.path) is not None:  # the process was started with it
            return
        self._reopens = True
        self._go_on()

    def close(self) -> Deferred[None]:
        """When the last log that uses it closes it, write what waits, giving a reader or disk one second, and close it.

        :return: fires when that is done.
        """
        self._users = max(0, self._users - 1)
        if self._users or self._fd < 0 or self._closes:
            return succeed(None)
        if self._poll is not None:
            self._wait_for_reader(self._poll)
        self._cancel_timer()
        closed: Deferred[None] = Deferred()
        self._closed, self._closes = closed, True
        self._timer = self.reactor.callLater(CLOSE_SECONDS, self._give_up)
        self._go_on()
        return closed

    def wait_until_closed(self) -> None:
        """Wait for what :meth:`close` returns, where no reactor runs any more."""
        ends = time.monotonic() + CLOSE_SECONDS
        while self._closed is not None:
            if not self._disk.wait(ends - time.monotonic()):
                self._give_up()

    def _use(self, file: OpenFile, is_shared: bool = False) -> None:
        self._fd, self._poll, self._is_shared = file.fd, None, is_shared
        if not file.is_regular:
            self._poll = select.poll()
            self._poll.register(file.fd, select.POLLOUT)
        if file.ends_within_line:
            self._waiting = b"\n" + self._waiting

    def _write(self) -> None:
        """Write what can be written at once, and have the rest tried again."""
        if self._disk.is_busy or self._fd < 0:
            return
        self._writing, self._busy_since = len(self._waiting), self.reactor.seconds()
        if self._poll is None:
            self._disk.do(partial(write_at_once, self._fd, self._waiting), self._wrote)
        else:
            self._wrote(write_at_once(self._fd, self._waiting, self._poll if self._is_shared else None))

    def _wrote(self, result: tuple[int, OSError | None]) -> None:
        done, error = result
        self._tell(self._drop_written(done), error)
        self._go_on()

    def _drop_written(self, done: int) -> bool:
        """Keep what was not written, which is all after so many bytes; return whether nothing was left."""
        waiting, is_all, self._writing = self._waiting, done == self._writing, 0
        if done:
            self._waiting, self._is_begun = waiting[done:], waiting[done - 1 : done] != b"\n"
        return is_all

    def _tell(self, is_all: bool, error: OSError | None) -> None:
        """Have the rest tried again, and log how writing goes: to this very log, if it is the event log.

        :param error: why there is a rest; None if it only has to wait.
        """
        if not is_all:
            if not self._has_timer():
                seconds = _TROUBLE_SECONDS if self._is_in_trouble else _RETRY_SECONDS
                self._timer = self.reactor.callLater(seconds, self._write)
            if error is not None:
                self._trouble(f"cannot be written: {explained(error)}")
        elif self._is_in_trouble or self.lost > self._logged_lost:
            lost, self._logged_lost, self._is_in_trouble = self.lost - self._logged_lost, self.lost, False
            _log.error("{name}: can be written again; lines lost: {lost}", name=self.name, lost=lost)

    def _go_on(self) -> None:
        """Do what is to be done next, unless the disk is still busy."""
        if self._disk.is_busy or self._fd < 0:
            return
        if self._reopens:
            self._reopens = False
            self._writing, self._busy_since = len(self._waiting), self.reactor.seconds()
            self._disk.do(partial(write_and_reopen, self._fd, self._waiting, self.path), self._reopened)
        elif self._closes and self._poll is None:
            self._disk.do(partial(write_and_close, self._fd, self._waiting), self._ended)
        elif self._closes:
            os.close(self._fd)
            self._ended(0)
        elif self._waiting and not self._has_timer():
            self._write()

    def _reopened(self, result: tuple[int, OSError | None, OpenFile | OSError]) -> None:
        done, error, file = result
        is_all = self._drop_written(done)
        if isinstance(file, OpenFile):
            if self._is_begun:  # in the old file
                self._is_begun, self._waiting = False, self._waiting.partition(b"\n")[2]
                self.lost += 1
            self._use(file)  # before anything is logged: the old descriptor is closed, and may be a client's by now
        self._tell(is_all, error)
        if isinstance(file, OSError):
            text = "{name}: cannot be reopened, so lines go to the old file: {why}"
            _log.error(text, name=self.name, why=file.strerror, throttled=False)
            self._go_on()
        else:
            self._write()

    def _wait_for_reader(self, poll: select.poll) -> None:
        """Write what waits, and give who reads it one second."""
        ends = time.monotonic() + CLOSE_SECONDS
        self._write()
        while self._waiting:
            left, before = ends - time.monotonic(), len(self._waiting)
            if left <= 0 or not poll.poll(left * 1000):
                break
            self._write()
            if len(self._waiting) >= before and self._is_in_trouble:
                break

    def _ended(self, done: int) -> None:
        self._fd, self._waiting = -1, self._waiting[done:]
        self._is_begun = self._is_in_trouble = self._closes = False
        self._disk.end()
        self._disk = DiskThread(self.reactor)
        self._give_up()

    def _give_up(self) -> None:
        """Write no more; a disk that hangs may still close the file, once it goes on."""
        self._cancel_timer()
        self.lost += _count(self._waiting)
        self._waiting = b""
        if self.lost > self._logged_lost:
            _log.error("{name}: lines lost: {lost}", name=self.name, lost=self.lost - self._logged_lost)
            self._logged_lost = self.lost
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.callback(None)

    def _has_timer(self) -> bool:
        return self._timer is not None and self._timer.active()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _trouble(self, why: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            text = "{name}: {why}. Until then 1 MiB of lines is kept, and further lines are lost"
            _log.error(text, name=self.name, why=why)


@cache
def standard_output(reactor: Any) -> Output:
    """Return standard output. Logs that go there share it, so that none breaks into another's line."""
    return Output("-", "standard output", reactor)


def _count(lines: bytes) -> int:
    return sum(1 for line in lines.split(b"\n") if line)
