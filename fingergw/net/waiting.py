"""Timeouts for what may take long, and limits on how much of it runs at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from attrs import Factory, field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IReactorTime

from fingergw.core.outcome import Ask, Failed, Known, Outcome, Unchanged, nothing_known
from fingergw.core.query import Query

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


@frozen(eq=False)
class Waiting:
    """The queue before one backend.

    :param timeout: seconds from the query to its answer, waiting for a place included.
    :param max_running: how many queries the backend is asked at once.
    :param clock: for the timeout.
    """

    timeout: float
    max_running: int
    clock: IReactorTime
    _places: DeferredSemaphore = field(
        init=False, default=Factory(lambda self: DeferredSemaphore(self.max_running), takes_self=True)
    )

    def wrap(self, ask: Ask, known: Known = nothing_known) -> Ask:
        """Return a function that asks a backend when there is a place, and within the timeout.

        :param known: returns an outcome that needs no place, or None.
        """

        def in_turn(query: Query, validators: Mapping[str, str]) -> Awaitable[Outcome | Unchanged]:
            said = known(query)
            return self.ask(lambda: ask(query, validators)) if said is None else succeed(said)

        return in_turn

    def ask(self, begin: Callable[[], Awaitable[T]]) -> Deferred[T | Failed]:
        """Ask once there is a place, and within the timeout.

        :param begin: begins to ask. What it returns is cancelled at the timeout, or when the returned Deferred is. It
            keeps its place until it has ended, but the caller does not wait for that.
        :return: fires with the answer, or with Failed at the timeout.
        """
        return within(self.timeout, self.clock, detached(Deferred.fromCoroutine(self._in_turn(begin))))

    async def _in_turn(self, begin: Callable[[], Awaitable[T]]) -> T:
        await self._places.acquire()
        try:
            return await begin()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._places.waiting:
            # In another turn of the reactor, or a queue of queries that fail at once would recurse.
            self.clock.callLater(0, self._places.release)
        else:
            self._places.release()
