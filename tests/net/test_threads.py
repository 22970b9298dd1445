"""Work in threads beside the reactor's."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from fingergw.net.threads import in_reactor, in_thread
from tests.support.waiting import DEADLINE_SECONDS, reactor


class ThreadTests(TestCase):
    """Work while the reactor runs."""

    timeout = 30

    async def test_reactor_turns_meanwhile(self) -> None:
        """Work that hangs leaves the reactor free; its result comes in the reactor's thread."""
        await deferLater(reactor, 0)
        over = threading.Event()
        waiting: Deferred[Any] = in_thread(reactor, lambda: over.wait(DEADLINE_SECONDS))
        waiting.addCallback(lambda found: (found, threading.current_thread()))
        await deferLater(reactor, 0)
        assert not waiting.called
        over.set()
        assert await waiting == (True, threading.current_thread())

    async def test_gives_way(self) -> None:
        """Work in Python lets the reactor turn, even if Python itself would not take turns before the work ends."""
        await deferLater(reactor, 0)
        has_turned: list[bool] = []

        def work() -> bool:
            deadline = time.monotonic() + DEADLINE_SECONDS / 2
            while not has_turned and time.monotonic() < deadline:
                pass
            return bool(has_turned)

        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(DEADLINE_SECONDS)
        working = in_thread(reactor, work)
        await deferLater(reactor, 0)
        has_turned.append(True)
        assert await working

    async def test_failure(self) -> None:
        """What the work raises is raised where it is awaited."""
        await deferLater(reactor, 0)
        with pytest.raises(ZeroDivisionError):
            await in_thread(reactor, lambda: 1 // 0)

    async def test_patience(self) -> None:
        """Work that is soon done is done when the call returns, if it is waited for."""
        await deferLater(reactor, 0)
        done: Deferred[int] = in_thread(reactor, lambda: 1, DEADLINE_SECONDS)
        assert done.called
        assert await done == 1

    async def test_in_reactor(self) -> None:
        """What touches the reactor is done in its thread, also where a thread asks for it."""
        await deferLater(reactor, 0)
        here = threading.current_thread()
        found = in_thread(reactor, lambda: (threading.current_thread(), in_reactor(reactor, threading.current_thread)))
        elsewhere, back = await found
        assert elsewhere is not here
        assert back is here
        assert in_reactor(reactor, threading.current_thread) is here


def test_without_a_running_reactor() -> None:
    """Where no reactor runs, the work is done when the call returns."""
    found: list[threading.Thread] = []
    in_thread(Clock(), threading.current_thread).addCallback(found.append)
    assert found == [threading.current_thread()]


class CrowdedTests(TestCase):
    """A process that may start no thread."""

    timeout = 30

    async def test_here_and_now(self) -> None:
        """The work is done all the same, by the reactor's own."""
        await deferLater(reactor, 0)

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", refuse)
        assert await in_thread(reactor, threading.current_thread) is threading.current_thread()
