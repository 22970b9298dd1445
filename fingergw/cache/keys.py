"""Which queries have the same answer: the keys by which answers are kept."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from fingergw.core.query import Query


@frozen
class Inputs:
    """What in a query can change a backend's answer.

    :param placeholders: the names of those it uses, ``user`` among them; None for the name and all groups.
    :param verbose: whether it is told of /W.
    :param client: whether it is told who asks.
    :param listener: whether it is told where.
    """

    placeholders: frozenset[str] | None = None
    verbose: bool = False
    client: bool = False
    listener: bool = False

    def of(self, query: Query) -> Query:
        """Return a query with nothing in it but these, as nothing else may change an answer that is kept."""
        names, groups = self.placeholders, query.groups
        if groups:  # a copy: what a backend does to it is not for the next one
            groups = {name: value for name, value in groups.items() if names is None or name in names}
        return Query(
            query.user if names is None or "user" in names else "",
            query.hosts,
            query.verbose and self.verbose,
            query.listener if self.listener else "",
            query.client if self.client else "",
            groups,
        )


def keys(prefix: str, inputs: Inputs) -> Callable[[Query], str]:
    """Return what makes a query's key. What can be in a name is printable, so line ends keep the parts apart.

    :param prefix: what the keys begin with.
    """
    names = None if inputs.placeholders is None else sorted(inputs.placeholders)

    def key(query: Query) -> str:
        if names is None:
            parts = [query.user, *(f"{name}={query.groups[name]}" for name in sorted(query.groups))]
        else:
            values = query.placeholders
            parts = [values.get(name, "\r") for name in names]  # a route without such a group differs from an empty one
        if inputs.verbose:
            parts.append("1" if query.verbose else "0")
        if inputs.client:
            parts.append(query.client)
        if inputs.listener:
            parts.append(query.listener)
        return prefix + "\n".join(parts)

    if inputs == Inputs():
        return lambda query: key(query) if query.groups else prefix + query.user
    return key
