"""The rules of a listener and what depends on them, such as its rate limit: new at each reload."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from attrs import define, field
from twisted.logger import Logger

from fingergw.core.admission import RateLimit
from fingergw.core.rules import Rules
from fingergw.core.text import escape, to_wire, truncate
from fingergw.finger.connections import Connections
from fingergw.finger.known_answers import KnownAnswers
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.meters import ListenerMeter

_log = Logger()

DRAIN_SECONDS = 1.0
"""How long a client may take to send the rest of its query when the listener or the gateway stops."""
LINGER_SECONDS = 2.0
"""How long the input of a client that keeps sending is read after its answer."""
SMALL_ANSWER_BYTES = 1024
"""An answer up to this size fits even the window of a client with the smallest buffer that Linux allows, so it is sent
whole before anything more can arrive."""
_KEPT_CHARACTERS = 4096  # of a text whose bytes are kept


@define(eq=False, repr=False)
class Listener:
    """A listener under one set of rules. A reload replaces it with another that has the same connections.

    A connection keeps the one that was active when it was accepted.

    :param connections: all of the listener's connections, those under earlier rules too.
    :param known: answers that need not be found again.
    """

    rules: Rules
    connections: Connections
    access_log: AccessLog
    known: KnownAnswers = field(init=False)
    _name: str = field(init=False)
    _meter: ListenerMeter = field(init=False)
    _rate_limit: RateLimit | None = field(init=False)
    _short_to_wire: Callable[[str], bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        rate = self.rules.limits.rate
        self._name, self._meter = self.rules.listener, self.connections.meter
        self._rate_limit = None if rate is None else RateLimit(rate)
        # the same few texts are sent again and again, above all those of static backends
        self._short_to_wire = lru_cache(maxsize=128)(self._to_wire)
        self.known = KnownAnswers(
            self.rules, SMALL_ANSWER_BYTES, self._meter, self.to_wire, self.record, self.connections.seconds
        )

    def activate(self, before: Listener | None) -> None:
        """Become active for new connections.

        :param before: the listener that was active; if its rate is the same, its counts are kept. None at start.
        """
        limits = self.rules.limits
        if before is not None and before.rules.limits.rate == limits.rate:
            self._rate_limit = before._rate_limit  # noqa: SLF001  # another of its kind
        times = (limits.query_timeout, limits.answer_timeout, LINGER_SECONDS, DRAIN_SECONDS, self.rules.decoy_delay)
        self.connections.deadlines.check_at_least_every(min(filter(None, times)))

    def spend_query(self, client: str, now: float) -> bool:
        """Count a query of a client, and tell whether its rate allows it."""
        return self._rate_limit is None or self._rate_limit.spend(client, now)

    def to_wire(self, text: str) -> bytes:
        """Return an answer as bytes, cut to ``max_answer_bytes``."""
        return (self._short_to_wire if len(text) <= _KEPT_CHARACTERS else self._to_wire)(text)

    def _to_wire(self, text: str) -> bytes:
        wire, limit = to_wire(text, self.rules.charset), self.rules.limits.max_answer_bytes
        if len(wire) > limit:
            _log.warn(
                "an answer of {size} bytes is cut to {limit}, the max_answer_bytes of listener {listener}",
                size=len(wire),
                limit=limit,
                listener=escape(self._name),
            )
        return truncate(wire, limit)

    def shown(self, client: str) -> str:
        """Return a client's address as it may be logged."""
        return self.access_log.shown(client)

    def record(
        self,
        outcome: str,
        client: str,
        query: bytes = b"",
        route: str = "",
        backend: str = "",
        size: int = 0,
        seconds: float = 0.0,
        cache: str = "",
    ) -> None:
        """Count the outcome of a connection, and write its line to the access log (see there for the parameters)."""
        self._meter.outcomes[route, outcome] += 1
        self.access_log.add(self._name, client, query, route, backend, outcome, size, seconds, cache)
