"""A route's backends in order; the first that answers wins."""

from __future__ import annotations

from typing import NamedTuple

from attrs import field, frozen

from fingergw.core.outcome import (
    Answered,
    Backend,
    Failed,
    Known,
    Missing,
    Outcome,
    Reuse,
    all_of,
    at_once_function,
    nothing_known,
    outcome_of,
    reuse_of,
)
from fingergw.core.query import Query

_MISSING = Missing()


class Result(NamedTuple):
    """The result of asking a chain.

    :param outcome: the answer; without one, Failed if any backend failed, else Missing.
    :param backend: the name of the backend that answered; empty if none did.
    :param failures: the name of each backend that failed, and how.
    """

    outcome: Outcome
    backend: str = ""
    failures: tuple[tuple[str, Failed], ...] = ()


@frozen(eq=False, repr=False)
class Chain:
    """Backends in order, built once for each configuration.

    The time limit, queue and cache of each backend are around it already (``fingergw.app.parts.open_backend``).

    :param backends: their names and the backends.
    :param fallthrough: the kinds of outcome after which the next backend is asked.
    :param cancelled: the exceptions that cancel a backend. They end the chain.
    """

    backends: tuple[tuple[str, Backend], ...]
    fallthrough: tuple[type[Missing | Failed], ...] = (Missing, Failed)
    cancelled: tuple[type[BaseException], ...] = ()
    _first_known: Known = field(init=False)

    @_first_known.default
    def _find_first_known(self) -> Known:
        return at_once_function(self.backends[0][1]) if self.backends else nothing_known

    def at_once(self, query: Query) -> tuple[Result | None, int]:
        """Return the result, if it is known without asking anybody.

        No exception of a backend is passed on.

        :return: None if it is not known, and how many of the first backends are known not to know the name: then ask
            the chain from the next one on. One that has failed is asked again, and finds out anew.
        """
        outcome, count = self._first_known(query), len(self.backends)
        for place in range(count):
            if place:  # looked up when it is needed: there may be very many chains
                outcome = at_once_function(self.backends[place][1])(query)
            if isinstance(outcome, Answered):
                return Result(outcome, self.backends[place][0]), place
            if not isinstance(outcome, Missing):
                return None, place
            if place == count - 1 or Missing not in self.fallthrough:
                return Result(outcome), place
        return None, 0

    def reuse(self, query: Query, outcome: Answered | Missing, place: int) -> Reuse | None:
        """Return how a result that :meth:`at_once` has just returned is given again; None if it cannot be.

        :param outcome: the result's.
        :param place: that of the backend whose it is. Those before it do not know the name.
        """
        found = [reuse_of(backend, query, _MISSING) for _, backend in self.backends[:place]]
        found.append(reuse_of(self.backends[place][1], query, outcome))
        parts = [each for each in found if each is not None]
        if len(parts) < len(found):
            return None
        return parts[0] if len(parts) == 1 else all_of(parts)

    async def answer(self, query: Query, start: int = 0) -> Result:
        """Ask the backends in order.

        :param start: how many of the first are known not to know the name, and are not asked.
        :return: the result. A backend that raises has Failed.
        """
        failures: tuple[tuple[str, Failed], ...] = ()
        outcome: Outcome = Missing()
        for name, backend in self.backends[start:]:
            outcome = await outcome_of(backend.answer(query), self.cancelled)
            if isinstance(outcome, Answered):
                return Result(outcome, name, failures)
            if isinstance(outcome, Failed):
                failures += ((name, outcome),)
            if not isinstance(outcome, self.fallthrough):
                break
        return Result(failures[-1][1] if failures else outcome, "", failures)
