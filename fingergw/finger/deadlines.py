"""Deadlines for many connections at once, with one timer between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Expiring(Protocol):
    """Something with a deadline.

    :param due: when, on the clock.
    """

    due: float

    def expired(self) -> object:
        """Act on the deadline: be gone soon, or set a later one."""


@define(eq=False)
class Deadlines:
    """Tell each of some items when its deadline has come.

    Starting and cancelling a timer for each connection would cost more than many an answer, so an item only notes when
    it is due, and one timer looks at all of them: at the first deadline, and at least once in the time that the
    shortest takes, so that none set since is missed. Where there are no items there is no timer.

    :param items: who has a deadline at present.
    :param shortest: the shortest time that an item ever sets itself, in seconds.
    """

    items: Collection[Expiring]
    clock: IReactorTime
    shortest: float = 3600.0
    _timer: IDelayedCall | None = field(init=False, default=None)

    def watch(self) -> None:
        """Begin to look, once there is an item."""
        if self._timer is None:
            self._timer = self.clock.callLater(self.shortest, self._look)

    def hasten(self, shortest: float) -> None:
        """Look at least as often as it takes for items that set themselves times as short as this, in seconds."""
        if shortest < self.shortest:
            self.shortest = shortest
            self.look()

    def look(self) -> None:
        """Look at once, as an item may be due earlier than it was."""
        if self._timer is not None:
            self._timer.reset(0.0)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        for item in [item for item in self.items if item.due <= now]:
            item.expired()
        if self.items:
            first = min(item.due for item in self.items) - now
            self._timer = self.clock.callLater(min(max(first, 0.0), self.shortest), self._look)
