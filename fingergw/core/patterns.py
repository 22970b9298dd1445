"""What matches names: shell-style patterns, and regexes in linear time."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import re2

from fingergw.core.query import fold_case

Matcher: TypeAlias = Callable[[str], dict[str, str] | None]
_MAX_REGEX_BYTES = 2 << 20  # what is more takes a second to compile


def glob(pattern: str, *, case_sensitive: bool = False) -> Matcher:
    """Return what matches a whole name against a shell-style pattern: ``*``, ``?``, ``[a-z]``, ``[!a-z]``."""
    # fnmatch's translation has atomic groups (Python 3.11), so it cannot backtrack into exponential time
    match = re.compile(fnmatch.translate(pattern if case_sensitive else fold_case(pattern))).match
    return lambda name: {} if match(name) else None


def regex(pattern: str, *, case_sensitive: bool = False) -> Matcher:
    """Return what matches a whole name against an RE2 pattern, with its named groups.

    :raises ValueError: it is not RE2 syntax; the message says where.
    """
    compiled = _compile(pattern, case_sensitive)

    def match(name: str) -> dict[str, str] | None:
        found = compiled.fullmatch(name)
        return None if found is None else {key: value or "" for key, value in found.groupdict().items()}

    return match


def group_names(pattern: str) -> frozenset[str]:
    """Return the names of an RE2 pattern's groups.

    :raises ValueError: it is not RE2 syntax.
    """
    return frozenset(_compile(pattern, False).groupindex)


@lru_cache(maxsize=1024)  # each is asked for several times: to be checked, for its groups, for each listener
def _compile(pattern: str, case_sensitive: bool) -> re2._Regexp[str]:
    options = re2.Options()
    options.max_mem = _MAX_REGEX_BYTES
    options.case_sensitive = case_sensitive
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
