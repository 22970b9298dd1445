"""The services that a gateway is made of: one a listener, and one for all of them."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorCore, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool

from fingergw.access_log import AccessLog
from fingergw.cache.backend import CachedBackend
from fingergw.errors import FingergwError, ListenError, PrivilegeError
from fingergw.factory import FingerFactory
from fingergw.listening import is_reachable, leads_to, parse
from fingergw.stores.guarded import GuardedStore

_log = Logger()
_OTHER_DESCRIPTORS = 64  # the event loop's, logs, stores, listening sockets, pipes of programs


class ListenerService(Service):
    """One listener: binds when privileged, drains when stopped.

    :param name: the listener's name.
    :param description: its endpoint string.
    :param on_late_failure: called with the error where binding outlasts the start and then fails.
    """

    def __init__(
        self,
        name: str,
        description: str,
        factory: FingerFactory,
        reactor: IReactorCore,
        on_late_failure: Callable[[ListenError], object],
    ) -> None:
        self.name = name
        self.description = description
        self.factory = factory
        self.port: IListeningPort | None = None
        self._reactor = reactor
        self._on_late_failure = on_late_failure
        self._error: ListenError | None = None
        self._late = False
        self._binding: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Bind, unless that is done.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        if self._binding is not None:
            return
        self._error, self._late = None, False
        try:
            endpoint = parse(self.description, self._reactor)
        except ListenError as error:
            raise self._failed(str(error)) from None
        binding = maybeDeferred(endpoint.listen, self.factory)
        self._binding = binding.addCallbacks(self._bound, self._not_bound)
        if self._error is not None:
            raise self._error
        self._late = True

    def _bound(self, port: IListeningPort) -> None:
        self.port = port

    def _not_bound(self, failure: Failure) -> None:
        cause = failure.value
        system = getattr(cause, "socketError", cause)
        self._error = self._failed(getattr(system, "strerror", None) or str(cause))
        if self._late:
            self._on_late_failure(self._error)

    def _failed(self, why: str) -> ListenError:
        return ListenError(f'listener "{self.name}" ({self.description}) cannot be bound: {why}')

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let the answers that are under way finish.

        :return: fires when the last connection is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._late = False
        if self._binding is not None:
            self._binding.cancel()
            self._binding = None
        port, self.port = self.port, None
        stopping = maybeDeferred(port.stopListening) if port is not None else succeed(None)
        stopping.addErrback(self._not_removed)
        return stopping.addCallback(lambda _: self.factory.drain())

    def _not_removed(self, failure: Failure) -> None:
        # The process that could make a unix socket has given up what it takes to remove it. The next start does that.
        why = getattr(failure.value, "strerror", None) or str(failure.value)
        _log.info('listener "{name}": its socket is left behind: {why}', name=self.name, why=why)


class Gateway(MultiService):
    """All listeners and what they share.

    :param user: the user that the configuration wants the process to be; None if it does not say.
    :param failure: why it had to stop by itself; None if it did not.
    """

    def __init__(self, user: str | None, access_log: AccessLog, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failure: FingergwError | None = None
        self.pools: list[HTTPConnectionPool] = []
        self.caches: list[CachedBackend] = []
        self.store: GuardedStore | None = None
        self._user = user
        self._access_log = access_log
        self._reactor = reactor

    @property
    def listeners(self) -> list[ListenerService]:
        """The listeners in file order."""
        return [service for service in self if isinstance(service, ListenerService)]

    def is_self(self, transport: ITransport) -> bool:
        """Tell whether a connection has one of the gateway's own listeners at its other end."""
        peer, own = transport.getPeer(), transport.getHost()
        ports = [listener.port for listener in self.listeners if listener.port is not None]
        return peer == own or any(leads_to(peer, own, port.getHost()) for port in ports)

    def privilegedStartService(self) -> None:
        """Bind all listeners, or none.

        :raises ListenError: one cannot be bound.
        """
        try:
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
            super().privilegedStartService()  # type: ignore[no-untyped-call]
            self._refuse_root()
            self._provide_descriptors()
            self._access_log.open()
        except OSError as error:
            self.stopService()
            raise FingergwError(f"access log {self._access_log.path}: {error.strerror}") from None
        except FingergwError:
            self.stopService()
            raise
        if self.store is not None:
            self.store.start()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[Any]:
        """Stop listening, let answers in flight finish, close the rest.

        :return: fires when all is closed.
        """
        stopping: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        return stopping.addBoth(self._close)

    def _close(self, result: object) -> Deferred[Any]:
        self._access_log.close()
        for cache in self.caches:
            cache.stop()
        closing = [pool.closeCachedConnections() for pool in self.pools]
        if self.store is not None:
            closing.append(Deferred.fromCoroutine(self.store.stop()))
        return gatherResults(closing).addCallback(lambda _: result)

    def _refuse_root(self) -> None:
        if os.geteuid() != 0 or self._user in ("root", "0"):
            return
        reachable = [
            listener.name
            for listener in self.listeners
            if listener.port is not None and is_reachable(listener.port.getHost())
        ]
        advice = 'name an ordinary user in [process] user, or "root" to insist'
        if self._user is not None:
            advice = "start it by fingergw, or give the Application the uid and gid to change to"
        if reachable:
            names = ", ".join(f'"{name}"' for name in reachable)
            raise PrivilegeError(f"running as root, and other hosts can reach the listener {names}: {advice}")
        _log.warn("running as root; {advice}", advice=advice)

    def _provide_descriptors(self) -> None:
        """Raise the limit on file descriptors to what the listeners may take, as far as it can be raised."""
        limits = [listener.factory.limits for listener in self.listeners]
        # a connection has one, and while it waits for a backend often another
        needed = _OTHER_DESCRIPTORS + sum(each.max_connections + each.max_waiting for each in limits)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return
        provided = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (provided, hard))
        except (OSError, ValueError):  # a sandbox, or a kernel's own limit
            provided = soft
        if provided < needed:
            _log.warn(
                "{needed} file descriptors may be needed, and there may be {provided}: raise the limit (ulimit -n, or "
                "LimitNOFILE= under systemd), or lower max_connections and max_waiting",
                needed=needed,
                provided=provided,
            )

    def listener_failed(self, error: FingergwError) -> None:
        """Stop everything, as a listener could not be bound after the start."""
        _log.critical("{error}", error=str(error))
        self.failure = error
        self._reactor.stop()
