"""Whom queries with a host are passed on to, from ``[forwarding]``."""

from __future__ import annotations

import socket
from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import ITransport

from fingergw.app.parts.backends import Asked
from fingergw.app.parts.machine import Machine
from fingergw.backends.finger import FingerBackend
from fingergw.cache.keys import Inputs
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.errors import ListenError
from fingergw.core.forwarding import Forwarding, normal_host
from fingergw.core.outcome import asking
from fingergw.core.query import Query
from fingergw.listen.client_strings import client_files, parse_client
from fingergw.net.resolving import Resolver
from fingergw.net.waiting import Waiting

_INPUTS = Inputs(frozenset({"user"}), verbose=True)


def forwarding_of(
    configuration: model.Config, machine: Machine, resolver: Resolver, is_self: Callable[[ITransport], bool]
) -> Forwarding[Chain]:
    """Return whom queries are passed on to; what is wrong is noted.

    :param is_self: tells of a connection whether this gateway is at its other end.
    """
    own_names = {socket.gethostname(), *(listener.name for listener in configuration.listeners)}
    settings = configuration.forwarding
    forwarding = Forwarding(
        targets={
            host: Chain(((host, backend),), cancelled=(CancelledError,))
            for host, backend in _targets(configuration, machine, resolver, is_self).items()
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


def _targets(
    configuration: model.Config, machine: Machine, resolver: Resolver, is_self: Callable[[ITransport], bool]
) -> dict[str, Asked]:
    """Return what asks each of the hosts, by the host's name."""
    settings, targets = configuration.forwarding, dict[str, Asked]()
    for host, description in settings.allow.items():
        path = ("forwarding", "allow", host)
        try:
            endpoint = parse_client(description, machine.base, resolver)
        except ListenError as error:
            machine.problems.append(Problem(path, str(error)))
            continue
        machine.files += [(file, path) for file in client_files(description, machine.base)]
        name = normal_host(host)
        if name in targets:
            machine.problems.append(Problem(path, "this host is there twice, but for case"))
        backend = FingerBackend(endpoint, settings.max_bytes, is_self)
        waiting = Waiting(settings.timeout, settings.max_running, resolver.reactor)
        targets[name] = Asked(waiting.before(asking(backend), backend.at_once), _INPUTS)
    return targets
