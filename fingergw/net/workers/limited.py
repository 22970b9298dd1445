"""Work that may take any time and memory, done in a process of its own within limits."""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOM_BYTES: Final = 32 << 20
"""The memory that work may take beyond what the process has already."""
_UNKNOWN_BYTES = 4 << 30  # more than a process has mapped, where the system does not say how much that is
_HANG_SECONDS = 10.0


class ExceededError(Exception):
    """The work took more time or memory than it may."""


def fork() -> int:
    """Fork, as :func:`os.fork` does; the child keeps no thread, and no signal is handled there as it is here."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # Python 3.12 warns beside threads
        pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return pid


def address_space_bytes() -> int | None:
    """Return how much memory this process has mapped; None where the system does not say, as in a chroot."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    return None


def limit(cpu_seconds: float, memory_bytes: int) -> None:
    """Limit this process from now on: it is killed after so much processor time, and can have so much memory.

    :param cpu_seconds: of user and system time.
    :param memory_bytes: of address space; what may be had in all.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def lift() -> None:
    """Take the limits off this process, as far as it was given none."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def run(work: Callable[[], bytes], cpu_seconds: float) -> bytes:
    """Return what some work comes to, done within limits in a process of its own; wait for that.

    :param work: what it raises is for it to catch, but for a MemoryError.
    :param cpu_seconds: of processor time.
    :raises ExceededError: it took more time, or more than :data:`ROOM_BYTES` of memory.
    :raises OSError: there can be no more processes, or descriptors.
    """
    reader, writer = os.pipe()
    try:
        pid = fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit(cpu_seconds, (address_space_bytes() or _UNKNOWN_BYTES) + ROOM_BYTES)
            signal.setitimer(signal.ITIMER_REAL, _HANG_SECONDS)  # for locks of threads that are not there any more
            result = work()
            lift()
            with os.fdopen(writer, "wb") as file:
                file.write(result)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        result = file.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise ExceededError
    return result
