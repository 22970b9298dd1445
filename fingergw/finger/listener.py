"""A listener as its connections see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from attrs import define, field
from twisted.logger import Logger

from fingergw.core.admission import RateLimit
from fingergw.core.rules import Rules
from fingergw.core.text import escape, to_wire, truncate
from fingergw.finger.connections import Connections
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.meters import ListenerMeter

_log = Logger()

DRAIN_SECONDS = 1.0
"""How long a client has to send the rest of its query where the listener stops, or the gateway."""
LINGER_SECONDS = 2.0
"""How long a client that goes on sending is read after its answer."""
SMALL_ANSWER_BYTES = 4096
"""An answer of this size is on its way whole before anything else can arrive: it fits TCP's first window (RFC 6928)."""


@define(eq=False)
class Listener:
    """A listener under its rules. A reload puts another in its place, which goes on with its connections.

    A connection has the one that was active when it came, to its end.

    :param connections: those there are under these rules, and under those before them.
    """

    rules: Rules
    connections: Connections
    access_log: AccessLog
    _name: str = field(init=False)
    _meter: ListenerMeter = field(init=False)
    _rate_limit: RateLimit | None = field(init=False)
    _short_to_wire: Callable[[str], bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        rate = self.rules.limits.rate
        self._name, self._meter = self.rules.listener, self.connections.meter
        self._rate_limit = None if rate is None else RateLimit(rate)
        # the same few texts are asked for again and again, a static backend's most of all
        self._short_to_wire = lru_cache(maxsize=128)(self._to_wire)

    def activate(self, before: Listener | None) -> None:
        """Begin to hold for new connections.

        :param before: the one until now; what it knows of who asks too often goes on to count. None for none.
        """
        limits = self.rules.limits
        if before is not None and before.rules.limits.rate == limits.rate:
            self._rate_limit = before._rate_limit  # noqa: SLF001  # another of its kind
        times = (limits.query_timeout, limits.answer_timeout, LINGER_SECONDS, DRAIN_SECONDS, self.rules.decoy_delay)
        self.connections.deadlines.hasten(min(filter(None, times)))

    def may_ask_now(self, client: str, now: float) -> bool:
        """Note that a client asks, and tell whether that is not too often."""
        return self._rate_limit is None or self._rate_limit.allows(client, now)

    def to_wire(self, text: str) -> bytes:
        """Return an answer's bytes, within the limit."""
        return (self._short_to_wire if len(text) <= SMALL_ANSWER_BYTES else self._to_wire)(text)

    def _to_wire(self, text: str) -> bytes:
        wire, limit = to_wire(text, self.rules.charset), self.rules.limits.max_answer_bytes
        if len(wire) > limit:
            _log.warn(
                "an answer of {size} bytes is cut to {limit}, the max_answer_bytes of {listener}",
                size=len(wire),
                limit=limit,
                listener=escape(self._name),
            )
        return truncate(wire, limit)

    def note(
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
        """Count what came of a connection, and write it to the access log; for the parameters see there."""
        self._meter.outcomes[route, outcome] += 1
        self.access_log.add(self._name, client, query, route, backend, outcome, size, seconds, cache)
