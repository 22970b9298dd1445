"""Sockets that listen, and what is active there."""

from __future__ import annotations

from collections.abc import Callable
from select import POLLIN, poll
from typing import Any, Generic, TypeVar

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, ILoggingContext, IProtocolFactory, IReactorCore
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.errors import ListenError
from fingergw.listen.endpoints import parse

L = TypeVar("L")

_log = Logger()
_MAX_QUEUED = 10_000  # connections in a socket's queue that are taken before it is closed


@frozen(eq=False)
class Plan(Generic[L]):
    """What is to be active at a socket.

    :param name: what to call it in messages, such as ``listener "public"``.
    :param description: its endpoint string.
    :param place: the part of that which says where it listens, and how many before it do so at the same place, as any
        number can at port 0. As long as it is the same, so is the socket.
    :param factory: what makes its connections, TLS and all.
    :param listener: the listener that these are of; None for what is no listener.
    """

    name: str
    description: str
    place: tuple[str, int]
    factory: IProtocolFactory
    listener: L


@implementer(ILoggingContext)
class _Active(ServerFactory):
    """Hand each new connection to the factory that is active."""

    noisy = False

    def __init__(self, plan: Plan[Any]) -> None:
        self.plan = plan

    def logPrefix(self) -> str:
        """Return what Twisted calls it where it logs that it listens."""
        return self.plan.name

    def stopFactory(self) -> None:
        """Let the factory end what has no answer under way."""
        stop: Callable[[], object] | None = getattr(self.plan.factory, "stopFactory", None)
        if stop is not None:
            stop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self.plan.factory.buildProtocol(addr)  # type: ignore[arg-type, return-value]  # a unix client has no address


class BoundService(Service, Generic[L]):
    """One socket: binds when privileged, and hands its connections to what is active."""

    def __init__(self, plan: Plan[L], reactor: IReactorCore) -> None:
        self.port: IListeningPort | None = None
        self._active = _Active(plan)
        self._reactor = reactor
        self._error: ListenError | None = None
        self._binding: Deferred[None] | None = None

    @property
    def plan(self) -> Plan[L]:
        """What is active."""
        return self._active.plan

    def activate(self, plan: Plan[L]) -> None:
        """Hand new connections to another factory from now on."""
        self._active.plan = plan

    def privilegedStartService(self) -> None:
        """Bind, unless that is done.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        if self._binding is not None:
            return
        self._error = None
        try:
            endpoint = parse(self.plan.place[0], self._reactor)
        except ListenError as error:
            raise self._failed(str(error)) from None
        binding = maybeDeferred(endpoint.listen, self._active)
        self._binding = binding.addCallbacks(self._bound, self._not_bound)
        if self._error is not None:
            raise self._error

    async def bound(self) -> None:
        """Wait until it is bound, which outlasts the start with some kinds of endpoint, or stopped.

        :raises ListenError: it cannot be bound.
        """
        if self._binding is not None:
            await self._binding
        if self._error is not None:
            raise self._error

    def _bound(self, port: IListeningPort) -> None:
        self.port = port

    def _not_bound(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        cause = failure.value
        system = getattr(cause, "socketError", cause)
        self._error = self._failed(getattr(system, "strerror", None) or str(cause))

    def _failed(self, why: str) -> ListenError:
        return ListenError(f"{self.plan.name} ({self.plan.description}) cannot be bound: {why}")

    def stopService(self) -> Deferred[None]:
        """Stop listening.

        :return: fires when that is done.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._binding is not None:
            self._binding.cancel()
            self._binding = None
        port, self.port = self.port, None
        if port is None:
            return succeed(None)
        _take_queued(port)
        stopping: Deferred[None] = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        return stopping.addErrback(self._not_removed)

    def _not_removed(self, failure: Failure) -> None:
        # The process that could make a unix socket has given up what it takes to remove it. The next start does that.
        why = getattr(failure.value, "strerror", None) or str(failure.value)
        _log.info("{name}: its socket is left behind: {why}", name=self.plan.name, why=why)


def _take_queued(port: IListeningPort) -> None:
    """Take the connections that wait in a socket's queue: closing it would reset them."""
    do_read: Callable[[], object] | None = getattr(port, "doRead", None)
    fileno: Callable[[], int] | None = getattr(port, "fileno", None)
    if do_read is None or fileno is None or fileno() < 0:
        return
    queue = poll()
    queue.register(fileno(), POLLIN)
    for _ in range(_MAX_QUEUED):
        if not queue.poll(0):
            return
        do_read()
