"""Going into the background, while the process that was started waits to tell how that goes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from attrs import frozen
from twisted.internet.interfaces import IReactorDaemonize

from fingergw.app import signals
from fingergw.core.errors import FingergwError, PrivilegeError
from fingergw.core.text import printable

_LAST_STREAM = 2  # standard error
_STARTED, _FAILED, _REFUSED = b"started", b"failed", b"refused"


@frozen(eq=False, repr=False)
class Launcher:
    """The process that waits in the foreground, as the daemon knows it."""

    _pipe: int

    def started(self) -> None:
        """Let it end with success."""
        self._tell(_STARTED)

    def failed(self, why: str, *, is_refused: bool = False) -> None:
        """Have it print why the daemon does not start.

        :param is_refused: whether it is refused for the user or root that it would have, a :class:`PrivilegeError`.
        """
        self._tell((_REFUSED if is_refused else _FAILED) + b"\n" + printable(why, kept="\n").encode())

    def _tell(self, message: bytes) -> None:
        with suppress(BrokenPipeError), os.fdopen(self._pipe, "wb") as pipe:  # it may have been killed
            pipe.write(message)


def occupy_standard_streams() -> None:
    """Open /dev/null as each standard stream that is closed, as nothing else may have the number: a daemon closes it.

    Call it before anything is opened that a daemon keeps.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        pass
    os.close(opened)


def daemonize(reactor: Any, log: str) -> Launcher:
    """Go on in the background, as a daemon; the process that was started waits here, and passes on signals.

    :param log: what the daemon logs to, for the message if it is killed.
    :return: the process that was started; it waits until it is told something, or the daemon ends.
    :raises SystemExit: in the process that was started: the daemon runs.
    :raises FingergwError: likewise: the daemon did not start; or there is no room for another process.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # or both processes print what it holds
    has_hooks = IReactorDaemonize.providedBy(reactor)
    if has_hooks:
        reactor.beforeDaemonize()
    reading, writing = os.pipe()
    # a signal is the daemon's from here on, and waits until it is known which process that is
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ALL)
    try:
        child = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise FingergwError(f"cannot go into the background: {error.strerror}") from None
    if child:
        os.close(writing)
        _wait(reading, before, log)
    os.close(reading)
    os.setsid()
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    with suppress(BrokenPipeError):
        os.write(writing, b"%d\n" % os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(_LAST_STREAM + 1):
        os.dup2(nothing, standard)
    os.close(nothing)
    if has_hooks:
        reactor.afterDaemonize()
    return Launcher(writing)


def _wait(reading: int, mask: Iterable[int], log: str) -> NoReturn:
    """Wait for what the daemon tells, or for its end.

    :param mask: the signals to block from then on.
    :raises SystemExit: it has started.
    :raises FingergwError: it has not.
    """
    with os.fdopen(reading, "rb") as pipe:
        pid = pipe.readline()
        signals.drop()  # they wait in the daemon
        if pid:
            for number in signals.ALL:
                signals.add(partial(_pass_on, int(pid), number), number)
        signals.release()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        result, _, why = pipe.read().partition(b"\n")
    signals.ignore()  # one that comes late must not change the exit code
    if result == _STARTED:
        raise SystemExit(0)
    kind = PrivilegeError if result == _REFUSED else FingergwError
    text = why.decode(errors="replace") or f"it ended while it started, perhaps as it was killed; {log_advice(log)}"
    raise kind(f"the daemon did not start: {text}")


def log_advice(log: str) -> str:
    """Return the advice to look into a daemon's log."""
    return f"for more see its log: {log}"


def _pass_on(pid: int, number: int) -> None:
    with suppress(OSError):  # it has just ended, or become another user's
        os.kill(pid, number)
