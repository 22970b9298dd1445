"""The README's package is true: it is built, installed and asked, and type checkers take it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUDPServer

import pytest
from twisted.names import dns

from tests.support.configuration import one_backend
from tests.support.packages import environment
from tests.support.processes import ROOT, process, run
from tests.support.sockets import finger, free_port

SECTION = (ROOT / "README.md").read_text().partition("\n## Writing a backend\n")[2].partition("\n## ")[0]
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL))
PEOPLE = """type = "txt"
name = "{{user}}.people.example.org"
server = "{server}"
port = {dns}
[backends.people.cache]
ttl = 0
"""
CONFIG = one_backend(PEOPLE, name="people", port="{port}")


class Names(BaseRequestHandler):
    """A DNS server that knows moshez, fails for one, and is asked for an address instead by another."""

    asked = 0

    def handle(self) -> None:
        data, socket = self.request
        message = dns.Message()
        message.fromStr(data)
        type(self).asked += 1
        (query,) = message.queries
        name = query.name.name.decode()
        message.answer = 1
        if name == "moshez.people.example.org":
            for words in ([b"Happy", b" and well"], [b"in Gr\xc3\xbcn"]):
                payload = dns.Record_TXT(*words, ttl=1000)
                message.answers.append(dns.RRHeader(name, dns.TXT, ttl=1000, payload=payload))
        elif name == "broken.people.example.org":
            message.rCode = dns.ESERVER
        elif name != "empty.people.example.org":
            message.rCode = dns.ENAME
        socket.sendto(message.toStr(), self.client_address)


@contextmanager
def names() -> Iterator[int]:
    """Serve names in threads, and tell the port."""
    with ThreadingUDPServer(("127.0.0.1", 0), Names) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command of an environment in which the README's package is installed."""
    project = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (project / name).write_text(text)
    python = environment(tmp_path_factory.mktemp("installed"), project)
    return [str(python), "-m", "fingergw"]


def test_section() -> None:
    """It has both files of the package, and names all that a package may import."""
    import fingergw.api

    assert set(FILES) == {"pyproject.toml", "fingergw_txt.py"}
    assert [name for name in fingergw.api.__all__ if not re.search(rf"\b{name}\b", SECTION)] == []


def test_answers(command: list[str], tmp_path: Path) -> None:
    """It answers with what the DNS has, for as long as that says, and tells what is missing from what fails."""
    config, port = tmp_path / "fingergw.toml", free_port()
    with names() as own:
        config.write_text(CONFIG.format(port=port, dns=own, server="127.0.0.1"))
        with process(["--config", str(config)], port=port, command=command):
            before = Names.asked
            for _ in range(2):
                assert finger(port, b"moshez\r\n").decode() == "Happy and well\r\nin Gr\u00fcn\r\n"
            assert Names.asked == before + 1
            for name in ("nobody", "empty", "x" * 64, "a..b"):
                assert finger(port, f"{name}\r\n".encode()) == b"No such user\r\n", name
            assert finger(port, b"broken\r\n") == b"Internal error in server\r\n"
        asked = run(["explain", "--config", str(config), "--ask", "broken"], command=command)
        assert 'asked       "people" failed in ' in asked.stdout
        assert ": DNSServerError\n" in asked.stdout


def test_check(command: list[str], tmp_path: Path) -> None:
    """Its own check is one of the mistakes."""
    config = tmp_path / "fingergw.toml"
    config.write_text(CONFIG.format(port=0, dns=53, server="ns.example.org"))
    done = run(["check", "--config", str(config)], command=command)
    assert done.returncode == 78
    assert f"{config}:9: backends.people.server: expected an IPv4 address\n" in done.stderr


def test_types(tmp_path: Path) -> None:
    """Type checkers know what fingergw.api has, and take packages that use it; they find what is wrong in one."""
    phonebook = ROOT / "tests" / "plugin" / "phonebook" / "fingergw_phonebook.py"
    modules = {
        "fingergw_txt.py": FILES["fingergw_txt.py"],
        phonebook.name: phonebook.read_text(),
        "wrong.py": "from fingergw.api import Answered, Backend, setting, settings\n"
        '@settings\nclass One:\n    key: int = setting("x")\n'
        "    def open(self, site: object) -> Backend:\n        return 3\n"
        'One(key="x")\nOne()\nAnswered(3)\n',
    }
    for name, text in modules.items():
        (tmp_path / name).write_text(text)
    words = ["--strict", "--untyped-calls-exclude=twisted", f"--cache-dir={tmp_path}", "--config-file="]
    command = [sys.executable, "-m", "mypy", *words, *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    found = re.findall(r"^(\w+)\.py:(\d+): error:", done.stdout, re.MULTILINE)
    assert found == [("wrong", line) for line in "6789"], done.stdout
