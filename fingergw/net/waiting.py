"""Asking somebody who may take long: within a time, and only so many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from attrs import Factory, field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IReactorTime

from fingergw.core.outcome import Ask, Failed, Known, Outcome, Unchanged
from fingergw.core.query import Query

T = TypeVar("T")


def within(timeout: float, clock: IReactorTime, asking: Deferred[T]) -> Deferred[T | Failed]:
    """Give up what is asked when its time is over.

    :param timeout: in seconds.
    :param asking: cancelled at the end of its time.
    :return: it itself; it fires with Failed if it is not done by then.
    """
    work: Deferred[T | Failed] = asking  # type: ignore[assignment]  # from now on
    return work.addTimeout(timeout, clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))


def detached(work: Deferred[T]) -> Deferred[T]:
    """Return what fires as a work does. To cancel it cancels the work, and does not wait until that has ended.

    :param work: what comes of it after that is told to nobody.
    """
    told: Deferred[T] = Deferred(lambda _: work.cancel())
    work.addBoth(lambda result: None if told.called else told.callback(result))
    return told


@frozen(eq=False)
class Waiting:
    """The queries that wait for one backend.

    :param timeout: seconds from the query to its answer, waiting for a place included.
    :param max_running: how many are asked at once.
    :param clock: for the timeout.
    """

    timeout: float
    max_running: int
    clock: IReactorTime
    _places: DeferredSemaphore = field(
        init=False, default=Factory(lambda self: DeferredSemaphore(self.max_running), takes_self=True)
    )

    def before(self, ask: Ask, known: Known = lambda _: None) -> Ask:
        """Return what asks a backend when it is the query's turn, and within the time.

        :param known: says at once what needs no place.
        """

        def in_turn(query: Query, validators: Mapping[str, str]) -> Awaitable[Outcome | Unchanged]:
            said = known(query)
            return self.ask(lambda: ask(query, validators)) if said is None else succeed(said)

        return in_turn

    def ask(self, begin: Callable[[], Awaitable[T]]) -> Deferred[T | Failed]:
        """Ask once there is a place, and within the time.

        :param begin: begins to ask. What it begins is cancelled when the time is over, or what is returned is. If it
            takes a while to end then, it has its place until it has ended, and nobody else waits for that.
        :return: fires with the answer, or with Failed if there is none in time.
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
            # In a turn of its own: whoever is next may fail at once, and each would be a call within the one before.
            self.clock.callLater(0, self._places.release)
        else:
            self._places.release()


def in_time(timeout: float, clock: IReactorTime, asking: Coroutine[Deferred[Any], Any, T]) -> Deferred[T | Failed]:
    """Begin to ask, and give it up when its time is over; for the parameters see :func:`within`."""
    return within(timeout, clock, Deferred.fromCoroutine(asking))
