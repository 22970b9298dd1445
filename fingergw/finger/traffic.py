"""A listener's connections, and what came of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.admission import ConnectionCounts
from fingergw.finger.deadlines import Deadlines
from fingergw.telemetry.meters import Times

if TYPE_CHECKING:
    from fingergw.finger.protocol import FingerProtocol

Turned: TypeAlias = Literal[
    "denied",
    "untrusted_proxy",
    "bad_proxy_header",
    "bad_handshake",
    "connections",
    "client_connections",
    "rate",
    "waiting",
]
"""Why a connection or query was turned away: its client may not ask here, or its proxy may not say who that is; TLS did
not come about with it; there are too many connections, or too many of this client; it asks too often; too many queries
wait for a backend."""


@define(eq=False)
class Traffic:
    """A listener's connections, and what came of them. It outlives the rules that a reload puts in place of others.

    :param protocols: the connections there are.
    :param accepted: how many there have been.
    :param turned_away: how many of those there are have been turned away, and take nobody's place.
    :param waiting: how many queries wait for a backend.
    :param outcomes: how many lines of the access log there were, by route and outcome.
    :param times: how long queries took from their line to the answer, by route.
    :param refusals: how many were turned away, by reason.
    """

    clock: IReactorTime
    protocols: set[FingerProtocol] = field(init=False, factory=set)
    accepted: int = field(init=False, default=0)
    turned_away: int = field(init=False, default=0)
    waiting: int = field(init=False, default=0)
    outcomes: Counter[tuple[str, str]] = field(init=False, factory=Counter)
    times: dict[str, Times] = field(init=False, factory=dict)
    refusals: Counter[Turned] = field(init=False, factory=Counter)
    connections: ConnectionCounts = field(init=False, factory=ConnectionCounts)
    deadlines: Deadlines = field(init=False)
    draining: bool = field(init=False, default=False)
    _drained: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self.protocols, self.clock)

    def may_wait(self, work: Deferred[Any], max_waiting: int) -> bool:
        """Note that a query waits for a backend, and tell whether so many may."""
        self.waiting += 1
        work.addBoth(self._waited)
        return self.waiting <= max_waiting

    def _waited(self, _: object) -> None:
        self.waiting -= 1

    def took(self, route: str, seconds: float) -> None:
        """Note how long a query took from its line to the answer."""
        times = self.times.get(route)
        if times is None:
            times = self.times[route] = Times()
        times.add(seconds)

    def drain(self) -> Deferred[None]:
        """Close all connections but those whose query is on its way, or the answer.

        :return: fires when these are closed too, about ``answer_timeout`` later at the most.
        """
        self.draining = True
        for protocol in list(self.protocols):
            protocol.drain()
        self.deadlines.look()
        drained = self._drained = Deferred[None]()
        self.drained()
        return drained

    def drained(self) -> None:
        """Note that a connection is gone, of those that were drained."""
        if self._drained is not None and not self.protocols:
            self.deadlines.stop()
            drained, self._drained = self._drained, None
            drained.callback(None)
