"""What comes of asking the chain that a query goes to, one backend after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime

from fingergw.cli.explaining import text_of, when_missing
from fingergw.cli.explanation import Came, Explanation, Step
from fingergw.core.outcome import Answered, Backend, Failed, Missing, Outcome, outcome_of
from fingergw.core.query import Query
from fingergw.core.rules import Rules
from fingergw.core.text import to_wire, truncate
from fingergw.net.waiting import in_time

_WORDS: dict[type[Outcome], Literal["answered", "missing", "failed"]] = {
    Answered: "answered",
    Missing: "missing",
    Failed: "failed",
}


async def ask(explained: Explanation, rules: Rules, clock: IReactorTime) -> Explanation:
    """Ask the chain that a query goes to, as the gateway does, and tell what came of it.

    :param explained: what :class:`fingergw.cli.explaining.Explaining` said; as it is where nobody is to be asked.
    :param rules: the listener's.
    """
    if explained.asking is None:
        return explained
    chain, query = explained.asking
    steps: list[Step] = []
    recorded = tuple(
        (name, _Recorded(name, backend, chain.cancelled, clock.seconds, steps.append))
        for name, backend in chain.backends
    )
    asking = evolve(chain, backends=recorded).answer(query)
    result = await in_time(rules.limits.answer_timeout, clock, asking)
    outcome = result if isinstance(result, Failed) else result.outcome
    notes = explained.notes
    told: Came
    if isinstance(result, Failed):
        notes += (f"answer_timeout was over: {result.reason}",)
    if isinstance(outcome, Answered):
        wire, limit = to_wire(outcome.text, rules.charset), rules.limits.max_answer_bytes
        told, answer = "answered", truncate(wire, limit)
        if len(wire) > len(answer):
            notes += (f"the answer is cut to max_answer_bytes, {limit}",)
    else:
        told = refusal = "internal_error" if isinstance(outcome, Failed) else when_missing(query)
        answer = rules.refusals[refusal]
    return evolve(explained, steps=tuple(steps), outcome=told, answer=text_of(answer), notes=notes)


@frozen(eq=False)
class _Recorded:
    """A backend, and what comes of asking it."""

    name: str
    backend: Backend
    cancelled: tuple[type[BaseException], ...]
    seconds: Callable[[], float]
    note: Callable[[Step], object]

    async def answer(self, query: Query) -> Outcome:
        """Answer as the backend does."""
        began_at = self.seconds()
        try:
            outcome = await outcome_of(self.backend.answer(query), self.cancelled)
        except self.cancelled:
            self.note(Step(self.name, "given_up", "", self._milliseconds(began_at), ""))
            raise
        why = ""
        if isinstance(outcome, Failed):
            why = outcome.reason + (f": {outcome.error}" if outcome.error is not None else "")
        self.note(Step(self.name, _WORDS[type(outcome)], why, self._milliseconds(began_at), outcome.cache))
        return outcome

    def _milliseconds(self, began_at: float) -> float:
        return round((self.seconds() - began_at) * 1000, 3)
