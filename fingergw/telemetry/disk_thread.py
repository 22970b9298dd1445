"""Do what a disk may hold up for ever, such as one across a network, in a thread that holds up nothing else."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReactorCore

_T = TypeVar("_T")


@define(eq=False, repr=False)
class DiskThread:
    """Do one thing at a time in a daemon thread, which neither the reactor nor the end of the process waits for.

    Until the reactor runs there is no thread, and things are done at once: a process that is yet to fork, or to give up
    its root and its user, must have none.

    :param reactor: an IReactorFromThreads; with one that only tells the time there never is a thread.
    """

    reactor: Any
    is_busy: bool = field(init=False, default=False)
    _thread: Thread | None = field(init=False, default=None)
    _to_do: SimpleQueue[Callable[[], Callable[[], object]] | None] = field(init=False, factory=SimpleQueue)
    _done: SimpleQueue[Callable[[], object]] = field(init=False, factory=SimpleQueue)

    def do(self, work: Callable[[], _T], then: Callable[[_T], object]) -> None:
        """Do something. This may be called only while it is not busy.

        :param work: called in the thread; it must not raise.
        :param then: called with the result, in the reactor's thread.
        """
        if not self._has_thread():
            then(work())
            return

        def run() -> Callable[[], object]:
            result = work()
            return lambda: then(result)

        self.is_busy = True
        self._to_do.put(run)

    def wait(self, seconds: float) -> bool:
        """Wait for what is being done, in the place of a reactor that runs no more; return whether it is done."""
        try:
            then = self._done.get(timeout=max(0.0, seconds))
        except Empty:
            return False
        self.is_busy = False
        then()
        return True

    def end(self) -> None:
        """End the thread, as soon as it is not busy. Nothing may be done after that."""
        if self._thread is not None:
            self._to_do.put(None)

    def _has_thread(self) -> bool:
        if self._thread is None and IReactorCore.providedBy(self.reactor) and self.reactor.running:
            thread = Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are too many threads; better the reactor waits than lines are lost
                return False
            self._thread = thread
        return self._thread is not None

    def _run(self) -> None:
        while (run := self._to_do.get()) is not None:
            self._done.put(run())
            self.reactor.callFromThread(self.wait, 0)
