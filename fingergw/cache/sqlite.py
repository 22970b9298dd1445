"""A store in an SQLite file: what one gateway has kept survives its restart."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha1
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from fingergw.cache.store import Claim, Found, Mark
from fingergw.net.file_rights import followed, refuse_exposed, refuse_foreign

_log = Logger()
_P = ParamSpec("_P")
_R = TypeVar("_R")
_APPLICATION_ID = 0x46677743
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 0.2
_CLOSE_SECONDS = 5.0
# A row from further in the future is none: the clock was wrong, and nobody knows how old it is.
_SET_BACK_SECONDS = 60.0
_MAX_STUCK = 2
# Ids rise, also where a row is replaced: their order is that of writing, however the clock is set.
_SCHEMA = (
    """CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,
    digest BLOB NOT NULL, stored_at REAL NOT NULL, expires_at REAL NOT NULL)""",
    "CREATE INDEX expiry ON answers (expires_at)",
)
_READ_SCHEMA = "SELECT sql FROM sqlite_master WHERE tbl_name = 'answers' AND sql <> '' ORDER BY rowid"
_FIND = """SELECT value, digest, stored_at FROM answers WHERE key = ? AND expires_at > ?
    AND stored_at <= ? AND (typeof(value), typeof(stored_at), typeof(expires_at)) = ('blob', 'real', 'real')"""
_TOTALS = "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM answers"


@define(eq=False)
class _Database:
    """The file, for one thread alone; it is closed also after opening has failed."""

    path: Path
    max_entries: int
    max_bytes: int
    _connection: sqlite3.Connection | None = field(init=False, default=None)
    _entries: int = field(init=False, default=0)
    _bytes: int = field(init=False, default=0)
    _counted: int | None = field(init=False, default=None)  # the data_version that the totals are of
    _file: os.stat_result | None = field(init=False, default=None)
    is_replaceable: bool = field(init=False, default=False)  # by anybody, as all may write to its folder

    @property
    def _companions(self) -> list[Path]:
        return [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-shm", "-journal")]

    def _refuse_companions(self) -> None:
        for companion in self._companions:
            with suppress(FileNotFoundError):
                refuse_foreign(companion, companion.lstat())

    def open(self, now: float, is_suspect: bool) -> bool:
        """Make it ready to be read and written; tell whether it was damaged, and begun anew.

        :param is_suspect: whether to look for damage everywhere, which takes a second for some hundred megabytes.
        """
        self.path = followed(self.path)  # SQLite's other files are beside the file itself
        self.is_replaceable = bool(self.path.parent.stat().st_mode & stat.S_IWOTH)
        try:
            self._open(now, is_suspect)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise
        else:
            return False
        self.close()
        for companion in self._companions:  # they would be played into the new file
            companion.unlink(missing_ok=True)
        self.path.replace(f"{self.path}.corrupt")
        self._open(now, False)
        return True

    def _open(self, now: float, is_suspect: bool) -> None:
        # SQLite would make a file that others may read, and recover a stranger's before it tells whose it is. To close
        # the file here drops SQLite's locks on it: it must not be open elsewhere in this process.
        fd = os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
        try:
            header, status = os.read(fd, 100), os.fstat(fd)
            if header and (header[:16], header[68:72]) != (b"SQLite format 3\0", _APPLICATION_ID.to_bytes(4, "big")):
                raise FileExistsError(errno.EEXIST, "is not fingergw's; name another file", str(self.path))
            if not header and status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH:
                os.fchmod(fd, 0o600)  # others have had nothing to read yet
                status = os.fstat(fd)
        finally:
            os.close(fd)
        refuse_exposed(self.path, status)
        self._refuse_companions()
        uri = f"{self.path.as_uri()}?mode=rw"
        connection = self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        connection.text_factory = bytes  # what is damaged may be no UTF-8
        if is_suspect and connection.execute("PRAGMA integrity_check(1)").fetchone() != (b"ok",):
            raise sqlite3.DatabaseError(f"{self.path} is damaged")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone() != (_SCHEMA_VERSION,):
                connection.execute("DROP TABLE IF EXISTS answers")
                for sql in _SCHEMA:
                    connection.execute(sql)
            if connection.execute(_READ_SCHEMA).fetchall() != [(sql.encode(),) for sql in _SCHEMA]:
                raise sqlite3.DatabaseError(f"{self.path} is damaged")
            # Written, changed or not. Before there is a WAL, so that the file itself never lacks the id.
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        self._file = status
        self._refuse_companions()  # one may have come before SQLite made its own
        with self._writing():
            self._trim(now)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def claim(self, key: bytes, known: str, now: float) -> Found | Claim:
        row = self._connected().execute(_FIND, (key, now, now + _SET_BACK_SECONDS)).fetchone()
        if row is not None:
            value, digest, stored_at = row
            found = sha1(value, usedforsecurity=False)
            if found.digest() == digest and found.hexdigest() != known:  # SQLite itself sees no damage within a value
                return Found(value, max(0.0, now - stored_at))
        return Claim("granted")

    def put(self, key: bytes, value: bytes, now: float, expires_at: float) -> None:
        size = len(key) + len(value)
        row = (key, value, sha1(value, usedforsecurity=False).digest(), now, expires_at)
        with self._writing() as connection:
            self._delete("key = ?", key)
            if size <= self.max_bytes:  # or all the others would make room for it, and then it itself
                connection.execute("INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?)", row)
                self._entries += 1
                self._bytes += size
                self._trim(now)

    def drop(self, key: bytes) -> None:
        with self._writing():
            self._delete("key = ?", key)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"{self.path} is not open")
        return self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction, in which the totals are right: another process may have written."""
        try:
            with self._connected() as connection:
                if self._file is not None and not os.path.samestat(self._file, self.path.stat()):
                    raise FileNotFoundError(errno.ENOENT, "is another file now", str(self.path))
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != self._counted:
                    self._entries, self._bytes = connection.execute(_TOTALS).fetchone()
                    self._counted = version
                yield connection
        except BaseException:
            self._counted = None
            raise

    def _trim(self, now: float) -> None:
        """Remove what has expired, and then what was written longest ago, until the rest is within bounds."""
        self._delete("expires_at <= ?", now)
        while self._entries > self.max_entries or self._bytes > self.max_bytes:
            if not self._delete("id = (SELECT min(id) FROM answers)"):
                raise sqlite3.DatabaseError(f"{self.path} is damaged")  # or this would go on for ever

    def _delete(self, condition: str, *values: object) -> bool:
        """Remove rows within a transaction; where there are none, nothing is written."""
        connection = self._connected()
        entries, size = connection.execute(f"{_TOTALS} WHERE {condition}", values).fetchone()
        if entries:
            connection.execute(f"DELETE FROM answers WHERE {condition}", values)  # noqa: S608  # all are in this class
            self._entries -= entries
            self._bytes -= size
        return bool(entries)


@define(eq=False)
class SqliteStore:
    """Keep values in a file, for one process, by a thread of its own; it can always be claimed to ask upstream.

    :param path: of a file that is this store's own. If it is damaged, it is moved to ``<path>.corrupt``.
    :param max_bytes: of all keys and values together.
    :param now: the time of day, in seconds since 1970.
    :param reactor: an IReactorFromThreads and IReactorTime.
    """

    path: Path
    max_entries: int
    max_bytes: int
    now: Callable[[], float]
    reactor: Any
    _pool: ThreadPool | None = field(init=False, default=None)
    _is_suspect: bool = field(init=False, default=False)
    _has_warned: bool = field(init=False, default=False)  # of its folder
    _stuck: int = field(init=False, default=0)  # pools that were let go, and have not ended
    _database: _Database = field(
        init=False,
        default=Factory(lambda self: _Database(self.path, self.max_entries, self.max_bytes), takes_self=True),
    )

    async def open(self) -> None:
        """Make or open the file, and write to it.

        :raises OSError: it cannot be.
        :raises PermissionError: somebody else may have written to it, or read it.
        :raises sqlite3.Error: likewise, or it is another program's.
        """
        while self._pool is not None:  # another may have opened it meanwhile
            await self.close()
        if self._stuck >= _MAX_STUCK:  # each has a thread
            raise TimeoutError(errno.ETIMEDOUT, "the disk hangs", str(self.path))
        pool = self._pool = ThreadPool(1, 1, "sqlite")
        # A thread that is stuck in a disk must not hold up the process's exit.
        pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        pool.start()
        database = self._database = _Database(self.path, self.max_entries, self.max_bytes)
        try:
            damaged = await self._run(database.open, self.now(), self._is_suspect)
            self._is_suspect = False
        except BaseException:
            if self._pool is pool:
                self._let_go(pool)
            raise
        if damaged:
            _log.error("{path}: damaged; moved to {path}.corrupt, and begun anew", path=database.path)
        if database.is_replaceable and not self._has_warned:
            self._has_warned = True
            text = "{path}: others can write to its folder, and replace it; keep it in a folder of fingergw's own"
            _log.warn(text, path=database.path)

    async def close(self) -> None:
        """Finish what was asked for, and close the file; do not wait long for that."""
        if self._pool is not None:
            await self._let_go(self._pool).addTimeout(
                _CLOSE_SECONDS,
                self.reactor,
                lambda _, seconds: _log.error("{path}: not closed in {seconds:g} s", path=self.path, seconds=seconds),
            )

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        return await self._run(self._database.claim, _encode(key), known, self.now())

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, mark: Mark = "", mark_seconds: float = 0.0
    ) -> None:
        if missing:  # names can be invented without end
            return await self.drop(key)
        now = self.now()
        return await self._run(self._database.put, _encode(key), value, now, now + keep_seconds)

    async def drop(self, key: str, mark: Mark = "", mark_seconds: float = 0.0) -> None:
        await self._run(self._database.drop, _encode(key))

    async def release(self, key: str, mark: Mark, mark_seconds: float) -> None:
        pass

    def _run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_R]:
        if self._pool is None:
            raise sqlite3.ProgrammingError(f"{self.path} is not open")
        return deferToThreadPool(self.reactor, self._pool, work, *args, **kwargs).addErrback(self._note_damage)

    def _note_end(self, result: _R) -> _R:
        self._stuck -= 1
        return result

    def _note_damage(self, failure: Failure) -> Failure:
        self._is_suspect = self._is_suspect or _is_damage(failure.value)
        return failure

    def _let_go(self, pool: ThreadPool) -> Deferred[Any]:
        closed: Deferred[Any] = Deferred()  # of its own: who gives it up does not end the thread
        self._stuck += 1
        self._run(self._database.close).addBoth(self._note_end).chainDeferred(closed)
        self._pool = None
        pool.threads.clear()  # they end when their work is done; to join them would block the reactor
        pool.stop()
        return closed


def _is_damage(error: BaseException | None) -> bool:
    """Tell whether an error is a damaged file's. SQLite's own message may quote what is damaged, and be no UTF-8."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return (
        isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)
        and not isinstance(error, sqlite3.ProgrammingError)
        and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    )


def _encode(key: str) -> bytes:
    return key.encode(errors="surrogatepass")
