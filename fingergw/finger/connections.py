"""A listener's connections, all together."""

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
    """One of them."""

    def drain(self) -> None:
        """Close soon, unless an answer is awaited or on its way."""


@define(eq=False)
class Connections:
    """A listener's connections. They outlive the rules that a reload puts in place of others.

    :param open: those that there are.
    :param turned_away: how many of these have been turned away, and take nobody's place.
    :param waiting: how many queries wait for a backend.
    :param per_client: how many each client has.
    :param meter: what came of all that there have been.
    :param seconds: tells the time.
    :param draining: whether the listener has stopped.
    """

    clock: IReactorTime
    open: set[Connection] = field(init=False, factory=set)
    turned_away: int = field(init=False, default=0)
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

    def may_wait(self, work: Deferred[Any], max_waiting: int) -> bool:
        """Note that a query waits for a backend, and tell whether so many may."""
        self.waiting += 1
        work.addBoth(self._waited)
        return self.waiting <= max_waiting

    def _waited(self, _: object) -> None:
        self.waiting -= 1

    def drain(self) -> Deferred[None]:
        """Close all but those whose query is on its way, or the answer.

        :return: fires when these are closed too, about ``answer_timeout`` later at the most.
        """
        self.draining = True
        for connection in list(self.open):
            connection.drain()
        self.deadlines.look()
        drained = self._drained = Deferred[None]()
        self.drained()
        return drained

    def drained(self) -> None:
        """Note that one is gone, of those that were drained."""
        if self._drained is not None and not self.open:
            self.deadlines.stop()
            drained, self._drained = self._drained, None
            drained.callback(None)
