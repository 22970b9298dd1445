"""Backends that are never asked, or not for long enough, and what is kept for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.scope import Scope, Scopes
from fingergw.core.settings import KeyPath


def never_asked(configuration: model.Config) -> Iterator[Problem]:
    """Find backends that no query can reach."""
    backends, used = configuration.backends, set[str]()
    has_menu = any(
        route.is_listed and route.listeners is None and route.clients is None for route in configuration.routes
    )
    for place, route in enumerate(configuration.routes):
        used.update(route.backends)
        seen, end = set[str](), ""
        for number, name in enumerate(route.backends):
            where = ("routes", place, "backends", number)
            if end:
                yield Problem(where, f"is never asked, as {end}, or remove it")
            elif name in seen:
                yield Problem(where, "is in this chain already; remove one of the two")
            elif name in backends:
                end = _why_last(name, backends[name], route, has_menu=has_menu)
            seen.add(name)
    for name in backends:
        if name not in used:
            yield Problem(("backends", name), "no route uses it; name it in the backends of a route, or remove it")


def _why_last(name: str, backend: model.Backend, route: tables.Route, *, has_menu: bool) -> str:
    """Return why no backend after this one is asked, and what to do; empty if one may be.

    :param has_menu: whether there is a keyword that every client can ask for.
    """
    if not route.fallthrough:
        return "fallthrough is empty; say there when to ask it"
    if backend.type == "static" and backend.settings.text is not None:
        return f'"{name}" before it answers every name; put it before that'
    if backend.type == "menu" and has_menu:
        return f'"{name}" before it always has an answer; put it before that'
    if backend.type in ("static", "menu") and "missing" not in route.fallthrough:
        return f'"{name}" before it never fails, and fallthrough has "failed" alone; add "missing" to that'
    return ""


def too_slow(configuration: model.Config, scopes: Sequence[Scope]) -> Iterator[Problem]:
    """Find what may take longer than the answer that waits for it.

    :param scopes: those of the routes.
    """
    allowed: list[float] = [listener.limits.answer_timeout for listener in configuration.listeners]
    longest: dict[str, float] = {}
    for route, scope in zip(configuration.routes, scopes, strict=True):
        most = max((allowed[each] for each in scope.listeners), default=0)
        for name in route.backends:
            longest[name] = max(longest.get(name, 0), most)
    for name, backend in configuration.backends.items():
        if backend.timeout is not None and (most := longest.get(name, 0)):
            counts = ", and its breaker does not count that it hangs" if backend.breaker else ""
            yield from _slow(("backends", name, "timeout"), backend.timeout, most, f"the chain ends before{counts}")
    for place, listener in enumerate(configuration.listeners):
        yield from _slow(("listeners", place, "delay"), listener.delay, allowed[place], "the decoy never answers")
    forwarding = configuration.forwarding
    if forwarding.allow:
        listeners = Scopes(configuration.listeners).listeners_of(forwarding.listeners)
        most = max((allowed[each] for each in listeners), default=0)
        if most:
            yield from _slow(("forwarding", "timeout"), forwarding.timeout, most, "the client is answered before")


def _slow(where: KeyPath, seconds: float, most: float, effect: str) -> Iterator[Problem]:
    if seconds > most:
        why = f"{seconds:.15g} is above answer_timeout, which is {most:.15g}: {effect}; lower it, or raise that"
        yield Problem(where, why)


def kept_for_nothing(configuration: model.Config) -> Iterator[Problem]:
    """Find a store without answers to keep, and times of a cache that have no effect."""
    backends = configuration.backends
    if configuration.cache.store != "memory" and not any(backend.cache for backend in backends.values()):
        why = 'no backend has a cache, so nothing is kept there; write "cache = {}" in the table of one, or remove this'
        yield Problem(("cache", "store"), why)
    for name, backend in backends.items():
        kept = backend.cache
        if kept is None or kept.stale_if_error is None:
            continue
        revalidating = kept.stale if kept.stale_while_revalidate is None else kept.stale_while_revalidate
        if kept.stale_if_error < revalidating:
            why = (
                f"has no effect below stale_while_revalidate, which is {revalidating:.15g}: for so long the old answer "
                "is served anyway, also if the backend fails; lower that, too"
            )
            yield Problem(("backends", name, "cache", "stale_if_error"), why)
