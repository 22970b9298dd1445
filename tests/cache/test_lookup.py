"""A cache with a store: what is put, and what is found."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from fingergw.cache.entry import Entry, digest
from fingergw.cache.store import Found
from fingergw.core.outcome import Answered, Freshness, Missing, Outcome, Unchanged
from tests.support.cache_bench import (
    DOWN,
    EPSILON,
    ETAG,
    HELD,
    KEPT,
    LOCK_SECONDS,
    NEW,
    NEWEST,
    NOBODY,
    OLD,
    ONCE,
    TTL,
    FakeStore,
    RevalidatingUpstream,
    entry_of,
    in_memory,
    leave,
    make,
    outcome_with,
    stored,
    told,
)


def test_put(store: FakeStore) -> None:
    """What upstream says is put into the store, whole, for as long as it is of use."""
    bench = make(Answered("new", Freshness(stale_if_error=100.0, validators=ETAG)), store=store)
    assert outcome_with(bench) == NEW
    (claim, (name, key, value, keep_seconds, missing)) = store.calls
    assert claim == ("claim", "web:moshez", "", LOCK_SECONDS, False)
    assert (name, key, keep_seconds, missing) == ("put", "web:moshez", 3600.0, False)  # for so long it is asked after
    entry = Entry.loads(value, 0.0, bench.clock.seconds())
    kept = in_memory(bench.cache)[1]
    assert entry is not None
    assert kept is not None
    assert kept.digest == entry.digest == digest(value)
    assert entry.outcome == NEW
    assert dict(entry.validators) == ETAG
    for name in ("since", "fresh_until", "stale_until", "error_until", "keep_until"):
        assert getattr(entry, name) == pytest.approx(getattr(kept, name))


@pytest.mark.parametrize(
    ("outcome", "marks"),
    [
        (Answered("x", Freshness(0.0, 0.0, 0.0)), ["not shared"]),
        (Answered("x", Freshness(0.0, 0.0, 0.0, ETAG)), ["not shared"]),
        (Answered("x", Freshness(0.0, 5.0, 0.0)), [""]),
        (Answered("x", Freshness(0.0, 0.0, 5.0)), ["not shared"]),
        (Missing(Freshness(0.0, 0.0, 0.0)), ["not shared"]),
        (OLD, [""]),
        (Missing(), [""]),
    ],
)
def test_what_others_need_not_wait_for(outcome: Answered | Missing, marks: list[str]) -> None:
    """Where upstream wants to be asked by each, other gateways are told not to wait for one another."""
    bench = make(outcome, store=FakeStore())
    assert bench.at_once() == outcome
    assert bench.store is not None
    assert bench.store.marks == marks


@pytest.mark.parametrize("method", ["put", "drop", "release"])
@pytest.mark.parametrize("at_once", [False, True])
def test_nobody_waits_for_what_is_done_after(store: FakeStore, method: str, at_once: bool) -> None:
    """Upstream's word is told before the store has it, however long that takes; the next asker finds it."""
    outcomes: dict[str, Outcome] = {"put": NEW, "drop": Answered("new", ONCE), "release": DOWN}
    says = outcomes[method]
    store.hangs.add(method)
    bench = make(says if at_once else None, store=store)
    asking = bench.ask()
    bench.turn()
    if not at_once:
        assert told(asking) is None
        bench.upstream.calls[0].callback(says)
    assert told(asking) == says
    assert store.names == ["claim", method]
    if method == "put":
        assert bench.at_once() == NEW
    else:
        bench.ask()
        bench.turn()
        assert bench.count == 2


def test_found_fresh(store: FakeStore) -> None:
    """What another gateway was told is told, as long as it is fresh, and kept for the rest of that time."""
    store.replies = [stored(age=3.0)]
    bench = make(store=store)
    assert outcome_with(bench) == NEW
    assert store.names == ["claim"]
    bench.clock.advance(TTL - 3.0 - EPSILON)
    assert bench.at_once() == NEW
    assert bench.count == 0
    bench.clock.advance(2 * EPSILON)
    assert in_memory(bench.cache)[0] == "stale"


def test_found_fresh_by_all_who_wait() -> None:
    """The store is asked once for all who ask for the same."""
    store = FakeStore(Clock(), [stored()])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    bench.turn()
    assert [told(asking) for asking in askings] == [NEW] * 300
    assert store.names == ["claim"]


def test_found_stale(store: FakeStore) -> None:
    """What another was told is told at once while it may be, and refreshed in the background."""
    found = stored(OLD, age=TTL)
    store.replies = [found]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    assert told(asking) == OLD
    assert bench.count == 1
    assert [call[2] for call in store.calls] == ["", digest(found.value)]
    assert bench.at_once() == OLD
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW
    assert store.names == ["claim", "claim", "put"]
    assert bench.cache.in_background == 0


def test_found_stale_goes_on_without_who_asked(store: FakeStore) -> None:
    """Its refresh is one in the background: it does not end with those who asked."""
    store.replies = [stored(OLD, age=TTL)]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    leave(asking)
    assert bench.upstream.cancelled == 0


def test_found_stale_that_another_refreshes(store: FakeStore) -> None:
    """What is stale is told also where another gateway refreshes it already, and looked for again a second later."""
    store.replies = [stored(OLD, age=TTL), HELD]
    bench = make(store=store)
    assert outcome_with(bench) == OLD
    assert bench.count == 0
    bench.clock.advance(1.0 - EPSILON)
    assert bench.at_once() == OLD
    bench.turn()
    assert store.names == ["claim", "claim"]
    bench.clock.advance(EPSILON)
    store.replies = [stored(NEW)]
    assert bench.at_once() in (OLD, NEW)
    bench.turn()
    assert bench.at_once() == NEW
    assert (bench.count, bench.cache.in_background) == (0, 0)


def test_found_stale_and_upstream_fails(store: FakeStore) -> None:
    """Who was told what is stale is told nothing else when its refresh fails, and that is reported."""
    store.replies = [stored(OLD, age=TTL, error=TTL)]
    bench = make(DOWN, store=store)
    assert outcome_with(bench) == OLD
    assert bench.reports == [DOWN]
    assert bench.cache.in_background == 0


def test_found_expired(store: FakeStore) -> None:
    """What may only be served when upstream fails is served when it does, and the next query asks again."""
    store.replies = [stored(OLD, age=20.0, stale=20.0)]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == OLD
    bench.turn()
    assert store.calls[-1] == ("release", "web:moshez", "failed")
    asking = bench.ask()
    bench.turn()
    assert (told(asking), bench.count) == (None, 2)


def test_found_too_old(store: FakeStore) -> None:
    """What is beyond everything is none."""
    store.replies = [stored(OLD, age=40.0)]
    bench = make(DOWN, store=store)
    bench.memory.put("other", entry_of(), bench.clock.seconds(), NOBODY)  # which sweeps, so that the next put does not
    assert outcome_with(bench) == DOWN
    assert bench.memory.entries == 1


def test_found_with_validators(store: FakeStore) -> None:
    """What another gateway was told is revalidated by its validators."""
    store.replies = [stored(Answered("old", Freshness(validators=ETAG)), age=TTL)]
    bench = make(Unchanged(Freshness()), store=store, revalidating=True)
    assert outcome_with(bench) == OLD
    assert isinstance(bench.upstream, RevalidatingUpstream)
    assert bench.upstream.given == [ETAG]
    assert in_memory(bench.cache)[0] == "fresh"


def test_a_refresh_finds_what_another_has_got(store: FakeStore) -> None:
    """What is stale is not asked for where another gateway has a newer answer."""
    bench = make(OLD, store=store)
    assert outcome_with(bench) == OLD
    entry = in_memory(bench.cache)[1]
    assert entry is not None
    bench.upstream.asked.clear()
    bench.clock.advance(TTL)
    store.replies = [stored(NEW, age=1.0)]
    assert bench.at_once() == OLD
    assert store.calls[-1][2] == entry.digest != ""
    bench.turn()
    assert bench.at_once() == NEW
    assert bench.count == 0


def test_what_is_older_than_ones_own_is_passed_over(store: FakeStore) -> None:
    """An answer that is older than what is at hand is none, and what is at hand stays."""
    bench = make(KEPT, store=store)
    assert outcome_with(bench) == KEPT
    bench.upstream.says = DOWN
    bench.clock.advance(20.0)
    store.replies = [stored(NEWEST, age=25.0, fresh=1000.0)]
    assert outcome_with(bench) == KEPT
    assert bench.count == 2


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\x80\x04K\x01.",
    "another type": b"[1, 2]",
    "another version": stored().value.replace(b'"version": 1', b'"version": 2'),
    "cut": stored().value[:-3],
    "not finite": stored().value.replace(b'"fresh": 10.0', b'"fresh": NaN'),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_a_miss(store: FakeStore, what: str) -> None:
    """What is no entry is none; it is not looked at twice, and what upstream says takes its place."""
    value = GARBAGE[what]
    store.replies = [Found(value, 0.0)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == NEW
    assert [call[2] for call in store.calls[:2]] == ["", digest(value)]
    assert store.names == ["claim", "claim", "put"]


def test_endless_garbage(store: FakeStore) -> None:
    """A store that has something else each time is left at that, and upstream is asked."""
    numbers = iter(range(1000))
    store.replies = [lambda: Found(b"%d" % next(numbers), 0.0)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == NEW
    assert len(store.calls) < 10


def test_endless_stale(store: FakeStore) -> None:
    """So it is where each of them is an entry, and newer than the last."""
    ages = iter(range(1000))
    store.replies = [lambda: stored(OLD, age=39.0 - next(ages) / 100)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) in (OLD, NEW)
    assert bench.count == 1
    assert len(store.calls) < 10
    assert bench.at_once() == NEW
