"""Which queries share an answer, and what of a query a backend is told."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fingergw.cache.keys import Inputs, keys
from fingergw.cache.memory import Memory
from fingergw.core.outcome import Answered
from fingergw.core.query import Query
from tests.support.cache_bench import (
    EVERYTHING,
    NEW,
    OLD,
    in_memory,
    make,
)

FULL = Query("moshez", ("h",), True, "main", "192.0.2.1", {"team": "red", "site": "north"})


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
        (Inputs(verbose=True, client=True, listener=True), FULL),
    ],
)
def test_what_is_told(inputs: Inputs, told: Query) -> None:
    """A backend is told what its answers may depend on, and all else is blank."""
    assert inputs.of(FULL) == told


@pytest.mark.parametrize(
    "other",
    [
        FULL._replace(user="nail"),
        FULL._replace(groups={"team": "red"}),
        FULL._replace(groups={"team": "red", "site": "south"}),
        FULL._replace(groups={"team": "north", "site": "red"}),
        FULL._replace(groups={"team": "red", "place": "north"}),
        FULL._replace(groups={}),
    ],
)
def test_name_and_all_groups(other: Query) -> None:
    """Where it is not known which are used, the name and each group count, by its name."""
    key = keys("x:", Inputs())
    assert key(other) != key(FULL)
    assert key(other).startswith("x:")


def test_order_of_groups() -> None:
    """In which order a pattern has its groups does not count, nor does what a backend is not told."""
    key = keys("x:", Inputs())
    assert key(FULL) == key(
        FULL._replace(groups={"site": "north", "team": "red"}, verbose=False, client="", listener="")
    )


def test_version() -> None:
    """After a change of version no answer is cached; after the change is undone, the old one is."""
    versions = ["1"]
    bench = make(OLD, version=lambda: versions[-1])
    assert bench.at_once() == OLD
    bench.upstream.says = NEW
    assert bench.at_once() == OLD
    versions.append("2")
    assert in_memory(bench.cache) == ("absent", None)
    assert bench.at_once() == NEW
    versions.append("1")
    assert bench.at_once() == OLD
    assert bench.count == 2


def test_names_are_not_versions() -> None:
    """No name can be mistaken for another name with a version."""
    memory = Memory(100, 10**6)
    for version, name in (("1", "moshez"), ("", "moshez1"), ("z1", "moshe")):
        outcome = Answered(name + version)
        bench = make(outcome, version=partial(str, version), memory=memory)
        assert bench.at_once(Query(name)) == outcome


# as the cache uses them


def other(**changes: Any) -> Query:
    """Return a query that differs from another in one thing."""
    return Query("moshez", ("h",), False, "main", "192.0.2.1", {"team": "red"})._replace(**changes)


DIFFERENCES: dict[str, tuple[dict[str, Any], Inputs]] = {
    "user": ({"user": "glyph"}, Inputs(frozenset({"user"}))),
    "group": ({"groups": {"team": "blue"}}, Inputs(frozenset({"team"}))),
    "empty group": ({"groups": {"team": ""}}, Inputs(frozenset({"team"}))),
    "no group": ({"groups": {}}, Inputs(frozenset({"team"}))),
    "verbose": ({"verbose": True}, Inputs(frozenset(), verbose=True)),
    "client": ({"client": "192.0.2.2"}, Inputs(frozenset(), client=True)),
    "listener": ({"listener": "tls"}, Inputs(frozenset(), listener=True)),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_a_backend_uses_is_in_the_key(what: str) -> None:
    """Two queries that differ in what a backend is told have an answer each, which both are found again."""
    changes, inputs = DIFFERENCES[what]
    for used in (inputs, EVERYTHING):
        bench = make(OLD, inputs=used)
        assert bench.at_once(other()) == OLD
        bench.upstream.says = NEW
        assert bench.at_once(other(**changes)) == NEW
        assert bench.at_once(other()) == OLD
        assert bench.at_once(other(**changes)) == NEW


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_a_backend_does_not_use_is_not_in_the_key(what: str) -> None:
    """Two queries that differ only in what a backend is not told share an answer."""
    changes, used = DIFFERENCES[what]
    assert used.placeholders is not None
    inputs = Inputs(
        frozenset({"user", "team"}) - used.placeholders,
        verbose=not used.verbose,
        client=not used.client,
        listener=not used.listener,
    )
    for unused in (inputs, Inputs(frozenset())):
        bench = make(OLD, inputs=unused)
        assert bench.at_once(other()) == OLD
        bench.upstream.says = NEW
        assert bench.at_once(other(**changes)) == OLD


def test_an_empty_group_is_not_an_absent_one() -> None:
    """A route without a group, and one whose group matched nothing, do not share an answer."""
    bench = make(OLD, inputs=Inputs(frozenset({"user", "team"})))
    assert bench.at_once(Query("u", groups={"team": ""})) == OLD
    bench.upstream.says = NEW
    assert bench.at_once(Query("u")) == NEW


def test_other_hosts_share_an_answer() -> None:
    """Hosts are nothing that a backend is asked by."""
    bench = make(OLD, inputs=EVERYTHING)
    bench.at_once(other())
    bench.at_once(other(hosts=("elsewhere",)))
    assert bench.count == 1


def test_backends_do_not_share_answers() -> None:
    """Two backends that use the same memory have an answer each for the same query."""
    memory = Memory(100, 10**6)
    for prefix, outcome in (("a:", OLD), ("b:", NEW)):
        assert make(outcome, memory=memory, prefix=prefix).at_once() == outcome
    assert make(None, memory=memory, prefix="a:").at_once() == OLD


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=3)


INPUTS = st.builds(
    Inputs,
    placeholders=st.none() | st.frozensets(st.sampled_from(["user", "a", "b"])),
    verbose=st.booleans(),
    client=st.booleans(),
    listener=st.booleans(),
)


QUERIES = st.builds(
    Query,
    user=NAMES,
    verbose=st.booleans(),
    listener=NAMES,
    client=NAMES,
    groups=st.dictionaries(st.sampled_from(["a", "b"]), NAMES),
)


def used_of(query: Query, inputs: Inputs) -> tuple[Any, ...]:
    """Return what of a query a backend is told, said otherwise than the code says it."""
    return (
        {
            name: value
            for name, value in query.placeholders.items()
            if inputs.placeholders is None or name in inputs.placeholders
        },
        query.verbose if inputs.verbose else None,
        query.client if inputs.client else None,
        query.listener if inputs.listener else None,
    )


@settings(max_examples=150)
@given(INPUTS, QUERIES, QUERIES)
def test_queries_share_an_answer_exactly_when_the_backend_cannot_tell_them_apart(
    inputs: Inputs, one: Query, two: Query
) -> None:
    """The key is all that can change the answer, and nothing more."""
    bench = make(OLD, inputs=inputs)
    bench.at_once(one)
    bench.at_once(two)
    assert (bench.count == 1) == (used_of(one, inputs) == used_of(two, inputs))


@pytest.mark.parametrize("what", ["verbose", "client", "listener"])
def test_what_is_not_in_the_key_is_not_told(what: str) -> None:
    """A backend that could use what the key leaves out is not told, so that one client's answer is no other's."""
    changes: dict[str, Any] = {what: False}
    left_out = evolve(EVERYTHING, **changes)
    bench = make(OLD, inputs=left_out)
    query = other(verbose=True)
    bench.at_once(query)
    (asked,) = bench.upstream.asked
    assert not getattr(asked, what)
    assert asked == query._replace(**{what: getattr(asked, what)})
