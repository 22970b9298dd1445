"""Routes, and the first that matches a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, Literal, TypeAlias, TypeVar

from attrs import field, frozen

from fingergw.core.addresses import Networks
from fingergw.core.patterns import Matcher
from fingergw.core.query import Query

T = TypeVar("T")
Mismatch: TypeAlias = Literal["name", "client"]
"""Why a route does not match: the name, or the client."""
_NO_GROUPS: dict[str, str] = {}


@frozen
class Route(Generic[T]):
    """A rule: which queries it matches, and where they go.

    :param name: its label in logs and metrics.
    :param target: what a matching query is sent to.
    :param users: exact names, folded as queries have them.
    :param match: matches names against a pattern or regex.
    :param index: whether it matches the empty query.
    :param clients: the networks of the clients that may use it; None for all.
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


@frozen
class Router(Generic[T]):
    """One listener's routes in file order. Exact names are looked up in a dictionary.

    :param routes: those of this listener alone.
    :param closed: returns the places of the routes that a client may not use. Clients that have the same routes closed
        find the same. It is called before the name is looked up, and covers all routes, so that the time that a
        refusal takes does not reveal which names exist.
    """

    routes: Sequence[Route[T]]
    _places: dict[str, tuple[int, ...]] = field(init=False, repr=False)
    _patterns: tuple[tuple[int, Matcher, Route[T]], ...] = field(init=False, repr=False)
    _first_pattern: int = field(init=False, repr=False)
    closed: Callable[[str], frozenset[int]] = field(init=False, repr=False)

    @_places.default
    def _find_places(self) -> dict[str, tuple[int, ...]]:
        places: dict[str, list[int]] = {}
        for place, route in enumerate(self.routes):
            for name in dict.fromkeys(route.names):
                places.setdefault(name, []).append(place)
        return {name: tuple(found) for name, found in places.items()}

    @_patterns.default
    def _find_patterns(self) -> tuple[tuple[int, Matcher, Route[T]], ...]:
        return tuple((place, route.match, route) for place, route in enumerate(self.routes) if route.match)

    @_first_pattern.default
    def _find_first_pattern(self) -> int:
        return self._patterns[0][0] if self._patterns else len(self.routes)

    @closed.default
    def _find_closed(self) -> Callable[[str], frozenset[int]]:
        restricted = [(place, route) for place, route in enumerate(self.routes) if route.clients is not None]
        if not restricted:
            return lambda _: frozenset()
        return lru_cache(maxsize=1024)(
            lambda client: frozenset(place for place, route in restricted if not route.is_for(client))
        )

    def find(self, query: Query) -> tuple[Route[T], dict[str, str]] | None:
        """Return the first route in file order that matches, and its pattern's groups; None if none does."""
        closed = self.closed(query.client)
        exact = self._places.get(query.user, ())
        if exact and exact[0] < self._first_pattern and exact[0] not in closed:
            return self.routes[exact[0]], _NO_GROUPS
        # patterns are tried only as far as the exact route that would win
        patterns = self._patterns if query.user else ()
        start = 0
        for place in (*exact, len(self.routes)):
            while start < len(patterns) and patterns[start][0] < place:
                place_of_pattern, match, route = patterns[start]
                start += 1
                groups = match(query.user) if place_of_pattern not in closed else None
                if groups is not None:
                    return route, groups
            if place < len(self.routes) and place not in closed:
                return self.routes[place], _NO_GROUPS
        return None
