"""Work that takes long, or hangs with a disk, in threads beside the reactor's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

T = TypeVar("T")
_here = threading.local()


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

    Where the reactor does not run, as at a start, and where no thread can be started, the work runs here and now.

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


def in_reactor(reactor: Any, work: Callable[[], T]) -> T:
    """Run what touches the reactor in its thread, and wait for that: here and now unless this is in :func:`in_thread`.

    :return: its result.
    """
    if getattr(_here, "is_beside_reactor", False):
        found: T = blockingCallFromThread(reactor, work)
        return found
    return work()
