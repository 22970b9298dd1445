"""The whole service, from listeners and routes to what they share."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import CancelledError
from twisted.python.util import gidFromString, uidFromString

from fingergw import listening
from fingergw.access_log import AccessLog
from fingergw.addresses import Networks
from fingergw.admission import Rate
from fingergw.assemble.backends import Backends
from fingergw.assemble.cache import Caching
from fingergw.assemble.machine import Machine
from fingergw.chain import Chain
from fingergw.config import model
from fingergw.config.problems import Problem, to_error
from fingergw.errors import FingergwError
from fingergw.factory import FingerFactory, Limits
from fingergw.forwarding import Forwarding
from fingergw.gateway import Gateway, ListenerService
from fingergw.outcome import Failed, Missing
from fingergw.proxied import ProxiedFactory
from fingergw.query import Query, fold_case, to_wire
from fingergw.resolving import Resolver
from fingergw.routing import Route, Router, glob, regex

_NO_FORWARDING = Forwarding[Chain]({}, frozenset(), 1)
_FALLTHROUGH: dict[str, type[Missing | Failed]] = {"missing": Missing, "failed": Failed}


def make_service(configuration: model.Config, reactor: Any) -> IService:
    """Compile a configuration into a service, for ``twistd`` or any other Twisted application.

    Listeners are bound by ``privilegedStartService``, and clients are served from ``startService`` on.

    :param configuration: as :func:`fingergw.load` returns it.
    :param reactor: the reactor that the application runs.
    :raises ConfigError: a file, program or endpoint that it names is not what it should be; all of them are reported.
    """
    gateway, found = _build(configuration, reactor)
    if found:
        raise to_error(found, configuration.source)
    return gateway


def problems(configuration: model.Config, reactor: Any) -> list[Problem]:
    """Return what is wrong with the files, programs and endpoints that a configuration names; nothing is bound."""
    return _build(configuration, reactor)[1]


def _build(configuration: model.Config, reactor: Any) -> tuple[Gateway, list[Problem]]:
    machine = Machine(configuration.source.base if configuration.source else Path.cwd())
    process = configuration.process
    machine.check("process", "user", text=process.user, lookup=uidFromString)
    machine.check("process", "group", text=process.group, lookup=gidFromString)
    access = configuration.log.access
    if access not in ("-", "off"):
        access = str(machine.base / access)
    access_log = AccessLog(access, configuration.log.format, reactor, time.time)
    gateway = Gateway(process.user, access_log, reactor)
    resolver = Resolver(reactor)
    builder = Backends(configuration, machine, resolver, gateway.is_self)
    cache = Caching(configuration, machine, resolver)
    backends = {
        name: backend and cache.wrap(name, settings, backend)
        for name, settings in configuration.backends.items()
        for backend in (builder.build(name, settings),)
    }
    chains = [
        Chain(
            tuple((name, backend) for name in route.backends if (backend := backends.get(name)) is not None),
            tuple(_FALLTHROUGH[kind] for kind in route.fallthrough),
            (CancelledError,),
        )
        for route in configuration.routes
    ]
    forwarding = _forwarding(configuration, builder, machine)
    case_sensitive = configuration.answers.case_sensitive
    for place, listener in configuration.numbered_listeners():
        description = listening.anchor(listener.endpoint, machine.base)
        try:
            listening.check(description, reactor)
        except FingergwError as error:
            machine.problems.append(Problem(("listeners", place, "endpoint"), str(error)))
        own = [
            (route, _route(route, chain, case_sensitive))
            for route, chain in zip(configuration.routes, chains, strict=True)
            if route.listeners is None or listener.name in route.listeners
        ]
        builder.menus[listener.name] = own
        router = Router([compiled for _, compiled in own])
        listeners = configuration.forwarding.listeners
        own_forwarding = forwarding if listeners is None or listener.name in listeners else _NO_FORWARDING
        factory = _factory(configuration, listener, router, own_forwarding, access_log, reactor)
        service = ListenerService(listener.name, description, factory, reactor, gateway.listener_failed)
        service.setServiceParent(gateway)
    gateway.pools, gateway.caches, gateway.store = builder.pools, cache.backends, cache.store
    return gateway, machine.problems


def _forwarding(configuration: model.Config, builder: Backends, machine: Machine) -> Forwarding[Chain]:
    own_names = {socket.gethostname(), *(listener.name for listener in configuration.listeners)}
    settings = configuration.forwarding
    forwarding = Forwarding(
        targets={
            host: Chain(((host, backend),), cancelled=(CancelledError,))
            for host, backend in builder.forwarding(settings).items()
        },
        own_names=frozenset(own_names),
        max_hops=settings.max_hops,
        clients=None if settings.clients is None else Networks(settings.clients),
    )
    # that a host is this very machine is no mistake in a file for many
    anywhere = attrs.evolve(forwarding, own_names=frozenset(), clients=None)
    for host in forwarding.targets:
        if anywhere.find(Query("", (host,)), "") is None:
            why = "expected another host: this is a loopback, or no plain name or address"
            machine.problems.append(Problem(("forwarding", "allow", host), why))
    return forwarding


def _factory(
    configuration: model.Config,
    listener: model.Listener,
    router: Router[Chain],
    forwarding: Forwarding[Chain],
    access_log: AccessLog,
    reactor: Any,
) -> FingerFactory:
    answers, rate = configuration.answers, listener.limits.rate
    limits = {attribute.name: getattr(listener.limits, attribute.name) for attribute in attrs.fields(model.Limits)}
    limits["rate"] = rate and Rate(rate.queries, rate.per, rate.burst)
    texts = attrs.asdict(answers, filter=lambda attribute, _: attribute.name not in ("charset", "case_sensitive"))
    settings: dict[str, Any] = {
        "listener": listener.name,
        "router": router,
        "limits": Limits(**limits),
        "refusals": {name: to_wire(text, answers.charset) for name, text in texts.items()},
        "charset": answers.charset,
        "case_sensitive": answers.case_sensitive,
        "allow": None if listener.allow is None else Networks(listener.allow),
        "deny": Networks(listener.deny) if listener.deny else None,
        "forwarding": forwarding,
        "decoy_delay": listener.delay if listener.decoy else None,
        "access_log": access_log,
        "clock": reactor,
    }
    if listening.is_proxied(listener.endpoint):
        return ProxiedFactory(**settings, trusted_proxies=Networks(listener.trusted_proxies))
    return FingerFactory(**settings)


def _route(route: model.Route, chain: Chain, case_sensitive: bool) -> Route[Chain]:
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
