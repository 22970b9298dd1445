"""Deadlines for many connections at once, with one timer between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Expiring(Protocol):
    """Something with a deadline.

    :param due: the deadline, in seconds on the clock.
    """

    due: float

    def expired(self) -> object:
        """Act on the deadline: close soon, or set a later one."""


@define(eq=False, repr=False)
class Deadlines:
    """Call ``expired`` on items whose deadline has passed, with one timer for all of them.

    A timer for each connection would cost more than most answers. So an item only sets its ``due``, and one timer
    checks all items: at the first deadline, and at least every ``shortest`` seconds, so that no new deadline is
    missed. While there are no items there is no timer.

    :param items: everything with a deadline at present.
    :param shortest: the shortest time that an item ever sets itself, in seconds.
    """

    items: Collection[Expiring]
    clock: IReactorTime
    shortest: float = 3600.0
    _timer: IDelayedCall | None = field(init=False, default=None)

    def watch(self) -> None:
        """Start the timer, if it is not running."""
        if self._timer is None:
            self._timer = self.clock.callLater(self.shortest, self._check)

    def check_at_least_every(self, shortest: float) -> None:
        """Check often enough for items that set themselves deadlines as short as this, in seconds."""
        if shortest < self.shortest:
            self.shortest = shortest
            self.check_soon()

    def check_soon(self) -> None:
        """Check at once, as an item may be due earlier than before."""
        if self._timer is not None:
            self._timer.reset(0.0)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        for item in [item for item in self.items if item.due <= now]:
            item.expired()
        if self.items:
            first = min(item.due for item in self.items) - now
            self._timer = self.clock.callLater(min(max(first, 0.0), self.shortest), self._check)
