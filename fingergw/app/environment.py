"""What does not depend on any configuration of a gateway.

What a reload keeps because its settings are the same is handed over by :class:`fingergw.app.parts.parts.Parts`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ITransport

from fingergw.finger.connections import Connections
from fingergw.finger.service import ListenerService
from fingergw.listen.reachability import leads_to
from fingergw.net.resolving import Resolver
from fingergw.net.workers.pool import WorkerPool


class Environment:
    """What configurations are built for, one after the other.

    :param reactor: the reactor that the application runs.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.workers = WorkerPool(reactor)
        """Processes that convert what may take long."""
        self.resolver = Resolver(reactor)
        self.listeners: dict[tuple[str, int], ListenerService] = {}
        """The active listeners in file order, by the place that each is bound to. The gateway replaces the dict."""

    def connections_at(self, place: tuple[str, int]) -> Connections:
        """Return the connections of the listener at a place; new ones if there is no listener yet."""
        listener = self.listeners.get(place)
        return Connections(self.reactor) if listener is None else listener.connections

    def is_self(self, transport: ITransport) -> bool:
        """Tell whether a connection has one of the gateway's own listeners at its other end."""
        peer, own = transport.getPeer(), transport.getHost()
        ports = [listener.port for listener in self.listeners.values() if listener.port is not None]
        return peer == own or any(leads_to(peer, own, port.getHost()) for port in ports)
