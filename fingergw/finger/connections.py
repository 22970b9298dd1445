"""All connections of a listener: what stays over reloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.admission import ConnectionCounts
from fingergw.finger.deadlines import Deadlines, Expiring
from fingergw.telemetry.meters import ListenerMeter


class Connection(Expiring, Protocol):
    """An open connection."""

    def drain(self) -> None:
        """Close soon, unless an answer is pending or being sent."""


@define(eq=False)
class Connections:
    """The connections of a listener. A reload replaces the listener's rules, but not these.

    :param open: all open connections. They keep this, and ``rejected``, up to date themselves.
    :param rejected: how many of them were rejected, and do not count towards ``max_connections``.
    :param waiting: how many queries wait for a backend.
    :param per_client: how many connections each client has.
    :param meter: counts what became of the connections.
    :param seconds: returns the time.
    :param draining: whether the listener has stopped.
    """

    clock: IReactorTime
    open: set[Connection] = field(init=False, factory=set)
    rejected: int = field(init=False, default=0)
    waiting: int = field(init=False, default=0)
    per_client: ConnectionCounts = field(init=False, factory=ConnectionCounts)
    meter: ListenerMeter = field(init=False, factory=ListenerMeter)
    deadlines: Deadlines = field(init=False)
    seconds: Callable[[], float] = field(init=False)
    draining: bool = field(init=False, default=False)
    _drained: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self.open, self.clock)
        self.seconds = self.clock.seconds

    def begin_waiting(self, work: Deferred[Any], max_waiting: int) -> bool:
        """Count a query as waiting for a backend until its work is done, and tell whether so many may wait."""
        self.waiting += 1
        work.addBoth(self._waited)
        return self.waiting <= max_waiting

    def _waited(self, _: object) -> None:
        self.waiting -= 1

    def drain(self) -> Deferred[None]:
        """Close all connections but those whose query may still arrive or whose answer is pending.

        :return: fires when these are closed too, at most about ``answer_timeout`` later.
        """
        self.draining = True
        for connection in list(self.open):
            connection.drain()
        self.deadlines.check_soon()
        drained = self._drained = Deferred[None]()
        self.connection_lost()
        return drained

    def connection_lost(self) -> None:
        """Note that a connection was lost while draining."""
        if self._drained is not None and not self.open:
            self.deadlines.stop()
            drained, self._drained = self._drained, None
            drained.callback(None)
