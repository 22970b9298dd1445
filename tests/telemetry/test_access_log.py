"""The access log: the form of its lines, when they are written, and what happens if they cannot be."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import socket
import subprocess
import sys
import tty
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from fingergw.core.text import escape
from fingergw.telemetry.access_log import AccessLog, Entry, json_line, text_line
from tests.support.escaped import unescaped
from tests.support.processes import ROOT
from tests.support.waiting import DEADLINE_SECONDS

NOW = 1795335600.25
STAMP = "2026-11-22T08:20:00Z"
PLAIN = ("public", "192.0.2.1", b"moshez", "people", "map", "answered", 16, 0.0012345)


def make(path: str | Path, form: Literal["text", "json"] = "text") -> tuple[AccessLog, Clock]:
    """Return an open log and its clock."""
    clock = Clock()
    log = AccessLog(str(path), form, clock, lambda: NOW + clock.seconds())
    log.open()
    return log, clock


def written(path: Path, form: Literal["text", "json"], *entry: Any) -> str:
    """Return what a file has after one entry."""
    log, _ = make(path, form)
    log.add(*entry)
    log.close()
    return path.read_bytes().decode("ascii")


def test_text(tmp_path: Path) -> None:
    """A text line has its fields in a fixed order; those that may contain spaces are in double quotes."""
    line = f'{STAMP} "public" 192.0.2.1 "moshez" "people" "map" answered 16 1.234 -\n'
    assert written(tmp_path / "log", "text", *PLAIN) == line


@pytest.mark.parametrize("form", ["text", "json"])
def test_anonymised(form: Literal["text", "json"], tmp_path: Path) -> None:
    """If it is to be so, the client is the first address of its network, and another log than without."""
    plain, _ = make(tmp_path / "plain", form)
    log = AccessLog(str(tmp_path / "log"), form, Clock(), lambda: NOW, anonymises=True)
    log.open()
    for client in ("192.0.2.1", "2001:db8:1:2::3", "unix"):
        log.add("public", client, b"", "", "", "denied", 0, 0.0)
    log.close()
    found = re.findall('"client": "([^"]*)"' if form == "json" else '"public" ([^ ]*)', (tmp_path / "log").read_text())
    assert found == ["192.0.2.0", "2001:db8:1::", "unix"]
    assert log.fingerprint != AccessLog(str(tmp_path / "log"), form, Clock(), lambda: NOW).fingerprint
    plain.close()


def test_cache_state(tmp_path: Path) -> None:
    """The last field is what the cache had, if one was asked."""
    log, _ = make(tmp_path / "text")
    log.add(*PLAIN, cache="stale_if_error")
    log.close()
    assert (tmp_path / "text").read_text().endswith(" answered 16 1.234 stale_if_error\n")
    log, _ = make(tmp_path / "json", "json")
    log.add(*PLAIN, "fresh")
    log.close()
    assert json.loads((tmp_path / "json").read_text())["cache"] == "fresh"


def test_json(tmp_path: Path) -> None:
    """A JSON line is an object with the same fields."""
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
        "cache": "",
    }


HOSTILE = ['"', "\\", '\\"', "\x1b[2J\x07", "a\r\nb", "\x00\x7f\x9b", "é\u202e\u2028", "\ud800", 'x" "y" answered 0']


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_words_stay_within_their_quotes(tmp_path: Path, text: str) -> None:
    """Nothing in a query or a name can forge a line, end its quotes or reach a terminal."""
    asked = text.encode(errors="surrogatepass")
    line = written(tmp_path / "log", "text", text, text, asked, text, text, "bad_query", 0, 0.0)
    quoted, query = escape(text), escape(asked.decode(errors="surrogateescape"))
    assert line == f'{STAMP} "{quoted}" {quoted} "{query}" "{quoted}" "{quoted}" bad_query 0 0.000 -\n'
    assert line[:-1].isprintable()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_words_in_json(tmp_path: Path, text: str) -> None:
    """A JSON line is printable ASCII alone, and says exactly what was asked."""
    asked = text.encode(errors="surrogatepass")
    line = written(tmp_path / "log", "json", text, text, asked, text, text, "bad_query", 0, 0.0)
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    found = json.loads(line)
    assert [found[key] for key in ("listener", "client", "route", "backend")] == [text] * 4
    assert asked_in_json(found) == asked


ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from('"\\\x7f\x1b\n'), max_size=40)
# with what could be taken for an escape
ANY_LINE = st.lists(
    st.binary(max_size=4)
    | st.sampled_from(["\xff", "é", "\\", '"', "\x9b", "\u202e", "\U0001f642", "\ufffd"]).map(str.encode)
    | st.sampled_from([rb"\xff", rb"\u00ff", rb"\udcff", rb"\n", b"\xff", b"\xed\xb3\xbf", b"\xc3", b"ff"]),
    max_size=8,
).map(b"".join)


def asked_in_text(line: str) -> bytes:
    """Return the query in a text line."""
    query = re.match(r'\S+ "(?:[^"\\]|\\.)*" \S+ "((?:[^"\\]|\\.)*)"', line)
    assert query is not None
    return unescaped(query[1]).encode(errors="surrogateescape")


def asked_in_json(found: dict[str, Any]) -> bytes:
    """Return the query in a JSON line."""
    return bytes.fromhex(found["query_hex"]) if "query_hex" in found else str(found["query"]).encode()


@given(ANY_LINE, ANY_TEXT)
def test_any_words_make_one_printable_line(query: bytes, name: str) -> None:
    """Any query can be recovered from its line in either form, which is one line of printable ASCII."""
    entry: Entry = (NOW, "public", "::1", query, name, name, "answered", 0, 0.0, "")
    for line in (text_line(STAMP, entry), json_line(STAMP, entry)):
        assert line.isascii()
        assert line[:-1].isprintable()
        assert line.endswith("\n")
    assert asked_in_text(text_line(STAMP, entry)) == query
    found = json.loads(json_line(STAMP, entry))
    assert asked_in_json(found) == query
    assert found["query"] == query.decode(errors="backslashreplace")
    assert [found["route"], found["backend"]] == [name, name]


@given(ANY_LINE, ANY_LINE)
@example(b"\xff", rb"\xff")
@example(b"\xff", "\xff".encode())
@example(rb"\xff", "\xff".encode())
@example(b"\xff", "\udcff".encode(errors="surrogatepass"))
@example(b"\xff", b"\xef\xbf\xbd")
@example(b"\xff", b"\xfe")
def test_no_two_are_logged_alike(one: bytes, other: bytes) -> None:
    """Two queries that differ in a byte have lines that differ."""
    lines = [
        [line(STAMP, (NOW, "l", "::1", query, "", "", "bad_query", 0, 0.0, "")) for line in (text_line, json_line)]
        for query in (one, other)
    ]
    assert [first == second for first, second in zip(*lines, strict=True)] == [one == other] * 2


@pytest.mark.parametrize(
    ("query", "text", "in_json"),
    [
        (b"\xff", r"\xff", {"query": r"\xff", "query_hex": "ff"}),
        (rb"\xff", r"\\xff", {"query": "\\xff"}),
        ("\xff".encode(), r"\u00ff", {"query": "\xff"}),
        (b"caf\xe9\x1b", r"caf\xe9\x1b", {"query": "caf\\xe9\x1b", "query_hex": "636166e91b"}),
        ("\U0001f642".encode(), r"\U0001f642", {"query": "\U0001f642"}),
    ],
)
def test_bytes_and_characters(query: bytes, text: str, in_json: dict[str, str]) -> None:
    """A byte that is not UTF-8 differs from the character of that number, and from text like its escape."""
    entry: Entry = (NOW, "l", "::1", query, "", "", "bad_query", 0, 0.0, "")
    assert f' "{text}" ' in text_line(STAMP, entry)
    assert json.loads(json_line(STAMP, entry)).items() >= in_json.items()
    assert ("query_hex" in json_line(STAMP, entry)) == ("query_hex" in in_json)


BYTES = b"\xff\xc3\xbf\\ \x1b \xf0\x9f\x99\x82"


def test_no_module_of_encodings_is_needed() -> None:
    """Formatting a line imports no codec: in a chroot it could not be found."""
    code = (
        "from fingergw.telemetry.access_log import json_line, text_line\n"
        "import codecs, sys\n"
        "before = set(sys.modules)\n"
        f"entry = {(NOW, 'l', '::1', BYTES, 'é', '', 'gone', 0, 0.0, '')!r}\n"
        "text_line('', entry), json_line('', entry)\n"
        "sys.exit(str(set(sys.modules) - before) if set(sys.modules) - before else 0)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_control_in_json() -> None:
    """All controls are escaped in a JSON line, even DEL and C1, which JSON allows."""
    controls = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    line = json_line(STAMP, (NOW, controls, controls, controls.encode(), "", "", controls, 0, 0.0, ""))
    assert line[:-1].isprintable()
    assert json.loads(line)["client"] == controls


def test_lines_are_written_in_batches(tmp_path: Path) -> None:
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
    """A thousand waiting lines are written at once, further ones with the timer."""
    path = tmp_path / "log"
    log, clock = make(path)
    for _ in range(1001):
        log.add(*PLAIN)
    assert path.read_text().count("\n") == 1000
    clock.advance(0.2)
    assert path.read_text().count("\n") == 1001
    log.close()


def test_each_line_has_its_own_second(tmp_path: Path) -> None:
    """Each line of a batch has the time of its own query."""
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
    """Opening raises at once if the file cannot be opened."""
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "missing" / "log")


TROUBLE = (
    "access log {}: cannot be written: No space left on device; free some space. "
    "Until then 1 MiB of lines is kept, and further lines are lost"
)


def messages(events: list[Any]) -> list[str]:
    """Return what was logged."""
    return [formatEvent(event) for event in events]


def test_a_full_disk_costs_lines_only() -> None:
    """Lines that cannot be written raise nothing. That is logged once, and at the end how many were lost."""
    log, clock = make("/dev/full")
    with capturedLogs() as events:
        for _ in range(2):
            log.add(*PLAIN)
            log.add(*PLAIN)
            clock.advance(0.2)
        assert log.lost == 0
        log.close()
    assert log.lost == 4
    assert messages(list(events)) == [
        TROUBLE.format("/dev/full"),
        "access log /dev/full: lines lost: 4",
    ]


FULL = """
import os, sys
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from fingergw.telemetry.access_log import AccessLog
folder = sys.argv[1]
globalLogPublisher.addObserver(lambda event: print(formatEvent(event), file=sys.stderr))
clock = Clock()
log = AccessLog(folder + "/log", "text", clock, lambda: 0.0)
log.open()
def ask(numbers):
    for number in numbers:
        log.add("l", "::1", b"%d" % number, "", "", "answered", 0, 0.0)
    log.flush()
def make_room():
    with open(folder + "/log", "rb") as file:
        taken = file.read()
    print(taken.decode(), end="")
    os.truncate(folder + "/log", 0)
    clock.advance(1)
ask(range(500))
size = os.stat(folder + "/log").st_size
assert size < 500 * 50 and size % 4096 == 0, size
make_room()
while log.lost == 0:
    ask(range(500, 1500))
before = log.lost
while os.stat(folder + "/log").st_size:
    make_room()
ask([9999])
print(before, log.lost, file=sys.stderr)
log.close()
make_room()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is full soon")
def test_a_disk_that_has_room_again(tmp_path: Path) -> None:
    """Lines that did not fit are written once there is space, none is broken, and lost ones are counted."""
    mount = 'mount -t tmpfs -o size=16k none "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path), sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said, lines = done.stderr.splitlines(), done.stdout.splitlines()
    assert all(re.fullmatch(r'1970-01-01T00:00:00Z "l" ::1 "\d+" "" "" answered 0 0\.000 -', line) for line in lines)
    numbers = [int(line.split('"')[3]) for line in lines]
    assert numbers[:500] == list(range(500))
    assert numbers[-1] == 9999
    before, lost = said[-1].split()
    assert before == lost
    assert (len(numbers) - 501 + int(lost)) % 1000 == 0
    path = f"access log {tmp_path}/log"
    trouble = TROUBLE.format(f"{tmp_path}/log")
    assert said[:-1] == [
        trouble,
        f"{path}: can be written again; lines lost: 0",
        trouble,
        f"{path}: can be written again; lines lost: {lost}",
    ]


def disk_with_room(monkeypatch: pytest.MonkeyPatch, size: int) -> list[int]:
    """Give the disk space for this many bytes; return a list with what is left."""
    write, room = os.write, [size]

    def write_little(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(fd, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", write_little)
    return room


def test_a_line_that_has_been_begun_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partly written line is always completed, even if it is longer than all that may wait."""
    path, room = tmp_path / "log", disk_with_room(monkeypatch, 20)
    monkeypatch.setattr("fingergw.telemetry.log_output.MAX_WAITING_BYTES", 10)
    log, _ = make(path)
    log.add(*PLAIN)
    log.flush()
    log.add("public", "::1", b"too much", "", "", "answered", 16, 0.1)
    log.flush()
    room[0] = 9999
    log.add("public", "::1", b"last", "", "", "answered", 16, 0.1)
    log.close()
    assert re.findall(rf'^{STAMP} "public" \S+ "(.*?)" .* -$', path.read_text(), re.MULTILINE) == ["moshez", "last"]
    assert log.lost == 1


READER = """
import fcntl, os, sys
from twisted.internet.task import Clock
from fingergw.telemetry.access_log import AccessLog
flags = fcntl.fcntl(1, fcntl.F_GETFL)
clock = Clock()
log = AccessLog("-", "text", clock, lambda: 0.0)
log.open()
for number in range(int(sys.argv[1])):
    log.add("l", "::1", b"%d" % number, "", "", "answered", 0, 0.0)
log.flush()
print("noted", log.lost, file=sys.stderr, flush=True)
sys.stdin.readline()
if sys.argv[2] == "go on":
    while clock.getDelayedCalls():
        clock.advance(1)
        os.sched_yield()
log.close()
assert fcntl.fcntl(1, fcntl.F_GETFL) == flags
print(log.lost, file=sys.stderr)
"""


def standard_outputs(kind: str) -> tuple[int, int]:
    """Return what to read, and what is a process's standard output."""
    if kind == "pipe":
        return os.pipe()
    if kind == "terminal":
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        return ours, theirs
    a, b = socket.socketpair()
    return a.detach(), b.detach()


@pytest.mark.parametrize(
    ("kind", "lines", "then"),
    [
        ("pipe", 10_000, "go on"),
        ("pipe", 40_000, "close"),
        ("terminal", 40_000, "close"),
        ("socket", 40_000, "close"),
    ],
)
def test_a_reader_that_does_not_read(kind: str, lines: int, then: str) -> None:
    """A pipe, terminal or socket that nobody reads does not block, and gets the waiting lines once it is read."""
    reader, writer = standard_outputs(kind)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(lines), then],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
    ) as running:
        os.close(writer)
        assert running.stdin is not None
        assert running.stderr is not None
        try:
            assert select.select([running.stderr], [], [], DEADLINE_SECONDS)[0], "it waits for its reader"
            noted = running.stderr.readline()
        except AssertionError:
            running.kill()
            raise
        assert noted.startswith(b"noted "), noted + running.stderr.read()
        running.stdin.write(b"\n")
        running.stdin.close()
        written = b""
        with contextlib.suppress(OSError):  # a terminal's end
            while data := os.read(reader, 65536):
                written += data
        lost = int(running.stderr.read())
    os.close(reader)
    assert running.returncode == 0
    assert (lost > 0) == (lines > 20_000)
    found = re.findall(
        r'^1970-01-01T00:00:00Z "l" ::1 "(\d+)" "" "" answered 0 0\.000 -$', written.decode(), re.MULTILINE
    )
    assert found == [str(number) for number in range(lines - lost)]
    assert written.count(b"\n") == lines - lost


def test_a_named_pipe(tmp_path: Path) -> None:
    """A named pipe without a reader cannot be opened; one with a reader is written to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device or address; start the program that reads it first"):
        make(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert make(path)[0].lost == 0
    log, _ = make(path)
    log.add(*PLAIN)
    log.close()
    assert os.read(reader, 4096).startswith(STAMP.encode())
    os.close(reader)


def test_a_line_that_was_cut_short_before(tmp_path: Path) -> None:
    """If the file ends within a line, the first line begins on a new one."""
    path = tmp_path / "log"
    path.write_text("half a li")
    first, second = written(path, "text", *PLAIN).splitlines()
    assert (first, second[:20]) == ("half a li", STAMP)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(("public", "::1", None, "", "", "gone", 0, 0.1), id="a query that is no text"),
        pytest.param(("public", "::1", b"x", "", "", "gone", 0, "soon"), id="a time that is no number"),
    ],
)
def test_an_entry_that_cannot_be_a_line(
    tmp_path: Path, form: Literal["text", "json"], strange: tuple[Any, ...]
) -> None:
    """An entry that cannot be formatted costs only its own line; that is counted, and logged once."""
    path = tmp_path / "log"
    log, clock = make(path, form)
    with capturedLogs() as events:
        for _ in range(2):
            for number in range(20):
                log.add("public", "::1", b"before%d" % number, "", "", "answered", 1, 0.1)
            log.add(*strange)
            for number in range(20):
                log.add("public", "::1", b"after%d" % number, "", "", "answered", 1, 0.1)
            clock.advance(0.2)
    assert path.read_text().count("\n") == 80
    assert log.lost == 2
    (told,) = messages(list(events))
    assert re.fullmatch(
        r"access log \S+: lines lost: 1, as writing them raised \w+Error; "
        r"the metric fingergw_access_log_lost_total counts all of them",
        told,
    )
    log.close()
    assert log.lost == 2


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 1e300])
def test_a_clock_that_tells_no_time(tmp_path: Path, time: float) -> None:
    """An entry with an impossible time costs only its own line."""
    clock, times = Clock(), [NOW, time, NOW]
    log = AccessLog(str(tmp_path / "log"), "text", clock, lambda: times.pop(0))
    log.open()
    for _ in range(3):
        log.add(*PLAIN)
    log.close()
    assert [line[:20] for line in (tmp_path / "log").read_text().splitlines()] == [STAMP, STAMP]
    assert log.lost == 1


def test_a_daemons_log_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing a batch raises, its lines are counted as lost, and the next batches are written."""
    lines: list[str] = []

    def write(text: str) -> None:
        if "two" in text:
            raise LookupError("unknown encoding: unicode_escape")
        lines.append(text)

    monkeypatch.setattr("fingergw.telemetry.access_log.is_null", lambda: True)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=write))
    log, clock = make("-")
    with capturedLogs() as events:
        for name in (b"one", b"two", b"three"):
            log.add("public", "::1", name, "", "", "answered", 1, 0.1)
            clock.advance(0.2)
    log.close()
    assert ['"one"' in lines[0], '"three"' in lines[1]] == [True, True]
    assert log.lost == 1
    (told,) = messages(list(events))
    assert told.startswith("access log -: lines lost: 1, as writing them raised LookupError; ")


def test_reopen(tmp_path: Path) -> None:
    """Earlier lines go to the renamed file, later ones to a new one."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    log, clock = make(path)
    log.add(*PLAIN)
    path.rename(old)
    log.reopen()
    log.add("public", "::1", b"later", "", "", "answered", 16, 0.1)
    clock.advance(0.2)
    assert '"moshez"' in old.read_text()
    assert '"later"' in path.read_text()
    assert (old.read_text() + path.read_text()).count("\n") == 2
    log.close()


def test_a_file_that_cannot_be_reopened(tmp_path: Path) -> None:
    """If the new file cannot be opened, the old one stays in use, and the event log says why."""
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log, _ = make(folder / "log")
    folder.rename(moved)
    with capturedLogs() as events:
        log.reopen()
    log.add(*PLAIN)
    log.close()
    assert '"moshez"' in (moved / "log").read_text()
    why = "No such file or directory; create its folder (mkdir -p), or name another"
    assert messages(list(events)) == [
        f"access log {folder}/log: cannot be reopened, so lines go to the old file: {why}"
    ]


def cut_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[AccessLog, list[int]]:
    """Return a log with three lines, of which the disk took 90 bytes: one, and a part of the second; and its room."""
    log, _ = make(path)
    room = disk_with_room(monkeypatch, 90)
    for name in (b"one", b"two", b"three"):
        log.add("public", "::1", name, "", "", "answered", 16, 0.1)
    log.flush()
    return log, room


def test_reopen_from_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that did not fit in the old file go to the new one, except for a line that the old file has a part of."""
    path = tmp_path / "log"
    log, room = cut_log(path, monkeypatch)
    path.rename(tmp_path / "log.1")
    room[0] = 0
    monkeypatch.setattr(os, "open", lambda *args, _open=os.open: (room.__setitem__(0, 9999), _open(*args))[1])
    log.reopen()
    log.close()
    assert (tmp_path / "log.1").stat().st_size == 90
    assert ['"three"' in line for line in path.read_text().splitlines()] == [True]
    assert log.lost == 1


def test_reopen_of_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file was not renamed, and a full disk took a part of a line, the next line begins on a new one."""
    path = tmp_path / "log"
    log, room = cut_log(path, monkeypatch)
    monkeypatch.setattr(os, "open", lambda *args, _open=os.open: (room.__setitem__(0, 9999), _open(*args))[1])
    log.reopen()
    log.close()
    one, two, three = path.read_text().splitlines()
    assert ['"one"' in one, two[:20], '"three"' in three] == [True, STAMP, True]
    assert log.lost == 1


def test_reopening_other_logs() -> None:
    """Reopening standard output, or a log that is off, does nothing."""
    for path in ("-", "off"):
        log, _ = make(path)
        with capturedLogs() as events:
            log.reopen()
        log.close()
        assert not events


@pytest.mark.parametrize(("form", "begins"), [("text", '<6>"public" 192.0.2.1 '), ("json", '<6>{"time": "2026-')])
def test_the_journal(
    form: Literal["text", "json"], begins: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the systemd journal a line has a priority, and a text line has no time."""
    status = os.fstat(1)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log, _ = make("-", form)
    log.add(*PLAIN)
    log.add(*PLAIN)
    log.close()
    lines = capfd.readouterr().out.splitlines()
    assert [line.startswith(begins) for line in lines] == [True, True]


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a partial write, the rest is written."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    assert written(tmp_path / "log", "text", *PLAIN).endswith("answered 16 1.234 -\n")


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """A log to "-" goes to standard output."""
    log, _ = make("-")
    log.add(*PLAIN)
    log.close()
    assert capfd.readouterr().out.startswith(f'{STAMP} "public"')


@pytest.mark.parametrize("redirect", [">/dev/null", ">&-"])
def test_a_daemons_standard_output(redirect: str) -> None:
    """If standard output is closed or /dev/null, lines go to sys.stdout, which Twisted replaces by its log."""
    script = (
        "import sys; from twisted.internet.task import Clock; from fingergw.telemetry.access_log import AccessLog;"
        "sys.stdout = sys.stderr; log = AccessLog('-', 'text', Clock(), lambda: 0.0); log.open();"
        f"log.add(*{PLAIN!r}); log.close()"
    )
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.startswith('1970-01-01T00:00:00Z "public"')
