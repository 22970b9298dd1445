"""A circuit breaker: whoever is down is left alone for a while, and asked by one query at a time after that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from fingergw.core.outcome import Ask, Failed, Known, Outcome, Unchanged, Upstream
from fingergw.core.query import Query
from fingergw.core.setting_types import Count, Seconds
from fingergw.core.settings import setting, settings
from fingergw.core.turns import Payers

_MAX_UNANSWERED = 100  # questions that are left alone by themselves; they come from clients


@settings
class BreakerSettings:
    """After how many failures in a row nobody is asked, and for how long."""

    failures: Count = setting(
        "How many failures in a row it takes: failed connections, and time-outs of different names.",
        default=3,
        most=1000,
    )
    pause: Seconds = setting(
        "For how many seconds nobody is asked then. After that one query tries; if it fails, the pause begins anew.",
        default=5,
    )


OptionalBreaker: TypeAlias = BreakerSettings | Literal[False]
"""What the key ``breaker`` has; False for never."""

Admission: TypeAlias = Literal["asking", "trying", "asking again"]
"""How a query is let through: like any other; to try whether somebody responds again; or as the first to ask a question
that was left alone by itself."""


@define(eq=False, repr=False)
class _Unanswered:
    """A question that was not answered.

    :param times: how often in a row.
    :param ask_at: when it may be asked again, if that was too often.
    """

    times: int = 0
    ask_at: float = 0.0


@define(eq=False, repr=False)
class Breaker:
    """Count failures in a row, and open when there are too many.

    A time-out counts only if there was no response while its query waited, as slow names shall not stop the others. One
    question that is not answered so often in a row is left alone by itself.

    While it is open, queries fail at once. After the pause one query at a time tries; an answer closes it. The client
    whose try has failed lets others go first, as it may know questions that are never answered.

    :param question: returns what a query asks for, so that it is the same for two that ask the same; None if all do.
        Then each time-out counts.
    :param why: the last failure that counted.
    """

    settings: BreakerSettings
    question: Callable[[Query], str] | None
    why: str = field(init=False, default="")
    # The failures in a row: each question that was not answered, and an object for each failed connection.
    _row: set[object] = field(init=False, factory=set)
    _unanswered: dict[str, _Unanswered] = field(init=False, factory=dict)  # the one that was asked last is the last
    _responded_at: float = field(init=False, default=-math.inf)
    _try_at: float = field(init=False, default=0.0)
    _trying: Query | None = field(init=False, default=None)
    _last_to_try: str = field(init=False, default="")  # the client
    _others_want: bool = field(init=False, default=False)  # to try, since then

    @property
    def is_open(self) -> bool:
        """Whether too much has failed, and there was no response since."""
        return self.counted >= self.settings.failures

    @property
    def counted(self) -> int:
        """How many failures in a row it has counted."""
        return len(self._row)

    @property
    def reason(self) -> str:
        """Why a query is not let through."""
        if self.is_open:
            return f"left alone for now, after failures in a row; the last: {self.why}"
        return f"this name is left alone for now, as it got no answer {self.settings.failures} times in a row"

    def admit(self, query: Query, client: str, now: float) -> Admission | None:
        """Return how a query is let through; None if it is to fail at once.

        :param client: who asks, as :func:`fingergw.core.turns.payer` returns it.
        :param now: in seconds, on a clock that is never set back.
        """
        pause = self.settings.pause
        if self.is_open:
            is_another = client != self._last_to_try
            lets_others = self._others_want and not is_another and now < self._try_at + pause
            if self._trying is not None or lets_others or now < self._try_at:
                self._others_want = self._others_want or is_another
                return None
            self._trying, self._last_to_try, self._others_want = query, client, False
            return "trying"
        unanswered = self._unanswered_of(query)
        if unanswered is None or unanswered.times < self.settings.failures:
            return "asking"
        if now < unanswered.ask_at:
            return None
        unanswered.ask_at = now + pause  # others fail until it is known what comes of this one
        return "asking again"

    def still_admits(self, query: Query) -> bool:
        """Tell whether a query that was let through is still to be asked, as when it has waited for its turn."""
        return not self.is_open or query is self._trying

    def note(
        self, admission: Admission, query: Query, outcome: Outcome | Unchanged | None, asked_at: float, now: float
    ) -> bool:
        """Note what came of a query that was let through.

        :param outcome: None if it was cancelled.
        :param asked_at: when it was let through.
        :return: whether that has opened or closed the breaker.
        """
        was_open, is_try = self.is_open, admission == "trying"
        if is_try:
            self._trying = None
        said: Upstream = "unknown" if outcome is None else "responded"
        if isinstance(outcome, Failed):
            said = outcome.upstream
        if said == "responded":
            self._row.clear()
            self._responded_at = now
            self._last_to_try, self._others_want = "", False
            if self._unanswered:
                self._unanswered.pop(self._question(query), None)
        elif said == "unknown":
            unanswered = self._unanswered_of(query)
            if admission == "asking again" and unanswered is not None:
                unanswered.ask_at = now
        elif isinstance(outcome, Failed) and (is_try or not was_open):
            self._fail(query, outcome, asked_at, now)
        return self.is_open is not was_open

    def _fail(self, query: Query, failed: Failed, asked_at: float, now: float) -> None:
        ask_at = now + self.settings.pause
        failure = object()
        if failed.upstream == "silent":
            if self.question is not None:
                failure = question = self.question(query)
                unanswered = self._unanswered[question] = self._unanswered.pop(question, _Unanswered())
                unanswered.times, unanswered.ask_at = unanswered.times + 1, ask_at
                if len(self._unanswered) > _MAX_UNANSWERED:
                    del self._unanswered[next(iter(self._unanswered))]
            if self._responded_at > asked_at:
                return
        self.why = failed.reason
        if not self.is_open:  # or they would be more and more
            self._row.add(failure)
        if self.is_open:
            self._try_at = ask_at

    def _question(self, query: Query) -> str:
        return "" if self.question is None else self.question(query)

    def _unanswered_of(self, query: Query) -> _Unanswered | None:
        return self._unanswered.get(self._question(query)) if self._unanswered else None


def unless_opened(ask: Ask, breaker: Breaker | None) -> Ask:
    """Return a function that asks, unless the breaker has opened while the query waited for its turn.

    :param breaker: None if it is always asked.
    """
    if breaker is None:
        return ask

    async def still_ask(query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome | Unchanged:
        if not breaker.still_admits(query):
            return Failed(breaker.reason, upstream="unknown")
        return await ask(query, validators, payers)

    return still_ask


@frozen(eq=False, repr=False)
class Breaking:
    """Ask a backend: not for what is known, nor while its breaker is open.

    :param ask: asks the backend.
    :param known: returns an outcome for which nobody need be asked, or None. It says nothing of the backend.
    :param breaker: None if it is always asked.
    :param seconds: a monotonic clock.
    :param changed: called with the breaker when it has opened or closed.
    """

    ask: Ask
    known: Known
    breaker: Breaker | None
    seconds: Callable[[], float]
    changed: Callable[[Breaker], object]

    async def __call__(self, query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome | Unchanged:
        """Ask it, or fail at once."""
        said, breaker = self.known(query), self.breaker
        if said is not None:
            return said
        if breaker is None:
            return await self.ask(query, validators, payers)
        asked_at = self.seconds()
        admission = breaker.admit(query, payers.clients[0], asked_at)
        if admission is None:
            return Failed(breaker.reason, upstream="unknown")
        outcome = None
        try:
            outcome = await self.ask(query, validators, payers)
            return outcome
        finally:
            if breaker.note(admission, query, outcome, asked_at, self.seconds()):
                self.changed(breaker)
