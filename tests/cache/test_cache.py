"""What is kept of a backend's answers: each state and its edges, who waits for what, and what a store adds."""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from fingergw.cache.cached_backend import BACK_OFF_SECONDS, MAX_REFRESHES, CachedBackend
from fingergw.cache.entry import Entry, Terms, digest
from fingergw.cache.flight import Runtime
from fingergw.cache.keys import Inputs
from fingergw.cache.memory import Memory
from fingergw.cache.store import Claim, Found
from fingergw.core.outcome import Answered, Failed, Freshness, Missing, Outcome, Unchanged, asking
from fingergw.core.query import Query
from tests.support import sync
from tests.support.fakes import say

TTL, STALE, NEGATIVE_TTL = 10.0, 30.0, 4.0
TERMS = Terms(TTL, STALE, NEGATIVE_TTL)
LOCK_SECONDS = 6.0
EPSILON = 1e-6
NO_NAMES = frozenset[str]()
USER = Inputs(frozenset({"user"}))
EVERYTHING = Inputs(frozenset({"user", "team"}), verbose=True, client=True, listener=True)
QUERY = Query("moshez")
OLD, NEW, NEWEST, DOWN = Answered("old"), Answered("new"), Answered("newest"), Failed("down")
GRANTED, HELD, FAILED, BACKING_OFF = Claim("granted"), Claim("held"), Claim("failed"), Claim("backing off")
ETAG = {"etag": '"1"'}
ONCE = Freshness(ttl=0.0, stale_while_revalidate=0.0, stale_if_error=0.0)  # may not be kept


_works: list[Deferred[None]] = []  # what a test's caches have begun


@pytest.fixture(autouse=True)
def _nothing_is_raised_in_the_background() -> Iterator[None]:
    """Fail a test in which what a cache has begun ends with an error: nobody looks at it."""
    _works.clear()
    yield
    assert [work.result for work in _works if isinstance(getattr(work, "result", None), Failure)] == []


def spawn(coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
    """Begin a cache's work."""
    work = Deferred.fromCoroutine(coroutine)
    _works.append(work)
    return work


@define(eq=False)
class Upstream:
    """A backend that says what it is told to, or takes its time.

    :param says: an outcome, an exception to raise, or None: then the last of ``calls`` is what it waits for.
    :param asked: the queries it was asked.
    :param calls: what each question that was not answered at once waits for.
    :param ending: what it still waits for once it is cancelled.
    :param cancelled: how many questions were cancelled.
    """

    says: Outcome | Unchanged | BaseException | None
    asked: list[Query] = field(factory=list)
    calls: list[Deferred[Any]] = field(factory=list)
    ending: Deferred[Any] | None = None
    cancelled: int = 0

    async def answer(self, query: Query) -> Outcome:
        """Answer as told."""
        return await self._said(query)  # type: ignore[no-any-return]

    async def _said(self, query: Query) -> Any:
        self.asked.append(query)
        said: Any = self.says
        if said is None:
            said = Deferred()
            self.calls.append(said)
        return await say(said, self._cancelled, self.ending)

    def _cancelled(self) -> None:
        self.cancelled += 1


@define(eq=False)
class RevalidatingUpstream(Upstream):
    """A backend that can ask whether what was answered still holds.

    :param given: the validators it was given, where it was given any.
    """

    given: list[dict[str, str]] = field(factory=list)

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Answer as told."""
        if validators:
            self.given.append(dict(validators))
        return await self._said(query)  # type: ignore[no-any-return]


@define(eq=False)
class FakeStore:
    """A store that says what it is told to.

    :param clock: what its replies take a moment of; None if they are there at once.
    :param replies: what claims are given, in order; then they are granted. A function is called for each.
    :param calls: what was asked of it.
    :param hangs: the names of methods that take for ever.
    :param marks: what puts and drops have left in the claim's place.
    """

    clock: Clock | None = None
    replies: list[Found | Claim | Callable[[], Found | Claim]] = field(factory=list)
    calls: list[tuple[Any, ...]] = field(factory=list)
    hangs: set[str] = field(factory=set)
    marks: list[str] = field(factory=list)

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Give the next reply."""
        self.calls.append(("claim", key, known, lock_seconds, waited))
        await self._take("claim")
        if not self.replies:
            return GRANTED
        reply = self.replies[0] if callable(self.replies[0]) else self.replies.pop(0)
        return reply() if callable(reply) else reply

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, mark: str = "", mark_seconds: float = 0.0
    ) -> None:
        """Note it."""
        self.calls.append(("put", key, value, keep_seconds, missing))
        self.marks.append(mark)
        await self._take("put")

    async def drop(self, key: str, mark: str = "", mark_seconds: float = 0.0) -> None:
        """Note it."""
        self.calls.append(("drop", key))
        self.marks.append(mark)
        await self._take("drop")

    async def release(self, key: str, mark: str, mark_seconds: float) -> None:
        """Note it."""
        self.calls.append(("release", key, mark, mark_seconds))
        await self._take("release")

    async def _take(self, name: str) -> None:
        if name in self.hangs:
            await Deferred()
        if self.clock is not None:
            await deferLater(self.clock, 0)

    @property
    def names(self) -> list[str]:
        """What was asked of it, by name."""
        return [call[0] for call in self.calls]


@define(eq=False)
class Bench:
    """A cache on a clock, before a backend that does what it is told."""

    upstream: Upstream
    store: FakeStore | None
    clock: Clock
    memory: Memory
    reports: list[Failed]
    cache: CachedBackend

    def ask(self, query: Query = QUERY) -> Deferred[Outcome]:
        """Begin to ask."""
        return Deferred.fromCoroutine(self.cache.answer(query))

    def at_once(self, query: Query = QUERY) -> Outcome:
        """Ask what is to be answered without a Deferred's turn; a refresh begins in the next."""
        outcome = sync(self.cache.answer(query))
        self.clock.advance(0)
        assert isinstance(outcome, Answered | Missing | Failed)
        return outcome

    def filled(self, outcome: Outcome = OLD, says: Any = None) -> Bench:
        """Return it with an answer kept, and what upstream says from now on."""
        self.upstream.says = outcome
        assert self.at_once() == outcome
        self.upstream.asked.clear()
        self.upstream.says = says
        return self

    def turn(self) -> None:
        """Let a store that takes a moment reply, however often it is asked, while no time passes."""
        for _ in range(20):
            self.clock.advance(0)

    @property
    def count(self) -> int:
        """How often upstream was asked."""
        return len(self.upstream.asked)


def make(
    says: Any = None,
    *,
    inputs: Inputs = USER,
    terms: Terms = TERMS,
    store: FakeStore | None = None,
    revalidating: bool = False,
    memory: Memory | None = None,
    prefix: str = "web:",
    clock: Clock | None = None,
) -> Bench:
    """Return a cache on a clock, that starts at some time.

    :param inputs: what is in the key.
    """
    if clock is None:
        clock = Clock()
        clock.advance(1000.0)
    if store is not None and store.clock is not None:
        store.clock = clock
    upstream = (RevalidatingUpstream if revalidating else Upstream)(says)
    if memory is None:
        memory = Memory(1000, 10**7)
    runtime = Runtime(clock.seconds, spawn, Deferred, partial(deferLater, clock), (CancelledError,))
    reports: list[Failed] = []
    cache = CachedBackend(
        asking(upstream), inputs, prefix, None, terms, LOCK_SECONDS, memory, store, runtime, reports.append
    )
    return Bench(upstream, store, clock, memory, reports, cache)


def told(asking: Deferred[Outcome]) -> Outcome | None:
    """Return what an asker has been told, None while it waits; raise what that is if it is no outcome."""
    if not asking.called:
        return None
    result: Any = getattr(asking, "result", None)
    if isinstance(result, Failure):
        asking.addErrback(lambda _: None)
        result.raiseException()
    assert isinstance(result, Answered | Missing | Failed)
    return result


def leave(asking: Deferred[Outcome]) -> None:
    """Cancel an asker, as a client that is gone does."""
    asking.addErrback(lambda failure: failure.trap(CancelledError))
    asking.cancel()


def leaving(asking: Deferred[Outcome]) -> Callable[[Outcome], Outcome]:
    """Return a callback that makes another leave."""

    def leave_then(outcome: Outcome) -> Outcome:
        leave(asking)
        return outcome

    return leave_then


def stored(
    outcome: Answered | Missing = NEW, age: float = 0.0, *, fresh: float = TTL, stale: float = 40.0, error: float = 40.0
) -> Found:
    """Return what a store has: what another gateway was told some time ago."""
    return Found(Entry(outcome, 0.0, fresh, stale, error, max(fresh, stale, error)).dumps(), age)


# what is in a key


def other(**changes: Any) -> Query:
    """Return a query that differs from another in one thing."""
    return Query("moshez", ("h",), False, "main", "192.0.2.1", {"team": "red"})._replace(**changes)


DIFFERENCES: dict[str, tuple[dict[str, Any], Inputs]] = {
    "user": ({"user": "glyph"}, Inputs(frozenset({"user"}))),
    "group": ({"groups": {"team": "blue"}}, Inputs(frozenset({"team"}))),
    "empty group": ({"groups": {"team": ""}}, Inputs(frozenset({"team"}))),
    "no group": ({"groups": {}}, Inputs(frozenset({"team"}))),
    "verbose": ({"verbose": True}, Inputs(NO_NAMES, verbose=True)),
    "client": ({"client": "192.0.2.2"}, Inputs(NO_NAMES, client=True)),
    "listener": ({"listener": "tls"}, Inputs(NO_NAMES, listener=True)),
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
    for unused in (inputs, Inputs(NO_NAMES)):
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


# each state, and its edges


def test_what_is_absent_is_asked() -> None:
    """A first asker waits for upstream, and is told what it says."""
    bench = make()
    asking = bench.ask()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(OLD)
    assert told(asking) == OLD
    assert bench.cache.counts == {"absent": 1}


def test_a_backend_that_answers_at_once() -> None:
    """What needs no reactor needs none with a cache either."""
    bench = make(OLD)
    assert bench.at_once() == OLD


@pytest.mark.parametrize("age", [0.0, TTL / 2, TTL - EPSILON])
def test_fresh(age: float) -> None:
    """What is fresh is answered without a Deferred's turn, and nobody is asked."""
    bench = make(store=FakeStore()).filled()
    assert bench.store is not None
    bench.store.calls.clear()
    bench.clock.advance(age)
    assert bench.at_once() == OLD
    assert (bench.count, bench.store.calls, bench.cache.counts["fresh"]) == (0, [], 1)
    assert bench.cache.state(QUERY)[0] == "fresh"


@pytest.mark.parametrize("age", [TTL, TTL + 1, TTL + STALE - EPSILON])
def test_stale(age: float) -> None:
    """What is stale is answered at once, and refreshed once in the background, also exactly at the edge."""
    bench = make().filled()
    bench.clock.advance(age)
    assert [bench.at_once() for _ in range(3)] == [OLD] * 3
    assert (bench.count, bench.cache.counts["stale"]) == (1, 3)
    assert bench.cache.state(QUERY)[0] == "stale"
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW
    assert (bench.count, bench.cache.counts["fresh"]) == (1, 1)


@pytest.mark.parametrize("age", [TTL + STALE, TTL + STALE + 1000])
def test_beyond_everything(age: float) -> None:
    """What is too old even for a failing upstream is asked for as if it were not there."""
    bench = make().filled()
    bench.clock.advance(age)
    assert bench.cache.state(QUERY)[0] == "absent"
    asking = bench.ask()
    assert told(asking) is None
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN
    assert bench.cache.counts == {"absent": 2, "failed": 1}
    assert bench.reports == []


# fresh until 10, served while refreshed until 15, when upstream fails until 30
KEPT = Answered("old", Freshness(ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0))


@pytest.mark.parametrize("age", [15.0, 20.0, 30.0 - EPSILON])
def test_expired(age: float) -> None:
    """What is expired is asked for again; if that fails, it is served, and the failure is reported and counted."""
    bench = make().filled(KEPT)
    bench.clock.advance(age)
    assert bench.cache.state(QUERY)[0] == "expired"
    askings = [bench.ask(), bench.ask()]
    assert [told(asking) for asking in askings] == [None, None]
    bench.upstream.calls[0].callback(DOWN)
    assert [told(asking) for asking in askings] == [KEPT, KEPT]
    assert bench.cache.counts == {"absent": 1, "expired": 2, "failed": 1, "stale_if_error": 2}
    assert bench.reports == [DOWN]


def test_expired_and_answered() -> None:
    """What is expired gives way to what upstream says now."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    asking = bench.ask()
    bench.upstream.calls[0].callback(NEW)
    assert told(asking) == NEW
    assert bench.at_once() == NEW
    assert bench.count == 1


def test_stale_if_error_ends_while_upstream_is_asked() -> None:
    """What counts is when upstream fails, not when it was asked."""
    bench = make().filled(KEPT)
    bench.clock.advance(29.0)
    asking = bench.ask()
    bench.clock.advance(1.0)
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN


def test_stale_if_error_is_counted_however_quickly_upstream_fails() -> None:
    """A backend that fails without waiting for anything has failed like any other."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(20.0)
    assert bench.at_once() == KEPT
    assert bench.reports == [DOWN]
    assert bench.cache.counts == {"absent": 1, "expired": 1, "failed": 1, "stale_if_error": 1}


@pytest.mark.parametrize("at_once", [False, True])
def test_a_failure_that_is_told_is_not_reported_as_well(at_once: bool) -> None:
    """Whoever is told of a failure sees to it that it is logged, also where it came without any wait."""
    bench = make(DOWN if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == DOWN
    assert bench.reports == []


def test_a_refresh_does_not_hold_up_who_is_served() -> None:
    """However many are served what is stale before upstream is asked, it is asked once."""
    bench = make().filled()
    bench.clock.advance(TTL)
    assert [sync(bench.cache.answer(QUERY)) for _ in range(300)] == [OLD] * 300
    bench.turn()
    assert bench.count == 1


def test_a_background_failure_is_reported() -> None:
    """A refresh that nobody waits for, and that fails, is reported once and counted."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.upstream.calls[0].callback(DOWN)
    assert bench.reports == [DOWN]
    assert +bench.cache.counts == {"absent": 1, "stale": 1, "failed": 1}


@pytest.mark.parametrize("outcome", [OLD, KEPT], ids=["stale", "expired"])
def test_back_off(outcome: Answered) -> None:
    """After a failure upstream is left alone for a time in which what is there is served, and then asked again."""
    bench = make().filled(outcome, DOWN)
    bench.clock.advance(20.0)
    assert bench.at_once() == outcome
    assert bench.count == 1
    bench.clock.advance(BACK_OFF_SECONDS - EPSILON)
    assert bench.at_once() == outcome
    assert bench.count == 1
    bench.clock.advance(EPSILON)
    assert bench.at_once() == outcome
    assert bench.count == 2


def test_backing_off_is_stale_if_error() -> None:
    """Who is served something expired while upstream is left alone is counted as such."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(20.0)
    bench.at_once()
    before = bench.cache.counts.copy()
    bench.at_once()
    assert bench.cache.counts - before == {"expired": 1, "stale_if_error": 1}


def test_no_back_off_without_anything_to_serve() -> None:
    """Once what there was may not be served any more, upstream is asked, however short ago it has failed."""
    bench = make().filled(KEPT, DOWN)
    bench.clock.advance(30.0 - 1.0)
    bench.at_once()
    bench.clock.advance(1.0)
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_back_off_is_over_with_an_answer() -> None:
    """What upstream says after a failure is refreshed as if there had been none."""
    bench = make().filled(OLD, DOWN)
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(BACK_OFF_SECONDS)
    bench.upstream.says = Answered("new", Freshness(ttl=1.0))
    bench.at_once()
    bench.clock.advance(1.0)
    bench.at_once()
    assert bench.count == 3


def test_back_off_is_of_one_key() -> None:
    """A failure for one name leaves upstream to be asked for others."""
    bench = make(OLD)
    for user in "ab":
        bench.at_once(Query(user))
    bench.upstream.says = DOWN
    bench.clock.advance(TTL)
    bench.at_once(Query("a"))
    bench.at_once(Query("b"))
    assert [query.user for query in bench.upstream.asked] == ["a", "b", "a", "b"]


def test_a_failure_is_not_kept() -> None:
    """Where there is nothing to serve, each asker asks anew."""
    bench = make(DOWN)
    assert [bench.at_once() for _ in range(3)] == [DOWN] * 3
    assert bench.count == 3
    assert bench.memory.entries == 0


def test_a_failure_does_not_take_what_is_kept() -> None:
    """After a failed refresh the old answer is as good as before."""
    bench = make().filled(OLD, DOWN)
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(STALE - EPSILON)
    assert bench.at_once() == OLD


def test_missing_is_kept_for_its_own_time() -> None:
    """A name that does not exist is known for negative_ttl, and then asked for again by whoever waits for it."""
    bench = make().filled(Missing())
    bench.clock.advance(NEGATIVE_TTL - EPSILON)
    assert bench.at_once() == Missing()
    assert bench.count == 0
    bench.clock.advance(EPSILON)
    asking = bench.ask()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(NEW)
    assert told(asking) == NEW
    assert bench.at_once() == NEW


@pytest.mark.parametrize(
    ("age", "expected"),
    [(NEGATIVE_TTL, Missing()), (NEGATIVE_TTL + STALE - EPSILON, Missing()), (NEGATIVE_TTL + STALE, DOWN)],
)
def test_missing_when_upstream_fails(age: float, expected: Outcome) -> None:
    """A name that did not exist still does not while upstream fails, as long as an answer would be served."""
    bench = make().filled(Missing(), DOWN)
    bench.clock.advance(age)
    assert bench.at_once() == expected


def test_a_name_that_is_gone() -> None:
    """Upstream's word that there is no such name takes the older answer's place."""
    bench = make().filled(OLD, Missing())
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == Missing()
    assert bench.memory.entries == 1


def test_nothing_kept_without_terms() -> None:
    """Terms of nothing keep nothing."""
    bench = make(OLD, terms=Terms(0.0, 0.0, 0.0))
    for outcome in (OLD, Missing()):
        bench.upstream.says = outcome
        assert [bench.at_once(), bench.at_once()] == [outcome] * 2
    assert (bench.count, bench.memory.entries) == (4, 0)


def test_only_so_many_refreshes_at_a_time() -> None:
    """Background refreshes are bounded; what is stale beyond that is served, and refreshed when there is room."""
    bench = make(OLD)
    names = [Query(f"u{number}") for number in range(MAX_REFRESHES + 1)]
    for query in names:
        bench.at_once(query)
    bench.upstream.asked.clear()
    bench.upstream.says = None
    bench.clock.advance(TTL)
    for query in names:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names[:-1]
    bench.upstream.calls[0].callback(NEW)
    bench.at_once(names[-1])
    assert bench.upstream.asked == names


def test_one_refresh_at_a_time_once_upstream_has_failed() -> None:
    """An upstream that has failed is tried by one refresh at a time, until it answers: then by as many as ever."""
    bench = make(OLD)
    names = [Query(f"u{number}") for number in range(8)]
    for query in names:
        bench.at_once(query)
    bench.upstream.asked.clear()
    bench.upstream.says = None
    bench.clock.advance(TTL)
    for number in (0, 1):
        bench.at_once(names[number])
    bench.upstream.calls[1].callback(DOWN)
    bench.upstream.calls[0].callback(DOWN)
    for query in names[2:5]:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names[:3]
    bench.upstream.calls[2].callback(NEW)
    for query in names[3:]:
        assert bench.at_once(query) == OLD
    assert bench.upstream.asked == names


@pytest.mark.parametrize("ends", [NEW, DOWN, KeyError("x"), CancelledError()], ids=lambda ends: type(ends).__name__)
def test_refreshes_are_accounted_for(ends: Any) -> None:
    """However refreshes end, there is room for the next."""
    bench = make().filled()
    for _ in range(MAX_REFRESHES + 5):
        bench.clock.advance(TTL + STALE)
        bench.upstream.says = OLD
        bench.at_once()
        bench.clock.advance(TTL)
        bench.upstream.says = None
        before = bench.count
        bench.at_once()
        assert bench.count == before + 1
        call = bench.upstream.calls[-1]
        call.errback(ends) if isinstance(ends, Exception) else call.callback(ends)
    assert bench.cache._refreshes == 0


# upstream's word


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OLD, (10, 40, 40, 40)),
        (Answered("x", Freshness()), (10, 40, 40, 40)),
        (Answered("x", Freshness(ttl=3)), (3, 33, 33, 33)),
        (Answered("x", Freshness(ttl=300)), (300, 330, 330, 330)),
        (Answered("x", Freshness(ttl=0)), (0, 30, 30, 30)),
        (Answered("x", Freshness(ttl=-5)), (-5, 25, 25, 25)),
        (Answered("x", Freshness(ttl=3, ttl_at_most=True)), (3, 33, 33, 33)),
        (Answered("x", Freshness(ttl=300, ttl_at_most=True)), (10, 40, 40, 40)),
        (Answered("x", Freshness(ttl=-5, ttl_at_most=True)), (-5, 25, 25, 25)),
        (Answered("x", Freshness(stale_while_revalidate=0)), (10, 10, 40, 40)),
        (Answered("x", Freshness(stale_if_error=0)), (10, 40, 10, 40)),
        (Answered("x", Freshness(stale_while_revalidate=5, stale_if_error=300)), (10, 15, 310, 310)),
        (Answered("x", Freshness(ttl=-50, stale_while_revalidate=55)), (-50, 5, -20, 5)),
        (Answered("x", ONCE), None),
        (Answered("x", Freshness(ttl=-30)), None),
        (Answered("x", evolve(ONCE, validators=ETAG)), (0, 0, 0, 3600)),
        (Answered("x", Freshness(ttl=100, validators=ETAG)), (100, 130, 130, 3600)),
        (Answered("x", Freshness(ttl=5000, validators=ETAG)), (5000, 5030, 5030, 5030)),
        (Missing(), (4, 4, 34, 34)),
        (Missing(Freshness(ttl=2)), (2, 2, 32, 32)),
        (Missing(Freshness(ttl=20)), (20, 20, 50, 50)),
        (Missing(Freshness(ttl=20, ttl_at_most=True)), (4, 4, 34, 34)),
        (Missing(Freshness(stale_while_revalidate=7)), (4, 11, 34, 34)),
        (Missing(Freshness(stale_if_error=0)), (4, 4, 4, 4)),
        (Missing(ONCE), None),
    ],
)
def test_upstreams_word_wins(outcome: Answered | Missing, expected: tuple[float, ...] | None) -> None:
    """How long an outcome is good for what: what upstream says of it, and the terms where it does not."""
    now = 1000.0
    entry = Entry.made(outcome, TERMS, now)
    if expected is None:
        assert entry is None
        return
    assert entry is not None
    times = (entry.fresh_until, entry.stale_until, entry.error_until, entry.keep_until)
    assert tuple(time - now for time in times) == expected
    assert (entry.outcome, entry.since) == (outcome, now)


def test_a_longer_ttl_of_upstreams() -> None:
    """The cache keeps an answer as long as upstream says, not its own time."""
    said = Answered("old", Freshness(ttl=100.0, stale_while_revalidate=0.0))
    bench = make().filled(said)
    bench.clock.advance(100.0 - EPSILON)
    assert bench.at_once() == said
    bench.clock.advance(EPSILON)
    assert told(bench.ask()) is None


@pytest.mark.parametrize("outcome", [Answered("once", ONCE), Missing(ONCE)], ids=["answered", "missing"])
def test_what_may_not_be_kept(outcome: Outcome) -> None:
    """What may not be kept is told and not kept, and what was kept before goes."""
    store = FakeStore()
    bench = make(store=store).filled(KEPT, outcome)
    bench.clock.advance(20.0)
    store.calls.clear()
    assert bench.at_once() == outcome
    assert bench.memory.entries == 0
    assert store.names == ["claim", "drop"]
    bench.upstream.says = DOWN
    assert bench.at_once() == DOWN


def test_what_may_not_be_kept_is_shared_by_those_who_wait() -> None:
    """Who asked for the same while it was asked for is told the same."""
    bench = make()
    askings = [bench.ask() for _ in range(3)]
    bench.upstream.calls[0].callback(Answered("once", ONCE))
    assert [told(asking) for asking in askings] == [Answered("once")] * 3
    assert bench.count == 1


# revalidation


def test_unchanged() -> None:
    """An answer that still holds is told again, and is as fresh as upstream says now."""
    held = Answered("old", Freshness(ttl=10.0, validators=ETAG))
    bench = make(revalidating=True).filled(held)
    assert isinstance(bench.upstream, RevalidatingUpstream)
    assert bench.upstream.given == []
    bench.clock.advance(TTL + STALE - EPSILON)
    bench.at_once()
    assert bench.upstream.given == [ETAG]
    bench.upstream.calls[0].callback(Unchanged(Freshness(ttl=50.0, validators={"etag": '"2"'})))
    bench.clock.advance(50.0 - EPSILON)
    assert bench.at_once() == held
    assert bench.count == 1
    bench.clock.advance(EPSILON)
    bench.at_once()
    assert bench.upstream.given == [ETAG, {"etag": '"2"'}]


def test_validators_outlive_the_answer() -> None:
    """What may not be served any more is still good to be asked for by its validators, for the stale time."""
    held = Answered("old", evolve(ONCE, validators=ETAG))
    bench = make(revalidating=True).filled(held, Unchanged(evolve(ONCE, validators=ETAG)))
    assert isinstance(bench.upstream, RevalidatingUpstream)
    bench.clock.advance(STALE - EPSILON)
    assert bench.cache.state(QUERY)[0] == "expired"
    assert bench.at_once() == held
    assert bench.upstream.given == [ETAG]
    bench.upstream.says = DOWN
    assert bench.at_once() == DOWN


def test_unchanged_and_not_to_be_kept() -> None:
    """What still holds, and may not be kept any more, is told and goes."""
    held = Answered("old", Freshness(ttl=1.0, stale_while_revalidate=0.0, validators=ETAG))
    bench = make(revalidating=True).filled(held, Unchanged(ONCE))
    bench.clock.advance(1.0)
    assert bench.at_once() == held
    assert bench.memory.entries == 0


def test_changed() -> None:
    """A new answer takes the place of the one that was asked for by its validators."""
    bench = make(revalidating=True).filled(Answered("old", Freshness(validators=ETAG)), NEW)
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == NEW


@pytest.mark.parametrize(
    "outcome", [OLD, Missing(Freshness(stale_while_revalidate=STALE, validators=ETAG))], ids=["none", "missing"]
)
def test_nothing_to_revalidate(outcome: Outcome) -> None:
    """What came without validators, and what is no answer, is asked for as ever."""
    bench = make(revalidating=True).filled(outcome, NEW)
    assert isinstance(bench.upstream, RevalidatingUpstream)
    bench.clock.advance(TTL)
    bench.at_once()
    assert (bench.upstream.given, bench.count) == ([], 1)


def test_a_backend_that_cannot_revalidate() -> None:
    """A backend that knows no validators is asked as ever."""
    bench = make().filled(Answered("old", Freshness(validators=ETAG)), NEW)
    bench.clock.advance(TTL)
    bench.at_once()
    assert bench.at_once() == NEW


@pytest.mark.parametrize("failure", [DOWN, RuntimeError("x")], ids=["failed", "raised"])
def test_revalidation_that_fails(failure: Any) -> None:
    """A revalidation fails as any question does."""
    held = Answered("old", Freshness(stale_while_revalidate=0.0, validators=ETAG))
    bench = make(revalidating=True).filled(held, failure)
    bench.clock.advance(TTL)
    assert bench.at_once() == held
    assert len(bench.reports) == 1


# who waits together


def test_a_first_miss_is_asked_once() -> None:
    """However many ask for one name, upstream is asked once, and all are told."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    assert bench.count == 1
    bench.upstream.calls[0].callback(OLD)
    assert [told(asking) for asking in askings] == [OLD] * 300


def test_an_expired_answer_is_asked_for_once() -> None:
    """So it is where there was an answer."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    askings = [bench.ask() for _ in range(300)]
    assert bench.count == 1
    bench.upstream.calls[0].callback(NEW)
    assert [told(asking) for asking in askings] == [NEW] * 300


def test_who_waits_shares_a_failure() -> None:
    """A failure is told to all who waited for it, and is nobody else's."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    bench.upstream.calls[0].callback(DOWN)
    assert [told(asking) for asking in askings] == [DOWN] * 300
    assert (bench.reports, bench.cache.counts["failed"]) == ([], 1)
    assert told(bench.ask()) is None


def test_other_names_do_not_wait() -> None:
    """A name that takes its time holds up no other."""
    bench = make()
    slow = bench.ask(Query("slow"))
    bench.upstream.says = NEW
    assert bench.at_once(Query("quick")) == NEW
    assert told(slow) is None


def test_a_refresh_becomes_what_is_waited_for() -> None:
    """What expires while it is refreshed is waited for in that same refresh."""
    bench = make().filled()
    bench.clock.advance(TTL + STALE - 1.0)
    bench.at_once()
    bench.clock.advance(1.0)
    askings = [bench.ask(), bench.ask()]
    assert (told(askings[0]), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(NEW)
    assert [told(asking) for asking in askings] == [NEW, NEW]


def test_those_who_leave_do_not_take_the_others_answer() -> None:
    """All who have not left are told."""
    bench = make()
    askings = [bench.ask() for _ in range(300)]
    for each in askings[:299]:
        leave(each)
    assert bench.upstream.cancelled == 0
    bench.upstream.calls[0].callback(OLD)
    assert told(askings[299]) == OLD


def test_the_last_who_leaves_ends_the_question() -> None:
    """Nobody is asked for the benefit of nobody, and who comes then asks anew."""
    bench = make()
    for each in [bench.ask() for _ in range(3)]:
        assert bench.upstream.cancelled == 0
        leave(each)
    assert bench.upstream.cancelled == 1
    late = bench.ask()
    assert bench.count == 2
    bench.upstream.calls[1].callback(OLD)
    assert told(late) == OLD


def test_leaving_something_expired() -> None:
    """A question that its last asker has left is no failure: what was there is as it was."""
    bench = make().filled(KEPT)
    bench.clock.advance(20.0)
    leave(bench.ask())
    assert bench.upstream.cancelled == 1
    assert bench.reports == []
    assert bench.cache.counts["failed"] == 0
    bench.upstream.says = DOWN
    assert bench.at_once() == KEPT
    assert bench.count == 2


def test_a_refresh_goes_on_without_anybody() -> None:
    """A background refresh that somebody has waited for, and left, goes on."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.clock.advance(STALE)
    leave(bench.ask())
    assert bench.upstream.cancelled == 0
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW


def test_an_answer_that_makes_another_leave() -> None:
    """Those who wait may leave while they are told."""
    bench = make()
    first, second, third = (bench.ask() for _ in range(3))
    first.addCallback(leaving(second))
    bench.upstream.calls[0].callback(OLD)
    assert told(first) == told(third) == OLD
    assert bench.at_once() == OLD


def test_an_answer_that_makes_somebody_ask() -> None:
    """Who asks while others are told is answered, too."""
    bench = make()
    asked: list[Outcome | None] = []
    bench.ask().addCallback(lambda _: asked.append(told(bench.ask())))
    bench.upstream.calls[0].callback(OLD)
    assert asked == [OLD]


@pytest.mark.parametrize(
    "ends", [CancelledError(), RuntimeError("x"), NEWEST, DOWN, Missing()], ids=lambda ends: type(ends).__name__
)
def test_cancelling_that_takes_time(ends: Any) -> None:
    """Who asks while a question that was left is still ending starts anew, and is told what that comes to."""
    bench = make()
    ending = bench.upstream.ending = Deferred()
    leave(bench.ask())
    assert bench.upstream.cancelled == 1
    second, third = bench.ask(), bench.ask()
    assert bench.count == 2
    ending.errback(ends) if isinstance(ends, Exception) else ending.callback(ends)
    assert (told(second), told(third)) == (None, None)
    # what the first came to may be kept, but those two still wait together, and so does who finds nothing kept
    bench.upstream.calls[1].callback(NEW)
    assert told(second) == told(third) == NEW
    assert bench.count == 2
    assert bench.at_once() == NEW


def test_cancelling_that_takes_time_and_the_next_is_left_too() -> None:
    """A question that was left, and ends late, ends no other's."""
    bench = make()
    endings: list[Deferred[Any]] = []
    for _ in range(3):
        endings.append(Deferred())
        bench.upstream.ending = endings[-1]
        leave(bench.ask())
    assert (bench.count, bench.upstream.cancelled) == (3, 3)
    last = bench.ask()
    for ending in endings:
        ending.errback(CancelledError())
    assert bench.ask() is not last
    assert bench.count == 4
    bench.upstream.calls[3].callback(NEW)
    assert told(last) == NEW


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_raised_is_a_failure(at_once: bool) -> None:
    """A backend that raises has failed for all who wait; what it raised is kept for the log, and is not an answer."""
    error = RuntimeError("secret")
    bench = make(error if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].errback(error)
    outcome = told(asking)
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


def test_what_is_raised_in_the_background() -> None:
    """A refresh that raises is reported, and upstream is left alone for a time as after any failure."""
    bench = make().filled(OLD, RuntimeError("secret"))
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    assert bench.at_once() == OLD
    assert bench.count == 1
    (report,) = bench.reports
    assert isinstance(report.error, RuntimeError)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_backend_that_says_it_was_cancelled(at_once: bool) -> None:
    """A backend that raises what cancels it, though nobody has, leaves nobody waiting, and is asked again."""
    bench = make(CancelledError() if at_once else None)
    asking = bench.ask()
    if not at_once:
        bench.upstream.calls[0].errback(CancelledError())
    assert isinstance(told(asking), Failed)
    bench.upstream.says = NEW
    assert bench.at_once() == NEW


# the end


def test_stop() -> None:
    """A stop leaves nobody waiting and nothing running: questions and refreshes are cancelled."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    askings = [bench.ask(Query(f"u{number % 3}")) for number in range(9)]
    assert bench.count == 4
    bench.cache.stop()
    assert bench.upstream.cancelled == 4
    assert all(isinstance(told(asking), Failed) for asking in askings)
    assert bench.clock.getDelayedCalls() == []
    bench.cache.stop()


def test_stop_before_a_refresh_has_begun() -> None:
    """Nothing begins after a stop."""
    bench = make().filled()
    bench.clock.advance(TTL)
    sync(bench.cache.answer(QUERY))
    bench.cache.stop()
    assert bench.clock.getDelayedCalls() == []
    bench.clock.advance(1.0)
    assert (bench.count, bench.cache._refreshes) == (0, 0)


def test_stop_and_what_is_kept() -> None:
    """A refresh that a stop has ended is no failure of upstream."""
    bench = make().filled()
    bench.clock.advance(TTL)
    bench.at_once()
    bench.cache.stop()
    assert (bench.reports, bench.cache.counts["failed"]) == ([], 0)


def test_stop_while_those_told_leave() -> None:
    """Who is told of the end may make others leave that wait for the same."""
    bench = make()
    first, second = bench.ask(), bench.ask()
    first.addCallback(leaving(second))
    bench.cache.stop()
    assert isinstance(told(first), Failed)
    assert second.called


def test_stop_with_an_upstream_that_ends_late() -> None:
    """What takes its time to be cancelled holds up nobody who waits."""
    bench = make()
    bench.upstream.ending = Deferred()
    asking = bench.ask()
    bench.cache.stop()
    assert isinstance(told(asking), Failed)


def test_stop_while_a_store_is_polled() -> None:
    """Those who wait for another gateway do not any more."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(store=store)
    asking = bench.ask()
    assert bench.clock.getDelayedCalls()
    bench.cache.stop()
    assert isinstance(told(asking), Failed)
    assert bench.clock.getDelayedCalls() == []


def test_stop_with_a_store_that_takes_its_time() -> None:
    """Nobody who is told of the end waits for the store to give up a claim."""
    store = FakeStore(hangs={"release"})
    bench = make(store=store)
    asking = bench.ask()
    bench.cache.stop()
    assert store.names == ["claim", "release"]
    assert isinstance(told(asking), Failed)


# with a store: one that replies at once, and one that takes a moment


@pytest.mark.parametrize(
    ("outcome", "marks"),
    [
        (Answered("x", Freshness(0.0, 0.0, 0.0)), ["not shared"]),
        (Answered("x", Freshness(0.0, 0.0, 0.0, ETAG)), ["not shared"]),
        (Answered("x", Freshness(0.0, 5.0, 0.0)), [""]),
        (Answered("x", Freshness(0.0, 0.0, 5.0)), ["not shared"]),
        (Missing(Freshness(0.0, 0.0, 0.0)), ["not shared"]),
        (OLD, [""]),
        (Missing(), [""]),
    ],
)
def test_what_others_need_not_wait_for(outcome: Answered | Missing, marks: list[str]) -> None:
    """Where upstream wants to be asked by each, other gateways are told not to wait for one another."""
    bench = make(outcome, store=FakeStore())
    assert bench.at_once() == outcome
    assert bench.store is not None
    assert bench.store.marks == marks


def test_not_shared() -> None:
    """What is said not to be shared is asked for without a claim, and at once."""
    bench = make(NEW, store=FakeStore(replies=[lambda: Claim("not shared")]))
    assert bench.at_once() == NEW
    assert bench.count == 1


@pytest.mark.parametrize("seconds", [315360000.0, 2.0**31 - 1])
def test_what_is_kept_for_very_long_can_be_read_again(seconds: float) -> None:
    """The longest times that upstream and the configuration can say cross to another process."""
    said = Freshness(seconds, seconds, seconds, ETAG)
    entry = Entry.made(Answered("x", said), Terms(1e9, 1e9, 1e9), 0.0)
    assert entry is not None
    read = Entry.loads(entry.dumps(), 0.0, 0.0)
    assert read is not None
    assert read.keep_until == entry.keep_until == 2 * seconds


@pytest.fixture(params=[False, True], ids=["at once", "in a moment"])
def store(request: pytest.FixtureRequest) -> FakeStore:
    """Return a store."""
    return FakeStore(Clock() if request.param else None)  # make() gives it the bench's clock


def outcome_with(bench: Bench, query: Query = QUERY) -> Outcome | None:
    """Ask, let the store reply, and return what the asker was told."""
    asking = bench.ask(query)
    bench.turn()
    return told(asking)


def test_put(store: FakeStore) -> None:
    """What upstream says is put into the store, whole, for as long as it is of use."""
    bench = make(Answered("new", Freshness(stale_if_error=100.0, validators=ETAG)), store=store)
    assert outcome_with(bench) == NEW
    (claim, (name, key, value, keep_seconds, missing)) = store.calls
    assert claim == ("claim", "web:moshez", "", LOCK_SECONDS, False)
    assert (name, key, keep_seconds, missing) == ("put", "web:moshez", 3600.0, False)  # for so long it is asked after
    entry = Entry.loads(value, 0.0, bench.clock.seconds())
    kept = bench.cache.state(QUERY)[1]
    assert entry is not None
    assert kept is not None
    assert kept.digest == entry.digest == digest(value)
    assert entry.outcome == NEW
    assert dict(entry.validators) == ETAG
    for name in ("since", "fresh_until", "stale_until", "error_until", "keep_until"):
        assert getattr(entry, name) == pytest.approx(getattr(kept, name))


def test_put_missing(store: FakeStore) -> None:
    """Missing is put as such, for negative_ttl only."""
    bench = make(Missing(), store=store)
    assert outcome_with(bench) == Missing()
    name, _, value, keep_seconds, missing = store.calls[-1]
    assert (name, keep_seconds, missing) == ("put", NEGATIVE_TTL, True)
    entry = Entry.loads(value, 0.0, 0.0)
    assert entry is not None
    assert entry.outcome == Missing()


def test_a_missing_that_is_fresh_for_no_time_is_not_put(store: FakeStore) -> None:
    """What would be no news to anybody is dropped, which gives up the claim."""
    bench = make(Missing(), store=store, terms=Terms(TTL, STALE, 0.0))
    assert outcome_with(bench) == Missing()
    assert store.names == ["claim", "drop"]


@pytest.mark.parametrize("method", ["put", "drop", "release"])
@pytest.mark.parametrize("at_once", [False, True])
def test_nobody_waits_for_what_is_done_after(store: FakeStore, method: str, at_once: bool) -> None:
    """Upstream's word is told before the store has it, however long that takes; the next asker finds it."""
    outcomes: dict[str, Outcome] = {"put": NEW, "drop": Answered("new", ONCE), "release": DOWN}
    says = outcomes[method]
    store.hangs.add(method)
    bench = make(says if at_once else None, store=store)
    asking = bench.ask()
    bench.turn()
    if not at_once:
        assert told(asking) is None
        bench.upstream.calls[0].callback(says)
    assert told(asking) == says
    assert store.names == ["claim", method]
    if method == "put":
        assert bench.at_once() == NEW
    else:
        bench.ask()
        bench.turn()
        assert bench.count == 2


def test_found_fresh(store: FakeStore) -> None:
    """What another gateway was told is told, as long as it is fresh, and kept for the rest of that time."""
    store.replies = [stored(age=3.0)]
    bench = make(store=store)
    assert outcome_with(bench) == NEW
    assert store.names == ["claim"]
    bench.clock.advance(TTL - 3.0 - EPSILON)
    assert bench.at_once() == NEW
    assert bench.count == 0
    bench.clock.advance(2 * EPSILON)
    assert bench.cache.state(QUERY)[0] == "stale"


def test_found_fresh_by_all_who_wait() -> None:
    """The store is asked once for all who ask for the same."""
    store = FakeStore(Clock(), [stored()])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    bench.turn()
    assert [told(asking) for asking in askings] == [NEW] * 300
    assert store.names == ["claim"]


def test_found_stale(store: FakeStore) -> None:
    """What another was told is told at once while it may be, and refreshed in the background."""
    found = stored(OLD, age=TTL)
    store.replies = [found]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    assert told(asking) == OLD
    assert bench.count == 1
    assert [call[2] for call in store.calls] == ["", digest(found.value)]
    assert bench.at_once() == OLD
    bench.upstream.calls[0].callback(NEW)
    assert bench.at_once() == NEW
    assert store.names == ["claim", "claim", "put"]
    assert bench.cache._refreshes == 0


def test_found_stale_goes_on_without_who_asked(store: FakeStore) -> None:
    """Its refresh is one in the background: it does not end with those who asked."""
    store.replies = [stored(OLD, age=TTL)]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    leave(asking)
    assert bench.upstream.cancelled == 0


def test_found_stale_that_another_refreshes(store: FakeStore) -> None:
    """What is stale is told also where another gateway refreshes it already, and looked for again a second later."""
    store.replies = [stored(OLD, age=TTL), HELD]
    bench = make(store=store)
    assert outcome_with(bench) == OLD
    assert bench.count == 0
    bench.clock.advance(1.0 - EPSILON)
    assert bench.at_once() == OLD
    bench.turn()
    assert store.names == ["claim", "claim"]
    bench.clock.advance(EPSILON)
    store.replies = [stored(NEW)]
    assert bench.at_once() in (OLD, NEW)
    bench.turn()
    assert bench.at_once() == NEW
    assert bench.count == 0
    assert bench.cache._refreshes == 0


def test_found_stale_and_upstream_fails(store: FakeStore) -> None:
    """Who was told what is stale is told nothing else when its refresh fails, and that is reported."""
    store.replies = [stored(OLD, age=TTL, error=TTL)]
    bench = make(DOWN, store=store)
    assert outcome_with(bench) == OLD
    assert bench.reports == [DOWN]
    assert bench.cache._refreshes == 0


def test_found_expired(store: FakeStore) -> None:
    """What may only be served when upstream fails is served when it does."""
    store.replies = [stored(OLD, age=20.0, stale=20.0)]
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    assert (told(asking), bench.count) == (None, 1)
    bench.upstream.calls[0].callback(DOWN)
    assert told(asking) == OLD
    bench.turn()
    assert store.calls[-1] == ("release", "web:moshez", "backing off", BACK_OFF_SECONDS)
    assert bench.at_once() == OLD
    assert bench.count == 1


def test_found_too_old(store: FakeStore) -> None:
    """What is beyond everything is none."""
    store.replies = [stored(OLD, age=40.0)]
    bench = make(DOWN, store=store)
    bench.memory.put("other", entry_of(), bench.clock.seconds())  # which sweeps, so that the next put does not
    assert outcome_with(bench) == DOWN
    assert bench.memory.entries == 1


def test_found_with_validators(store: FakeStore) -> None:
    """What another gateway was told is revalidated by its validators."""
    store.replies = [stored(Answered("old", Freshness(validators=ETAG)), age=TTL)]
    bench = make(Unchanged(Freshness()), store=store, revalidating=True)
    assert outcome_with(bench) == OLD
    assert isinstance(bench.upstream, RevalidatingUpstream)
    assert bench.upstream.given == [ETAG]
    assert bench.cache.state(QUERY)[0] == "fresh"


def test_a_refresh_finds_what_another_has_got(store: FakeStore) -> None:
    """What is stale is not asked for where another gateway has a newer answer."""
    bench = make(OLD, store=store)
    assert outcome_with(bench) == OLD
    entry = bench.cache.state(QUERY)[1]
    assert entry is not None
    bench.upstream.asked.clear()
    bench.clock.advance(TTL)
    store.replies = [stored(NEW, age=1.0)]
    assert bench.at_once() == OLD
    assert store.calls[-1][2] == entry.digest != ""
    bench.turn()
    assert bench.at_once() == NEW
    assert bench.count == 0


def test_what_is_older_than_ones_own_is_passed_over(store: FakeStore) -> None:
    """An answer that is older than what is at hand is none, and what is at hand stays."""
    bench = make(KEPT, store=store)
    assert outcome_with(bench) == KEPT
    bench.upstream.says = DOWN
    bench.clock.advance(20.0)
    store.replies = [stored(NEWEST, age=25.0, fresh=1000.0)]
    assert outcome_with(bench) == KEPT
    assert bench.count == 2


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\x80\x04K\x01.",
    "another type": b"[1, 2]",
    "another version": stored().value.replace(b'"version": 1', b'"version": 2'),
    "cut": stored().value[:-3],
    "not finite": stored().value.replace(b'"fresh": 10.0', b'"fresh": NaN'),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_a_miss(store: FakeStore, what: str) -> None:
    """What is no entry is none; it is not looked at twice, and what upstream says takes its place."""
    value = GARBAGE[what]
    store.replies = [Found(value, 0.0)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == NEW
    assert [call[2] for call in store.calls[:2]] == ["", digest(value)]
    assert store.names == ["claim", "claim", "put"]


def test_endless_garbage(store: FakeStore) -> None:
    """A store that has something else each time is left at that, and upstream is asked."""
    numbers = iter(range(1000))
    store.replies = [lambda: Found(b"%d" % next(numbers), 0.0)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == NEW
    assert len(store.calls) < 10


def test_endless_stale(store: FakeStore) -> None:
    """So it is where each of them is an entry, and newer than the last."""
    ages = iter(range(1000))
    store.replies = [lambda: stored(OLD, age=39.0 - next(ages) / 100)]
    bench = make(NEW, store=store)
    assert outcome_with(bench) in (OLD, NEW)
    assert bench.count == 1
    assert len(store.calls) < 10
    assert bench.at_once() == NEW


def test_held_and_then_found() -> None:
    """What another gateway is asking is waited for, all together, and told when it has it."""
    store = FakeStore(replies=[HELD, HELD, HELD, stored(NEW)])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    assert len(store.calls) == 1
    bench.clock.pump([0.05] * 2)
    assert [told(asking) for asking in askings] == [None] * 300
    bench.clock.advance(0.05)
    assert [told(asking) for asking in askings] == [NEW] * 300
    assert [call[4] for call in store.calls] == [False, True, True, True]
    assert (bench.count, bench.clock.getDelayedCalls()) == (0, [])


def test_held_and_then_granted() -> None:
    """Where the other gateway has left it, it is one's own to ask."""
    store = FakeStore(replies=[HELD, GRANTED])
    bench = make(NEW, store=store)
    asking = bench.ask()
    bench.clock.advance(0.05)
    assert told(asking) == NEW


def test_held_for_ever() -> None:
    """A claim that is never given up is waited for no longer than asking can take."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(NEW, store=store)
    asking = bench.ask()
    bench.clock.pump([0.05] * int(LOCK_SECONDS / 0.05 - 1))
    assert told(asking) is None
    bench.clock.pump([0.05] * 11)  # it is looked after every half a second by then
    assert told(asking) == NEW
    assert bench.clock.getDelayedCalls() == []


def test_held_and_the_last_leaves() -> None:
    """Nobody polls for nobody."""
    store = FakeStore(replies=[lambda: HELD])
    bench = make(store=store)
    leave(bench.ask())
    assert bench.clock.getDelayedCalls() == []
    bench.clock.advance(1.0)
    assert store.names.count("claim") == 1


def test_held_and_failed() -> None:
    """A failure at the gateway that was waited for is shared by all who waited; upstream is not asked once more."""
    store = FakeStore(replies=[HELD, FAILED])
    bench = make(store=store)
    askings = [bench.ask() for _ in range(300)]
    bench.clock.advance(0.05)
    assert all(isinstance(told(asking), Failed) for asking in askings)
    assert bench.count == 0
    assert store.names == ["claim", "claim"]


@pytest.mark.parametrize("reply", [FAILED, BACKING_OFF], ids=lambda reply: reply.state)
def test_held_and_failed_with_something_to_serve(reply: Claim) -> None:
    """What may be served when upstream fails is served when another gateway has seen it fail; it is left alone."""
    store = FakeStore(replies=[GRANTED, HELD, reply])
    bench = make(KEPT, store=store)
    bench.at_once()
    bench.clock.advance(20.0)
    asking = bench.ask()
    bench.clock.advance(0.05)
    assert told(asking) == KEPT
    assert bench.at_once() == KEPT
    assert (bench.count, bench.cache.counts["stale_if_error"]) == (1, 2)
    bench.clock.advance(BACK_OFF_SECONDS)
    assert bench.at_once() == KEPT or bench.count == 2


def test_backing_off_with_something_expired(store: FakeStore) -> None:
    """What another gateway has seen fail is not asked for where there is something to serve."""
    store.replies = [stored(OLD, age=20.0, stale=20.0), BACKING_OFF]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == OLD
    assert bench.count == 0
    assert bench.cache.counts["stale_if_error"] == 1


def test_backing_off_with_something_stale(store: FakeStore) -> None:
    """A refresh that another gateway has seen fail is left for a time."""
    bench = make(OLD, store=store)
    assert outcome_with(bench) == OLD
    store.replies = [BACKING_OFF]
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    bench.turn()
    bench.clock.advance(BACK_OFF_SECONDS - 1.0)
    assert bench.at_once() == OLD
    bench.turn()
    assert bench.count == 1
    assert store.names == ["claim", "put", "claim"]


def test_backing_off_with_something_stale_is_not_stale_if_error(store: FakeStore) -> None:
    """So it is for an answer that may be served while it is refreshed, and not when upstream fails."""
    bench = make(Answered("old", Freshness(stale_if_error=0.0)), store=store)
    assert outcome_with(bench) == OLD
    store.replies = [BACKING_OFF]
    bench.clock.advance(TTL)
    assert bench.at_once() == OLD
    bench.turn()
    assert bench.count == 1


def test_backing_off_with_nothing(store: FakeStore) -> None:
    """Who has nothing to serve asks upstream, whatever others have seen."""
    store.replies = [BACKING_OFF]
    bench = make(NEW, store=store)
    assert outcome_with(bench) == NEW


def test_failed_with_nothing(store: FakeStore) -> None:
    """A failure where nothing is kept is left for those who wait, for a moment."""
    bench = make(DOWN, store=store)
    assert outcome_with(bench) == DOWN
    assert store.calls[-1] == ("release", "web:moshez", "failed", 1.0)


def test_the_last_who_leaves_releases_the_claim(store: FakeStore) -> None:
    """A question that is left is another gateway's to ask."""
    bench = make(store=store)
    asking = bench.ask()
    bench.turn()
    leave(asking)
    bench.turn()
    assert store.calls[1:] == [("release", "web:moshez", "", 0.0)]


def test_leaving_while_the_store_is_asked() -> None:
    """A claim that may have been granted by now is given up."""
    store = FakeStore(Clock())
    bench = make(store=store)
    leave(bench.ask())
    bench.turn()
    assert store.names == ["claim", "release"]
    assert bench.count == 0


def test_leaving_and_a_store_that_takes_its_time() -> None:
    """Who comes while a claim is given up starts anew, and does not wait for that."""
    store = FakeStore(hangs={"release"})
    bench = make(store=store)
    leave(bench.ask())
    assert outcome_with(bench) is None
    assert bench.count == 2


def test_leaving_and_a_store_that_replies_nevertheless() -> None:
    """A store that cannot be cancelled any more, and has something stale, begins no refresh that nobody counts."""

    class Stubborn(FakeStore):
        async def _take(self, name: str) -> None:
            if name == "claim":
                with contextlib.suppress(CancelledError):
                    await Deferred()

    bench = make(NEW, store=Stubborn(replies=[stored(OLD, age=TTL)]))
    leave(bench.ask())
    bench.cache.stop()
    assert bench.cache._refreshes == 0


# what is at hand


def entry_of(outcome: Answered | Missing = OLD, keep_until: float = 1e9) -> Entry:
    """Return an entry."""
    return Entry(outcome, 0.0, keep_until, keep_until, keep_until, keep_until)


def test_the_least_recently_used_goes() -> None:
    """When there are too many entries, those go that were not used for longest; to find one is to use it."""
    memory = Memory(10, 10**6)  # nine, and one that is missing
    for number in range(9):
        memory.put(f"k{number}", entry_of(), 0.0)
    memory.get("k0")
    memory.put("k9", entry_of(), 0.0)
    assert [number for number in range(10) if memory.get(f"k{number}") is None] == [1]


def test_bytes_are_bounded() -> None:
    """When entries take too much, the least recently used go."""
    size = entry_of(Answered("x" * 10_000)).measure("k0")
    memory = Memory(10**6, int(3.5 * size / 0.9))
    for number in range(5):
        memory.put(f"k{number}", entry_of(Answered("x" * 10_000)), 0.0)
    assert [number for number in range(5) if memory.get(f"k{number}") is not None] == [2, 3, 4]
    assert memory.bytes == 3 * size


def test_what_is_larger_than_all_is_not_kept() -> None:
    """What does not fit is not kept, and what was there of its key goes."""
    memory = Memory(100, 100_000)
    memory.put("k", entry_of(), 0.0)
    memory.put("k", entry_of(Answered("x" * 100_000)), 0.0)
    assert (memory.get("k"), memory.entries, memory.bytes) == (None, 0, 0)


def test_what_is_larger_than_all_does_not_push_out_the_others() -> None:
    """An answer that cannot be kept costs no other its place."""
    memory = Memory(100, 100_000)
    memory.put("k", entry_of(), 0.0)
    memory.put("large", entry_of(Answered("x" * 100_000)), 0.0)
    assert memory.get("large") is None
    assert memory.get("k") is not None


def test_a_flood_of_invented_names() -> None:
    """Names that do not exist push out each other, never those that do."""
    memory = Memory(100, 10**6)
    for number in range(90):
        memory.put(f"k{number}", entry_of(), 0.0)
    for number in range(1000):
        memory.put(f"invented{number}", entry_of(Missing()), 0.0)
    assert all(memory.get(f"k{number}") is not None for number in range(90))
    assert memory.entries == 100


def test_a_flood_of_long_invented_names() -> None:
    """So it is where it is bytes that there are too few of."""
    memory = Memory(10**6, 100_000)
    size = entry_of().measure("k0")
    count = int(0.9 * 100_000 / size)
    for number in range(count):
        memory.put(f"k{number}"[:2], entry_of(), 0.0)
    kept = memory.entries
    for number in range(1000):
        memory.put(f"{number:0500}", entry_of(Missing()), 0.0)
    assert all(memory.get(f"k{number}"[:2]) is not None for number in range(count))
    assert memory.bytes <= 100_000
    assert memory.entries > kept


def test_a_flood_through_the_cache() -> None:
    """A client that asks for one invented name after the other costs the real ones nothing."""
    bench = make(OLD, memory=Memory(20, 10**6))
    assert bench.at_once() == OLD
    bench.upstream.says = Missing()
    for number in range(100):
        bench.at_once(Query(f"invented{number}"))
    assert bench.cache.state(QUERY)[0] == "fresh"
    assert bench.memory.entries <= 20


def test_a_name_is_in_one_share() -> None:
    """A name that comes to exist, or to be gone, takes its own place only."""
    memory = Memory(100, 10**6)
    for outcome in (OLD, Missing(), OLD):
        memory.put("k", entry_of(outcome), 0.0)
        entry = memory.get("k")
        assert entry is not None
        assert entry.outcome == outcome
        assert (memory.entries, memory.bytes) == (1, entry.size_bytes)


def test_sweep() -> None:
    """Entries beyond everything go by themselves, at most a minute after the next one is put."""
    memory = Memory(100, 10**6)
    memory.put("missing", entry_of(Missing(), 100.0), 100.0 - 60.0)
    memory.put("answered", entry_of(OLD, 100.0), 100.0 - 60.0)
    memory.put("later", entry_of(OLD, 100.0 + EPSILON), 100.0 - EPSILON)
    memory.put("new", entry_of(), 100.0 + 60.0)
    assert memory.entries == 1
    assert memory.get("new") is not None
    assert memory.bytes == entry_of().measure("new")


def test_sweep_keeps_what_is_of_use() -> None:
    """What may still be served stays; exactly at its end it goes."""
    memory = Memory(100, 10**6)
    memory.put("over", entry_of(OLD, 500.0), 0.0)
    memory.put("useful", entry_of(OLD, 500.0 + EPSILON), 0.0)
    memory.put("new", entry_of(), 500.0)
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
    memory = Memory(6, 10_000)  # five answers of 9000 bytes, and one Missing of 1000
    answered, missing = OrderedDict[str, int](), OrderedDict[str, int]()
    for move, key, size in moves:
        if move == "put":
            entry = entry_of(Missing() if size is None else Answered("x" * size))
            memory.put(key, entry, 0.0)
            answered.pop(key, None)
            missing.pop(key, None)
            (missing if size is None else answered)[key] = entry.measure(key)
            for model, entries, total in ((answered, 5, 9000), (missing, 1, 1000)):
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
    assert list(memory._answered.entries) == list(answered)
    assert list(memory._missing.entries) == list(missing)


# how an entry crosses to another process

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
