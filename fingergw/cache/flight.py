"""One question to upstream, and all who wait for the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol

from attrs import define, field, frozen

from fingergw.core.outcome import Outcome


class Waiter(Protocol):
    """What waits for an outcome: a Deferred."""

    def callback(self, result: Any) -> None:
        """Go on with this."""

    def __await__(self) -> Generator[Any, None, Any]: ...


class Work(Protocol):
    """What is under way: a Deferred."""

    def cancel(self) -> None:
        """Stop it."""


@frozen
class Runtime:
    """What the cache runs on, so that it needs no Twisted.

    :param seconds: a clock that is never set back.
    :param spawn: begins a coroutine: ``Deferred.fromCoroutine``.
    :param waiter: makes something to wait for: ``Deferred``.
    :param sleep: waits so many seconds: ``deferLater``.
    :param cancelled: what is raised in a coroutine that is cancelled.
    """

    seconds: Callable[[], float]
    spawn: Callable[[Coroutine[Any, Any, None]], Work]
    waiter: Callable[[], Waiter]
    sleep: Callable[[float], Awaitable[object]]
    cancelled: tuple[type[BaseException], ...]


@define(eq=False)
class Flight:
    """One question to upstream.

    :param key: what it is about.
    :param in_background: whether it goes on when nobody waits.
    :param has_landed: whether the question is answered.
    """

    key: str
    in_background: bool
    has_landed: bool = False
    work: Work | None = None
    waiters: dict[Waiter, None] = field(factory=dict)

    def tell(self, outcome: Outcome) -> None:
        """Give an outcome to all who wait."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            waiter.callback(outcome)
