"""Asking somebody who may take long: the time, the places, and who leaves when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fingergw.core.outcome import Answered, Failed
from fingergw.core.query import Query
from fingergw.core.turns import Payers
from fingergw.net.waiting import Waiting, detached, within

LATE = Failed("not done within 5 s")
NOT_BEGUN = Failed("not begun within 5 s, as max_running = 1 others were running")
CLIENT = "192.0.2.1"


@define(eq=False)
class Slow:
    """Somebody who takes as long as the test wants.

    :param ends_late: whether what is cancelled takes a while to end.
    :param asked: what each one who was asked waits for.
    :param cancelled: how many were cancelled.
    """

    ends_late: bool = False
    asked: list[Deferred[str]] = field(factory=list)
    endings: list[Deferred[None]] = field(factory=list)
    cancelled: int = 0

    async def answer(self) -> str:
        """Answer when the test says so."""
        waits: Deferred[str] = Deferred()
        self.asked.append(waits)
        try:
            return await waits
        except CancelledError:
            self.cancelled += 1
            if self.ends_late:
                ending: Deferred[None] = Deferred()
                self.endings.append(ending)
                await ending
            raise


class WaitingCase(SynchronousTestCase):
    """Somebody who is asked one at a time, on a clock that the test advances."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow = Slow()
        self.waiting = self.made(1)

    def made(self, max_running: int) -> Waiting:
        """Return what gives each five seconds."""
        clock: Any = self.clock
        return Waiting(5, max_running, clock)

    def ask(self, begin: Callable[[], Awaitable[Any]] | None = None) -> Deferred[Any]:
        """Begin to ask."""
        return self.waiting.ask(begin or self.slow.answer, Payers([CLIENT]))

    def assert_free(self) -> None:
        """See that there is a place, and no timer is left."""
        self.clock.advance(0)
        count = len(self.slow.asked)
        asked = self.ask()
        assert len(self.slow.asked) == count + 1
        self.slow.asked[-1].callback("free")
        assert self.successResultOf(asked) == "free"
        assert self.clock.getDelayedCalls() == []


class TimeTests(WaitingCase):
    """How long it may take."""

    def test_answer(self) -> None:
        """What is answered in time is the answer, and leaves no timer."""
        asked = self.ask()
        self.clock.advance(4.9)
        self.slow.asked[0].callback("answer")
        assert self.successResultOf(asked) == "answer"
        assert self.clock.getDelayedCalls() == []

    def test_known_at_once(self) -> None:
        """What is known at once is answered at once, without a turn of the reactor."""

        async def known() -> str:
            return "known"

        assert self.successResultOf(self.ask(known)) == "known"
        assert self.clock.getDelayedCalls() == []

    def test_deadline(self) -> None:
        """At the deadline, and not before, it has failed, and what was begun is cancelled."""
        asked = self.ask()
        self.clock.advance(4.9)
        self.assertNoResult(asked)
        assert self.slow.cancelled == 0
        self.clock.advance(0.1)
        assert self.successResultOf(asked) == LATE
        assert self.slow.cancelled == 1
        self.assert_free()

    def test_answer_to_being_cancelled(self) -> None:
        """What one says who is cancelled at the deadline comes too late."""

        async def stubborn() -> str:
            try:
                return await self.slow.answer()
            except CancelledError:
                return "late"

        asked = self.ask(stubborn)
        self.clock.advance(5)
        assert self.successResultOf(asked) == LATE
        self.assert_free()

    def test_waiting_for_a_place_counts(self) -> None:
        """The time begins with the query; whoever has had no turn by then is never asked, which the failure says."""
        first = self.ask()
        self.clock.advance(3)
        second = self.ask()
        third = self.ask()
        self.clock.advance(2)
        self.clock.advance(0)
        assert self.successResultOf(first) == LATE
        assert len(self.slow.asked) == 2
        self.clock.advance(3)
        assert self.successResultOf(second) == LATE
        not_begun = self.successResultOf(third)
        assert (not_begun, not_begun.upstream) == (NOT_BEGUN, "unknown")
        self.clock.advance(0)
        assert len(self.slow.asked) == 2
        self.assert_free()

    def test_lost_soon(self) -> None:
        """A connection that is lost before half of the time has passed has kept nobody waiting, and says nothing."""
        for passed, said in ((2.4, "unknown"), (2.5, "silent")):
            lost: Deferred[Failed] = Deferred()
            asked = self.ask(lambda lost=lost: lost)  # type: ignore[misc]
            self.clock.advance(passed)
            lost.callback(Failed("lost", upstream="silent"))
            assert self.successResultOf(asked).upstream == said
        self.assert_free()

    def test_what_it_says_of_who_is_asked(self) -> None:
        """Whoever has had half of the time or more was silent; of one that has had less, being late says nothing."""
        for waited, said in ((0.0, "silent"), (2.5, "silent"), (2.6, "unknown")):
            first, asked = self.ask(), self.ask()
            self.clock.advance(waited)
            self.slow.asked[-1].callback("first")
            self.clock.advance(0)
            self.clock.advance(5 - waited)
            assert self.successResultOf(first) == "first"
            failed = self.successResultOf(asked)
            assert (failed, failed.upstream) == (LATE, said)
            self.assert_free()

    def test_failure_inside(self) -> None:
        """What is raised reaches who asked, and the place is free."""

        async def broken() -> str:
            raise ZeroDivisionError

        self.failureResultOf(self.ask(broken), ZeroDivisionError)
        asked = self.ask()
        self.slow.asked[0].errback(ZeroDivisionError())
        self.failureResultOf(asked, ZeroDivisionError)
        self.assert_free()

    def test_beginning_fails(self) -> None:
        """So it is when not even a beginning can be made."""

        def broken() -> Awaitable[str]:
            raise ZeroDivisionError

        self.failureResultOf(self.ask(broken), ZeroDivisionError)
        self.assert_free()


class PlaceTests(WaitingCase):
    """How many are asked at once."""

    def test_in_turn(self) -> None:
        """No more are asked than may be, and others of the same client in the order in which they came."""
        self.waiting = self.made(2)
        names = [f"{number}" for number in range(5)]
        begun: list[str] = []

        async def answer(name: str) -> str:
            begun.append(name)
            return name + await self.slow.answer()

        asked = [self.ask(lambda name=name: answer(name)) for name in names]  # type: ignore[misc]
        for done in range(5):
            assert begun == names[: done + 2]
            self.slow.asked[done].callback("!")
            assert self.successResultOf(asked[done]) == f"{done}!"
            self.clock.advance(0)
        self.assert_free()

    def test_who_comes_later_does_not_go_first(self) -> None:
        """A place that has become free is for who waits for it, not for who comes at that moment."""
        first, second = self.ask(), self.ask()
        self.slow.asked[0].callback("first")
        third = self.ask()
        self.clock.advance(0)
        self.slow.asked[1].callback("second")
        assert [self.successResultOf(each) for each in (first, second)] == ["first", "second"]
        self.assertNoResult(third)
        self.clock.advance(0)
        self.slow.asked[2].callback("third")
        assert self.successResultOf(third) == "third"
        self.assert_free()

    def test_ends_late(self) -> None:
        """What takes a while to end keeps its place for it, and who asked does not wait for that."""
        self.slow.ends_late = True
        late, left = self.ask(), self.ask()
        self.clock.advance(5)
        assert [self.successResultOf(each) for each in (late, left)] == [LATE, NOT_BEGUN]
        others = [self.ask(), self.ask()]
        self.clock.advance(4)
        assert len(self.slow.asked) == 1
        self.slow.endings[0].callback(None)
        self.clock.advance(0)
        assert len(self.slow.asked) == 2
        others[0].cancel()
        self.failureResultOf(others[0], CancelledError)
        self.clock.advance(0)
        assert len(self.slow.asked) == 2
        self.slow.endings[1].callback(None)
        self.clock.advance(0)
        self.slow.asked[2].callback("next")
        assert self.successResultOf(others[1]) == "next"
        self.assert_free()

    def test_fails_as_it_ends_late(self) -> None:
        """What goes wrong after that is nobody's answer, and the place is free."""

        async def breaks() -> None:
            try:
                await self.slow.answer()
            finally:
                raise ZeroDivisionError

        asked = self.ask(breaks)
        self.clock.advance(5)
        assert self.successResultOf(asked) == LATE
        self.assert_free()

    def test_cancelled_while_it_is_asked(self) -> None:
        """When nobody waits any more what was begun is cancelled at once, and that is no outcome."""
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        assert self.slow.cancelled == 1
        self.assert_free()

    def test_cancelled_while_it_waits(self) -> None:
        """Who leaves while waiting for a place is never asked, and takes nobody's place."""
        first, second, third = self.ask(), self.ask(), self.ask()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.slow.asked[0].callback("first")
        self.clock.advance(0)
        self.slow.asked[1].callback("third")
        assert [self.successResultOf(each) for each in (first, third)] == ["first", "third"]
        self.assert_free()

    def test_cancelled_before_its_turn_comes(self) -> None:
        """So it is for one who leaves when a place has become free for it."""
        first, second = self.ask(), self.ask()
        self.slow.asked[0].callback("first")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.clock.advance(0)
        assert self.successResultOf(first) == "first"
        assert len(self.slow.asked) == 1
        self.assert_free()

    def test_many_that_fail_at_once(self) -> None:
        """Where 2,000 wait and each fails at once, all are told, no place is lost, and no call is within another."""
        self.waiting = self.made(3)

        async def broken() -> str:
            raise ZeroDivisionError

        first = [self.ask() for _ in range(3)]
        others = [self.ask(broken) for _ in range(2000)]
        for number in range(3):
            self.slow.asked[number].callback("done")
        self.clock.pump([0] * 2001)
        assert [self.successResultOf(each) for each in first] == ["done"] * 3
        for each in others:
            self.failureResultOf(each, ZeroDivisionError)
        again = [self.ask() for _ in range(4)]
        assert len(self.slow.asked) == 6
        for each in again:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assert_free()

    def test_before(self) -> None:
        """What asks a backend does so in turn, with the query, the validators and the payers that it is given."""
        given: list[object] = []

        async def ask(*arguments: object) -> Answered:
            given.append(arguments)
            return Answered(await self.slow.answer())

        in_turn = self.waiting.wrap(ask)
        queries = [Query("a"), Query("b")]
        payers = [Payers([f"192.0.2.{number}"]) for number in range(2)]
        asked: list[Any] = [
            in_turn(query, {"etag": query.user}, pays) for query, pays in zip(queries, payers, strict=True)
        ]
        for number in range(2):
            assert given == [(queries[each], {"etag": queries[each].user}, payers[each]) for each in range(number + 1)]
            self.slow.asked[number].callback("x")
            assert self.successResultOf(asked[number]) == Answered("x")
            self.clock.advance(0)


class TimeAloneTests(WaitingCase):
    """A time without places."""

    def test_deadline(self) -> None:
        """What is not done in time has failed and is cancelled; what is done leaves no timer."""
        clock: Any = self.clock
        late, done = (within(5, clock, Deferred.fromCoroutine(self.slow.answer())) for _ in range(2))
        self.slow.asked[1].callback("done")
        assert self.successResultOf(done) == "done"
        self.clock.advance(5)
        assert self.successResultOf(late) == LATE
        assert self.slow.cancelled == 1
        assert self.clock.getDelayedCalls() == []

    def test_detached(self) -> None:
        """What goes on after it was cancelled is not waited for, and what comes of it is told to nobody."""
        self.slow.ends_late = True
        done, late = (detached(Deferred.fromCoroutine(self.slow.answer())) for _ in range(2))
        self.slow.asked[0].callback("done")
        assert self.successResultOf(done) == "done"
        late.cancel()
        self.failureResultOf(late, CancelledError)
        assert self.slow.cancelled == 1
        self.slow.endings[0].errback(LookupError("late"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_it_is_the_same(self) -> None:
        """What is given a time is returned itself, so that who cancels it cancels what is under way."""
        clock: Any = self.clock
        asking: Deferred[str] = Deferred()
        assert within(5, clock, asking) is asking
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        assert self.clock.getDelayedCalls() == []
