"""All that a configuration is built into, and what of it a reload keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import Factory, define
from twisted.internet.interfaces import IProtocolFactory

from fingergw.app.parts.forwarding import HostBreakers
from fingergw.app.parts.open_backend import OpenBackend
from fingergw.cache.guarded import GuardedStore
from fingergw.cache.memory import Memory
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.finger.listener import Listener
from fingergw.listen.binding import Socket
from fingergw.net.watched import Watched
from fingergw.telemetry.access_log import AccessLog
from fingergw.telemetry.meters import BackendMeter


@define(eq=False, repr=False)
class Parts:
    """All parts of a gateway under one configuration.

    :param store: where cached answers outlive the process, or are shared; None if they are in memory alone.
    :param listeners: what is to be active at each listener's socket, in file order.
    :param admin: the socket of the admin pages, and what makes these for a gateway; None without ``[admin]``.
    :param hosts: the breakers of the hosts that queries are forwarded to.
    :param backends: by name; empty where a configuration is only checked.
    :param newer_files: files that backends watch which are kept, each with what has just been read of it.
    :param warnings: what goes wrong later, or cannot be meant.
    :param warns_late: whether what cannot be meant is still to be looked for.
    """

    configuration: model.Config
    access_log: AccessLog
    memory: Memory
    store: GuardedStore | None
    listeners: list[tuple[Socket, Listener]] = Factory(list)
    admin: tuple[Socket, Callable[[Any], IProtocolFactory]] | None = None
    hosts: HostBreakers = Factory(dict)
    backends: dict[str, OpenBackend] = Factory(dict)
    newer_files: list[tuple[Watched[Any], Watched[Any]]] = Factory(list)
    warnings: list[Problem] = Factory(list)
    warns_late: bool = False

    @property
    def meters(self) -> dict[str, BackendMeter]:
        """What counts and times the answers of each backend, by its name."""
        return {name: backend.meter for name, backend in self.backends.items()}

    def take_over(self) -> None:
        """Have the parts that are kept take over what has changed for them, as these parts become active."""
        for watched, newer in self.newer_files:
            watched.catch_up(newer)
        self.newer_files.clear()
        self.memory.resize(self.configuration.cache.max_entries, self.configuration.cache.max_bytes)

    def closers(self, keeping: Parts | None) -> list[Callable[[], object]]:
        """Return what closes each of the parts, but not the store.

        :param keeping: the parts of another configuration; what these use, too, is kept open.
        """
        kept = set() if keeping is None else {keeping.access_log, *keeping.backends.values()}
        closable = [backend for backend in self.backends.values() if backend.is_closable]
        own: list[AccessLog | OpenBackend] = [self.access_log, *closable]
        return [part.close for part in own if part not in kept]
