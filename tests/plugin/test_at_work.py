"""A gateway serves an installed package's types as it serves its own: kept, counted, within limits, reloaded."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

from tests.support.processes import process
from tests.support.sockets import free_port, receive_all
from tests.support.waiting import wait_until

CONFIG = """
[[listeners]]
name = "main"
endpoint = "tcp:{port}:interface=127.0.0.1"
[[routes]]
pattern = "motto-*"
backends = ["motto"]
[[routes]]
regex = '(?P<team>[a-z]+)-kept'
backends = ["kept"]
[[routes]]
pattern = "*"
backends = ["book"]
[backends.book]
type = "phonebook"
line = "{{user}}"
key_file = "own.key"
keys = {{ "a.b" = "own.key", c = "own.key" }}
book_file = "book.toml"
[backends.kept]
type = "phonebook"
line = "of {{team}}"
[backends.kept.cache]
ttl = 1000
[backends.motto]
type = "motto"
file = "motto.txt"
[backends.motto.cache]
ttl = 1000
[admin]
endpoint = "tcp:{admin}:interface=127.0.0.1"
[log]
level = "debug"
"""


class Running:
    """A gateway that has a phone book, and a folder with its files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.process: Popen[str]
        self.write("own.key", "a-secret-word", 0o600)
        self.write("book.toml", 'moshez = "1234"')
        self.write("motto.txt", "Onward")
        self.configure()

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Put a file in the place of what has its name."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.chmod(mode)
        new.rename(self.folder / name)

    def configure(self, change: Callable[[str], str] = str) -> None:
        """Write the configuration, changed in some way."""
        self.write("fingergw.toml", change(CONFIG.format(port=self.port, admin=self.admin)))

    def reload(self) -> None:
        """Have the configuration reloaded, and wait until that is done."""
        before = self.log.count("configuration reloaded")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.count("configuration reloaded") > before, f"a reload: {self.log}")

    @property
    def log(self) -> str:
        return (self.folder / "event.log").read_text()

    def wait_for(self, text: str) -> None:
        """Wait until the log has something: lines may come later than answers."""
        wait_until(lambda: text in self.log, f"{text} in the log")

    @property
    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics") as page:
            return str(page.read().decode())

    def ask(self, query: str, client: str = "127.0.0.1") -> str:
        """Ask for something."""
        with socket.create_connection(("127.0.0.1", self.port), 20, (client, 0)) as connection:
            connection.sendall(f"{query}\r\n".encode())
            return receive_all(connection).decode()

    def told(self, query: str, client: str = "127.0.0.1") -> dict[str, str]:
        """Ask the phone book for something that it answers."""
        lines = self.ask(query, client).splitlines()
        return dict(line.split(" = ") for line in lines)


@contextmanager
def served(folder: Path, python: Path, change: Callable[[str], str] = str) -> Iterator[Running]:
    """Serve, and look for the secret in all that it says of itself.

    :param change: changes the configuration.
    """
    running = Running(folder)
    running.configure(change)
    arguments = ["--config", str(folder / "fingergw.toml"), "--logfile", str(folder / "event.log")]
    command = [str(python), "-m", "fingergw"]
    with process(arguments, port=running.port, cwd=folder, command=command) as running.process:
        yield running
        assert "a-secret-word" not in running.log + running.metrics
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0


def test_told(tmp_path: Path, python: Path) -> None:
    """A query has the name and the fields in ``sees`` and nothing else, cached or not; the backend has its files."""
    with served(tmp_path, python) as running:
        told = running.told("moshez")
        assert (told["line"], told["number"], told["client"], told["listener"]) == ("moshez", "1234", "127.0.0.1", "")
        assert told["key"] != "none"
        kept = running.told("red-kept")
        assert (kept["client"], kept["listener"]) == ("127.0.0.1", "")


def test_kept(tmp_path: Path, python: Path) -> None:
    """The cache key is what its templates use, what it sees, and its version."""
    with served(tmp_path, python) as running:
        first = running.told("alpha-kept")
        assert (first["line"], first["asked"]) == ("of alpha", "1")
        assert running.told("alpha-kept") == first
        assert (running.told("beta-kept")["asked"], running.told("beta-kept")["line"]) == ("2", "of beta")
        other = running.told("alpha-kept", "127.0.0.2")
        assert (other["asked"], other["client"]) == ("3", "127.0.0.2")
        assert running.told("alpha-kept") == first
        assert first["listener"] == ""  # which it does not see
        assert running.ask("motto-one") == running.ask("motto-two") == "Onward, asked 1, confirmed 0\r\n"
        running.write("motto.txt", "Upward")
        wait_until(lambda: running.ask("motto-one") == "Upward, asked 2, confirmed 0\r\n", "the other version")
        assert running.ask("motto-two") == "Upward, asked 2, confirmed 0\r\n"


def test_revalidated(tmp_path: Path, python: Path) -> None:
    """A stale answer is revalidated with the backend."""
    with served(tmp_path, python, lambda text: text.replace("ttl = 1000", "ttl = 0")) as running:
        assert running.ask("motto-one") == "Onward, asked 1, confirmed 0\r\n"
        assert running.ask("motto-one") == "Onward, asked 1, confirmed 0\r\n"
        running.write("motto.txt", "Upward")
        # asked twice, or thrice if the other version was there in the middle of a refresh
        wait_until(lambda: running.ask("motto-one").startswith(("Upward, asked 2, ", "Upward, asked 3, ")), "the other")


def test_counted(tmp_path: Path, python: Path) -> None:
    """Its queries are counted by outcome, and its cache by state."""
    with served(tmp_path, python) as running:
        for name in ("moshez", "nail", "nobody", "fails", "raises", "alpha-kept", "alpha-kept"):
            running.ask(name)
        metrics = running.metrics
        for outcome, count in (("answered", 2), ("missing", 1), ("failed", 2)):
            line = f'fingergw_backend_requests_total{{backend="book",outcome="{outcome}"}} {count}.0'
            assert line in metrics
        assert 'fingergw_backend_request_duration_seconds_count{backend="book"} 5.0' in metrics
        for state in ("fresh", "absent"):
            assert f'fingergw_cache_lookups_total{{backend="kept",state="{state}"}} 1.0' in metrics


def test_failures(tmp_path: Path, python: Path) -> None:
    """Why it failed is in the log, with a traceback where that was not foreseen, and never with the client."""
    with served(tmp_path, python) as running:
        assert running.ask("nobody") == "No such user\r\n"
        assert running.ask("fails") == "Internal error in server\r\n"
        running.wait_for("backend book failed, asked by route *: the book is out")
        assert "Traceback" not in running.log
        assert running.ask("raises") == "Internal error in server\r\n"
        running.wait_for("backend book failed, asked by route *: unforeseen RuntimeError")
        assert "a page is torn" in running.log.partition("Traceback")[2]
        assert running.ask("breaks") == "Internal error in server\r\n"
        running.wait_for("backend book failed, asked by route *: unforeseen SystemExit")


def test_limits(tmp_path: Path, python: Path) -> None:
    """No more of its answers are got at once than max_running says, and none takes longer than its timeout."""
    with served(tmp_path, python) as running:
        with ThreadPoolExecutor(5) as clients:
            most = [told["most"] for told in clients.map(running.told, [f"slow{number}" for number in range(5)])]
        assert max(most) == "2"
        assert running.ask("nobody") == "No such user\r\n"
        assert running.told("moshez")["asked"] == "6"  # what is known at once has no turn
        assert running.ask("hangs") == "Internal error in server\r\n"
        running.wait_for("backend book failed, asked by route *: not done within 1.5 s")
        running.configure(lambda text: text.replace('"{user}"', '"{user}"\ntimeout = 0.1\nmax_running = 1'))
        running.reload()
        assert running.ask("hangs") == "Internal error in server\r\n"
        running.wait_for("not done within 0.1 s")
        assert running.told("moshez")["most"] == "1"


def test_reloaded(tmp_path: Path, python: Path) -> None:
    """A reload that does not concern it leaves it open; one that does opens another, and closes it to the end."""
    # what is not in force any more is closed once nobody can need it
    soon = "[limits]\nquery_timeout = 0.2\nanswer_timeout = 0.2\n"
    with served(tmp_path, python, lambda text: text + soon) as running:
        first = running.told("moshez")
        running.configure(lambda text: text.replace("ttl = 1000", "ttl = 999") + soon)
        running.reload()
        again = running.told("moshez")
        assert (again["opening"], again["asked"]) == (first["opening"], "2")
        running.configure(lambda text: text.replace('"{user}"', '"for {user}"') + soon)
        running.reload()
        changed = running.told("moshez")
        assert (changed["line"], changed["asked"]) == ("for moshez", "1")
        assert changed["opening"] != first["opening"]
        wait_until(lambda: f"opening {first['opening']} of book is closed" in running.log, "the end of the first")
        assert f"opening {changed['opening']} of book is closed" not in running.log


def test_stopped(tmp_path: Path, python: Path) -> None:
    """At the end it is closed, and that is waited for."""
    with served(tmp_path, python) as running:
        assert running.told("moshez")["asked"] == "1"
    assert "of book is closed" in running.log
    assert "of kept is closed" in running.log


def test_files_change(tmp_path: Path, python: Path) -> None:
    """A watched file and a secret are followed without a reload; a secret that is exposed is not taken."""
    with served(tmp_path, python) as running:
        first = running.told("moshez")
        running.write("book.toml", 'moshez = "5678"')
        wait_until(lambda: running.told("moshez")["number"] == "5678", "the other number")
        running.write("own.key", "another-secret", 0o600)
        wait_until(lambda: running.told("moshez")["key"] != first["key"], "the other key")
        second = running.told("moshez")
        assert second["opening"] == first["opening"]
        wait_until(
            lambda: running.told("moshez")["keys"] == f"a.b={second['key']},c={second['key']}", "the key in the table"
        )
        running.write("own.key", "exposed-secret", 0o644)
        wait_until(
            lambda: running.told("moshez") and "the previous content of its file stays in use" in running.log, "that"
        )
        assert running.told("moshez")["key"] == second["key"]
        assert "another-secret" not in running.log
        assert "exposed-secret" not in running.log
