"""Why a query is answered as it is: what the gateway decides of it, one step after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import evolve

from fingergw.cli.explanation import Asked, At, Client, Explanation, Forwarded, Link, Tried
from fingergw.config import model, tables
from fingergw.config.lines import line_numbers
from fingergw.core import query as grammar
from fingergw.core.addresses import Network, parse_address
from fingergw.core.errors import BadQuery
from fingergw.core.forwarding import Denied, normal_host
from fingergw.core.query import Query
from fingergw.core.routing import Mismatch
from fingergw.core.rules import Refusal, Rules
from fingergw.core.text import printable
from fingergw.finger.protocol import FORWARDING

_MAX_SHOWN = 5  # items of a list


class Explaining:
    """Decide of queries as the gateway does, and tell why. Nobody is asked.

    :param configuration: what the rules were made of.
    :param rules: a listener's.
    """

    def __init__(self, configuration: model.Config, rules: Rules) -> None:
        self._configuration, self._rules = configuration, rules
        self._lines = line_numbers(configuration.source.text) if configuration.source else {}
        listeners = configuration.numbered_listeners()
        self._place, self._listener = next(each for each in listeners if each[1].name == rules.listener)

    def explain(self, line: bytes, client: str) -> Explanation:
        """Explain what comes of a query.

        :param line: what the client sends, without its end.
        :param client: its address as text, ``"unix"`` for one on a unix socket.
        """
        rules, asked = self._rules, Asked(line.decode(errors="backslashreplace"))
        explained = Explanation(asked, self._at(), self._admission(client))
        if not explained.client.let_in:
            return evolve(explained, outcome="denied")
        if rules.decoy_delay is not None:
            return self._refused(explained, "no_such_user")
        try:
            taken = grammar.take_line(line + b"\r\n", rules.limits.max_query_bytes) or b""
            query = grammar.parse(taken, rules.case_sensitive, rules.listener, client)
        except BadQuery as error:
            return self._refused(evolve(explained, query=evolve(asked, invalid=str(error))), "bad_query")
        explained = evolve(explained, query=Asked(asked.line, query.user, query.hosts, query.verbose))
        return self._forwarded(explained, query) if query.hosts else self._routed(explained, query)

    def _at(self) -> At:
        is_proxied = self._rules.trusted_proxies is not None
        return At(
            name=self._rules.listener,
            line=self._line("listeners", self._place),
            endpoint=self._listener.endpoint,
            decoy=self._rules.decoy_delay is not None,
            trusted_proxies=tuple(map(str, self._listener.trusted_proxies)) if is_proxied else None,
        )

    def _line(self, *path: str | int) -> int | None:
        return self._lines.get(path)

    def _admission(self, client: str) -> Client:
        rules, settings = self._rules, self._listener
        if client == "unix" and rules.trusted_proxies is None:
            return Client(client, let_in=True, why="it is on this machine, and in no network")
        if rules.deny is not None and client in rules.deny:
            why = f"in {_network_of(client, settings.deny)} of deny"
        elif settings.allow is None:
            why = "everyone may ask"
        else:
            network = _network_of(client, settings.allow)
            why = "in no network of allow" if network is None else f"in {network} of allow"
        return Client(client, rules.lets_in(client), why)

    def _refused(self, explained: Explanation, refusal: Refusal) -> Explanation:
        return evolve(explained, outcome=refusal, answer=text_of(self._rules.refusals[refusal]))

    def _routed(self, explained: Explanation, query: Query) -> Explanation:
        """Look for the route; which one it is, the router says."""
        found, tried = self._rules.router.find(query), list[Tried]()
        own = iter(self._rules.router.routes)
        for place, settings in self._configuration.numbered_routes():
            line = self._line("routes", place)
            if settings.listeners is not None and self._rules.listener not in settings.listeners:
                why = f"not asked here, only at {_some(settings.listeners)}"
                tried.append(Tried(settings.name, line, matches=False, why=why))
                continue
            route = next(own)
            if found is None or route is not found[0]:
                why = _mismatch(settings, query, route.mismatch(query))
                tried.append(Tried(settings.name, line, matches=False, why=why))
                continue
            groups = found[1]
            tried.append(Tried(settings.name, line, matches=True, why=_match(settings), groups=groups))
            return evolve(
                explained,
                routes=tuple(tried),
                route=route.name,
                chain=tuple(self._link(name) for name in settings.backends),
                fallthrough=settings.fallthrough,
                asking=(route.target, query._replace(groups=groups) if groups else query),
            )
        return self._refused(evolve(explained, routes=tuple(tried)), when_missing(query))

    def _link(self, name: str) -> Link:
        settings = self._configuration.backends[name]
        return Link(name, self._line("backends", name), settings.type, cached=settings.cache is not None)

    def _forwarded(self, explained: Explanation, query: Query) -> Explanation:
        """Look where a query with a host goes; whether it does, the forwarding says."""
        settings, host = self._configuration.forwarding, normal_host(query.hosts[-1])
        own_address = _own_address(self._listener.endpoint)
        chain = self._rules.forwarding.find(query, own_address)
        if chain is None:
            if not settings.allow:
                why = "[forwarding] allow has no host"
            elif settings.listeners is not None and self._rules.listener not in settings.listeners:
                why = f"not from here, only from {_some(settings.listeners)}"
            else:
                denied = self._rules.forwarding.denied(query, own_address)
                why = _denied(settings, query, denied) if denied is not None else ""
            explained = evolve(explained, forwarding=Forwarded(host, allowed=False, why=why))
            return self._refused(explained, "forward_denied")
        key, endpoint = next(each for each in settings.allow.items() if normal_host(each[0]) == host)
        notes: tuple[str, ...] = ()
        if not own_address and any(parse_address(each.strip("[]")) for each in query.hosts):
            notes = ("it is not passed on where one of the hosts is the very address that the client has asked",)
        return evolve(
            explained,
            forwarding=Forwarded(host, allowed=True, why="[forwarding] allow has the host", endpoint=endpoint),
            route=FORWARDING,
            chain=(Link(host, self._line("forwarding", "allow", key), "finger", cached=False),),
            notes=notes,
            asking=(chain, query),
        )


def when_missing(query: Query) -> Refusal:
    """Return what a client is told where nobody knows what it asks for."""
    return "no_such_user" if query.user or query.hosts else "list_denied"


def text_of(wire: bytes) -> str:
    """Return an answer's bytes as lines that end by LF."""
    return wire.decode().replace("\r\n", "\n")


def _network_of(client: str, networks: Iterable[Network]) -> Network | None:
    address = parse_address(client)
    return next((network for network in networks if address is not None and address in network), None)


def _own_address(endpoint: str) -> str:
    """Return the address that an endpoint is bound to; empty for any that the machine has, and for none."""
    named = re.search(r":interface=((?:\\.|[^:\\])*)", endpoint)
    address = parse_address(re.sub(r"\\(.)", r"\1", named[1])) if named else None
    return "" if address is None or address.is_unspecified else str(address)


def _some(items: Iterable[object]) -> str:
    shown = [f'"{printable(each)}"' if isinstance(each, str) else str(each) for each in items]
    more = len(shown) - _MAX_SHOWN
    return ", ".join(shown[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _match(route: tables.Route) -> str:
    if route.index:
        return "the query is empty"
    if route.user is not None:
        return f'user is "{route.user}"'
    if route.users is not None:
        return "user is one of users"
    return f'user matches the pattern "{route.pattern}"' if route.pattern else f'user matches the regex "{route.regex}"'


def _mismatch(route: tables.Route, query: Query, mismatch: Mismatch | None) -> str:
    if mismatch == "client":
        return f"{_match(route)}, but not for {query.client}, only for clients in {_some(route.clients or ())}"
    if route.index:
        return "only for the empty query"
    if not query.user:
        return "not for the empty query"
    if route.user is not None:
        return f'user is not "{route.user}"'
    if route.users is not None:
        return f"user is none of {_some(route.users)}"
    kind, text = ("pattern", route.pattern) if route.pattern is not None else ("regex", route.regex)
    return f'user does not match the {kind} "{text}"'


def _denied(settings: tables.Forwarding, query: Query, denied: Denied) -> str:
    if denied.why == "client":
        return f"not for {query.client}, only for clients in {_some(settings.clients or ())}"
    if denied.why == "hops":
        return f"{len(query.hosts)} hosts are more than max_hops, {settings.max_hops}"
    host = printable(denied.host)
    if denied.why == "target":
        return f'"{host}" is not in [forwarding] allow'
    if denied.why == "own":
        return f'"{host}" is this gateway itself'
    return f'"{host}" is a loopback' if denied.why == "loopback" else f'"{host}" is no plain name or address of a host'
