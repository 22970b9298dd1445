"""Gateways and backends that run programs."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.app.gateway import Gateway
from fingergw.backends.command import Command, CommandBackend
from fingergw.core.outcome import Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import Argv, Bytes, ExitCode, Variable
from fingergw.net.programs import ProgramLimits, Spawn, spawner
from tests.support.gateway import GatewayCase
from tests.support.in_turn import InTurn
from tests.support.waiting import reactor, until

# as many processes as whoever runs the tests may have
LIMITS = ProgramLimits(cpu_seconds=10, memory_bytes=2 << 30, file_bytes=16 << 20, processes=20_000)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; an orphan that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


class CommandCase(GatewayCase):
    """Tests that run programs, with time under their control."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def script(self, text: str) -> Path:
        """Write a program; one without a first line of its own is for the shell, in the test's folder."""
        path = self.write("program", text)
        if not text.startswith(("#!", "\x7f")):
            path.write_text(f"#!/bin/sh\ncd '{path.parent}'\n{text}\n")
        path.chmod(0o755)
        return path

    def backend(
        self,
        text: str,
        *arguments: str,
        timeout: float = 5,
        max_bytes: int = 1000,
        max_running: int = 1,
        missing_exit_codes: Sequence[int] = (),
        answer_exit_codes: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        spawn: Spawn | None = None,
        limits: ProgramLimits = LIMITS,
    ) -> InTurn[CommandBackend]:
        """Return a backend for a program."""
        path = str(self.script(text))
        settings = Command(
            argv=Argv(tuple(Template(argument) for argument in (path, *arguments))),
            env={Variable(key): value for key, value in (env or {"PATH": os.environ["PATH"]}).items()},
            max_bytes=Bytes(max_bytes),
            missing_exit_codes=tuple(map(ExitCode, missing_exit_codes)),
            answer_exit_codes=tuple(map(ExitCode, answer_exit_codes)),
        )
        backend = CommandBackend(settings, path, self.clock, spawn or spawner(reactor, limits))
        return InTurn(backend, timeout, max_running, self.clock)

    def asked(self, backend: InTurn[CommandBackend], user: str = "x", **others: Any) -> Deferred[Outcome]:
        """Begin to ask a backend."""
        asked = backend.asked(Query(user, **others))
        self.addCleanup(asked.cancel)
        return asked

    async def pid(self, name: str = "pid") -> int:
        """Wait until a program writes a PID to a file; kill that process at the end of the test."""
        path = self.script_folder / name
        await until(lambda: path.exists() and path.read_text().endswith("\n"), f"the file {name}")
        pid = int(path.read_text())
        self.addCleanup(self._kill, pid)
        return pid

    @staticmethod
    def _kill(pid: int) -> None:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)

    @property
    def script_folder(self) -> Path:
        """The folder with the program and the files that it writes."""
        return self.write("unused", "").parent

    def gateway(
        self, *arguments: str, match: Mapping[str, object] | None = None, last: str = "", **settings: object
    ) -> Gateway:
        """Start a gateway in which one program answers everything.

        :param last: the text of a backend ``last``, for a chain in ``match``.
        """
        program = {"type": "command", "argv": list(arguments), **settings}
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                    "routes": [{"backends": ["program"], **(match or {"pattern": "*"})}],
                    "backends": {"program": program, **({"last": {"type": "static", "text": last}} if last else {})},
                    "log": {"access": "off"},
                }
            )
        )

    def logged(self) -> list[str]:
        """Return what was logged."""
        return [formatEvent(event) for event in self.events]
