"""The soak itself: a small one, and that it fails where there is something to find."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from tests.benchmarks import soak
from tests.benchmarks.soak import clients, mix

MIB = 1 << 20
AT_REST = soak.Measured(
    memory_bytes=60 * MIB,
    descriptors={"socket": 9, "pipe": 2},
    children=(),
    counters={"timers": 0},
    objects={"twisted.internet.defer.Deferred": 8, "fingergw.cache.entry.Entry": 100},
)
PLAN = clients.Plan(7, "web-ok", False, "tcp", "whole", b"web-ok-1\r\n", b"page web-ok-1\r\n", "answered")


def _line(client: str = "127.0.0.1", outcome: str = "answered", size: int = 15) -> str:
    return json.dumps({"listener": "tcp", "client": client, "outcome": outcome, "bytes": size})


def _answered() -> clients.Tally:
    tally = clients.Tally()
    tally.note(PLAN, PLAN.expected, "", 0.001)
    return tally


def test_a_small_soak_finds_nothing_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand clients get right answers, and nothing of them is left."""
    # after so few to warm up, the most that is ever sent at once may be yet to come; it takes 6 MiB
    for name in ("MAX_GROWTH_BYTES", "MAX_LATE_GROWTH_BYTES"):
        monkeypatch.setattr(soak, name, 12 << 20)
    soak.run(1500, warm_up=500)
    assert "no wrong answer, and nothing is left" in capsys.readouterr().out


def test_a_soak_fails_on_wrong_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gateway answers otherwise than it must, the soak says for which query, and ends with a failure."""
    kind = mix.KINDS["static-nobody"]
    monkeypatch.setitem(mix.KINDS, "static-nobody", attrs.evolve(kind, outcome="list_denied"))
    with pytest.raises(SystemExit) as ended:
        soak.run(100, warm_up=100)
    assert re.search(r"got \d+ bytes b'No such user.*, not b'Finger online user list denied", str(ended.value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counters": {"timers": 0, "connections at tcp": 1}}, "1 connections at tcp"),
        ({"children": ("sleep, dead",)}, "a child: sleep, dead"),
        ({"descriptors": {"socket": 10, "pipe": 2}}, "descriptors of socket: 9 at the start, 10 now"),
        ({"descriptors": {"socket": 9}}, "descriptors of pipe: 2 at the start, 0 now"),
        (
            {"objects": {"twisted.internet.defer.Deferred": 5008}},
            "5000 more objects of twisted.internet.defer.Deferred",
        ),
        ({"memory_bytes": 65 * MIB}, "5.0 MiB more memory than after the warm-up"),
    ],
)
def test_what_is_left_is_told(change: dict[str, Any], said: str) -> None:
    """Whatever there is more of in the end than at the start, or after the warm-up, is a leak."""
    after = attrs.evolve(AT_REST, **change)
    assert said in soak.leaks(AT_REST, AT_REST, AT_REST, after)


def test_memory_that_goes_on_growing_is_told() -> None:
    """What grows in the second half as in the first is a leak, even if it is little."""
    halfway = attrs.evolve(AT_REST, memory_bytes=60 * MIB + MIB // 2)
    after = attrs.evolve(AT_REST, memory_bytes=63 * MIB + MIB // 2)
    assert soak.leaks(AT_REST, AT_REST, halfway, after) == ["3.0 MiB more memory than halfway: it goes on growing"]


def test_what_a_cache_keeps_is_no_leak() -> None:
    """A gateway at rest as before has no leaks; its caches may be fuller, and its memory a little more."""
    objects = {**AT_REST.objects, "fingergw.cache.entry.Entry": 500}
    after = attrs.evolve(AT_REST, objects=objects, memory_bytes=61 * MIB)
    assert soak.leaks(AT_REST, AT_REST, AT_REST, after) == []


@pytest.mark.parametrize(
    ("got", "ending"),
    [
        (b"page web-ok-2\r\n", ""),
        (clients.BUSY, ""),
        (b"page web-ok-1\r", ""),
        (b"", ""),
        (PLAN.expected, "then ConnectionResetError"),
    ],
)
def test_a_wrong_answer_is_noted(got: bytes, ending: str) -> None:
    """Another answer, a needless refusal, a part, none at all, and one that ends in a reset are wrong."""
    tally = clients.Tally()
    tally.note(PLAN, got, ending, 0.001)
    assert (tally.wrong_answers, len(tally.wrong)) == (1, 1)


def test_a_right_answer_is_not_wrong() -> None:
    """An answer that is right to the byte, and ends cleanly, is right."""
    assert _answered().wrong_answers == 0


@pytest.mark.parametrize(
    ("log", "outcomes", "said"),
    [
        ([], {}, "answered at tcp: 0 in the access log, 1 seen by clients"),
        ([_line(), _line()], {"answered": 2}, "answered at tcp: 2 in the access log, 1 seen by clients"),
        ([_line(size=14)], {"answered": 1}, "answered at tcp: 14 bytes logged, 15 received by clients"),
        ([_line()], {"answered": 2}, "answered at tcp: 1 lines in the access log, 2 noted"),
        ([_line(), _line(clients.HOSTILE)], {"answered": 1}, "answered at tcp: 2 lines in the access log, 1 noted"),
    ],
)
def test_an_access_log_that_differs_is_told(log: list[str], outcomes: Mapping[str, int], said: str) -> None:
    """The access log has a line for each answer that a client got, of its size, and for each that was counted."""
    assert said in soak.differences(_answered(), log, {"tcp": outcomes})


def test_an_access_log_that_has_all_is_as_it_should_be() -> None:
    """Lines of hostile clients are those that the gateway has counted, whatever these saw."""
    log = [_line(), _line(clients.HOSTILE, "gone", 0)]
    assert soak.differences(_answered(), log, {"tcp": {"answered": 1, "gone": 1}}) == []


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ("[fingergw.telemetry.event_log#error] backend web failed, asked by route web-error-*: HTTP 500", False),
        ("[fingergw.finger.proxied#warn] 127.0.0.9: connection closed: no PROXY header", False),
        (
            "[fingergw.telemetry.event_log#error] backend web failed, asked by route web-ok-*: unforeseen TypeError",
            True,
        ),
        ("[fingergw.finger.protocol#error] no answer within 20 s, asked by route web-ok-*", True),
        ("\tTraceback (most recent call last):", True),
        ("[-] Unhandled Error", True),
        ("[-#critical] Unhandled error in Deferred:", True),
    ],
)
def test_what_is_logged_and_was_not_injected_is_told(line: str, is_told: bool) -> None:
    """A backend's failure is what the faults are for; a traceback, and any other error, is a mistake."""
    assert bool(soak.unforeseen([line])) == is_told


def test_a_traceback_is_told_with_what_it_belongs_to() -> None:
    """Lines that are indented are part of the one before; others are not."""
    raised = ["[-#critical] while handling timed call", "\tTraceback (most recent call last):", "\t  KeyError: 7"]
    assert soak.unforeseen(["[-#info] begun", *raised, "[-#info] ended"]) == ["\n".join(raised)]
