"""A backend that is asked with a stopwatch."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping

from attrs import frozen

from fingergw.core.outcome import Answered, Ask, Failed, Known, Missing, Outcome, Unchanged, outcome_of
from fingergw.core.query import Query
from fingergw.telemetry.meters import BackendMeter

_WORDS: dict[type[object], str] = {Answered: "answered", Unchanged: "answered", Missing: "missing", Failed: "failed"}


@frozen(eq=False)
class Measured:
    """Ask a backend, and count what comes of that and how long it takes.

    It has failed if it raises something unforeseen, or says what is no outcome. It is a class, as there may be very
    many backends, and a function with variables of its own takes more.

    :param seconds: a clock that is never set back.
    :param cancelled: what is raised when nobody waits for the answer any more.
    """

    ask: Ask
    known: Known
    meter: BackendMeter
    seconds: Callable[[], float]
    cancelled: tuple[type[BaseException], ...]

    def at_once(self, query: Query) -> Answered | None:
        """Return an answer that is known without asking, which is counted; None if there is none."""
        began_at = self.seconds()
        outcome = self.known(query)
        if not isinstance(outcome, Answered):
            return None
        self.meter.outcomes["answered"] += 1
        self.meter.times.add(self.seconds() - began_at)
        return outcome

    async def __call__(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Ask it."""
        seconds, meter = self.seconds, self.meter
        began_at = seconds()
        try:
            outcome = await outcome_of(self.ask(query, validators), self.cancelled)
        except self.cancelled:
            meter.outcomes["given_up"] += 1
            raise
        word = _WORDS.get(type(outcome))
        if word is None or (isinstance(outcome, Unchanged) and not validators):
            outcome, word = Failed(f"it said {reprlib.repr(outcome)}, which is no outcome"), "failed"
        meter.outcomes[word] += 1
        meter.times.add(seconds() - began_at)
        return outcome
