"""Unix sockets: the file of each is held by a lock, and taken over from a process that is gone."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import _reservedFD
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.errors import ListenError
from fingergw.listen.socket_files import is_in_place, is_stale, lock_path
from fingergw.net.root import outside

_LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK_MODE = 0o600  # so that nobody else can lock it


@implementer(IStreamServerEndpoint)
@frozen(eq=False, repr=False)
class UnixEndpoint:
    """Where a unix socket is to be.

    :param path: as this process sees it once it has changed its root.
    :param has_lock: whether it is held by ``PATH.lock``.
    """

    reactor: Any
    path: Path
    mode: int
    backlog: int
    has_lock: bool

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Bind it.

        :return: fires with an ``IListeningPort``; or fails with ListenError, or OSError.
        """
        return execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> UnixPort:
        port = UnixPort(self, factory)
        port.startListening()
        return port


class UnixPort(unix.Port):
    """A listening unix socket; it removes no file but its own."""

    def __init__(self, endpoint: UnixEndpoint, factory: IProtocolFactory) -> None:
        super().__init__(os.fsencode(endpoint.path), factory, endpoint.backlog, endpoint.mode, endpoint.reactor)
        self.path = endpoint.path
        self._lock = _Lock(endpoint.path) if endpoint.has_lock else None
        self._file: os.stat_result | None = None

    def startListening(self) -> None:
        """Bind the socket, in place of one whose process is gone.

        :raises ListenError: another process has it, or what is there is no socket.
        :raises OSError: it cannot be bound.
        """
        # not unix.Port's, which sets the mode of whatever is at the path by then
        bound = self._bound()
        _reservedFD.reserve()
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {str(self.path)!r}")
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected, self.numberAccepts = True, 100
        self._use(bound)

    def _use(self, bound: socket.socket) -> None:
        """Accept connections from a socket, as Twisted does it."""
        self.socket, self.fileno = bound, bound.fileno  # type: ignore[method-assign]
        self.startReading()

    @property
    def is_in_place(self) -> bool:
        """Whether the socket's file is still there; in doubt it is."""
        return is_in_place(self._file, self.path)

    def restore(self) -> None:
        """Make the socket's file anew. What is in the old socket's queue must have been accepted.

        :raises ListenError: as :meth:`startListening`.
        :raises OSError: likewise.
        """
        bound = self._bound()
        self.stopReading()
        self.socket.close()
        self._use(bound)

    def withdraw(self) -> None:
        """Remove the file if possible, so that no client comes between the last that is accepted and the end."""
        with suppress(OSError):  # the end tries again
            if self.is_in_place:
                self.path.unlink()

    def connectionLost(self, reason: Failure = Failure(CONNECTION_DONE)) -> None:  # noqa: B008  # as Twisted has it
        """Remove the file, and close the socket.

        :raises OSError: the file cannot be removed; all else is done.
        """
        try:
            if self.is_in_place:
                self.path.unlink()
        finally:
            tcp.Port.connectionLost(self, reason)  # unix.Port's removes whatever is there
            if self._lock is not None:
                self._lock.release()

    def _bound(self) -> socket.socket:
        if self._lock is not None:
            self._lock.acquire()
        try:
            if is_stale(self.path):
                self.path.unlink()
            bound: socket.socket = self.createInternetSocket()
            try:
                self._bind(bound)
                bound.listen(self.backlog)
                self._file = self.path.lstat()
            except OSError:
                bound.close()
                raise
        except (OSError, ListenError):
            if self._lock is not None and not self.connected:
                self._lock.release()
            raise
        return bound

    def _bind(self, bound: socket.socket) -> None:
        """Make the file with its mode at once: whoever has the folder could have put a link there before a chmod."""
        mask = os.umask(0o777 & ~self.mode)
        try:
            bound.bind(str(self.path))
        finally:
            os.umask(mask)


@define(eq=False, repr=False)
class _Lock:
    """The lock that holds a socket's path: ``PATH.lock``, an empty file that is locked as long as this process lives.

    It belongs to the open file, so that no program has it, and to no number, which another process may have next.
    """

    socket_path: Path
    path: Path = field(init=False)
    _fd: int = field(init=False, default=-1)

    @path.default
    def _find_path(self) -> Path:
        return lock_path(self.socket_path)

    def acquire(self) -> None:
        """Take it; or see that it is still held, and take it anew if its file is gone.

        :raises ListenError: another process has it, or its file is something else.
        :raises OSError: the file cannot be opened.
        """
        while not self._is_in_place():
            self._close()
            self._fd = self._open()
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._close()
                if error.errno != errno.EWOULDBLOCK:  # the file system has no locks
                    raise
                why = f"another process has this socket, as it has locked {outside(self.path)}"
                raise ListenError(f"{why}; stop that process, or name another path") from None

    def release(self) -> None:
        """Remove its file if possible, and unlock it in any case."""
        if self._is_in_place():
            with suppress(OSError):
                self.path.unlink()
        self._close()

    def _open(self) -> int:
        try:
            fd = os.open(self.path, _LOCK_FLAGS)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return os.open(self.path, _LOCK_FLAGS | os.O_CREAT | os.O_EXCL, _LOCK_MODE)
            return self._open()
        except OSError as error:
            # Twisted, and so earlier versions, have a link to a process's number there; or it is another user's
            is_link = error.errno == errno.ELOOP and str(self.path.readlink()).isdecimal()
            if error.errno != errno.EACCES and not is_link:
                if not stat.S_ISREG(self.path.lstat().st_mode):
                    raise self._is_another_file() from None
                raise
            is_stale(self.socket_path)  # or this raises
            if not is_link or self.path.is_symlink():  # else another gateway has been here meanwhile
                self.path.unlink()
            return self._open()
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size:
            os.close(fd)
            raise self._is_another_file()
        return fd

    def _is_another_file(self) -> ListenError:
        return ListenError(f"{outside(self.path)} is not a socket's lock; remove it, or name another path")

    def _is_in_place(self) -> bool:
        return is_in_place(None if self._fd < 0 else os.fstat(self._fd), self.path)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
