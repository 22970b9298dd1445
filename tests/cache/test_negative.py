"""Names that do not exist."""

from __future__ import annotations

import pytest

from fingergw.cache.entry import Entry
from fingergw.cache.memory import Memory
from fingergw.core.outcome import Missing, Outcome
from fingergw.core.query import Query
from tests.support.cache_bench import (
    DOWN,
    EPSILON,
    NEGATIVE_TTL,
    NEW,
    OLD,
    STALE,
    TTL,
    FakeStore,
    in_memory,
    kept_for,
    make,
    outcome_with,
    told,
)


def test_missing_is_kept_for_its_own_time() -> None:
    """A name that does not exist is known for negative_ttl, and then asked for again by whoever waits for it."""
    bench = make().filled(Missing())
    bench.clock.advance(NEGATIVE_TTL - EPSILON)
    assert bench.at_once() == Missing()
    assert bench.count == 0
    bench.clock.advance(EPSILON)
    asking = bench.ask()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(NEW)
    assert told(asking) == NEW
    assert bench.at_once() == NEW


@pytest.mark.parametrize(
    ("age", "expected"),
    [(NEGATIVE_TTL, Missing()), (NEGATIVE_TTL + STALE - EPSILON, Missing()), (NEGATIVE_TTL + STALE, DOWN)],
)
def test_missing_when_upstream_fails(age: float, expected: Outcome) -> None:
    """A name that did not exist still does not while upstream fails, as long as an answer would be served."""
    bench = make().filled(Missing(), DOWN)
    bench.clock.advance(age)
    assert bench.at_once() == expected


def test_a_name_that_is_gone() -> None:
    """Upstream's word that there is no such name takes the older answer's place."""
    bench = make().filled(OLD, Missing())
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == Missing()
    assert bench.memory.entries == 1


def test_a_flood_through_the_cache() -> None:
    """A client that asks for one invented name after the other costs the real ones nothing."""
    bench = make(OLD, memory=Memory(20, 10**6))
    assert bench.at_once() == OLD
    bench.upstream.says = Missing()
    for number in range(100):
        bench.at_once(Query(f"invented{number}"))
    assert in_memory(bench.cache)[0] == "fresh"
    assert bench.memory.entries <= 20


def test_put_missing(store: FakeStore) -> None:
    """Missing is put as such, for negative_ttl only."""
    bench = make(Missing(), store=store)
    assert outcome_with(bench) == Missing()
    name, _, value, keep_seconds, missing = store.calls[-1]
    assert (name, keep_seconds, missing) == ("put", NEGATIVE_TTL, True)
    entry = Entry.loads(value, 0.0, 0.0)
    assert entry is not None
    assert entry.outcome == Missing()


def test_a_missing_that_is_fresh_for_no_time_is_not_put(store: FakeStore) -> None:
    """What would be no news to anybody is dropped, which gives up the claim."""
    bench = make(Missing(), store=store, settings=kept_for(TTL, STALE, 0.0))
    assert outcome_with(bench) == Missing()
    assert store.names == ["claim", "drop"]
