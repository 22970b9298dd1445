"""A connection on the fast path that has sent nothing yet."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import DRAIN_SECONDS

_log = Logger()


class Acceptor(Protocol):
    """What has accepted a connection, and sees to it until there is a protocol."""

    def read(self, accepted: Accepted) -> bool:
        """Read from it for the first time."""

    def close(self, accepted: Accepted) -> None:
        """Close it."""


class Accepted:
    """A connection that was accepted and counted, and has no protocol yet: there may be very many that wait.

    :param acceptor: what accepted it.
    :param factory: the one that was active then.
    :param sock: its socket.
    :param peer: the client's address as text, or the proxy's.
    :param counted_as: the client that it was counted towards.
    """

    __slots__ = ("_since", "acceptor", "counted_as", "due", "factory", "peer", "sock")

    def __init__(
        self, acceptor: Acceptor, factory: FingerFactory, sock: Any, peer: str, counted_as: str | None
    ) -> None:
        self.acceptor, self.factory, self.sock, self.peer, self.counted_as = acceptor, factory, sock, peer, counted_as
        self.due = self._since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its query."""
        return self.due != 0.0

    def wait(self) -> None:
        """Wait for its query, as nothing has come."""
        connections = self.factory.listener.connections
        self._since = connections.seconds()
        self.due = self._since + self.factory.listener.rules.limits.query_timeout
        connections.open.add(self)
        connections.deadlines.watch()

    def end_wait(self) -> None:
        """Wait no more, as something else sees to the connection from here on."""
        self.factory.listener.connections.open.discard(self)

    def leave(self) -> None:
        """Note that it is closed."""
        connections = self.factory.listener.connections
        connections.open.discard(self)
        connections.leave(self.counted_as)
        if connections.draining:
            connections.connection_lost()

    def ready(self, events: int) -> None:
        """Read the query."""
        try:
            self.acceptor.read(self)
        except Exception:
            _log.failure("a connection failed")
            self.acceptor.close(self)

    def expired(self) -> None:
        """Close, as the query has not come in time."""
        listener = self.factory.listener
        listener.record("timeout", self.peer, seconds=listener.connections.seconds() - self._since)
        self.acceptor.close(self)

    def drain(self) -> None:
        """Close soon: the query may be on its way."""
        self.due = min(self.due, self.factory.listener.connections.seconds() + DRAIN_SECONDS)

    def give_up(self) -> None:
        """Do nothing: it does not wait for a backend."""
