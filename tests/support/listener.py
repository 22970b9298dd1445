"""A listener without a gateway, and connections to it without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from fingergw.app.gateway import Gateway
from fingergw.core.addresses import Networks
from fingergw.core.admission import Rate
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Limits, Rules
from fingergw.core.setting_types import Count, Seconds
from fingergw.core.text import to_wire
from fingergw.finger.connections import Connections
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import Listener
from fingergw.finger.protocol import FingerProtocol
from fingergw.telemetry.access_log import AccessLog
from tests.support.configuration import REFUSALS


def router_to(backend: object, user: str = "x") -> Router[Chain]:
    """Return routes that send one name to one backend."""
    chain = Chain((("b", backend),), cancelled=(CancelledError,))  # type: ignore[arg-type]  # any fake
    return Router([Route("r", chain, users=(user,))])


def put(gateway: Gateway, backend: object) -> None:
    """Have a backend asked for the name "x" on all of a gateway's listeners."""
    for service in gateway.listeners:
        before = service.listener
        listener = evolve(before, rules=evolve(before.rules, router=router_to(backend)))
        service.change(service.socket, listener)


def rate_of(queries: int, per: float, burst: int) -> Rate:
    """Return a rate limit."""
    return Rate(queries=Count(queries), per=Seconds(per), burst=Count(burst))


def make_listener(
    backend: object = None,
    *,
    clock: Clock | None = None,
    router: Router[Chain] | None = None,
    log: Path | None = None,
    refusals: dict[str, str] | None = None,
    charset: str = "utf-8",
    case_sensitive: bool = False,
    decoy_delay: float | None = None,
    allow: Networks | None = None,
    trusted_proxies: Networks | None = None,
    **limits: Any,
) -> Listener:
    """Return a listener without a socket, with the contract's limits and answers.

    :param trusted_proxies: if there are any, it is one that only these reach.
    """
    texts: dict[Any, str] = {**REFUSALS, **(refusals or {})}
    clock = clock or Clock()
    access_log = AccessLog("off" if log is None else str(log), "json", clock, lambda: 0.0)
    access_log.open()
    rules = Rules(
        listener="l",
        router=router or router_to(backend),
        limits=Limits(**limits),
        refusals={name: to_wire(text, charset) for name, text in texts.items()},
        charset=charset,
        case_sensitive=case_sensitive,
        allow=allow,
        deny=None,
        forwarding=Forwarding({}, frozenset(), 3),
        decoy_delay=decoy_delay,
        trusted_proxies=trusted_proxies,
    )
    made = Listener(rules, Connections(clock), access_log)
    made.activate(None)
    return made


class FakeTransport(StringTransport):
    """A connection without a network.

    :param reads: whether the client takes what it is sent.
    """

    def __init__(self, protocol: FingerProtocol, *, reads: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.protocol = protocol
        self.reads = reads
        self.half_closed = False
        self.closed = ""

    def sent(self) -> bytes:
        """Return what was written to it."""
        return self.io.getvalue()

    def loseConnection(self) -> None:
        if self.reads:
            self._close("clean", ConnectionDone())

    def abortConnection(self) -> None:
        self._close("aborted", ConnectionAborted())

    def loseWriteConnection(self) -> None:
        if self.reads:
            self.half_closed = True
            self.protocol.writeConnectionLost()

    def _close(self, how: str, error: Exception) -> None:
        if not self.closed:
            self.closed = how
            self.protocol.connectionLost(Failure(error))


def connect(listener: Listener, *, reads: bool = True, client: str = "unix") -> FakeTransport:
    """Connect a client to a listener.

    :param client: its address.
    """
    protocol = FingerFactory(listener).buildProtocol(None if client == "unix" else IPv4Address("TCP", client, 1))
    assert isinstance(protocol, FingerProtocol)
    transport = FakeTransport(protocol, reads=reads)
    protocol.makeConnection(transport)
    return transport
