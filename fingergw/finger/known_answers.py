"""Answers that are known by what a client sends: given again without a decision, a backend or a protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from attrs import define, field

from fingergw.core.addresses import Networks
from fingergw.core.chain import Result
from fingergw.core.decide import Asked, Refused
from fingergw.core.outcome import Answered, Failed, Holds, Reuse, still_holds
from fingergw.core.rules import Rules
from fingergw.telemetry.meters import ListenerMeter, Times

MAX_KNOWN = 1024
"""The most answers that a listener knows."""
MAX_DATA_BYTES = 512
"""The longest line for which it does, with its end."""

_Key: TypeAlias = bytes | tuple[frozenset[Networks], bytes]


class Known(NamedTuple):
    """An answer, and what the access log and the meters say of it.

    :param query: the line, for the log.
    :param times: the route's.
    :param holds: tells whether it is still the answer.
    :param count_again: counts for the backend.
    """

    answer: bytes
    query: bytes
    route: str
    backend: str
    outcome: str
    cache: str
    times: Times
    holds: Holds
    count_again: Callable[[], object]


@define(eq=False, repr=False)
class KnownAnswers:
    """The answers that are the same for the same bytes, as long as a listener has the same rules.

    They are known by the bytes and by the routes' networks that the client is in, from the second time on that these
    are asked for. There are two generations: what is asked for is in the younger one, and when that is full, the older
    one is dropped. So names that are invented cost next to nothing, and what is asked for again and again stays.

    :param max_bytes: the longest answer.
    :param to_wire: returns an answer as bytes.
    :param record: counts an outcome and writes its line to the access log; see ``Listener.record``.
    :param seconds: returns the time.
    """

    rules: Rules
    max_bytes: int
    meter: ListenerMeter
    to_wire: Callable[[str], bytes]
    record: Callable[[str, str, bytes, str, str, int, float, str], None]
    seconds: Callable[[], float]
    _networks: Callable[[str], frozenset[Networks]] = field(init=False)
    _younger: dict[_Key, Known] = field(init=False, factory=dict)
    _older: dict[_Key, Known] = field(init=False, factory=dict)
    _once: set[int] = field(init=False, factory=set)  # the hashes of what may have been asked for only once

    def __attrs_post_init__(self) -> None:
        self._networks = self.rules.router.networks_of

    def __len__(self) -> int:
        return len(self._younger.keys() | self._older.keys())

    def find(self, client: str, data: bytes) -> Known | None:
        """Return the answer to all that a client has sent, if it is known and still holds. Nothing is counted.

        :param client: its address in its usual text form. It has not been looked at whether it may ask.
        :param data: what one read has returned.
        """
        networks = self._networks(client)
        key = (networks, data) if networks else data
        known = self._younger.get(key)
        if known is None:
            known = self._older.pop(key, None)
            if known is None:
                return None
            self._keep(key, known)
        if still_holds(known.holds):
            return known
        del self._younger[key]
        return None

    def use(self, known: Known, client: str, asked_at: float) -> bytes:
        """Count and log an answer that :meth:`find` has just returned, as the protocol does, and return its bytes.

        What is not counted is the connection, whether it is accepted or rejected, and the client's rate.

        :param asked_at: when the line was there, on the listener's clock.
        """
        answer, query, route, backend, outcome, cache, times, _, count_again = known
        count_again()
        took = self.seconds() - asked_at
        self.record(outcome, client, query, route, backend, len(answer), took, cache)
        times.add(took)
        return answer

    def learn_result(self, client: str, data: bytes, line: bytes, asked: Asked, result: Result, place: int) -> None:
        """Note what was known at once of a chain, if that may be used again, and was asked for before.

        :param data: what the client has sent: the line with its end, and nothing else.
        :param line: for the log.
        :param place: see :meth:`fingergw.core.chain.Chain.at_once`.
        """
        key = self._key_of_second(client, data) if asked.is_reusable else None
        if key is None:
            return
        outcome = result.outcome
        if isinstance(outcome, Failed) or (isinstance(outcome, Answered) and len(outcome.text) > self.max_bytes):
            return
        reuse = asked.chain.reuse(asked.query, outcome, place)
        if reuse is None:
            return
        if isinstance(outcome, Answered):
            answer = self.to_wire(outcome.text)
            self._learn(key, answer, line, asked.route, result.backend, "answered", outcome.cache, reuse)
        else:
            refusal = asked.refusal(outcome)
            self._learn(key, self.rules.refusals[refusal], line, asked.route, "", refusal, outcome.cache, reuse)

    def learn_refusal(self, client: str, data: bytes, line: bytes, refused: Refused) -> None:
        """Note how a query was refused, as :meth:`learn_result` does for a result."""
        key = self._key_of_second(client, data) if refused.is_reusable else None
        if key is not None:
            refusal = refused.refusal
            self._learn(key, self.rules.refusals[refusal], line, "", "", refusal, "", _ALWAYS)

    def _key_of_second(self, client: str, data: bytes) -> _Key | None:
        """Return the key of what a client asks, if that was asked before; None if not, or if it is too long."""
        networks = self._networks(client)
        key = (networks, data) if networks else data
        hashed, once = hash(key), self._once
        if hashed in once:
            return key if len(data) <= MAX_DATA_BYTES else None
        if len(once) >= MAX_KNOWN:
            once.clear()
        once.add(hashed)
        return None

    def _learn(
        self,
        key: _Key,
        answer: bytes,
        line: bytes,
        route: str,
        backend: str,
        outcome: str,
        cache: str,
        reuse: Reuse,
    ) -> None:
        if len(answer) <= self.max_bytes:
            known = Known(answer, line, route, backend, outcome, cache, self.meter.times[route], *reuse)
            self._keep(key, known)

    def _keep(self, key: _Key, known: Known) -> None:
        if len(self._younger) >= MAX_KNOWN // 2:
            self._older, self._younger = self._younger, {}
        self._younger[key] = known


_ALWAYS = Reuse(lambda: True, lambda: None)
