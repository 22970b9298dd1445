"""Routes that can never match, as an earlier one takes what they match."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from attrs import Factory, define, frozen

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.globs import Glob
from fingergw.config.warnings.scope import Scope
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


@define
class _Earlier:
    """What the routes so far match. Each is found by what it could match, as far as that is known.

    :param globs: patterns by the text before their first wildcard.
    :param matchers: of those patterns and regexes that a name has been compared with.
    :param left: the comparisons that are still attempted.
    """

    scopes: Sequence[Scope]
    case_sensitive: bool
    names: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    globs: dict[str, list[tuple[int, Glob]]] = Factory(lambda: defaultdict(list))
    matchers: dict[tuple[Callable[..., Matcher], str], Matcher] = Factory(dict)
    same_globs: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    regexes: list[tuple[int, str]] = Factory(list)
    same_regexes: dict[str, list[int]] = Factory(lambda: defaultdict(list))
    all_names: list[int] = Factory(list)
    lengths: set[int] = Factory(set)
    left: int = _MOST_COMPARISONS

    def add(self, route: int, item: _Item) -> None:
        if item.name is not None:
            self.names[item.name].append(route)
        elif item.glob is not None:
            self.globs[item.glob.prefix].append((route, item.glob))
            self.lengths.add(len(item.glob.prefix))
            self.same_globs[item.glob.text].append(route)
            if item.glob.matches_all:
                self.all_names.append(route)
        elif item.regex is not None:
            self.regexes.append((route, item.regex))
            self.same_regexes[item.regex].append(route)
            if _ALL.fullmatch(item.regex):
                self.all_names.append(route)

    def first(self, route: int, item: _Item) -> int | None:
        """Return the first earlier route that takes all that an item of a route matches; None if none is found."""
        scope = self.scopes[route]
        return min(filter(lambda other: self._includes(other, scope), self._candidates(item)), default=None)

    def _includes(self, other: int, scope: Scope) -> bool:
        earlier = self.scopes[other]
        if earlier.clients is not None and scope.clients is not None and earlier.clients != scope.clients:
            self.left -= len(scope.clients)
            if self.left <= 0:
                return False
        return earlier.includes(scope)

    def _candidates(self, item: _Item) -> Iterator[int]:
        """Return the earlier routes that match all that an item does."""
        if item.name is not None:
            yield from self.names.get(item.name, ())[:_MOST_OF_ONE_NAME]
            if item.name:
                yield from self._matching(item.name)
        elif item.glob is not None:
            yield from self.same_globs.get(item.glob.text, ())[:_MOST_OF_ONE_NAME]
            yield from self._covering(item.glob)
            yield from self.all_names[:_MOST_OF_ONE_NAME]
        elif item.regex is not None:
            yield from self.same_regexes.get(item.regex, ())[:_MOST_OF_ONE_NAME]
            yield from self.all_names[:_MOST_OF_ONE_NAME]

    def _beginning(self, text: str) -> Iterable[tuple[int, Glob]]:
        """Return the patterns whose text before the first wildcard is the beginning of a text."""
        lengths = [length for length in self.lengths if length <= len(text)]
        return chain.from_iterable(self.globs.get(text[:length], ()) for length in lengths)

    def _matching(self, name: str) -> Iterator[int]:
        for make, cost, patterns in (
            (glob, 1, ((other, pattern.text) for other, pattern in self._beginning(name))),
            (regex, _REGEX_COST, self.regexes),
        ):
            for other, pattern in patterns:
                if self.left <= 0:
                    return
                self.left -= cost
                if self._matcher(make, pattern)(name) is not None:
                    yield other

    def _matcher(self, make: Callable[..., Matcher], pattern: str) -> Matcher:
        if (make, pattern) not in self.matchers:
            self.left -= _COMPILING_COST
            self.matchers[make, pattern] = make(pattern, case_sensitive=self.case_sensitive)
        return self.matchers[make, pattern]

    def _covering(self, mine: Glob) -> Iterator[int]:
        for other, theirs in self._beginning(mine.prefix):
            if self.left <= 0:
                return
            self.left -= 1 + len(mine.pieces) // 4
            if theirs.covers(mine):
                yield other


def shadowed(configuration: model.Config, scopes: Sequence[Scope]) -> Iterator[Problem]:
    """Find what can never match in a route, as an earlier route takes it, for the same listeners and clients.

    :param scopes: those of the routes.
    """
    case_sensitive = configuration.answers.case_sensitive
    earlier = _Earlier(scopes, case_sensitive)
    for place, route in enumerate(configuration.routes):
        items = list(_items(place, route, case_sensitive=case_sensitive))
        if scopes[place].listeners:  # else that is the warning
            own: set[str] = set()
            for item in items:
                if item.name is not None and item.name in own:
                    yield Problem(item.where, "this name is in the list already; remove one of the two")
                elif (taker := earlier.first(place, item)) is not None:
                    other = next(_items(taker, taking := configuration.routes[taker], case_sensitive=case_sensitive))
                    yield Problem(item.where, _why(taker, taking, item, other))
                own.add(item.name or "")
        for item in items:
            earlier.add(place, item)


def _items(place: int, route: tables.Route, *, case_sensitive: bool) -> Iterator[_Item]:
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
