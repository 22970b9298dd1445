"""Routes, and the first that matches a query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from attrs import frozen

from fingergw.core.addresses import Networks
from fingergw.core.pattern_index import Keys, PatternIndex, keys_of
from fingergw.core.patterns import Matcher
from fingergw.core.query import Query

T = TypeVar("T")
Mismatch: TypeAlias = Literal["name", "client"]
"""Why a route does not match: the name, or the client."""
_NO_GROUPS: dict[str, str] = {}
_MAX_CLIENTS: Final = 1024
_MAX_OPEN: Final = 16  # combinations of networks; each may have an index of its own


@frozen
class Route(Generic[T]):
    """A rule: which queries it matches, and where they go.

    :param name: its label in logs and metrics.
    :param target: what a matching query is sent to.
    :param users: exact names, folded as queries have them.
    :param match: matches names against a pattern or regex.
    :param index: whether it matches the empty query.
    :param clients: the networks of the clients that may use it; None for all. What several routes share is looked
        through once.
    """

    name: str
    target: T
    users: tuple[str, ...] = ()
    match: Matcher | None = None
    index: bool = False
    clients: Networks | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The exact names that it matches; an empty name stands for the empty query."""
        return ("",) if self.index else self.users

    def is_for(self, client: str) -> bool:
        """Tell whether a client may use this route."""
        return self.clients is None or client in self.clients

    def mismatch(self, query: Query) -> Mismatch | None:
        """Tell why a query does not match; None if it does. Only ``explain`` needs to know."""
        matches = query.user and self.match is not None and self.match(query.user) is not None
        if not matches and query.user not in self.names:
            return "name"
        return None if self.is_for(query.client) else "client"


@frozen(eq=False)
class _Open(Generic[T]):
    """What is open to a client.

    :param closed: the places of the routes that it may not use.
    :param patterns: the others with a pattern or regex, each with its place.
    """

    closed: frozenset[int]
    patterns: PatternIndex[tuple[int, Callable[[str], dict[str, str] | None], Route[T]]]


class Router(Generic[T]):
    """One listener's routes in file order. Exact names are looked up in a dictionary, and patterns in an index.

    What a client may use is found before the name is looked up, and covers all routes: patterns that are closed to it
    are not in what is looked through. So the time that a refusal takes does not reveal which names exist.

    :param routes: those of this listener alone.
    """

    def __init__(self, routes: Sequence[Route[T]]) -> None:
        self.routes = routes
        self._places = _places_of(routes)
        patterns = [(place, route.match.literals) for place, route in enumerate(routes) if route.match]
        self._first_pattern = patterns[0][0] if patterns else len(routes)
        keys = dict(zip((place for place, _ in patterns), keys_of([literals for _, literals in patterns]), strict=True))
        networks = list(dict.fromkeys(route.clients for route in routes if route.clients is not None))
        if not networks:
            everything = _open(routes, keys, frozenset())
            self._open_to: Callable[[str], _Open[T]] = lambda _: everything
            return
        in_networks = lru_cache(maxsize=_MAX_CLIENTS)(
            lambda client: frozenset(each for each in networks if client in each)
        )
        opened = lru_cache(maxsize=_MAX_OPEN)(lambda found: _open(routes, keys, found))
        opened(frozenset())  # for most clients
        self._open_to = lambda client: opened(in_networks(client))

    def closed(self, client: str) -> frozenset[int]:
        """Return the places of the routes that a client may not use. Clients with the same ones find the same."""
        return self._open_to(client).closed

    def find(self, query: Query) -> tuple[Route[T], dict[str, str]] | None:
        """Return the first route in file order that matches, and its pattern's groups; None if none does."""
        opened = self._open_to(query.client)
        closed, user = opened.closed, query.user
        exact = self._places.get(user, ())
        if exact and exact[0] < self._first_pattern and exact[0] not in closed:
            return self.routes[exact[0]], _NO_GROUPS
        end = len(self.routes)
        for place in exact:
            if place not in closed:
                end = place
                break
        if user:
            for place, match, route in opened.patterns.candidates(user):
                if place >= end:
                    break
                groups = match(user)
                if groups is not None:
                    return route, groups
        return (self.routes[end], _NO_GROUPS) if end < len(self.routes) else None


def _places_of(routes: Sequence[Route[T]]) -> dict[str, tuple[int, ...]]:
    places: dict[str, list[int]] = {}
    for place, route in enumerate(routes):
        for name in dict.fromkeys(route.names):
            places.setdefault(name, []).append(place)
    return {name: tuple(found) for name, found in places.items()}


def _open(routes: Sequence[Route[T]], keys: Mapping[int, Keys], networks: Collection[Networks]) -> _Open[T]:
    """Return what is open to clients.

    :param keys: those of the patterns, by the places of their routes.
    :param networks: those that the clients are in.
    """
    closed = frozenset(
        place for place, route in enumerate(routes) if route.clients is not None and route.clients not in networks
    )
    patterns = (
        ((place, route.match.match, route), keys[place])
        for place, route in enumerate(routes)
        if route.match and place not in closed
    )
    return _Open(closed, PatternIndex(patterns))
