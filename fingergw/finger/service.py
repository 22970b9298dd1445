"""The Twisted service of one listener."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorCore

from fingergw.core.rules import Rules
from fingergw.finger.connections import Connections
from fingergw.finger.factory import FingerFactory
from fingergw.finger.fast_path import FastPath, is_available
from fingergw.finger.listener import Listener
from fingergw.listen.binding import BoundService, Socket


class ListenerService(BoundService):
    """A listener that drains its connections when it is stopped."""

    def __init__(self, socket: Socket, listener: Listener, reactor: IReactorCore) -> None:
        super().__init__(socket, FingerFactory(listener), reactor)
        self.listener = listener
        self._fast_path: FastPath | None = None

    @property
    def rules(self) -> Rules:
        """The active rules."""
        return self.listener.rules

    @property
    def connections(self) -> Connections:
        """All connections, those under earlier rules too."""
        return self.listener.connections

    def privilegedStartService(self) -> None:
        """Bind, unless it is bound already.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        self.connections.draining = False
        self.listener.activate(None)
        super().privilegedStartService()

    def began_listening(self, port: IListeningPort) -> None:
        """Take the fast path for its connections, where there is one."""
        if is_available(port):
            self._fast_path = FastPath(port, self._plain_factory, self.reactor)  # type: ignore[arg-type]

    def _plain_factory(self) -> FingerFactory | None:
        factory = self.plain_factory
        return factory if isinstance(factory, FingerFactory) else None

    def change(self, socket: Socket, listener: Listener) -> None:
        """Use other rules for new connections."""
        before, self.listener = self.listener, listener
        self.activate(socket, FingerFactory(listener))
        listener.activate(before)

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let pending answers finish.

        :return: fires when the last connection is closed.
        """
        stopping = super().stopService()
        if self._fast_path is not None:
            self._fast_path.end()
            self._fast_path = None
        return stopping.addCallback(lambda _: self.connections.drain())
