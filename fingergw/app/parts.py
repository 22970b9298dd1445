"""What a configuration is compiled to."""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define, frozen
from twisted.web.client import HTTPConnectionPool

from fingergw.cache.backend import CachedBackend
from fingergw.cache.guarded import GuardedStore
from fingergw.cache.memory import Memory
from fingergw.config import model
from fingergw.core.outcome import Backend
from fingergw.finger.listener import Listener
from fingergw.listen.binding import Plan
from fingergw.net.resolving import Resolver
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.meters import BackendMeter


@frozen(eq=False)
class Made:
    """A backend, and what it was made of.

    :param made_of: all that it depends on.
    :param pool: its connections; None if it has none that it keeps.
    """

    made_of: object
    backend: Backend
    pool: HTTPConnectionPool | None


@define(eq=False)
class Parts:
    """All of it; the gateway has those that are active.

    :param store_made_of: all that the store depends on.
    :param backends: by name.
    :param warnings: what an operator should know of the configuration, a line each.
    :param meters: what was counted of each backend, by name.
    """

    configuration: model.Config
    access_log: AccessLog
    resolver: Resolver
    memory: Memory
    store: GuardedStore | None
    store_made_of: object
    plans: list[Plan[Listener]] = Factory(list)
    admin: Plan[None] | None = None
    backends: dict[str, Made] = Factory(dict)
    meters: dict[str, BackendMeter] = Factory(dict)
    warnings: list[str] = Factory(list)

    @property
    def caches(self) -> list[CachedBackend]:
        """The backends whose answers are kept."""
        return [made.backend for made in self.backends.values() if isinstance(made.backend, CachedBackend)]

    @property
    def pools(self) -> list[HTTPConnectionPool]:
        """The connections that http backends keep open."""
        return [made.pool for made in self.backends.values() if made.pool is not None]


def closing_of(parts: Parts, but: Parts | None) -> list[Callable[[], object]]:
    """Return what closes all that a configuration is compiled to, but for what another has too, and for its store."""
    closing: list[Callable[[], object]] = []
    if but is None or parts.access_log is not but.access_log:
        closing.append(parts.access_log.close)
    closing += [cache.stop for cache in parts.caches if but is None or cache not in but.caches]
    closing += [pool.closeCachedConnections for pool in parts.pools if but is None or pool not in but.pools]
    return closing
