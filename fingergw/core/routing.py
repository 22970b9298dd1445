"""Routes, and the first that matches a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_MAX_INDEXES: Final = 4  # that a name is looked up in
_MAX_JOINED: Final = 16  # as each has many patterns


@frozen(eq=False, repr=False)
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


_Pattern: TypeAlias = tuple[int, Callable[[str], dict[str, str] | None], Route[T]]
"""What is tried of a route with a pattern or regex, after the route's place."""
_Patterns: TypeAlias = list[tuple[_Pattern[T], Keys]]


@frozen(eq=False, repr=False)
class _Open(Generic[T]):
    """What is open to a client.

    :param networks: those of the routes' networks that it is in.
    :param indexes: of the patterns that are open to it; each is in one of these.
    """

    networks: frozenset[Networks]
    indexes: tuple[PatternIndex[_Pattern[T]], ...]

    def is_open(self, route: Route[T]) -> bool:
        return route.clients is None or route.clients in self.networks

    def candidates(self, name: str) -> Sequence[_Pattern[T]]:
        """Return the patterns that a name may match, in file order."""
        if len(self.indexes) == 1:
            return self.indexes[0].candidates(name)
        return sorted((each for index in self.indexes for each in index.candidates(name)), key=_place)


class Router(Generic[T]):
    """One listener's routes in file order. Exact names are looked up in a dictionary, and patterns in an index.

    What a client may use is found before the name is looked up, and covers all routes: patterns that are closed to it
    are not in what is looked through. So the time that a refusal takes does not reveal which names exist.

    The patterns of the routes that have the same networks are in an index of their own. The name is looked up in those
    of the networks that the client is in; if these are many, in an index of all their patterns.

    ``networks_of(client)`` returns which of the routes' networks a client is in. Clients with the same ones find the
    same routes.

    :param routes: those of this listener alone.
    """

    def __init__(self, routes: Sequence[Route[T]]) -> None:
        self.routes = routes
        self._places = _places_of(routes)
        patterns = _patterns_of(routes)
        self._first_pattern = min((found[0][0][0] for found in patterns.values()), default=len(routes))
        for_all = PatternIndex(patterns.get(None, ()))
        restricted = list(dict.fromkeys(route.clients for route in routes if route.clients is not None))
        if not restricted:
            everything = _Open(frozenset(), (for_all,))
            self.networks_of: Callable[[str], frozenset[Networks]] = lambda _: everything.networks
            self._open_to: Callable[[str], _Open[T]] = lambda _: everything
            return
        index_of = {networks: PatternIndex(found) for networks, found in patterns.items() if networks is not None}

        def joined(networks: frozenset[Networks]) -> PatternIndex[_Pattern[T]]:
            found = [each for part in (None, *networks) for each in patterns.get(part, ())]
            return PatternIndex(sorted(found, key=lambda each: _place(each[0])))

        kept_joined = lru_cache(maxsize=_MAX_JOINED)(joined)
        self.networks_of = networks_of = lru_cache(maxsize=_MAX_CLIENTS)(
            lambda client: frozenset(each for each in restricted if client in each)
        )

        def open_to(client: str) -> _Open[T]:
            networks = networks_of(client)
            with_patterns = networks.intersection(index_of)
            if len(with_patterns) >= _MAX_INDEXES:
                return _Open(networks, (kept_joined(with_patterns),))
            return _Open(networks, (for_all, *(index_of[each] for each in with_patterns)))

        self._open_to = open_to  # what is joined is large, so not kept for each client

    def find(self, query: Query) -> tuple[Route[T], dict[str, str]] | None:
        """Return the first route in file order that matches, and its pattern's groups; None if none does."""
        opened = self._open_to(query.client)
        user = query.user
        exact = self._places.get(user, ())
        if exact and exact[0] < self._first_pattern and opened.is_open(self.routes[exact[0]]):
            return self.routes[exact[0]], _NO_GROUPS
        end = len(self.routes)
        for place in exact:
            if opened.is_open(self.routes[place]):
                end = place
                break
        if user:
            for place, match, route in opened.candidates(user):
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


def _patterns_of(routes: Sequence[Route[T]]) -> dict[Networks | None, _Patterns[T]]:
    """Return the patterns of the routes that have the same networks, each with its keys, in file order."""
    matched = [(place, route, route.match) for place, route in enumerate(routes) if route.match]
    patterns: dict[Networks | None, _Patterns[T]] = {}
    all_keys = keys_of([matcher.literals for _, _, matcher in matched])
    for (place, route, matcher), keys in zip(matched, all_keys, strict=True):
        patterns.setdefault(route.clients, []).append(((place, matcher.match, route), keys))
    return patterns


def _place(pattern: _Pattern[T]) -> int:
    return pattern[0]
