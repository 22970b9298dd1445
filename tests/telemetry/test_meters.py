"""What is counted of a backend that is asked, also of one with mistakes in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from fingergw.core.outcome import Answered, Ask, Failed, Freshness, Missing, Outcome, Unchanged
from fingergw.core.query import Query
from fingergw.core.turns import Payers
from fingergw.telemetry.meters import BackendMeter, Measured
from tests.support.waiting import sync

UNCHANGED = Unchanged(Freshness(ttl=1.0))
PAYERS = Payers(["192.0.2.1"])


def asking(says: Callable[[], Any], meter: BackendMeter) -> Ask:
    """Return a measured backend that takes two seconds."""
    clock = Clock()

    async def ask(*_: object) -> Any:
        clock.advance(2.0)
        return says()

    return Measured(ask, lambda _: None, meter, clock.seconds, (CancelledError,))


@pytest.mark.parametrize(
    ("said", "validators", "word"),
    [
        (Answered("x"), {}, "answered"),
        (Missing(), {}, "missing"),
        (Failed("why"), {}, "failed"),
        (UNCHANGED, {"etag": "1"}, "answered"),
    ],
)
def test_outcomes(said: Any, validators: Mapping[str, str], word: str) -> None:
    """An outcome is passed on, and counted with the time it took."""
    meter = BackendMeter()
    assert sync(asking(lambda: said, meter)(Query("x"), validators, PAYERS)) is said
    assert meter.outcomes == {word: 1}
    assert meter.times.total_seconds == 2.0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "it returned None, expected Answered, Missing or Failed"),
        ("Hello", "it returned 'Hello', expected Answered, Missing or Failed"),
        ([1, 2], "it returned [1, 2], expected Answered, Missing or Failed"),
        (UNCHANGED, None),
    ],
)
def test_not_an_outcome(said: Any, why: str | None) -> None:
    """Anything but an outcome, and Unchanged where nothing was to be revalidated, is a failure that says what came."""
    meter = BackendMeter()
    outcome = sync(asking(lambda: said, meter)(Query("x"), {}, PAYERS))
    assert isinstance(outcome, Failed)
    assert outcome.reason.endswith(", expected Answered, Missing or Failed")
    assert why in (None, outcome.reason)
    assert meter.outcomes == {"failed": 1}


def test_a_large_one_is_cut() -> None:
    """However long the result is, the reason has its beginning and its end."""
    outcome = sync(asking(lambda: "x" * 10**6, BackendMeter())(Query("x"), {}, PAYERS))
    assert isinstance(outcome, Failed)
    assert len(outcome.reason) < 120


def test_raised() -> None:
    """An unforeseen exception is a failure; a cancellation is not."""
    meter = BackendMeter()

    def broken() -> None:
        raise ZeroDivisionError

    def cancelled() -> None:
        raise CancelledError

    assert sync(asking(broken, meter)(Query("x"), {}, PAYERS)).reason == "unforeseen ZeroDivisionError"
    with pytest.raises(CancelledError):
        sync(asking(cancelled, meter)(Query("x"), {}, PAYERS))
    assert meter.outcomes == {"failed": 1, "given_up": 1}


@pytest.mark.parametrize(
    ("known", "counted"),
    [(Answered("x"), {"answered": 1}), (Missing(), {"missing": 1}), (Failed("x"), {}), (None, {})],
)
def test_at_once(known: Outcome | None, counted: dict[str, int]) -> None:
    """What is known without asking is counted; a failure is left to be asked for, and counted then."""
    meter = BackendMeter()
    measured = Measured(asking(lambda: None, meter), lambda _: known, meter, Clock().seconds, (CancelledError,))
    assert measured.at_once(Query("x")) is (known if counted else None)
    assert meter.outcomes == counted


def test_an_outcome_that_is_used_again() -> None:
    """It counts as any other, and took no time."""
    meter = BackendMeter()
    meter.counting_again("answered")()
    assert meter.outcomes == {"answered": 1}
    assert (meter.times.counts[0], sum(meter.times.counts), meter.times.total_seconds) == (1, 1, 0.0)
