"""A cache on a clock, with a backend and a store that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from fingergw.cache.cached_backend import CachedBackend, State
from fingergw.cache.entry import Entry
from fingergw.cache.keys import Inputs, keys
from fingergw.cache.memory import Memory
from fingergw.cache.shares import Owner
from fingergw.cache.store import Claim, Found
from fingergw.core.outcome import Answered, BackendCache, Failed, Freshness, Missing, Outcome, Unchanged, ask_function
from fingergw.core.query import Query
from fingergw.core.setting_types import Period
from tests.support.fakes import say
from tests.support.waiting import sync


def kept_for(ttl: float, stale: float, negative_ttl: float) -> BackendCache:
    """Return the settings of a cache."""
    return BackendCache(ttl=Period(ttl), stale=Period(stale), negative_ttl=Period(negative_ttl))


TTL, STALE, NEGATIVE_TTL = 10.0, 30.0, 4.0
SETTINGS = kept_for(TTL, STALE, NEGATIVE_TTL)
LOCK_SECONDS = 6.0
EPSILON = 1e-6
USER = Inputs(frozenset({"user"}))
EVERYTHING = Inputs(frozenset({"user", "team"}), verbose=True, client=True, listener=True)
QUERY = Query("moshez")
NOBODY = Owner("", "")
OLD, NEW, NEWEST, DOWN = Answered("old"), Answered("new"), Answered("newest"), Failed("down")
KEPT = Answered("old", Freshness(ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0))
"""Fresh until 10, served while it is refreshed until 15, served when upstream fails until 30."""
ONCE = Freshness(ttl=0.0, stale_while_revalidate=0.0, stale_if_error=0.0)  # may not be kept
ETAG = {"etag": '"1"'}
GRANTED: Final[Claim] = "granted"
HELD: Final[Claim] = "held"
FAILED: Final[Claim] = "failed"


@define(eq=False)
class Upstream:
    """A backend that answers as it is told.

    :param says: an outcome, an exception to raise, or None: then it waits for the last of ``calls``.
    :param asked: the queries it was asked.
    :param calls: a Deferred for each query that was not answered at once.
    :param ending: what it still waits for after it is cancelled.
    :param cancelled: how many queries were cancelled.
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
    """A backend that can check whether an earlier answer is unchanged.

    :param given: the validators it was given, if there were any.
    """

    given: list[dict[str, str]] = field(factory=list)

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Answer as told."""
        if validators:
            self.given.append(dict(validators))
        return await self._said(query)  # type: ignore[no-any-return]


@define(eq=False)
class FakeStore:
    """A store that replies as it is told.

    :param clock: its replies take an iteration of this; None if they are immediate.
    :param replies: the replies to claims, in order; then they are granted. A function is called for each.
    :param calls: what was asked of it.
    :param hangs: the names of methods that never end.
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
        await self.work("claim")
        if not self.replies:
            return GRANTED
        reply = self.replies[0] if callable(self.replies[0]) else self.replies.pop(0)
        return reply() if callable(reply) else reply

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: str = ""
    ) -> None:
        """Note it."""
        self.calls.append(("put", key, value, keep_seconds, missing))
        self.marks.append(mark)
        await self.work("put")

    async def drop(self, key: str, mark: str = "") -> None:
        """Note it."""
        self.calls.append(("drop", key))
        self.marks.append(mark)
        await self.work("drop")

    async def release(self, key: str, mark: str) -> None:
        """Note it."""
        self.calls.append(("release", key, mark))
        await self.work("release")

    async def work(self, name: str) -> None:
        """Take as long as a method takes."""
        if name in self.hangs:
            await Deferred()
        if self.clock is not None:
            await deferLater(self.clock, 0)

    @property
    def names(self) -> list[str]:
        """The names of the methods that were called."""
        return [call[0] for call in self.calls]


@define(eq=False)
class Bench:
    """A cache on a clock, with the backend and the store that it uses."""

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
        """Ask what can be answered immediately; then let the refresh begin that this may have started."""
        outcome = sync(self.cache.answer(query))
        self.clock.advance(0)
        assert isinstance(outcome, Answered | Missing | Failed)
        return outcome

    def filled(self, outcome: Outcome = OLD, says: Any = None) -> Bench:
        """Return the bench with a cached outcome.

        :param says: what upstream says after that.
        """
        self.upstream.says = outcome
        assert self.at_once() == outcome
        self.upstream.asked.clear()
        self.upstream.says = says
        return self

    def turn(self) -> None:
        """Let a store that takes an iteration reply, however often it is asked, while no time passes."""
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
    settings: BackendCache = SETTINGS,
    store: FakeStore | None = None,
    revalidating: bool = False,
    memory: Memory | None = None,
    prefix: str = "web:",
    version: Callable[[], str] | None = None,
) -> Bench:
    """Return a cache on a clock, which does not start at 0."""
    clock = Clock()
    clock.advance(1000.0)
    if store is not None and store.clock is not None:
        store.clock = clock
    upstream = (RevalidatingUpstream if revalidating else Upstream)(says)
    memory = Memory(1000, 10**7) if memory is None else memory
    reports: list[Failed] = []
    cache = CachedBackend(
        name="web",
        ask=ask_function(upstream),
        inputs=inputs,
        key=keys(prefix, inputs, version),
        settings=settings,
        lock_seconds=LOCK_SECONDS,
        memory=memory,
        store=store,
        clock=clock,
        seconds=clock.seconds,
        report=reports.append,
    )
    return Bench(upstream, store, clock, memory, reports, cache)


def in_memory(cache: CachedBackend, query: Query = QUERY) -> tuple[State, Entry | None]:
    """Return what a cache has in memory for a query. Nobody is asked."""
    entry = cache.memory.get(cache.key(query))
    if entry is None:
        return "absent", None
    ends: list[tuple[State, float]] = [
        ("fresh", entry.fresh_until),
        ("stale", entry.stale_until),
        ("expired", entry.keep_until),
    ]
    return next((state for state, end in ends if cache.seconds() < end), "absent"), entry


def told(asking: Deferred[Outcome]) -> Outcome | None:
    """Return the outcome of a query, None while it waits; raise its error if it has one."""
    if not asking.called:
        return None
    result: Any = getattr(asking, "result", None)
    if isinstance(result, Failure):
        asking.addErrback(lambda _: None)
        result.raiseException()
    assert isinstance(result, Answered | Missing | Failed)
    return result


def leave(asking: Deferred[Outcome]) -> None:
    """Cancel a query, as when its client disconnects."""
    asking.addErrback(lambda failure: failure.trap(CancelledError))
    asking.cancel()


def leaving(asking: Deferred[Outcome]) -> Callable[[Outcome], Outcome]:
    """Return a callback that cancels another query."""

    def leave_then(outcome: Outcome) -> Outcome:
        leave(asking)
        return outcome

    return leave_then


def entry_of(outcome: Answered | Missing = OLD, keep_until: float = 1e9) -> Entry:
    """Return an entry whose times are all the same."""
    return Entry(outcome, 0.0, keep_until, keep_until, keep_until, keep_until)


def stored(
    outcome: Answered | Missing = NEW, age: float = 0.0, *, fresh: float = TTL, stale: float = 40.0, error: float = 40.0
) -> Found:
    """Return what a store has: an outcome that another gateway got some time ago."""
    return Found(Entry(outcome, 0.0, fresh, stale, error, max(fresh, stale, error)).dumps(), age)


def outcome_with(bench: Bench, query: Query = QUERY) -> Outcome | None:
    """Ask, let the store reply, and return the outcome."""
    asking = bench.ask(query)
    bench.turn()
    return told(asking)
