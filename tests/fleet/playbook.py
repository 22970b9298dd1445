"""Runs of ``ansible-playbook`` against a fleet, as an operator would start them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from tests.fleet.hosts import Fleet
from tests.fleet.space import ROOT
from tests.fleet.wheels import wheels

PLAYBOOKS = ROOT / "ansible"
EXAMPLE = PLAYBOOKS / "inventory/example"
DEADLINE_SECONDS = 300.0
_RECAP = re.compile(r"^(\S+)\s+: (ok=\d+ .*ignored=\d+)\s*$", re.MULTILINE)


@attrs.frozen
class Recap:
    """How many of a host's tasks ended in which way."""

    ok: int
    changed: int
    unreachable: int
    failed: int
    skipped: int
    rescued: int
    ignored: int


@attrs.frozen
class Play:
    """A run that has ended.

    :param returncode: of ``ansible-playbook``.
    :param output: what it printed, without colours.
    :param hosts: the recap by host.
    :param seconds: how long it took.
    """

    returncode: int
    output: str
    hosts: dict[str, Recap]
    seconds: float


class RunningPlay:
    """A run in progress.

    :param command: its command line, in the fleet's namespaces.
    :param environment: its environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )

    def output(self) -> str:
        """Return what it has printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def wait_for(self, text: str) -> Self:
        """Wait until it has printed a text.

        :raises AssertionError: if it ends before, or the deadline passes.
        """
        ends = time.monotonic() + DEADLINE_SECONDS
        while text not in self.output():
            late = self._process.poll() is not None or time.monotonic() > ends
            assert not late or text in self.output(), f"no {text!r} in:\n{self.output()}"
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """Kill it in the middle of a task, as if the controller had died."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def wait(self, *, check: bool = True) -> Play:
        """Wait until it ends.

        :raises AssertionError: if it fails and ``check`` is true; the message has what it printed.
        """
        try:
            returncode = self._process.wait(max(1.0, self._started + DEADLINE_SECONDS - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the play did not end within {DEADLINE_SECONDS:g} s:\n{self.output()}") from None
        output = self.output()
        self._output.close()
        assert not (check and returncode), f"ansible-playbook ended with {returncode}:\n{output}"
        return Play(returncode, output, _recaps(output), time.monotonic() - self._started)


def start_play(
    fleet: Fleet,
    playbook: str | Path = "site.yml",
    *arguments: str,
    inventory: Sequence[Path] = (EXAMPLE,),
    extra_vars: Mapping[str, object] | None = None,
    limit: str = "",
    env: Mapping[str, str] | None = None,
) -> RunningPlay:
    """Start ``ansible-playbook`` on a fleet's controller.

    :param playbook: a path, from ``ansible/``.
    :param arguments: more of its command line.
    :param inventory: the inventories before the one that tells how the hosts are reached.
    :param extra_vars: values that win over all others.
    :param limit: a pattern of the hosts to run on.
    :param env: what to add to the environment.
    """
    command = [part for path in inventory for part in ("-i", str(path))]
    command += [str(playbook), *arguments]
    if extra_vars:
        command += ["--extra-vars", json.dumps(extra_vars)]
    if limit:
        command += ["--limit", limit]
    return RunningPlay(playbook_command(fleet, command), playbook_environment(fleet) | dict(env or {}))


def play(fleet: Fleet, playbook: str | Path = "site.yml", *arguments: str, check: bool = True, **options: Any) -> Play:
    """Run ``ansible-playbook`` to its end; the options are those of :func:`start_play`.

    :raises AssertionError: if it fails and ``check`` is true; the message has what it printed.
    """
    return start_play(fleet, playbook, *arguments, **options).wait(check=check)


def playbook_command(fleet: Fleet, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a run; the inventory with the hosts' addresses comes last."""
    program = Path(sys.executable).with_name("ansible-playbook")
    return fleet.space.command([str(program), *arguments, "-i", str(fleet.inventory)], PLAYBOOKS)


def playbook_environment(fleet: Fleet) -> dict[str, str]:
    """Return the environment of a run: the project's settings, and nothing of it left outside the fleet."""
    return os.environ | {
        "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
        "ANSIBLE_HOME": str(fleet.folder / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": "/run/ansible",  # inside, so that no connection outlives the hosts
        "PIP_FIND_LINKS": str(wheels()),
        "PIP_NO_INDEX": "1",
    }


def _recaps(output: str) -> dict[str, Recap]:
    recaps = {}
    for name, counts in _RECAP.findall(output):
        recaps[name] = Recap(**{key: int(value) for key, value in (each.split("=") for each in counts.split())})
    return recaps
