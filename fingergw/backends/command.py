"""Backends that run a local program."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

from attrs import Factory, define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.api import (
    Answered,
    Argv,
    Backend,
    Bytes,
    Charset,
    Count,
    ExitCode,
    Failed,
    Missing,
    Outcome,
    Query,
    Site,
    Variable,
    Waits,
    setting,
    settings,
)
from fingergw.core.text import escape, is_blank
from fingergw.net.http.charsets import UTF_8
from fingergw.net.programs import REPORT, ProgramLimits, Spawn, reap_orphans, spawner

_log = Logger()
_MAX_STDERR_BYTES = 4096
_LINGER_SECONDS = 1.0
_SIGNALS = {
    signal.SIGXCPU: "it used more processor time than max_cpu_seconds allows",
    signal.SIGXFSZ: "it wrote a file larger than max_file_bytes allows",
}


@settings
class Command:
    """Answers with the output of a program."""

    sees = ("client", "listener", "verbose")
    may_vary = True
    waits = Waits(timeout=5, max_running=4, breaker=False)

    argv: Argv = setting(
        "The program and its arguments; there is no shell. {user} and a regex's groups are replaced, {user:upper} by "
        "the name in upper case."
    )
    max_bytes: Bytes = setting("The largest output; a program that prints more is killed.", default=65536)
    max_cpu_seconds: Count = setting("Processor time of each process, the program's and those it starts.", default=10)
    max_memory_bytes: Bytes = setting(
        "Address space of each process, the program's and those it starts.", default=2 << 30
    )
    max_file_bytes: Bytes = setting("The largest file that it may write.", default=16 << 20)
    max_processes: Count = setting("The limit on its user's processes and threads (RLIMIT_NPROC).", default=1024)
    charset: Charset = setting("The charset of its output.", default=UTF_8)
    missing_exit_codes: tuple[ExitCode, ...] = setting(
        "Exit codes that mean that it does not know the name. 0 is an answer, any other code a failure.", default=()
    )
    answer_exit_codes: tuple[ExitCode, ...] = setting(
        "Exit codes, besides 0, with which its output is the answer.", default=()
    )
    env: dict[Variable, str] = setting(
        "Its environment; only FINGER_USER, FINGER_VERBOSE, FINGER_CLIENT and FINGER_LISTENER are added.",
        default={},
        secret=True,
    )

    def check(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the exit codes that mean an answer and mean that there is none, each with a message."""
        for place, code in enumerate(self.answer_exit_codes):
            if code in self.missing_exit_codes:
                yield ("answer_exit_codes", place), f"missing_exit_codes has {code}, too; remove it from one of the two"

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        limits = ProgramLimits(
            cpu_seconds=self.max_cpu_seconds,
            memory_bytes=self.max_memory_bytes,
            file_bytes=self.max_file_bytes,
            processes=self.max_processes,
        )
        return CommandBackend(self, site.program("argv"), site.reactor, spawner(site.reactor, limits))


@define(eq=False, repr=False)
class _Run(ProcessProtocol):
    """One run of the program.

    :param max_bytes: of output; a program that prints more is killed.
    :param status: fires with how the program ended; cancelling it kills the program.
    :param ended: fires when the program has ended and its output is read.
    :param refusal: why the program could not be started.
    """

    max_bytes: int
    clock: IReactorTime
    ended: Deferred[None] = field(init=False, factory=Deferred)
    status: Deferred[ProcessDone | ProcessTerminated] = field(
        init=False, default=Factory(lambda self: Deferred(lambda _: self.kill()), takes_self=True)
    )
    output: bytearray = field(init=False, factory=bytearray)
    errors: bytearray = field(init=False, factory=bytearray)
    refusal: bytearray = field(init=False, factory=bytearray)
    _pid: int = field(init=False, default=0)
    _closing: IDelayedCall | None = field(init=False, default=None)

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._pid = self.transport.pid or 0

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == REPORT:
            self.refusal += data
        else:
            super().childDataReceived(childFD, data)

    def outReceived(self, data: bytes) -> None:
        self.output += data[: self.max_bytes + 1 - len(self.output)]
        if len(self.output) > self.max_bytes:
            self.kill()

    def errReceived(self, data: bytes) -> None:
        self.errors += data[: _MAX_STDERR_BYTES - len(self.errors)]

    def processExited(self, reason: Failure) -> None:
        # A child left behind would hold the pipes open, so it is killed. One in a session of its own survives, and is
        # not waited for.
        self._kill_group()
        self._pid = 0  # the kernel may reuse it
        self._closing = self.clock.callLater(_LINGER_SECONDS, self._close_pipes)

    def processEnded(self, reason: Failure) -> None:
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        reap_orphans()
        self.ended.callback(None)
        if not self.status.called:
            self.status.callback(reason.value)  # type: ignore[arg-type]  # it is one of the two

    def kill(self) -> None:
        """Kill the program and its process group, and stop reading."""
        if self.transport is not None:
            # The program itself too, as it leads no group until it runs. EPERM: it has changed its user.
            with suppress(ProcessExitedAlready, PermissionError):
                self.transport.signalProcess("KILL")
        self._kill_group()
        self._close_pipes()

    def _kill_group(self) -> None:
        # Group 0 would be the gateway's own. EPERM: the rest of the group has changed its user.
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _close_pipes(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


@frozen(eq=False, repr=False)
class CommandBackend:
    """Run a program, never through a shell, and answer with its output.

    :param settings: its table.
    :param executable: the program's absolute path.
    """

    settings: Command
    executable: str
    clock: IReactorTime
    spawn: Spawn

    def at_once(self, query: Query) -> Outcome | None:
        """Return Missing if the name would make an argument an option, and Failed if the program is not executable."""
        values = query.placeholders
        if any(
            argument.begins_with_placeholder and argument.fill(values).startswith("-")
            for argument in self.settings.argv
        ):
            return Missing()
        if not os.access(self.executable, os.X_OK):
            return Failed(
                f"{self.executable} is missing or not executable; install it, or let the gateway's user run it"
            )
        return None

    async def answer(self, query: Query) -> Outcome:
        """Run the program; its exit code decides between Answered, Missing and Failed. Blank output is no answer."""
        known = self.at_once(query)  # again, as nothing else keeps a query from giving the program options
        if known is not None:
            return known
        argv = [argument.fill(query.placeholders) for argument in self.settings.argv]
        run = _Run(self.settings.max_bytes, self.clock)
        env = {
            **{str(name): value for name, value in self.settings.env.items()},
            "FINGER_USER": query.user,
            "FINGER_VERBOSE": "1" if query.verbose else "0",
            "FINGER_CLIENT": query.client,
            "FINGER_LISTENER": query.listener,
        }
        try:
            self.spawn(run, self.executable, argv, env)
        except OSError as error:
            return Failed(f"cannot be started: {error.strerror}", upstream="unknown")  # as for want of descriptors
        except ValueError:
            why = "cannot be started: its arguments cannot be encoded; run the gateway in a UTF-8 locale"
            return Failed(why, upstream="unknown")
        try:
            status = await self._status(run, argv[0], query.client)
        except CancelledError:
            await run.ended  # it was killed; it keeps its place until it has ended
            raise
        return self._outcome(run, status)

    async def _status(self, run: _Run, program: str, client: str) -> ProcessDone | ProcessTerminated:
        try:
            return await run.status
        finally:  # also when it is killed at the deadline
            text = escape(run.errors.decode(errors="replace").strip("\r\n"))
            if text:
                _log.info("{program} wrote to standard error: {text}", program=program, text=text, client=client)

    def _outcome(self, run: _Run, status: ProcessDone | ProcessTerminated) -> Outcome:
        if run.refusal:
            return Failed(f"cannot be started: {run.refusal.decode(errors='replace')}", upstream="unreachable")
        if len(run.output) > self.settings.max_bytes:
            return Failed(f"killed: its output is larger than max_bytes = {self.settings.max_bytes}")
        if isinstance(status, ProcessTerminated) and status.signal is not None:
            return Failed(f"ended by {_signal(status.signal)}")
        if status.exitCode == 0 or status.exitCode in self.settings.answer_exit_codes:
            text = self.settings.charset.decode(run.output)
            return Missing() if is_blank(text) else Answered(text)
        if status.exitCode in self.settings.missing_exit_codes:
            return Missing()
        return Failed(f"exit code {status.exitCode}")


def _signal(number: int) -> str:
    """Return a signal's name, and which limit causes it, if one does."""
    try:
        number = signal.Signals(number)
    except ValueError:  # a real-time signal
        return f"signal {number}"
    return f"{number.name}: {_SIGNALS[number]}" if number in _SIGNALS else number.name
