"""Equal shares: which entry goes first."""

from __future__ import annotations

import time
from collections import Counter
from fractions import Fraction

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from fingergw.cache.shares import Owner, Shares
from tests.support.flooding import ONCALL, floods
from tests.support.memory import traced

ONE, TWO, THREE = (Owner("people", client) for client in ("one", "two", "three"))
OTHER = Owner("rota", "one")


def put(shares: Shares[str, None], key: str, owner: Owner, size: int = 1) -> list[str]:
    """Put an entry, make room for it, and return what has gone."""
    shares.put(key, None, size, owner)
    return shares.evict()


def held(shares: Shares[str, None]) -> Counter[Owner]:
    """Return how many entries each owner has."""
    return Counter(item.owner for item in shares.items.values())


def test_the_least_recently_used_of_a_client_goes() -> None:
    """Of one client's entries the one goes that was neither put nor used for longest."""
    shares: Shares[str, None] = Shares(3, 1000)
    for key in "abc":
        put(shares, key, ONE)
    shares.touch("a")
    put(shares, "b", ONE)
    assert [put(shares, key, ONE) for key in "def"] == [["c"], ["a"], ["b"]]


def test_what_is_used_is_returned() -> None:
    """To use an entry returns its value, None if there is none."""
    shares: Shares[str, str] = Shares(3, 1000)
    shares.put("a", "old", 1, ONE)
    shares.put("a", "new", 1, ONE)
    assert (shares.touch("a"), shares.touch("b")) == ("new", None)


@pytest.mark.parametrize("case", floods(0))
def test_a_flood(case: str) -> None:
    """Whatever one client asks for, what others have asked for stays."""
    shares: Shares[str, None] = Shares(900, 10**9)
    for key, owner in floods(960)[case]:
        put(shares, key, owner)
    assert ONCALL in shares.items
    assert len(shares.items) == 900


def test_backends_share() -> None:
    """Two backends get half each, however many clients ask the one, and whichever comes first."""
    for first, then in (("people", "rota"), ("rota", "people")):
        shares: Shares[str, None] = Shares(100, 10**9)
        for number in range(200):
            put(shares, f"{first} {number}", Owner(first, f"client {number}"))
        assert len(shares.items) == 100
        for number in range(200):
            put(shares, f"{then} {number}", Owner(then, "client"))
        assert Counter(owner.backend for owner in held(shares).elements()) == {"people": 50, "rota": 50}


def test_clients_share_what_their_backend_has() -> None:
    """Who needs less than an equal share keeps all of it; the others share the rest."""
    shares: Shares[str, None] = Shares(100, 10**9)
    for number in range(200):
        for client, wanted in (("much", 200), ("more", 200), ("little", 10)):
            if number < wanted:
                put(shares, f"{client} {number}", Owner("people", client))
    assert held(shares) == {
        Owner("people", "much"): 45,
        Owner("people", "more"): 45,
        Owner("people", "little"): 10,
    }


def test_bytes_count() -> None:
    """Where it is bytes that there are too few of, who has most of them loses first, and as much as it takes."""
    shares: Shares[str, None] = Shares(10**6, 100)
    for key in "abcdefgh":
        put(shares, key, ONE, 5)
    put(shares, "large", TWO, 50)
    assert put(shares, "i", THREE, 11) == ["large"]
    assert put(shares, "j", OTHER, 40) == []
    assert put(shares, "k", THREE, 18) == ["a", "b"]


def test_both_bounds_count() -> None:
    """Half of the entries weighs as much as half of the bytes."""
    for bytes_left, goes in ((4, "a0"), (6, "large")):
        shares: Shares[str, None] = Shares(10, 1000)
        for number in range(6):
            put(shares, f"a{number}", ONE)
        put(shares, "large", TWO, 400 + 100 * (bytes_left - 4))
        assert [shares.items[key].owner for key in ("a0", "large")] == [ONE, TWO]
        for number in range(3):
            put(shares, f"b{number}", OTHER)
        assert put(shares, "b3", OTHER) == [goes]


def test_of_equals_the_one_goes_that_asked_longest_ago() -> None:
    """With an entry for each client, however long, the client goes that has not added one for longest."""
    shares: Shares[str, None] = Shares(3, 3000)
    sizes = dict(zip("abcdyz", (1, 900, 70, 900, 1, 300), strict=True))
    for key in "bcab":
        shares.drop(key)
        put(shares, key, Owner("people", key), sizes[key])
    assert [put(shares, key, Owner("people", key), sizes[key]) for key in "zdy"] == [["c"], ["a"], ["b"]]


def test_an_entry_that_several_have_asked_for() -> None:
    """It counts to the one of the last two who asked that holds less beside it."""
    shares: Shares[str, None] = Shares(100, 1000)
    for key, owner in (("a", ONE), ("b", TWO), ("c", TWO)):
        put(shares, key, owner)
    counted = []
    for owner in (TWO, ONE, TWO, THREE, TWO):
        put(shares, "key", owner)
        counted.append(shares.items["key"].owner)
    assert counted == [TWO, ONE, ONE, THREE, THREE]


def test_an_entry_that_another_backend_replaces() -> None:
    """It counts to who has put it, as nothing of it is the other's."""
    shares: Shares[str, None] = Shares(100, 1000)
    put(shares, "key", ONE)
    put(shares, "other", OTHER)
    put(shares, "key", OTHER)
    assert held(shares) == {OTHER: 2}


def test_resize() -> None:
    """New bounds change what weighs how much, and what is beyond them goes."""
    shares: Shares[str, None] = Shares(10, 10**6)
    for key in "abcd":
        put(shares, key, ONE)
    put(shares, "large", TWO, 100)
    shares.resize(4, 10**6)
    assert shares.evict() == ["a"]
    shares.resize(10, 102)
    assert shares.evict() == ["large"]


def test_memory_is_bounded() -> None:
    """Entries that come and go leave nothing behind."""
    shares: Shares[int, None] = Shares(50, 10**6)
    with traced() as held_bytes:
        for number in range(1000):
            shares.put(number, None, 1, Owner(f"backend {number % 7}", f"client {number}"))
            shares.evict()
        before = held_bytes()
        for number in range(1000, 20_000):
            shares.put(number, None, 1, Owner(f"backend {number % 7}", f"client {number}"))
            shares.evict()
            shares.drop(number - 3)
        assert held_bytes() < 2 * before


def test_many_clients_cost_no_more() -> None:
    """What goes is found without looking at all clients."""

    def seconds(clients: int) -> float:
        shares: Shares[int, None] = Shares(clients, 10**9)
        for number in range(clients):
            shares.put(number, None, 1, Owner("people", f"client {number}"))
        start = time.thread_time()
        for number in range(clients, clients + 1000):
            shares.put(number, None, 1, Owner("people", f"client {number % 50}"))
            shares.evict()
        return time.thread_time() - start

    assert min(seconds(20_000) for _ in range(3)) < 20 * min(seconds(100) for _ in range(3))


@define
class Kept:
    """An entry of the model."""

    key: str
    size: int
    owner: Owner
    other: Owner


@define
class Model:
    """What shares are: a list of entries, those that go first at the front, and who was added to when."""

    max_entries: int
    max_bytes: int
    kept: list[Kept] = field(factory=list)
    added: dict[str | Owner, int] = field(factory=dict)

    def find(self, key: str) -> Kept | None:
        """Return the entry of a key."""
        return next((each for each in self.kept if each.key == key), None)

    def weight(self, kept: list[Kept]) -> Fraction:
        """Return what some entries weigh together: their parts of the bounds."""
        return sum((Fraction(each.size, self.max_bytes) + Fraction(1, self.max_entries) for each in kept), Fraction())

    def units(self, owner: str | Owner) -> int:
        """Return how many average entries that is."""
        return int(self.held_by(owner) * self.max_entries)

    def held_by(self, owner: str | Owner) -> Fraction:
        """Return what a backend, or a client of one, holds."""
        return self.weight([each for each in self.kept if owner in (each.owner, each.owner.backend)])

    def count(self, *owners: str | Owner) -> None:
        """Note that something is added to somebody."""
        for owner in owners:
            self.added[owner] = max(self.added.values(), default=0) + 1

    def put(self, key: str, size: int, owner: Owner) -> None:
        """Put an entry, last of all."""
        old, owners = self.find(key), [owner, owner]
        if old is not None:
            self.kept.remove(old)
            if old.owner.backend == owner.backend:
                owners = [old.owner, old.other if owner == old.owner else owner]
        if self.held_by(owners[1]) < self.held_by(owners[0]):
            owners.reverse()
        self.kept.append(Kept(key, size, *owners))
        self.count(owners[0], owner.backend)

    def touch(self, key: str) -> None:
        """Use an entry."""
        self.kept.sort(key=lambda each: each.key == key)

    def drop(self, key: str) -> None:
        """Drop an entry."""
        self.kept = [each for each in self.kept if each.key != key]

    def evict(self) -> list[str]:
        """Drop what goes, and return the keys."""
        gone = []
        while len(self.kept) > self.max_entries or sum(each.size for each in self.kept) > self.max_bytes:
            backends = {each.owner.backend for each in self.kept}
            backend = max(backends, key=lambda name: (self.units(name), -self.added[name]))
            owners = {each.owner for each in self.kept if each.owner.backend == backend}
            owner = max(owners, key=lambda each: (self.units(each), -self.added[each]))
            first = next(each for each in self.kept if each.owner == owner)
            self.kept.remove(first)
            if self.held_by(first.other) < self.held_by(owner):  # both without it
                first.owner, first.other = first.other, first.owner
                self.kept.insert(0, first)
                self.count(first.owner)
            else:
                gone.append(first.key)
        return gone


KEYS = st.sampled_from("abcdefgh")
OWNERS = st.builds(Owner, st.sampled_from(["people", "people", "rota"]), st.sampled_from(["one", "two", "three"]))
BOUNDS = st.tuples(st.integers(1, 6), st.integers(1, 30))
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 9), OWNERS),
        st.tuples(st.just("put"), KEYS, st.integers(0, 9), OWNERS),
        st.tuples(st.just("touch"), KEYS),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("resize"), BOUNDS),
    ),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(BOUNDS, MOVES)
def test_shares_against_a_model(bounds: tuple[int, int], moves: list[tuple[object, ...]]) -> None:
    """Whatever is put, used, dropped and resized: what goes, in which order, and whom the rest counts to."""
    shares: Shares[str, str] = Shares(*bounds)
    model = Model(*bounds)
    for move in moves:
        match move:
            case ("put", str(key), int(size), Owner() as owner):
                shares.put(key, key, size, owner)
                model.put(key, size, owner)
            case ("touch", str(key)):
                assert shares.touch(key) == (None if model.find(key) is None else key)
                model.touch(key)
            case ("drop", str(key)):
                shares.drop(key)
                model.drop(key)
            case ("resize", (int(max_entries), int(max_bytes))):
                shares.resize(max_entries, max_bytes)
                model.max_entries, model.max_bytes = max_entries, max_bytes
        assert shares.evict() == model.evict()
        expected = {each.key: (each.size, each.owner, each.other) for each in model.kept}
        assert {key: (item.size, item.owner, item.other) for key, item in shares.items.items()} == expected
        assert shares.bytes == sum(each.size for each in model.kept)
    shares.resize(1, 1)  # one by one, which shows the order
    model.max_entries = model.max_bytes = 1
    assert shares.evict() == model.evict()
