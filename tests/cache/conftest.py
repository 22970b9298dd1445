"""Fixtures of the cache's tests."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from fingergw.cache import cached_backend
from tests.support.cache_bench import FakeStore


@pytest.fixture(autouse=True)
def _no_refresh_raises(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which a refresh ends with an error, which nobody would see."""
    refreshes: list[Deferred[Any]] = []

    class Noted(Deferred[Any]):
        @classmethod
        def fromCoroutine(cls, coroutine: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:  # type: ignore[override]
            refreshes.append(Deferred.fromCoroutine(coroutine))
            return refreshes[-1]

    monkeypatch.setattr(cached_backend, "Deferred", Noted)
    yield
    assert [each.result for each in refreshes if isinstance(getattr(each, "result", None), Failure)] == []


@pytest.fixture(params=[False, True], ids=["at once", "in a moment"])
def store(request: pytest.FixtureRequest) -> FakeStore:
    """Return a store that replies immediately, and one that takes an iteration of the bench's clock."""
    return FakeStore(Clock() if request.param else None)  # make() gives it the bench's clock
