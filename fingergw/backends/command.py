"""What a local program prints."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.core.outcome import Answered, Failed, Inputs, Missing, Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query, escape
from fingergw.net.programs import REPORT, Spawn, reap_orphans
from fingergw.net.upstream import within

_log = Logger()
_MAX_STDERR_BYTES = 4096
_LINGER_SECONDS = 1.0
_SIGNALS = {
    signal.SIGXCPU: "it used more processor time than max_cpu_seconds",
    signal.SIGXFSZ: "it wrote a file of more than max_file_bytes",
}


@define(eq=False)
class _Run(ProcessProtocol):
    """One run of the program.

    :param max_bytes: of output; more kills it.
    :param refusal: why it could not be started.
    :param on_end: called when the program is gone and its output read.
    """

    max_bytes: int
    clock: IReactorTime
    on_end: Callable[[], object]
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
        # A child that was left behind would hold the pipes open. It is killed; what has made a session of its own
        # survives that, and is not waited for.
        self._kill_group()
        self._pid = 0  # it may soon be another's
        self._closing = self.clock.callLater(_LINGER_SECONDS, self._close_pipes)

    def processEnded(self, reason: Failure) -> None:
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        reap_orphans()
        self.on_end()
        if not self.status.called:
            self.status.callback(reason.value)  # type: ignore[arg-type]  # it is one of the two

    def kill(self) -> None:
        """End the program and all it has started, and read no more."""
        if self.transport is not None:
            # The program by itself too: it leads no group until it runs. EPERM: it has changed its user.
            with suppress(ProcessExitedAlready, PermissionError):
                self.transport.signalProcess("KILL")
        self._kill_group()
        self._close_pipes()

    def _kill_group(self) -> None:
        # Group 0 would be the gateway's own. EPERM: what is left of the group has changed its user.
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _close_pipes(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


@frozen
class CommandBackend:
    """Run a program, never through a shell, and answer with what it prints.

    :param executable: the program's absolute path.
    :param argv: its arguments, its name first.
    :param env: its environment, to which FINGER_USER, FINGER_VERBOSE, FINGER_CLIENT and FINGER_LISTENER are added.
    :param timeout: seconds from the query to the end of the output, waiting for a place included.
    :param max_bytes: of output.
    :param max_running: at once; more wait.
    :param missing_exit_codes: what it exits with for a name that it does not know.
    """

    executable: str
    argv: tuple[Template, ...]
    env: Mapping[str, str]
    timeout: float
    max_bytes: int
    max_running: int
    missing_exit_codes: frozenset[int]
    clock: IReactorTime
    spawn: Spawn
    _places: DeferredSemaphore = field(
        init=False, default=Factory(lambda self: DeferredSemaphore(self.max_running), takes_self=True)
    )

    @property
    def inputs(self) -> Inputs:
        """The placeholders in the arguments, and all that the environment tells."""
        names = frozenset[str]().union(*(argument.names for argument in self.argv))
        return Inputs(names | {"user"}, verbose=True, client=True, listener=True)

    async def answer(self, query: Query) -> Outcome:
        """Run the program; its exit decides between Answered, Missing and Failed."""
        values = query.placeholders
        argv = [argument.fill(values) for argument in self.argv]
        if any(
            filled.startswith("-") and argument.begins_open for filled, argument in zip(argv, self.argv, strict=True)
        ):
            return Missing()  # no program shall take a name for an option
        return await within(self.timeout, self.clock, self._run(argv, query))

    async def _run(self, argv: list[str], query: Query) -> Outcome:
        if not os.access(self.executable, os.X_OK):
            return Failed(f"{self.executable} is not executable, or not there")
        await self._places.acquire()
        run = _Run(self.max_bytes, self.clock, self._places.release)
        env = {
            **self.env,
            "FINGER_USER": query.user,
            "FINGER_VERBOSE": "1" if query.verbose else "0",
            "FINGER_CLIENT": query.client,
            "FINGER_LISTENER": query.listener,
        }
        try:
            self.spawn(run, self.executable, argv, env)
        except Exception as error:
            # In a turn of its own: whoever is next may fail likewise, and each would be a call within the one before.
            self.clock.callLater(0, self._places.release)
            if isinstance(error, (OSError, ValueError)):  # ValueError: a name that the locale cannot encode
                return Failed(f"cannot be started: {getattr(error, 'strerror', error)}")
            raise
        try:
            status = await run.status
        finally:  # also when it is killed at the deadline
            if run.errors:
                _log.info("{program} says: {text}", program=argv[0], text=escape(run.errors.decode(errors="replace")))
        if run.refusal:
            return Failed(f"cannot be started: {run.refusal.decode(errors='replace')}")
        if len(run.output) > self.max_bytes:
            return Failed(f"killed: more than {self.max_bytes} bytes of output")
        if isinstance(status, ProcessDone):
            return Answered(run.output.decode(errors="replace"))
        if status.signal is not None:
            return Failed(f"ended by {_signal(status.signal)}")
        if status.exitCode in self.missing_exit_codes:
            return Missing()
        return Failed(f"exit code {status.exitCode}")


def _signal(number: int) -> str:
    """Return a signal's name, and what the operator can mend if a limit was its cause."""
    try:
        number = signal.Signals(number)
    except ValueError:  # a real-time signal
        return f"signal {number}"
    return f"{number.name}: {_SIGNALS[number]}" if number in _SIGNALS else number.name
