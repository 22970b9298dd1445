"""The service that all listeners are part of, and that changes from one configuration to the next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fingergw.app.environment import Environment
from fingergw.app.parts.parts import Parts
from fingergw.app.privileges import provide_descriptors, refuse_root
from fingergw.app.systemd import ServiceManager
from fingergw.cache.guarded import GuardedStore
from fingergw.core.errors import FingergwError, ListenError
from fingergw.finger.listener import LINGER_SECONDS
from fingergw.finger.service import ListenerService
from fingergw.listen.binding import BoundService
from fingergw.listen.passed_sockets import refuse_untaken
from fingergw.telemetry.access_log import AccessLog

_log = Logger()
_ADMIN = "admin"  # the name of its service, unless a listener has it


class Operation(Protocol):
    """What signals do to a gateway."""

    def begin(self) -> None:
        """Have signals do it, as clients are about to be served."""

    def end(self) -> None:
        """Have signals do what they did before, as all is closed."""


class Gateway(MultiService):
    """All listeners, and the parts that they share.

    Each listener's service is a child, by the listener's name; that of the admin pages is found as ``admin``.

    :param environment: what the parts were built for.
    :param parts: what is active.
    :param manager: the service manager, which is told when it is ready, reloads and stops.
    """

    def __init__(self, environment: Environment, parts: Parts, manager: ServiceManager) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.environment, self.parts, self.manager = environment, parts, manager
        self.reactor, self.workers = environment.reactor, environment.workers
        self.operation: Operation | None = None
        """What signals do; None for nothing."""
        self.failure: FingergwError | None = None
        """Why it has stopped by itself; None if it has not."""
        self.reloads: Counter[str] = Counter()
        """How many configurations after the first were ``applied``, or ``refused``."""
        self.last_reload_applied = True
        self.configured_at = 0.0
        """When the active parts became active, in seconds since 1970."""
        self.admin = self._admin_of(parts, None)
        """The admin pages; None without ``[admin]``. No child, as it is stopped last."""
        environment.listeners = {
            socket.place: ListenerService(socket, listener, self.reactor) for socket, listener in parts.listeners
        }
        for listener in self.listeners:
            listener.setServiceParent(self)
        self._name_services()
        self._stopping: set[Deferred[Any]] = set()  # services and stores that are no longer active
        self._retiring: set[Deferred[None]] = set()  # parts that are to be closed
        self._needed_until = 0.0  # by connections that came before the last reload
        self._store_changes = DeferredLock()

    @property
    def listeners(self) -> list[ListenerService]:
        """The listeners in file order."""
        return list(self.environment.listeners.values())

    @property
    def _services(self) -> list[BoundService]:
        return [*self.listeners, *([] if self.admin is None else [self.admin])]

    def _name_services(self) -> None:
        """Name each service as its listener is named at present; a reload may have given one's name to another."""
        services = {} if self.admin is None else {_ADMIN: self.admin}
        for listener in self.listeners:
            listener.name = listener.rules.listener
            services[listener.name] = listener
        others = {name: each for name, each in self.namedServices.items() if not isinstance(each, BoundService)}
        self.namedServices = {**others, **services}

    def _admin_of(self, parts: Parts, previous: BoundService | None) -> BoundService | None:
        """Return the service of a configuration's admin pages: the previous one, if its place is the same."""
        if parts.admin is None:
            return None
        socket, make_site = parts.admin
        if previous is not None and previous.socket.place == socket.place:
            return previous
        return BoundService(socket, make_site(self), self.reactor)

    def unready(self) -> str:
        """Return why the gateway cannot answer all queries; empty if it can."""
        if not self.running:
            return "starting, or finishing the last answers before it stops"
        return next((f"{each.socket.name} is not bound yet" for each in self.listeners if each.port is None), "")

    def privilegedStartService(self) -> None:
        """Bind all listeners, or none.

        :raises FingergwError: one cannot be bound, or systemd has passed a socket that is for none of them.
        """
        try:
            refuse_untaken([each.socket.place[0] for each in self._services], self.reactor)
            if self.admin is not None:
                self.admin.privilegedStartService()
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except FingergwError:
            self.stopService()
            raise

    def startService(self) -> None:
        """Begin to serve.

        :raises PrivilegeError: the process is root, and another host could reach it.
        :raises FingergwError: the access log cannot be opened.
        """
        try:
            # not called before, if the parent was running when it was added
            self.privilegedStartService()
            refuse_root(self._services, self.parts.configuration.process.user)
            provide_descriptors(listener.rules.limits for listener in self.listeners)
            try:
                self.parts.access_log.open()
            except OSError as error:
                raise _not_opened(self.parts.access_log, error) from None
        except FingergwError:
            self.stopService()
            raise
        if any(backend.site.converts for backend in self.parts.backends.values()):
            self._start_workers()  # now, as there are no rights to give up any more, and no threads yet
        if self.parts.store is not None:
            self.parts.store.start()
        if self.operation is not None:  # before a supervisor learns that it is ready, and may send a signal at once
            self.operation.begin()
        super().startService()  # type: ignore[no-untyped-call]
        self.configured_at = time.time()
        self.manager.watch(self.reactor)
        Deferred.fromCoroutine(self.tell_ready())

    def _start_workers(self) -> None:
        try:
            self.workers.start()
        except OSError as error:  # other answers need none, and each of these tries again
            why = "HTML pages and templates fail until a worker process can be started: {why}"
            _log.error(why, why=error.strerror)

    async def bound(self) -> None:
        """Wait until everything is bound, which takes longer than the start with some types of endpoint.

        :raises ListenError: something cannot be bound.
        """
        for service in self._services:
            await service.bound()

    async def tell_ready(self) -> None:
        """Wait until everything is bound, and tell the service manager; stop if that fails."""
        try:
            await self.bound()
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
        """Activate the next configuration, or leave everything as it is.

        New sockets are bound before any is closed, and those that stay are not touched, unless the file of one is gone.
        A connection keeps the rules that were active when it came.

        :param parts: what it was built into, with the active parts as the previous ones.
        :raises FingergwError: it cannot be activated, and nothing has changed.
        """
        previous, listeners = self.parts, self.environment.listeners
        services = {
            socket.place: listeners.get(socket.place) or ListenerService(socket, listener, self.reactor)
            for socket, listener in parts.listeners
        }
        to_bind: list[BoundService] = [each for place, each in services.items() if place not in listeners]
        admin = self._admin_of(parts, self.admin)
        if admin is not None and admin is not self.admin:
            to_bind.append(admin)
        kept: list[BoundService] = [each for place, each in services.items() if place in listeners]
        if admin is not None and admin is self.admin:
            kept.append(admin)
        refuse_untaken([each.socket.place[0] for each in (*kept, *to_bind)], self.reactor)
        for service in kept:
            service.restore()
        try:
            for service in to_bind:
                service.privilegedStartService()
                await service.bound()
            refuse_root(to_bind, previous.configuration.process.user)
            if parts.access_log is not previous.access_log:
                await _open(parts.access_log)
            if not self.running:
                raise FingergwError("the gateway is stopping")
        except BaseException:
            for service in to_bind:
                await service.stopService()
            raise
        # from here on there is no await: all changes in one turn of the reactor
        self.parts = parts
        parts.take_over()
        if parts.store is not previous.store:
            self._wait_for(self._store_changes.run(_change_store, previous.store, parts.store))
        for place in listeners.keys() - services.keys():
            self._wait_for(listeners[place].disownServiceParent())
        if self.admin is not None and self.admin is not admin:
            self._wait_for(self.admin.stopService())
        elif parts.admin is not None and self.admin is not None:
            socket, make_site = parts.admin
            self.admin.activate(socket, make_site(self))
        self.admin = admin
        for socket, listener in parts.listeners:
            if socket.place in listeners:
                listeners[socket.place].change(socket, listener)
            else:
                services[socket.place].setServiceParent(self)
        self.environment.listeners = services
        self._name_services()
        provide_descriptors(listener.rules.limits for listener in self.listeners)
        self.configured_at = time.time()
        self._retire(previous)

    def _wait_for(self, stopping: Deferred[Any]) -> None:
        """Have the end of the gateway wait for that of a service or store."""
        self._stopping.add(stopping)
        stopping.addErrback(lambda failure: _log.failure("a part of the gateway cannot be stopped", failure))
        stopping.addBoth(lambda _: self._stopping.discard(stopping))

    def _retire(self, previous: Parts) -> None:
        """Close the parts that are no longer active, once no connection from before the reload can need them."""
        limits = [listener.rules.limits for _, listener in previous.listeners]
        longest = max((each.query_timeout + each.answer_timeout for each in limits), default=0.0)
        now = self.reactor.seconds()
        # a connection may be from an earlier configuration, whose limits were longer
        self._needed_until = max(self._needed_until, now + longest + 2 * LINGER_SECONDS)
        closers = previous.closers(keeping=self.parts)
        if closers:
            waiting: Deferred[None] = deferLater(self.reactor, self._needed_until - now)  # or until a stop cancels it
            self._retiring.add(waiting)
            waiting.addBoth(lambda _: self._retiring.discard(waiting))
            waiting.addCallback(lambda _: self._wait_for(_all(closers)))

    def stopService(self) -> Deferred[Any]:
        """Stop listening, let answers in flight finish, close the rest.

        :return: fires when all is closed.
        """
        self.manager.stopping()
        stopping: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        return DeferredList([stopping, *self._stopping]).addBoth(self._close)

    def _close(self, result: object) -> Deferred[Any]:
        for waiting in tuple(self._retiring):
            waiting.cancel()
        closers = self.parts.closers(keeping=None)
        if self.admin is not None:
            closers.append(self.admin.stopService)
        closers.append(partial(self._store_changes.run, _change_store, self.parts.store, None))
        closers.append(self.workers.stop)
        self.manager.stop()
        return DeferredList([_all(closers), *self._stopping]).addCallback(lambda _: self._ended(result))

    def _ended(self, result: object) -> object:
        if self.operation is not None:
            self.operation.end()
        return result


def _all(closers: Iterable[Callable[[], object]]) -> Deferred[Any]:
    return DeferredList([maybeDeferred(close) for close in closers])


async def _change_store(previous: GuardedStore | None, following: GuardedStore | None) -> None:
    """Close a store, without which queries go on, and then open the next, which may be in the same file."""
    if previous is not None:
        await previous.stop()
    if following is not None:
        following.start()


async def _open(access_log: AccessLog) -> None:
    try:
        await access_log.open_while_running()
    except OSError as error:
        raise _not_opened(access_log, error) from None


def _not_opened(access_log: AccessLog, error: OSError) -> FingergwError:
    return FingergwError(f"access log {access_log.path}: {error.strerror}")
