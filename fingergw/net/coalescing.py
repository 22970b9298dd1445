"""Ask the same question once for all who ask it at the same time.

Without it two gateways that ask each other would ask in circles. Here a question that comes back waits for itself until
its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred

from fingergw.core.outcome import Ask, Failed, Outcome, Unchanged, outcome_of
from fingergw.core.query import Query
from fingergw.core.turns import Payers


@define(eq=False, repr=False)
class _Question:
    """A question that is being asked.

    :param payers: the clients for whom it is asked.
    :param waiting: a Deferred for each query that waits for the answer.
    :param running: cancelling this stops asking.
    """

    payers: Payers
    waiting: dict[Deferred[Outcome | Unchanged], None] = field(factory=dict)
    running: Deferred[None] | None = None


@frozen(eq=False, repr=False)
class Coalescing:
    """Ask a backend, or wait for an answer to the same question that it is being asked already.

    :param ask: asks the backend. It has a time limit, which counts from the first who asks.
    :param question: returns what a query asks for, so that it is the same for two that ask the same.
    """

    ask: Ask
    question: Callable[[Query], str]
    _asked: dict[str, _Question] = field(init=False, factory=dict)

    async def __call__(self, query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome | Unchanged:
        """Ask it."""
        key = self.question(query)
        question = self._asked.get(key)
        waiting: Deferred[Outcome | Unchanged] = Deferred()
        if question is None:
            question = self._asked[key] = _Question(payers, {waiting: None})
            question.running = Deferred.fromCoroutine(self._run(key, question, query, validators))
        else:
            question.waiting[waiting] = None
            for client in payers.clients:
                question.payers.join(client)
        try:
            return await waiting
        except CancelledError:
            question.waiting.pop(waiting, None)
            if not question.waiting and question.running is not None:
                self._end(key, question)
                question.running.cancel()
            raise

    async def _run(self, key: str, question: _Question, query: Query, validators: Mapping[str, str]) -> None:
        outcome: Outcome | Unchanged = Failed("given up", upstream="unknown")
        try:
            outcome = await outcome_of(self.ask(query, validators, question.payers), (CancelledError,))
        except CancelledError:
            pass
        finally:
            self._end(key, question)
            waiting, question.waiting = question.waiting, {}
            for each in waiting:
                each.callback(outcome)

    def _end(self, key: str, question: _Question) -> None:
        """Have queries that come from now on ask anew."""
        if self._asked.get(key) is question:
            del self._asked[key]
