"""What turns and breakers do, as README says it and as simply as can be, for models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

from attrs import define, evolve, field

from fingergw.core.outcome import Failed, Outcome

LATE, NOT_BEGUN = Failed("not done", upstream="silent"), Failed("not begun", upstream="unknown")
LEFT_ALONE, NAME_LEFT_ALONE = Failed("left alone", upstream="unknown"), Failed("this name", upstream="unknown")


@define(eq=False)
class Question:
    """A question to upstream.

    :param done: called with the outcome.
    :param began_at: when it got its place; None while it waits.
    """

    name: str
    done: Callable[[Outcome], object]
    asked_at: float
    began_at: float | None = None


@define(eq=False)
class Name:
    """A name that timed out: how often in a row, and when it may be asked for again if that was too often.

    :param asked_again: the last question for it that was let through then.
    """

    times: int = 0
    ask_at: float = 0.0
    asked_again: Question | None = None


@define(eq=False)
class BreakerSpecification:
    """When a backend is left alone.

    :param failures: how many in a row it takes.
    :param by_name: whether time-outs count once for each name.
    :param row: how many there were, but for time-outs of names.
    :param late: the names that timed out in this row.
    :param names: what timed out, and was not answered since.
    :param heard_at: when upstream was heard last.
    :param trying: the one that tries.
    :param last_to_try: the client who tried last.
    :param others_want: whether others have asked since.
    :param log: whenever it ``opened`` or ``closed``.
    """

    failures: int
    pause: float
    by_name: bool
    row: int = 0
    late: set[str] = field(factory=set)
    names: defaultdict[str, Name] = field(factory=lambda: defaultdict(Name))
    is_open: bool = False
    try_at: float = 0.0
    heard_at: float = -math.inf
    trying: Question | None = None
    last_to_try: str = ""
    others_want: bool = False
    log: list[str] = field(factory=list)

    def admits(self, question: Question, client: str, now: float) -> bool:
        """Say whether upstream may be asked."""
        name = self.names[question.name]
        if self.is_open:
            goes_after = client == self.last_to_try and self.others_want and now < self.try_at + self.pause
            if self.trying is not None or now < self.try_at or goes_after:
                self.others_want |= client != self.last_to_try
                return False
            self.trying, self.last_to_try, self.others_want = question, client, False
        elif name.times >= self.failures:
            if now < name.ask_at:
                return False
            name.ask_at, name.asked_again = now + self.pause, question
        return True

    def note(self, question: Question, upstream: str, now: float) -> None:
        """Note what came of a question.

        :param upstream: whether upstream was ``responded``, ``unreachable`` or ``silent``, or that is ``unknown``.
        """
        was_try, name = self.trying is question, self.names[question.name]
        if was_try:
            self.trying = None
        if upstream == "responded":
            if self.is_open:
                self.log.append("closed")
            self.is_open, self.heard_at, self.row = False, now, 0
            self.last_to_try, self.others_want = "", False
            self.names[question.name] = Name()
            self.late.clear()
        elif upstream == "unknown":
            if name.asked_again is question:
                name.ask_at = now
        elif was_try or not self.is_open:
            self.fail(question, is_silent=upstream == "silent", now=now)

    def fail(self, question: Question, *, is_silent: bool, now: float) -> None:
        """Note a failure. What others have heard meanwhile says more than that one was not answered."""
        if is_silent and self.by_name:
            name = self.names[question.name]
            name.times += 1
            name.ask_at = now + self.pause
        if is_silent and self.heard_at > question.asked_at:
            return
        if is_silent and self.by_name:
            self.late.add(question.name)
        else:
            self.row += 1
        if self.is_open:
            self.try_at = now + self.pause
        elif self.row + len(self.late) >= self.failures:
            self.is_open, self.try_at = True, now + self.pause
            self.log.append("opened")


@define(eq=False)
class WaitingSpecification:
    """Turns of asking upstream, and upstream itself.

    :param lingers: whether upstream keeps its place for a while when it is no longer needed.
    :param says: what upstream says at once; None while it hangs.
    :param asked: the names that it was asked, ever.
    :param running: what it is being asked, in the order in which it began, and what lingers.
    :param needed: the questions whose outcome somebody needs, in the order in which they were asked.
    :param queue: which clients wait for their turn, with what.
    :param round: the clients who wait, the next first.
    :param turns_left: how many turns of others each of them has to wait for at most.
    """

    seconds: Callable[[], float]
    timeout: float
    max_running: int
    breaker: BreakerSpecification | None
    lingers: bool
    says: Outcome | None = None
    asked: list[str] = field(factory=list)
    running: list[Question] = field(factory=list)
    needed: list[Question] = field(factory=list)
    queue: list[tuple[str, Question]] = field(factory=list)
    round: list[str] = field(factory=list)
    turns_left: dict[str, int] = field(factory=dict)
    cancelled: int = 0

    def ask(self, name: str, payers: list[str], done: Callable[[Outcome], object]) -> Question:
        """Ask upstream, at once or when it is somebody's turn."""
        question = Question(name, done, self.seconds())
        if self.breaker is not None and not self.breaker.admits(question, payers[0], self.seconds()):
            done(LEFT_ALONE if self.breaker.is_open else NAME_LEFT_ALONE)
            return question
        self.needed.append(question)
        if len(self.running) < self.max_running:
            self.begin(question)
        else:
            for payer in payers:
                self.enqueue(payer, question)
        return question

    def join(self, question: Question, payer: str) -> None:
        """Note another client that a question is for."""
        if question.began_at is None:
            self.enqueue(payer, question)

    def enqueue(self, payer: str, question: Question) -> None:
        """Have a client wait for its turn with a question."""
        self.queue.append((payer, question))
        if payer not in self.round:
            self.turns_left[payer] = len(self.round)
            self.round.append(payer)

    def dequeue(self, question: Question) -> None:
        """Have nobody wait with a question."""
        self.queue = [(payer, other) for payer, other in self.queue if other is not question]
        waiting = {payer for payer, _ in self.queue}
        self.round = [payer for payer in self.round if payer in waiting]

    def begin(self, question: Question) -> None:
        """Ask upstream."""
        question.began_at = self.seconds()
        self.asked.append(question.name)
        self.running.append(question)
        if self.says is not None:
            self.answer(question, self.says)

    def answer(self, question: Question, outcome: Outcome) -> None:
        """Let upstream answer."""
        self.running.remove(question)
        if question in self.needed:
            if isinstance(outcome, Failed) and outcome.upstream == "silent" and not self.has_had_time(question):
                outcome = evolve(outcome, upstream="unknown")
            self.finish(question, outcome.upstream if isinstance(outcome, Failed) else "responded")
            question.done(outcome)

    def finish(self, question: Question, upstream: str) -> None:
        """Note that nobody needs a question's outcome any more."""
        self.needed.remove(question)
        if self.breaker is not None:
            self.breaker.note(question, upstream, self.seconds())

    def stop(self, question: Question) -> None:
        """Have upstream stop, or nobody wait."""
        if question.began_at is None:
            self.dequeue(question)
            return
        self.cancelled += 1
        if not self.lingers:
            self.running.remove(question)

    def give_up(self, question: Question) -> None:
        """Drop a question that nobody needs any more."""
        self.stop(question)
        self.finish(question, "unknown")

    @property
    def next_timeout(self) -> float | None:
        """When the next question times out; None if there is none."""
        return self.needed[0].asked_at + self.timeout if self.needed else None

    def time_out(self) -> None:
        """Let those questions fail whose time is over."""
        for question in list(self.needed):
            if self.seconds() < question.asked_at + self.timeout:
                continue
            self.stop(question)
            late = LATE if self.has_had_time(question) else evolve(LATE, upstream="unknown")
            self.finish(question, late.upstream)
            question.done(NOT_BEGUN if question.began_at is None else late)

    def has_had_time(self, question: Question) -> bool:
        """Say whether upstream has had half of the time for a question."""
        return question.began_at is not None and self.seconds() - question.began_at >= self.timeout / 2

    def settle(self) -> None:
        """Give the places that are free to those whose turn it is."""
        while self.round and len(self.running) < self.max_running:
            client = self.round.pop(0)
            self.round.append(client)  # the other clients come first
            for other in self.round[:-1]:
                self.turns_left[other] -= 1
            self.turns_left[client] = len(self.round) - 1
            question = next(question for payer, question in self.queue if payer == client)
            self.dequeue(question)
            if self.breaker is not None and self.breaker.is_open and self.breaker.trying is not question:
                self.finish(question, "unknown")
                question.done(LEFT_ALONE)
            else:
                self.begin(question)
