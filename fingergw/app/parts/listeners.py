"""Listeners from their tables: their sockets, and the rules that they answer by."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

from attrs import evolve
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
from fingergw.core.query import Query, fold_function
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Refusal, Rules
from fingergw.core.text import to_wire
from fingergw.listen import endpoints
from fingergw.listen.binding import Socket
from fingergw.listen.endpoint_strings import anchor, in_later_root, is_proxied, split
from fingergw.net.site import Keywords

_FALLTHROUGH: dict[str, type[Missing | Failed]] = {"missing": Missing, "failed": Failed}


def check_socket(name: str, endpoint: str, machine: Machine, reactor: Any, *where: str | int) -> Socket | None:
    """Return the socket that an endpoint string describes, not bound; None, with a problem, if it describes none.

    :param name: what messages call it.
    :param where: the key that has the string.
    """
    try:
        description = anchor(endpoint, machine.base)
        server = endpoints.server(in_later_root(description))
        warning = server.check(reactor)
    except ListenError as error:
        machine.problems.append(Problem(where, str(error)))
        return None
    if warning is not None:
        machine.warnings.append(Problem(where, warning))
    try:
        wrap = server.secured(reactor)
    except ListenError as error:
        if server.tls is None or not machine.hides(server.tls.files(), os.R_OK, *where):
            machine.problems.append(Problem(where, str(error)))
        return None
    if server.tls is not None:
        machine.files += [(path, where) for path in server.tls.files()]
    return Socket(name, description, (server.socket, 0), wrap)


def check_sockets(configuration: model.Config, machine: Machine, reactor: Any) -> list[tuple[tables.Listener, Socket]]:
    """Return each listener with its socket; what is wrong is added to the problems."""
    sockets, places, passed = list[tuple[tables.Listener, Socket]](), Counter[str](), set[str]()
    for number, listener in configuration.numbered_listeners():
        where, name = ("listeners", number, "endpoint"), f'listener "{listener.name}"'
        socket = check_socket(name, listener.endpoint, machine, reactor, *where)
        if socket is None:
            continue
        bound, _ = socket.place
        if (which := passed_as(socket)) in passed:  # any other would find its address in use
            why = "another listener uses this socket already; remove one of the two"
            machine.problems.append(Problem(where, why))
        elif which:
            passed.add(which)
        sockets.append((listener, socket._replace(place=(bound, places[bound]))))
        places[bound] += 1
    return sockets


def passed_as(socket: Socket) -> str:
    """Return the name or index by which systemd passes a socket, whatever its domain; empty for any other socket."""
    kind, *arguments = split(socket.place[0])
    return next((each for each in arguments if kind == "systemd" and not each.startswith("domain=")), "")


def routes_of(configuration: model.Config, backends: Mapping[str, Backend]) -> list[tuple[tables.Route, Route[Chain]]]:
    """Return each route's table with the route itself.

    :param backends: what chains ask, by name; a backend that is not there is left out of its chains.
    """
    case_sensitive = configuration.answers.case_sensitive
    # a router looks a client up once in those that routes share
    networks = {each.clients: Networks(each.clients) for each in configuration.routes if each.clients is not None}
    routes = []
    for table in configuration.routes:
        clients = None if table.clients is None else networks[table.clients]
        routes.append((table, _route(table, _chain(table, backends), clients, case_sensitive)))
    return routes


def _chain(route: tables.Route, backends: Mapping[str, Backend]) -> Chain:
    return Chain(
        tuple((name, backends[name]) for name in route.backends if name in backends),
        tuple(_FALLTHROUGH[kind] for kind in route.fallthrough),
        (CancelledError,),
    )


def rules_of(
    listener: tables.Listener,
    configuration: model.Config,
    routes: Iterable[tuple[tables.Route, Route[Chain]]],
    forwarding: Forwarding[Chain],
) -> Rules:
    """Return the rules of a listener.

    :param routes: those of all listeners.
    :param forwarding: the hosts that queries are forwarded to, if this listener forwards.
    """
    answers, forwards = configuration.answers, configuration.forwarding.listeners
    own = [route for table, route in routes if table.listeners is None or listener.name in table.listeners]
    return Rules(
        listener=listener.name,
        router=Router(own),
        limits=listener.limits,
        refusals={name: to_wire(getattr(answers, name), answers.charset) for name in get_args(Refusal)},
        charset=answers.charset,
        case_sensitive=answers.case_sensitive,
        allow=None if listener.allow is None else Networks(listener.allow),
        deny=Networks(listener.deny) if listener.deny else None,
        forwarding=forwarding if forwards is None or listener.name in forwards else evolve(forwarding, targets={}),
        decoy_delay=listener.delay if listener.decoy else None,
        trusted_proxies=Networks(listener.trusted_proxies) if is_proxied(listener.endpoint) else None,
    )


def _route(route: tables.Route, chain: Chain, clients: Networks | None, case_sensitive: bool) -> Route[Chain]:
    match = None
    if route.pattern is not None:
        match = glob(route.pattern, case_sensitive=case_sensitive)
    elif route.regex is not None:
        match = regex(route.regex, case_sensitive=case_sensitive)
    users = route.users or ((route.user,) if route.user is not None else ())
    return Route(
        name=route.name,
        target=chain,
        users=tuple(map(fold_function(case_sensitive=case_sensitive), users)),
        match=match,
        index=route.index,
        clients=clients,
    )


def keywords_of(routes: Collection[tables.Route]) -> Keywords:
    """Return what lists the keywords, with their summaries, that a query's client can ask for at its listener."""
    listed = [
        (route, None if route.clients is None else Networks(route.clients)) for route in routes if route.is_listed
    ]

    def keywords(query: Query) -> Iterator[tuple[str, str]]:
        for route, clients in listed:
            if route.listeners is not None and query.listener not in route.listeners:
                continue
            if clients is None or query.client in clients:
                yield route.keyword, route.summary

    return keywords
