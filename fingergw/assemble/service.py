"""The whole service, from listeners and routes to what they share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import CancelledError
from twisted.python.util import gidFromString, uidFromString

from fingergw import listening
from fingergw.access_log import AccessLog
from fingergw.assemble.backends import Backends
from fingergw.assemble.cache import Caching
from fingergw.assemble.machine import Machine
from fingergw.chain import Chain
from fingergw.config import model
from fingergw.config.problems import Problem, to_error
from fingergw.errors import FingergwError
from fingergw.gateway import Gateway, ListenerService
from fingergw.outcome import Failed, Missing
from fingergw.protocol import FingerFactory, Limits
from fingergw.query import to_wire
from fingergw.routing import Route, Router, glob, regex

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
    builder = Backends(configuration, machine, reactor)
    cache = Caching(configuration, machine, reactor)
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
        factory = _factory(configuration, listener, router, access_log, reactor)
        service = ListenerService(listener.name, description, factory, reactor, gateway.listener_failed)
        service.setServiceParent(gateway)
    gateway.pools, gateway.caches, gateway.store = builder.pools, cache.backends, cache.store
    return gateway, machine.problems


def _factory(
    configuration: model.Config, listener: model.Listener, router: Router[Chain], access_log: AccessLog, reactor: Any
) -> FingerFactory:
    answers, limits = configuration.answers, listener.limits
    texts = attrs.asdict(answers, filter=lambda attribute, _: attribute.name not in ("charset", "case_sensitive"))
    return FingerFactory(
        listener=listener.name,
        router=router,
        limits=Limits(
            max_query_bytes=limits.max_query_bytes,
            query_timeout=limits.query_timeout,
            answer_timeout=limits.answer_timeout,
            max_answer_bytes=limits.max_answer_bytes,
            max_connections=limits.max_connections,
        ),
        refusals={name: to_wire(text, answers.charset) for name, text in texts.items()},
        charset=answers.charset,
        case_sensitive=answers.case_sensitive,
        allow=listener.allow,
        deny=listener.deny,
        access_log=access_log,
        clock=reactor,
    )


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
        users=users if case_sensitive else tuple(user.lower() for user in users),
        match=match,
        index=route.index,
        clients=route.clients,
    )
