"""How many connections a client may have, and how often it may ask."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.admission import ConnectionCounts, RateLimit
from tests.support.listener import rate_of

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=60)


def test_a_burst_and_then_the_rate() -> None:
    """So many are allowed at once, and then one for each interval that has passed."""
    limit = RateLimit(rate_of(queries=60, per=60, burst=3))
    assert [limit.spend("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.spend("a", now) for now in (100.5, 101.0, 101.5, 102.0)] == [False, True, False, True]


def test_a_burst_comes_back() -> None:
    """After a long enough pause a client may send a full burst again, and no more."""
    limit = RateLimit(rate_of(queries=60, per=60, burst=3))
    for _ in range(3):
        limit.spend("a", 0.0)
    assert [limit.spend("a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_burst_of_one_keeps_to_the_rate() -> None:
    """Queries that come just in time are all allowed, whatever floating point makes of the interval."""
    limit = RateLimit(rate_of(queries=3, per=1, burst=1))
    assert all(limit.spend("a", 1e6 + count / 3) for count in range(1000))
    assert not limit.spend("a", 1e6 + 999 / 3 + 0.2)


def test_what_is_refused_costs_nothing() -> None:
    """Queries that are refused do not delay when the next one is allowed."""
    limit = RateLimit(rate_of(queries=1, per=10, burst=1))
    assert limit.spend("a", 0.0)
    assert not any(limit.spend("a", now / 10) for now in range(1, 99))
    assert limit.spend("a", 10.0)


def test_a_clock_that_is_set_back() -> None:
    """When the clock is set back by an hour, a client waits no longer than after a full burst."""
    limit = RateLimit(rate_of(queries=60, per=60, burst=3))
    limit.spend("a", 10_000.0)
    limit.spend("a", 6_400.0)
    assert limit.spend("a", 6_402.0)


def test_clients_do_not_concern_each_other() -> None:
    """One that asks too often leaves the others what they have."""
    limit = RateLimit(rate_of(queries=1, per=10, burst=1))
    assert [limit.spend("a", 0.0) for _ in range(3)] == [True, False, False]
    assert limit.spend("b", 0.0)


@given(steps=STEPS, queries=st.integers(1, 5), burst=st.integers(1, 5))
def test_never_more_than_the_rate_and_a_burst(steps: list[tuple[str, float]], queries: int, burst: int) -> None:
    """In no window of time is a client allowed more than the burst and what the rate gives in that time."""
    limit, now = RateLimit(rate_of(queries, 10, burst)), 0.0
    allowed: dict[str, list[float]] = {}
    for client, pause in steps:
        now += pause
        if limit.spend(client, now):
            allowed.setdefault(client, []).append(now)
    for times in allowed.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                most = burst + (times[last] - times[first]) * queries / 10
                assert last - first + 1 <= most + 1e-3


def test_the_table_cannot_be_made_to_grow() -> None:
    """Of 100,000 clients only so many are remembered, and those who asked last are."""
    limit = RateLimit(rate_of(queries=1, per=1e6, burst=1), max_clients=100)
    tracemalloc.start()
    try:
        for number in range(100_000):
            limit.spend(str(number), 0.0)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limit) == 100
    assert held_bytes < 50_000
    assert not any(limit.spend(str(number), 0.0) for number in range(99_900, 100_000))


def test_asking_again_keeps_a_client_in_the_table() -> None:
    """A client that keeps asking stays in the table, however many others come."""
    limit = RateLimit(rate_of(queries=1, per=1e6, burst=1), max_clients=3)
    for other in range(100):
        assert limit.spend("a", 0.0) is (other == 0)
        limit.spend(str(other), 0.0)


def test_connections_are_counted() -> None:
    """A client may have so many at once, and each that ends makes room for another."""
    counts = ConnectionCounts()
    assert [counts.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert counts.enter("b", 2)
    counts.leave("a")
    assert [counts.enter("a", 2), counts.enter("a", 2)] == [True, False]


def test_clients_without_connections_are_forgotten() -> None:
    """Clients that have left, or were refused, take no memory."""
    counts = ConnectionCounts()
    for number in range(1000):
        assert counts.enter(str(number), 1)
        assert not counts.enter(str(number), 1)
        counts.leave(str(number))
    assert len(counts) == 0
