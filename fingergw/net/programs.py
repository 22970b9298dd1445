"""Start programs within limits, each in a session of its own."""

from __future__ import annotations

import math
import os
import resource
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from attrs import field, frozen
from twisted.internet import process
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

REPORT = 3
"""The file descriptor on which a forked process reports why it cannot execute the program."""
_READ_BYTES = 8192
_PIPE_BYTES = 65536

Spawn = Callable[[ProcessProtocol, str, Sequence[str], Mapping[str, str]], IProcessTransport]
"""Start a program in a session of its own: protocol, executable, argv, whole environment."""


@frozen
class ProgramLimits:
    """The limits of a program, and of each process that it starts.

    :param cpu_seconds: processor time; at the limit it gets SIGXCPU, and a second later SIGKILL.
    :param memory_bytes: address space.
    :param file_bytes: the largest file that it may write.
    :param processes: RLIMIT_NPROC, the processes and threads that its user may have; no limit for root.
    :param open_files: the soft limit; default: this process's when the limits are made, as a gateway raises its own.
    """

    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    processes: int
    open_files: int = field(factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def impose(self) -> None:
        """Limit this process; no existing limit is raised."""
        for which, soft, hard in (
            (resource.RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1),
            (resource.RLIMIT_FSIZE, self.file_bytes, self.file_bytes),
            (resource.RLIMIT_NPROC, self.processes, self.processes),
            (resource.RLIMIT_NOFILE, self.open_files, resource.RLIM_INFINITY),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_AS, self.memory_bytes, self.memory_bytes),  # last: from here on memory may be short
        ):
            ceiling = resource.getrlimit(which)[1]
            resource.setrlimit(which, (_lower(soft, ceiling), _lower(hard, ceiling)))


def _lower(*limits: int) -> int:
    return min(limits, key=lambda limit: math.inf if limit == resource.RLIM_INFINITY else limit)


class _Reader(process.ProcessReader):
    """The gateway's end of a pipe; it reads everything before it closes.

    A reactor can report the end of another pipe that had the same descriptor before. And after a stall the pipe may be
    closed before it was read.
    """

    def connectionLost(self, reason: Failure) -> None:
        if not self.connected:
            return  # reading the rest exceeded the limit and closed it
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
    """A process in its own session: it has no terminal, and can be killed with its children.

    It is forked. Twisted's cheaper posix_spawn cannot set limits; setting them from outside would race with the
    program, and a helper program that sets them may be missing in a chroot. An error before the program runs is
    reported through a pipe that the program does not inherit.
    """

    processReaderFactory = _Reader

    def __init__(self, limits: ProgramLimits, *arguments: Any, **options: Any) -> None:
        self._limits = limits
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # it forks

    def _trySpawnInsteadOfFork(self, *_: object) -> bool:
        return False

    def _setupChild(self, fdmap: dict[int, int]) -> None:
        self._descriptors = fdmap  # set up in _execChild, so that errors are reported

    def _execChild(
        self, path: object, uid: object, gid: object, executable: bytes, args: list[bytes], env: Mapping[bytes, bytes]
    ) -> NoReturn:
        """Execute the program. In the forked process, locks of other threads may be held for ever."""
        report = self._descriptors[REPORT]
        try:
            super()._setupChild(self._descriptors)  # type: ignore[no-untyped-call]
            report = REPORT
            os.set_inheritable(report, False)  # it closes when the program begins
            os.setsid()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)  # ignored signals, such as Python's, are inherited
            self._limits.impose()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(executable, args, env)  # noqa: S606  # never a shell
        except BaseException as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            os.write(report, reason.encode())
        finally:
            os._exit(127)


def spawner(reactor: object, limits: ProgramLimits) -> Spawn:
    """Return a function that starts programs in their own session, within limits, with /dev/null as input."""

    def spawn(
        protocol: ProcessProtocol, executable: str, argv: Sequence[str], env: Mapping[str, str]
    ) -> IProcessTransport:
        null = os.open(os.devnull, os.O_RDONLY)
        # A signal between fork and exec must not run the gateway's handlers.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            # Python 3.12 and later warn about forks beside threads; the code in the fork takes no locks.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                return _Program(
                    limits,
                    reactor,
                    os.fsencode(executable),
                    [os.fsencode(argument) for argument in argv],
                    {os.fsencode(key): os.fsencode(value) for key, value in env.items()},
                    None,
                    protocol,
                    childFDs={0: null, 1: "r", 2: "r", REPORT: "r"},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(null)

    return spawn


def reap_orphans() -> None:
    """Reap processes that programs left behind, if this process is PID 1, as in a container."""
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):  # there are no children
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in process.reapProcessHandlers:
                return  # a program, which Twisted waits for
            os.waitpid(ended.si_pid, 0)
