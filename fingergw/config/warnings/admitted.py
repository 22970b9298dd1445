"""Routes that no client can reach, or not as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.globs import Glob
from fingergw.config.warnings.scope import Scope, Scopes
from fingergw.core.addresses import Network, Networks
from fingergw.core.settings import KeyPath

_EVERYONE: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_IPV4_ALONE = re.compile(r"(tcp|ssl):(port=)?[0-9]+(:backlog=[0-9]+|:interface=[0-9.]+|:(private|cert)key=[^:\\]+)*")
_DECOYS = "all its listeners are decoys, which answer everything with no_such_user; name another listener"


@frozen(eq=False, repr=False)
class Admission:
    """The clients that a listener lets in.

    :param versions: of IP, that its clients' addresses may have; none for a unix socket's.
    :param allowed: those that it allows, without those that it denies anyway.
    """

    versions: tuple[int, ...]
    allowed: Networks
    denied: Networks

    @classmethod
    def of(cls, listener: tables.Listener) -> Admission:
        """Return those of a listener."""
        denied = Networks(listener.deny)
        allowed = [
            each for each in (_EVERYONE if listener.allow is None else listener.allow) if not denied.covers(each)
        ]
        return cls(_versions(listener.endpoint), Networks(allowed), denied)

    def lets_in(self, network: Network) -> bool:
        """Tell whether a client in a network may ask."""
        return network.version in self.versions and self.allowed.overlaps(network) and not self.denied.covers(network)

    @property
    def is_closed(self) -> bool:
        """Whether clients have addresses, and none of those that they can have is let in."""
        everyone = [network for network in _EVERYONE if network.version in self.versions]
        return bool(everyone) and not any(map(self.allowed.overlaps, everyone))


def _versions(endpoint: str) -> tuple[int, ...]:
    """Return the versions of IP that the addresses of an endpoint's clients may have; in doubt both."""
    if is_unix(endpoint):
        return ()
    return (4,) if _IPV4_ALONE.fullmatch(endpoint.lower()) else (4, 6)


def is_unix(endpoint: str) -> bool:
    """Tell whether an endpoint is a unix socket, whose clients have no addresses."""
    kind, _, arguments = endpoint.lower().partition(":")
    return kind == "unix" or (kind == "systemd" and "domain=unix" in arguments.split(":"))


def unreachable(configuration: model.Config, scopes: Sequence[Scope]) -> Iterator[Problem]:
    """Find routes and hosts that no client of their listeners can reach.

    :param scopes: those of the routes.
    """
    admissions = [Admission.of(listener) for listener in configuration.listeners]
    yield from _closed(configuration, admissions)
    found: dict[tuple[frozenset[int], tuple[Network, ...]], str] = {}

    def why_nobody(listeners: frozenset[int], clients: tuple[Network, ...] | None) -> str:
        if clients is None:
            return ""
        if (key := (listeners, clients)) not in found:
            found[key] = _why_nobody([admissions[each] for each in listeners], clients)
        return found[key]

    for place, route in enumerate(configuration.routes):
        listeners, where = scopes[place].listeners, ("routes", place)
        if not listeners:
            yield Problem((*where, "listeners"), _DECOYS)
        elif why := why_nobody(listeners, route.clients):
            yield Problem((*where, "clients"), why)
        else:
            most = max(configuration.listeners[each].limits.max_query_bytes for each in listeners)
            yield from _too_long(where, route, most)
        yield from _misread(where, route)
    forwarding = configuration.forwarding
    if forwarding.allow:
        listeners = Scopes(configuration.listeners).listeners_of(forwarding.listeners)
        if not listeners:
            yield Problem(("forwarding", "listeners"), _DECOYS)
        elif why := why_nobody(listeners, forwarding.clients):
            yield Problem(("forwarding", "clients"), why)


def _closed(configuration: model.Config, admissions: Sequence[Admission]) -> Iterator[Problem]:
    """Find listeners that let nobody in, or that a rule about addresses does not protect."""
    for place, listener in enumerate(configuration.listeners):
        for key in ("allow", "deny"):
            if is_unix(listener.endpoint) and getattr(listener, key):
                why = "has no effect: clients of a unix socket have no addresses; use the mode= of its endpoint"
                yield Problem(("listeners", place, key), why)
        if admissions[place].is_closed:
            key = "deny" if listener.deny else "allow"
            yield Problem(("listeners", place, key), "nobody may ask here; allow some network, or remove the listener")


def _why_nobody(admissions: Sequence[Admission], clients: tuple[Network, ...]) -> str:
    """Return why none of the clients can ask; empty if one can."""
    if any(admission.lets_in(network) for admission in admissions for network in clients):
        return ""
    if not clients:
        return "an empty list is nobody; name some network, or remove the key for everyone"
    versions = {version for admission in admissions for version in admission.versions}
    if not versions:
        return "clients of a unix socket are in no network, and its listeners have no others; remove the key"
    if versions.isdisjoint(network.version for network in clients):
        return "its listeners take IPv4 alone, and these are IPv6; add a listener with a tcp6: endpoint"
    return "none of its listeners lets these clients in; see their allow and deny"


def _names(where: KeyPath, route: tables.Route) -> Iterator[tuple[KeyPath, str]]:
    if route.user is not None:
        yield (*where, "user"), route.user
    yield from (((*where, "users", number), name) for number, name in enumerate(route.users or ()))


def _too_long(where: KeyPath, route: tables.Route, most: int) -> Iterator[Problem]:
    """Find names that are longer than a query can be."""
    sizes = [(path, len(name.encode())) for path, name in _names(where, route) if len(name) * 4 > most]
    if route.pattern is not None and len(route.pattern) * 4 > most:
        sizes.append(((*where, "pattern"), Glob(route.pattern).least_bytes))
    for path, size in sizes:
        if size > most:
            why = f"never matches: it takes {size} bytes, and max_query_bytes is {most}; raise that, or shorten this"
            yield Problem(path, why)


def _misread(where: KeyPath, route: tables.Route) -> Iterator[Problem]:
    """Find names and patterns that mean something else than they seem to."""
    for path, name in _names(where, route):
        if "*" in name:
            yield Problem(path, f'the * is part of the name here; to match many names, write pattern = "{name}"')
    if route.pattern is None:
        return
    path, pattern = (*where, "pattern"), Glob(route.pattern)
    if pattern.has_open_bracket:
        yield Problem(path, 'the "[" is taken as it is, as no "]" follows; close it, or write [[] for a bracket itself')
    if any(piece.startswith("[^") for piece in pattern.pieces):
        yield Problem(path, '"[^" is no negation here: it matches a ^ too; write "[!", or put the ^ last')
    if "= " in (*pattern.pieces[:1], *pattern.pieces[-1:]):
        yield Problem(path, "never matches: no name begins or ends with a space; remove that")
    if pattern.matches_none:
        yield Problem(path, "never matches: a range in it has its ends in the wrong order; write it like [a-z]")
    if "=\\" in pattern.pieces:
        yield Problem(path, r"a backslash is taken as it is; to match a wildcard itself, write it as in [*]")
    if "={" in pattern.pieces and "=," in pattern.pieces and "=}" in pattern.pieces:
        yield Problem(path, "braces are taken as they are; write a route for each, or a regex such as (a|b)")
