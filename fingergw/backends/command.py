"""What a local program prints."""

from __future__ import annotations

import math
import os
import resource
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from attrs import Factory, define, field, frozen
from twisted.internet import process
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.outcome import Answered, Failed, Inputs, Missing, Outcome
from fingergw.placeholders import Template
from fingergw.query import Query, escape

_log = Logger()
_MAX_STDERR_BYTES = 4096
_LINGER_SECONDS = 1.0
_READ_BYTES = 8192
_PIPE_BYTES = 65536
_REPORT = 3
"""The file descriptor through which a process tells why it cannot become the program."""
_SIGNALS = {
    signal.SIGXCPU: "it used more processor time than max_cpu_seconds",
    signal.SIGXFSZ: "it wrote a file of more than max_file_bytes",
}

Spawn = Callable[[ProcessProtocol, str, Sequence[str], Mapping[str, str]], IProcessTransport]
"""Start a program in a session of its own: protocol, executable, argv, whole environment."""


@frozen
class ProgramLimits:
    """What a program, and each that it starts, may use of the machine.

    :param cpu_seconds: of processor time; then it gets SIGXCPU, and a second later SIGKILL.
    :param memory_bytes: of address space.
    :param file_bytes: the size of a file that it writes.
    :param processes: how many processes and threads its user has when it can start no more; root always can.
    :param open_files: its soft limit, by default the one of this moment, before a gateway raises its own.
    """

    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    processes: int
    open_files: int = field(factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def impose(self) -> None:
        """Limit this process, nowhere above what it is limited to already."""
        for which, soft, hard in (
            (resource.RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1),
            (resource.RLIMIT_FSIZE, self.file_bytes, self.file_bytes),
            (resource.RLIMIT_NPROC, self.processes, self.processes),
            (resource.RLIMIT_NOFILE, self.open_files, resource.RLIM_INFINITY),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_AS, self.memory_bytes, self.memory_bytes),  # last: there may be no memory from here on
        ):
            ceiling = resource.getrlimit(which)[1]
            resource.setrlimit(which, (_lower(soft, ceiling), _lower(hard, ceiling)))


def _lower(*limits: int) -> int:
    return min(limits, key=lambda limit: math.inf if limit == resource.RLIM_INFINITY else limit)


class _Reader(process.ProcessReader):
    """The gateway's end of a pipe, of which nothing gets lost.

    A reactor can tell it of the end of what had its descriptor's number a moment ago. And after a stall it may be
    closed, as nothing more is expected, before it has been read.
    """

    def connectionLost(self, reason: Failure) -> None:
        if self._is_at_end() or self.disconnecting:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
        else:
            self.startReading()

    def _is_at_end(self) -> bool:
        with suppress(BlockingIOError):
            for _ in range(_PIPE_BYTES // _READ_BYTES):
                data = os.read(self.fd, _READ_BYTES)
                if not data:
                    return True
                self.dataReceived(data)
        return False


class _Program(process.Process):
    """A process that leads its own session, so that it has no terminal and can be killed with all that it starts.

    It is forked, although Twisted would use the cheaper posix_spawn: that can set no limits, setting them from outside
    would race with the program, and what would set them and then become the program need not be there in a chroot.
    What keeps it from becoming the program is told through a pipe that the program does not get.
    """

    processReaderFactory = _Reader

    def __init__(self, limits: ProgramLimits, *arguments: Any, **options: Any) -> None:
        self._limits = limits
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # it forks

    def _trySpawnInsteadOfFork(self, *_: object) -> bool:
        return False

    def _setupChild(self, fdmap: dict[int, int]) -> None:
        self._descriptors = fdmap  # what goes wrong with them shall be told as all else is

    def _execChild(
        self, path: object, uid: object, gid: object, executable: bytes, args: list[bytes], env: Mapping[bytes, bytes]
    ) -> NoReturn:
        """Become the program. This runs in the forked process, while other threads' locks may be held for ever."""
        report = self._descriptors[_REPORT]
        try:
            super()._setupChild(self._descriptors)  # type: ignore[no-untyped-call]
            report = _REPORT
            os.set_inheritable(report, False)  # it closes when the program begins
            os.setsid()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)  # Python ignores some, and what is ignored stays so in a program
            self._limits.impose()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(executable, args, env)  # noqa: S606  # never a shell
        except BaseException as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            os.write(report, reason.encode())
        finally:
            os._exit(127)


def spawner(reactor: object, limits: ProgramLimits) -> Spawn:
    """Return what starts programs under a reactor: in their own session, within limits, reading nothing."""

    def spawn(
        protocol: ProcessProtocol, executable: str, argv: Sequence[str], env: Mapping[str, str]
    ) -> IProcessTransport:
        null = os.open(os.devnull, os.O_RDONLY)
        # A signal that comes between fork and exec shall meet the program, not the gateway's way with signals.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            # Python 3.12 and later warn of forks beside threads: what is called in the fork takes no locks.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                return _Program(
                    limits,
                    reactor,
                    os.fsencode(executable),
                    [os.fsencode(argument) for argument in argv],
                    {os.fsencode(key): os.fsencode(value) for key, value in env.items()},
                    None,
                    protocol,
                    childFDs={0: null, 1: "r", 2: "r", _REPORT: "r"},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(null)

    return spawn


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
        if childFD == _REPORT:
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
        _reap_orphans()
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


def _reap_orphans() -> None:
    """Clear away what programs have left behind, where that falls to this process: as the first of a container."""
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):  # there are no children
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in process.reapProcessHandlers:
                return  # a program, which Twisted waits for
            os.waitpid(ended.si_pid, 0)


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
        work: Deferred[Outcome] = Deferred.fromCoroutine(self._run(argv, query))
        work.addTimeout(self.timeout, self.clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))
        return await work

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
