"""Listening sockets, and what is active at each."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable
from pathlib import Path
from select import POLLIN, poll
from socket import gaierror
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
from fingergw.listen.endpoint_strings import split, unquote
from fingergw.listen.endpoints import parse
from fingergw.net.root import below

L = TypeVar("L")

_log = Logger()
_MAX_QUEUED = 10_000  # connections accepted from a socket's queue before it is closed


@frozen(eq=False)
class Plan(Generic[L]):
    """What is to be active at a socket.

    :param name: its name in messages, such as ``listener "public"``.
    :param description: its endpoint string.
    :param place: the endpoint string of the socket alone, and how many sockets before this one have the same, as any
        number can at port 0. A socket stays open as long as its place stays the same.
    :param factory: makes its connections, TLS included.
    :param listener: the listener that they belong to; None if there is none.
    """

    name: str
    description: str
    place: tuple[str, int]
    factory: IProtocolFactory
    listener: L


@implementer(ILoggingContext)
class _Active(ServerFactory):
    """Pass each new connection to the factory that is active."""

    noisy = False

    def __init__(self, plan: Plan[Any]) -> None:
        self.plan = plan

    def logPrefix(self) -> str:
        """Return the name that Twisted logs for it."""
        return self.plan.name

    def stopFactory(self) -> None:
        """Let the factory close its idle connections."""
        stop: Callable[[], object] | None = getattr(self.plan.factory, "stopFactory", None)
        if stop is not None:
            stop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self.plan.factory.buildProtocol(addr)  # type: ignore[arg-type, return-value]  # a unix client has no address


class BoundService(Service, Generic[L]):
    """One listening socket, which is bound while the process is privileged; the active plan serves its connections."""

    def __init__(self, plan: Plan[L], reactor: IReactorCore) -> None:
        self.port: IListeningPort | None = None
        self._active = _Active(plan)
        self._reactor = reactor
        self._error: ListenError | None = None
        self._binding: Deferred[None] | None = None

    @property
    def plan(self) -> Plan[L]:
        """The active plan."""
        return self._active.plan

    def activate(self, plan: Plan[L]) -> None:
        """Pass new connections to another plan's factory from now on."""
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
        """Wait until it is bound, which may take longer than the start with some types of endpoint, or is stopped.

        :raises ListenError: it cannot be bound.
        """
        if self._binding is not None:
            await self._binding
        if self._error is not None:
            raise self._error

    def _bound(self, port: IListeningPort) -> None:
        self.port = port

    def _not_bound(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._error = self._failed(_reason(failure.value, self.plan.place[0]))

    def _failed(self, why: str) -> ListenError:
        return ListenError(f"{self.plan.name} ({self.plan.description}) cannot be bound: {why}")

    def stopService(self) -> Deferred[None]:
        """Stop listening.

        :return: fires when the socket is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._binding is not None:
            self._binding.cancel()
            self._binding = None
        port, self.port = self.port, None
        if port is None:
            return succeed(None)
        _accept_queued(port)
        stopping: Deferred[None] = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        return stopping.addErrback(self._not_removed)

    def _not_removed(self, failure: Failure) -> None:
        # The process that made a unix socket has given up the rights to remove it. The next start does that.
        why = getattr(failure.value, "strerror", None) or str(failure.value)
        _log.info(
            "{name}: its socket is left behind, and the next start replaces it: {why}", name=self.plan.name, why=why
        )


def _reason(error: BaseException | None, socket_string: str) -> str:
    """Return why a socket cannot be bound, and what to do about it.

    :param socket_string: the endpoint string of the socket.
    """
    error = getattr(error, "socketError", error)  # of a CannotListenError; Twisted has a text there for a lock
    why, number = getattr(error, "strerror", None) or str(error) or type(error).__name__, getattr(error, "errno", None)
    kind, *arguments = split(socket_string)
    if kind == "unix":
        path = below(Path(unquote(arguments[0])))
        folder = shlex.quote(str(path.parent))
        if why == "Cannot acquire lock":
            return f"another process has this socket, as {path}.lock says; stop that process, or name another path"
        if why == "AF_UNIX path too long":
            return "the path of a unix socket has at most 107 bytes; name a shorter one"
        advice = {
            errno.EADDRINUSE: "stop the process that listens there, or remove the file; or name another path",
            errno.EACCES: f"let the user that starts the gateway write to {folder}, or name another path",
            errno.ENOENT: f"make its folder: mkdir -p {folder}",
        }
    elif isinstance(error, gaierror):
        return f"{why}; interface= takes an IP address of this machine"
    else:
        advice = {
            errno.EADDRINUSE: "stop the process that has it (ss -lntp lists them), or choose another port",
            errno.EADDRNOTAVAIL: "interface= takes an IP address of this machine (ip address lists them)",
            errno.EACCES: "start as root for a port below 1024, or let systemd pass the socket",
        }
    return f"{why}; {advice[number]}" if number in advice else why


def _accept_queued(port: IListeningPort) -> None:
    """Accept the connections that wait in a socket's queue: closing it would reset them."""
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
