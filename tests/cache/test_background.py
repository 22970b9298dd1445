"""Refreshes in the background: how many there may be at a time, and of whom."""

from __future__ import annotations

from fingergw.cache.cached_backend import MAX_REFRESHES
from fingergw.core.outcome import Failed
from fingergw.core.query import Query
from fingergw.core.setting_types import Period
from fingergw.core.settings import changed
from tests.support.cache_bench import DOWN, HELD, KEPT, NEW, OLD, SETTINGS, TTL, Bench, FakeStore, make, told


def stale(names: int) -> Bench:
    """Return a cache of so many stale answers, whose upstream hangs."""
    bench = make(OLD)
    for number in range(names):
        bench.at_once(Query(f"u{number}"))
    bench.upstream.asked.clear()
    bench.upstream.says = None
    bench.clock.advance(TTL)
    return bench


def test_one_client_does_not_keep_others_answers_stale() -> None:
    """However many stale names one client asks for, what another one asks for is refreshed."""
    bench = stale(MAX_REFRESHES + 20)
    for number in range(MAX_REFRESHES + 10):
        assert bench.at_once(Query(f"u{number}", client="192.0.2.1")) == OLD
    assert bench.cache.in_background == MAX_REFRESHES
    other = Query(f"u{MAX_REFRESHES + 15}", client="192.0.2.2")
    assert bench.at_once(other) == OLD
    assert bench.upstream.asked[-1].user == other.user


def test_others_who_ask_meanwhile() -> None:
    """Whoever gets a stale answer that is being refreshed pays for it, too: it can come at the turn of any of them."""
    bench = stale(1)
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        assert bench.at_once(Query("u0", client=client)) == OLD
    (refresh,) = bench.cache.refreshes.values()
    assert refresh.payers.clients == ["192.0.2.1", "192.0.2.2"]


def test_no_place() -> None:
    """After a refresh that found no place in time, there may be as many in the background as before: nobody is down."""
    bench = stale(5)
    bench.upstream.says = Failed("no place", upstream="unknown")
    bench.at_once(Query("u0"))
    bench.upstream.says = None
    for number in range(1, 5):
        bench.at_once(Query(f"u{number}"))
    assert bench.cache.in_background == 4


def test_a_subnet_is_one_client() -> None:
    """The addresses of an IPv6 /64 share its refreshes."""
    bench = stale(MAX_REFRESHES + 5)
    for number in range(MAX_REFRESHES + 5):
        bench.at_once(Query(f"u{number}", client=f"2001:db8::{number + 1:x}"))
    assert bench.cache.in_background == MAX_REFRESHES


def test_not_again_for_a_second() -> None:
    """A refresh that fails is not begun again for a second, in which the stale answer is served."""
    bench = stale(1)
    bench.upstream.says = DOWN
    for passed, asked in ((0.0, 1), (0.0, 1), (0.9, 1), (0.1, 2), (0.9, 2)):
        bench.clock.advance(passed)
        assert bench.at_once(Query("u0")) == OLD
        assert bench.count == asked
    bench.upstream.says = NEW
    bench.clock.advance(0.1)
    bench.at_once(Query("u0"))
    assert bench.at_once(Query("u0")) == NEW


def test_well_again() -> None:
    """One failure does not keep an old answer in use that may be served after failures only."""
    bench = make(settings=changed(SETTINGS, stale_while_revalidate=Period(0))).filled(says=DOWN)
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_held_is_no_failure() -> None:
    """While another gateway asks, an answer that is no longer stale is waited for."""
    store = FakeStore()
    bench = make(store=store).filled(KEPT)
    bench.clock.advance(14.5)  # stale until 15
    store.replies = [HELD]
    assert bench.at_once() == KEPT
    bench.turn()
    bench.clock.advance(0.6)
    assert told(bench.ask()) is None
