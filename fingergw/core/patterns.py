"""Matchers of names: shell-style patterns, and regexes in linear time."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from attrs import frozen

from fingergw.core.errors import ExpectedError
from fingergw.core.literals import MAX_READ, Literals, literals_of_glob
from fingergw.core.query import compose, fold_function

_MAX_REGEX_BYTES = 2 << 20  # a larger one takes a second to compile
_ESCAPED_OR_NOT = re.compile(r"\\.?|[^\\]+", re.DOTALL)
_MAX_PLACE = 60  # shown of the text around a mistake, so that the reason after it is seen
_REASONS = {
    "no argument for repetition operator": "there is nothing to repeat",
    "bad repetition operator": "a repetition cannot be repeated",
    "invalid repetition size": "it repeats more than 1000 times",
    "invalid escape sequence": "RE2 has no such escape and no back-references",
    "invalid perl operator": "RE2 has no look-ahead or look-behind, nor other groups of this form",
    "invalid named capture group": "the name of a group has letters, digits and _ only",
    "duplicate capture group name": "another group has this name",
    "invalid character class range": "there is no such range or class of characters",
    "trailing \\": r"it ends with a backslash; write \\ for a backslash itself",
    "pattern too large - compile failed": "it is too large; shorten it, or repeat less in it",
}
"""What to say instead of RE2's own reasons, where these do not help."""


@frozen(eq=False, repr=False)
class Matcher:
    """What whole names are compared with. Names are in the form that queries have.

    :param match: returns the named groups of a name that matches; None for any other name.
    :param literals: texts that are in every name that matches.
    """

    match: Callable[[str], dict[str, str] | None]
    literals: Literals = ()

    def __call__(self, name: str) -> dict[str, str] | None:
        """Return the named groups of a name that matches; None for any other name."""
        return self.match(name)


def glob(pattern: str, *, case_sensitive: bool = False) -> Matcher:
    """Return a matcher for a shell-style pattern: ``*``, ``?``, ``[a-z]``, ``[!a-z]``."""
    folded = fold_function(case_sensitive=case_sensitive)(pattern)
    compiled: re.Pattern[str] | None = None

    def match(name: str) -> dict[str, str] | None:
        nonlocal compiled
        if compiled is None:  # at the first name: no pattern is wrong, and of very many few may ever be tried
            # fnmatch translates to atomic groups, so that matching cannot take exponential time
            compiled = re.compile(fnmatch.translate(folded))
        return {} if compiled.match(name) else None

    return Matcher(match, literals_of_glob(folded))


def regex(pattern: str, *, case_sensitive: bool = False) -> Matcher:
    """Return a matcher for an RE2 pattern, which returns its named groups.

    :raises ExpectedError: it is not RE2 syntax; the message says where.
    """
    from fingergw.core.regex_literals import literals_of_regex  # most configurations have no regex

    groups = _groups(pattern, case_sensitive)
    compiled: Any = None

    def match(name: str) -> dict[str, str] | None:
        nonlocal compiled
        if compiled is None:  # again, at the first name: of very many few may ever be tried
            compiled = _compile(pattern, case_sensitive)
        found = compiled.fullmatch(name.encode())  # RE2 counts bytes; to count characters, its wrapper takes its time
        if found is None:
            return None
        return {group: (found[number] or b"").decode() for group, number in groups} if groups else {}

    return Matcher(match, literals_of_regex(composed(pattern)))


def group_names(pattern: str) -> frozenset[str]:
    """Return the names of an RE2 pattern's groups.

    :raises ExpectedError: it is not RE2 syntax; the message says where.
    """
    return frozenset(group for group, _ in _groups(pattern, False))


def composed(pattern: str) -> str:
    """Return a pattern in NFC, as names are; what a backslash escapes stays by itself."""
    return "".join(each if each[0] == "\\" else compose(each) for each in _ESCAPED_OR_NOT.findall(pattern))


@lru_cache(maxsize=MAX_READ)
def _groups(pattern: str, case_sensitive: bool) -> tuple[tuple[str, int], ...]:
    """Return the names and numbers of a regex's groups, for which it is compiled."""
    return tuple(_compile(pattern, case_sensitive).groupindex.items())


def _compile(pattern: str, case_sensitive: bool) -> Any:
    import re2  # it is large, and most configurations have no regex

    options = re2.Options()
    options.max_mem = _MAX_REGEX_BYTES
    options.case_sensitive = case_sensitive
    options.log_errors = False
    try:
        return re2.compile(composed(pattern), options)
    except re2.error as error:
        told = error.args[0]
        reason, _, place = (told.decode(errors="replace") if isinstance(told, bytes) else str(told)).partition(": ")
        shown = place if len(place) <= _MAX_PLACE else f"{place[:_MAX_PLACE]}..."
        where = f' at "{shown}"' if place else ""
        raise ExpectedError(f"not RE2 syntax{where}: {_REASONS.get(reason, reason)}") from None
