"""A store in an SQLite file: one gateway's cache survives a restart."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from fingergw.cache.shares import Owner
from fingergw.cache.sqlite_file import SqliteFile, is_damage
from fingergw.cache.store import Claim, Found, Mark
from fingergw.core.addresses import anonymised

_log = Logger()
_P = ParamSpec("_P")
_R = TypeVar("_R")
CLOSE_SECONDS = 5.0
"""How long closing waits for the file's thread."""
_MAX_HUNG = 2


@define(eq=False, repr=False)
class SqliteStore:
    """Keep values in a file that is this process's alone, with a thread of its own. Claims are always granted.

    :param path: of a file that nothing else uses.
    :param max_bytes: of all keys and values together.
    :param now: the time of day, in seconds since 1970.
    :param reactor: an IReactorFromThreads and IReactorTime.
    :param anonymises: whether only the networks of clients are written.
    :param is_suspect: whether there was a sign of damage: then opening checks the whole file.
    :param hung: the threads that have not ended since the store was closed, as when a disk hangs.
    """

    path: Path
    max_entries: int
    max_bytes: int
    now: Callable[[], float]
    reactor: Any
    anonymises: bool = False
    is_suspect: bool = field(init=False, default=False)
    hung: int = field(init=False, default=0)
    _has_warned: bool = field(init=False, default=False)  # about its folder
    _pool: ThreadPool | None = field(init=False, default=None)
    _file: SqliteFile = field(
        init=False,
        default=Factory(lambda self: self._new_file(), takes_self=True),
    )

    async def open(self) -> None:
        """Open the file; see :meth:`SqliteFile.open` for what that raises."""
        while self._pool is not None:  # another call may have opened it meanwhile
            await self.close()
        if self.hung >= _MAX_HUNG:  # each is a thread
            raise TimeoutError(errno.ETIMEDOUT, "the disk hangs", str(self.path))
        pool = self._pool = ThreadPool(1, 1, "sqlite")
        # A thread that a disk holds up must not hold up the exit of the process.
        pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        pool.start()
        file = self._file = self._new_file()
        try:
            was_damaged = await self._run(file.open, self.now(), self.is_suspect)
            self.is_suspect = False
        except BaseException:
            if self._pool is pool:
                self._let_go(pool)
            raise
        if was_damaged:
            _log.error("{path}: damaged; it was moved to {path}.corrupt, and an empty file replaces it", path=file.path)
        if file.was_emptied:
            text = "{path}: emptied, as it had the whole addresses of clients, and anonymise is set in [log]"
            _log.info(text, path=file.path)
        if file.is_replaceable and not self._has_warned:
            self._has_warned = True
            text = "{path}: others can write to its folder, and replace it; keep it in a folder of fingergw's own"
            _log.warn(text, path=file.path)

    async def close(self) -> None:
        """Finish pending calls and close the file; do not wait long for that."""
        if self._pool is not None:
            await self._let_go(self._pool).addTimeout(
                CLOSE_SECONDS,
                self.reactor,
                lambda _, seconds: _log.error(
                    "{path}: not closed within {seconds:g} s; its disk may hang", path=self.path, seconds=seconds
                ),
            )

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        return await self._run(self._file.claim, _encode(key), known, self.now())

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: Mark = ""
    ) -> None:
        if missing:  # names can be invented without end
            return await self.drop(key)
        now = self.now()
        if self.anonymises:
            owner = owner._replace(client=anonymised(owner.client))
        return await self._run(self._file.put, _encode(key), value, now, now + keep_seconds, owner)

    async def drop(self, key: str, mark: Mark = "") -> None:
        await self._run(self._file.drop, _encode(key))

    async def release(self, key: str, mark: Mark) -> None:
        pass

    def _new_file(self) -> SqliteFile:
        return SqliteFile(self.path, self.max_entries, self.max_bytes, self.anonymises)

    def _run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_R]:
        if self._pool is None:
            raise sqlite3.ProgrammingError(f"{self.path} is not open")
        return deferToThreadPool(self.reactor, self._pool, work, *args, **kwargs).addErrback(self._note_damage)

    def _note_damage(self, failure: Failure) -> Failure:
        self.is_suspect = self.is_suspect or is_damage(failure.value)
        return failure

    def _let_go(self, pool: ThreadPool) -> Deferred[Any]:
        closed: Deferred[Any] = Deferred()  # its own: cancelling it does not end the thread
        self.hung += 1
        self._run(self._file.close).addBoth(self._note_end).chainDeferred(closed)
        self._pool = None
        pool.threads.clear()  # they end when their work is done; joining them would block the reactor
        pool.stop()
        return closed

    def _note_end(self, result: _R) -> _R:
        self.hung -= 1
        return result


def _encode(key: str) -> bytes:
    return key.encode(errors="surrogatepass")
