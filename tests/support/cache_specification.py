"""What the cache of a backend does, as README says it and as simply as can be: without a store, for models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from attrs import define, field

from fingergw.core.outcome import Answered, BackendCache, Failed, Freshness, Missing, Outcome
from tests.support.waiting_specification import Question

Told: TypeAlias = tuple[Outcome, str]
"""An outcome, and what the cache had."""
_RECHECK_SECONDS = 1.0


class Asked(Protocol):
    """Whom a cache asks."""

    def ask(self, name: str, payers: list[str], done: Callable[[Outcome], object]) -> Question:
        """Ask for a name; ``done`` is called with the outcome, perhaps before this returns."""

    def join(self, question: Question, payer: str) -> None:
        """Note another client that a question is for."""

    def give_up(self, question: Question) -> None:
        """Drop a question that nobody needs any more."""


@define(eq=False)
class Kept:
    """An outcome that is kept, and until when it is good for what."""

    outcome: Answered | Missing
    fresh_until: float
    stale_until: float
    error_until: float
    refresh_at: float = 0.0


@define(eq=False)
class Refresh:
    """A question for a name.

    :param question: None before it is asked.
    :param waiting: what the cache had for each who waits.
    """

    name: str
    payers: list[str]
    in_background: bool
    question: Question | None = None
    waiting: dict[int, str] = field(factory=dict)


@define(eq=False)
class CacheSpecification:
    """What the cache is to do.

    :param settings: None if it keeps nothing, and only shares answers among those who ask at the same time.
    :param max_refreshes: in the background, for one client.
    :param told: what each who asked was told.
    :param refreshes: those that are running, by name.
    :param is_down: whether the last question has failed that says anything of upstream.
    """

    settings: BackendCache | None
    max_refreshes: int
    asked: Asked
    seconds: Callable[[], float]
    told: dict[int, Told]
    kept: dict[str, Kept] = field(factory=dict)
    refreshes: dict[str, Refresh] = field(factory=dict)
    is_down: bool = False

    @property
    def in_background(self) -> list[Refresh]:
        """The questions that were asked for nobody in particular."""
        return [refresh for refresh in self.refreshes.values() if refresh.in_background]

    def ask(self, who: int, payer: str, name: str) -> None:
        """Let somebody ask."""
        kept, now = self.kept.get(name), self.seconds()
        if kept is not None and now < kept.fresh_until:
            self.told[who] = kept.outcome, "fresh"
        elif kept is not None and now < kept.stale_until:
            self.told[who] = kept.outcome, "stale"
            if now >= kept.refresh_at and name not in self.refreshes and self.has_room(payer):
                self.refreshes[name] = Refresh(name, [payer], in_background=True)
        else:
            is_kept = kept is not None and now < max(kept.fresh_until, kept.stale_until, kept.error_until)
            self.wait(who, payer, name, "" if self.settings is None else "expired" if is_kept else "absent")

    def has_room(self, payer: str) -> bool:
        """Say whether another question may be asked in the background: after a failure there is one at a time."""
        running = self.in_background
        if self.is_down and running:
            return False
        return sum(refresh.payers[0] == payer for refresh in running) < self.max_refreshes

    def wait(self, who: int, payer: str, name: str, state: str) -> None:
        """Let somebody wait for an answer, whether or not somebody else does already."""
        refresh = self.refreshes.get(name)
        if refresh is None:
            refresh = self.refreshes[name] = Refresh(name, [payer], in_background=False, waiting={who: state})
            self.begin(refresh)
            return
        refresh.waiting[who] = state
        if payer not in refresh.payers:
            refresh.payers.append(payer)
            if refresh.question is not None:
                self.asked.join(refresh.question, payer)

    def begin(self, refresh: Refresh) -> None:
        """Ask."""
        refresh.question = self.asked.ask(refresh.name, list(refresh.payers), partial(self.finish, refresh))

    def settle(self) -> None:
        """Ask in the background what is to be asked there: those who were served are told first."""
        for refresh in self.in_background:
            if refresh.question is None:
                self.begin(refresh)

    def finish(self, refresh: Refresh, outcome: Outcome) -> None:
        """Take an outcome."""
        del self.refreshes[refresh.name]
        kept, now, state = self.kept.get(refresh.name), self.seconds(), ""
        if not isinstance(outcome, Failed) or outcome.upstream != "unknown":
            self.is_down = isinstance(outcome, Failed)
        if not isinstance(outcome, Failed):
            self.keep(refresh.name, outcome)
        elif kept is not None:
            if refresh.in_background:
                kept.refresh_at = now + _RECHECK_SECONDS
            if now < kept.error_until:
                outcome, state = kept.outcome, "stale_if_error"
        for who, had in refresh.waiting.items():
            self.told[who] = outcome, state or had

    def keep(self, name: str, outcome: Answered | Missing) -> None:
        """Keep an outcome for as long as upstream says, or else the settings."""
        settings, said, now = self.settings, outcome.freshness or Freshness(), self.seconds()
        if settings is None:
            return
        ttl = _first(said.ttl, settings.negative_ttl if isinstance(outcome, Missing) else settings.ttl)
        came_stale = said.ttl is not None and said.ttl <= 0
        while_refreshed = _first(settings.stale_while_revalidate, settings.stale)
        if came_stale or isinstance(outcome, Missing):
            while_refreshed = 0.0
        stale = now + ttl + _first(said.stale_while_revalidate, while_refreshed)
        error = now + ttl + _first(said.stale_if_error, settings.stale_if_error, settings.stale)
        self.kept[name] = Kept(outcome, now + ttl, stale, error)

    def leave(self, who: int) -> None:
        """Let somebody leave, who may have been told already."""
        for refresh in list(self.refreshes.values()):
            if refresh.waiting.pop(who, None) is not None and not refresh.waiting and not refresh.in_background:
                del self.refreshes[refresh.name]
                assert refresh.question is not None
                self.asked.give_up(refresh.question)


def _first(*seconds: float | None) -> float:
    return next(each for each in seconds if each is not None)
