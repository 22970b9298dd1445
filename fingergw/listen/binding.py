"""Listening sockets, and what is active at each."""

from __future__ import annotations

from collections.abc import Callable
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, ILoggingContext, IProtocolFactory
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.errors import ListenError
from fingergw.listen.bind_errors import reason
from fingergw.listen.endpoints import parse
from fingergw.listen.unix_sockets import UnixPort

if TYPE_CHECKING:  # it is loaded where there is TLS
    from fingergw.listen.certificates import Wrap

_log = Logger()
_MAX_QUEUED = 10_000  # connections accepted from a socket's queue before it is closed


class Socket(NamedTuple):
    """A socket to bind.

    :param name: its name in messages, such as ``listener "public"``.
    :param description: its endpoint string.
    :param place: the endpoint string of the socket alone, and how many sockets before this one have the same, as any
        number can at port 0. A socket stays open as long as its place stays the same.
    :param wrap: puts TLS before the factory of its connections, if the endpoint has TLS.
    """

    name: str
    description: str
    place: tuple[str, int]
    wrap: Wrap


@implementer(ILoggingContext)
class _Active(ServerFactory):
    """Pass each new connection to the factory that is active."""

    noisy = False

    def __init__(self, socket: Socket, factory: IProtocolFactory) -> None:
        self.activate(socket, factory)

    def activate(self, socket: Socket, factory: IProtocolFactory) -> None:
        self.socket, self.factory, self._wrapped = socket, factory, socket.wrap(factory)

    @property
    def is_plain(self) -> bool:
        return self._wrapped is self.factory

    def logPrefix(self) -> str:
        """Return the name that Twisted logs for it."""
        return self.socket.name

    def stopFactory(self) -> None:
        """Let the factory close its idle connections; one that puts TLS before it does not pass this on."""
        stop: Callable[[], object] | None = getattr(self.factory, "stopFactory", None)
        if stop is not None:
            stop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._wrapped.buildProtocol(addr)  # type: ignore[arg-type, return-value]  # a unix client has no address


class BoundService(Service):
    """One listening socket, which is bound while the process is privileged; one factory at a time serves it."""

    def __init__(self, socket: Socket, factory: IProtocolFactory, reactor: Any) -> None:
        self.port: IListeningPort | None = None
        self._active = _Active(socket, factory)
        self.reactor = reactor
        self._error: ListenError | None = None
        self._binding: Deferred[None] | None = None

    @property
    def socket(self) -> Socket:
        """The socket, as the active configuration has it."""
        return self._active.socket

    def activate(self, socket: Socket, factory: IProtocolFactory) -> None:
        """Pass new connections to another factory from now on.

        :param socket: the same place, perhaps with another name, or other TLS.
        """
        self._active.activate(socket, factory)

    def privilegedStartService(self) -> None:
        """Bind, unless that is done.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        if self._binding is not None:
            return
        self._error = None
        try:
            endpoint = parse(self.socket.place[0], self.reactor)
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

    def restore(self) -> None:
        """Make the file of a unix socket anew if it is gone, or another's by now. No connection is lost.

        :raises ListenError: it cannot be bound.
        """
        port = self.port
        if not isinstance(port, UnixPort) or port.is_in_place:
            return
        _accept_queued(port)
        try:
            port.restore()
        except (OSError, ListenError) as error:
            raise self._failed(self._why(error)) from None
        _log.warn("{name}: its socket's file was gone, and has been made anew", name=self.socket.name)

    def _bound(self, port: IListeningPort) -> None:
        self.port = port
        self.began_listening(port)

    def began_listening(self, port: IListeningPort) -> None:
        """Note that it is bound, and listens at this port. Here that means nothing."""

    @property
    def plain_factory(self) -> IProtocolFactory | None:
        """The factory that serves new connections, if nothing, such as TLS, comes before it."""
        return self._active.factory if self._active.is_plain else None

    def _not_bound(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._error = self._failed(self._why(failure.value))

    def _why(self, error: BaseException | None) -> str:
        sockets = ((getattr(each, "factory", None), each) for each in self.reactor.getReaders())
        others = [
            (active.socket.name, port.getHost())
            for active, port in sockets
            if isinstance(active, _Active) and active is not self._active
        ]
        return reason(error, self.socket.place[0], others)

    def _failed(self, why: str) -> ListenError:
        return ListenError(f"{self.socket.name} ({self.socket.description}) cannot be bound: {why}")

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
        if isinstance(port, UnixPort):
            port.withdraw()
        _accept_queued(port)
        stopping: Deferred[None] = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        return stopping.addErrback(self._not_removed)

    def _not_removed(self, failure: Failure) -> None:
        # The process that made a unix socket has given up the rights to remove it. The next start does that.
        why = getattr(failure.value, "strerror", None) or str(failure.value)
        _log.info(
            "{name}: its socket is left behind, and the next start replaces it: {why}", name=self.socket.name, why=why
        )


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
