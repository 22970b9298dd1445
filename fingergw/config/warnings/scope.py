"""Which listeners and clients a route is for."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from fingergw.config import model, tables
from fingergw.core.addresses import Network, Networks

_NOT_USED = Networks(())


@frozen(eq=False, repr=False)
class Scope:
    """Where a route can match.

    :param listeners: the positions of the listeners whose queries it gets; a decoy asks no route.
    :param clients: the networks of its clients; None for all.
    :param networks: the same, to look others up in; for all it is not used.
    """

    listeners: frozenset[int]
    clients: frozenset[Network] | None
    networks: Networks = _NOT_USED

    def includes(self, other: Scope) -> bool:
        """Tell whether whoever another route is for is among those that this one is for; in doubt they are not."""
        if self.listeners is not other.listeners and not self.listeners >= other.listeners:
            return False
        if self.clients is None or self.clients == other.clients:
            return True
        return other.clients is not None and all(map(self.networks.covers, other.clients))


class Scopes:
    """The scopes of routes. Those that say the same share what is made of it."""

    def __init__(self, listeners: Iterable[tables.Listener]) -> None:
        self._answering = {listener.name: place for place, listener in enumerate(listeners) if not listener.decoy}
        self._all = frozenset(self._answering.values())
        self._listeners: dict[tuple[str, ...], frozenset[int]] = {}
        self._clients: dict[tuple[Network, ...], tuple[frozenset[Network], Networks]] = {}

    def listeners_of(self, names: tuple[str, ...] | None) -> frozenset[int]:
        """Return the positions of the listeners that ask routes, of those with these names; None for all."""
        if names is None:
            return self._all
        if names not in self._listeners:
            found = frozenset(self._answering[name] for name in names if name in self._answering)
            self._listeners[names] = self._all if found == self._all else found
        return self._listeners[names]

    def scope_of(self, route: tables.Route) -> Scope:
        """Return the scope of a route."""
        listeners = self.listeners_of(route.listeners)
        if route.clients is None:
            return Scope(listeners, None)
        if route.clients not in self._clients:
            self._clients[route.clients] = frozenset(route.clients), Networks(route.clients)
        return Scope(listeners, *self._clients[route.clients])


def scopes_of(configuration: model.Config) -> list[Scope]:
    """Return the scope of each route."""
    scopes = Scopes(configuration.listeners)
    return [scopes.scope_of(route) for route in configuration.routes]
