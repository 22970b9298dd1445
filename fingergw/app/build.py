"""A configuration is built: checked on this machine, and made into the parts of a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from fingergw import __version__
from fingergw.app.environment import Environment
from fingergw.app.gateway import Gateway
from fingergw.app.parts.cache import store_of
from fingergw.app.parts.checked_backend import CheckedBackend, check_backend
from fingergw.app.parts.denied import denied
from fingergw.app.parts.forwarding import forwarding_of
from fingergw.app.parts.listeners import check_socket, check_sockets, keywords_of, passed_as, routes_of, rules_of
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.open_backend import OpenBackend, fingerprint, open_backend
from fingergw.app.parts.parts import Parts
from fingergw.app.parts.run_as import announce_root, check_process
from fingergw.app.preloading import preload
from fingergw.app.systemd import ServiceManager
from fingergw.cache.memory import Memory
from fingergw.config import model, tables
from fingergw.config.backend_types import ForeignError
from fingergw.config.problems import Problem, to_error
from fingergw.core.text import escape
from fingergw.finger.listener import Listener
from fingergw.listen.binding import Socket
from fingergw.listen.endpoints import on_loopback
from fingergw.net import root
from fingergw.net.site import Site
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.log_file import may_be_link, own_descriptor
from fingergw.telemetry.meters import BackendMeter

_log = Logger()
_AS_IT_IS = tables.Process()


def make_gateway(configuration: model.Config, reactor: Any, run_as: tables.Process | None = None) -> Gateway:
    """Make a configuration into a gateway, which signals do nothing to.

    :param configuration: as :func:`fingergw.load` returns it.
    :param reactor: the reactor that the application runs.
    :param run_as: the user, group and root that the caller changes the process to after this; None if that is not
        known. ``[process]`` does not change it.
    :raises ConfigError: a file, program or endpoint that it names is not what it should be; all of them are reported.
    """
    source = configuration.source
    where = "" if source is None else f" with {escape(str(source.path.absolute()))}"
    _log.info("fingergw {version}{where}", version=__version__, where=where)  # first, as an operator looks there
    manager, environment = ServiceManager.from_environment(), Environment(reactor)
    parts, problems = build(configuration, None, environment, run_as or _AS_IT_IS, warns=False)
    if problems:
        raise to_error(problems, source)
    if run_as is None or (run_as.user, run_as.group, run_as.chroot) != (None, None, None):
        preload()
    return Gateway(environment, parts, manager)


def check(
    configuration: model.Config, reactor: Any, run_as: tables.Process = _AS_IT_IS, *, is_whole: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Check the files, programs and endpoints that a configuration names; nothing is bound or opened.

    :param run_as: the user, group and root that the process would change to.
    :param is_whole: whether nothing of its file is left out because of mistakes.
    :return: what is wrong with them; and warnings, also of what a whole configuration cannot mean.
    """
    parts, problems = build(configuration, None, Environment(reactor), run_as, opens=False, warns=is_whole)
    return problems, parts.warnings


def process_problems(configuration: model.Config) -> list[Problem]:
    """Return what is wrong with ``[process]``, which a running gateway does not use any more."""
    machine = Machine(Path.cwd())
    if not root.has_chroot():  # whose users are others, if it has any
        check_process(machine, configuration.process)
    return machine.problems


def raise_if_problems(
    configuration: model.Config, problems: Sequence[Problem], reactor: Any, run_as: tables.Process = _AS_IT_IS
) -> None:
    """Refuse a configuration in whose file problems were found.

    :param problems: these.
    :param run_as: the user, group and root that the process would change to.
    :raises ConfigError: there are some; it reports what is wrong with the files that the configuration names, too.
    """
    if problems:
        raise_if_mistaken(configuration, problems, reactor, run_as)


def raise_if_mistaken(
    configuration: model.Config, problems: Sequence[Problem], reactor: Any, run_as: tables.Process = _AS_IT_IS
) -> None:
    """Refuse a configuration that has any mistakes, in its file or in what it names on this machine.

    :param problems: those in its file.
    :param run_as: the user, group and root that the process would change to.
    :raises ConfigError: there are some.
    """
    problems = [*problems, *check(configuration, reactor, run_as)[0]]
    if problems:
        raise to_error(problems, configuration.source)


def build(
    configuration: model.Config,
    previous: Parts | None,
    environment: Environment,
    run_as: tables.Process = _AS_IT_IS,
    *,
    opens: bool = True,
    warns: bool = True,
) -> tuple[Parts, list[Problem]]:
    """Build a configuration: check it on this machine, and make or keep each of its parts.

    :param previous: the active parts, of which those are kept whose fingerprints are the same; None at a start.
    :param environment: what outlives the configuration.
    :param run_as: the user, group and root that the process changes to after a start.
    :param opens: whether backends are opened, if nothing is wrong; otherwise they cannot be asked.
    :param warns: whether to look for what cannot be meant, which only a whole configuration can tell.
    :return: the parts, and the problems with the files, programs and endpoints that the configuration names. If there
        are any, the parts cannot be used.
    """
    reactor, cache = environment.reactor, configuration.cache
    source, process = configuration.source, configuration.process
    machine = Machine(Path.cwd()) if source is None else Machine(source.base, mistaken=source.mistaken)
    machine.is_start = opens
    machine.is_for_root = not opens and (process.user, process.group, process.chroot) != (None, None, None)
    if previous is None:
        announce_root(machine, run_as)
        check_process(machine, configuration.process, run_as)
    parts = Parts(
        configuration,
        _access_log(configuration.log, machine, reactor, previous.access_log if previous else None),
        memory=Memory(cache.max_entries, cache.max_bytes) if previous is None else previous.memory,
        store=store_of(configuration, machine, environment.resolver, previous.store if previous else None),
    )
    checked = [check_backend(name, configuration, machine) for name in configuration.backends]
    previous_hosts = {} if previous is None else previous.hosts
    forwarding, parts.hosts = forwarding_of(configuration, machine, environment, previous_hosts)
    sockets = check_sockets(configuration, machine, reactor)
    parts.admin = _admin(configuration.admin, machine, reactor)
    if parts.admin and passed_as(parts.admin[0]) in {passed_as(socket) for _, socket in sockets} - {""}:
        why = "a listener uses this socket already; choose another"
        machine.problems.append(Problem(("admin", "endpoint"), why))
    if opens and not machine.problems:
        _open_backends(parts, checked, environment, machine, {} if previous is None else previous.backends)
        if machine.problems:
            for close in parts.closers(keeping=previous):
                close()
    chained = {name: backend.entry for name, backend in parts.backends.items()}
    routes = routes_of(configuration, chained)
    for listener, socket in sockets:
        rules = rules_of(listener, configuration, routes, forwarding)
        connections = environment.connections_at(socket.place)
        parts.listeners.append((socket, Listener(rules, connections, parts.access_log)))
    parts.warnings += machine.warnings
    if warns:
        from fingergw.app.parts.warnings import warnings_of  # a start does not look

        parts.warnings += warnings_of(configuration, sockets, parts.admin and parts.admin[0])
    if previous is None:
        parts.warnings += denied(machine, source, run_as)
    return parts, [problem for problem in machine.problems if not machine.mistaken.has(*problem.path)]


def _access_log(settings: tables.Log, machine: Machine, reactor: Any, previous: AccessLog | None) -> AccessLog:
    path = settings.access
    if path != "off" and own_descriptor(path) is None:
        found = machine.written(machine.base / path, "log", "access", follows_links=may_be_link(path))
        path = "off" if found is None else str(found)
    log = AccessLog(path, settings.format, reactor, time.time, settings.anonymise)
    return previous if previous is not None and previous.fingerprint == log.fingerprint else log


def _open_backends(
    parts: Parts,
    checked_backends: Sequence[CheckedBackend],
    environment: Environment,
    machine: Machine,
    previous: dict[str, OpenBackend],
) -> None:
    """Open each backend, or keep the previous one.

    That may be answering queries, which a new one would have to ask for again, beyond its ``max_running``.
    """
    configuration = parts.configuration
    routes = configuration.routes
    beside: dict[str, object] = {"case_sensitive": configuration.answers.case_sensitive, "routes": routes}
    keywords = keywords_of(routes)  # once: there may be as many backends as routes
    for checked in checked_backends:
        name, active = checked.name, previous.get(checked.name)
        hides_client = configuration.log.anonymise and checked.inputs.client
        if active is not None:
            used = {key: beside[key] for key in active.site.used}
            if active.fingerprint == fingerprint(checked, used, parts.store, hides_client):
                parts.backends[name] = active
                parts.newer_files += [(watched, checked.files[key]) for key, watched in active.checked.files.items()]
                continue
        site = Site(
            name,
            environment.reactor,
            environment.resolver,
            checked.table.timeout,
            environment.is_self,
            files=checked.files,
            programs=checked.programs,
            given=beside,
            keywords=keywords,
            convert=partial(environment.workers.convert, name),
        )
        meter = BackendMeter() if active is None else active.meter
        try:
            parts.backends[name] = open_backend(
                checked, site, meter, parts.memory, parts.store, hides_client=hides_client
            )
        except ForeignError as error:
            why = f'type "{checked.table.type}" cannot be opened: {error}'
            machine.problems.append(Problem(("backends", name), why))


def _admin(
    settings: tables.Admin, machine: Machine, reactor: Any
) -> tuple[Socket, Callable[[Gateway], IProtocolFactory]] | None:
    if settings.endpoint is None:
        return None
    where = ("admin", "endpoint")
    try:
        from fingergw.app.admin import make_site
    except ModuleNotFoundError as error:
        why = f'needs {error.name}, which is not installed: pip install "fingergw[metrics]"'
        machine.problems.append(Problem(where, why))
        return None
    socket = check_socket("[admin]", on_loopback(settings.endpoint), machine, reactor, *where)
    return socket and (socket, partial(make_site, reactor=reactor, hosts=settings.hosts))
