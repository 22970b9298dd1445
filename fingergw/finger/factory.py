"""A listener's rules, which all its connections have in common."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias

from attrs import define, field, frozen
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from fingergw.core.addresses import Networks
from fingergw.core.admission import Rate, RateLimit
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.query import escape, to_wire, truncate
from fingergw.core.routing import Router
from fingergw.finger.protocol import DRAIN_SECONDS, LINGER_SECONDS, SMALL_ANSWER_BYTES, FingerProtocol
from fingergw.finger.traffic import Traffic
from fingergw.telemetry.access_log import AccessLog

_log = Logger()

Refusal: TypeAlias = Literal["no_such_user", "internal_error", "list_denied", "forward_denied", "busy", "bad_query"]


@frozen
class Limits:
    """What one connection, and all of a listener's together, may use; times in seconds."""

    max_query_bytes: int
    query_timeout: float
    answer_timeout: float
    max_answer_bytes: int
    max_connections: int
    max_connections_per_client: int
    max_waiting: int
    rate: Rate | None


def client_text(addr: IAddress | None) -> str:
    """Return a client's address in its usual text form; ``"unix"`` for a client on a unix socket."""
    host: str = getattr(addr, "host", "unix")
    return host.removeprefix("::ffff:")


class Closed(Protocol):
    """The connection of one who may not ask. Under TLS a protocol is needed even for that."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()  # to close would wait for the handshake, and nobody watches how long
        else:
            self.transport.loseConnection()


@define(eq=False)
class FingerFactory(ServerFactory):
    """A listener's rules. A connection has those that were in force when it came, to its end.

    :param listener: its name.
    :param router: its routes.
    :param refusals: what clients are told, by the names in ``[answers]``.
    :param allow: who may ask; None for everyone.
    :param deny: who may not, and wins; None for nobody.
    :param forwarding: the other hosts that it forwards to.
    :param traffic: the connections there are under these rules, and under those before them.
    :param decoy_delay: None for a listener that is none; else the seconds after which a decoy answers.
    """

    listener: str
    router: Router[Chain]
    limits: Limits
    refusals: dict[str, bytes]
    charset: str
    case_sensitive: bool
    allow: Networks | None
    deny: Networks | None
    forwarding: Forwarding[Chain]
    decoy_delay: float | None
    access_log: AccessLog
    clock: IReactorTime
    traffic: Traffic
    _rate_limit: RateLimit | None = field(init=False)
    noisy = False

    def __attrs_post_init__(self) -> None:
        self.seconds = self.clock.seconds
        self._rate_limit = None if self.limits.rate is None else RateLimit(self.limits.rate)
        # the same few texts are asked for again and again, a static backend's most of all
        self._short_to_wire = lru_cache(maxsize=128)(self._to_wire)

    def to_wire(self, text: str) -> bytes:
        """Return an answer's bytes, within the limit."""
        return (self._short_to_wire if len(text) <= SMALL_ANSWER_BYTES else self._to_wire)(text)

    def _to_wire(self, text: str) -> bytes:
        wire = to_wire(text, self.charset)
        if len(wire) > self.limits.max_answer_bytes:
            _log.warn(
                "an answer of {size} bytes is cut to {limit}, the max_answer_bytes of {listener}",
                size=len(wire),
                limit=self.limits.max_answer_bytes,
                listener=escape(self.listener),
            )
        return truncate(wire, self.limits.max_answer_bytes)

    def come_into_force(self, before: FingerFactory | None) -> None:
        """Begin to hold for new connections.

        :param before: the rules until now; what they know of who asks too often goes on to count. None for no rules.
        """
        limits = self.limits
        if before is not None and before.limits.rate == limits.rate:
            self._rate_limit = before._rate_limit  # noqa: SLF001  # another of its kind
        times = (limits.query_timeout, limits.answer_timeout, LINGER_SECONDS, DRAIN_SECONDS, self.decoy_delay)
        self.traffic.deadlines.hasten(min(filter(None, times)))

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a protocol for a client; one that may not ask is closed on."""
        client = client_text(addr)
        if client != "unix" and not self.lets_in(client):
            self.traffic.refusals["denied"] += 1
            self.note("denied", client)
            return Closed()
        return FingerProtocol(self, client)

    def lets_in(self, client: str) -> bool:
        """Tell whether a client, told by its address, may ask here."""
        if self.deny is not None and client in self.deny:
            return False
        return self.allow is None or client in self.allow

    def may_ask_now(self, client: str, now: float) -> bool:
        """Note that a client asks, and tell whether that is not too often."""
        return self._rate_limit is None or self._rate_limit.allows(client, now)

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
        self.traffic.outcomes[route, outcome] += 1
        self.access_log.add(self.listener, client, query, route, backend, outcome, size, seconds, cache)
