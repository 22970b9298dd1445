"""Types of backends from other people's packages, with mistakes in them."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.packages import write_package
from tests.support.processes import process, run
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

MODULE = '''
from pathlib import Path

from fingergw.api import Answered, Backend, FilePath, Site, Waits, setting, settings


class Says:
    def __init__(self, says):
        self.says = says

    async def answer(self, query):
        return self.says


class VersionThatBreaks(Says):
    has_answered = False

    async def answer(self, query):
        self.has_answered = True
        return self.says

    @property
    def version(self):
        if self.has_answered:
            raise LookupError("no version any more")
        return "1"


class BrokenVersion(Says):
    @property
    def version(self):
        raise LookupError("no version")


class Noted(Says):
    def __init__(self, path):
        super().__init__(Answered(path.name))
        self.path = path

    async def close(self):
        self.path.write_text("closed")
        raise LookupError("closed badly")


@settings
class Odd:
    """Does what its table says."""

    does: str = setting("What it does.")
    place: FilePath | None = setting("What it looks into.", default=None)

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        if self.does == "raise":
            raise LookupError("cannot")
        if self.does == "nothing":
            return None
        if self.does == "version that breaks":
            return VersionThatBreaks(Answered("first"))
        if self.does == "version":
            return BrokenVersion(Answered("x"))
        if self.place is not None:
            return Says(Answered(self.place.name))
        return Says(None) if self.does == "none" else Noted(Path(self.does))


class Counting:
    calls = 0

    def at_once(self, query):
        self.calls += 1

    async def answer(self, query):
        return Answered(str(self.calls))


@settings
class Counted:
    """Counts how often it is asked what it knows at once."""

    waits = Waits(timeout=5, max_running=2)

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        return Counting()
'''


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Return the command that runs ``fingergw`` with such a package installed."""
    return write_package(tmp_path / "packages", "odd", MODULE, "odd = odd:Odd\ncounted = odd:Counted")


def write(folder: Path, port: int, does: str, more: str = "") -> list[str]:
    """Write a configuration in which such a backend answers everything; return the arguments that name it."""
    (folder / "fingergw.toml").write_text(
        f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n[[routes]]\npattern = "*"\nbackends = ["o"]\n'
        f'[backends.o]\ntype = "odd"\ndoes = "{does}"\n{more}'
    )
    return ["--config", str(folder / "fingergw.toml")]


@pytest.mark.parametrize("cache", ["", "cache = {}\n"])
@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("raise", "LookupError: cannot"),
        ("nothing", "its open returns an object without a method answer"),
        ("version", "LookupError: no version"),
    ],
)
def test_cannot_be_opened(tmp_path: Path, command: list[str], does: str, why: str, cache: str) -> None:
    """A backend that cannot be opened is a mistake with its name and line, and the gateway does not start."""
    ended = run(write(tmp_path, free_port(), does, cache), command=command)
    assert ended.returncode == 78
    assert f'fingergw.toml:6: backends.o: type "odd" cannot be opened: {why}\n' in ended.stderr
    assert "Traceback" not in ended.stderr


class Served:
    """A gateway that runs."""

    def __init__(self, folder: Path, port: int, log: Path, running: subprocess.Popen[str]) -> None:
        self.folder, self.port, self.log = folder, port, log
        self._running = running

    def reload(self, does: str, more: str = "") -> str:
        """Reload another configuration, and return what was logged."""
        before = self.log.read_text()
        write(self.folder, self.port, does, more)
        self._running.send_signal(signal.SIGHUP)
        wait_until(lambda: re.search("reloaded|stays active", self._since(before)), "the end of the reload")
        return self._since(before)

    def _since(self, before: str) -> str:
        return self.log.read_text().removeprefix(before)


@contextmanager
def served(folder: Path, command: list[str], does: str) -> Iterator[Served]:
    """Run a gateway."""
    port, log = free_port(), folder / "log"
    with process([*write(folder, port, does), "--logfile", str(log)], port=port, command=command) as running:
        yield Served(folder, port, log, running)
        running.terminate()
        assert running.wait(20) == 0


def test_no_outcome(tmp_path: Path, command: list[str]) -> None:
    """A backend that returns no outcome has failed, and the log has what it returned."""
    with served(tmp_path, command, "none") as gateway:
        assert finger(gateway.port, b"x\r\n") == b"Internal error in server\r\n"
    assert (
        "backend o failed, asked by route *: it returned None, expected Answered, Missing or Failed"
        in gateway.log.read_text()
    )


def test_a_version_that_breaks_later(tmp_path: Path, command: list[str]) -> None:
    """A cached backend whose version cannot be had any more has failed, and the next one of the chain is asked."""
    last = '[backends.last]\ntype = "static"\ntext = "last"\n'
    port, log = free_port(), tmp_path / "log"
    arguments = write(tmp_path, port, "version that breaks", "cache = {}\n" + last)
    path = tmp_path / "fingergw.toml"
    path.write_text(path.read_text().replace('["o"]', '["o", "last"]'))
    with process([*arguments, "--logfile", str(log)], port=port, command=command) as running:
        said = [finger(port, b"x\r\n") for _ in range(2)]
        running.terminate()
        assert running.wait(20) == 0
    assert said == [b"first\r\n", b"last\r\n"]
    assert "backend o failed" in log.read_text()


def test_known_at_once(tmp_path: Path, command: list[str]) -> None:
    """A type that waits is asked what it knows at once, once for each query."""
    port = free_port()
    arguments = write(tmp_path, port, "none")
    path = tmp_path / "fingergw.toml"
    path.write_text(path.read_text().replace('type = "odd"\ndoes = "none"', 'type = "counted"'))
    with process(arguments, port=port, command=command) as running:
        assert [finger(port, b"x\r\n") for _ in range(3)] == [b"1\r\n", b"2\r\n", b"3\r\n"]
        running.terminate()
        assert running.wait(20) == 0


def test_closed(tmp_path: Path, command: list[str]) -> None:
    """The gateway's end waits until a backend is closed; an error in that is logged, and stops nothing else."""
    noted = tmp_path / "noted"
    with served(tmp_path, command, str(noted)) as gateway:
        assert finger(gateway.port, b"x\r\n") == b"noted\r\n"
        assert not noted.exists()
    assert noted.read_text() == "closed"
    assert "backend o cannot be closed" in gateway.log.read_text()
    assert "closed badly" in gateway.log.read_text()


def test_reloads(tmp_path: Path, command: list[str]) -> None:
    """An unchanged backend stays open; one that a refused reload has opened is closed; at the end all are."""
    taken = socket.create_server(("127.0.0.1", 0))
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    another = f'[[listeners]]\nendpoint = "tcp:{taken.getsockname()[1]}:interface=127.0.0.1"\n'
    with taken, served(tmp_path, command, str(one)) as gateway:
        assert "configuration reloaded" in gateway.reload(str(one))
        assert "cannot be bound" in gateway.reload(str(two), another)
        assert (one.exists(), two.read_text()) == (False, "closed")
        assert "LookupError: cannot" in gateway.reload("raise")
        assert finger(gateway.port, b"x\r\n") == b"one\r\n"
        assert not one.exists()
        assert "configuration reloaded" in gateway.reload(str(three))
        assert finger(gateway.port, b"x\r\n") == b"three\r\n"
        assert not three.exists()
    assert (one.read_text(), three.read_text()) == ("closed", "closed")


def test_cached_answers_of_another_path(tmp_path: Path, command: list[str]) -> None:
    """Cached answers belong to the path that the table names: another path has its own."""
    with served(tmp_path, command, str(tmp_path / "noted")) as gateway:
        for name in ("one", "two"):
            gateway.reload("look", f'place = "{name}"\ncache = {{}}\n')
            assert finger(gateway.port, b"x\r\n") == name.encode() + b"\r\n"


def test_closed_by_explain(tmp_path: Path, command: list[str]) -> None:
    """Explain closes the backends that it has opened, even if it asks none."""
    for name, query, code in (("asked", "x", 0), ("nobody", "", 1)):
        noted = tmp_path / name
        ended = run(["explain", "--ask", *write(tmp_path, free_port(), str(noted)), query], command=command)
        assert (ended.returncode, noted.read_text()) == (code, "closed")
