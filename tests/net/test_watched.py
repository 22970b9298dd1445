"""Files that change while they are in use: real files, and clocks that are told the time."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from fingergw.core.errors import ConfigError
from fingergw.net.files import read_text
from fingergw.net.watched import Watched


class Case:
    """A watched file, whose value is its text.

    :param reports: what was reported.
    :param looks: how often the file was looked for.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.passed = 0.0
        self.changed_at = 0.0
        self.looks = 0
        self.reports: list[str] = []
        self.watched = Watched(self._load, self._files, self.reports.append, lambda: self.passed, self._now)

    def _now(self) -> float:
        return time.time() + self.passed - self.changed_at

    def _files(self) -> tuple[Path, ...]:
        self.looks += 1
        return self.paths

    def _load(self) -> str:
        text = "".join(map(read_text, self.paths))
        if "wrong" in text:
            raise ConfigError([f"line {number}: {line}" for number, line in enumerate(text.split(), 1)])
        if "bug" in text:
            raise ZeroDivisionError("with a secret")
        return text

    def write(self, text: str, path: Path | None = None) -> None:
        """Write into the first file, or another."""
        (path or self.paths[0]).write_text(text)
        self.changed_at = self.passed

    def replace(self, text: str) -> None:
        """Replace the first file, as most programs do."""
        other = self.paths[0].with_name("other")
        self.write(text, other)
        other.rename(self.paths[0])

    def after(self, seconds: float) -> str:
        """Return the value when some time has passed."""
        self.passed += seconds
        return self.watched.current()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that reads ``old``."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


@pytest.fixture
def case(path: Path) -> Case:
    """Return the file, watched, when it has not changed for a while."""
    case = Case(path)
    assert [case.after(2) for _ in range(2)] == ["old", "old"]
    return case


def test_written_in_place(case: Case) -> None:
    """What is written into the file is there a second later."""
    case.write("new")
    assert case.after(0.5) == "old"
    assert case.after(1.0) == "new"


def test_replaced(case: Case, path: Path) -> None:
    """A file that takes the old one's place is there a second later, even with the old one's size and time."""
    before = path.stat()
    case.replace("new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert case.after(2) == "new"


def test_symbolic_link(tmp_path: Path) -> None:
    """A link that is turned to another file is seen, as Kubernetes has it."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "link"
    link.symlink_to("old")
    case = Case(link)
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(link)
    assert case.after(3) == "new"


def test_at_most_once_a_second(case: Case) -> None:
    """However often the value is asked for, the file is looked for once a second; with nobody asking, never."""
    looks = case.looks
    for _ in range(1000):
        case.after(0.0025)
    assert case.looks - looks in (2, 3)
    looks = case.looks
    case.after(3600)
    assert case.looks == looks + 1


@pytest.fixture
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a disk whose files' times never move, as two writes within one tick of its clock leave them."""
    stat, at = Path.stat, time.time_ns()

    def coarse_stat(path: Path, **options: Any) -> Any:
        found = stat(path, **options)
        return SimpleNamespace(st_ctime_ns=at, st_mtime_ns=at, st_size=found.st_size, st_ino=1, st_dev=found.st_dev)

    monkeypatch.setattr(Path, "stat", coarse_stat)


@pytest.mark.usefixtures("_coarse")
def test_written_twice_in_a_tick(path: Path) -> None:
    """A second write that leaves the file's time and size as they were is seen too, even just after the start."""
    case = Case(path)
    path.write_text("new")
    assert case.after(1.1) == "new"


def test_written_twice_in_a_tick_after_a_pause(case: Case, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise for a file that has been in use for a while."""
    case.write("one")
    now, stat = path.stat(), Path.stat
    monkeypatch.setattr(Path, "stat", lambda found, **options: now if found == path else stat(found, **options))
    assert case.after(0.5) == "old"
    path.write_text("two")
    assert case.after(1.1) == "two"


def test_half_written(case: Case) -> None:
    """A file that is truncated and then written is not read in between, although it could be."""
    case.after(0.9)
    case.write("")
    assert case.after(0.2) == "old"  # which looks
    case.write("new")
    assert [case.after(0.1) for _ in range(4)] == ["old"] * 4
    assert case.after(2) == "new"


def test_written_all_the_time(case: Case) -> None:
    """A file that is written again and again, with never a second's pause, is read all the same."""
    values = []
    for number in range(20):
        case.replace(str(number))
        values.append(case.after(0.5))
    assert 4 <= len(set(values)) <= 20
    assert values[-1] in ("17", "18", "19")


def test_mistakes(case: Case) -> None:
    """What cannot be used is reported with all its mistakes, once, and the old value stays until the next change."""
    case.write("wrong thing")
    assert [case.after(2) for _ in range(5)] == ["old"] * 5
    assert case.reports == ["line 1: wrong; line 2: thing"]
    case.write("wrong again")
    assert [case.after(2) for _ in range(5)] == ["old"] * 5
    assert case.reports[1:] == ["line 1: wrong; line 2: again"]
    case.write("right")
    assert case.after(2) == "right"
    assert len(case.reports) == 2


def test_mistake_mended_at_once(case: Case) -> None:
    """A mistake that is mended within the second is not even reported."""
    case.after(0.9)
    case.write("wrong")
    assert case.after(0.2) == "old"  # which looks
    case.write("wrong again")
    assert case.after(0.9) == "old"  # which reads it, as it cannot wait for ever
    case.write("right")
    assert case.after(2) == "right"
    assert case.reports == []


def test_gone(case: Case, path: Path) -> None:
    """A file that is gone leaves the old value, is reported once, and is read when it is back."""
    path.unlink()
    assert [case.after(2) for _ in range(5)] == ["old"] * 5
    assert case.reports == [f"{path}: No such file or directory; create it, or name another file"]
    case.write("new")
    assert case.after(2) == "new"
    assert len(case.reports) == 1


def test_gone_for_a_moment(case: Case, path: Path) -> None:
    """A file that is removed and made anew is not reported in between."""
    path.unlink()
    assert case.after(1) == "old"
    case.write("new")
    assert case.after(2) == "new"
    assert case.reports == []


def test_bug(case: Case) -> None:
    """What nobody foresaw leaves the old value too, and its text, which could be anything, is not reported."""
    case.write("bug")
    assert case.after(2) == "old"
    assert case.reports == ["unforeseen ZeroDivisionError"]


def test_first_time(path: Path) -> None:
    """What is wrong the first time is for the caller to say."""
    path.write_text("wrong")
    with pytest.raises(ConfigError):
        Case(path)


def test_several_files(tmp_path: Path) -> None:
    """A value that is made of several files changes with each of them."""
    paths = tmp_path / "a", tmp_path / "b"
    for path in paths:
        path.write_text("1")
    case = Case(*paths)
    assert case.after(2) == "11"
    for path, expected in zip(paths, ("21", "22"), strict=True):
        case.write("2", path)
        assert case.after(2) == expected


def test_time_that_is_to_come(path: Path) -> None:
    """A file from the future, as after a clock was set back, is taken as it is, and not read for ever."""
    case = Case(path)
    case.watched.now = lambda: time.time() - 3600
    case.write("new")
    assert case.after(2) == "new"
    case.watched.load = lambda: pytest.fail("it was read again")
    assert [case.after(2) for _ in range(3)] == ["new"] * 3


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_not_readable_any_more(shared: Path) -> None:
    """Of a file that the gateway may not read since it shed its privileges the report says what to do."""
    path = shared / "file"
    path.write_text("old")
    case = Case(path)
    case.write("new")
    path.chmod(0o600 if os.geteuid() == 0 else 0)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        assert [case.after(2) for _ in range(3)] == ["old"] * 3
        assert case.reports == [
            f"{path}: Permission denied; see to it that the gateway's group can read it, and enter its folder"
        ]
        os.seteuid(own)
        path.chmod(0o644)
        if own == 0:
            os.seteuid(65534)
        assert case.after(2) == "new"
    finally:
        os.seteuid(own)


def test_shows_no_secret(case: Case) -> None:
    """The value may be a secret, which is in no view of the object."""
    assert "old" not in repr(case.watched)


def test_catches_up(case: Case, path: Path) -> None:
    """What another has just made of the same file is taken over at once; what is the same stays what it is."""
    before = case.after(0)
    case.watched.catch_up(Case(path).watched)
    assert case.after(0) is before
    case.write("new")
    newer = Case(path)
    case.watched.catch_up(newer.watched)
    assert case.after(0) == "new"
    case.write("newest")
    assert case.after(0) == "new"
    assert [case.after(1) for _ in range(3)][-1] == "newest"


class Later:
    """Looks that last until they are let end."""

    def __init__(self) -> None:
        self.looks: list[Callable[[], object]] = []

    def run(self, work: Callable[[], Any], patience_seconds: float = 0.0) -> Deferred[Any]:
        """Begin a look."""
        ended: Deferred[Any] = Deferred()
        self.looks.append(lambda: maybeDeferred(work).chainDeferred(ended))
        return ended


@pytest.fixture
def later(case: Case) -> Later:
    """Have the looks of the file last."""
    later = Later()
    case.watched.run = later.run
    return later


def test_hangs(case: Case, later: Later) -> None:
    """While a look hangs, the old value stays, and there is no other look; then the new one is there."""
    case.write("new")
    assert [case.after(2) for _ in range(5)] == ["old"] * 5
    (look,) = later.looks
    look()
    assert case.after(0) == "new"


def test_hangs_and_is_caught_up(case: Case, later: Later, path: Path) -> None:
    """What a look finds that has hung since before a reload is dropped, and the next look may begin."""
    case.write("new")
    case.after(2)
    case.watched.catch_up(Case(path).watched)
    case.write("newest")
    later.looks.pop()()
    assert case.after(0) == "new"
    case.after(2)
    later.looks.pop()()
    assert case.after(0) == "newest"


def test_made(case: Case, path: Path) -> None:
    """What is made of the value is made whenever that is loaded, by a reload too."""
    case.watched.make(str.upper)
    assert case.after(0) == "OLD"
    case.write("new")
    assert case.after(2) == "NEW"
    case.write("newer")
    newer = Case(path)
    case.watched.prepare(newer.watched)
    case.watched.catch_up(newer.watched)
    assert case.after(0) == "NEWER"
    case.write("newest")
    case.watched.catch_up(Case(path).watched)  # of which nothing was made
    assert case.after(0) == "NEWER"
