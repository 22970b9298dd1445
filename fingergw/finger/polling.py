"""Connections that wait, in an epoll of their own, and what is done for many of them at once."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

READABLE, WRITABLE = getattr(select, "EPOLLIN", 1), getattr(select, "EPOLLOUT", 4)
_AT_ONCE = 256


class Waiting(Protocol):
    """A connection that waits for its socket."""

    def ready(self, events: int) -> None:
        """Read and write what can be; never raise."""


class Acting(Protocol):
    """A connection that has something to send, or is to be closed."""

    def act(self) -> None:
        """Do it, as far as can be done at once; never raise."""


@implementer(IReadDescriptor)
class Polling:
    """Tell connections when their sockets are ready, and have them act together at the end of a batch.

    The reactor has them all as one descriptor, an epoll within its own: so a connection costs it nothing, and needs no
    more than two system calls to wait. What is sent at the end of a batch wakes the clients of this machine once, not
    each time in between.

    :param reactor: has ``addReader``, ``removeReader`` and ``callLater``.
    :param at_end: called at the end of each batch, before the connections act.
    """

    def __init__(self, reactor: Any, at_end: Callable[[], object]) -> None:
        self._reactor, self._at_end = reactor, at_end
        self._epoll = select.epoll()
        self._waiting: dict[int, Waiting] = {}
        self._acting: list[Acting] = []
        self._is_batch = self._is_called = self._is_ending = False
        reactor.addReader(self)

    def watch(self, fd: int, waiting: Waiting, events: int) -> None:
        """Tell a connection of these events from now on, and of the end of its socket.

        :param events: of :data:`READABLE` and :data:`WRITABLE`; may be 0.
        """
        if fd in self._waiting:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._waiting[fd] = waiting

    def replace(self, fd: int, waiting: Waiting) -> None:
        """Tell another object of the events of a socket that is watched."""
        self._waiting[fd] = waiting

    def forget(self, fd: int) -> None:
        """Tell nobody of a socket's events any more, as it is about to be closed. It may be one that is not watched."""
        if self._waiting.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        if self._is_ending:
            self._end_if_idle()

    def later(self, acting: Acting) -> None:
        """Have a connection act at the end of the batch, or if there is none, in the reactor's next turn."""
        self._acting.append(acting)
        if not self._is_batch and not self._is_called:
            self._is_called = True
            self._reactor.callLater(0, self._next_turn)

    def begin_batch(self) -> None:
        """Have all connections that get something to do from here on act at the end of the batch."""
        self._is_batch = True

    def end_batch(self) -> None:
        """Have them act."""
        self._is_batch = False
        try:
            self._at_end()
        finally:
            if self._acting:
                self._act()

    def _next_turn(self) -> None:
        self._is_called = False
        self._act()

    def _act(self) -> None:
        while self._acting:
            acting, self._acting = self._acting, []
            for each in acting:
                each.act()

    def end(self) -> None:
        """Leave the reactor, once nothing is watched any more."""
        self._is_ending = True
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._waiting and not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()

    # IReadDescriptor

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "fingergw"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the reactor forgets it when it ends."""

    def doRead(self) -> None:
        if not self._waiting:  # perhaps since this turn began; the epoll may be closed
            return
        get = self._waiting.get
        self.begin_batch()
        try:
            for fd, events in self._epoll.poll(0, _AT_ONCE):
                waiting = get(fd)
                if waiting is not None:  # or it was closed in this batch
                    waiting.ready(events)
        finally:
            self.end_batch()
