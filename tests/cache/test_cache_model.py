"""The cache against a model of it, over whatever clients, time and upstream do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from twisted.internet.defer import Deferred

from fingergw.cache.cached_backend import MAX_REFRESHES
from fingergw.core.outcome import Answered, BackendCache, Failed, Freshness, Missing, Outcome
from fingergw.core.query import Query
from fingergw.core.setting_types import Period
from fingergw.core.settings import changed
from tests.support.cache_bench import SETTINGS, leave, make, told
from tests.support.cache_specification import CacheSpecification
from tests.support.waiting_specification import Question


@define(eq=False)
class Hanging:
    """Upstream as the model of the cache sees it, with a place for every question.

    :param says: what it says at once; None while it hangs.
    :param asked: how often it was asked for each name.
    :param running: what it is being asked.
    :param given_up: how many of these were given up, as nobody waited any more.
    """

    says: Outcome | None = None
    asked: Counter[str] = field(factory=Counter)
    running: dict[str, Question] = field(factory=dict)
    given_up: int = 0

    def ask(self, name: str, payers: list[str], done: Callable[[Outcome], object]) -> Question:
        """Be asked."""
        question = Question(name, done, 0.0)
        self.asked[name] += 1
        if self.says is not None:
            done(self.says)
        else:
            self.running[name] = question
        return question

    def join(self, question: Question, payer: str) -> None:
        """Be asked for another client, too."""

    def give_up(self, question: Question) -> None:
        """Stop."""
        del self.running[question.name]
        self.given_up += 1


SETTINGS_OF_OPERATORS = st.sampled_from(
    [
        SETTINGS,
        changed(SETTINGS, stale_while_revalidate=Period(0)),
        changed(SETTINGS, stale_if_error=Period(0)),
        changed(SETTINGS, stale=Period(0)),
    ]
)
SAID = st.sampled_from(
    [
        None,
        None,
        Freshness(ttl=20.0),
        Freshness(ttl=20.0, stale_while_revalidate=0.0),
        Freshness(ttl=3.0, stale_if_error=0.0),
        Freshness(ttl=0.0),
        Freshness(ttl=0.0, stale_while_revalidate=5.0),
        Freshness(ttl=-2.0, stale_while_revalidate=8.0, stale_if_error=12.0),
        Freshness(ttl=0.0, stale_while_revalidate=0.0, stale_if_error=0.0),
    ]
)
KINDS = st.sampled_from(["answered", "answered", "missing", "failed", "raised"])
NAMES = st.sampled_from(["a", "a", "b"])


class Cache(RuleBasedStateMachine):
    """The cache and its model, and what happens to both."""

    clients = Bundle("clients")

    @initialize(kept=SETTINGS_OF_OPERATORS)
    def begin(self, kept: BackendCache) -> None:
        """Begin with nothing."""
        self.bench = make(settings=kept)
        self.asked = Hanging()
        self.model = CacheSpecification(kept, MAX_REFRESHES, self.asked, self.bench.clock.seconds, {})
        self.askings: dict[int, Deferred[Outcome]] = {}
        self.calls: dict[str, Deferred[Any]] = {}
        self.number = 0
        self.left: set[int] = set()

    def outcome(self, kind: str, said: Freshness | None) -> tuple[Any, Outcome]:
        """Return what upstream says or raises, and what that is to the cache; no two are alike."""
        self.number += 1
        if kind == "answered":
            outcome: Outcome = Answered(f"answer {self.number}", said)
        elif kind == "missing":
            outcome = Missing(said)
        elif kind == "failed":
            outcome = Failed(f"down {self.number}")
        else:
            error = RuntimeError(self.number)
            return error, Failed("unforeseen RuntimeError", error, upstream="unknown")
        return outcome, outcome

    @rule(target=clients, name=NAMES)
    def ask(self, name: str) -> int:
        """Somebody asks."""
        client = len(self.askings)
        before = len(self.bench.upstream.calls)
        self.model.ask(client, "unix", name)
        self.askings[client] = self.bench.ask(Query(name))
        self.bench.turn()
        self.model.settle()
        for call in self.bench.upstream.calls[before:]:
            self.calls[name] = call
        return client

    @rule(client=consumes(clients))
    def leave(self, client: int) -> None:
        """Somebody leaves, who may have been told already."""
        self.left.add(client)
        self.model.leave(client)
        leave(self.askings[client])

    @rule(seconds=st.sampled_from([1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.bench.clock.advance(seconds)

    @rule(kind=KINDS, said=SAID)
    def say(self, kind: str, said: Freshness | None) -> None:
        """Upstream recovers, fails, changes its answer."""
        self.bench.upstream.says, self.asked.says = self.outcome(kind, said)

    @rule()
    def hang(self) -> None:
        """Upstream hangs."""
        self.bench.upstream.says = self.asked.says = None

    @rule(name=NAMES, kind=KINDS, said=SAID)
    def answer(self, name: str, kind: str, said: Freshness | None) -> None:
        """Upstream says something at last to what it hung upon."""
        call = self.calls.pop(name, None)
        if call is None or call.called:
            return
        says, outcome = self.outcome(kind, said)
        self.asked.running.pop(name).done(outcome)
        call.callback(says)

    @rule(target=clients, name=NAMES, count=st.integers(2, 5))
    def ask_together(self, name: str, count: int) -> Any:
        """Several ask."""
        return multiple(*(self.ask(name) for _ in range(count)))

    @invariant()
    def everybody_was_told(self) -> None:
        """Who has not left was told what the model says, or waits."""
        for client, asking in self.askings.items():
            if client not in self.left:
                outcome = told(asking)
                assert (outcome and (outcome, outcome.cache)) == self.model.told.get(client), client

    @invariant()
    def upstream_was_asked(self) -> None:
        """Upstream was asked as often as the model says, and each question ends that nobody waits for."""
        assert Counter(query.user for query in self.bench.upstream.asked) == self.asked.asked
        assert self.bench.upstream.cancelled == self.asked.given_up
        assert set(self.bench.cache.refreshes) == {f"web:{name}" for name in self.model.refreshes}
        assert self.bench.cache.in_background == len(self.model.in_background)

    def teardown(self) -> None:
        """Nobody waits after the end, and nothing runs."""
        self.bench.cache.stop()
        for client, asking in self.askings.items():
            if client not in self.left:
                assert told(asking) is not None
        assert self.bench.cache.refreshes == {}
        assert self.bench.cache.in_background == 0
        assert self.bench.clock.getDelayedCalls() == []


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
