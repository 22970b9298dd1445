"""When a backend is left alone, and when it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from fingergw.core.breaker import Admission, Breaker, BreakerSettings, Breaking, unless_opened
from fingergw.core.outcome import (
    Answered,
    Failed,
    Freshness,
    Known,
    Missing,
    Outcome,
    Unchanged,
    Upstream,
    nothing_known,
)
from fingergw.core.query import Query
from fingergw.core.setting_types import Count, Seconds
from fingergw.core.turns import Payers
from tests.support.memory import traced
from tests.support.waiting import sync

PAUSE = 5.0
QUERY = Query("x")
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"
REFUSED = Failed("refused", upstream="unreachable")
SILENT = Failed("late", upstream="silent")
UNKNOWN = Failed("no place", upstream="unknown")
ERROR = Failed("500 Oops")
YES = Answered("yes")
RESPONDED = [YES, Missing(), ERROR, Unchanged(Freshness())]


def user_of(query: Query) -> str:
    """Return what a query asks for."""
    return query.user


def make(failures: int = 3, *, question: Callable[[Query], str] | None = user_of) -> Breaker:
    """Return a breaker that nothing has happened to."""
    return Breaker(BreakerSettings(failures=Count(failures), pause=Seconds(PAUSE)), question)


def said(breaker: Breaker, outcome: Outcome | Unchanged | None, user: str = "x", now: float = 0.0) -> bool:
    """Let a query through, which gets this outcome; return whether that has opened or closed the breaker."""
    query = Query(user)
    admission = breaker.admit(query, CLIENT, now)
    assert admission is not None
    return breaker.note(admission, query, outcome, now, now)


def said_by(client: str, breaker: Breaker, outcome: Outcome, now: float) -> bool:
    """Let a client's query try, which gets this outcome; return whether that has opened or closed the breaker."""
    admission = breaker.admit(QUERY, client, now)
    assert admission == "trying"
    return breaker.note(admission, QUERY, outcome, now, now)


def opened(failures: int = 3) -> Breaker:
    """Return a breaker that has opened at the time 0."""
    breaker = make(failures)
    for _ in range(failures):
        said(breaker, REFUSED)
    assert breaker.is_open
    return breaker


def trying(breaker: Breaker, now: float = PAUSE) -> Admission:
    """Let the query through that tries."""
    admission = breaker.admit(QUERY, CLIENT, now)
    assert admission == "trying"
    return admission


@pytest.mark.parametrize("failures", [1, 3, 1000])
def test_opens(failures: int) -> None:
    """After so many failures in a row it opens, and not before; only the last says that it has."""
    breaker = make(failures)
    assert [said(breaker, REFUSED) for _ in range(failures)] == [False] * (failures - 1) + [True]
    assert breaker.is_open
    assert breaker.admit(QUERY, CLIENT, 0.0) is None


@pytest.mark.parametrize("responded", RESPONDED, ids=lambda outcome: type(outcome).__name__)
def test_in_a_row(responded: Any) -> None:
    """Whatever is responded, an error status too, begins the count anew."""
    breaker = make()
    for number in range(5):
        for outcome in (REFUSED, SILENT, responded):
            assert not said(breaker, outcome, str(number))
    assert not breaker.is_open


@pytest.mark.parametrize("outcome", [UNKNOWN, None], ids=["unknown", "cancelled"])
def test_says_nothing(outcome: Failed | None) -> None:
    """A query that was not asked, or is cancelled, counts neither for nor against."""
    breaker = make()
    for _ in range(10):
        said(breaker, outcome)
    assert [said(breaker, each) for each in (REFUSED, outcome, REFUSED, outcome, REFUSED)] == [False] * 4 + [True]


def test_one_slow_question() -> None:
    """Time-outs of one question count once, those of different questions each."""
    breaker = make()
    late = [breaker.admit(Query("slow"), CLIENT, 0.0) for _ in range(100)]
    for admission in late:
        assert admission is not None
        assert not breaker.note(admission, Query("slow"), SILENT, 0.0, 0.0)
    assert not said(breaker, SILENT, "other")
    assert said(breaker, SILENT, "third")


def test_a_question_that_is_left_alone() -> None:
    """One question that is not answered so often in a row is left alone by itself, and asked once after each pause."""
    breaker, slow = make(), Query("slow")
    for _ in range(3):
        assert not said(breaker, SILENT, "slow")
        said(breaker, YES, "quick")
    for now in (PAUSE, 2 * PAUSE):
        assert breaker.admit(slow, CLIENT, now - 0.1) is None
        admission = breaker.admit(slow, CLIENT, now)
        assert admission == "asking again"
        assert breaker.admit(slow, OTHER, now) is None
        assert not breaker.note(admission, slow, SILENT, now, now)
        assert breaker.admit(Query("quick"), CLIENT, now) == "asking"
    assert "this name is left alone for now" in breaker.reason
    said(breaker, YES, "slow", 3 * PAUSE)
    assert [breaker.admit(slow, CLIENT, 3 * PAUSE) for _ in range(2)] == ["asking"] * 2


@pytest.mark.parametrize("outcome", [UNKNOWN, None], ids=["unknown", "cancelled"])
def test_who_asks_again_and_leaves(outcome: Outcome | None) -> None:
    """If nothing comes of asking a question again that was left alone, the next one may ask it."""
    breaker, slow = make(), Query("slow")
    for _ in range(3):
        said(breaker, SILENT, "slow")
        said(breaker, YES, "quick")
    admission = breaker.admit(slow, CLIENT, PAUSE)
    assert admission is not None
    breaker.note(admission, slow, outcome, PAUSE, PAUSE)
    assert breaker.admit(slow, OTHER, PAUSE) == "asking again"


def test_heard_meanwhile() -> None:
    """A time-out says nothing of a backend that has answered another query while this one waited."""
    breaker = make()
    late = {name: breaker.admit(Query(name), CLIENT, 0.0) for name in "abcdef"}
    said(breaker, YES, "quick", 1.0)
    for name, admission in late.items():
        assert admission is not None
        assert not breaker.note(admission, Query(name), SILENT, 0.0, 5.0)
    assert breaker.counted == 0
    assert [said(breaker, SILENT, name, 5.0) for name in "abc"] == [False, False, True]


def test_refused_meanwhile() -> None:
    """A failed connection counts whatever was responded while it was tried."""
    breaker = make()
    late = [breaker.admit(QUERY, CLIENT, 0.0) for _ in range(3)]
    said(breaker, YES, "quick", 1.0)
    admissions = [admission for admission in late if admission is not None]
    assert [breaker.note(each, QUERY, REFUSED, 0.0, 5.0) for each in admissions] == [False, False, True]


def test_whose_try_fails_lets_others_try() -> None:
    """A client whose try has failed lets those try first who have asked since, for another pause at most."""
    breaker = opened()
    assert said_by(CLIENT, breaker, SILENT, PAUSE) is False
    assert breaker.admit(QUERY, OTHER, PAUSE) is None
    assert breaker.admit(QUERY, CLIENT, 2 * PAUSE) is None
    assert said_by(OTHER, breaker, YES, 2 * PAUSE) is True


def test_nobody_else_wants_to_try() -> None:
    """As long as nobody else asks, the same client tries again after each pause."""
    breaker = opened()
    for now in (PAUSE, 2 * PAUSE, 3 * PAUSE):
        assert breaker.admit(QUERY, CLIENT, now - 0.1) is None
        assert said_by(CLIENT, breaker, SILENT, now) is False


def test_others_that_come_no_more() -> None:
    """Others that have asked once are waited for no longer than another pause."""
    breaker = opened()
    said_by(CLIENT, breaker, SILENT, PAUSE)
    assert breaker.admit(QUERY, OTHER, PAUSE) is None
    assert breaker.admit(QUERY, CLIENT, 3 * PAUSE - 0.1) is None
    assert breaker.admit(QUERY, CLIENT, 3 * PAUSE) == "trying"


def test_a_question_that_is_answered_in_between() -> None:
    """Only time-outs in a row count for a question, too."""
    breaker = make()
    for outcome in (SILENT, SILENT, Missing()) * 5:
        assert not said(breaker, outcome, "slow")


def test_no_question_is_left_alone_where_all_are_the_same() -> None:
    """Where all ask the same there is one breaker for all."""
    breaker = make(question=None)
    for outcome in (SILENT, SILENT, YES) * 5:
        assert not said(breaker, outcome, "slow")


def test_same_question_for_all() -> None:
    """Where all ask the same, each time-out counts."""
    breaker = make(question=None)
    assert [said(breaker, SILENT, "slow") for _ in range(3)] == [False, False, True]


def test_failures_of_both_kinds() -> None:
    """Failed connections, each, and time-outs of different questions count together."""
    breaker = make()
    assert [said(breaker, outcome, "x") for outcome in (SILENT, REFUSED, SILENT, REFUSED)] == [False] * 3 + [True]


def test_why() -> None:
    """The last failure that has counted is known, whatever else has been said since."""
    breaker = make()
    for outcome in (REFUSED, SILENT, UNKNOWN):
        said(breaker, outcome)
    assert breaker.why == "late"


def test_pause() -> None:
    """While it is open nobody is let through until the pause is over; then one is, to try."""
    breaker = opened()
    assert [breaker.admit(QUERY, CLIENT, now) for now in (0.0, PAUSE - 0.01, PAUSE, PAUSE, PAUSE * 100)] == [
        None,
        None,
        "trying",
        None,
        None,
    ]


@pytest.mark.parametrize("responded", RESPONDED, ids=lambda outcome: type(outcome).__name__)
def test_closes(responded: Any) -> None:
    """A try that is answered, by an error status too, closes it, and the count begins anew."""
    breaker = opened()
    assert said(breaker, responded, now=PAUSE)
    assert [breaker.admit(QUERY, CLIENT, PAUSE) for _ in range(3)] == ["asking"] * 3
    assert [said(breaker, REFUSED, now=PAUSE) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("outcome", [REFUSED, SILENT])
def test_a_try_that_fails(outcome: Failed) -> None:
    """After a try that fails there is another pause, and it says nothing new: it is open still."""
    breaker = opened()
    for times in range(1, 4):
        assert not said(breaker, outcome, "x", times * PAUSE)
        assert breaker.is_open
        assert breaker.admit(QUERY, CLIENT, (times + 1) * PAUSE - 0.01) is None


@pytest.mark.parametrize("outcome", [UNKNOWN, None], ids=["unknown", "cancelled"])
def test_a_try_that_says_nothing(outcome: Failed | None) -> None:
    """When a try is cancelled, or was not asked, the next query tries, at once."""
    breaker = opened()
    for _ in range(3):
        assert not said(breaker, outcome, now=PAUSE)
    assert breaker.is_open
    trying(breaker)
    assert breaker.admit(QUERY, CLIENT, PAUSE) is None


@pytest.mark.parametrize("responded", RESPONDED, ids=lambda outcome: type(outcome).__name__)
def test_a_late_answer(responded: Any) -> None:
    """A query that was let through before it opened, and is answered after that, closes it."""
    breaker = make()
    late = breaker.admit(QUERY, CLIENT, 0.0)
    assert late == "asking"
    for _ in range(3):
        said(breaker, REFUSED)
    assert breaker.note(late, Query("x"), responded, 1.0, 1.0)
    assert breaker.admit(QUERY, CLIENT, 1.0) == "asking"


def test_late_failures() -> None:
    """Those that were let through before it opened, and fail after that, do not make the pause any longer."""
    breaker = make()
    late = [breaker.admit(QUERY, CLIENT, 0.0) for _ in range(5)]
    for _ in range(3):
        said(breaker, REFUSED)
    for place, admission in enumerate(late):
        assert admission == "asking"
        assert not breaker.note(admission, Query(str(place)), SILENT, 0.0, PAUSE - 0.01)
    trying(breaker)
    assert said(opened(), YES, now=PAUSE)


def test_a_late_failure_does_not_end_a_try() -> None:
    """Nor do they let a second one try."""
    breaker = make()
    late = breaker.admit(QUERY, CLIENT, 0.0)
    assert late == "asking"
    for _ in range(3):
        said(breaker, REFUSED)
    trying(breaker)
    assert not breaker.note(late, Query("x"), SILENT, PAUSE, PAUSE)
    assert breaker.admit(QUERY, CLIENT, PAUSE * 3) is None


def test_a_try_that_fails_after_a_late_answer() -> None:
    """A try that fails when another query's answer has closed the breaker is a failure like any: one of three."""
    breaker = make()
    late = breaker.admit(QUERY, CLIENT, 0.0)
    assert late == "asking"
    for _ in range(3):
        said(breaker, REFUSED)
    admission = trying(breaker)
    assert breaker.note(late, Query("x"), YES, PAUSE, PAUSE)
    assert not breaker.note(admission, Query("x"), REFUSED, PAUSE, PAUSE)
    assert not breaker.is_open
    assert [said(breaker, REFUSED, now=PAUSE) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("failures", [1, 3])
def test_memory(failures: int) -> None:
    """However many names time out, before it is open and as tries, few are remembered."""
    breaker = make(failures)
    late = [breaker.admit(QUERY, CLIENT, 0.0) for _ in range(10_000)]
    with traced() as held:
        for place, admission in enumerate(late):
            assert admission is not None
            breaker.note(admission, Query(f"{place} {'x' * 100}"), SILENT, 0.0, 0.0)
        for place in range(1, 10_000):
            said(breaker, SILENT, f"{place} {'y' * 100}", place * PAUSE)
        assert held() < 100_000


@define
class Backend:
    """A backend that says what it is told to.

    :param asked: the names that it was asked for.
    """

    says: Any = None
    asked: list[str] = field(factory=list)

    async def __call__(self, query: Query, *_: object) -> Outcome | Unchanged:
        """Note the query, and say it."""
        self.asked.append(query.user)
        if isinstance(self.says, BaseException):
            raise self.says
        outcome: Outcome | Unchanged = self.says
        return outcome


@define
class Bench:
    """A backend with a breaker before it, and a clock.

    :param changes: whether it was open, each time that it had opened or closed.
    """

    known: Known = nothing_known
    now: float = 0.0
    backend: Backend = field(factory=Backend)
    changes: list[bool] = field(factory=list)
    breaker: Breaker = field(factory=make)

    def ask(self, user: str = "x") -> Any:
        """Ask, and return the outcome."""
        breaking = Breaking(
            self.backend,
            self.known,
            self.breaker,
            lambda: self.now,
            lambda breaker: self.changes.append(breaker.is_open),
        )
        return sync(breaking(Query(user), {}, Payers(["192.0.2.1"])))

    def open(self) -> None:
        """Have it opened."""
        self.backend.says = REFUSED
        for _ in range(3):
            assert self.ask() == REFUSED
        self.backend.asked.clear()


def test_asks() -> None:
    """While it is closed, who asks gets what the backend says."""
    bench = Bench()
    for outcome in RESPONDED:
        bench.backend.says = outcome
        assert bench.ask() == outcome
    assert len(bench.backend.asked) == len(RESPONDED)
    assert bench.changes == []


def test_leaves_it_alone() -> None:
    """Once it is open the backend is not asked, and who asks is told why, which says nothing of the backend."""
    bench = Bench()
    bench.open()
    outcome = bench.ask()
    assert outcome == Failed("left alone for now, after failures in a row; the last: refused")
    upstream: Upstream = outcome.upstream
    assert upstream == "unknown"
    assert bench.backend.asked == []
    assert bench.changes == [True]


def test_one_tries() -> None:
    """After the pause one asks; its answer closes it."""
    bench = Bench()
    bench.open()
    bench.now, bench.backend.says = PAUSE, YES
    assert [bench.ask(user) for user in "ab"] == [YES, YES]
    assert bench.backend.asked == ["a", "b"]
    assert bench.changes == [True, False]


def test_exceptions() -> None:
    """An exception, as of a cancellation, is passed on and says nothing; after a try that raises the next one tries."""
    bench = Bench()
    bench.backend.says = LookupError()
    for _ in range(5):
        with pytest.raises(LookupError):
            bench.ask()
    assert bench.changes == []
    bench.open()
    bench.now, bench.backend.says = PAUSE, LookupError()
    for _ in range(3):
        with pytest.raises(LookupError):
            bench.ask()
    assert bench.changes == [True]


def known_of(query: Query) -> Outcome | None:
    """Know that there is no "..", as the http backend does."""
    return Missing() if query.user == ".." else None


def test_what_is_known_while_it_is_open() -> None:
    """What is known without asking anybody is said, whatever the backend does."""
    bench = Bench(known_of)
    bench.open()
    assert bench.ask("..") == Missing()


def test_what_is_known_is_not_heard() -> None:
    """It says nothing of the backend: it neither ends a row of failures nor closes the breaker."""
    bench = Bench(known_of)
    bench.backend.says = REFUSED
    for _ in range(3):
        assert bench.ask("..") == Missing()
        bench.ask()
    assert bench.changes == [True]
    bench.now = PAUSE
    assert bench.ask("..") == Missing()
    assert bench.breaker.is_open
    assert bench.ask() == REFUSED  # which is the try


def test_who_waited_for_a_place() -> None:
    """Who was let through before it opened, and comes to its turn after that, is not asked; who tries is."""
    breaker, backend = make(), Backend(YES)
    ask, early, tries = unless_opened(backend, breaker), Query("early"), Query("tries")
    breaker.admit(early, "192.0.2.1", 0.0)
    assert sync(ask(early, {}, Payers([]))) == YES
    for _ in range(3):
        said(breaker, REFUSED)
    outcome = sync(ask(early, {}, Payers([])))
    assert (outcome, outcome.upstream) == (Failed(breaker.reason), "unknown")
    assert breaker.admit(tries, "192.0.2.1", PAUSE) == "trying"
    assert sync(ask(tries, {}, Payers([]))) == YES
    assert backend.asked == ["early", "tries"]
