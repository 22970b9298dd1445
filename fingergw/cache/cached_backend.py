"""A backend whose answers are kept: fresh, stale while it is asked again, and when it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import define, evolve, field

from fingergw.cache.entry import Entry, Terms, digest
from fingergw.cache.flight import Flight, Runtime
from fingergw.cache.keys import Inputs, keys
from fingergw.cache.memory import Memory
from fingergw.cache.store import Found, Mark, Store
from fingergw.core.outcome import Ask, Failed, Missing, Outcome, Unchanged, outcome_of
from fingergw.core.query import Query

# After a failure upstream is left alone for so long where there is something to serve meanwhile.
BACK_OFF_SECONDS = 5.0
# So many answers of one backend are refreshed in the background at a time, as each may take a socket; and only one
# once upstream has failed, until it answers again.
MAX_REFRESHES = 16
# How often one looks whether another gateway has the answer by now. Where clients wait: less often the longer they do.
_POLL_SECONDS = (0.05, 0.5)
_POLL_PART = 0.1
_RECHECK_SECONDS = 1.0
# How long those who wait at other gateways have to see that asking has failed.
_FAILED_SECONDS = 1.0
# How long they do not wait for each other where each has to ask for itself.
_NOT_SHARED_SECONDS = 60.0
_MAX_FINDS = 3

State: TypeAlias = Literal["fresh", "stale", "expired", "absent"]
"""What there is for a query: an answer; one to serve while it is refreshed; one to serve if upstream fails; nothing."""


@define(eq=False)
class CachedBackend:
    """Keep another backend's answers.

    :param ask: asks the other one.
    :param inputs: what it is told of a query; nothing else can change its answer.
    :param prefix: what its keys begin with, and no other backend's do.
    :param version: what tells its answers now from those of another time; None where nothing does.
    :param terms: how long its answers are kept where upstream does not say.
    :param lock_seconds: how long asking it can take at the most.
    :param memory: where its answers are at hand.
    :param store: where they outlive the process, or are shared; None if nowhere. It must never fail, nor take long.
    :param report: called with a failure that no client is told of.
    """

    ask: Ask
    inputs: Inputs
    prefix: str
    version: Callable[[], str] | None
    terms: Terms
    lock_seconds: float
    memory: Memory
    store: Store | None
    runtime: Runtime
    report: Callable[[Failed], object]
    counts: Counter[str] = field(factory=Counter)
    """How many queries found what, by :data:`State`; how many got a stale answer because upstream failed, as
    ``stale_if_error``; how often upstream ``failed``."""
    _flights: dict[str, Flight] = field(init=False, factory=dict)
    _refreshes: int = field(init=False, default=0)
    _max_refreshes: int = field(init=False, default=MAX_REFRESHES)
    _key: Callable[[Query], str] = field(init=False)
    _seconds: Callable[[], float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        key, version = keys(self.prefix, self.inputs), self.version
        self._key = key if version is None else lambda query: f"{key(query)}\r{version()}"
        self._seconds = self.runtime.seconds

    async def answer(self, query: Query) -> Outcome:
        """Answer from what is kept, at once; or else ask, together with all who ask for the same."""
        key = self._key(query)
        entry = self.memory.get(key)
        if entry is not None:
            now = self._seconds()
            if now < entry.fresh_until:
                self.counts["fresh"] += 1
                return entry.outcome
            state = _state(entry, now)
            self.counts[state] += 1
            if state == "stale":
                if now >= entry.retry_at and self._refreshes < self._max_refreshes and key not in self._flights:
                    self._depart(Flight(key, in_background=True), query, entry)
                return evolve(entry.outcome, cache="stale")
            if now < min(entry.retry_at, entry.error_until):
                self.counts["stale_if_error"] += 1
                return evolve(entry.outcome, cache="stale_if_error")
        else:
            state = "absent"
            self.counts["absent"] += 1
        waiter, flight = self.runtime.waiter(), self._flights.get(key)
        if flight is not None:
            flight.waiters[waiter] = None
        else:
            flight = Flight(key, in_background=False, waiters={waiter: None})
            self._depart(flight, query, entry)
        try:
            told: Outcome = await waiter
            return told if told.cache else evolve(told, cache=state)
        except self.runtime.cancelled:
            flight.waiters.pop(waiter, None)
            if not flight.waiters and not flight.in_background and not flight.has_landed:
                self._abandon(flight)
            raise

    def state(self, query: Query) -> tuple[State, Entry | None]:
        """Return what is at hand for a query, without asking anybody."""
        entry = self.memory.get(self._key(query))
        return ("absent", None) if entry is None else (_state(entry, self._seconds()), entry)

    def stop(self) -> None:
        """Give up what is under way."""
        for flight in list(self._flights.values()):
            self._abandon(flight)

    def _depart(self, flight: Flight, query: Query, entry: Entry | None) -> None:
        self._flights[flight.key] = flight
        self._refreshes += flight.in_background
        flight.work = self.runtime.spawn(self._fly(flight, self.inputs.of(query), entry))

    def _abandon(self, flight: Flight) -> None:
        """Cancel a flight, however long that takes; who asks from now on asks anew."""
        self._gone(flight)
        flight.tell(Failed("given up"))
        if flight.work is not None:
            flight.work.cancel()

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        """End a flight. Who asks from now on finds what is kept, or asks anew."""
        self._gone(flight)
        flight.has_landed = True
        flight.tell(outcome)

    def _gone(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
            self._refreshes -= flight.in_background

    async def _fly(self, flight: Flight, query: Query, entry: Entry | None) -> None:
        """Ask the store, where there is one, and then upstream; keep what that says."""
        try:
            if flight.in_background:
                await self.runtime.sleep(0.0)  # who is served what is stale does not wait while a request is made
            if self.store is not None:
                entry, may_ask = await self._consult(self.store, flight, entry)
                if not may_ask:
                    return
            outcome = await outcome_of(self._ask(query, entry), self.runtime.cancelled)
            await self._settle(flight, outcome, entry)
        except self.runtime.cancelled:
            if self.store is not None and not flight.has_landed:
                await self.store.release(flight.key, "", 0.0)
        finally:
            self._gone(flight)
            if flight.waiters:  # nobody shall wait for ever
                flight.tell(Failed("given up"))

    async def _ask(self, query: Query, entry: Entry | None) -> Outcome:
        outcome = await self.ask(query, entry.validators if entry is not None else {})
        if not isinstance(outcome, Unchanged):
            return outcome
        assert entry is not None  # or nothing would have been asked that could hold
        return evolve(entry.outcome, freshness=outcome.freshness, cache="")

    async def _settle(self, flight: Flight, outcome: Outcome, entry: Entry | None) -> None:
        """Keep an outcome, tell it, and share it; in this order, so that nobody waits for a store."""
        key, store, now = flight.key, self.store, self._seconds()
        if isinstance(outcome, Failed):
            self._max_refreshes = 1
            self.counts["failed"] += 1
            rescue = self._rescue(flight, entry, now)
            if rescue is not None or not flight.waiters:
                self.report(outcome)
            self._land(flight, rescue or outcome)
            if store is not None and entry is not None and now < max(entry.stale_until, entry.error_until):
                await store.release(key, "backing off", BACK_OFF_SECONDS)
            elif store is not None:
                await store.release(key, "failed", _FAILED_SECONDS)
            return
        self._max_refreshes = MAX_REFRESHES
        made, missing = Entry.made(outcome, self.terms, now), isinstance(outcome, Missing)
        if made is None:
            self.memory.drop(key)
        else:
            self.memory.put(key, made, now)
        self._land(flight, outcome)
        if store is None:
            return
        # however many names are invented, a store has those of the last negative_ttl only
        until = now if made is None else made.fresh_until if missing else made.keep_until
        mark: tuple[Mark, float] = ("", 0.0)
        if made is None or now >= max(made.fresh_until, made.stale_until):
            mark = ("not shared", _NOT_SHARED_SECONDS)
        if made is None or until <= now:
            await store.drop(key, *mark)
        else:
            await store.put(key, made.dumps(), until - now, missing, *mark)

    async def _consult(self, store: Store, flight: Flight, entry: Entry | None) -> tuple[Entry | None, bool]:
        """Look for something newer in the store, or else claim to ask upstream.

        :return: the newest entry there is, and whether upstream is to be asked now. If not, all is told.
        """
        known, waited, finds = entry.digest if entry is not None else "", False, 0
        began_at = self._seconds()
        while True:
            found = await store.claim(flight.key, known, self.lock_seconds, waited)
            now = self._seconds()
            if isinstance(found, Found):
                known, finds = digest(found.value), finds + 1
                newer = Entry.loads(found.value, found.age, now)
                if newer is not None and now < newer.keep_until and (entry is None or newer.since > entry.since):
                    entry = newer
                    self.memory.put(flight.key, entry, now)
                    if now < entry.fresh_until:
                        self._land(flight, entry.outcome)
                        return entry, False
                    if now < entry.stale_until:
                        self._tell_stale(flight, entry)
                if finds < _MAX_FINDS:
                    continue
                return entry, True
            if found.state in ("granted", "not shared") or now - began_at >= self.lock_seconds:
                return entry, True
            if found.state == "held":
                if flight.in_background and not flight.waiters:
                    if entry is not None:
                        entry.retry_at = now + _RECHECK_SECONDS
                    return entry, False
                waited = True
                soonest, latest = _POLL_SECONDS
                await self.runtime.sleep(min(max(soonest, (now - began_at) * _POLL_PART), latest))
                continue
            # another gateway has asked, and failed
            told = self._rescue(flight, entry, now)
            if told is None and found.state == "failed":
                told = Failed("another gateway asked for it, and failed")
            if told is not None:
                self._land(flight, told)
            return entry, bool(flight.waiters)

    def _rescue(self, flight: Flight, entry: Entry | None, now: float) -> Outcome | None:
        """Return what is served although upstream fails, which is left alone for a while; None if nothing may be."""
        if entry is None:
            return None
        entry.retry_at = now + BACK_OFF_SECONDS
        if now >= entry.error_until:
            return None
        self.counts["stale_if_error"] += len(flight.waiters)
        return evolve(entry.outcome, cache="stale_if_error")

    def _tell_stale(self, flight: Flight, entry: Entry) -> None:
        """Serve who waits what is stale; the flight goes on and refreshes it."""
        if not flight.in_background and self._flights.get(flight.key) is flight:
            flight.in_background = True
            self._refreshes += 1
        flight.tell(evolve(entry.outcome, cache="stale"))


def _state(entry: Entry, now: float) -> State:
    if now < entry.fresh_until:
        return "fresh"
    if now < entry.stale_until:
        return "stale"
    return "expired" if now < entry.keep_until else "absent"
