"""The file of the SQLite store: its format, its rights, damage, and its bounds. It blocks, and is for one thread."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path

from attrs import define, field

from fingergw.cache.shares import Owner, Shares
from fingergw.cache.store import Claim, Found
from fingergw.core.addresses import anonymised
from fingergw.net.file_rights import exposure, followed, refuse_exposed, refuse_foreign

_APPLICATION_ID = 0x46677743
_SCHEMA_VERSION = 2
_HEADER_BYTES = 100
_NO_CACHE = "is not a cache of fingergw; name another file"
_BUSY_SECONDS = 0.2
# A row from further in the future is ignored: the clock was wrong, and its age cannot be known.
_SET_BACK_SECONDS = 60.0
# Ids increase, even if a row is replaced: their order is that of writing, however the clock is set.
_SCHEMA = (
    """CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,
    digest BLOB NOT NULL, stored_at REAL NOT NULL, expires_at REAL NOT NULL,
    backend TEXT NOT NULL, client TEXT NOT NULL, other TEXT NOT NULL)""",
    "CREATE INDEX expiry ON answers (expires_at)",
)
_READ_SCHEMA = "SELECT sql FROM sqlite_master WHERE tbl_name = 'answers' AND sql <> '' ORDER BY rowid"
_FIND = """SELECT value, digest, stored_at FROM answers WHERE key = ? AND expires_at > ?
    AND stored_at <= ? AND (typeof(value), typeof(stored_at), typeof(expires_at)) = ('blob', 'real', 'real')"""
_SIZES = """SELECT key, coalesce(length(key) + length(value), 0), backend, client, other FROM answers ORDER BY id"""


@define(eq=False, repr=False)
class SqliteFile:
    """The file. It is to be closed even if opening it has failed.

    :param max_bytes: of all keys and values together.
    :param anonymises: whether it may have only the networks of clients.
    :param is_replaceable: whether anybody could replace the file, as all may write to its folder.
    :param was_emptied: whether it had the addresses of clients and may not.
    """

    path: Path
    max_entries: int
    max_bytes: int
    anonymises: bool = False
    is_replaceable: bool = field(init=False, default=False)
    was_emptied: bool = field(init=False, default=False)
    _connection: sqlite3.Connection | None = field(init=False, default=None)
    _status: os.stat_result | None = field(init=False, default=None)
    _shares: Shares[bytes, None] = field(init=False)
    _counted: int | None = field(init=False, default=None)  # the data_version for which the shares are right

    def open(self, now: float, is_suspect: bool) -> bool:
        """Open the file, and create or repair it if necessary.

        :param is_suspect: whether to check all of it for damage, which takes a second for some hundred megabytes.
        :return: whether it was damaged: it has been moved to ``<path>.corrupt``, and a new one was created.
        :raises OSError: it cannot be opened; a PermissionError if others may have written to it, or can read it.
        :raises sqlite3.Error: likewise.
        """
        self.path = followed(self.path)  # SQLite's other files are beside the file itself
        self.is_replaceable = bool(self.path.parent.stat().st_mode & stat.S_IWOTH)
        try:
            self._open(now, is_suspect)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
        else:
            if self.anonymises and self._names_clients():
                self._close_for_another()
                self.path.unlink()  # to delete the rows would leave them in the file
                self._open(now, False)
                self.was_emptied = True
            return False
        self._close_for_another()
        self.path.replace(f"{self.path}.corrupt")
        self._open(now, False)
        return True

    def _close_for_another(self) -> None:
        """Close the file, so that another can take its place."""
        self.close()
        for companion in self._companions:  # SQLite would apply them to the new file
            companion.unlink(missing_ok=True)

    def _names_clients(self) -> bool:
        """Return whether there is a whole address of a client; where there is one in a key, the row is the client's."""
        found = self._connected().execute("SELECT client FROM answers UNION SELECT other FROM answers")
        return any(anonymised(name) != name for name in (_text(stored) for (stored,) in found))

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            self._connection.close()

    def claim(self, key: bytes, known: str, now: float) -> Found | Claim:
        """Find a value; see :class:`fingergw.cache.store.Store`. A claim is always granted: the file is not shared."""
        row = self._connected().execute(_FIND, (key, now, now + _SET_BACK_SECONDS)).fetchone()
        if row is not None:
            value, digest, stored_at = row
            found = sha1(value, usedforsecurity=False)
            if found.digest() == digest and found.hexdigest() != known:  # SQLite does not notice damage within a value
                return Found(value, max(0.0, now - stored_at))
        return "granted"

    def put(self, key: bytes, value: bytes, now: float, expires_at: float, owner: Owner) -> None:
        """Replace a value, and make room for it. One that is larger than the bounds is not kept.

        :param owner: who has asked for it.
        """
        size = len(key) + len(value)
        row = (key, value, sha1(value, usedforsecurity=False).digest(), now, expires_at)
        with self._writing() as connection:
            if size > self.max_bytes:  # or it would evict all the others, and then itself
                self._drop(key)
                return
            if key in self._shares.items:
                self._delete(key)
            item = self._shares.put(key, None, size, owner)
            owners = (item.owner.backend, item.owner.client, item.other.client)
            connection.execute("INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *owners))
            self._trim(now)

    def drop(self, key: bytes) -> None:
        """Remove a value."""
        with self._writing():
            self._drop(key)

    def _open(self, now: float, is_suspect: bool) -> None:
        status = self._checked()
        self._refuse_companions()
        uri = f"{self.path.as_uri()}?mode=rw"
        connection = self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        connection.text_factory = bytes  # damaged text may not be UTF-8
        if is_suspect and connection.execute("PRAGMA integrity_check(1)").fetchone() != (b"ok",):
            raise self._damaged()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone() != (_SCHEMA_VERSION,):
                connection.execute("DROP TABLE IF EXISTS answers")
                for sql in _SCHEMA:
                    connection.execute(sql)
            if connection.execute(_READ_SCHEMA).fetchall() != [(sql.encode(),) for sql in _SCHEMA]:
                raise self._damaged()
            # Always written, and before there is a WAL, so that the file itself never lacks the id.
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        self._status, self._counted = status, None  # another connection's data_version says nothing of this one
        self._refuse_companions()  # somebody may have created one before SQLite did
        with self._writing():
            self._trim(now)

    def _checked(self) -> os.stat_result:
        """Create the file if there is none, and refuse it if it is not fingergw's own.

        SQLite would create one that others can read, and recover another program's. Closing the file here drops
        SQLite's locks on it, so it must not be open elsewhere in this process.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
        try:
            header, status = os.read(fd, _HEADER_BYTES), os.fstat(fd)
            if not _may_be_cache(header):
                raise FileExistsError(errno.EEXIST, _NO_CACHE, str(self.path))
            if not header and status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH:
                os.fchmod(fd, 0o600)  # there has been nothing to read yet
                status = os.fstat(fd)
        finally:
            os.close(fd)
        refuse_exposed(self.path, status)
        return status

    @property
    def _companions(self) -> list[Path]:
        return [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-shm", "-journal")]

    def _refuse_companions(self) -> None:
        for companion in self._companions:
            with suppress(FileNotFoundError):
                refuse_foreign(companion, companion.lstat())

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"{self.path} is not open")
        return self._connection

    def _damaged(self) -> sqlite3.DatabaseError:
        return sqlite3.DatabaseError(f"{self.path} is damaged")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction. The shares are right within it, even if another process has written."""
        try:
            with self._connected() as connection:
                if self._status is not None and not os.path.samestat(self._status, self.path.stat()):
                    raise FileNotFoundError(errno.ENOENT, "was replaced by another file", str(self.path))
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != self._counted:
                    self._count(connection)
                    self._counted = version
                yield connection
        except BaseException:
            self._counted = None
            raise

    def _count(self, connection: sqlite3.Connection) -> None:
        """Read who holds how much."""
        self._shares = Shares(self.max_entries, self.max_bytes)
        rows = 0
        for key, size, backend, *clients in connection.execute(_SIZES):
            rows += 1
            for client in dict.fromkeys(clients):
                self._shares.put(key, None, size, Owner(_text(backend), _text(client)))
        if len(self._shares.items) != rows:  # one of them could never be evicted
            raise self._damaged()

    def _trim(self, now: float) -> None:
        """Remove expired rows, then those that go first until the rest is within bounds."""
        connection = self._connected()
        expired = connection.execute("SELECT key FROM answers WHERE expires_at <= ?", (now,)).fetchall()
        if expired:
            connection.execute("DELETE FROM answers WHERE expires_at <= ?", (now,))
        for (key,) in expired:
            self._shares.drop(key)
        for key in self._shares.evict():
            self._delete(key)

    def _drop(self, key: bytes) -> None:
        """Remove a row within a transaction; if there is none, nothing is written."""
        if key in self._shares.items:
            self._shares.drop(key)
            self._delete(key)

    def _delete(self, key: bytes) -> None:
        if self._connected().execute("DELETE FROM answers WHERE key = ?", (key,)).rowcount != 1:
            raise self._damaged()  # it would count for ever, and not be there


def why_refused(path: Path) -> str:
    """Return why a file would not be opened as a cache, as far as a look at it tells; empty if it would be.

    It must not be open in this process: closing it here would drop SQLite's locks on it.
    """
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            header, status = os.read(fd, _HEADER_BYTES), os.fstat(fd)
        finally:
            os.close(fd)
        if not stat.S_ISREG(status.st_mode) or not _may_be_cache(header):
            return _NO_CACHE
        if header and (why := exposure(path, status.st_mode)):
            return f"cannot be trusted: {why}"
    return ""


def _may_be_cache(header: bytes) -> bool:
    """Tell whether a file that begins so is empty, or a cache of fingergw."""
    return not header or (header[:16], header[68:72]) == (b"SQLite format 3\0", _APPLICATION_ID.to_bytes(4, "big"))


def _text(stored: object) -> str:
    """Return a text from a row, whatever damage has made of it."""
    return stored.decode(errors="replace") if isinstance(stored, bytes) else ""


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error is a damaged file's. SQLite's message may quote damaged text that is not UTF-8."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return (
        isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)
        and not isinstance(error, sqlite3.ProgrammingError)
        and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    )
