"""Cache, breaker and turns together, as a backend is opened with them, against a model of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import count, permutations, product
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from fingergw.cache import cached_backend
from fingergw.cache.cached_backend import CachedBackend
from fingergw.core.breaker import BreakerSettings
from fingergw.core.outcome import Answered, BackendCache, Failed, Freshness, Missing, Outcome
from fingergw.core.outcome import Upstream as UpstreamState
from fingergw.core.query import Query
from fingergw.core.setting_types import Count, Period, Seconds
from tests.support.cache_bench import leave, told
from tests.support.cache_specification import CacheSpecification, Told
from tests.support.controlled_backend import BreakerLog, Cache, Upstream, asked, opened
from tests.support.waiting_specification import BreakerSpecification, Question, WaitingSpecification

NAMES = "abc"
CLIENTS = {  # by address
    "192.0.2.1": "one",
    "198.51.100.2": "two",
    "2001:db8::1": "three",
    "2001:db8::2": "three",  # in the same /64
    "unix": "unix",
}
TIMEOUT = 3.0
MAX_REFRESHES = 2


def kept_for(ttl: float, stale: float, **parts: Period) -> BackendCache:
    """Return the settings of a cache."""
    return BackendCache(ttl=Period(ttl), stale=Period(stale), negative_ttl=Period(2), **parts)


CACHES = st.sampled_from(
    [
        None,
        "once",
        "once",
        kept_for(3, 6),
        kept_for(3, 6, stale_while_revalidate=Period(0)),
        kept_for(3, 6, stale_while_revalidate=Period(1), stale_if_error=Period(4)),
        kept_for(1, 20, stale_if_error=Period(0)),
        kept_for(1, 1),
        kept_for(0.5, 0),
    ]
)
SAID = (
    None,
    None,
    Freshness(ttl=0.0),
    Freshness(ttl=0.0, stale_while_revalidate=5.0),
    Freshness(ttl=2.0, stale_while_revalidate=0.0, stale_if_error=1.0),
    Freshness(ttl=0.0, stale_while_revalidate=0.0, stale_if_error=0.0),
)
KINDS = {
    "well": ("answered", "answered", "missing"),
    "down": ("refused", "refused", "lost"),
    "slow": ("lost", "lost", "answered"),
    "mixed": ("answered", "missing", "status", "refused", "refused", "lost", "lost", "raised"),
}
# Each is one draw, as drawing is most of what the test takes.
SAYING = st.sampled_from(list(product(range(8), SAID)))
ANSWERS = st.lists(st.sampled_from(list(product(range(3), range(8), SAID))), min_size=1, max_size=3)
ASKINGS = st.lists(st.sampled_from(list(product(CLIENTS, NAMES))), min_size=1, max_size=4)
ASKING_FOR_SEVERAL = st.sampled_from(list(product(CLIENTS, permutations(NAMES, 3))))


class Stack(RuleBasedStateMachine):
    """A backend and its model, and what happens to both."""

    @initialize(
        cache=CACHES,
        max_running=st.integers(1, 3),
        breaker=st.sampled_from([False, (1, 1.0), (2, 1.0), (2, 2.0), (3, 1.0)]),
        lingers=st.booleans(),
        by_name=st.sampled_from([True, True, False]),
        age=st.sampled_from([None, 0.0, 3.0]),
        health=st.sampled_from([*KINDS, "mixed"]),
    )
    def begin(
        self,
        cache: Cache,
        max_running: int,
        breaker: tuple[int, float] | Literal[False],
        lingers: bool,
        by_name: bool,
        age: float | None,
        health: str,
    ) -> None:
        """Begin with nothing, or with an answer to each name that has an age."""
        self.kinds = KINDS[health]
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.by_name = by_name = by_name or cache == "once"
        self.upstream = Upstream(lingers)
        self.opened = opened(
            self.upstream,
            self.clock,
            cache=cache,
            timeout=TIMEOUT,
            max_running=max_running,
            breaker=breaker and BreakerSettings(failures=Count(breaker[0]), pause=Seconds(breaker[1])),
            by_name=by_name,
        )
        self.breaker = BreakerSpecification(*breaker, by_name) if breaker else None
        self.waiting = WaitingSpecification(self.clock.seconds, TIMEOUT, max_running, self.breaker, lingers)
        self.told: dict[int, Told] = {}
        kept = None if cache == "once" else cache
        self.cache = cache and CacheSpecification(kept, MAX_REFRESHES, self.waiting, self.clock.seconds, self.told)
        self.asked: dict[int, Question] = {}  # without a cache
        self.askings: dict[int, Deferred[Outcome]] = {}
        self.numbers = count()
        self.log = BreakerLog()
        globalLogPublisher.addObserver(self.log)
        if age is not None:
            self.upstream.says = self.waiting.says = Answered("well")
            self.ask_several(("unix", NAMES))
            self.upstream.says = self.waiting.says = None
            self.wait(age)

    def outcome(self, which: int, said: Freshness | None) -> tuple[Outcome | BaseException, Outcome]:
        """Return what upstream says or raises, and what that is to others; no two are alike."""
        number, kind = next(self.numbers), self.kinds[which % len(self.kinds)]
        if kind == "raised":
            return RuntimeError(number), Failed("unforeseen RuntimeError", upstream="unknown")
        if kind == "answered":
            outcome: Outcome = Answered(f"answer {number}", said)
        elif kind == "missing":
            outcome = Missing(said)
        else:
            upstream: dict[str, UpstreamState] = {"status": "responded", "refused": "unreachable", "lost": "silent"}
            outcome = Failed(f"{kind} {number}", upstream=upstream[kind])
        return outcome, outcome

    def deferred(self, name: str, address: str) -> Deferred[Outcome]:
        """Begin to ask the backend."""
        return Deferred.fromCoroutine(asked(self.opened, Query(name, client=address)))

    def begin_to_ask(self, address: str, name: str) -> None:
        """Let somebody ask, within a turn of the reactor."""
        client = next(self.numbers)
        self.askings[client] = self.deferred(name, address)
        name = name if self.by_name else ""
        if self.cache:
            self.cache.ask(client, CLIENTS[address], name)
        else:
            self.asked[client] = self.waiting.ask(name, [CLIENTS[address]], partial(self.tell, client))

    def tell(self, client: int, outcome: Outcome) -> None:
        """Note what the model tells somebody."""
        self.told[client] = outcome, ""

    def settle(self) -> None:
        """Let happen what does in the next turn of the reactor."""
        self.clock.advance(0)
        if self.cache:
            self.cache.settle()
        self.waiting.settle()

    @rule(askings=ASKINGS)
    def ask(self, askings: list[tuple[str, str]]) -> None:
        """Let some ask, in the same turn of the reactor."""
        for asking in askings:
            self.begin_to_ask(*asking)
        self.settle()

    @rule(asking=ASKING_FOR_SEVERAL)
    def ask_several(self, asking: tuple[str, Iterable[str]]) -> None:
        """Let one ask for several names."""
        self.ask([(asking[0], name) for name in asking[1]])

    @precondition(lambda self: self.askings)
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        """One who waits leaves."""
        client = list(self.askings)[which % len(self.askings)]
        leave(self.askings.pop(client))
        if self.cache:
            self.cache.leave(client)
        else:
            self.waiting.give_up(self.asked[client])
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 1.0, 1.0, 1.5, 2.0, 3.0, 8.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            timers = [call.getTime() for call in self.clock.getDelayedCalls()]
            self.clock.advance(min([until, *timers]) - self.clock.seconds())
            self.waiting.time_out()
            self.settle()

    @rule(saying=SAYING)
    def say(self, saying: tuple[int, Freshness | None]) -> None:
        """From now on upstream says something at once."""
        self.upstream.says, self.waiting.says = self.outcome(*saying)

    @precondition(lambda self: self.waiting.says is not None)
    @rule()
    def hang(self) -> None:
        """From now on upstream hangs."""
        self.upstream.says = self.waiting.says = None

    @precondition(lambda self: self.waiting.running)
    @rule(answers=ANSWERS)
    def answer(self, answers: list[tuple[int, int, Freshness | None]]) -> None:
        """Upstream answers some of what it hung upon, or has ended what was cancelled."""
        for place, which, said in answers:
            if self.waiting.running:
                place %= len(self.waiting.running)
                says, outcome = self.outcome(which, said)
                question, call = self.waiting.running[place], self.upstream.running[place]
                if question in self.waiting.needed:
                    call.said.callback(says)
                else:
                    call.ended.callback(None)
                self.waiting.answer(question, outcome)
                self.settle()

    @invariant()
    def everybody_was_told(self) -> None:
        """Who has not left was told what the model says, or waits."""
        told_now = {client: _told(asking) for client, asking in self.askings.items() if asking.called}
        assert told_now == {client: (_brief(outcome), state) for client, (outcome, state) in self.told.items()}
        self.told.clear()
        for client in told_now:
            del self.askings[client]

    @invariant()
    def upstream_is_asked(self) -> None:
        """Upstream was asked in the order that the model says, and is not asked for more than it has places."""
        running = [call.name for call in self.upstream.running]
        assert self.upstream.asked == self.waiting.asked
        assert running == [question.name for question in self.waiting.running]
        assert len(running) <= self.waiting.max_running
        assert self.upstream.cancelled == self.waiting.cancelled

    @invariant()
    def nobody_waits_for_more_than_a_turn_of_each_other(self) -> None:
        """At most one turn of each other who waited at its last turn comes before the next turn of a client."""
        assert all(self.waiting.turns_left[client] >= 0 for client in self.waiting.round)

    @invariant()
    def the_breaker_is_open(self) -> None:
        """Its breaker is open while the model's is, and the log has a line for each change."""
        breaker = self.opened.breaker
        assert (breaker and breaker.is_open) == (self.breaker and self.breaker.is_open)
        assert self.log.changes == (self.breaker.log if self.breaker else [])

    @invariant()
    def nothing_else_runs(self) -> None:
        """There is a timer for each question whose answer is needed, and no other; there are the model's refreshes."""
        assert len(self.clock.getDelayedCalls()) == len(self.waiting.needed)
        if isinstance(self.opened.entry, CachedBackend):
            assert isinstance(self.cache, CacheSpecification)
            key = self.opened.entry.key
            assert set(self.opened.entry.refreshes) == {key(Query(name)) for name in self.cache.refreshes}
            assert self.opened.entry.in_background == len(self.cache.in_background)

    def teardown(self) -> None:
        """Nothing is left when all has ended: neither a timer nor a question, and all places are free."""
        globalLogPublisher.removeObserver(self.log)
        self.opened.close()
        for asking in self.askings.values():
            leave(asking)
        self.upstream.says = Answered("well")
        for call in list(self.upstream.running):
            call.ended.callback(None)
        self.clock.advance(0)
        assert not self.upstream.running
        assert not self.clock.getDelayedCalls()
        self.all_places_are_free()

    def all_places_are_free(self) -> None:
        """Upstream is asked as often at once as it has places, and one question more waits for the first of them."""
        self.clock.advance(100.0)  # the pause of the breaker, and all that is kept
        assert _told(self.deferred("a", "unix")) == (
            Answered("well"),
            "absent" if isinstance(self.opened.entry, CachedBackend) else "",
        )
        self.clock.advance(100.0)  # what was kept just now
        self.upstream.says = None
        is_shared = self.cache is not None and not self.by_name
        places = 1 if is_shared else self.waiting.max_running
        askings = [self.deferred(name, "unix") for name in "abcd"[: places + 1]]
        running = self.upstream.running
        assert len(running) == places
        running[0].said.callback(Answered("well"))
        self.clock.advance(0)
        assert len(running) == (0 if is_shared else places)
        for asking in askings:
            leave(asking)
        for call in list(running):
            call.ended.callback(None)
        self.clock.advance(0)
        assert not running
        assert not self.clock.getDelayedCalls()


@pytest.fixture(autouse=True)
def _few_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client reach the limit of refreshes with a few names."""
    monkeypatch.setattr(cached_backend, "MAX_REFRESHES", MAX_REFRESHES)


def _brief(outcome: Outcome) -> Outcome:
    """Return an outcome with no more than the first two words of a reason."""
    return Failed(" ".join(outcome.reason.split()[:2])) if isinstance(outcome, Failed) else outcome


def _told(asking: Deferred[Outcome]) -> Told | None:
    outcome = told(asking)
    return None if outcome is None else (_brief(outcome), outcome.cache)


TestStack = Stack.TestCase
TestStack.settings = settings(max_examples=500, stateful_step_count=50, deadline=None)
