"""The benchmark of stalls: a small one, and that it fails where there is something to find."""

from __future__ import annotations

import json
import re

import pytest

from tests.benchmarks import stall
from tests.benchmarks.hostile import HOSTILE, PLAIN

HARMLESS = "type-charset-continued"


def test_a_small_run_prints_each_figure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells what came of a response, what others waited meanwhile and without, turns, and costs."""
    monkeypatch.setattr(stall, "STALL_SECONDS", 60.0)  # nothing here is timed
    stall.run(HARMLESS, seconds=0.3, queries=3)
    printed = capsys.readouterr().out
    assert re.search(rf"^{HARMLESS} .* ms .* MiB .* \d+ answered$", printed, re.MULTILINE)
    for name in ("page", "small-template", "text-1", "page-1", "page-10", "page-64"):
        assert re.search(rf"^{name} .* ms", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("STALL_SECONDS", 0.0, "the event loop was held for"),
        ("GROWTH_BYTES", -1 << 40, "the gateway took"),
    ],
)
def test_a_run_fails_beyond_a_bound(monkeypatch: pytest.MonkeyPatch, bound: str, value: float, said: str) -> None:
    """Where the event loop was held, or memory was taken, for more than is allowed, it ends with a failure."""
    monkeypatch.setattr(stall, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(stall, bound, value)
    with pytest.raises(SystemExit, match=f"^{HARMLESS}: {said}"):
        stall.run(HARMLESS, seconds=0.1, queries=2)


@pytest.mark.parametrize("name", [*HOSTILE, *PLAIN])
def test_responses_are_what_their_names_say(name: str) -> None:
    """Each is HTTP; what a template is filled with is no larger than a body may be, so that it comes so far."""
    each = {**HOSTILE, **PLAIN}[name]
    head, _, body = each.respond(1).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    if each.template is not None or name.startswith(("html-", "text-", "page", "plain")):
        assert len(body) <= 65536
    if each.template is not None and not name.startswith("json-"):
        json.loads(body)
