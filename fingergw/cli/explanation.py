"""What is explained of a query, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from attrs import asdict, field, frozen

from fingergw.core.outcome import Cached
from fingergw.core.rules import Refusal
from fingergw.core.text import printable

_WIDTH = 12  # of the column that says what a line is about
Line: TypeAlias = int | None
"""A line in the configuration file, from 1; None where there is none."""
Said: TypeAlias = Literal["answered", "missing", "failed", "given_up"]


@frozen
class QueryAsked:
    """A query as it was read.

    :param line: as it was given.
    :param user: in lower case, unless names are case-sensitive.
    :param invalid: why it is no query; empty if it is one, or was not read.
    """

    line: str
    user: str = ""
    hosts: tuple[str, ...] = ()
    verbose: bool = False
    invalid: str = ""


@frozen
class ListenerAsked:
    """The listener.

    :param trusted_proxies: those that may say who the client is; None where the listener sees the client itself.
    """

    name: str
    line: Line
    endpoint: str
    decoy: bool
    trusted_proxies: tuple[str, ...] | None


@frozen
class Client:
    """Who asks, and whether and why they may."""

    address: str
    let_in: bool
    why: str


@frozen
class Tried:
    """A route that was looked at.

    :param why: why it matches, or does not.
    :param groups: the values of its regex's named groups.
    """

    name: str
    line: Line
    matches: bool
    why: str
    groups: Mapping[str, str] = field(factory=dict)


@frozen
class Forwarded:
    """Whether and why a query with a host is forwarded.

    :param host: the last one of the query.
    :param endpoint: where it goes; empty if nowhere.
    """

    host: str
    allowed: bool
    why: str
    endpoint: str = ""


@frozen
class Link:
    """A backend of a chain.

    :param cached: whether it has a cache.
    """

    name: str
    line: Line
    type: str
    cached: bool


@frozen
class Step:
    """What a backend said.

    :param outcome: ``given_up`` if the time for the whole chain was over.
    :param why: why it failed.
    :param cache: what its cache had; empty if it has none.
    """

    backend: str
    outcome: Said
    why: str
    milliseconds: float
    cache: Cached


@frozen
class Explanation:
    """All that is decided about a query. What was not reached is empty, or None.

    :param route: as in the access log: a route's name, or ``forwarding``.
    :param fallthrough: the outcomes after which the next backend of the chain is asked.
    :param steps: what each backend of the chain said; None if the chain was not asked.
    :param outcome: as in the access log; None if only asking the chain would tell.
    :param answer: what the client gets, in lines that end by LF; None if it gets nothing, or only asking would tell.
    :param notes: what else there is to know.
    """

    query: QueryAsked
    listener: ListenerAsked
    client: Client
    routes: tuple[Tried, ...] = ()
    forwarding: Forwarded | None = None
    route: str = ""
    chain: tuple[Link, ...] | None = None
    fallthrough: tuple[str, ...] = ()
    steps: tuple[Step, ...] | None = None
    outcome: Literal["answered", "denied"] | Refusal | None = None
    answer: str | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return asdict(self)

    def as_text(self) -> str:
        """Return all of it as lines for a terminal."""
        lines: list[str] = []
        about = ""
        for new, text in self._rows():
            for line in text.split("\n") if new == "answer" else [text]:
                shown = printable(line, kept="\t")
                lines.append(f"{new if new != about else '':<{_WIDTH}}{shown}".rstrip())
                about = new
        return "\n".join(lines) + "\n"

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Yield what each line is about, and its text."""
        yield "query", _query(self.query, was_read=self.client.let_in and not self.listener.decoy)
        yield "listener", _at(self.listener.line) + f"{_quoted(self.listener.name)}: {self.listener.endpoint}"
        if self.listener.trusted_proxies is not None:
            proxies = ", ".join(self.listener.trusted_proxies)
            yield "listener", f"the client is the one in the PROXY header, if that comes from {proxies}"
        client = self.client
        yield "client", f"{client.address} is {'allowed' if client.let_in else 'not allowed'}: {client.why}"
        if client.let_in and self.listener.decoy:
            yield "listener", "it is a decoy: it answers every query with no_such_user"
        for each in self.routes:
            yield "routes", _at(each.line) + f"{_quoted(each.name)} {'matches' if each.matches else 'no'}: {each.why}"
            for group, value in each.groups.items():
                yield "routes", f"{'':<10}{group} = {_quoted(value)}"
        if self.forwarding is not None:
            where = f"goes to {self.forwarding.endpoint}" if self.forwarding.allowed else "is not forwarded"
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
            yield "outcome", self.outcome + (": closed without an answer" if self.outcome == "denied" else "")
        if self.answer is not None:
            yield "answer", self.answer.removesuffix("\n")
        for note in self.notes:
            yield "note", note


def _query(query: QueryAsked, *, was_read: bool) -> str:
    if not was_read:
        return _quoted(query.line)
    if query.invalid:
        return f"{_quoted(query.line)} is not a query: {query.invalid}"
    told = f"for {_quoted(query.user)}" if query.user else "for no user"
    if query.hosts:
        told += " at " + " at ".join(map(_quoted, query.hosts))
    return told + (", verbose (/W)" if query.verbose else "")


def _at(line: Line) -> str:
    return "" if line is None else f"{f'line {line}':<10}"


def _quoted(text: str) -> str:
    return f'"{printable(text)}"'


def text_of(wire: bytes) -> str:
    """Return an answer's bytes as lines that end by LF."""
    return wire.decode().replace("\r\n", "\n")
