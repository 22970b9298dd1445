"""The whole service, from listeners and routes to what they share."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.util import gidFromString, uidFromString

from fingergw.app.backends import Backends, Examined
from fingergw.app.becoming import unfit, warnings_of
from fingergw.app.build_cache import Caching
from fingergw.app.forwarding import forwarding_of
from fingergw.app.gateway import Gateway
from fingergw.app.machine import Machine
from fingergw.app.parts import Made, Parts, closing_of
from fingergw.app.preloading import preload
from fingergw.app.systemd import ServiceManager
from fingergw.config import model, tables
from fingergw.config.problems import Problem, located, to_error
from fingergw.core.addresses import Networks
from fingergw.core.admission import Rate
from fingergw.core.chain import Chain
from fingergw.core.errors import ListenError
from fingergw.core.forwarding import Forwarding
from fingergw.core.outcome import Failed, Missing
from fingergw.core.query import fold_case, to_wire
from fingergw.core.routing import Route, Router, glob, regex
from fingergw.core.rules import Limits, Rules
from fingergw.core.settings import keys_of
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import Listener
from fingergw.listen import listening
from fingergw.listen.binding import Plan
from fingergw.listen.certificates import Wrap
from fingergw.net import root
from fingergw.net.resolving import Resolver
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.log_file import own_descriptor
from fingergw.telemetry.meters import BackendMeter

_NOTHING_ELSE = tables.Process()
_NO_FORWARDING = Forwarding[Chain]({}, frozenset(), 1)
_FALLTHROUGH: dict[str, type[Missing | Failed]] = {"missing": Missing, "failed": Failed}


def make_service(configuration: model.Config, reactor: Any, becoming: tables.Process = _NOTHING_ELSE) -> Gateway:
    """Compile a configuration into a service, for ``twistd`` or any other Twisted application.

    Listeners are bound by ``privilegedStartService``, and clients are served from ``startService`` on.

    :param configuration: as :func:`fingergw.load` returns it.
    :param reactor: the reactor that the application runs.
    :param becoming: what the caller sees to it that the process becomes, after this; what ``[process]`` says is no more
        than a wish.
    :raises ConfigError: a file, program or endpoint that it names is not what it should be; all of them are reported.
    """
    gateway = make_gateway(configuration, reactor, becoming)
    preload()
    return gateway


def make_gateway(
    configuration: model.Config, reactor: Any, becoming: tables.Process = _NOTHING_ELSE, *, opens: bool = True
) -> Gateway:
    """Compile a configuration into a service; for the parameters and what is raised see :func:`make_service`.

    :param opens: whether backends are opened; they cannot be asked otherwise.
    """
    gateway = Gateway(reactor, ServiceManager.from_environment())
    parts, found = compile_parts(configuration, gateway, becoming=becoming, opens=opens)
    if found:
        raise to_error(found, configuration.source)
    gateway.begin_with(parts)
    return gateway


def examine(
    configuration: model.Config, reactor: Any, becoming: tables.Process = _NOTHING_ELSE
) -> tuple[list[Problem], list[str]]:
    """Look at the files, programs and endpoints that a configuration names; nothing is bound.

    :param becoming: what the process would become.
    :return: what is wrong with them; and warnings, a line each.
    """
    parts, found = compile_parts(configuration, Gateway(reactor), becoming=becoming, opens=False)
    return found, parts.warnings


def problems(configuration: model.Config, reactor: Any, becoming: tables.Process = _NOTHING_ELSE) -> list[Problem]:
    """Return what is wrong with the files, programs and endpoints that a configuration names; nothing is bound."""
    return examine(configuration, reactor, becoming)[0]


def refuse(
    configuration: model.Config, found: Sequence[Problem], reactor: Any, becoming: tables.Process = _NOTHING_ELSE
) -> None:
    """Refuse a configuration in whose file something was found wrong.

    :param becoming: what the process would become.
    :raises ConfigError: something was; it tells what is wrong with what the file names, too.
    """
    if found:
        raise to_error([*found, *problems(configuration, reactor, becoming)], configuration.source)


def compile_parts(
    configuration: model.Config,
    gateway: Gateway,
    before: Parts | None = None,
    becoming: tables.Process = _NOTHING_ELSE,
    *,
    opens: bool,
) -> tuple[Parts, list[Problem]]:
    """Compile a configuration.

    :param gateway: what it is for.
    :param before: what the gateway has in force, and of which is kept what is the same.
    :param becoming: what the process becomes after its first configuration is compiled.
    :param opens: whether backends are opened, unless something is wrong; otherwise nobody can be asked.
    :return: what it is compiled to, and what is wrong with the files, programs and endpoints that it names. With
        anything wrong, what it is compiled to is of no use.
    """
    reactor = gateway.reactor
    machine = Machine(configuration.source.base if configuration.source else Path.cwd())
    process = configuration.process
    if before is None:  # what is become is known, though perhaps not in a chroot
        root.expect(becoming.chroot)
        if becoming.chroot is not None and (why_not := unfit(becoming.chroot)):
            machine.problems.append(Problem(("process", "chroot"), why_not))
        machine.check("process", "user", text=process.user, lookup=uidFromString)
        machine.check("process", "group", text=process.group, lookup=gidFromString)
    resolver = Resolver(reactor) if before is None else before.resolver
    builder = Backends(configuration, machine, resolver, gateway.workers.convert, gateway.is_self)
    cache = Caching(configuration, machine, resolver, before)
    parts = Parts(
        configuration=configuration,
        access_log=_access_log(configuration.log, machine, reactor, before),
        resolver=resolver,
        memory=cache.memory,
        store=cache.store,
        store_made_of=cache.store_made_of,
    )
    examined = [builder.examine(name) for name in configuration.backends]
    forwarding = forwarding_of(configuration, machine, resolver, gateway.is_self)
    sockets = _sockets(configuration, machine, reactor)
    parts.admin = _admin(configuration.admin, machine, gateway)
    if opens and not machine.problems:
        for each in examined:
            _keep_or_open(each, parts, builder, cache, before)
        if machine.problems:
            for close in closing_of(parts, before):
                close()
    chains = [_chain(route, parts) for route in configuration.routes]
    for listener, description, place, secured in sockets:
        router = Router(
            [
                _route(route, chain, configuration.answers.case_sensitive)
                for route, chain in zip(configuration.routes, chains, strict=True)
                if route.listeners is None or listener.name in route.listeners
            ]
        )
        listeners = configuration.forwarding.listeners
        own_forwarding = forwarding if listeners is None or listener.name in listeners else _NO_FORWARDING
        served = Listener(
            _rules(configuration, listener, router, own_forwarding), gateway.connections_at(place), parts.access_log
        )
        factory = secured(FingerFactory(served))
        parts.plans.append(Plan(f'listener "{listener.name}"', description, place, factory, served))
    if before is None:
        parts.warnings += located(warnings_of(configuration.source, machine.files, becoming), configuration.source)
    return parts, machine.problems


def _sockets(
    configuration: model.Config, machine: Machine, reactor: Any
) -> list[tuple[tables.Listener, str, tuple[str, int], Wrap]]:
    """Return each listener with its endpoint string, its place (see Plan), and what puts TLS before it."""
    sockets, places = [], Counter[str]()
    for number, listener in configuration.numbered_listeners():
        description = listening.anchor(listener.endpoint, machine.base)
        try:
            bound, secured = _examined(description, machine, reactor, "listeners", number, "endpoint")
        except ListenError as error:
            machine.problems.append(Problem(("listeners", number, "endpoint"), str(error)))
            continue
        if places[bound] and bound.startswith("systemd:"):  # any other would find its address in use
            why = "another listener has this socket; one of them is enough"
            machine.problems.append(Problem(("listeners", number, "endpoint"), why))
        sockets.append((listener, description, (bound, places[bound]), secured))
        places[bound] += 1
    return sockets


def _access_log(settings: tables.Log, machine: Machine, reactor: Any, before: Parts | None) -> AccessLog:
    path = settings.access
    if path not in ("-", "off") and own_descriptor(path) is None:
        found = machine.later(machine.base / path, "log", "access")
        path = "off" if found is None else str(found)
    if before is not None and (before.access_log.path, before.access_log.form) == (path, settings.format):
        return before.access_log
    return AccessLog(path, settings.format, reactor, time.time)


def _keep_or_open(examined: Examined, parts: Parts, builder: Backends, cache: Caching, before: Parts | None) -> None:
    """Have a backend in the parts: the one that is in force, if it is the same, or else a new one.

    That has requests under way, which a new one would have to make again, and beyond what may run at once.
    """
    name, made = examined.name, None if before is None else before.backends.get(examined.name)
    meter = parts.meters[name] = (before and before.meters.get(name)) or BackendMeter()
    if made is None or not made.is_same(examined, builder.given, cache.store):
        opened = builder.open(examined, meter)
        if opened is None:
            return
        made = Made(opened, cache.of(opened, meter.cache))
    else:
        made.opened.catch_up(examined)
    parts.backends[name] = made


def _chain(route: tables.Route, parts: Parts) -> Chain:
    return Chain(
        tuple((name, made.backend) for name in route.backends if (made := parts.backends.get(name)) is not None),
        tuple(_FALLTHROUGH[kind] for kind in route.fallthrough),
        (CancelledError,),
    )


def _admin(settings: tables.Admin, machine: Machine, gateway: Gateway) -> Plan[None] | None:
    if settings.endpoint is None:
        return None
    path = ("admin", "endpoint")
    description = listening.on_loopback(listening.anchor(settings.endpoint, machine.base))
    try:
        from fingergw.app.admin import make_site
    except ModuleNotFoundError as error:
        why = f'needs {error.name}, which is not installed: pip install "fingergw[metrics]"'
        machine.problems.append(Problem(path, why))
        return None
    try:
        bound, secured = _examined(description, machine, gateway.reactor, *path)
    except ListenError as error:
        machine.problems.append(Problem(path, str(error)))
        return None
    factory = secured(make_site(gateway, gateway.reactor, settings.hosts))
    return Plan("[admin]", description, (bound, 0), factory, None)


def _examined(description: str, machine: Machine, reactor: Any, *where: str | int) -> tuple[str, Wrap]:
    """Return where an endpoint string says to listen, and what puts TLS before what listens there.

    :raises ListenError: it describes no endpoint; the message says why.
    """
    listening.check(description, reactor)
    secured = listening.secured(description, reactor)
    machine.files += [(path, where) for path in listening.files(description)]
    return listening.socket_of(listening.in_later_root(description)), secured


def _rules(
    configuration: model.Config, listener: tables.Listener, router: Router[Chain], forwarding: Forwarding[Chain]
) -> Rules:
    answers, rate = configuration.answers, listener.limits.rate
    limits = {key.name: getattr(listener.limits, key.name) for key in keys_of(tables.Limits)}
    limits["rate"] = rate and Rate(rate.queries, rate.per, rate.burst)
    names = [key.name for key in keys_of(tables.Answers) if key.name not in ("charset", "case_sensitive")]
    refusals: dict[Any, bytes] = {name: to_wire(getattr(answers, name), answers.charset) for name in names}
    return Rules(
        listener=listener.name,
        router=router,
        limits=Limits(**limits),
        refusals=refusals,
        charset=answers.charset,
        case_sensitive=answers.case_sensitive,
        allow=None if listener.allow is None else Networks(listener.allow),
        deny=Networks(listener.deny) if listener.deny else None,
        forwarding=forwarding,
        decoy_delay=listener.delay if listener.decoy else None,
        trusted_proxies=Networks(listener.trusted_proxies) if listening.is_proxied(listener.endpoint) else None,
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
