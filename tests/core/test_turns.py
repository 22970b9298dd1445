"""Places go round by client."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fingergw.core.turns import Payers, Turns, payer
from tests.support.memory import traced

CLIENTS = st.sampled_from("abcd")


def waiting(*clients: str, places: int = 1) -> Turns[str]:
    """Return places that are all taken, with one that waits for each client: ``a0``, ``a1`` for two of ``a``."""
    turns: Turns[str] = Turns(places)
    for _ in range(places):
        assert turns.take()
    for place, client in enumerate(clients):
        turns.wait(f"{client}{clients[:place].count(client)}", Payers([client]))
    return turns


def order(turns: Turns[str]) -> list[str]:
    """Give back places until nobody waits; return who has had them."""
    return list(iter(turns.leave, None))


def test_payer() -> None:
    """An IPv4 address pays for itself, an IPv6 address with its /64, and all on unix sockets together."""
    assert [payer(client) for client in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "unix", "")] == [
        "192.0.2.1",
        "192.0.2.1",
        "2001:db8::/64",
        "unix",
        "unix",
    ]


def test_places() -> None:
    """There are as many places as said, and one that is given back can be taken again."""
    turns: Turns[str] = Turns(3)
    assert [turns.take() for _ in range(5)] == [True] * 3 + [False] * 2
    assert [turns.leave() for _ in range(3)] == [None] * 3
    assert [turns.take() for _ in range(5)] == [True] * 3 + [False] * 2


def test_one_client() -> None:
    """One client alone has all places, one after the other, in the order in which it asked."""
    turns = waiting(*"aaa")
    assert len(turns) == 3
    assert order(turns) == ["a0", "a1", "a2"]
    assert len(turns) == 0
    assert turns.take()


def test_round() -> None:
    """Whoever asks often has one place in each round, as everybody else."""
    assert order(waiting(*"aaaabcb")) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_who_comes_later() -> None:
    """A client that comes while another one's many wait is next but one at most."""
    turns = waiting(*"a" * 20)
    assert turns.leave() == "a0"
    turns.wait("b0", Payers(["b"]))
    assert [turns.leave() for _ in range(3)] == ["a1", "b0", "a2"]


def test_coming_back() -> None:
    """A client that asks anew after each place it had comes last in the round, not first."""
    turns = waiting(*"aabbcc")
    had = []
    for number in range(6):
        had.append(turns.leave())
        turns.wait(f"new{number}", Payers([str(had[-1])[0]]))
    assert had == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_who_waits_comes_first() -> None:
    """A place is for one who waits for it: it is never free while somebody waits."""
    turns = waiting(*"ab")
    assert turns.leave() == "a0"
    assert not turns.take()
    assert order(turns) == ["b0"]
    assert turns.take()


def test_giving_up() -> None:
    """Who leaves gets no place, and leaves the others their turns."""
    turns = waiting(*"aabbc")
    for waiter in ("a0", "c0", "b1"):
        turns.give_up(waiter)
    assert len(turns) == 2
    assert order(turns) == ["a1", "b0"]


def test_paid_by_several() -> None:
    """What is for several clients comes at the first turn of any, once, and costs only that one its turn."""
    turns = waiting(*"aaab")
    turns.wait("shared", Payers(["a", "c", "d"]))
    turns.wait("d0", Payers(["d"]))
    assert order(turns) == ["a0", "b0", "shared", "d0", "a1", "a2"]


def test_joining() -> None:
    """What waits far behind in one client's queue comes at the turn of a client that joins."""
    turns = waiting(*"a" * 20)
    payers = Payers(["a"])
    turns.wait("shared", payers)
    payers.join("b")
    assert [turns.leave() for _ in range(3)] == ["a0", "shared", "a1"]


def test_joining_twice() -> None:
    """A client that joins again, or what it has begun itself, changes nothing."""
    turns = waiting(*"b")
    payers = Payers(["a"])
    turns.wait("shared", payers)
    for client in "aacac":
        payers.join(client)
    assert payers.clients == ["a", "c"]
    turns.wait("c0", Payers(["c"]))
    assert order(turns) == ["b0", "shared", "c0"]


def test_joining_before_it_waits() -> None:
    """Who joins before there is anything to wait for is in the round from the beginning."""
    payers = Payers(["a"])
    payers.join("b")
    turns = waiting(*"aa")
    turns.wait("shared", payers)
    assert order(turns) == ["a0", "shared", "a1"]


def test_joining_too_late() -> None:
    """Who joins what has its place already, or was given up, leaves nothing in the round."""
    turns = waiting(*"a")
    had, gone = Payers(["a"]), Payers(["a"])
    turns.wait("had", had)
    turns.wait("gone", gone)
    assert [turns.leave() for _ in range(2)] == ["a0", "had"]
    turns.give_up("gone")
    for payers in (had, gone):
        payers.join("b")
    assert len(turns) == 0
    assert order(turns) == []


def test_memory() -> None:
    """However many clients have had their turn, or left, nothing is kept of them."""
    turns = waiting(*"a")
    with traced() as held:
        for number in range(10_000):
            payers = Payers([f"client {number}"])
            turns.wait(str(number), payers)
            payers.join(f"other {number}")
            if number % 2:
                turns.give_up(str(number))
            else:
                turns.leave()
        assert held() < 100_000


class Specification:
    """The same in the simplest way: a list of clients, and of those who wait.

    :param round: the clients for whom somebody waits, the next one first.
    :param waiters: who waits, in the order in which they became each client's, with their clients.
    """

    def __init__(self, places: int) -> None:
        self.free = places
        self.round: list[str] = []
        self.waiters: list[tuple[str, int]] = []

    def add(self, waiter: int, clients: Iterable[str]) -> None:
        """Have one wait for clients."""
        for client in clients:
            if (client, waiter) not in self.waiters:
                self.waiters.append((client, waiter))
                if client not in self.round:
                    self.round.append(client)

    def remove(self, waiter: int) -> None:
        """Have one wait no more."""
        self.waiters = [each for each in self.waiters if each[1] != waiter]
        self.round = [client for client in self.round if any(client == each for each, _ in self.waiters)]

    def leave(self) -> int | None:
        """Give back a place."""
        if not self.round:
            self.free += 1
            return None
        client = self.round[0]
        had = next(waiter for each, waiter in self.waiters if each == client)
        self.remove(had)
        if client in self.round:
            self.round.remove(client)
            self.round.append(client)
        return had


class TurnsMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, the places are given to whom the specification gives them."""

    PLACES = 2

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[int] = Turns(self.PLACES)
        self.specified = Specification(self.PLACES)
        self.payers: list[Payers] = []
        self.waiting: list[int] = []
        self.taken = 0

    @rule(clients=st.lists(CLIENTS, min_size=1, max_size=3, unique=True))
    def ask(self, clients: list[str]) -> None:
        """Ask for some clients: the query takes a place, or waits for one."""
        taken = self.turns.take()
        assert taken is (self.specified.free > 0)
        if taken:
            self.specified.free -= 1
            self.taken += 1
            return
        waiter = len(self.payers)
        self.payers.append(Payers(clients))
        self.waiting.append(waiter)
        self.turns.wait(waiter, self.payers[waiter])
        self.specified.add(waiter, clients)

    @precondition(lambda self: self.payers)
    @rule(data=st.data(), client=CLIENTS)
    def join(self, data: st.DataObject, client: str) -> None:
        """Have a client join a query that waits, or that has waited."""
        waiter = data.draw(st.integers(0, len(self.payers) - 1))
        self.payers[waiter].join(client)
        if waiter in self.waiting:
            self.specified.add(waiter, [client])

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Give up one that waits."""
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)
        self.turns.give_up(waiter)
        self.specified.remove(waiter)

    @precondition(lambda self: self.taken)
    @rule()
    def leave(self) -> None:
        """Give back a place."""
        had = self.turns.leave()
        assert had == self.specified.leave()
        if had is None:
            self.taken -= 1
        else:
            self.waiting.remove(had)

    @invariant()
    def counts(self) -> None:
        """See how many wait, and how many places are taken."""
        assert len(self.turns) == len(self.waiting)
        assert self.turns.taken == self.taken == self.PLACES - self.specified.free


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40)
