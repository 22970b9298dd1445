"""A backend that is asked with a stopwatch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, cast

from attrs import frozen

from fingergw.core.outcome import (
    Answered,
    Backend,
    Failed,
    Inputs,
    Missing,
    Outcome,
    Revalidating,
    Unchanged,
    outcome_of,
)
from fingergw.core.query import Query
from fingergw.telemetry.meters import BackendMeter

T = TypeVar("T", bound=Outcome | Unchanged)
_WORDS: dict[type[object], str] = {Answered: "answered", Unchanged: "answered", Missing: "missing", Failed: "failed"}


@frozen(eq=False)
class Measured:
    """Count what comes of asking a backend, and how long it takes.

    :param seconds: a clock that is never set back.
    :param cancelled: what is raised when nobody waits for the answer any more.
    """

    backend: Backend
    meter: BackendMeter
    seconds: Callable[[], float]
    cancelled: tuple[type[BaseException], ...]

    @property
    def inputs(self) -> Inputs:
        """What in a query can change its answer."""
        return self.backend.inputs

    async def answer(self, query: Query) -> Outcome:
        """Answer as the backend does; it has failed if it raises something unforeseen."""
        return await self._measure(self.backend.answer(query))

    async def _measure(self, asking: Awaitable[T]) -> T | Failed:
        began_at, meter = self.seconds(), self.meter
        try:
            outcome = await outcome_of(asking, self.cancelled)
        except self.cancelled:
            meter.outcomes["given_up"] += 1
            raise
        meter.outcomes[_WORDS[type(outcome)]] += 1
        meter.times.add(self.seconds() - began_at)
        return outcome


@frozen(eq=False)
class MeasuredRevalidating(Measured):
    """Likewise for a backend that can ask whether an answer still holds."""

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Answer, or say that it holds, as the backend does."""
        return await self._measure(cast(Revalidating, self.backend).revalidate(query, validators))


def measured(
    backend: Backend, meter: BackendMeter, seconds: Callable[[], float], cancelled: tuple[type[BaseException], ...]
) -> Measured:
    """Return a backend that is measured, and can do what it can."""
    # isinstance would be the slowest part of a large configuration's compiling
    kind = MeasuredRevalidating if hasattr(backend, "revalidate") else Measured
    return kind(backend, meter, seconds, cancelled)
