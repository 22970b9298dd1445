"""A cache whose store other gateways share: claims that are held, have failed, or are given up."""

from __future__ import annotations

import contextlib

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from fingergw.core.outcome import Answered, Failed
from tests.support.cache_bench import (
    DOWN,
    FAILED,
    GRANTED,
    HELD,
    KEPT,
    LOCK_SECONDS,
    NEW,
    OLD,
    TTL,
    FakeStore,
    leave,
    make,
    outcome_with,
    stored,
    told,
)


def test_not_shared() -> None:
    """What is said not to be shared is asked for without a claim, and at once."""
    bench = make(NEW, store=FakeStore(replies=[lambda: "not shared"]))
    assert bench.at_once() == NEW
    assert bench.count == 1


def test_held_and_then_found() -> None:
    """What another gateway is asking is waited for, all together, and told when it has it."""
    store = FakeStore(replies=[HELD, HELD, HELD, stored(NEW)])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    assert len(store.calls) == 1
    bench.clock.pump([0.05] * 2)
    assert [told(asking) for asking in askings] == [None] * 300
    bench.clock.advance(0.05)
    assert [told(asking) for asking in askings] == [NEW] * 300
    assert [call[4] for call in store.calls] == [False, True, True, True]
    assert (bench.count, bench.clock.getDelayedCalls()) == (0, [])


def test_held_and_then_granted() -> None:
    """Where the other gateway has left it, it is one's own to ask."""
    store = FakeStore(replies=[HELD, GRANTED])
    bench = make(NEW, store=store)
    asking = bench.ask()
    bench.clock.advance(0.05)
    assert told(asking) == NEW


def test_held_for_ever() -> None:
    """A claim that is never given up is waited for no longer than asking can take."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(NEW, store=store)
    asking = bench.ask()
    bench.clock.pump([0.05] * int(LOCK_SECONDS / 0.05 - 1))
    assert told(asking) is None
    bench.clock.pump([0.05] * 11)  # it is looked after every half a second by then
    assert told(asking) == NEW
    assert bench.clock.getDelayedCalls() == []


def test_held_and_the_last_leaves() -> None:
    """Nobody polls for nobody."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(store=store)
    leave(bench.ask())
    assert bench.clock.getDelayedCalls() == []
    bench.clock.advance(1.0)
    assert store.names.count("claim") == 1


def test_held_and_failed() -> None:
    """A failure at the gateway that was waited for is shared by all who waited; upstream is not asked once more."""
    store = FakeStore(replies=[HELD, FAILED])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    bench.clock.advance(0.05)
    assert all(isinstance(told(asking), Failed) for asking in askings)
    assert bench.count == 0
    assert store.names == ["claim", "claim"]


def test_held_and_failed_with_something_to_serve() -> None:
    """What may be served when upstream fails is served when another gateway has seen it fail; the next query asks."""
    store = FakeStore(replies=[GRANTED, HELD, FAILED])
    bench = make(KEPT, store=store)
    bench.at_once()
    bench.clock.advance(20.0)
    bench.upstream.says = NEW
    askings = [bench.ask(), bench.ask()]
    bench.clock.advance(0.05)
    assert [told(asking) for asking in askings] == [KEPT, KEPT]
    assert (bench.count, bench.cache.counts["stale_if_error"]) == (1, 2)
    assert bench.at_once() == NEW
    assert store.calls[-2][4] is False  # it has not waited, so that it is let ask


@pytest.mark.parametrize("outcome", [None, OLD, KEPT], ids=["absent", "stale", "expired"])
def test_failed(store: FakeStore, outcome: Answered | None) -> None:
    """A failure is left for those who wait for it, for a moment, whatever there is to serve."""
    bench = make(outcome, store=store)
    if outcome is not None:
        assert outcome_with(bench) == outcome
    bench.clock.advance(20.0)
    bench.upstream.says = DOWN
    assert outcome_with(bench) == (outcome or DOWN)
    assert store.calls[-1] == ("release", "web:moshez", "failed")


def test_not_asked(store: FakeStore) -> None:
    """Where upstream was not asked, as behind an open breaker, another gateway that waits may ask it."""
    bench = make(Failed("not asked", upstream="unknown"), store=store)
    outcome_with(bench)
    assert store.calls[-1] == ("release", "web:moshez", "")


def test_the_last_who_leaves_releases_the_claim(store: FakeStore) -> None:
    """A question that is left is another gateway's to ask."""
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    leave(asking)
    bench.turn()
    assert store.calls[1:] == [("release", "web:moshez", "")]


def test_leaving_while_the_store_is_asked() -> None:
    """A claim that may have been granted by now is given up."""
    store = FakeStore(Clock())
    bench = make(store=store)
    leave(bench.ask())
    bench.turn()
    assert store.names == ["claim", "release"]
    assert bench.count == 0


def test_leaving_and_a_store_that_takes_its_time() -> None:
    """Who comes while a claim is given up starts anew, and does not wait for that."""
    store = FakeStore(hangs={"release"})
    bench = make(store=store)
    leave(bench.ask())
    assert outcome_with(bench) is None
    assert bench.count == 2


def test_leaving_and_a_store_that_replies_nevertheless() -> None:
    """A store that cannot be cancelled any more, and has something stale, begins no refresh that nobody counts."""

    class Stubborn(FakeStore):
        async def work(self, name: str) -> None:
            if name == "claim":
                with contextlib.suppress(CancelledError):
                    await Deferred()

    bench = make(NEW, store=Stubborn(replies=[stored(OLD, age=TTL)]))
    leave(bench.ask())
    bench.cache.stop()
    assert bench.cache.in_background == 0


def test_stop_while_a_store_is_polled() -> None:
    """Those who wait for another gateway do not any more."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(store=store)
    asking = bench.ask()
    assert bench.clock.getDelayedCalls()
    bench.cache.stop()
    assert isinstance(told(asking), Failed)
    assert bench.clock.getDelayedCalls() == []


def test_stop_with_a_store_that_takes_its_time() -> None:
    """Nobody who is told of the end waits for the store to give up a claim."""
    store = FakeStore(hangs={"release"})
    bench = make(store=store)
    asking = bench.ask()
    bench.cache.stop()
    assert store.names == ["claim", "release"]
    assert isinstance(told(asking), Failed)
