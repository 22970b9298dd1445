"""The whole service, from listeners and routes to what they share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.python.util import gidFromString, uidFromString

from fingergw.app.gateway import Gateway
from fingergw.app.parts.backends import Backends
from fingergw.app.parts.becoming import unfit, warnings_of
from fingergw.app.parts.cache import Caching
from fingergw.app.parts.examined import Examination, Examined
from fingergw.app.parts.forwarding import forwarding_of
from fingergw.app.parts.listeners import look_at, plans_of, sockets_of
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.parts import Made, Parts, closing_of
from fingergw.app.preloading import preload
from fingergw.app.systemd import ServiceManager
from fingergw.config import model, tables
from fingergw.config.problems import Problem, located, to_error
from fingergw.core.errors import ListenError
from fingergw.listen import endpoints
from fingergw.listen.binding import Plan
from fingergw.net import root
from fingergw.net.resolving import Resolver
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.log_file import own_descriptor
from fingergw.telemetry.meters import BackendMeter

_NOTHING_ELSE = tables.Process()


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
    :param before: what is active, of which is kept what is the same.
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
        store_fingerprint=cache.store_fingerprint,
    )
    examination = Examination(configuration, machine)
    examined = [examination.of(name) for name in configuration.backends]
    forwarding = forwarding_of(configuration, machine, resolver, gateway.is_self)
    sockets = sockets_of(configuration, machine, reactor)
    parts.admin = _admin(configuration.admin, machine, gateway)
    if opens and not machine.problems:
        for each in examined:
            _keep_or_open(each, parts, builder, cache, before)
        if machine.problems:
            for close in closing_of(parts, before):
                close()
    backends = {name: made.backend for name, made in parts.backends.items()}
    parts.plans += plans_of(sockets, configuration, backends, forwarding, parts.access_log, gateway.connections_at)
    if before is None:
        parts.warnings += located(warnings_of(configuration.source, machine.files, becoming), configuration.source)
    return parts, machine.problems


def _access_log(settings: tables.Log, machine: Machine, reactor: Any, before: Parts | None) -> AccessLog:
    path = settings.access
    if path not in ("-", "off") and own_descriptor(path) is None:
        found = machine.later(machine.base / path, "log", "access")
        path = "off" if found is None else str(found)
    if before is not None and (before.access_log.path, before.access_log.form) == (path, settings.format):
        return before.access_log
    return AccessLog(path, settings.format, reactor, time.time)


def _keep_or_open(examined: Examined, parts: Parts, builder: Backends, cache: Caching, before: Parts | None) -> None:
    """Have a backend in the parts: the one that is active, if it is the same, or else a new one.

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
        parts.on_activation.append(partial(made.opened.catch_up, examined))
    parts.backends[name] = made


def _admin(settings: tables.Admin, machine: Machine, gateway: Gateway) -> Plan[None] | None:
    if settings.endpoint is None:
        return None
    path = ("admin", "endpoint")
    description = endpoints.on_loopback(endpoints.anchor(settings.endpoint, machine.base))
    try:
        from fingergw.app.admin import make_site
    except ModuleNotFoundError as error:
        why = f'needs {error.name}, which is not installed: pip install "fingergw[metrics]"'
        machine.problems.append(Problem(path, why))
        return None
    try:
        bound, secured = look_at(description, machine, gateway.reactor, *path)
    except ListenError as error:
        machine.problems.append(Problem(path, str(error)))
        return None
    factory = secured(make_site(gateway, gateway.reactor, settings.hosts))
    return Plan("[admin]", description, (bound, 0), factory, None)
