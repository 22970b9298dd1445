"""The Twisted service of one listener."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore

from fingergw.core.rules import Rules
from fingergw.finger.connections import Connections
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import Listener
from fingergw.listen.binding import BoundService, Socket


class ListenerService(BoundService):
    """A listener that drains its connections when it is stopped."""

    def __init__(self, socket: Socket, listener: Listener, reactor: IReactorCore) -> None:
        super().__init__(socket, FingerFactory(listener), reactor)
        self.listener = listener

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

    def change(self, socket: Socket, listener: Listener) -> None:
        """Use other rules for new connections."""
        before, self.listener = self.listener, listener
        self.activate(socket, FingerFactory(listener))
        listener.activate(before)

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let pending answers finish.

        :return: fires when the last connection is closed.
        """
        return super().stopService().addCallback(lambda _: self.connections.drain())
