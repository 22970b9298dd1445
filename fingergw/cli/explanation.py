"""What is explained of a query, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from attrs import asdict, field, frozen

from fingergw.core.chain import Chain
from fingergw.core.outcome import Cached
from fingergw.core.query import Query
from fingergw.core.text import printable

Came: TypeAlias = Literal[
    "answered", "denied", "no_such_user", "internal_error", "list_denied", "forward_denied", "busy", "bad_query"
]
"""What came of a query, as the access log has it."""
_WIDTH = 12  # of what a line is about


@frozen
class Asked:
    """A query as it was read.

    :param line: as it was given.
    :param user: as names are compared.
    :param invalid: why it is no query; empty if it is one, or was not looked at.
    """

    line: str
    user: str = ""
    hosts: tuple[str, ...] = ()
    verbose: bool = False
    invalid: str = ""


@frozen
class At:
    """The listener.

    :param line: in the configuration file, from 1; None where there is none.
    :param trusted_proxies: whom it believes who the client is; None where it sees that itself.
    """

    name: str
    line: int | None
    endpoint: str
    decoy: bool
    trusted_proxies: tuple[str, ...] | None


@frozen
class Client:
    """Who asks, and whether and why he may."""

    address: str
    let_in: bool
    why: str


@frozen
class Tried:
    """A route that was looked at.

    :param line: likewise the listener's.
    :param why: why it matches, or does not.
    :param groups: the named ones of its regex.
    """

    name: str
    line: int | None
    matches: bool
    why: str
    groups: Mapping[str, str] = field(factory=dict)


@frozen
class Forwarded:
    """Whether and why a query with a host is passed on.

    :param host: that it is for, the last one.
    :param endpoint: where it goes; empty if nowhere.
    """

    host: str
    allowed: bool
    why: str
    endpoint: str = ""


@frozen
class Link:
    """A backend of a chain.

    :param line: likewise the listener's.
    :param cached: whether its answers are kept.
    """

    name: str
    line: int | None
    type: str
    cached: bool


@frozen
class Step:
    """What came of asking a backend.

    :param outcome: ``given_up`` where the time for the whole chain was over.
    :param why: why it has failed.
    :param cache: what its cache had; empty where it has none.
    """

    backend: str
    outcome: Literal["answered", "missing", "failed", "given_up"]
    why: str
    milliseconds: float
    cache: Cached


@frozen
class Explanation:
    """All that is decided of a query; what was not come to is empty, or None.

    :param route: what the access log has: a route's name, or ``forwarding``.
    :param fallthrough: the kinds of outcome after which the next backend of the chain is asked.
    :param steps: what came of asking the chain; None if it was not asked.
    :param outcome: None if only asking the chain would tell.
    :param answer: what the client gets, in lines that end by LF; None if it gets nothing, or only asking would tell.
    :param notes: what else there is to know.
    :param asking: the chain, and what it is to be asked; None if nobody is.
    """

    query: Asked
    listener: At
    client: Client
    routes: tuple[Tried, ...] = ()
    forwarding: Forwarded | None = None
    route: str = ""
    chain: tuple[Link, ...] | None = None
    fallthrough: tuple[str, ...] = ()
    steps: tuple[Step, ...] | None = None
    outcome: Came | None = None
    answer: str | None = None
    notes: tuple[str, ...] = ()
    asking: tuple[Chain, Query] | None = field(default=None, eq=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as what JSON can say."""
        return asdict(self, filter=lambda attribute, _: attribute.name != "asking")

    def as_text(self) -> str:
        """Return all of it in lines for a terminal."""
        lines: list[str] = []
        about = ""
        for new, text in self._rows():
            for line in text.split("\n") if new == "answer" else [text]:
                shown = printable(line, kept="\t")
                lines.append(f"{new if new != about else '':<{_WIDTH}}{shown}".rstrip())
                about = new
        return "\n".join(lines) + "\n"

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Return what there is to tell, and what each is about."""
        yield "query", _query(self.query, was_read=self.client.let_in and not self.listener.decoy)
        yield "listener", _at(self.listener.line) + f"{_quoted(self.listener.name)}: {self.listener.endpoint}"
        if self.listener.trusted_proxies is not None:
            proxies = ", ".join(self.listener.trusted_proxies)
            yield "listener", f"the client is who the PROXY header says, if it comes from {proxies}"
        client = self.client
        yield "client", f"{client.address} is {'let in' if client.let_in else 'not let in'}: {client.why}"
        if client.let_in and self.listener.decoy:
            yield "listener", "it is a decoy: nobody is ever found there"
        for each in self.routes:
            yield "routes", _at(each.line) + f"{_quoted(each.name)} {'matches' if each.matches else 'no'}: {each.why}"
            for group, value in each.groups.items():
                yield "routes", f"{'':<10}{group} = {_quoted(value)}"
        if self.forwarding is not None:
            where = f"goes to {self.forwarding.endpoint}" if self.forwarding.allowed else "is not passed on"
            yield "forwarding", f"{where}: {self.forwarding.why}"
        for link in self.chain or ():
            yield "chain", _at(link.line) + f"{_quoted(link.name)} ({link.type}{', cached' if link.cached else ''})"
        if self.chain is not None and len(self.chain) > 1:
            yield "chain", f"the next one is asked after: {', '.join(self.fallthrough) or 'no other outcome'}"
        for step in self.steps or ():
            why = f": {step.why}" if step.why else ""
            cache = f", cache: {step.cache}" if step.cache else ""
            yield "asked", f"{_quoted(step.backend)} {step.outcome} in {step.milliseconds:.1f} ms{cache}{why}"
        if self.outcome is not None:
            yield "outcome", self.outcome + (": closed on without a word" if self.outcome == "denied" else "")
        if self.answer is not None:
            yield "answer", self.answer.removesuffix("\n")
        for note in self.notes:
            yield "note", note


def _query(query: Asked, *, was_read: bool) -> str:
    if not was_read:
        return _quoted(query.line)
    if query.invalid:
        return f"{_quoted(query.line)} is none: {query.invalid}"
    told = f"for {_quoted(query.user)}" if query.user else "for no user"
    if query.hosts:
        told += " at " + " at ".join(map(_quoted, query.hosts))
    return told + (", verbose (/W)" if query.verbose else "")


def _at(line: int | None) -> str:
    return "" if line is None else f"{f'line {line}':<10}"


def _quoted(text: str) -> str:
    return f'"{printable(text)}"'
