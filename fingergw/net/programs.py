"""Programs of this machine, started within limits and in a session of their own."""

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
"""The file descriptor through which a process tells why it cannot become the program."""
_READ_BYTES = 8192
_PIPE_BYTES = 65536

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
        if not self.connected:
            return  # it was closed as what was left in it was too much
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
        report = self._descriptors[REPORT]
        try:
            super()._setupChild(self._descriptors)  # type: ignore[no-untyped-call]
            report = REPORT
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
                    childFDs={0: null, 1: "r", 2: "r", REPORT: "r"},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(null)

    return spawn


def reap_orphans() -> None:
    """Clear away what programs have left behind, where that falls to this process: as the first of a container."""
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):  # there are no children
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in process.reapProcessHandlers:
                return  # a program, which Twisted waits for
            os.waitpid(ended.si_pid, 0)
