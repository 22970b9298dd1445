"""A configuration is built: checked on this machine, and made into the parts of a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from fingergw import __version__
from fingergw.app.environment import Environment
from fingergw.app.gateway import Gateway
from fingergw.app.parts.cache import store_of
from fingergw.app.parts.checked_backend import check_backend
from fingergw.app.parts.denied import denied
from fingergw.app.parts.forwarding import forwarding_of
from fingergw.app.parts.listeners import check_socket, check_sockets, passed_as, routes_of, rules_of
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.opening import Opener, keep_backends, may_open_in_thread, open_each
from fingergw.app.parts.parts import Parts
from fingergw.app.parts.run_as import announce_root, check_process
from fingergw.app.preloading import preload
from fingergw.app.systemd import ServiceManager
from fingergw.cache.memory import Memory
from fingergw.config import model, tables
from fingergw.config.problems import Problem, to_error
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.text import escape
from fingergw.finger.listener import Listener
from fingergw.listen.binding import Socket
from fingergw.listen.endpoints import on_loopback
from fingergw.net import root
from fingergw.net.threads import in_thread
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.log_file import may_be_link, own_descriptor

_log = Logger()
_AS_IT_IS = tables.Process()
_MOST_LATE = 1 << 17  # characters of a file: to find the lines of the warnings in a larger one holds up other threads


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
    warns_late = source is not None and len(source.text) <= _MOST_LATE
    parts, problems = build(configuration, None, environment, run_as or _AS_IT_IS, warns=not warns_late)
    parts.warns_late = warns_late
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
    """Build a configuration at once: draft it, open its backends, and finish it.

    The parameters are those of :func:`draft`.

    :return: the parts, and the problems with the files, programs and endpoints that the configuration names. If there
        are any, the parts cannot be used.
    """
    drafted = draft(configuration, previous, environment, warns=warns, opens=opens, run_as=run_as)
    for _ in drafted.open():
        pass
    if opens and drafted.problems:
        drafted.give_up()
    return finish(drafted), drafted.problems


@define(eq=False, repr=False)
class Draft:
    """A configuration that is checked on this machine, and whose backends are not all open yet.

    :param parts: those that there are.
    :param previous: the active parts; None at a start.
    :param machine: what was found wrong.
    :param sockets: the listeners, each with its socket.
    :param forwarding: the hosts that queries are forwarded to.
    :param openers: what opens the backends that are neither kept nor open.
    """

    parts: Parts
    previous: Parts | None
    environment: Environment
    machine: Machine
    sockets: list[tuple[tables.Listener, Socket]]
    forwarding: Forwarding[Chain]
    openers: dict[str, Opener]

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with what it names, and not known from its file."""
        return [problem for problem in self.machine.problems if not self.machine.mistaken.has(*problem.path)]

    def open(self) -> Iterator[None]:
        """Open its backends, one at each step, in the reactor's thread."""
        return open_each(self.parts, self.openers, self.machine)

    def give_up(self) -> None:
        """Close what is open of it, and not kept."""
        for close in self.parts.closers(keeping=self.previous):
            close()


def draft(
    configuration: model.Config,
    previous: Parts | None,
    environment: Environment,
    *,
    warns: bool,
    opens: bool,
    run_as: tables.Process = _AS_IT_IS,
) -> Draft:
    """Check a configuration on this machine, and make or keep those of its parts that may be made in any thread.

    :param previous: the active parts, of which those are kept whose fingerprints are the same; None at a start.
    :param environment: what outlives the configuration.
    :param warns: whether to look for what cannot be meant, which only a whole configuration can tell.
    :param opens: whether backends are opened, if nothing is wrong; otherwise they cannot be asked.
    :param run_as: the user, group and root that the process changes to after a start.
    """
    reactor, cache = environment.reactor, configuration.cache
    source, process = configuration.source, configuration.process
    machine = Machine(Path.cwd()) if source is None else Machine(source.base, mistaken=source.mistaken)
    machine.run = partial(in_thread, reactor)
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
    openers: dict[str, Opener] = {}
    if opens and not machine.problems:
        openers = keep_backends(parts, checked, environment, {} if previous is None else previous.backends)
        here = {name: openers.pop(name) for name in list(openers) if may_open_in_thread(parts, name)}
        for _ in open_each(parts, here, machine):
            pass
    parts.warnings += machine.warnings
    if warns:
        parts.warnings += _warnings_of(parts, sockets)
    if previous is None:
        parts.warnings += denied(machine, source, run_as)
    return Draft(parts, previous, environment, machine, sockets, forwarding, openers)


def finish(drafted: Draft) -> Parts:
    """Make the routes and the rules of a configuration whose backends are open. It may be done in any thread."""
    parts, configuration = drafted.parts, drafted.parts.configuration
    parts.backends = {name: parts.backends[name] for name in configuration.backends if name in parts.backends}
    chained = {name: backend.entry for name, backend in parts.backends.items()}
    routes = routes_of(configuration, chained)
    for listener, socket in drafted.sockets:
        rules = rules_of(listener, configuration, routes, drafted.forwarding)
        connections = drafted.environment.connections_at(socket.place)
        parts.listeners.append((socket, Listener(rules, connections, parts.access_log)))
    return parts


def late_warnings(parts: Parts) -> list[Problem]:
    """Return what a whole configuration cannot mean, where the warnings of its parts are without that.

    It may be done in any thread.
    """
    sockets = (socket for socket, _ in parts.listeners)
    return _warnings_of(parts, [*zip(parts.configuration.listeners, sockets, strict=True)])


def _warnings_of(parts: Parts, sockets: Sequence[tuple[tables.Listener, Socket]]) -> list[Problem]:
    from fingergw.app.parts.warnings import warnings_of  # a start needs them only after it

    return warnings_of(parts.configuration, sockets, parts.admin and parts.admin[0])


def _access_log(settings: tables.Log, machine: Machine, reactor: Any, previous: AccessLog | None) -> AccessLog:
    path = settings.access
    if path != "off" and own_descriptor(path) is None:
        found = machine.written(machine.base / path, "log", "access", follows_links=may_be_link(path))
        path = "off" if found is None else str(found)
    log = AccessLog(path, settings.format, reactor, time.time, settings.anonymise)
    return previous if previous is not None and previous.fingerprint == log.fingerprint else log


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
