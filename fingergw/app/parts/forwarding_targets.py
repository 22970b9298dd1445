"""The chains that forwarded queries go to: one for each host."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from twisted.internet.defer import CancelledError

from fingergw.app.environment import Environment
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.open_backend import UncachedBackend
from fingergw.backends.finger import FingerBackend, line_for
from fingergw.cache.keys import Inputs
from fingergw.config import tables
from fingergw.config.problems import Problem
from fingergw.core.breaker import Breaker, Breaking, unless_opened
from fingergw.core.chain import Chain
from fingergw.core.errors import ListenError
from fingergw.core.forwarding import normal_host
from fingergw.core.outcome import ask_function
from fingergw.core.query import Query
from fingergw.listen.client_strings import parse_client
from fingergw.net.coalescing import Coalescing
from fingergw.net.resolving import connect_seconds
from fingergw.net.waiting import Waiting
from fingergw.telemetry.event_log import log_breaker

_INPUTS = Inputs(frozenset({"user"}), verbose=True)
_Breakers: TypeAlias = dict[tuple[str, str], Breaker]


def targets_of(
    settings: tables.Forwarding, machine: Machine, environment: Environment, previous: _Breakers
) -> tuple[dict[str, Chain], _Breakers]:
    """Return a chain of one backend for each host, by the host's name; and the hosts' breakers.

    :param previous: the breakers under the previous configuration.
    """
    targets: dict[str, Chain] = {}
    breakers: _Breakers = {}
    names: set[str] = set()
    for host, description in settings.allow.items():
        path = ("forwarding", "allow", host)
        name = normal_host(host)
        if name in names:
            why = "this host is defined twice, differing only by case; remove one of the two"
            machine.problems.append(Problem(path, why))
        names.add(name)
        try:
            endpoint, files = parse_client(
                description, machine.base, environment.resolver, connect_seconds(settings.timeout)
            )
        except ListenError as error:
            machine.problems.append(Problem(path, str(error)))
            continue
        machine.files += [(file, path) for file in files]
        backend = FingerBackend(endpoint, settings.max_bytes, environment.is_self)
        waiting = Waiting(settings.timeout, settings.max_running, environment.reactor)
        breaker = _breaker(settings, previous.get((host, description)))
        if breaker is not None:
            breakers[host, description] = breaker
        changed = partial(log_breaker, f"host {host}, to which queries are forwarded,")
        waited = waiting.wrap(unless_opened(ask_function(backend), breaker))
        ask = Breaking(waited, backend.at_once, breaker, environment.reactor.seconds, changed)
        asked = UncachedBackend(Coalescing(ask, _question), _INPUTS)
        targets[name] = Chain(((name, asked),), cancelled=(CancelledError,))
    return targets, breakers


def _breaker(settings: tables.Forwarding, previous: Breaker | None) -> Breaker | None:
    if not settings.breaker:
        return None
    is_same = previous is not None and previous.settings == settings.breaker
    return previous if is_same else Breaker(settings.breaker, _question)


def _question(query: Query) -> str:
    line = line_for(query)
    return "" if line is None else f"{line}\r\n"  # a query that is not sent differs from an empty line
