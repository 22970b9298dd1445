"""An entry's form in a store: what one process writes another reads, and garbage is ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingergw.cache.entry import Entry, digest
from fingergw.core.outcome import Answered, Freshness, Missing
from tests.support.cache_bench import (
    ETAG,
    entry_of,
    kept_for,
)


@pytest.mark.parametrize("seconds", [315360000.0, 2.0**31 - 1])
def test_what_is_kept_for_very_long_can_be_read_again(seconds: float) -> None:
    """The longest times that upstream and the configuration can say cross to another process."""
    said = Freshness(seconds, seconds, seconds, ETAG)
    entry = Entry.from_outcome(Answered("x", said), kept_for(1e9, 1e9, 1e9), 0.0)
    assert entry is not None
    read = Entry.loads(entry.dumps(), 0.0, 0.0)
    assert read is not None
    assert read.keep_until == entry.keep_until == 2 * seconds


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


TIMES = st.floats(-(2.0**32), 2.0**32)


ENTRIES = st.builds(
    Entry,
    outcome=st.one_of(
        st.builds(Missing),
        st.builds(Answered, TEXTS, st.builds(Freshness, validators=st.dictionaries(TEXTS, TEXTS, max_size=3))),
    ),
    since=st.just(0.0),
    fresh_until=TIMES,
    stale_until=TIMES,
    error_until=TIMES,
    keep_until=TIMES,
)


@given(ENTRIES, st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_entry_crosses(entry: Entry, age: int, now: int) -> None:
    """An entry is read as it was written, on the reader's clock, as old as it has become."""
    data = entry.dumps()
    again = Entry.loads(data, float(age), float(now))
    assert again is not None
    assert again.outcome == entry.outcome
    assert dict(again.validators) == dict(entry.validators)
    assert again.since == now - age
    for name in ("fresh_until", "stale_until", "error_until", "keep_until"):
        assert getattr(again, name) == pytest.approx(now - age + getattr(entry, name))
    assert again.digest == entry.digest == digest(data)
    assert again.retry_at == 0.0


def test_entries_that_say_the_same_are_still_two() -> None:
    """An answer that was given again is told from the one before."""
    entry = entry_of()
    assert entry.dumps() != entry.dumps()


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))


JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "version": st.one_of(st.just(1), JSON),
        "text": st.one_of(st.just("x"), JSON),
        "fresh": st.one_of(st.just(10.0), JSON),
        "stale": st.one_of(st.just(10.0), JSON),
        "error": st.one_of(st.just(10.0), JSON),
        "keep": st.one_of(st.just(10.0), JSON),
        "validators": st.one_of(st.just({}), JSON),
    },
)


def is_sane(entry: Entry) -> bool:
    """Tell whether an entry is one that the cache can use."""
    times = (entry.fresh_until, entry.stale_until, entry.error_until, entry.keep_until)
    return (
        all(type(time) is float and abs(time) < 1e10 for time in times)
        and isinstance(entry.outcome, Answered | Missing)
        and (isinstance(entry.outcome, Missing) or isinstance(entry.outcome.text, str))
        and all(type(text) is str for pair in entry.validators.items() for text in pair)
        and entry.measure("key") > 0
        and bool(entry.dumps())
    )


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=40), JSON.map(lambda value: json.dumps(value).encode()), st.just(b"9" * 5000)))
def test_garbage(data: bytes) -> None:
    """Whatever a store has, reading it raises nothing; what is no entry is none."""
    assert Entry.loads(data, 1.0, 1000.0) is None


@settings(max_examples=300)
@given(NEARLY)
def test_nearly_an_entry(value: dict[str, Any]) -> None:
    """What looks like an entry is one that can be used, or none."""
    entry = Entry.loads(json.dumps(value).encode(), 1.0, 1000.0)
    assert entry is None or is_sane(entry)


@given(ENTRIES, st.data())
def test_a_damaged_entry(entry: Entry, data: st.DataObject) -> None:
    """An entry with some of its bytes changed or cut is one that can be used, or none."""
    whole = bytearray(entry.dumps())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[place:]
    else:
        whole[place] = data.draw(st.integers(0, 255))
    read = Entry.loads(bytes(whole), 1.0, 1000.0)
    assert read is None or is_sane(read)
