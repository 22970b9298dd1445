"""What is counted and timed while the gateway runs."""

from __future__ import annotations

import reprlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

from fingergw.core.outcome import Answered, Ask, Failed, Known, Missing, Outcome, Unchanged, outcome_of
from fingergw.core.query import Query
from fingergw.core.turns import Payers

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histograms' buckets. A last bucket without a bound is for what took longer."""
_OUTCOMES: dict[type[object], str] = {Answered: "answered", Unchanged: "answered", Missing: "missing", Failed: "failed"}


@define(eq=False, repr=False)
class Times:
    """A histogram of how long something took.

    :param counts: by bucket, not cumulative.
    :param total_seconds: the sum of all times.
    """

    counts: list[int] = Factory(lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    total_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Add one time."""
        self.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.total_seconds += seconds


RejectReason: TypeAlias = Literal[
    "denied",
    "untrusted_proxy",
    "bad_proxy_header",
    "bad_handshake",
    "connections",
    "client_connections",
    "rate",
    "waiting",
]
"""Why a connection or query was rejected.

The client is not allowed; its proxy is not trusted, or sent no valid PROXY header; the TLS handshake failed; there are
too many connections, or too many of this client; the client is over its rate; too many queries wait for a backend.
"""


@define(eq=False, repr=False)
class ListenerMeter:
    """Counts a listener's connections and queries. It is kept when a reload changes the listener.

    :param accepted: connections.
    :param outcomes: lines of the access log, by route and outcome.
    :param times: by route, how long queries took from their line to the answer.
    :param rejections: connections and queries that were rejected.
    """

    accepted: int = 0
    outcomes: Counter[tuple[str, str]] = Factory(Counter)
    times: defaultdict[str, Times] = Factory(lambda: defaultdict(Times))
    rejections: Counter[RejectReason] = Factory(Counter)


@define(eq=False, repr=False)
class BackendMeter:
    """Counts a backend's outcomes. It is kept when a reload changes the backend.

    :param outcomes: ``answered``, ``missing``, ``failed``, or ``given_up``: cancelled before there was an outcome.
    :param times: how long each outcome took.
    :param cache: if answers are cached, what the cache had for each query: ``fresh``, ``stale``, ``expired`` or
        ``absent``. Those that then got a stale answer because the backend failed count as ``stale_if_error``, too.
    """

    outcomes: Counter[str] = Factory(Counter)
    times: Times = Factory(Times)
    cache: Counter[str] = Factory(Counter)

    def counting_again(self, outcome: str) -> Callable[[], None]:
        """Return what counts an outcome each time that it is used again, which takes the backend no time."""
        outcomes, counts = self.outcomes, self.times.counts

        def count() -> None:
            outcomes[outcome] += 1
            counts[0] += 1

        return count


@frozen(eq=False, repr=False)
class Measured:
    """Ask a backend, and count its outcome and how long that took.

    An unforeseen exception is :class:`Failed`, and so is a result that is not an outcome. This is a class with slots
    because there may be very many backends: a partial or a closure takes three times the memory.

    :param known: returns what is known without asking.
    :param seconds: a monotonic clock.
    :param cancelled: the exceptions that mean that nobody waits for the outcome any more.
    """

    ask: Ask
    known: Known
    meter: BackendMeter
    seconds: Callable[[], float]
    cancelled: tuple[type[BaseException], ...]

    def at_once(self, query: Query) -> Answered | Missing | None:
        """Return and count what is known without asking, unless that is a failure; None if there is nothing."""
        began_at = self.seconds()
        outcome = self.known(query)
        kind = type(outcome)
        if kind is not Answered and kind is not Missing:  # as below, where a subclass is no outcome either
            return None
        self.meter.outcomes[_OUTCOMES[kind]] += 1
        self.meter.times.add(self.seconds() - began_at)
        return outcome  # type: ignore[return-value]

    def known_outcome(self, query: Query) -> Outcome | None:
        """Return and count an outcome that is known without asking, whatever it is; None if there is none."""
        began_at = self.seconds()
        outcome = self.known(query)
        return None if outcome is None else self._counted(outcome, began_at)  # type: ignore[return-value]

    async def __call__(self, query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome | Unchanged:
        """Ask it."""
        began_at = self.seconds()
        try:
            outcome = await outcome_of(self.ask(query, validators, payers), self.cancelled)
        except self.cancelled:
            self.meter.outcomes["given_up"] += 1
            raise
        return self._counted(outcome, began_at, can_be_unchanged=bool(validators))

    def _counted(
        self, outcome: Outcome | Unchanged, began_at: float, *, can_be_unchanged: bool = False
    ) -> Outcome | Unchanged:
        word = _OUTCOMES.get(type(outcome))
        if word is None or (isinstance(outcome, Unchanged) and not can_be_unchanged):
            why = f"it returned {reprlib.repr(outcome)}, expected Answered, Missing or Failed"
            outcome = Failed(why, upstream="unknown")
            word = "failed"
        self.meter.outcomes[word] += 1
        self.meter.times.add(self.seconds() - began_at)
        return outcome
