"""Ways to wait with a deadline: in the reactor, without a reactor, and for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

reactor: Any = _reactor
DEADLINE_SECONDS = 20.0


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait in the reactor until a condition holds; fail at the deadline."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS:g} s")
        await deferLater(reactor, 0.01)


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait without a reactor until a condition holds; fail at the deadline."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS:g} s")
        time.sleep(0.02)


def in_thread(function: Callable[[], bytes]) -> Deferred[bytes]:
    """Run a blocking client beside the reactor."""
    done: Deferred[bytes] = Deferred()

    def work() -> None:
        try:
            result: object = function()
        except BaseException:  # for the test to see
            result = Failure()
        reactor.callFromThread(done.callback, result)

    threading.Thread(target=work, daemon=True).start()
    return done


def sync(awaitable: Awaitable[Any]) -> Any:
    """Run an awaitable that never needs the reactor, and return its result."""
    coroutine: Any = awaitable.__await__()
    try:
        next(coroutine)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")
