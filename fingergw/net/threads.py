"""Work that takes long, or hangs with a disk, in threads beside the reactor's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

T = TypeVar("T")
_here = threading.local()
# A thread that computes may take Python's lock at each of the reactor's system calls, some 400 for 64 queries, and keep
# it for sys.getswitchinterval(), or until it rests. After that it waits for the lock, that long if others want it.
_WORK_SECONDS = 0.0005
_REST_SECONDS = 0.001


class Run(Protocol):
    """Run work, here or elsewhere."""

    def __call__(self, work: Callable[[], T], patience_seconds: float = 0.0, /) -> Deferred[T]:
        """Run it; the Deferred fires in the thread that called, perhaps at once."""


def at_once(work: Callable[[], T], _patience_seconds: float = 0.0, /) -> Deferred[T]:
    """Run work here and now.

    :return: has fired with its result, or with the failure that it raised.
    """
    return maybeDeferred(work)


def in_thread(reactor: Any, work: Callable[[], T], patience_seconds: float = 0.0) -> Deferred[T]:
    """Run work in a daemon thread of its own: one that hangs delays no other work, no stop, and no end of the process.

    It takes longer there, as it gives way to the reactor all the time, but for within a single call of what is written
    in C. Where the reactor does not run, as at a start, and where no thread can be started, the work runs here and now.

    :param reactor: an IReactorFromThreads and IReactorCore.
    :param work: touches neither the reactor nor anything that others change.
    :param patience_seconds: for so long the reactor may be held up to wait for it.
    :return: fires in the reactor with its result, or with the failure that it raised.
    """
    if not getattr(reactor, "running", False):
        return at_once(work)
    fired: Deferred[T] = Deferred()
    ended = threading.Event()
    results: list[Any] = []

    def run() -> None:
        _here.is_beside_reactor = True
        if sys.getprofile() is None:  # otherwise somebody looks where time goes, and wants all of it
            sys.setprofile(_give_way(time.perf_counter() + patience_seconds + _WORK_SECONDS))
        try:
            results.append(work())
        except BaseException:  # for the caller to see
            results.append(Failure())
        ended.set()
        reactor.callFromThread(fire)

    def fire() -> None:
        if not fired.called:
            fired.callback(results.pop())

    try:
        threading.Thread(target=run, name=getattr(work, "__name__", "work"), daemon=True).start()
    except RuntimeError:  # the process has too many
        return at_once(work)
    if patience_seconds and ended.wait(patience_seconds):
        fire()
    return fired


def _give_way(rests_at: float) -> Callable[[FrameType, str, object], None]:
    """Return a profile function, which Python calls whenever the thread calls a function or returns from one: it rests.

    So libraries give way, too, which know nothing of it. While the main thread, which is the reactor's, has nothing to
    do, there is no rest.

    :param rests_at: when to rest first, by ``time.perf_counter``.
    """
    seconds, rest, used_until = time.perf_counter, time.sleep, 0.0
    reactor_clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)

    def look(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal rests_at, used_until
        if seconds() >= rests_at:
            used = time.clock_gettime(reactor_clock)
            if used > used_until:
                rest(_REST_SECONDS)
                used_until = time.clock_gettime(reactor_clock)
            rests_at = seconds() + _WORK_SECONDS

    return look


def in_reactor(reactor: Any, work: Callable[[], T]) -> T:
    """Run what touches the reactor in its thread, and wait for that: here and now unless this is in :func:`in_thread`.

    :return: its result.
    """
    if getattr(_here, "is_beside_reactor", False):
        found: T = blockingCallFromThread(reactor, work)
        return found
    return work()
