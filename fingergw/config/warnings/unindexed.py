"""Patterns and regexes that are tried for every name, where there are so many that each query takes long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.scope import Scope
from fingergw.core.patterns import glob, regex

MANY: Final = 1000


def tried_for_all(configuration: model.Config, scopes: Sequence[Scope]) -> Iterator[Problem]:
    """Find listeners with many patterns and regexes by whose text no name can be looked up.

    :param scopes: those of the routes.
    """
    routes = [
        (route, scope)
        for route, scope in zip(configuration.routes, scopes, strict=True)
        if route.pattern is not None or route.regex is not None
    ]
    if len(routes) < MANY:
        return
    case_sensitive = configuration.answers.case_sensitive
    counts = Counter(scope.listeners for route, scope in routes if not _has_literals(route, case_sensitive))
    for place in range(len(configuration.listeners)):
        count = sum(number for listeners, number in counts.items() if place in listeners)
        if count >= MANY:
            why = (
                f"{count} of its patterns and regexes have no literal text, so all of these are tried for every name; "
                "give each a text that is in all names that it matches, such as a prefix, or make one regex of several"
            )
            yield Problem(("listeners", place), why)


def _has_literals(route: tables.Route, case_sensitive: bool) -> bool:
    make, text = (regex, route.regex or "") if route.pattern is None else (glob, route.pattern)
    return bool(make(text, case_sensitive=case_sensitive).literals)
