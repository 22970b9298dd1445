"""The cache against a model of it, over whatever clients, time and upstream do."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from twisted.internet.defer import Deferred

from fingergw.cache.store import BACK_OFF_SECONDS
from fingergw.core.outcome import Answered, Failed, Freshness, Missing, Outcome
from fingergw.core.query import Query
from tests.support.cache_bench import NEGATIVE_TTL, STALE, TTL, leave, make, told


@define
class Name:
    """What the model knows of one name.

    :param kept: what was answered last, if that may be kept, and until when it is good for what.
    :param retry_at: before that it is not asked for while there is something to serve.
    :param is_asked: whether upstream is being asked, perhaps in the background.
    :param waiting: who waits.
    :param requests: how often upstream was asked.
    :param given_up: how many of these were given up, as nobody waited any more.
    """

    kept: Answered | Missing | None = None
    fresh_until: float = 0.0
    stale_until: float = 0.0
    error_until: float = 0.0
    retry_at: float = 0.0
    is_asked: bool = False
    in_background: bool = False
    waiting: list[int] = field(factory=list)
    requests: int = 0
    given_up: int = 0


@define
class Model:
    """What the cache is to do.

    :param upstream: what upstream says at once; None while it hangs.
    :param told: what each client has been told.
    :param is_down: whether upstream has failed and not answered since.
    """

    now: float
    upstream: Outcome | None = None
    names: dict[str, Name] = field(factory=lambda: {"a": Name(), "b": Name()})
    told: dict[int, Outcome] = field(factory=dict)
    is_down: bool = False

    def may_refresh(self, name: Name) -> bool:
        """Say whether a refresh begins in the background: once upstream has failed there is one at a time."""
        has_room = not self.is_down or not any(each.is_asked and each.in_background for each in self.names.values())
        return has_room and self.now >= name.retry_at and not name.is_asked

    def ask(self, name: Name, client: int) -> None:
        """Let a client ask."""
        is_good = self.now < max(name.fresh_until, name.stale_until)
        is_good_for_now = self.now < min(name.error_until, name.retry_at)
        if name.kept is not None and (is_good or is_good_for_now):
            self.told[client] = name.kept
            is_stale = name.fresh_until <= self.now < name.stale_until
            if is_stale and self.may_refresh(name):
                self.begin(name, in_background=True)
        else:
            name.waiting.append(client)
            if not name.is_asked:
                self.begin(name, in_background=False)

    def begin(self, name: Name, in_background: bool) -> None:
        """Ask upstream."""
        name.requests += 1
        name.is_asked, name.in_background = True, in_background
        if self.upstream is not None:
            self.end(name, self.upstream)

    def end(self, name: Name, outcome: Outcome) -> None:
        """Take what upstream has said."""
        name.is_asked = False
        self.is_down = isinstance(outcome, Failed)
        if isinstance(outcome, Failed):
            name.retry_at = self.now + BACK_OFF_SECONDS
            if name.kept is not None and self.now < name.error_until:
                outcome = name.kept
        else:
            ttl, while_refreshed = (NEGATIVE_TTL, 0.0) if isinstance(outcome, Missing) else (TTL, STALE)
            said = outcome.freshness or Freshness()
            name.fresh_until = self.now + (ttl if said.ttl is None else said.ttl)
            name.stale_until = name.fresh_until + (
                while_refreshed if said.stale_while_revalidate is None else said.stale_while_revalidate
            )
            name.error_until = name.fresh_until + (STALE if said.stale_if_error is None else said.stale_if_error)
            name.kept, name.retry_at = outcome, 0.0
        for client in name.waiting:
            self.told[client] = outcome
        name.waiting.clear()

    def leave(self, client: int) -> None:
        """Let a client leave."""
        for name in self.names.values():
            if client in name.waiting:
                name.waiting.remove(client)
                if not name.waiting and not name.in_background:
                    name.is_asked = False
                    name.given_up += 1


SAID = st.sampled_from(
    [
        None,
        None,
        Freshness(ttl=20.0),
        Freshness(ttl=20.0, stale_while_revalidate=0.0),
        Freshness(ttl=3.0, stale_if_error=0.0),
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

    @initialize()
    def begin(self) -> None:
        """Begin with nothing."""
        self.bench = make()
        self.model = Model(self.bench.clock.seconds())
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
            return error, Failed("unforeseen RuntimeError", error)
        return outcome, outcome

    @rule(target=clients, name=NAMES)
    def ask(self, name: str) -> int:
        """Somebody asks."""
        client = len(self.askings)
        before = len(self.bench.upstream.calls)
        self.model.ask(self.model.names[name], client)
        self.askings[client] = self.bench.ask(Query(name))
        self.bench.turn()
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
        self.model.now += seconds
        self.bench.clock.advance(seconds)

    @rule(kind=KINDS, said=SAID)
    def say(self, kind: str, said: Freshness | None) -> None:
        """Upstream recovers, fails, changes its answer."""
        self.bench.upstream.says, self.model.upstream = self.outcome(kind, said)

    @rule()
    def hang(self) -> None:
        """Upstream hangs."""
        self.bench.upstream.says = self.model.upstream = None

    @rule(name=NAMES, kind=KINDS, said=SAID)
    def answer(self, name: str, kind: str, said: Freshness | None) -> None:
        """Upstream says something at last to what it hung upon."""
        call = self.calls.pop(name, None)
        if call is None or call.called:
            return
        says, outcome = self.outcome(kind, said)
        self.model.end(self.model.names[name], outcome)
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
                assert told(asking) == self.model.told.get(client), client

    @invariant()
    def upstream_was_asked(self) -> None:
        """Upstream was asked as often as the model says, and each question ends that nobody waits for."""
        asked = [query.user for query in self.bench.upstream.asked]
        names = self.model.names
        assert {name: asked.count(name) for name in names} == {name: names[name].requests for name in names}
        assert self.bench.upstream.cancelled == sum(name.given_up for name in names.values())
        assert set(self.bench.cache.refreshes) == {f"web:{name}" for name in names if names[name].is_asked}

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
TestCache.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
