"""Which queries have the same answer, and what of them a backend is told."""

from __future__ import annotations

from functools import partial

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from fingergw.cache.cached_backend import CachedBackend
from fingergw.cache.entry import Terms
from fingergw.cache.flight import Runtime
from fingergw.cache.keys import Inputs, keys
from fingergw.cache.memory import Memory
from fingergw.core.outcome import Answered, Ask
from fingergw.core.query import Query
from tests.support import sync
from tests.support.fakes import FakeBackend

QUERY = Query("moshez", ("h",), True, "main", "192.0.2.1", {"team": "red", "site": "north"})


def test_groups_are_its_own() -> None:
    """What one backend does to the groups that it is told is not what the next one is told."""
    query = Query("x", groups={"team": "a"})
    told = Inputs().of(query)
    told.groups["team"] = "b"  # type: ignore[index]  # as somebody else's may
    assert query.groups == {"team": "a"}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (Inputs(), Query("moshez", ("h",), groups={"team": "red", "site": "north"})),
        (Inputs(frozenset()), Query("", ("h",))),
        (Inputs(frozenset({"user"})), Query("moshez", ("h",))),
        (Inputs(frozenset({"team"})), Query("", ("h",), groups={"team": "red"})),
        (Inputs(frozenset({"user", "site", "other"})), Query("moshez", ("h",), groups={"site": "north"})),
        (Inputs(frozenset(), verbose=True), Query("", ("h",), True)),
        (Inputs(frozenset(), listener=True), Query("", ("h",), listener="main")),
        (Inputs(frozenset(), client=True), Query("", ("h",), client="192.0.2.1")),
        (Inputs(verbose=True, client=True, listener=True), QUERY),
    ],
)
def test_what_is_told(inputs: Inputs, told: Query) -> None:
    """A backend is told what its answers may depend on, and all else is blank."""
    assert inputs.of(QUERY) == told


@pytest.mark.parametrize(
    "other",
    [
        QUERY._replace(user="nail"),
        QUERY._replace(groups={"team": "red"}),
        QUERY._replace(groups={"team": "red", "site": "south"}),
        QUERY._replace(groups={"team": "north", "site": "red"}),
        QUERY._replace(groups={"team": "red", "place": "north"}),
        QUERY._replace(groups={}),
    ],
)
def test_name_and_all_groups(other: Query) -> None:
    """Where it is not known which are used, the name and each group count, by its name."""
    key = keys("x:", Inputs())
    assert key(other) != key(QUERY)
    assert key(other).startswith("x:")


def test_order_of_groups() -> None:
    """In which order a pattern has its groups does not count, nor does what a backend is not told."""
    key = keys("x:", Inputs())
    assert key(QUERY) == key(
        QUERY._replace(groups={"site": "north", "team": "red"}, verbose=False, client="", listener="")
    )


def cached(backend: FakeBackend, version: str, memory: Memory) -> tuple[CachedBackend, list[str]]:
    """Return a cache before a backend, and its version, which may be changed."""
    clock, versions = Clock(), [version]
    runtime = Runtime(clock.seconds, Deferred.fromCoroutine, Deferred, partial(deferLater, clock), (CancelledError,))
    ask: Ask = lambda query, _: backend.answer(query)  # noqa: E731
    terms = Terms(100.0, 100.0, 100.0)
    inputs = Inputs(frozenset({"user"}))
    made = CachedBackend(ask, inputs, "x:", lambda: versions[-1], terms, 5.0, memory, None, runtime, lambda _: None)
    return made, versions


def test_version() -> None:
    """With another version nothing is kept that was said before; with the one before, it still is."""
    backend = FakeBackend(Answered("old"))
    cache, versions = cached(backend, "1", Memory(100, 10**6))
    assert sync(cache.answer(Query("moshez"))) == Answered("old")
    backend.says = Answered("new")
    assert sync(cache.answer(Query("moshez"))) == Answered("old")
    versions.append("2")
    assert cache.state(Query("moshez")) == ("absent", None)
    assert sync(cache.answer(Query("moshez"))) == Answered("new")
    versions.append("1")
    assert sync(cache.answer(Query("moshez"))) == Answered("old")
    assert len(backend.queries) == 2


def test_names_are_not_versions() -> None:
    """No name can be taken for another one with a version."""
    memory = Memory(100, 10**6)
    for version, name in (("1", "moshez"), ("", "moshez1"), ("z1", "moshe")):
        backend = FakeBackend(Answered(name + version))
        assert sync(cached(backend, version, memory)[0].answer(Query(name))) == backend.says
