"""What all that ask elsewhere have in common: a time to do it in."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.outcome import Failed

T = TypeVar("T")


def within(timeout: float, clock: IReactorTime, asking: Coroutine[Deferred[Any], Any, T]) -> Deferred[T | Failed]:
    """Begin to ask, and give it up when its time is over.

    :param timeout: in seconds.
    :param asking: cancelled at the end of its time, and where what is returned is.
    :return: fires with what it says, or with Failed if it is not done by then.
    """
    work: Deferred[T | Failed] = Deferred.fromCoroutine(asking)
    return work.addTimeout(timeout, clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))
