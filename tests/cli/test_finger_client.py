"""Debian's real ``finger`` client against a gateway on port 79, in a network of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, ROOT
from tests.support.waiting import wait_until


def _why_not() -> str:
    if os.geteuid() != 0:
        return "only root can make a network namespace"
    for program in ("finger", "unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "this machine lets nobody make a network namespace"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "it can")

CONFIG = """
[[listeners]]
endpoint = "tcp:79"
[[routes]]
index = true
backends = ["menu"]
[[routes]]
users = ["moshez", "nail"]
summary = "People"
backends = ["people"]
[[routes]]
user = "status"
backends = ["status"]
[backends.menu]
type = "menu"
[backends.people]
type = "static"
[backends.people.entries]
moshez = "Happy and well"
nail = { name = "Nail Sharp", directory = "/home/nail", shell = "/usr/bin/sh", plan = "Hit things." }
[backends.status]
type = "command"
argv = ["sh", "-c", "echo verbose=$FINGER_VERBOSE"]
[process]
user = "nobody"
"""


@pytest.fixture(scope="module")
def pid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a gateway on port 79 in a network namespace of its own, and return the process that is in it."""
    folder = tmp_path_factory.mktemp("finger")
    (folder / "fingergw.toml").write_text(CONFIG)
    running = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *COMMAND, "--config", "fingergw.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        port = f":{79:04X} 00000000:0000 0A"  # a listening socket
        wait_until(lambda: port in Path(f"/proc/{running.pid}/net/tcp").read_text(), "port 79")
        yield running.pid
    finally:
        running.terminate()
        running.wait(20)


def ask(pid: int, *arguments: str) -> list[str]:
    """Run ``finger`` in the gateway's namespace, and return the lines that it prints."""
    command = ["nsenter", "--net", "--target", str(pid), "finger", *arguments]
    ended = subprocess.run(command, text=True, capture_output=True, check=True, timeout=20)
    return [line.rstrip() for line in ended.stdout.splitlines()]


def test_user(pid: int) -> None:
    """``finger user@host`` prints the answer."""
    assert "Happy and well" in ask(pid, "moshez@127.0.0.1")


def test_classic_layout(pid: int) -> None:
    """``finger user@host`` prints the classic layout."""
    shown = "\n".join(ask(pid, "nail@127.0.0.1"))
    assert [text for text in ("Login: nail", "Name: Nail Sharp", "Plan:\nHit things.") if text not in shown] == []


def test_index(pid: int) -> None:
    """``finger @host`` prints the menu."""
    assert any("moshez" in line and "People" in line for line in ask(pid, "@127.0.0.1"))


@pytest.mark.parametrize(("options", "verbose"), [([], "0"), (["-l"], "1")])
def test_verbose(pid: int, options: list[str], verbose: str) -> None:
    """``finger -l`` asks for more, and the backend sees that."""
    shown = "\n".join(ask(pid, *options, "status@127.0.0.1"))
    assert f"verbose={verbose}" in shown


def test_unknown(pid: int) -> None:
    """An unknown name gets a message."""
    assert "No such user" in ask(pid, "nobody@127.0.0.1")


def test_forwarding(pid: int) -> None:
    """``finger user@other@host`` gets a refusal."""
    assert "Finger forwarding service denied" in ask(pid, "moshez@other.example@127.0.0.1")
