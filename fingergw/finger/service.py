"""The Twisted service of one listener."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from fingergw.core.rules import Rules
from fingergw.finger.connections import Connections
from fingergw.finger.listener import Listener
from fingergw.listen.binding import BoundService, Plan


class ListenerService(BoundService[Listener]):
    """A listener that drains its connections when it is stopped."""

    @property
    def rules(self) -> Rules:
        """The active rules."""
        return self.plan.listener.rules

    @property
    def connections(self) -> Connections:
        """All connections, those under earlier rules too."""
        return self.plan.listener.connections

    def privilegedStartService(self) -> None:
        """Bind, unless it is bound already.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        self.connections.draining = False
        self.plan.listener.activate(None)
        super().privilegedStartService()

    def activate(self, plan: Plan[Listener]) -> None:
        """Use other rules for new connections."""
        before = self.plan.listener
        super().activate(plan)
        plan.listener.activate(before)

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let pending answers finish.

        :return: fires when the last connection is closed.
        """
        return super().stopService().addCallback(lambda _: self.connections.drain())
