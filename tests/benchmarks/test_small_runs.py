"""The benchmarks of speed, lost answers and idle connections: small runs, in which nothing is timed."""

from __future__ import annotations

import random
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests import benchmarks
from tests.benchmarks import idle, lost, server, speed
from tests.benchmarks.__main__ import NAMES, chosen, main
from tests.support.processes import forked

RATIO = r"\d+\.\d\d x {} \(\d+\.\d µs, \d+\.\d\d to \d+\.\d\d{}\)"


@pytest.fixture
def _start_quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fork the gateways, which takes less than to start them; undo what a run changes of this process."""

    def start(*command: str, port: int, **options: Any) -> AbstractContextManager[Any]:
        if command[:2] == ("-m", "fingergw"):
            return forked(command[2:], port=port)
        return server(*command, port=port, **options)

    monkeypatch.setattr(benchmarks, "server", start)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("_start_quickly")
def test_speed_prints_a_ratio_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of query is compared with the tutorial's server, and with the loop where there is a compiler."""
    speed.run(queries=20, rounds=1, in_flights=(8,), names=100)
    printed = capsys.readouterr().out
    rows = {
        "known, 8 in flight": ", goal 0.55",
        "static, 8 in flight": ", goal 0.80",
        "refusal, 64 in flight": ", goal 0.70",
        "haproxy:, 64 in flight": "",
        "fresh hit, 64 in flight": ", goal 0.85",
    }
    for name, goal in rows.items():
        assert re.search(rf"^{name} .*{RATIO.format('tutorial', goal)}", printed, re.MULTILINE), printed
    if shutil.which("cc") or shutil.which("gcc"):
        assert len(re.findall(RATIO.format("C loop", ", goal 2.00"), printed)) == 1
        assert len(re.findall(RATIO.format("C loop", ""), printed)) == 1


def test_a_row_of_speed() -> None:
    """A row has the median of the rounds' ratios, which is not the ratio of the medians, and their middle half."""
    spent = {"fingergw": [2e-6, 4e-6, 9e-6, 4e-6, 8e-6], "tutorial": [4e-6, 4e-6, 3e-6, 5e-6, 4e-6]}
    row = speed.row("known", spent, {"tutorial": 0.55})
    assert re.fullmatch(r"known +4\.0 µs +1\.00 x tutorial \(4\.0 µs, 0\.80 to 2\.00, goal 0\.55\)", row)


@pytest.mark.usefixtures("_start_quickly")
def test_lost_counts_all_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Each size and kind of name has a line, which accounts for every client, and the seed is told."""
    lost.run(7, clients=4)
    printed = capsys.readouterr().out
    assert "seed 7;" in printed
    for size in lost.SIZES:
        for kind in ("fingergw, a new name", "fingergw, a known name", "tutorial"):
            assert re.search(rf"^{size} +{kind} +lost \d of 4[ ;]", printed, re.MULTILINE), printed


@pytest.mark.parametrize("size", lost.SIZES.values())
def test_lost_knows_what_is_not_whole(size: int) -> None:
    """What is cut short is lost, by what its client did; a reset after the whole answer is told, and not lost."""
    client, answer, received = lost.Client.drawn(random.Random(1), size), lost.text(size), lost.Received()
    assert len(answer) == size
    received.count(client, answer, "", answer)
    received.count(client, answer, "ConnectionResetError", answer)
    received.count(client, answer[:-1], "", answer)
    assert (received.whole, received.reset, received.lost) == (2, 1, {f"closed of {client}": 1})
    assert str(received) == f"lost 1 of 3 (1 x closed of {client}); reset after a whole answer: 1"
    with pytest.raises(SystemExit, match="a wrong answer"):
        received.count(client, b"No such user\r\n", "", answer)


@pytest.mark.usefixtures("_start_quickly")
def test_idle_prints_bytes_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    """What a connection takes is told of the gateway and of the tutorial's server."""
    idle.run(connections=30)
    printed = capsys.readouterr().out
    assert "each of 30 idle connections" in printed
    assert re.search(r"^fingergw: -?\d+ bytes, -?\d+ bytes; goal 450\n^tutorial: -?\d+ bytes,", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([], [(name, []) for name in NAMES]),
        (["idle", "lost", "7"], [("idle", []), ("lost", [7])]),
        (["stall", "page", "html-b", "soak", "100"], [("stall", ["page", "html-b"]), ("soak", [100])]),
    ],
)
def test_what_the_command_line_chooses(words: list[str], runs: list[tuple[str, list[int | str]]]) -> None:
    """Names choose benchmarks, and what follows a name are its arguments; without a name all that need none run."""
    assert list(chosen(words)) == runs


def test_a_benchmark_that_is_not_there() -> None:
    """The message names those that there are."""
    with pytest.raises(SystemExit, match="no benchmark page; there are speed, lost, "):
        list(chosen(["page", "stall"]))


def test_one_that_fails_does_not_stop_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it fails with is told under its heading, the next one runs, and in the end it is a failure."""

    def fails() -> None:
        raise SystemExit("a wrong answer")

    def does() -> None:
        print("done")

    monkeypatch.setattr(speed, "run", fails)
    monkeypatch.setattr(idle, "run", does)
    with pytest.raises(SystemExit, match=r"^failed: speed$"):
        main(["speed", "idle"])
    assert capsys.readouterr().out == "\n== speed\nSystemExit: a wrong answer\n\n== idle\ndone\n"
