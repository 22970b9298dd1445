"""One line a query: its form, when it is written, and what happens where it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from fingergw.access_log import AccessLog, Entry, json_line, text_line
from tests.support import ROOT

NOW = 1795335600.25
STAMP = "2026-11-22T08:20:00Z"
PLAIN = ("public", "192.0.2.1", "moshez", "people", "map", "answered", 16, 0.0012345)


def make(path: str | Path, form: Literal["text", "json"] = "text") -> tuple[AccessLog, Clock]:
    """Return an open log, and the clock it goes by."""
    clock = Clock()
    log = AccessLog(str(path), form, clock, lambda: NOW + clock.seconds())
    log.open()
    return log, clock


def written(path: Path, form: Literal["text", "json"], *entry: Any) -> str:
    """Return what one entry comes out as in a file."""
    log, _ = make(path, form)
    log.add(*entry)
    log.close()
    return path.read_bytes().decode("ascii")


def test_text(tmp_path: Path) -> None:
    """A text line has its words in a fixed order, those that may hold blanks in double quotes."""
    line = f'{STAMP} "public" 192.0.2.1 "moshez" "people" "map" answered 16 1.234\n'
    assert written(tmp_path / "log", "text", *PLAIN) == line


def test_json(tmp_path: Path) -> None:
    """A JSON line is an object with a key for each of the same things."""
    assert json.loads(written(tmp_path / "log", "json", *PLAIN)) == {
        "time": STAMP,
        "listener": "public",
        "client": "192.0.2.1",
        "query": "moshez",
        "route": "people",
        "backend": "map",
        "outcome": "answered",
        "bytes": 16,
        "milliseconds": 1.234,
    }


HOSTILE = ['"', "\\", '\\"', "\x1b[2J\x07", "a\r\nb", "\x00\x7f\x9b", "é\u202e\u2028", "\ud800", 'x" "y" answered 0']


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_words_stay_within_their_quotes(tmp_path: Path, text: str) -> None:
    """Nothing in a query or a name can forge a line, end its quotes or reach a terminal."""
    line = written(tmp_path / "log", "text", text, text, text, text, text, "bad_query", 0, 0.0)
    quoted = text.encode("unicode_escape").decode().replace('"', '\\"')
    assert line == f'{STAMP} "{quoted}" {quoted} "{quoted}" "{quoted}" "{quoted}" bad_query 0 0.000\n'
    assert line[:-1].isprintable()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_words_in_json(tmp_path: Path, text: str) -> None:
    """A JSON line is printable ASCII alone, and says exactly what was asked."""
    line = written(tmp_path / "log", "json", text, text, text, text, text, "bad_query", 0, 0.0)
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    found = json.loads(line)
    assert [found[key] for key in ("listener", "client", "query", "route", "backend")] == [text] * 5


ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from('"\\\x7f\x1b\n'), max_size=40)


@given(ANY_TEXT, ANY_TEXT)
def test_any_words_make_one_printable_line(query: str, client: str) -> None:
    """Whatever Unicode has, surrogates too, a line of either form is printable ASCII with one end."""
    entry: Entry = (NOW, "public", client, query, query, query, "answered", 0, 0.0)
    for line in (text_line(STAMP, entry), json_line(STAMP, entry)):
        assert line.isascii()
        assert line[:-1].isprintable()
        assert line.endswith("\n")
    assert json.loads(json_line(STAMP, entry))["query"] == query


def test_every_control_in_json() -> None:
    """No control is left as it is in a JSON line, not even DEL and C1, which JSON itself would let pass."""
    controls = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    line = json_line(STAMP, (NOW, controls, controls, controls, "", "", controls, 0, 0.0))
    assert line[:-1].isprintable()
    assert json.loads(line)["client"] == controls


def test_lines_are_written_in_bunches(tmp_path: Path) -> None:
    """A line waits for others, but no longer than a fifth of a second; then there is no timer until the next."""
    path = tmp_path / "log"
    log, clock = make(path)
    assert not clock.getDelayedCalls()
    log.add(*PLAIN)
    clock.advance(0.1)
    log.add(*PLAIN)
    assert path.read_text() == ""
    clock.advance(0.1)
    assert path.read_text().count("\n") == 2
    assert not clock.getDelayedCalls()
    log.close()


def test_many_lines_do_not_wait(tmp_path: Path) -> None:
    """A thousand lines are written at once, and the rest with the timer."""
    path = tmp_path / "log"
    log, clock = make(path)
    for _ in range(1001):
        log.add(*PLAIN)
    assert path.read_text().count("\n") == 1000
    clock.advance(0.2)
    assert path.read_text().count("\n") == 1001
    log.close()


def test_each_line_has_its_own_second(tmp_path: Path) -> None:
    """Lines of one bunch are stamped with when their queries were answered."""
    path = tmp_path / "log"
    log, clock = make(path)
    clock.advance(0.7)
    log.add(*PLAIN)
    clock.advance(0.1)
    log.add(*PLAIN)
    log.close()
    assert [line.split()[0] for line in path.read_text().splitlines()] == [STAMP, "2026-11-22T08:20:01Z"]


def test_close_writes_the_rest(tmp_path: Path) -> None:
    """Closing writes what waits and leaves no timer; what comes later is dropped; closing again does no harm."""
    path = tmp_path / "log"
    log, clock = make(path)
    log.add(*PLAIN)
    log.close()
    assert path.read_text().count("\n") == 1
    assert not clock.getDelayedCalls()
    log.add(*PLAIN)
    log.close()
    assert not clock.getDelayedCalls()
    assert path.read_text().count("\n") == 1


def test_lines_are_appended(tmp_path: Path) -> None:
    """What was in the file before stays."""
    path = tmp_path / "log"
    path.write_text("before\n")
    assert written(path, "text", *PLAIN).startswith("before\n")


def test_off() -> None:
    """A log that is off opens nothing and starts no timer."""
    log, clock = make("off")
    log.add(*PLAIN)
    assert not clock.getDelayedCalls()
    log.close()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """Opening says at once when the file cannot be."""
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "missing" / "log")


def test_a_full_disk_costs_lines_only() -> None:
    """Lines that cannot be written are counted, it is said once, and nothing is raised."""
    log, clock = make("/dev/full")
    with capturedLogs() as events:
        for _ in range(2):
            log.add(*PLAIN)
            log.add(*PLAIN)
            clock.advance(0.2)
    log.close()
    assert log.lost == 4
    assert [(event["path"], event["why"]) for event in events] == [("/dev/full", "No space left on device")]


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes only a part, as when a signal comes, the rest is written after it."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    assert written(tmp_path / "log", "text", *PLAIN).endswith("answered 16 1.234\n")


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """A log to "-" goes to standard output."""
    log, _ = make("-")
    log.add(*PLAIN)
    log.close()
    assert capfd.readouterr().out.startswith(f'{STAMP} "public"')


@pytest.mark.parametrize("redirect", [">/dev/null", ">&-"])
def test_a_daemons_standard_output(redirect: str) -> None:
    """Where standard output leads nowhere, lines go where Twisted's log has put itself in its place."""
    script = (
        "import sys; from twisted.internet.task import Clock; from fingergw.access_log import AccessLog;"
        "sys.stdout = sys.stderr; log = AccessLog('-', 'text', Clock(), lambda: 0.0); log.open();"
        f"log.add(*{PLAIN!r}); log.close()"
    )
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.startswith('1970-01-01T00:00:00Z "public"')
