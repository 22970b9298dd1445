"""The benchmark of what others get: small runs, in which nothing is timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from tests.benchmarks import asking, others, server
from tests.support.processes import forked

INTERNAL_ERROR = "Internal error in server"


@pytest.fixture(autouse=True)
def _start_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the gateways, which takes less than to start them."""

    def start(*command: str, port: int) -> AbstractContextManager[Any]:
        return forked(command[2:], port=port) if command[:2] == ("-m", "fingergw") else server(*command, port=port)

    monkeypatch.setattr(asking, "server", start)


@pytest.mark.parametrize(
    ("scenario", "asked"),
    [
        pytest.param(partial(others.hanging, 1, timeout=1.5), [1, 1], id="hanging"),
        pytest.param(partial(others.turns, 1, connections=1, seconds=0.1), [5, 5], id="turns"),
        pytest.param(partial(others.shares, 20, times=3), [3], id="shares"),
        pytest.param(partial(others.subnet, 20), [10], id="subnet"),
        pytest.param(partial(others.waiting, 1, max_waiting=15), [5], id="waiting"),
        pytest.param(partial(others.loop, 0.1), None, id="loop"),
        pytest.param(partial(others.addresses, 1), [1], id="addresses"),
    ],
)
def test_small_scenarios(scenario: Callable[[], Iterable[others.Found]], asked: list[int] | None) -> None:
    """With little trouble, others get right answers beside it, and without it."""
    found = list(scenario())
    if not found:
        pytest.skip("this machine has no ::1")
    for each in found:
        assert (each.beside.wrong, each.without.wrong) == (Counter(), Counter()), each
    if asked is not None:
        assert [len(each.beside.seconds) for each in found] == asked
    assert all(each.beside.seconds and each.without.seconds for each in found)


def test_what_is_printed() -> None:
    """A scenario prints the slowest answer, and how many were right and wrong, with the trouble and without."""
    beside = asking.Answers([5.0, 0.25, 5.0], Counter({INTERNAL_ERROR: 2}))
    printed = str(others.Found("turns", beside, asking.Answers([0.5]), "a note"))
    assert printed.splitlines() == [
        "turns",
        f"    with trouble:    slowest  5.000 s, right 1 of 3, failed 2; 2 x {INTERNAL_ERROR}",
        "    without trouble: slowest  0.500 s, right 1 of 1, failed 0",
        "    a note",
    ]


def test_a_scenario_that_is_not_there() -> None:
    """The message names those that there are."""
    with pytest.raises(SystemExit, match="no scenario nothing; there are hanging, turns, "):
        others.run("hanging", "nothing")
