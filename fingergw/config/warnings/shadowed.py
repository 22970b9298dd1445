"""Routes that can never match, as an earlier one takes what they match."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import Factory, define, frozen

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.globs import Glob
from fingergw.config.warnings.scope import Scope
from fingergw.core.literals import Literals, literals_of_glob
from fingergw.core.pattern_index import PatternIndex, keys_of
from fingergw.core.patterns import Matcher, composed, glob, regex
from fingergw.core.query import fold_function
from fingergw.core.settings import KeyPath

# What a file of any size may cost: a comparison takes up to a microsecond, a match of RE2 ten. What is not attempted is
# not warned of.
_MOST_COMPARISONS: Final = 300_000
_REGEX_COST: Final = 10
_COMPILING_COST: Final = 50
_MOST_OF_ONE_NAME: Final = 8  # earlier routes for the same name
_ALL: Final = re.compile(r"\^?(?:\.[*+]|\((?:\?P?<\w+>|\?:)?\.[*+]\))\$?")


@frozen
class _Item:
    """One thing that a route matches.

    :param where: the path of its key.
    :param name: the name; an empty one stands for the empty query. None for a pattern.
    :param glob: the pattern; None for a name or a regex.
    :param regex: the regex, in NFC.
    """

    where: KeyPath
    name: str | None = None
    glob: Glob | None = None
    regex: str | None = None


@define(eq=False, repr=False)
class _Earlier:
    """What the routes so far match. Each is found by what it could match, as far as that is known.

    :param index: all patterns and regexes, those that are still to come too.
    :param matchers: of those that a name has been compared with.
    :param left: the comparisons that are still attempted.
    """

    scopes: Sequence[Scope]
    case_sensitive: bool
    index: PatternIndex[tuple[int, _Item]]
    names: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    matchers: dict[tuple[Callable[..., Matcher], str], Matcher] = Factory(dict)
    same_globs: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    same_regexes: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    all_names: list[int] = Factory(list)
    left: int = _MOST_COMPARISONS

    def add(self, route: int, item: _Item) -> None:
        if item.name is not None:
            self.names[item.name].append(route)
        elif item.glob is not None:
            self.same_globs[item.glob.text].append(route)
            if item.glob.matches_all:
                self.all_names.append(route)
        elif item.regex is not None:
            self.same_regexes[item.regex].append(route)
            if _ALL.fullmatch(item.regex):
                self.all_names.append(route)

    def first(self, route: int, item: _Item) -> int | None:
        """Return the first earlier route that takes all that an item of a route matches; None if none is found."""
        scope = self.scopes[route]
        return min(filter(lambda other: self._includes(other, scope), self._candidates(route, item)), default=None)

    def _includes(self, other: int, scope: Scope) -> bool:
        earlier = self.scopes[other]
        if earlier.clients is not None and scope.clients is not None and earlier.clients != scope.clients:
            self.left -= len(scope.clients)
            if self.left <= 0:
                return False
        return earlier.includes(scope)

    def _candidates(self, route: int, item: _Item) -> Iterator[int]:
        """Return the earlier routes that match all that an item of a route does."""
        if item.name is not None:
            yield from self.names.get(item.name, ())[:_MOST_OF_ONE_NAME]
            if item.name:
                yield from self._matching(route, item.name)
        elif item.glob is not None:
            yield from self.same_globs.get(item.glob.text, ())[:_MOST_OF_ONE_NAME]
            yield from self._covering(route, item.glob)
            yield from self.all_names[:_MOST_OF_ONE_NAME]
        elif item.regex is not None:
            yield from self.same_regexes.get(item.regex, ())[:_MOST_OF_ONE_NAME]
            yield from self.all_names[:_MOST_OF_ONE_NAME]

    def _like(self, route: int, name: str) -> Iterator[tuple[int, _Item]]:
        """Return the earlier patterns and regexes that may match a name."""
        for other, item in self.index.candidates(name):
            if other >= route or self.left <= 0:
                return
            yield other, item

    def _matching(self, route: int, name: str) -> Iterator[int]:
        for other, item in self._like(route, name):
            if item.glob is not None:
                self.left -= 1
                matcher = self._matcher(glob, item.glob.text)
            else:
                self.left -= _REGEX_COST
                matcher = self._matcher(regex, item.regex or "")
            if matcher(name) is not None:
                yield other

    def _matcher(self, make: Callable[..., Matcher], pattern: str) -> Matcher:
        if (make, pattern) not in self.matchers:
            self.left -= _COMPILING_COST
            self.matchers[make, pattern] = make(pattern, case_sensitive=self.case_sensitive)
        return self.matchers[make, pattern]

    def _covering(self, route: int, mine: Glob) -> Iterator[int]:
        example = mine.example  # what matches all that this one does, matches that
        for other, item in () if example is None else self._like(route, example):
            if item.glob is not None:
                self.left -= 1 + len(mine.pieces) // 4
                if item.glob.covers(mine):
                    yield other


def shadowed(configuration: model.Config, scopes: Sequence[Scope]) -> Iterator[Problem]:
    """Find what can never match in a route, as an earlier route takes it, for the same listeners and clients.

    :param scopes: those of the routes.
    """
    case_sensitive = configuration.answers.case_sensitive
    items_of = [[*_items(place, route, case_sensitive)] for place, route in enumerate(configuration.routes)]
    earlier = _Earlier(scopes, case_sensitive, _index(items_of))
    for place, items in enumerate(items_of):
        if scopes[place].listeners:  # else that is the warning
            own: set[str] = set()
            for item in items:
                if item.name is not None and item.name in own:
                    yield Problem(item.where, "this name is in the list already; remove one of the two")
                elif (taker := earlier.first(place, item)) is not None:
                    yield Problem(item.where, _why(taker, configuration.routes[taker], item, items_of[taker][0]))
                own.add(item.name or "")
        for item in items:
            earlier.add(place, item)


def _index(items_of: Sequence[Sequence[_Item]]) -> PatternIndex[tuple[int, _Item]]:
    """Return an index over the patterns and regexes among the items of routes."""
    patterns = [(place, item) for place, items in enumerate(items_of) for item in items if item.name is None]
    literals = [_literals(item) for _, item in patterns]
    return PatternIndex(zip(patterns, keys_of(literals), strict=True))


def _literals(item: _Item) -> Literals:
    if item.glob is not None:
        return literals_of_glob(item.glob.text)
    from fingergw.core.regex_literals import literals_of_regex  # most configurations have no regex

    return literals_of_regex(item.regex or "")


def _items(place: int, route: tables.Route, case_sensitive: bool) -> Iterator[_Item]:
    folded = fold_function(case_sensitive=case_sensitive)
    where: KeyPath = ("routes", place)
    if route.index:
        yield _Item((*where, "index"), "")
    elif route.user is not None:
        yield _Item((*where, "user"), folded(route.user))
    elif route.users is not None:
        for number, name in enumerate(route.users):
            yield _Item((*where, "users", number), folded(name))
    elif route.pattern is not None:
        pattern = Glob(folded(route.pattern))
        if pattern.is_plain:
            yield _Item((*where, "pattern"), "".join(piece[1:] for piece in pattern.pieces))
        else:
            yield _Item((*where, "pattern"), glob=pattern)
    elif route.regex is not None:
        yield _Item((*where, "regex"), regex=composed(route.regex))


def _why(taker: int, route: tables.Route, item: _Item, other: _Item) -> str:
    """Return the message about an item.

    :param taker: the position of the route that takes it.
    :param other: the item of that route that does, or any.
    """
    what = "the empty query" if item.name == "" else "this name" if item.name else "all that this matches"
    if other.name is not None or (item.glob, item.regex) == (other.glob, other.regex):
        why = f"never matches: routes[{taker}] takes {what} first, for the same listeners and clients"
        return f"{why}; remove one of the two"
    why = f'never matches: routes[{taker}] with "{route.pattern or route.regex}" takes {what} first'
    return f"{why}; put this route before that one, or remove it"
