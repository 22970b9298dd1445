"""What a query line alone decides: refuse it, or ask a chain.

What depends on counts, such as too many queries that wait, is decided in :mod:`fingergw.finger.protocol`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from fingergw.core.chain import Chain
from fingergw.core.errors import BadQuery
from fingergw.core.outcome import Failed, Missing
from fingergw.core.query import Query, parse
from fingergw.core.rules import Refusal, Rules

FORWARDING: Final = "forwarding"
"""What logs and metrics have as the route of a query that is forwarded."""


class Refused(NamedTuple):
    """The query is refused, and nobody is asked.

    :param refusal: what the client is told.
    :param at: when it is told, on the clock that ``decide`` was given.
    :param why: what is wrong with the line; empty if it is a query.
    :param query: the query, without local names; None if the line was not read, or is none.
    :param is_reusable: whether the same line comes to the same at any time, for every client in the same of the
        routes' networks (``Router.networks_of``).
    """

    refusal: Refusal
    at: float
    why: str = ""
    query: Query | None = None
    is_reusable: bool = False


class Asked(NamedTuple):
    """A chain is asked.

    :param query: the query, without local names.
    :param route: the route's name, or ``"forwarding"``.
    :param missing: what the client is told if no backend knows the name.
    :param is_reusable: as for :class:`Refused`. What the chain answers may still change.
    """

    query: Query
    route: str
    chain: Chain
    missing: Refusal
    is_reusable: bool = False

    def refusal(self, outcome: Missing | Failed) -> Refusal:
        """Return what the client is told when the chain has no answer."""
        return "internal_error" if isinstance(outcome, Failed) else self.missing


Decision: TypeAlias = Refused | Asked


def decide(rules: Rules, line: bytes, client: str, local_address: str, now: float) -> Decision:
    """Decide what to do about a query line. Nothing is counted.

    A decision is for this query alone, unless it says that it is reusable.

    :param rules: the listener's.
    :param line: as :func:`fingergw.core.query.take_line` returns it.
    :param client: the client's address in its usual text form, ``"unix"`` for a unix socket. It has been let in
        already (``Rules.lets_in``).
    :param local_address: the address that the client connected to, as text. It matters only for queries with hosts;
        may be empty.
    :param now: the time in seconds, on any clock.
    """
    if rules.decoy_delay is not None:
        return Refused("no_such_user", now + rules.decoy_delay)
    try:
        query = read(rules, line, client)
        if query.hosts and rules.forwarding.local_names:
            query = _without_local_names(rules, query)
    except BadQuery as error:
        return Refused("bad_query", now, str(error))
    if query.hosts:
        chain = rules.forwarding.find(query, local_address)
        if chain is None:
            return Refused("forward_denied", now, query=query)
        return Asked(query, FORWARDING, chain, "no_such_user")
    missing: Refusal = "no_such_user" if query.user else "list_denied"
    found = rules.router.find(query)
    if found is None:
        return Refused(missing, now, query=query, is_reusable=True)
    route, groups = found
    asked = query._replace(groups=groups) if groups else query
    return Asked(asked, route.name, route.target, missing, is_reusable=True)


def read(rules: Rules, line: bytes, client: str) -> Query:
    """Return the query in a line, with all its hosts.

    :raises BadQuery: it is none.
    """
    if len(line) > rules.limits.max_query_bytes:
        raise BadQuery(f"longer than {rules.limits.max_query_bytes} bytes")
    return parse(line, rules.case_sensitive, rules.listener, client)


def _without_local_names(rules: Rules, query: Query) -> Query:
    """Return a query as if it had been sent without its last hosts, as far as they are local names.

    :raises BadQuery: what is left is none.
    """
    shorter = rules.forwarding.without_local_names(query)
    if shorter is query or "/" not in query.user:
        return shorter
    # The host hid what a word of its own means: of ``/W@host`` only ``/W`` is left.
    left = "@".join((shorter.user, *shorter.hosts)).encode()
    again = parse(left, rules.case_sensitive, query.listener, query.client)
    return again._replace(verbose=query.verbose or again.verbose)
