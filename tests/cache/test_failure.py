"""What is served when upstream fails, and when it is asked again after that."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from fingergw.cache.cached_backend import RECHECK_SECONDS
from fingergw.core.outcome import Answered, Failed, Freshness
from fingergw.core.query import Query
from tests.support.cache_bench import (
    DOWN,
    EPSILON,
    ETAG,
    KEPT,
    NEW,
    OLD,
    STALE,
    TTL,
    in_memory,
    make,
    told,
)


@pytest.mark.parametrize("age", [15.0, 20.0, 30.0 - EPSILON])
def test_expired(age: float) -> None:
    """What is expired is asked for again; if that fails, it is served, and the failure is reported and counted."""
    bench = make().filled(KEPT)
    bench.clock.advance(age)
    assert in_memory(bench.cache)[0] == "expired"
    askings = [bench.ask(), bench.ask()]
    assert [told(asking) for asking in askings] == [None, None]
    bench.upstream.calls[0].callback(DOWN)
    assert [told(asking) for asking in askings] == [KEPT, KEPT]
    assert bench.cache.counts == {"absent": 1, "expired": 2, "failed": 1, "stale_if_error": 2}
    assert bench.reports == [DOWN]


def test_stale_if_error_ends_while_upstream_is_asked() -> None:
    """What counts is when upstream fails, not when it was asked."""
    bench = make().filled(KEPT)
    bench.clock.advance(29.0)
    asking = bench.ask()
    bench.clock.advance(1.0)
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN


def test_stale_if_error_is_counted_however_quickly_upstream_fails() -> None:
    """A backend that fails without waiting for anything has failed like any other."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(20.0)
    assert bench.at_once() == KEPT
    assert bench.reports == [DOWN]
    assert bench.cache.counts == {"absent": 1, "expired": 1, "failed": 1, "stale_if_error": 1}


@pytest.mark.parametrize("at_once", [False, True])
def test_a_failure_that_is_told_is_not_reported_as_well(at_once: bool) -> None:
    """Whoever is told of a failure sees to it that it is logged, also where it came without any wait."""
    bench = make(DOWN if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN
    assert bench.reports == []


def test_a_background_failure_is_reported() -> None:
    """A refresh that nobody waits for, and that fails, is reported once and counted."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.upstream.calls[0].callback(DOWN)
    assert bench.reports == [DOWN]
    assert +bench.cache.counts == {"absent": 1, "stale": 1, "failed": 1}


def test_expired_after_a_failure() -> None:
    """What is expired is asked for by each query after a failure, too, and served each time that this fails."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(20.0)
    for number in (1, 2, 3):
        assert bench.at_once() == KEPT
        assert bench.count == number
        assert +bench.cache.counts == {"absent": 1, **dict.fromkeys(("expired", "failed", "stale_if_error"), number)}
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_expired_just_after_a_refresh_that_failed() -> None:
    """Once an answer is no longer stale, upstream is asked, however short ago a refresh has failed."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(15.0 - EPSILON)
    assert bench.at_once() == KEPT
    bench.clock.advance(EPSILON)
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_nothing_to_serve_just_after_a_failure() -> None:
    """So it is once the old answer may not even be served when upstream fails."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(30.0 - EPSILON)
    assert bench.at_once() == KEPT
    bench.clock.advance(EPSILON)
    assert bench.at_once() == DOWN
    assert bench.count == 2
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_an_answer_after_a_failure() -> None:
    """What upstream says after a failure is refreshed as if there had been none."""
    bench = make().filled(OLD, DOWN)
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(RECHECK_SECONDS)
    bench.upstream.says = Answered("new", Freshness(ttl=0.1))
    bench.at_once()
    bench.clock.advance(0.1)
    bench.at_once()
    assert bench.count == 3


def test_a_failure_is_of_one_key() -> None:
    """A failure for one name leaves upstream to be asked for others."""
    bench = make(OLD)
    for user in "ab":
        bench.at_once(Query(user))
    bench.upstream.says = DOWN
    bench.clock.advance(TTL)
    bench.at_once(Query("a"))
    bench.at_once(Query("b"))
    assert [query.user for query in bench.upstream.asked] == ["a", "b", "a", "b"]


def test_a_failure_is_not_kept() -> None:
    """Where there is nothing to serve, each asker asks anew."""
    bench = make(DOWN)
    assert [bench.at_once() for _ in range(3)] == [DOWN] * 3
    assert bench.count == 3
    assert bench.memory.entries == 0


def test_a_failure_does_not_take_what_is_kept() -> None:
    """After a failed refresh the old answer is as good as before."""
    bench = make().filled(OLD, DOWN)
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(STALE - EPSILON)
    assert bench.at_once() == OLD


def test_one_refresh_at_a_time_once_upstream_has_failed() -> None:
    """An upstream that has failed is tried by one refresh at a time, until it answers: then by as many as ever."""
    bench = make(OLD)
    names = [Query(f"u{number}") for number in range(8)]
    for query in names:
        bench.at_once(query)
    bench.upstream.asked.clear()
    bench.upstream.says = None
    bench.clock.advance(TTL)
    for number in (0, 1):
        bench.at_once(names[number])
    bench.upstream.calls[1].callback(DOWN)
    bench.upstream.calls[0].callback(DOWN)
    for query in names[2:5]:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names[:3]
    bench.upstream.calls[2].callback(NEW)
    for query in names[3:]:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names


@pytest.mark.parametrize("failure", [DOWN, RuntimeError("x")], ids=["failed", "raised"])
def test_revalidation_that_fails(failure: Any) -> None:
    """A revalidation fails as any question does."""
    held = Answered("old", Freshness(stale_while_revalidate=0.0, validators=ETAG))
    bench = make(revalidating=True).filled(held, failure)
    bench.clock.advance(TTL)
    assert bench.at_once() == held
    assert len(bench.reports) == 1


def test_who_waits_shares_a_failure() -> None:
    """A failure is told to all who waited for it, and is nobody else's."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    bench.upstream.calls[0].callback(DOWN)
    assert [told(asking) for asking in askings] == [DOWN] * 300
    assert (bench.reports, bench.cache.counts["failed"]) == ([], 1)
    assert told(bench.ask()) is None


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_raised_is_a_failure(at_once: bool) -> None:
    """A backend that raises has failed for all who wait; what it raised is kept for the log, and is not an answer."""
    error = RuntimeError("secret")
    bench = make(error if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].errback(error)
    outcome = told(asking)
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_what_is_raised_in_the_background() -> None:
    """A refresh that raises is reported, and the next one begins no sooner than after any failure."""
    bench = make().filled(OLD, RuntimeError("secret"))
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    assert bench.at_once() == OLD
    assert bench.count == 1
    (report,) = bench.reports
    assert isinstance(report.error, RuntimeError)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_backend_that_says_it_was_cancelled(at_once: bool) -> None:
    """A backend that raises what cancels it, though nobody has, leaves nobody waiting, and is asked again."""
    bench = make(CancelledError() if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].errback(CancelledError())
    assert isinstance(told(asking), Failed)
    bench.upstream.says = NEW
    assert bench.at_once() == NEW
