"""The hosts that queries can be forwarded to, from ``[forwarding]``."""

from __future__ import annotations

import socket

import attrs
from twisted.internet.defer import CancelledError

from fingergw.app.environment import Environment
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.open_backend import UncachedBackend
from fingergw.backends.finger import FingerBackend
from fingergw.cache.keys import Inputs
from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.errors import ListenError
from fingergw.core.forwarding import Forwarding, normal_host
from fingergw.core.outcome import ask_function
from fingergw.core.query import Query
from fingergw.listen.client_strings import parse_client
from fingergw.net.waiting import Waiting

_INPUTS = Inputs(frozenset({"user"}), verbose=True)


def forwarding_of(configuration: model.Config, machine: Machine, environment: Environment) -> Forwarding[Chain]:
    """Return the hosts that queries can be forwarded to; what is wrong is added to the problems."""
    own_names = {socket.gethostname(), *(listener.name for listener in configuration.listeners)}
    settings = configuration.forwarding
    forwarding = Forwarding(
        targets=_targets(settings, machine, environment),
        own_names=frozenset(own_names),
        max_hops=settings.max_hops,
        clients=None if settings.clients is None else Networks(settings.clients),
    )
    # many machines may share a file, so that a host in it may be this one
    anywhere = attrs.evolve(forwarding, own_names=frozenset(), clients=None)
    for host in forwarding.targets:
        if anywhere.find(Query("", (host,)), "") is None:
            why = "expected a plain host name or address, and no loopback"
            machine.problems.append(Problem(("forwarding", "allow", host), why))
    return forwarding


def _targets(settings: tables.Forwarding, machine: Machine, environment: Environment) -> dict[str, Chain]:
    """Return a chain of one backend for each host, by the host's name."""
    targets: dict[str, Chain] = {}
    for host, description in settings.allow.items():
        path = ("forwarding", "allow", host)
        try:
            endpoint, files = parse_client(description, machine.base, environment.resolver)
        except ListenError as error:
            machine.problems.append(Problem(path, str(error)))
            continue
        machine.files += [(file, path) for file in files]
        name = normal_host(host)
        if name in targets:
            machine.problems.append(
                Problem(path, "this host is defined twice, differing only by case; remove one of the two")
            )
        backend = FingerBackend(endpoint, settings.max_bytes, environment.is_self)
        waiting = Waiting(settings.timeout, settings.max_running, environment.reactor)
        asked = UncachedBackend(waiting.wrap(ask_function(backend), backend.at_once), _INPUTS)
        targets[name] = Chain(((name, asked),), cancelled=(CancelledError,))
    return targets
