"""An installed package's types work in a chroot as nobody, those too that a reload is the first to need."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jail import NOBODY, Imports, make_jail
from tests.support.packages import write_package
from tests.support.processes import process
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up something")

CONFIG = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[routes]]
user = "motto"
backends = ["motto"]
[[routes]]
pattern = "*"
backends = ["book"]
[process]
user = "nobody"
chroot = "{chroot}"
"""
BOOK = """
[backends.book]
type = "phonebook"
line = "{user}"
key_file = "own.key"
book_file = "book.toml"
"""
MOTTO = """
[backends.motto]
type = "motto"
file = "motto.txt"
"""
STATIC = """
[backends.book]
type = "static"
text = "no book"
[backends.motto]
type = "static"
text = "no motto"
"""


class Jailed:
    """A folder that is the root directory of a gateway run as nobody, with its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = make_jail(folder), free_port()
        (folder / "etc").mkdir()
        (folder / "log").mkdir()
        os.chown(folder / "log", NOBODY, NOBODY)
        self.write("own.key", "a-secret-word", 0o600)
        self.write("book.toml", 'moshez = "1234"')
        self.write("motto.txt", "Onward")

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Replace a file atomically, owned by the user nobody."""
        new = self.folder / "etc" / f"{name}.new"
        new.write_text(text)
        new.chmod(mode)
        os.chown(new, NOBODY, NOBODY)
        return new.rename(self.folder / "etc" / name)

    def configure(self, backends: str) -> list[str]:
        """Write the configuration, and return what starts a gateway with it."""
        config = self.write("fingergw.toml", CONFIG.format(port=self.port, chroot=self.folder) + backends)
        return ["--config", str(config), "--logfile", str(self.folder / "log" / "event.log")]

    @property
    def log(self) -> str:
        return (self.folder / "log" / "event.log").read_text()

    def ask(self, query: str) -> str:
        """Ask for something."""
        return finger(self.port, f"{query}\r\n".encode()).decode()


@pytest.fixture
def jailed() -> Iterator[Jailed]:
    """Return such a folder, which any user may enter; pytest's own only root may."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Jailed(Path(made))


def test_chroot(jailed: Jailed, tmp_path: Path, python: Path) -> None:
    """It answers there, follows its files, fails and is reloaded, and nothing is imported for that."""
    imports = Imports(tmp_path, is_hidden=False, python=python)
    arguments = jailed.configure(BOOK + MOTTO)
    with process(arguments, port=jailed.port, command=imports.command, pass_fds=[imports.fd]) as running:
        first = jailed.ask("moshez")
        assert "number = 1234\r\n" in first
        assert "key = none" not in first
        assert jailed.ask("motto").startswith("Onward")
        assert jailed.ask("raises") == "Internal error in server\r\n"
        jailed.write("book.toml", 'moshez = "5678"')
        jailed.write("motto.txt", "Upward")
        jailed.write("own.key", "another-secret", 0o600)
        wait_until(lambda: "number = 5678\r\n" in jailed.ask("moshez"), "the other number")
        wait_until(lambda: jailed.ask("motto").startswith("Upward"), "the other motto")
        wait_until(lambda: jailed.ask("moshez").split("\r\n")[4] != first.split("\r\n")[4], "the other key")
        jailed.configure(BOOK.replace('"{user}"', '"for {user}"') + MOTTO)
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "line = for moshez\r\n" in jailed.ask("moshez"), "the other line")
        assert "backend book failed, asked by route *: unforeseen RuntimeError" in jailed.log
    assert imports.found() == []


def test_first_needed_by_a_reload(jailed: Jailed, tmp_path: Path, python: Path) -> None:
    """A reload in a chroot may be the first to have a backend of its types; mistakes in them are told there too."""
    imports = Imports(tmp_path, is_hidden=False, python=python)
    arguments = jailed.configure(STATIC)
    with process(arguments, port=jailed.port, command=imports.command, pass_fds=[imports.fd]) as running:
        assert jailed.ask("moshez") == "no book\r\n"
        jailed.configure(BOOK + "depth = 10" + MOTTO)
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays active" in jailed.log, "the refusal")
        assert "backends.book.depth: expected a number from 1 to 9" in jailed.log
        jailed.configure(BOOK + MOTTO)
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "number = 1234\r\n" in jailed.ask("moshez"), "the phone book")
        assert jailed.ask("motto").startswith("Onward")
    assert imports.found() == []


def test_unused_broken_package(jailed: Jailed, tmp_path: Path) -> None:
    """A package that cannot be imported is a warning where no backend needs it; a reload that does is refused."""
    command = write_package(tmp_path, "fingergw_broken", "raise SystemExit(3)", "broken = fingergw_broken:Broken")
    with process(jailed.configure(STATIC), port=jailed.port, command=command) as running:
        wait_until(lambda: 'type "broken" of the package fingergw_broken: ' in jailed.log, "the warning")
        line = next(line for line in jailed.log.splitlines() if "fingergw_broken" in line)
        assert "#warn]" in line
        assert "cannot be imported: SystemExit: 3; upgrade or uninstall the package" in line
        assert "Traceback" not in jailed.log
        jailed.configure(BOOK.replace("phonebook", "broken") + MOTTO.replace("motto.txt", "x"))
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays active" in jailed.log, "the refusal")
        assert 'backends.book.type: type "broken" of the package fingergw_broken: ' in jailed.log
        assert jailed.ask("moshez") == "no book\r\n"
