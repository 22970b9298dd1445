"""Listeners from their tables: where they listen, and by which rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError

from fingergw.app.parts.machine import Machine
from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.errors import ListenError
from fingergw.core.forwarding import Forwarding
from fingergw.core.outcome import Backend, Failed, Missing
from fingergw.core.patterns import glob, regex
from fingergw.core.query import fold_case
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Rules
from fingergw.core.settings import keys_of
from fingergw.core.text import to_wire
from fingergw.finger.connections import Connections
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import Listener
from fingergw.listen import endpoints
from fingergw.listen.binding import Plan
from fingergw.listen.certificates import Wrap
from fingergw.telemetry.access_log import AccessLog

_NO_FORWARDING = Forwarding[Chain]({}, frozenset(), 1)
_FALLTHROUGH: dict[str, type[Missing | Failed]] = {"missing": Missing, "failed": Failed}


class Socket(NamedTuple):
    """Where a listener listens.

    :param description: its endpoint string.
    :param place: see :class:`~fingergw.listen.binding.Plan`.
    :param secured: puts TLS before what makes its connections.
    """

    listener: tables.Listener
    description: str
    place: tuple[str, int]
    secured: Wrap


def sockets_of(configuration: model.Config, machine: Machine, reactor: Any) -> list[Socket]:
    """Return where listeners listen; what is wrong is noted."""
    sockets, places = list[Socket](), Counter[str]()
    for number, listener in configuration.numbered_listeners():
        description = endpoints.anchor(listener.endpoint, machine.base)
        try:
            bound, secured = look_at(description, machine, reactor, "listeners", number, "endpoint")
        except ListenError as error:
            machine.problems.append(Problem(("listeners", number, "endpoint"), str(error)))
            continue
        if places[bound] and bound.startswith("systemd:"):  # any other would find its address in use
            why = "another listener has this socket; one of them is enough"
            machine.problems.append(Problem(("listeners", number, "endpoint"), why))
        sockets.append(Socket(listener, description, (bound, places[bound]), secured))
        places[bound] += 1
    return sockets


def look_at(description: str, machine: Machine, reactor: Any, *where: str | int) -> tuple[str, Wrap]:
    """Return where an endpoint string says to listen, and what puts TLS before what listens there.

    :raises ListenError: it describes no endpoint; the message says why.
    """
    endpoints.check(description, reactor)
    secured = endpoints.secured(description, reactor)
    machine.files += [(path, where) for path in endpoints.files(description)]
    return endpoints.socket_of(endpoints.in_later_root(description)), secured


def plans_of(
    sockets: Iterable[Socket],
    configuration: model.Config,
    backends: Mapping[str, Backend],
    forwarding: Forwarding[Chain],
    access_log: AccessLog,
    connections_at: Callable[[tuple[str, int]], Connections],
) -> Iterator[Plan[Listener]]:
    """Return what is to be active at each socket.

    :param backends: those that chains ask, by name; without one a chain is shorter.
    :param forwarding: whom queries are passed on to, where they are.
    :param connections_at: tells the connections that there are at a place already.
    """
    chains = [_chain(route, backends) for route in configuration.routes]
    case_sensitive, forwards = configuration.answers.case_sensitive, configuration.forwarding.listeners
    for listener, description, place, secured in sockets:
        router = Router(
            [
                _route(route, chain, case_sensitive)
                for route, chain in zip(configuration.routes, chains, strict=True)
                if route.listeners is None or listener.name in route.listeners
            ]
        )
        own_forwarding = forwarding if forwards is None or listener.name in forwards else _NO_FORWARDING
        rules = _rules(configuration, listener, router, own_forwarding)
        served = Listener(rules, connections_at(place), access_log)
        yield Plan(f'listener "{listener.name}"', description, place, secured(FingerFactory(served)), served)


def _chain(route: tables.Route, backends: Mapping[str, Backend]) -> Chain:
    return Chain(
        tuple((name, backends[name]) for name in route.backends if name in backends),
        tuple(_FALLTHROUGH[kind] for kind in route.fallthrough),
        (CancelledError,),
    )


def _rules(
    configuration: model.Config, listener: tables.Listener, router: Router[Chain], forwarding: Forwarding[Chain]
) -> Rules:
    answers = configuration.answers
    names = [key.name for key in keys_of(tables.Answers) if key.name not in ("charset", "case_sensitive")]
    refusals: dict[Any, bytes] = {name: to_wire(getattr(answers, name), answers.charset) for name in names}
    return Rules(
        listener=listener.name,
        router=router,
        limits=listener.limits,
        refusals=refusals,
        charset=answers.charset,
        case_sensitive=answers.case_sensitive,
        allow=None if listener.allow is None else Networks(listener.allow),
        deny=Networks(listener.deny) if listener.deny else None,
        forwarding=forwarding,
        decoy_delay=listener.delay if listener.decoy else None,
        trusted_proxies=Networks(listener.trusted_proxies) if endpoints.is_proxied(listener.endpoint) else None,
    )


def _route(route: tables.Route, chain: Chain, case_sensitive: bool) -> Route[Chain]:
    match = None
    if route.pattern is not None:
        match = glob(route.pattern, case_sensitive=case_sensitive)
    elif route.regex is not None:
        match = regex(route.regex, case_sensitive=case_sensitive)
    users = route.users or ((route.user,) if route.user is not None else ())
    return Route(
        name=route.name,
        target=chain,
        users=users if case_sensitive else tuple(map(fold_case, users)),
        match=match,
        index=route.index,
        clients=None if route.clients is None else Networks(route.clients),
    )
