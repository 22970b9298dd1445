"""A route's backends in order: who is asked, and what it comes to."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define

from fingergw.core.chain import Chain, Result
from fingergw.core.outcome import Answered, Failed, Missing, Outcome, Reuse
from fingergw.core.query import Query
from tests.support.fakes import FakeBackend
from tests.support.waiting import sync

QUERY = Query("moshez")
HIT, MISS, FAIL, FAIL2 = Answered("here"), Missing(), Failed("down"), Failed("down too")
BOTH = (Missing, Failed)


def ask(says: Sequence[Any], **options: Any) -> tuple[Result, int]:
    """Ask a chain of backends b0, b1, ... and return the result, and how many were asked."""
    fakes = [FakeBackend(said) for said in says]
    chain = Chain(tuple((f"b{place}", fake) for place, fake in enumerate(fakes)), **options)
    result = sync(chain.answer(QUERY))
    asked = [fake.queries for fake in fakes]
    count = sum(map(bool, asked))
    assert asked == [[QUERY]] * count + [[]] * (len(fakes) - count)
    return result, count


@pytest.mark.parametrize(
    ("says", "fallthrough", "expected", "asked"),
    [
        ([], BOTH, Result(MISS), 0),
        ([HIT], BOTH, Result(HIT, "b0"), 1),
        ([HIT, FAIL], BOTH, Result(HIT, "b0"), 1),
        ([MISS, HIT, HIT], BOTH, Result(HIT, "b1"), 2),
        ([FAIL, HIT], BOTH, Result(HIT, "b1", (("b0", FAIL),)), 2),
        ([MISS, MISS], BOTH, Result(MISS), 2),
        ([FAIL, MISS], BOTH, Result(FAIL, "", (("b0", FAIL),)), 2),
        ([MISS, FAIL], BOTH, Result(FAIL, "", (("b1", FAIL),)), 2),
        ([FAIL, FAIL2, MISS], BOTH, Result(FAIL2, "", (("b0", FAIL), ("b1", FAIL2))), 3),
        ([MISS, HIT], (Missing,), Result(HIT, "b1"), 2),
        ([FAIL, HIT], (Missing,), Result(FAIL, "", (("b0", FAIL),)), 1),
        ([MISS, FAIL, HIT], (Missing,), Result(FAIL, "", (("b1", FAIL),)), 2),
        ([FAIL, HIT], (Failed,), Result(HIT, "b1", (("b0", FAIL),)), 2),
        ([MISS, HIT], (Failed,), Result(MISS), 1),
        ([FAIL, MISS, HIT], (Failed,), Result(FAIL, "", (("b0", FAIL),)), 2),
        ([MISS, HIT], (), Result(MISS), 1),
        ([FAIL, HIT], (), Result(FAIL, "", (("b0", FAIL),)), 1),
    ],
)
def test_chain(
    says: list[Outcome], fallthrough: tuple[type[Missing | Failed], ...], expected: Result, asked: int
) -> None:
    """Backends are asked in order, up to an answer or an outcome that does not fall through; any failure decides."""
    assert ask(says, fallthrough=fallthrough) == (expected, asked)


def test_what_is_raised_is_a_failure() -> None:
    """A backend that raises has failed; the exception is kept for the log, and the next backend is asked."""
    error = RuntimeError("secret")
    result, _ = ask([error, HIT])
    failed = Failed("unforeseen RuntimeError", error)
    assert result == Result(HIT, "b1", (("b0", failed),))
    assert failed.error is not None
    assert failed.error.__traceback__ is not None


def test_what_is_raised_stops_where_failures_do_not_fall_through() -> None:
    """An exception falls through only as other failures do."""
    result, asked = ask([RuntimeError(), HIT], fallthrough=(Missing,))
    assert isinstance(result.outcome, Failed)
    assert asked == 1


@pytest.mark.parametrize("error", [CancelledError(), KeyError("x")], ids=lambda error: type(error).__name__)
def test_cancellation_ends_the_chain(error: BaseException) -> None:
    """A cancellation passes through, and no other backend is queried."""
    last = FakeBackend(HIT)
    chain = Chain((("a", FakeBackend(error)), ("b", last)), cancelled=(CancelledError, KeyError))
    with pytest.raises(type(error)):
        sync(chain.answer(QUERY))
    assert not last.queries


@define
class KnowingBackend(FakeBackend):
    """A backend that knows something at once, too.

    :param known: what it returns or raises.
    """

    known: Any = None

    def at_once(self, _: Query) -> Any:
        """Return or raise it."""
        if isinstance(self.known, BaseException):
            raise self.known
        return self.known


@pytest.mark.parametrize(
    ("known", "fallthrough", "expected"),
    [
        ([HIT], BOTH, (Result(HIT, "b0"), 0)),
        ([HIT, FAIL], BOTH, (Result(HIT, "b0"), 0)),
        ([MISS], BOTH, (Result(MISS), 0)),
        ([MISS, HIT], BOTH, (Result(HIT, "b1"), 1)),
        ([MISS, MISS], BOTH, (Result(MISS), 1)),
        ([MISS, HIT], (Failed,), (Result(MISS), 0)),
        ([MISS, None, HIT], BOTH, (None, 1)),
        ([MISS, FAIL, HIT], BOTH, (None, 1)),
        ([FAIL, HIT], BOTH, (None, 0)),
        ([None, HIT], BOTH, (None, 0)),
        ([ValueError("bug"), HIT], BOTH, (None, 0)),
        ([MISS, SystemExit(1), HIT], BOTH, (None, 1)),
        ([], BOTH, (None, 0)),
    ],
)
def test_at_once(known: Sequence[Any], fallthrough: Any, expected: tuple[Result | None, int]) -> None:
    """What the first backends know decides, up to one that has to be asked; nobody is asked."""
    fakes = [KnowingBackend(HIT, known=each) for each in known]
    chain = Chain(tuple((f"b{place}", fake) for place, fake in enumerate(fakes)), fallthrough)
    assert chain.at_once(QUERY) == expected
    assert not any(fake.queries for fake in fakes)


def test_asked_from_the_first_that_does_not_know() -> None:
    """Those that are known not to know the name are not asked again."""
    fakes = [FakeBackend(MISS), FakeBackend(HIT)]
    chain = Chain((("b0", fakes[0]), ("b1", fakes[1])))
    assert sync(chain.answer(QUERY, 1)) == Result(HIT, "b1")
    assert [len(fake.queries) for fake in fakes] == [0, 1]


def test_at_once_without_a_backend_that_knows() -> None:
    """A chain that is empty, or whose first backend always has to be asked, knows nothing at once."""
    assert Chain(()).at_once(QUERY) == (None, 0)
    assert Chain((("b0", FakeBackend(HIT)), ("b1", KnowingBackend(HIT, known=HIT)))).at_once(QUERY) == (None, 0)


class LastingBackend:
    """What says of its outcomes whether they may be used again.

    :param says: for what of a name to say; None for nothing.
    """

    def __init__(self, *, says: bool | None) -> None:
        self.says, self.used = says, list[Outcome]()

    def reuse(self, query: Query, outcome: Answered | Missing) -> Reuse | None:
        """Return that."""
        says = self.says
        return None if says is None else Reuse(lambda: bool(says), lambda: self.used.append(outcome))


@pytest.mark.parametrize(
    ("says", "holds"),
    [
        ([True], True),
        ([False], False),
        ([None], None),
        ([True, True], True),
        ([False, True], False),
        ([True, None], None),
    ],
)
def test_reuse(says: Sequence[bool | None], holds: bool | None) -> None:
    """A result may be used again if each backend that was asked for it says so, and counts for each of them."""
    fakes = [LastingBackend(says=each) for each in says]
    backends: list[Any] = [*fakes, LastingBackend(says=None)]
    chain = Chain(tuple((f"b{place}", backend) for place, backend in enumerate(backends)))
    reuse = chain.reuse(QUERY, HIT, len(fakes) - 1)
    assert (None if reuse is None else reuse.holds()) is holds
    if reuse is not None:
        reuse.count_again()
        assert [fake.used for fake in fakes] == [[MISS]] * (len(fakes) - 1) + [[HIT]]


def test_reuse_of_a_broken_backend() -> None:
    """A backend without a say in it, or one that raises, says no."""

    def broken(*_: object) -> Reuse:
        raise SystemExit(1)

    for backend in (FakeBackend(HIT), SimpleNamespace(reuse=broken)):
        assert Chain((("b0", backend),)).reuse(QUERY, HIT, 0) is None
