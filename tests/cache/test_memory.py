"""The entries in memory: which are evicted, and when."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingergw.cache.memory import Memory
from fingergw.cache.shares import Owner
from fingergw.core.outcome import Answered, Missing
from tests.support.cache_bench import EPSILON, NOBODY, OLD, entry_of
from tests.support.flooding import ONCALL, floods


def test_the_least_recently_used_goes() -> None:
    """Of too many entries of one client, those go that were not used for longest; to find one is to use it."""
    memory = Memory(10, 10**6)  # nine, and one that is missing
    for number in range(9):
        memory.put(f"k{number}", entry_of(), 0.0, NOBODY)
    memory.get("k0")
    memory.put("k9", entry_of(), 0.0, NOBODY)
    assert [number for number in range(10) if memory.get(f"k{number}") is None] == [1]


def test_peek() -> None:
    """To look at an entry is not to use it."""
    memory = Memory(10, 10**6)
    entries = [*(entry_of() for _ in range(9)), entry_of(Missing())]
    for number, entry in enumerate(entries):
        memory.put(f"k{number}", entry, 0.0, NOBODY)
    assert [memory.peek(f"k{number}") for number in range(11)] == [*entries, None]
    memory.peek("k0")
    memory.put("k11", entry_of(), 0.0, NOBODY)
    assert memory.peek("k0") is None


def test_bytes_are_bounded() -> None:
    """When one client's entries take too much, the least recently used go."""
    size = entry_of(Answered("x" * 10_000)).measure("k0")
    memory = Memory(10**6, int(3.5 * size / 0.9))
    for number in range(5):
        memory.put(f"k{number}", entry_of(Answered("x" * 10_000)), 0.0, NOBODY)
    assert [number for number in range(5) if memory.get(f"k{number}") is not None] == [2, 3, 4]
    assert memory.bytes == 3 * size


def test_what_is_larger_than_all_is_not_kept() -> None:
    """What does not fit is not kept, and what was there of its key goes."""
    memory = Memory(100, 100_000)
    memory.put("k", entry_of(), 0.0, NOBODY)
    memory.put("k", entry_of(Answered("x" * 100_000)), 0.0, NOBODY)
    assert (memory.get("k"), memory.entries, memory.bytes) == (None, 0, 0)


def test_what_is_larger_than_all_does_not_push_out_the_others() -> None:
    """An answer that cannot be kept costs no other its place."""
    memory = Memory(100, 100_000)
    memory.put("k", entry_of(), 0.0, NOBODY)
    memory.put("large", entry_of(Answered("x" * 100_000)), 0.0, NOBODY)
    assert memory.get("large") is None
    assert memory.get("k") is not None


def test_a_flood_of_invented_names() -> None:
    """Names that do not exist push out each other, never those that do."""
    memory = Memory(100, 10**6)
    for number in range(90):
        memory.put(f"k{number}", entry_of(), 0.0, NOBODY)
    for number in range(1000):
        memory.put(f"invented{number}", entry_of(Missing()), 0.0, NOBODY)
    assert all(memory.get(f"k{number}") is not None for number in range(90))
    assert memory.entries == 100


def test_a_flood_of_long_invented_names() -> None:
    """So it is where it is bytes that there are too few of."""
    memory = Memory(10**6, 100_000)
    size = entry_of().measure("k0")
    count = int(0.9 * 100_000 / size)
    for number in range(count):
        memory.put(f"k{number}"[:2], entry_of(), 0.0, NOBODY)
    kept = memory.entries
    for number in range(1000):
        memory.put(f"{number:0500}", entry_of(Missing()), 0.0, NOBODY)
    assert all(memory.get(f"k{number}"[:2]) is not None for number in range(count))
    assert memory.bytes <= 100_000
    assert memory.entries > kept


@pytest.mark.parametrize("case", floods(0))
def test_a_flood_by_one_client(case: str) -> None:
    """However many answers one client asks for, they push out each other, and nobody else's."""
    memory = Memory(10_000, 2**26)
    for key, owner in floods(9600)[case]:
        memory.put(key, entry_of(), 0.0, owner)
    assert memory.get(ONCALL) is not None
    assert memory.entries == 9000


@pytest.mark.parametrize("kind", [OLD, Missing()])
def test_what_others_hold_stays(kind: Answered | Missing) -> None:
    """Answers have shares, and names that do not exist have shares of their own."""
    memory = Memory(100, 2**26)
    for number in range(5):
        memory.put(f"k{number}", entry_of(kind), 0.0, Owner("people", f"client {number}"))
    for number in range(1000):
        memory.put(f"invented{number}", entry_of(kind), 0.0, Owner("people", "flooder"))
    assert all(memory.get(f"k{number}") is not None for number in range(5))


def test_large_answers_of_one_client() -> None:
    """So it is where it is bytes that there are too few of."""
    memory = Memory(10**6, 200_000)
    memory.put("k", entry_of(), 0.0, Owner("people", "client"))
    for number in range(100):
        memory.put(f"large{number}", entry_of(Answered("x" * 10_000)), 0.0, Owner("people", "flooder"))
    assert memory.get("k") is not None
    assert 150_000 < memory.bytes <= 180_000


def test_resize() -> None:
    """Lower bounds take from who holds most, of both kinds."""
    memory = Memory(100, 10**6)
    for number in range(90):
        memory.put(f"k{number}", entry_of(), 0.0, Owner("people", "much" if number >= 10 else "little"))
    for number in range(10):
        memory.put(f"m{number}", entry_of(Missing()), 0.0, Owner("people", "much" if number >= 1 else "little"))
    memory.resize(30, 10**6)
    assert [number for number in range(90) if memory.get(f"k{number}") is not None] == [*range(10), *range(73, 90)]
    assert [number for number in range(10) if memory.get(f"m{number}") is not None] == [0, 8, 9]


def test_a_name_is_in_one_part() -> None:
    """A name that comes to exist, or to be gone, takes its own place only."""
    memory = Memory(100, 10**6)
    for outcome in (OLD, Missing(), OLD):
        memory.put("k", entry_of(outcome), 0.0, NOBODY)
        entry = memory.get("k")
        assert entry is not None
        assert entry.outcome == outcome
        assert (memory.entries, memory.bytes) == (1, entry.measure("k"))


def test_sweep() -> None:
    """Entries beyond everything go by themselves, at most a minute after the next one is put."""
    memory = Memory(100, 10**6)
    memory.put("missing", entry_of(Missing(), 100.0), 100.0 - 60.0, NOBODY)
    memory.put("answered", entry_of(OLD, 100.0), 100.0 - 60.0, NOBODY)
    memory.put("later", entry_of(OLD, 100.0 + EPSILON), 100.0 - EPSILON, NOBODY)
    memory.put("new", entry_of(), 100.0 + 60.0, NOBODY)
    assert memory.entries == 1
    assert memory.get("new") is not None
    assert memory.bytes == entry_of().measure("new")


def test_sweep_keeps_what_is_of_use() -> None:
    """What may still be served stays; exactly at its end it goes."""
    memory = Memory(100, 10**6)
    memory.put("over", entry_of(OLD, 500.0), 0.0, NOBODY)
    memory.put("useful", entry_of(OLD, 500.0 + EPSILON), 0.0, NOBODY)
    memory.put("new", entry_of(), 500.0, NOBODY)
    assert (memory.get("over"), memory.get("useful") is not None) == (None, True)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "drop"]),
        st.sampled_from(["a", "bb", "ccc", "dddd", "eeeee", "f"]),
        st.one_of(st.none(), st.integers(0, 1500)),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(MOVES)
def test_memory_against_a_model(moves: list[tuple[str, str, int | None]]) -> None:
    """Whatever is put, found and dropped: what is there, in which order it goes, and what it takes."""
    memory = Memory(6, 12_500)  # five answers of 11,250 bytes, and one Missing of 1250
    answered, missing = OrderedDict[str, int](), OrderedDict[str, int]()
    for move, key, size in moves:
        if move == "put":
            entry = entry_of(Missing() if size is None else Answered("x" * size))
            memory.put(key, entry, 0.0, NOBODY)
            answered.pop(key, None)
            missing.pop(key, None)
            (missing if size is None else answered)[key] = entry.measure(key)
            for model, entries, total in ((answered, 5, 11_250), (missing, 1, 1250)):
                while len(model) > entries or sum(model.values()) > total:
                    model.popitem(last=False)
        elif move == "get":
            assert (memory.get(key) is not None) == (key in answered or key in missing)
            for model in (answered, missing):
                if key in model:
                    model.move_to_end(key)
        else:
            memory.drop(key)
            answered.pop(key, None)
            missing.pop(key, None)
        assert memory.entries == len(answered) + len(missing)
        assert memory.bytes == sum(answered.values()) + sum(missing.values())
    for bound in (4, 3, 2):  # which shrinks the answers one by one, and shows their order
        memory.resize(bound, 12_500)
        while len(answered) > bound - 1:
            answered.popitem(last=False)
        assert memory.bytes == sum(answered.values()) + sum(missing.values())
    assert all(memory.get(key) is not None for key in (*answered, *missing))
