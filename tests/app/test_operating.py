"""The README's operating section, command by command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.sockets import free_port, serves
from tests.support.waiting import wait_until

README = (ROOT / "README.md").read_text()
OPERATING = README.partition("\n## Operating\n")[2].partition("\n## ")[0]
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```", OPERATING, re.MULTILINE | re.DOTALL)).splitlines()


class Shell:
    """A folder in which commands are run as an operator would, on ports that are free here.

    :param folder: the folder, empty at first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"1079": str(free_port()), "9179": str(free_port())}
        (folder / "bin").mkdir()
        command = folder / "bin" / "fingergw"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fingergw "$@"\n')
        command.chmod(0o755)
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def run(self, command: str) -> str:
        """Run a command and return what it prints; it must succeed."""
        for port, own in self.ports.items():
            command = command.replace(port, own)
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self._environment,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, (command, ended)
        return ended.stdout

    def pid(self) -> int | None:
        """Return the number of the gateway that runs; None if none does."""
        file = self.folder / "fingergw.pid"
        try:
            pid = int(file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def settle(self, command: str) -> None:
        """Wait until what a command has begun is done."""
        if command.startswith("fingergw init"):
            file = self.folder / "fingergw.toml"
            text = file.read_text()
            for port, own in self.ports.items():
                text = text.replace(port, own)
            file.write_text(text)
        elif "--daemonize" in command:
            wait_until(lambda: serves(int(self.ports["1079"])), "the start")
        elif command.startswith("kill -HUP"):
            wait_until(lambda: "configuration reloaded" in (self.folder / "fingergw.log").read_text(), "the reload")
        elif command.startswith("kill -USR1"):
            wait_until((self.folder / "access.log").exists, "the new access log")
        elif command.startswith("kill "):
            wait_until(lambda: self.pid() is None, "the end")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Return a shell, and leave no gateway behind."""
    shell = Shell(tmp_path)
    yield shell
    if (pid := shell.pid()) is not None:
        os.kill(pid, signal.SIGKILL)


def test_operating_section(shell: Shell) -> None:
    """Each command does what the section says, in its order, from an empty folder to the gateway's end."""
    said: dict[str, str] = {}
    for command in COMMANDS:
        said[command] = shell.run(command)
        shell.settle(command)
        if command.startswith("kill -HUP"):
            assert shell.run("fingergw query moshez@localhost:1079") == "On holiday\n"
    assert said["fingergw query moshez@localhost:1079"] == "Happy and well\n"
    assert "no mistakes found" in said["fingergw check --config fingergw.toml"]
    assert "[[listeners]]" in said["fingergw config --config fingergw.toml"]
    (ready,) = (text for command, text in said.items() if command.endswith("/readyz"))
    assert ready == "ready\n"
    (metrics,) = (text for command, text in said.items() if command.endswith("/metrics"))
    shown = set(re.findall(r"`(fingergw_\w+)`", OPERATING))
    # no store, no hosts to forward to, and nobody has asked what is cached
    assert {name for name in shown if name not in metrics} == {
        "fingergw_cache_lookups_total",
        "fingergw_cache_rescues_total",
        "fingergw_cache_store_failures_total",
        "fingergw_cache_store_up",
        "fingergw_forwarding_host_up",
    }
    assert "moshez" in (shell.folder / "access.log.1").read_text()
    assert shell.pid() is None


def test_explanation_is_that_of_the_section(shell: Shell) -> None:
    """What explain prints for the file that init writes is what the section shows."""
    (shown,) = re.findall(r"^```text\n(query .*?)^```", OPERATING, re.MULTILINE | re.DOTALL)
    shell.run("fingergw init")
    assert shell.run("fingergw explain --config fingergw.toml moshez") == shown
