"""The service that all listeners are part of, and what they share."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, ITransport
from twisted.logger import Logger

from fingergw.app.parts.parts import Parts, closing_of
from fingergw.app.privileges import provide_descriptors, refuse_root
from fingergw.app.systemd import ServiceManager
from fingergw.cache.guarded import GuardedStore
from fingergw.core.errors import FingergwError, ListenError
from fingergw.finger.connections import Connections
from fingergw.finger.listener import LINGER_SECONDS
from fingergw.finger.service import ListenerService
from fingergw.listen.binding import BoundService, Plan
from fingergw.listen.endpoints import leads_to
from fingergw.net.workers.pool import WorkerPool
from fingergw.telemetry.access_log import AccessLog

_log = Logger()


class Gateway(MultiService):
    """All listeners and what they share.

    :param manager: who is told when it is ready, reloads and stops; None for nobody.
    :param now: the time of day, in seconds since 1970.
    """

    parts: Parts
    """What is active."""

    def __init__(
        self, reactor: Any, manager: ServiceManager | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failure: FingergwError | None = None
        """Why it had to stop by itself; None if it did not."""
        self.reloads: Counter[str] = Counter()
        """How many configurations after the first were ``applied``, or ``refused``."""
        self.last_reload_applied = True
        self.configured_at = 0.0
        """Since when what is active is, in seconds since 1970."""
        self.manager = manager or ServiceManager()
        self.workers = WorkerPool(reactor)
        """What converts what may take long."""
        self.reactor, self._now = reactor, now
        self._listeners: dict[tuple[str, int], ListenerService] = {}
        self._admin: BoundService[None] | None = None
        self._leaving: set[Deferred[Any]] = set()
        self._retiring: dict[IDelayedCall, list[Callable[[], object]]] = {}
        self._needed_until = 0.0  # by connections that came before the last reload
        self._store_changes = DeferredLock()

    @property
    def listeners(self) -> list[ListenerService]:
        """The listeners in file order."""
        return list(self._listeners.values())

    @property
    def _all(self) -> list[BoundService[Any]]:
        return [*self.listeners, *([] if self._admin is None else [self._admin])]

    def begin_with(self, parts: Parts) -> None:
        """Take what it consists of from its first configuration."""
        self.parts = parts
        self._listeners = {plan.place: ListenerService(plan, self.reactor) for plan in parts.plans}
        for listener in self.listeners:
            listener.setServiceParent(self)
        if parts.admin is not None:
            self._admin = BoundService(parts.admin, self.reactor)

    def connections_at(self, place: tuple[str, int]) -> Connections:
        """Return the connections of the listener at a place; new ones where there is none yet."""
        listener = self._listeners.get(place)
        return Connections(self.reactor) if listener is None else listener.connections

    def is_self(self, transport: ITransport) -> bool:
        """Tell whether a connection has one of the gateway's own listeners at its other end."""
        peer, own = transport.getPeer(), transport.getHost()
        ports = [listener.port for listener in self.listeners if listener.port is not None]
        return peer == own or any(leads_to(peer, own, port.getHost()) for port in ports)

    def unready(self) -> str:
        """Return why the gateway cannot answer all that it is there for; empty if it can."""
        if not self.running:
            return "starting, or finishing the last answers before it stops"
        return next((f"{each.plan.name} is not bound yet" for each in self.listeners if each.port is None), "")

    def privilegedStartService(self) -> None:
        """Bind all listeners, or none.

        :raises ListenError: one cannot be bound.
        """
        try:
            if self._admin is not None:
                self._admin.privilegedStartService()
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except ListenError:
            self.stopService()
            raise

    def startService(self) -> None:
        """Begin to serve.

        :raises PrivilegeError: the process is root, and another host could reach it.
        :raises FingergwError: the access log cannot be opened.
        """
        try:
            # a parent that was running before has not had it called
            self.privilegedStartService()
            refuse_root(self._all, self.parts.configuration.process.user)
            provide_descriptors(listener.rules.limits for listener in self.listeners)
            _open(self.parts.access_log)
        except FingergwError:
            self.stopService()
            raise
        if self.parts.converts:  # somebody will need them: now there are neither rights nor threads
            self._start_workers()
        if self.parts.store is not None:
            self.parts.store.start()
        super().startService()  # type: ignore[no-untyped-call]
        self.configured_at = self._now()
        self.manager.watch(self.reactor)
        self._starting = Deferred.fromCoroutine(self.tell_ready())

    def _start_workers(self) -> None:
        try:
            self.workers.start()
        except OSError as error:  # all else is answered, and it is tried again for each
            why = "no process to convert HTML pages and templates in, which fail until there is one: {why}"
            _log.error(why, why=error.strerror)

    async def tell_ready(self) -> None:
        """Wait until all is bound, and tell the service manager; stop if that fails."""
        try:
            for each in self._all:
                await each.bound()
        except ListenError as error:
            self._fail(error)
            return
        if self.running:
            count = len(self.listeners)
            refused = "" if self.last_reload_applied else "; the last reload was refused, see the log"
            self.manager.ready(f"serving {count} listener{'s' if count != 1 else ''}{refused}")

    def _fail(self, error: FingergwError) -> None:
        _log.critical("{error}", error=str(error))
        self.failure = error
        self.reactor.stop()

    async def change_to(self, parts: Parts) -> None:
        """Activate another configuration, or leave all as it is.

        New sockets are bound before any is closed, and those that stay are not touched. Connections have the rules that
        were active when they came, to their end.

        :raises FingergwError: it cannot be done, and nothing has changed.
        """
        before = self.parts
        fresh = {
            plan.place: ListenerService(plan, self.reactor) for plan in parts.plans if plan.place not in self._listeners
        }
        admin = self._admin if _is_same(before.admin, parts.admin) else None
        if parts.admin is not None and admin is None:
            admin = BoundService(parts.admin, self.reactor)
        bound: list[BoundService[Any]] = [*fresh.values(), *([admin] if admin not in (None, self._admin) else [])]
        try:
            for service in bound:
                service.privilegedStartService()
                await service.bound()
            refuse_root(bound, before.configuration.process.user)
            if not self.running:
                raise FingergwError("the gateway is stopping")
            if parts.access_log is not before.access_log:
                _open(parts.access_log)
        except BaseException:
            for service in bound:
                await service.stopService()
            raise
        self._activate(parts, fresh, admin)

    def _activate(
        self, parts: Parts, fresh: dict[tuple[str, int], ListenerService], admin: BoundService[None] | None
    ) -> None:
        """Change over, in one turn of the reactor."""
        before, self.parts = self.parts, parts
        while parts.on_activation:
            parts.on_activation.pop()()
        if parts.store is not before.store:
            self._leave(self._store_changes.run(_change_store, before.store, parts.store))
        settings = parts.configuration.cache
        parts.memory.resize(settings.max_entries, settings.max_bytes)
        listeners = {**self._listeners, **fresh}
        for place in listeners.keys() - {plan.place for plan in parts.plans}:
            self._leave(listeners.pop(place).disownServiceParent())
        if admin is not self._admin and self._admin is not None:
            self._leave(self._admin.stopService())
        elif admin is not None and parts.admin is not None:
            admin.activate(parts.admin)
        self._admin = admin
        self._listeners = {plan.place: listeners[plan.place] for plan in parts.plans}
        for plan in parts.plans:
            listener = self._listeners[plan.place]
            if plan.place in fresh:
                listener.setServiceParent(self)
            else:
                listener.activate(plan)
        provide_descriptors(listener.rules.limits for listener in self.listeners)
        self.configured_at = self._now()
        self._retire(before, parts)

    def _leave(self, leaving: Deferred[Any]) -> None:
        self._leaving.add(leaving)
        leaving.addBoth(lambda _: self._leaving.discard(leaving))

    def _retire(self, before: Parts, parts: Parts) -> None:
        """Close what is not active any more, once no connection that came before can need it."""
        limits = [plan.listener.rules.limits for plan in before.plans]
        longest = max((each.query_timeout + each.answer_timeout for each in limits), default=0.0)
        now = self.reactor.seconds()
        # a connection may have come under other rules yet, which let it last for longer
        self._needed_until = max(self._needed_until, now + longest + 2 * LINGER_SECONDS)
        closing = closing_of(before, but=parts)
        if not closing:
            return

        def close() -> None:
            del self._retiring[call]
            for each in closing:
                each()

        call: IDelayedCall = self.reactor.callLater(self._needed_until - now, close)
        self._retiring[call] = closing

    def stopService(self) -> Deferred[Any]:
        """Stop listening, let answers in flight finish, close the rest.

        :return: fires when all is closed.
        """
        self.manager.stopping()
        stopping: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        return DeferredList([stopping, *self._leaving]).addBoth(self._close)

    def _close(self, result: object) -> Deferred[Any]:
        closing = closing_of(self.parts, but=None)
        for call, retired in self._retiring.items():
            call.cancel()
            closing += retired
        self._retiring.clear()
        if self._admin is not None:
            closing.append(self._admin.stopService)
        closing.append(partial(self._store_changes.run, _change_store, self.parts.store, None))
        closing.append(lambda: Deferred.fromCoroutine(self.workers.stop()))
        self.manager.stop()
        return DeferredList([maybeDeferred(each) for each in closing]).addCallback(lambda _: result)


def _is_same(one: Plan[None] | None, other: Plan[None] | None) -> bool:
    return one is not None and other is not None and one.place == other.place


async def _change_store(before: GuardedStore | None, after: GuardedStore | None) -> None:
    """Close a store, without which queries go on, and then open another: it may be in the same file."""
    if before is not None:
        await before.stop()
    if after is not None:
        after.start()


def _open(access_log: AccessLog) -> None:
    try:
        access_log.open()
    except OSError as error:
        raise FingergwError(f"access log {access_log.path}: {error.strerror}") from None
