"""Queries that wait together, background refreshes, cancelled queries, and the stop."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from fingergw.cache.cached_backend import MAX_REFRESHES
from fingergw.core.outcome import Answered, Failed, Missing, Outcome
from fingergw.core.query import Query
from fingergw.core.settings import changed
from tests.support.cache_bench import (
    DOWN,
    KEPT,
    NEW,
    NEWEST,
    OLD,
    ONCE,
    QUERY,
    SETTINGS,
    STALE,
    TTL,
    leave,
    leaving,
    make,
    told,
)
from tests.support.waiting import sync


def test_a_first_miss_is_asked_once() -> None:
    """However many ask for one name, upstream is asked once, and all are told."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    assert bench.count == 1
    bench.upstream.calls[0].callback(OLD)
    assert [told(asking) for asking in askings] == [OLD] * 300


def test_an_expired_answer_is_asked_for_once() -> None:
    """So it is where there was an answer."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    askings = [bench.ask() for _ in range(300)]
    assert bench.count == 1
    bench.upstream.calls[0].callback(NEW)
    assert [told(asking) for asking in askings] == [NEW] * 300


@pytest.mark.parametrize(("says", "expected"), [(NEW, NEW), (DOWN, OLD)], ids=["well", "down"])
def test_an_answer_that_is_not_served_while_it_is_refreshed_is_asked_for_once(says: Outcome, expected: Outcome) -> None:
    """With stale_while_revalidate = 0 all who ask after ttl wait for one answer; the old one is for a failure."""
    bench = make(settings=changed(SETTINGS, stale_while_revalidate=0.0)).filled()
    bench.clock.advance(TTL)
    askings = [bench.ask() for _ in range(300)]
    assert {told(asking) for asking in askings} == {None}
    bench.upstream.calls[0].callback(says)
    assert [told(asking) for asking in askings] == [expected] * 300
    assert bench.count == 1


def test_what_may_not_be_kept_is_shared_by_those_who_wait() -> None:
    """Who asked for the same while it was asked for is told the same."""
    bench = make()
    askings = [bench.ask() for _ in range(3)]
    bench.upstream.calls[0].callback(Answered("once", ONCE))
    assert [told(asking) for asking in askings] == [Answered("once")] * 3
    assert bench.count == 1


def test_other_names_do_not_wait() -> None:
    """A name that takes its time holds up no other."""
    bench = make()
    slow = bench.ask(Query("slow"))
    bench.upstream.says = NEW
    assert bench.at_once(Query("quick")) == NEW
    assert told(slow) is None


def test_a_refresh_does_not_hold_up_who_is_served() -> None:
    """However many are served what is stale before upstream is asked, it is asked once."""
    bench = make().filled()
    bench.clock.advance(TTL)
    assert [sync(bench.cache.answer(QUERY)) for _ in range(300)] == [OLD] * 300
    bench.turn()
    assert bench.count == 1


def test_a_refresh_becomes_what_is_waited_for() -> None:
    """What expires while it is refreshed is waited for in that same refresh."""
    bench = make().filled()
    bench.clock.advance(TTL + STALE - 1.0)
    bench.at_once()
    bench.clock.advance(1.0)
    askings = [bench.ask(), bench.ask()]
    assert (told(askings[0]), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(NEW)
    assert [told(asking) for asking in askings] == [NEW, NEW]


def test_only_so_many_refreshes_at_a_time() -> None:
    """Background refreshes are bounded; what is stale beyond that is served, and refreshed when there is room."""
    bench = make(OLD)
    names = [Query(f"u{number}") for number in range(MAX_REFRESHES + 1)]
    for query in names:
        bench.at_once(query)
    bench.upstream.asked.clear()
    bench.upstream.says = None
    bench.clock.advance(TTL)
    for query in names:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names[:-1]
    bench.upstream.calls[0].callback(NEW)
    bench.at_once(names[-1])
    assert bench.upstream.asked == names


@pytest.mark.parametrize("ends", [NEW, DOWN, KeyError("x"), CancelledError()], ids=lambda ends: type(ends).__name__)
def test_refreshes_are_accounted_for(ends: Any) -> None:
    """However refreshes end, there is room for the next."""
    bench = make().filled()
    for _ in range(MAX_REFRESHES + 5):
        bench.clock.advance(TTL + STALE)
        bench.upstream.says = OLD
        bench.at_once()
        bench.clock.advance(TTL)
        bench.upstream.says = None
        before = bench.count
        bench.at_once()
        assert bench.count == before + 1
        call = bench.upstream.calls[-1]
        call.errback(ends) if isinstance(ends, Exception) else call.callback(ends)
    assert bench.cache.in_background == 0


def test_those_who_leave_do_not_take_the_others_answer() -> None:
    """All who have not left are told."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    for each in askings[:299]:
        leave(each)
    assert bench.upstream.cancelled == 0
    bench.upstream.calls[0].callback(OLD)
    assert told(askings[299]) == OLD


def test_the_last_who_leaves_ends_the_question() -> None:
    """Nobody is asked for the benefit of nobody, and who comes then asks anew."""
    bench = make()
    for each in [bench.ask() for _ in range(3)]:
        assert bench.upstream.cancelled == 0
        leave(each)
    assert bench.upstream.cancelled == 1
    late = bench.ask()
    assert bench.count == 2
    bench.upstream.calls[1].callback(OLD)
    assert told(late) == OLD


def test_leaving_something_expired() -> None:
    """A question that its last asker has left is no failure: what was there is as it was."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    leave(bench.ask())
    assert bench.upstream.cancelled == 1
    assert bench.reports == []
    assert bench.cache.counts["failed"] == 0
    bench.upstream.says = DOWN
    assert bench.at_once() == KEPT
    assert bench.count == 2


def test_a_refresh_goes_on_without_anybody() -> None:
    """A background refresh that somebody has waited for, and left, goes on."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(STALE)
    leave(bench.ask())
    assert bench.upstream.cancelled == 0
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW


def test_an_answer_that_makes_another_leave() -> None:
    """Those who wait may leave while they are told."""
    bench = make()
    first, second, third = (bench.ask() for _ in range(3))
    first.addCallback(leaving(second))
    bench.upstream.calls[0].callback(OLD)
    assert told(first) == told(third) == OLD
    assert bench.at_once() == OLD


def test_an_answer_that_makes_somebody_ask() -> None:
    """Who asks while others are told is answered, too."""
    bench = make()
    asked: list[Outcome | None] = []
    bench.ask().addCallback(lambda _: asked.append(told(bench.ask())))
    bench.upstream.calls[0].callback(OLD)
    assert asked == [OLD]


@pytest.mark.parametrize(
    "ends", [CancelledError(), RuntimeError("x"), NEWEST, DOWN, Missing()], ids=lambda ends: type(ends).__name__
)
def test_cancelling_that_takes_time(ends: Any) -> None:
    """Who asks while a question that was left is still ending starts anew, and is told what that comes to."""
    bench = make()
    ending = bench.upstream.ending = Deferred()
    leave(bench.ask())
    assert bench.upstream.cancelled == 1
    second, third = bench.ask(), bench.ask()
    assert bench.count == 2
    ending.errback(ends) if isinstance(ends, Exception) else ending.callback(ends)
    assert (told(second), told(third)) == (None, None)
    # what the first came to may be kept, but those two still wait together, and so does who finds nothing kept
    bench.upstream.calls[1].callback(NEW)
    assert told(second) == told(third) == NEW
    assert bench.count == 2
    assert bench.at_once() == NEW


def test_cancelling_that_takes_time_and_the_next_is_left_too() -> None:
    """A question that was left, and ends late, ends no other's."""
    bench = make()
    endings: list[Deferred[Any]] = []
    for _ in range(3):
        endings.append(Deferred())
        bench.upstream.ending = endings[-1]
        leave(bench.ask())
    assert (bench.count, bench.upstream.cancelled) == (3, 3)
    last = bench.ask()
    for ending in endings:
        ending.errback(CancelledError())
    assert bench.ask() is not last
    assert bench.count == 4
    bench.upstream.calls[3].callback(NEW)
    assert told(last) == NEW


def test_stop() -> None:
    """A stop leaves nobody waiting and nothing running: questions and refreshes are cancelled."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    askings = [bench.ask(Query(f"u{number % 3}")) for number in range(9)]
    assert bench.count == 4
    bench.cache.stop()
    assert bench.upstream.cancelled == 4
    assert all(isinstance(told(asking), Failed) for asking in askings)
    assert bench.clock.getDelayedCalls() == []
    bench.cache.stop()


def test_stop_before_a_refresh_has_begun() -> None:
    """Nothing begins after a stop."""
    bench = make().filled()
    bench.clock.advance(TTL)
    sync(bench.cache.answer(QUERY))
    bench.cache.stop()
    assert bench.clock.getDelayedCalls() == []
    bench.clock.advance(1.0)
    assert (bench.count, bench.cache.in_background) == (0, 0)


def test_stop_and_what_is_kept() -> None:
    """A refresh that a stop has ended is no failure of upstream."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.cache.stop()
    assert (bench.reports, bench.cache.counts["failed"]) == ([], 0)


def test_stop_while_those_told_leave() -> None:
    """Who is told of the end may make others leave that wait for the same."""
    bench = make()
    first, second = bench.ask(), bench.ask()
    first.addCallback(leaving(second))
    bench.cache.stop()
    assert isinstance(told(first), Failed)
    assert second.called


def test_stop_with_an_upstream_that_ends_late() -> None:
    """What takes its time to be cancelled holds up nobody who waits."""
    bench = make()
    bench.upstream.ending = Deferred()
    asking = bench.ask()
    bench.cache.stop()
    assert isinstance(told(asking), Failed)
