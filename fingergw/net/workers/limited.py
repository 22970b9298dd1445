"""Run untrusted work in a forked process, within limits of time and memory."""

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
"""The memory that work may use beyond what the process has mapped already."""
_UNKNOWN_BYTES = 4 << 30  # more than a process has mapped, if /proc does not tell
_HANG_SECONDS = 10.0


class ExceededError(Exception):
    """The work exceeded its limit of time or memory."""


def fork() -> int:
    """Fork, with default signal handlers in the child."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # Python 3.12 warns about threads
        pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return pid


def address_space_bytes() -> int | None:
    """Return how much memory this process has mapped; None if /proc does not tell, as in a chroot."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    return None


def limit(cpu_seconds: float, memory_bytes: int) -> None:
    """Limit this process from now on.

    :param cpu_seconds: user and system time, after which it is killed.
    :param memory_bytes: address space in all.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def remove_limits() -> None:
    """Remove the limits of :func:`limit`."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def run(work: Callable[[], bytes], cpu_seconds: float, prepare: Callable[[], object] = lambda: None) -> bytes:
    """Run work in a forked process, within limits, and wait for its result.

    :param work: it must catch its exceptions, except MemoryError.
    :param cpu_seconds: processor time.
    :param prepare: called in that process before the limits begin.
    :raises ExceededError: it took more time, or more than :data:`ROOM_BYTES` of memory.
    :raises OSError: no process can be forked, or no pipe opened.
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
            signal.setitimer(signal.ITIMER_REAL, _HANG_SECONDS)  # locks may be held by threads that do not exist here
            prepare()
            limit(cpu_seconds, (address_space_bytes() or _UNKNOWN_BYTES) + ROOM_BYTES)
            result = work()
            remove_limits()
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
