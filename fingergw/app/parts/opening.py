"""Which backends of a configuration are kept from the previous one, and which are opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from fingergw.app.environment import Environment
from fingergw.app.parts.checked_backend import CheckedBackend
from fingergw.app.parts.listeners import keywords_of
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.open_backend import OpenBackend, fingerprint, open_backend
from fingergw.app.parts.parts import Parts
from fingergw.config.backend_types import ForeignError, backend_type
from fingergw.config.problems import Problem
from fingergw.core.settings import is_same
from fingergw.net.site import Site
from fingergw.telemetry.meters import BackendMeter

Opener: TypeAlias = Callable[[], OpenBackend]
"""Open a backend; raises :class:`~fingergw.config.backend_types.ForeignError`."""


def keep_backends(
    parts: Parts, checked_backends: Sequence[CheckedBackend], environment: Environment, previous: dict[str, OpenBackend]
) -> dict[str, Opener]:
    """Keep each backend that was made of the same.

    It may be answering queries, which a new one would have to ask for again, beyond its ``max_running``.

    :param parts: what they become parts of.
    :param previous: the active ones, by name.
    :return: what opens each of the others, by its name.
    """
    configuration, openers = parts.configuration, dict[str, Opener]()
    routes = configuration.routes
    beside: dict[str, object] = {"case_sensitive": configuration.answers.case_sensitive, "routes": routes}
    keywords = keywords_of(routes)  # once: there may be as many backends as routes
    for checked in checked_backends:
        name, active = checked.name, previous.get(checked.name)
        hides_client = configuration.log.anonymise and checked.inputs.client
        if active is not None:
            used = {key: beside[key] for key in active.site.used}
            if is_same(active.fingerprint, fingerprint(checked, used, parts.store, hides_client)):
                parts.backends[name] = active
                for key, watched in active.checked.files.items():
                    watched.prepare(checked.files[key])
                    parts.newer_files.append((watched, checked.files[key]))
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
        openers[name] = partial(
            open_backend, checked, site, meter, parts.memory, parts.store, hides_client=hides_client
        )
    return openers


def open_each(parts: Parts, openers: dict[str, Opener], machine: Machine) -> Iterator[None]:
    """Open backends, one at each step; one that cannot be opened is added to the problems."""
    for name, opener in openers.items():
        try:
            parts.backends[name] = opener()
        except ForeignError as error:
            why = f'type "{_type_of(parts, name)}" cannot be opened: {error}'
            machine.problems.append(Problem(("backends", name), why))
        yield


def may_open_in_thread(parts: Parts, name: str) -> bool:
    """Tell whether opening a backend touches neither the reactor nor anything that others change."""
    settings: Any = backend_type(_type_of(parts, name)).settings
    return getattr(settings, "opens_in_thread", False)


def _type_of(parts: Parts, name: str) -> str:
    return parts.configuration.backends[name].type
