"""Timeouts for what may take long, and limits on how much of it runs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.outcome import Ask, Failed, Outcome, Unchanged, Upstream
from fingergw.core.query import Query
from fingergw.core.turns import Payers, Turns

T = TypeVar("T")


def within(timeout: float, clock: IReactorTime, asking: Deferred[T]) -> Deferred[T | Failed]:
    """Cancel a Deferred after a time.

    :param timeout: in seconds.
    :param asking: cancelled if it has not fired by then.
    :return: the same Deferred; it fires with Failed in that case.
    """
    work: Deferred[T | Failed] = asking  # type: ignore[assignment]  # its type from now on
    return work.addTimeout(timeout, clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))


def detached(work: Deferred[T]) -> Deferred[T]:
    """Return a Deferred that fires as another does; cancelling it cancels the other without waiting for its end.

    :param work: its result after that is dropped.
    """
    told: Deferred[T] = Deferred(lambda _: work.cancel())
    work.addBoth(lambda result: None if told.called else told.callback(result))
    return told


@frozen(eq=False, repr=False)
class Waiting:
    """The queries that wait for one backend. Its places go round by client.

    :param timeout: seconds from the query to its answer, waiting for a place included.
    :param max_running: how many queries the backend is asked at once.
    :param clock: for the timeout.
    """

    timeout: float
    max_running: int
    clock: IReactorTime
    _turns: Turns[Deferred[None]] = field(
        init=False, default=Factory(lambda self: Turns(self.max_running), takes_self=True)
    )

    def wrap(self, ask: Ask) -> Ask:
        """Return a function that asks a backend when there is a place, and within the timeout."""

        def in_turn(query: Query, validators: Mapping[str, str], payers: Payers) -> Awaitable[Outcome | Unchanged]:
            return self.ask(lambda: ask(query, validators, payers), payers)

        return in_turn

    def ask(self, begin: Callable[[], Awaitable[T]], payers: Payers) -> Deferred[T | Failed]:
        """Ask once there is a place, and within the timeout.

        :param begin: begins to ask. What it returns is cancelled at the timeout, or when the returned Deferred is. It
            keeps its place until it has ended, but the caller does not wait for that.
        :param payers: the clients that it is for.
        :return: fires with the answer, or with Failed at the timeout.
        """
        began_at: list[float] = []
        asking: Deferred[Any] = detached(Deferred.fromCoroutine(self._in_turn(begin, payers, began_at)))
        return asking.addTimeout(self.timeout, self.clock, lambda *_: self._late(began_at))

    async def _in_turn(self, begin: Callable[[], Awaitable[T]], payers: Payers, began_at: list[float]) -> T:
        if not self._turns.take():
            waiter: Deferred[None] = Deferred(self._turns.give_up)
            self._turns.wait(waiter, payers)
            await waiter
        began_at.append(self.clock.seconds())
        try:
            outcome = await begin()
            if isinstance(outcome, Failed) and outcome.upstream == "silent" and not self._has_had_time(began_at[0]):
                # A connection that is lost so soon keeps nobody waiting, and a client may invent names for which it is.
                return evolve(outcome, upstream="unknown")
            return outcome
        finally:
            if self._turns:
                # In another turn of the reactor, or a queue of queries that fail at once would recurse.
                self.clock.callLater(0, self._leave)
            else:
                self._leave()

    def _leave(self) -> None:
        waiter = self._turns.leave()
        if waiter is not None:
            waiter.callback(None)

    def _late(self, began_at: list[float]) -> Failed:
        if not began_at:
            why = f"not begun within {self.timeout:g} s, as max_running = {self.max_running} others were running"
            return Failed(why, upstream="unknown")
        # Whoever has waited for most of the time has given the backend too little to say that it does not answer.
        said: Upstream = "silent" if self._has_had_time(began_at[0]) else "unknown"
        return Failed(f"not done within {self.timeout:g} s", upstream=said)

    def _has_had_time(self, began_at: float) -> bool:
        """Tell whether the backend has had at least half of the time."""
        return self.clock.seconds() - began_at >= self.timeout / 2
