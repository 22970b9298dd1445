"""The keys under which answers are cached: queries that a backend cannot tell apart have the same."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from fingergw.core.query import Query


@frozen
class Inputs:
    """The parts of a query that a backend's answer may depend on.

    :param placeholders: the names of the placeholders that it uses, perhaps ``user``; None for the name and all groups.
    :param verbose: whether it is told about ``/W``.
    :param client: whether it is told the client's address.
    :param listener: whether it is told the listener.
    """

    placeholders: frozenset[str] | None = None
    verbose: bool = False
    client: bool = False
    listener: bool = False

    def of(self, query: Query) -> Query:
        """Return the query with everything else blank, so that nothing else can change a cached answer."""
        names, groups = self.placeholders, query.groups
        if groups:  # a copy: a backend may change it, and the next one gets the original
            groups = {name: value for name, value in groups.items() if names is None or name in names}
        return Query(
            query.user if names is None or "user" in names else "",
            query.hosts,
            query.verbose and self.verbose,
            query.listener if self.listener else "",
            query.client if self.client else "",
            groups,
        )


def keys(prefix: str, inputs: Inputs, version: Callable[[], str] | None = None) -> Callable[[Query], str]:
    """Return a function that gives a query's key. All parts of a name are printable, so line ends can separate them.

    :param prefix: the start of all the keys; no other backend has the same.
    :param version: returns what the keys have at their end: the backend's current version. None if it has none.
    """
    names = None if inputs.placeholders is None else sorted(inputs.placeholders)

    def key(query: Query) -> str:
        if names is None:
            parts = [query.user, *(f"{name}={query.groups[name]}" for name in sorted(query.groups))]
        else:
            values = query.placeholders
            parts = [values.get(name, "\r") for name in names]  # a route without the group differs from an empty group
        if inputs.verbose:
            parts.append("1" if query.verbose else "0")
        if inputs.client:
            parts.append(query.client)
        if inputs.listener:
            parts.append(query.listener)
        return prefix + "\n".join(parts)

    if version is not None:
        return lambda query: f"{key(query)}\r{version()}"
    if inputs == Inputs():  # most backends: nothing but the name counts, as a rule
        return lambda query: key(query) if query.groups else prefix + query.user
    return key
