"""The hosts that queries can be forwarded to, from ``[forwarding]``."""

from __future__ import annotations

import socket
from typing import TypeAlias

import attrs

from fingergw.app.environment import Environment
from fingergw.app.parts.machine import Machine
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.core.addresses import Networks
from fingergw.core.breaker import Breaker
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding, local_form
from fingergw.core.query import Query

HostBreakers: TypeAlias = dict[tuple[str, str], Breaker]
"""Breakers by the host as clients write it, and its endpoint string."""


def forwarding_of(
    configuration: model.Config, machine: Machine, environment: Environment, previous: HostBreakers
) -> tuple[Forwarding[Chain], HostBreakers]:
    """Return the hosts that queries can be forwarded to, and their breakers; what is wrong is added to the problems.

    :param previous: the breakers under the previous configuration, which are kept if their host and settings are the
        same.
    """
    settings = configuration.forwarding
    listeners = (listener.name for listener in configuration.listeners)
    own_names = {socket.gethostname(), *listeners, *settings.local_names}
    targets: dict[str, Chain] = {}
    breakers: HostBreakers = {}
    if settings.allow:
        from fingergw.app.parts.forwarding_targets import targets_of  # loads a finger client

        targets, breakers = targets_of(settings, machine, environment, previous)
    forwarding = Forwarding(
        targets=targets,
        own_names=frozenset(own_names),
        max_hops=settings.max_hops,
        clients=None if settings.clients is None else Networks(settings.clients),
        local_names=frozenset(map(local_form, settings.local_names)),
    )
    # many machines may share a file, so that a host in it may be this one
    anywhere = attrs.evolve(forwarding, own_names=frozenset(), clients=None)
    for host in forwarding.targets:
        if anywhere.find(Query("", (host,)), "") is None:
            why = "expected a plain host name or address, and no loopback"
            machine.problems.append(Problem(("forwarding", "allow", host), why))
    return forwarding, breakers
