"""A backend queried as a gateway does it: with a time-out and a limit of concurrent queries."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.breaker import Breaking
from fingergw.core.outcome import Answered, Ask, Backend, Failed, Missing, Outcome, ask_function, at_once_function
from fingergw.core.query import Query
from fingergw.core.turns import Payers, payer
from fingergw.net.waiting import Waiting

B = TypeVar("B", bound=Backend)


@frozen(eq=False)
class InTurn(Generic[B]):
    """A backend with its time-out and its limit of concurrent queries.

    :param timeout: seconds from the query to its answer.
    :param max_running: how many are asked at once.
    :param clock: for the timeout.
    """

    backend: B
    timeout: float
    max_running: int
    clock: IReactorTime
    _ask: Ask = field(init=False)

    @_ask.default
    def _find_ask(self) -> Ask:
        ask = Waiting(self.timeout, self.max_running, self.clock).wrap(ask_function(self.backend))
        return Breaking(ask, at_once_function(self.backend), None, self.clock.seconds, lambda _: None)

    def asked(self, query: Query) -> Deferred[Outcome]:
        """Begin to ask it."""
        return Deferred.fromCoroutine(self._outcome(query))

    async def _outcome(self, query: Query) -> Outcome:
        outcome = await self._ask(query, {}, Payers([payer(query.client)]))
        assert isinstance(outcome, Answered | Missing | Failed)
        return outcome
