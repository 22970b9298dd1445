"""A backend with a cache: it serves fresh answers, refreshes stale ones, and falls back on old ones in a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from fingergw.cache.entry import Entry, digest
from fingergw.cache.fresh_answer import FreshAnswer
from fingergw.cache.keys import Inputs
from fingergw.cache.memory import Memory
from fingergw.cache.shares import Owner
from fingergw.cache.store import Found, Mark, Store
from fingergw.core.outcome import Answered, Ask, BackendCache, Failed, Missing, Outcome, Reuse, Unchanged, outcome_of
from fingergw.core.query import Query
from fingergw.core.turns import Payers, payer

MAX_REFRESHES = 16
"""Background refreshes of one backend at a time for one client, as each may take a socket."""
MAX_REFRESHES_IN_ALL = 256
"""For all clients; after a failure only one, until upstream answers again."""
RECHECK_SECONDS = 1.0
"""How long after a refresh in the background that has come to nothing another one of the same key may begin."""
# How often to look whether another gateway has got the answer. While clients wait: less often the longer they do.
_POLL_SECONDS = (0.05, 0.5)
_POLL_PART = 0.1
_MAX_FINDS = 3

State: TypeAlias = Literal["fresh", "stale", "expired", "absent"]
"""What the cache has for a query: a fresh answer; a stale one, served while it is refreshed; an expired one, served
only when upstream fails; none."""


@define(eq=False, repr=False)
class Refresh:
    """A question to upstream, and the queries that wait for the answer.

    :param payers: the clients for whom it is asked.
    :param in_background: whether it continues when no query waits for it.
    :param waiting: a Deferred for each waiting query, in the order in which they came.
    :param running: cancelling this stops the refresh.
    """

    key: str
    payers: Payers
    in_background: bool
    waiting: dict[Deferred[Outcome], None] = field(factory=dict)
    running: Deferred[None] | None = None

    def answer(self, outcome: Outcome) -> None:
        """Answer all the queries that wait."""
        waiting, self.waiting = self.waiting, {}
        for deferred in waiting:
            deferred.callback(outcome)


@define(eq=False, repr=False)
class CachedBackend:
    """Cache the answers of another backend, which is called upstream here.

    :param name: the backend's.
    :param ask: asks upstream.
    :param inputs: the parts of a query that its answer may depend on.
    :param key: returns the key under which the answer to a query is kept; see :func:`fingergw.cache.keys.keys`.
    :param settings: how long answers are kept where upstream does not say.
    :param lock_seconds: the longest time that asking upstream can take.
    :param store: a store that outlives the process, or is shared; None if there is none. Its methods never fail, nor
        take long.
    :param clock: for timers.
    :param seconds: a monotonic clock, for the age of answers.
    :param report: called with a failure that no query was answered with.
    """

    name: str
    ask: Ask
    inputs: Inputs
    key: Callable[[Query], str]
    settings: BackendCache
    lock_seconds: float
    memory: Memory
    store: Store | None
    clock: IReactorTime
    seconds: Callable[[], float]
    report: Callable[[Failed], object]
    counts: Counter[str] = field(factory=Counter)
    """How many queries found which :data:`State`; how many were served an old answer because upstream failed, as
    ``stale_if_error``; how often upstream ``failed``."""
    refreshes: dict[str, Refresh] = field(init=False, factory=dict)
    """Those that are running, by key."""
    in_background: int = field(init=False, default=0)
    """How many of them are in the background."""
    _in_background_for: Counter[str] = field(init=False, factory=Counter)  # the client who asked first
    _max_in_background: int = field(init=False, default=MAX_REFRESHES_IN_ALL)

    def at_once(self, query: Query) -> Answered | Missing | None:
        """Return a fresh outcome, which is counted; None if there is none."""
        entry = self.memory.get(self.key(query))
        if entry is None or self.seconds() >= entry.fresh_until:
            return None
        self.counts["fresh"] += 1
        return entry.outcome

    def reuse(self, query: Query, outcome: Answered | Missing) -> Reuse | None:
        """Return how a fresh outcome is used again; None if it is not there any more, or is for one client."""
        entry = None if self.inputs.client else self.memory.peek(self.key(query))
        if entry is None or entry.outcome != outcome:
            return None
        fresh = FreshAnswer(query, entry, self.memory, self.key, self.seconds, self.counts)
        return Reuse(fresh.holds, fresh.count_again)

    async def answer(self, query: Query) -> Outcome:
        """Answer from the cache, at once if it has something to serve; else ask upstream once for all such queries."""
        key = self.key(query)
        entry = self.memory.get(key)
        if entry is not None:
            now = self.seconds()
            if now < entry.fresh_until:
                self.counts["fresh"] += 1
                return entry.outcome
            state: State = "stale" if now < entry.stale_until else "expired" if now < entry.keep_until else "absent"
            self.counts[state] += 1
            if state == "stale":
                client, running = payer(query.client), self.refreshes.get(key)
                if running is not None:
                    running.payers.join(client)  # or whoever has many would let it wait behind them
                elif now >= entry.retry_at and self._has_room(client):
                    self._start(Refresh(key, Payers([client]), in_background=True), query, entry)
                return evolve(entry.outcome, cache="stale")
        else:
            state = "absent"
            self.counts["absent"] += 1
        deferred: Deferred[Outcome] = Deferred()
        refresh = self.refreshes.get(key)
        if refresh is not None:
            refresh.waiting[deferred] = None
            refresh.payers.join(payer(query.client))
        else:
            refresh = Refresh(key, Payers([payer(query.client)]), in_background=False, waiting={deferred: None})
            self._start(refresh, query, entry)
        try:
            outcome = await deferred
            return outcome if outcome.cache else evolve(outcome, cache=state)
        except CancelledError:
            refresh.waiting.pop(deferred, None)
            if not refresh.waiting and not refresh.in_background:
                self._cancel(refresh)
            raise

    def stop(self) -> None:
        """Cancel all refreshes; queries that wait for them fail."""
        for refresh in list(self.refreshes.values()):
            self._cancel(refresh)

    def _has_room(self, client: str) -> bool:
        """Tell whether there may be another refresh in the background."""
        return self.in_background < self._max_in_background and self._in_background_for[client] < MAX_REFRESHES

    def _count_background(self, refresh: Refresh, change: int) -> None:
        client = refresh.payers.clients[0]
        self.in_background += change
        self._in_background_for[client] += change
        if not self._in_background_for[client]:
            del self._in_background_for[client]

    def _start(self, refresh: Refresh, query: Query, entry: Entry | None) -> None:
        self.refreshes[refresh.key] = refresh
        if refresh.in_background:
            self._count_background(refresh, 1)
        refresh.running = Deferred.fromCoroutine(self._run(refresh, self.inputs.of(query), entry))

    def _cancel(self, refresh: Refresh) -> None:
        """Cancel a refresh, if it is not finished. Queries that come while it is still ending ask anew."""
        if self._finish(refresh, Failed("given up")) and refresh.running is not None:
            refresh.running.cancel()

    def _finish(self, refresh: Refresh, outcome: Outcome) -> bool:
        """Finish a refresh, and answer all who wait for it. Later queries find what is kept, or ask anew.

        :return: False if it was finished before.
        """
        was_running = self.refreshes.get(refresh.key) is refresh
        if was_running:
            del self.refreshes[refresh.key]
            if refresh.in_background:
                self._count_background(refresh, -1)
        refresh.answer(outcome)
        return was_running

    async def _run(self, refresh: Refresh, query: Query, entry: Entry | None) -> None:
        """Look for a newer answer in the store, if there is one; else ask upstream, and keep what it says."""
        try:
            if refresh.in_background:
                await deferLater(self.clock, 0)  # the query that started it is answered first
            if self.store is not None:
                entry, may_ask = await self._look_up(self.store, refresh, entry)
                if not may_ask:
                    return
            outcome = await outcome_of(self._ask(refresh, query, entry), (CancelledError,))
            if isinstance(outcome, Failed):
                await self._fail(refresh, outcome, entry)
            else:
                await self._keep(refresh, outcome)
        except CancelledError:
            if self.store is not None:
                await self.store.release(refresh.key, "")
        finally:
            self._finish(refresh, Failed("given up"))  # so that no query waits for ever

    async def _ask(self, refresh: Refresh, query: Query, entry: Entry | None) -> Outcome:
        outcome = await self.ask(query, entry.validators if entry is not None else {}, refresh.payers)
        if not isinstance(outcome, Unchanged):
            return outcome
        assert entry is not None  # without validators nothing can be unchanged
        return evolve(entry.outcome, freshness=outcome.freshness, cache="")

    async def _fail(self, refresh: Refresh, failed: Failed, entry: Entry | None) -> None:
        """Answer with the old answer, if it may be served, or with the failure; then tell the store."""
        now = self.seconds()
        if failed.upstream != "unknown":  # else upstream has not failed
            self._max_in_background = 1
        self.counts["failed"] += 1
        if refresh.in_background and entry is not None:
            entry.retry_at = now + RECHECK_SECONDS
        old = self._if_error(refresh, entry, now)
        if old is not None or not refresh.waiting:
            self.report(failed)
        self._finish(refresh, old or failed)
        if self.store is not None:
            # One that was not asked may answer another gateway.
            await self.store.release(refresh.key, "" if failed.upstream == "unknown" else "failed")

    async def _keep(self, refresh: Refresh, outcome: Answered | Missing) -> None:
        """Keep what upstream has said in memory, answer with it, and put it into the store, which nobody waits for."""
        key, store, now = refresh.key, self.store, self.seconds()
        self._max_in_background = MAX_REFRESHES_IN_ALL
        entry, missing = Entry.from_outcome(outcome, self.settings, now), isinstance(outcome, Missing)
        if entry is None:
            self.memory.drop(key)
        else:
            self.memory.put(key, entry, now, self._owner(refresh))
        self._finish(refresh, outcome)
        if store is None:
            return
        is_shared = entry is not None and now < max(entry.fresh_until, entry.stale_until)
        mark: Mark = "" if is_shared else "not shared"
        # however many names are invented, the store has only those of the last negative_ttl
        until = now if entry is None else entry.fresh_until if missing else entry.keep_until
        if entry is None or until <= now:
            await store.drop(key, mark)
        else:
            await store.put(key, entry.dumps(), until - now, missing, self._owner(refresh), mark)

    async def _look_up(self, store: Store, refresh: Refresh, entry: Entry | None) -> tuple[Entry | None, bool]:
        """Look for a newer answer in the store, or else claim to ask upstream.

        :param entry: what is in memory.
        :return: the newest entry, and whether to ask upstream now. If not, all queries that waited are answered.
        """
        known, waited, finds = entry.digest if entry is not None else "", False, 0
        started_at = self.seconds()
        while True:
            found = await store.claim(refresh.key, known, self.lock_seconds, waited)
            now = self.seconds()
            if isinstance(found, Found):
                known, finds = digest(found.value), finds + 1
                newer = Entry.loads(found.value, found.age, now)
                if newer is not None and now < newer.keep_until and (entry is None or newer.since > entry.since):
                    entry = newer
                    self.memory.put(refresh.key, entry, now, self._owner(refresh))
                    if now < entry.fresh_until:
                        self._finish(refresh, entry.outcome)
                        return entry, False
                    if now < entry.stale_until:
                        self._serve_stale(refresh, entry)
                if finds >= _MAX_FINDS:
                    return entry, True
            elif found in ("granted", "not shared") or now - started_at >= self.lock_seconds:
                return entry, True
            elif found == "held":
                if refresh.in_background and not refresh.waiting:
                    if entry is not None:
                        entry.retry_at = now + RECHECK_SECONDS
                    return entry, False
                waited = True
                soonest, latest = _POLL_SECONDS
                await deferLater(self.clock, min(max(soonest, (now - started_at) * _POLL_PART), latest))
            else:  # another gateway has asked, and failed
                failed = Failed("another gateway asked for it, and failed")
                self._finish(refresh, self._if_error(refresh, entry, now) or failed)
                return entry, False

    def _owner(self, refresh: Refresh) -> Owner:
        return Owner(self.name, refresh.payers.clients[0])

    def _if_error(self, refresh: Refresh, entry: Entry | None, now: float) -> Outcome | None:
        """Return the old answer, to serve in the place of a failure; None if there is none."""
        if entry is None or now >= entry.error_until:
            return None
        self.memory.put(refresh.key, entry, now, self._owner(refresh))  # it may count to those that need it now
        self.counts["stale_if_error"] += len(refresh.waiting)
        return evolve(entry.outcome, cache="stale_if_error")

    def _serve_stale(self, refresh: Refresh, entry: Entry) -> None:
        """Answer the queries that wait with a stale answer; the refresh continues in the background."""
        if not refresh.in_background and self.refreshes.get(refresh.key) is refresh:
            refresh.in_background = True
            self._count_background(refresh, 1)
        refresh.answer(evolve(entry.outcome, cache="stale"))
