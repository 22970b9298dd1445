"""The same question, asked once for all who ask it at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fingergw.core.outcome import Answered, Failed, Outcome
from fingergw.core.query import Query
from fingergw.core.turns import Payers
from fingergw.net.coalescing import Coalescing
from fingergw.net.waiting import Waiting
from tests.support.memory import traced

YES = Answered("yes")
SECONDS = 5.0


@define(eq=False)
class Slow:
    """A backend that answers when the test says so.

    :param asked: the queries, each with what it waits for and for whom it is.
    :param cancelled: the names that were cancelled.
    :param ends_late: what one who is cancelled waits for before it ends; None for nothing.
    """

    asked: list[tuple[Query, Deferred[Outcome], Payers]] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    ends_late: Deferred[None] | None = None

    async def __call__(self, query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome:
        """Answer."""
        waits: Deferred[Outcome] = Deferred()
        self.asked.append((query, waits, payers))
        try:
            return await waits
        except CancelledError:
            self.cancelled.append(query.user)
            if self.ends_late is not None:
                await self.ends_late
            raise

    @property
    def names(self) -> list[str]:
        """The names that it was asked for."""
        return [query.user for query, _, _ in self.asked]

    def say(self, said: Any = YES, place: int = -1) -> None:
        """Say something to the last, or another one, who asked."""
        self.asked[place][1].callback(said)


class CoalescingCase(SynchronousTestCase):
    """A backend with a time and one place, which is asked the same question once."""

    def setUp(self) -> None:
        self.slow = Slow()
        self.clock = Clock()
        clock: Any = self.clock
        self.asks = Coalescing(Waiting(SECONDS, 1, clock).wrap(self.slow), lambda query: query.user)

    def ask(self, user: str = "x", client: str = "192.0.2.1") -> Deferred[Any]:
        """Begin to ask."""
        return Deferred.fromCoroutine(self.asks(Query(user), {}, Payers([client])))

    def leave(self, asked: Deferred[Any]) -> None:
        """Have one leave who waits."""
        asked.cancel()
        self.failureResultOf(asked, CancelledError)

    def tearDown(self) -> None:
        """See that there is a place, that a question is asked anew, and that no timer is left."""
        self.clock.advance(0)
        for user in ("x", "other"):
            count = len(self.slow.asked)
            asked = self.ask(user)
            assert len(self.slow.asked) == count + 1
            self.slow.say()
            assert self.successResultOf(asked) == YES
        assert self.clock.getDelayedCalls() == []


class SharingTests(CoalescingCase):
    """Who gets which answer."""

    def test_shared(self) -> None:
        """Who asks what is being asked gets the same answer, and the backend is asked once."""
        asked = [self.ask() for _ in range(5)]
        assert self.slow.names == ["x"]
        self.slow.say()
        assert [self.successResultOf(each) for each in asked] == [YES] * 5

    def test_failure(self) -> None:
        """A failure is shared as well."""
        asked = [self.ask() for _ in range(2)]
        self.slow.say(Failed("no"))
        assert [self.successResultOf(each) for each in asked] == [Failed("no")] * 2

    def test_anew(self) -> None:
        """Who asks when the answer has come asks anew."""
        for number in range(3):
            asked = self.ask()
            assert len(self.slow.asked) == number + 1
            self.slow.say(Answered(str(number)))
            assert self.successResultOf(asked) == Answered(str(number))

    def test_anew_from_within(self) -> None:
        """So does who asks again as soon as it is answered."""
        again: list[Deferred[Any]] = []
        first = self.ask()
        first.addCallback(lambda _: again.append(self.ask()))
        second = self.ask()
        self.slow.say()
        assert self.successResultOf(second) == YES
        self.clock.advance(0)
        assert self.slow.names == ["x", "x"]
        self.slow.say(Answered("again"))
        assert self.successResultOf(again[0]) == Answered("again")

    def test_other_questions(self) -> None:
        """Another question is another one's: here it has its turn after the first."""
        first, other = self.ask(), self.ask("other")
        self.slow.say(Answered("first"))
        assert self.successResultOf(first) == Answered("first")
        self.clock.advance(0)
        self.assertNoResult(other)
        self.slow.say(Answered("other"))
        assert self.successResultOf(other) == Answered("other")
        assert self.slow.names == ["x", "other"]

    def test_known_at_once(self) -> None:
        """A backend that answers at once is answered by at once, each time."""

        async def known(*_: object) -> Outcome:
            return YES

        asks = Coalescing(known, lambda query: query.user)
        for _ in range(3):
            assert self.successResultOf(Deferred.fromCoroutine(asks(Query("x"), {}, Payers(["a"])))) == YES

    def test_who_pays(self) -> None:
        """All who wait for an answer pay for it, each once; who asks later pays for the next one."""
        asked = [self.ask(client=client) for client in ("a", "b", "a", "c")]
        ((_, _, payers),) = self.slow.asked
        assert payers.clients == ["a", "b", "c"]
        self.slow.say()
        assert [self.successResultOf(each) for each in asked] == [YES] * 4
        self.ask(client="d")
        assert self.slow.asked[1][2].clients == ["d"]
        assert payers.clients == ["a", "b", "c"]
        self.slow.say()

    def test_comes_at_the_turn_of_any(self) -> None:
        """What waits behind one client's other questions comes at the turn of another client who joins."""
        many = [self.ask(str(number), "a") for number in range(5)]
        asked = self.ask("4", "b")
        self.slow.say()
        self.clock.advance(0)
        assert self.slow.names[-1] == "1"
        self.slow.say()
        self.clock.advance(0)
        assert self.slow.names[-1] == "4"
        self.slow.say()
        assert [self.successResultOf(each) for each in (asked, many[4])] == [YES] * 2
        for each in many[2:4]:
            self.clock.advance(0)
            self.slow.say()
            assert self.successResultOf(each) == YES


class LeavingTests(CoalescingCase):
    """Those who wait no more."""

    def test_one_leaves(self) -> None:
        """Whoever leaves, the one whose query was first too, the others get their answer."""
        for place in range(3):
            asked = [self.ask() for _ in range(3)]
            self.leave(asked.pop(place))
            assert self.slow.cancelled == []
            self.slow.say()
            assert [self.successResultOf(each) for each in asked] == [YES] * 2

    def test_all_leave(self) -> None:
        """When the last one leaves, what is being asked is cancelled, and not before."""
        asked = [self.ask() for _ in range(3)]
        for place in (1, 0, 2):
            assert self.slow.cancelled == []
            self.leave(asked[place])
        assert self.slow.cancelled == ["x"]

    def test_joining_when_the_first_has_left(self) -> None:
        """Who joins while somebody still waits keeps it going."""
        first, second = self.ask(), self.ask()
        self.leave(first)
        third = self.ask()
        self.leave(second)
        assert self.slow.cancelled == []
        self.slow.say()
        assert self.successResultOf(third) == YES
        assert self.slow.names == ["x"]

    def test_leaving_while_it_waits_for_a_place(self) -> None:
        """A question that waits for its turn, and that nobody wants any more, is not asked."""
        running, waiting = self.ask(), self.ask("waiting")
        self.leave(waiting)
        self.slow.say()
        self.clock.advance(0)
        assert self.successResultOf(running) == YES
        assert self.slow.names == ["x"]

    def test_anew_while_it_ends(self) -> None:
        """Who asks when all have left, but the question has not ended yet, asks anew; its end is another one's."""
        self.asks = Coalescing(self.slow, lambda query: query.user)  # one that a time limit does not cut short
        ending: Deferred[None] = Deferred()
        self.slow.ends_late = ending
        self.leave(self.ask())
        again = self.ask()
        assert self.slow.names == ["x", "x"]
        ending.callback(None)
        joined = self.ask()
        assert self.slow.names == ["x", "x"]
        self.slow.say()
        assert [self.successResultOf(each) for each in (again, joined)] == [YES] * 2


class EndTests(CoalescingCase):
    """A question that ends in another way."""

    def test_time(self) -> None:
        """The time counts from the first who asks: at its end all have failed, those too who came late."""
        asked = [self.ask()]
        self.clock.advance(SECONDS - 0.1)
        asked += [self.ask(), self.ask()]
        self.clock.advance(0.1)
        assert [self.successResultOf(each) for each in asked] == [Failed("not done within 5 s")] * 3
        assert self.slow.cancelled == ["x"]

    def test_exceptions(self) -> None:
        """What the backend raises is a failure for all who wait."""
        asked = [self.ask() for _ in range(2)]
        error = LookupError("bug")
        self.slow.asked[0][1].errback(error)
        assert [self.successResultOf(each) for each in asked] == [Failed("unforeseen LookupError", error)] * 2

    def test_cancelled_by_nobody(self) -> None:
        """A backend that raises a cancellation that nobody has asked for has failed."""
        asked = [self.ask() for _ in range(2)]
        self.slow.asked[0][1].errback(CancelledError())
        assert [self.successResultOf(each) for each in asked] == [Failed("given up")] * 2

    def test_memory(self) -> None:
        """Nothing is kept of questions that have ended, answered or not."""
        with traced() as held:
            for number in range(1000):
                asked = self.ask(str(number))
                self.clock.advance(0)
                if number % 2:
                    self.slow.say()
                    assert self.successResultOf(asked) == YES
                else:
                    self.leave(asked)
                self.slow.asked.clear()
                self.slow.cancelled.clear()
            assert held() < 100_000
