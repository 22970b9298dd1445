"""What a configuration is compiled to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import Factory, define, frozen

from fingergw.app.parts.backends import Asked, Opened
from fingergw.app.parts.examined import Examined
from fingergw.cache.cached_backend import CachedBackend
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
    """A backend that is open, and what keeps its answers.

    :param cache: None if they are not kept.
    """

    opened: Opened
    cache: CachedBackend | None

    def is_same(self, examined: Examined, given: Mapping[str, object], store: GuardedStore | None) -> bool:
        """Tell whether another one would be the same.

        :param examined: what that would be made of.
        :param given: what the configuration says beside its table.
        :param store: where its answers would be kept.
        """
        return self.opened.is_same(examined, given) and (self.cache is None or self.cache.store is store)

    @property
    def backend(self) -> Backend:
        """What a chain asks."""
        return self.cache or Asked(self.opened.ask, self.opened.examined.inputs)


@define(eq=False)
class Parts:
    """All of it; the gateway has those that are active.

    :param store_fingerprint: all that the store depends on.
    :param backends: by name.
    :param warnings: what an operator should know of the configuration, a line each.
    :param on_activation: what is to be called once it is active.
    :param meters: what was counted of each backend, by name.
    """

    configuration: model.Config
    access_log: AccessLog
    resolver: Resolver
    memory: Memory
    store: GuardedStore | None
    store_fingerprint: object
    plans: list[Plan[Listener]] = Factory(list)
    admin: Plan[None] | None = None
    backends: dict[str, Made] = Factory(dict)
    meters: dict[str, BackendMeter] = Factory(dict)
    warnings: list[str] = Factory(list)
    on_activation: list[Callable[[], object]] = Factory(list)

    @property
    def converts(self) -> bool:
        """Whether a backend has bodies converted."""
        return any(made.opened.site.converts for made in self.backends.values())


def closing_of(parts: Parts, but: Parts | None) -> list[Callable[[], object]]:
    """Return what closes all that a configuration is compiled to, but for what another has too, and for its store."""
    closing: list[Callable[[], object]] = []
    if but is None or parts.access_log is not but.access_log:
        closing.append(parts.access_log.close)
    kept = set[Made]() if but is None else set(but.backends.values())
    for made in parts.backends.values():
        if made not in kept:
            closing += [] if made.cache is None else [made.cache.stop]
            closing += [made.opened.close] if made.opened.has_close else []
    return closing
