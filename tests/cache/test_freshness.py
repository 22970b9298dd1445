"""How long answers are fresh, stale and expired, by the settings and by what upstream says; and revalidation."""

from __future__ import annotations

import pytest
from attrs import evolve

from fingergw.cache.entry import Entry
from fingergw.cache.keys import Inputs
from fingergw.cache.memory import Memory
from fingergw.core.outcome import Answered, Freshness, Missing, Outcome, Unchanged
from fingergw.core.query import Query
from fingergw.core.settings import changed
from tests.support.cache_bench import (
    DOWN,
    EPSILON,
    ETAG,
    KEPT,
    NEGATIVE_TTL,
    NEW,
    NOBODY,
    OLD,
    ONCE,
    QUERY,
    SETTINGS,
    STALE,
    TTL,
    FakeStore,
    RevalidatingUpstream,
    entry_of,
    in_memory,
    kept_for,
    make,
    told,
)


def test_what_is_absent_is_asked() -> None:
    """A first asker waits for upstream, and is told what it says."""
    bench = make()
    asking = bench.ask()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(OLD)
    assert told(asking) == OLD
    assert bench.cache.counts == {"absent": 1}


def test_a_backend_that_answers_at_once() -> None:
    """What needs no reactor needs none with a cache either."""
    bench = make(OLD)
    assert bench.at_once() == OLD


@pytest.mark.parametrize("age", [0.0, TTL / 2, TTL - EPSILON])
def test_fresh(age: float) -> None:
    """What is fresh is answered without a Deferred's turn, and nobody is asked."""
    bench = make(store=FakeStore()).filled()
    assert bench.store is not None
    bench.store.calls.clear()
    bench.clock.advance(age)
    assert bench.at_once() == OLD
    assert (bench.count, bench.store.calls, bench.cache.counts["fresh"]) == (0, [], 1)
    assert in_memory(bench.cache)[0] == "fresh"


@pytest.mark.parametrize(
    ("kept", "age", "expected"),
    [
        (OLD, TTL - EPSILON, OLD),
        (OLD, TTL, None),
        (OLD, TTL + STALE, None),
        (Missing(), 0.0, Missing()),
        (Missing(), NEGATIVE_TTL, None),
    ],
)
def test_at_once(kept: Outcome, age: float, expected: Outcome | None) -> None:
    """Only a fresh outcome is known without asking, and only then is the query counted."""
    bench = make().filled(kept)
    before = bench.cache.counts.copy()
    bench.clock.advance(age)
    assert bench.cache.at_once(QUERY) == expected
    assert bench.cache.counts - before == ({"fresh": 1} if expected else {})
    assert make().cache.at_once(QUERY) is None


def test_given_again() -> None:
    """A fresh answer holds until it is stale, evicted or replaced; to look counts nothing, and to give it as asking."""
    bench = make().filled()
    before, reuse = bench.cache.counts.copy(), bench.cache.reuse(QUERY, OLD)
    assert reuse is not None
    bench.clock.advance(TTL - EPSILON)
    assert reuse.holds()
    assert bench.cache.counts == before
    reuse.count_again()
    assert bench.cache.counts - before == {"fresh": 1}
    bench.clock.advance(EPSILON)
    assert not reuse.holds()
    for change in (bench.memory.drop, lambda key: bench.memory.put(key, entry_of(), 0.0, NOBODY)):
        again = bench.filled().cache.reuse(QUERY, OLD)
        assert again is not None
        assert again.holds()
        change(bench.cache.key(QUERY))
        assert not again.holds()
        bench.memory.drop(bench.cache.key(QUERY))


def test_given_again_is_used() -> None:
    """An answer that is given again keeps its place in memory as one that is asked for; one that is looked at, not."""
    for is_given, stays in ((True, [True, False, True]), (False, [False, True, True])):
        memory = Memory(3, 10**6)  # two, and one that is missing
        bench = make(OLD, memory=memory)
        for name in "ab":
            bench.at_once(Query(name))
        reuse = bench.cache.reuse(Query("a"), OLD)
        assert reuse is not None
        assert reuse.holds()
        if is_given:
            reuse.count_again()
        bench.at_once(Query("c"))
        assert [memory.peek(bench.cache.key(Query(name))) is not None for name in "abc"] == stays


def test_given_again_of_another_version() -> None:
    """An answer of another version than the backend's does not hold."""
    version = "1"
    bench = make(version=lambda: version).filled()
    reuse = bench.cache.reuse(QUERY, OLD)
    assert reuse is not None
    version = "2"
    assert not reuse.holds()


def test_given_again_asks_for_the_version_once() -> None:
    """A backend that has told its version, for which an answer holds, need not be able to tell it again."""
    versions = ["1"] * 2
    bench = make(version=lambda: versions.pop())
    bench.memory.put(bench.cache.key(QUERY), entry_of(), 0.0, NOBODY)
    reuse = bench.cache.reuse(QUERY, entry_of().outcome)
    assert reuse is not None
    versions.append("1")
    assert reuse.holds()
    reuse.count_again()
    assert bench.cache.counts == {"fresh": 1}


def test_not_given_again() -> None:
    """What is absent or another by now is not given again, nor what depends on its client."""
    assert make().filled(NEW).cache.reuse(QUERY, OLD) is None
    assert make().cache.reuse(QUERY, OLD) is None
    assert make().filled(Missing()).cache.reuse(QUERY, OLD) is None
    assert make(inputs=Inputs(client=True)).filled().cache.reuse(QUERY, OLD) is None


@pytest.mark.parametrize("age", [TTL, TTL + 1, TTL + STALE - EPSILON])
def test_stale(age: float) -> None:
    """What is stale is answered at once, and refreshed once in the background, also exactly at the edge."""
    bench = make().filled()
    bench.clock.advance(age)
    assert [bench.at_once() for _ in range(3)] == [OLD] * 3
    assert (bench.count, bench.cache.counts["stale"]) == (1, 3)
    assert in_memory(bench.cache)[0] == "stale"
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW
    assert (bench.count, bench.cache.counts["fresh"]) == (1, 1)


@pytest.mark.parametrize("age", [TTL + STALE, TTL + STALE + 1000])
def test_beyond_everything(age: float) -> None:
    """What is too old even for a failing upstream is asked for as if it were not there."""
    bench = make().filled()
    bench.clock.advance(age)
    assert in_memory(bench.cache)[0] == "absent"
    asking = bench.ask()
    assert told(asking) is None
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN
    assert bench.cache.counts == {"absent": 2, "failed": 1}
    assert bench.reports == []


def test_expired_and_answered() -> None:
    """What is expired gives way to what upstream says now."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    asking = bench.ask()
    bench.upstream.calls[0].callback(NEW)
    assert told(asking) == NEW
    assert bench.at_once() == NEW
    assert bench.count == 1


def test_nothing_kept_without_terms() -> None:
    """Terms of nothing keep nothing."""
    bench = make(OLD, settings=kept_for(0.0, 0.0, 0.0))
    for outcome in (OLD, Missing()):
        bench.upstream.says = outcome
        assert [bench.at_once(), bench.at_once()] == [outcome] * 2
    assert (bench.count, bench.memory.entries) == (4, 0)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OLD, (10, 40, 40, 40)),
        (Answered("x", Freshness()), (10, 40, 40, 40)),
        (Answered("x", Freshness(ttl=3)), (3, 33, 33, 33)),
        (Answered("x", Freshness(ttl=300)), (300, 330, 330, 330)),
        (Answered("x", Freshness(ttl=0)), (0, 0, 30, 30)),
        (Answered("x", Freshness(ttl=-5)), (-5, -5, 25, 25)),
        (Answered("x", Freshness(ttl=EPSILON)), (EPSILON, 30 + EPSILON, 30 + EPSILON, 30 + EPSILON)),
        (Answered("x", Freshness(ttl=0, stale_while_revalidate=60)), (0, 60, 30, 60)),
        (Answered("x", Freshness(ttl=0, stale_if_error=0)), None),
        (Answered("x", Freshness(ttl=3, ttl_at_most=True)), (3, 33, 33, 33)),
        (Answered("x", Freshness(ttl=300, ttl_at_most=True)), (10, 40, 40, 40)),
        (Answered("x", Freshness(ttl=-5, ttl_at_most=True)), (-5, -5, 25, 25)),
        (Answered("x", Freshness(stale_while_revalidate=0)), (10, 10, 40, 40)),
        (Answered("x", Freshness(stale_if_error=0)), (10, 40, 10, 40)),
        (Answered("x", Freshness(stale_while_revalidate=5, stale_if_error=300)), (10, 15, 310, 310)),
        (Answered("x", Freshness(ttl=-50, stale_while_revalidate=55)), (-50, 5, -20, 5)),
        (Answered("x", ONCE), None),
        (Answered("x", Freshness(ttl=-30)), None),
        (Answered("x", evolve(ONCE, validators=ETAG)), (0, 0, 0, 3600)),
        (Answered("x", Freshness(ttl=100, validators=ETAG)), (100, 130, 130, 3600)),
        (Answered("x", Freshness(ttl=5000, validators=ETAG)), (5000, 5030, 5030, 5030)),
        (Missing(), (4, 4, 34, 34)),
        (Missing(Freshness(ttl=2)), (2, 2, 32, 32)),
        (Missing(Freshness(ttl=0)), (0, 0, 30, 30)),
        (Missing(Freshness(ttl=20)), (20, 20, 50, 50)),
        (Missing(Freshness(ttl=20, ttl_at_most=True)), (4, 4, 34, 34)),
        (Missing(Freshness(stale_while_revalidate=7)), (4, 11, 34, 34)),
        (Missing(Freshness(stale_if_error=0)), (4, 4, 4, 4)),
        (Missing(ONCE), None),
    ],
)
def test_upstreams_word_wins(outcome: Answered | Missing, expected: tuple[float, ...] | None) -> None:
    """How long an outcome is good for what: what upstream says of it, and the terms where it does not."""
    now = 1000.0
    entry = Entry.from_outcome(outcome, SETTINGS, now)
    if expected is None:
        assert entry is None
        return
    assert entry is not None
    times = (entry.fresh_until, entry.stale_until, entry.error_until, entry.keep_until)
    assert tuple(time - now for time in times) == pytest.approx(expected)
    assert (entry.outcome, entry.since) == (outcome, now)


@pytest.mark.parametrize(
    ("keys", "outcome", "expected"),
    [
        ({"stale_while_revalidate": 0.0}, OLD, (10, 10, 40)),
        ({"stale_while_revalidate": 5.0}, OLD, (10, 15, 40)),
        ({"stale_while_revalidate": 30.0}, OLD, (10, 40, 40)),
        ({"stale_if_error": 0.0}, OLD, (10, 40, 10)),
        ({"stale_if_error": 5.0}, OLD, (10, 40, 15)),
        ({"stale_while_revalidate": 0.0, "stale_if_error": 0.0}, OLD, (10, 10, 10)),
        ({"ttl": 0.0}, OLD, (0, 30, 30)),
        ({"ttl": 0.0}, Answered("x", Freshness(ttl=5, ttl_at_most=True)), (0, 30, 30)),
        ({"ttl": 0.0, "stale_while_revalidate": 0.0}, OLD, (0, 0, 30)),
        ({"stale_while_revalidate": 0.0}, Answered("x", Freshness(stale_while_revalidate=7)), (10, 17, 40)),
        ({"stale_while_revalidate": 5.0}, Answered("x", Freshness(ttl=0)), (0, 0, 30)),
        ({"stale_if_error": 0.0}, Answered("x", Freshness(stale_if_error=300)), (10, 40, 310)),
        ({"stale_if_error": 5.0}, Answered("x", Freshness(stale_if_error=0)), (10, 40, 10)),
        ({"stale_if_error": 5.0}, Answered("x", Freshness(ttl=0)), (0, 0, 5)),
        ({"stale_while_revalidate": 20.0}, Missing(), (4, 4, 34)),
        ({"stale_if_error": 5.0}, Missing(), (4, 4, 9)),
    ],
)
def test_the_parts_of_stale(keys: dict[str, float], outcome: Answered | Missing, expected: tuple[float, ...]) -> None:
    """Each part of stale is as long as stale, or its own key, unless upstream says how long."""
    entry = Entry.from_outcome(outcome, changed(SETTINGS, **keys), 0.0)
    assert entry is not None
    assert (entry.fresh_until, entry.stale_until, entry.error_until) == expected


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"stale_while_revalidate": 0.0, "ttl": 0.0}, None), ({}, Freshness(ttl=0.0)), ({}, Freshness(ttl=-1.0))],
    ids=["key", "0", "old"],
)
def test_never_stale_while_upstream_is_well(keys: dict[str, float], said: Freshness | None) -> None:
    """Who asks for what may not be served while it is refreshed waits, and has the old answer only after a failure."""
    bench = make(settings=changed(SETTINGS, **keys)).filled(Answered("old", said))
    asking = bench.ask()
    assert told(asking) is None
    bench.upstream.calls[0].callback(Answered("new", said))
    assert told(asking) == NEW
    asking = bench.ask()
    bench.upstream.calls[1].callback(DOWN)
    assert told(asking) == Answered("new", cache="stale_if_error")
    assert +bench.cache.counts == {"absent": 1, "expired": 2, "failed": 1, "stale_if_error": 1}


def test_unchanged_and_old_when_it_comes() -> None:
    """So it is where upstream says that an answer still holds, and that it is not fresh."""
    old = Freshness(ttl=0.0, validators=ETAG)
    bench = make(revalidating=True).filled(Answered("old", Freshness(validators=ETAG)), Unchanged(old))
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_a_longer_ttl_of_upstreams() -> None:
    """The cache keeps an answer as long as upstream says, not its own time."""
    said = Answered("old", Freshness(ttl=100.0, stale_while_revalidate=0.0))
    bench = make().filled(said)
    bench.clock.advance(100.0 - EPSILON)
    assert bench.at_once() == said
    bench.clock.advance(EPSILON)
    assert told(bench.ask()) is None


@pytest.mark.parametrize("outcome", [Answered("once", ONCE), Missing(ONCE)], ids=["answered", "missing"])
def test_what_may_not_be_kept(outcome: Outcome) -> None:
    """What may not be kept is told and not kept, and what was kept before goes."""
    store = FakeStore()
    bench = make(store=store).filled(KEPT, outcome)
    bench.clock.advance(20.0)
    store.calls.clear()
    assert bench.at_once() == outcome
    assert bench.memory.entries == 0
    assert store.names == ["claim", "drop"]
    bench.upstream.says = DOWN
    assert bench.at_once() == DOWN


def test_unchanged() -> None:
    """An answer that still holds is told again, and is as fresh as upstream says now."""
    held = Answered("old", Freshness(ttl=10.0, validators=ETAG))
    bench = make(revalidating=True).filled(held)
    assert isinstance(bench.upstream, RevalidatingUpstream)
    assert bench.upstream.given == []
    bench.clock.advance(TTL + STALE - EPSILON)
    bench.at_once()
    assert bench.upstream.given == [ETAG]
    bench.upstream.calls[0].callback(Unchanged(Freshness(ttl=50.0, validators={"etag": '"2"'})))
    bench.clock.advance(50.0 - EPSILON)
    assert bench.at_once() == held
    assert bench.count == 1
    bench.clock.advance(EPSILON)
    bench.at_once()
    assert bench.upstream.given == [ETAG, {"etag": '"2"'}]


def test_validators_outlive_the_answer() -> None:
    """What may not be served any more is still good to be asked for by its validators, for the stale time."""
    held = Answered("old", evolve(ONCE, validators=ETAG))
    bench = make(revalidating=True).filled(held, Unchanged(evolve(ONCE, validators=ETAG)))
    assert isinstance(bench.upstream, RevalidatingUpstream)
    bench.clock.advance(STALE - EPSILON)
    assert in_memory(bench.cache)[0] == "expired"
    assert bench.at_once() == held
    assert bench.upstream.given == [ETAG]
    bench.upstream.says = DOWN
    assert bench.at_once() == DOWN


def test_unchanged_and_not_to_be_kept() -> None:
    """What still holds, and may not be kept any more, is told and goes."""
    held = Answered("old", Freshness(ttl=1.0, stale_while_revalidate=0.0, validators=ETAG))
    bench = make(revalidating=True).filled(held, Unchanged(ONCE))
    bench.clock.advance(1.0)
    assert bench.at_once() == held
    assert bench.memory.entries == 0


def test_changed() -> None:
    """A new answer takes the place of the one that was asked for by its validators."""
    bench = make(revalidating=True).filled(Answered("old", Freshness(validators=ETAG)), NEW)
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == NEW


@pytest.mark.parametrize(
    "outcome", [OLD, Missing(Freshness(stale_while_revalidate=STALE, validators=ETAG))], ids=["none", "missing"]
)
def test_nothing_to_revalidate(outcome: Outcome) -> None:
    """What came without validators, and what is no answer, is asked for as ever."""
    bench = make(revalidating=True).filled(outcome, NEW)
    assert isinstance(bench.upstream, RevalidatingUpstream)
    bench.clock.advance(TTL)
    bench.at_once()
    assert (bench.upstream.given, bench.count) == ([], 1)


def test_a_backend_that_cannot_revalidate() -> None:
    """A backend that knows no validators is asked as ever."""
    bench = make().filled(Answered("old", Freshness(validators=ETAG)), NEW)
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == NEW
