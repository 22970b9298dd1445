"""The service of one listener."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from fingergw.core.rules import Rules
from fingergw.finger.connections import Connections
from fingergw.finger.listener import Listener
from fingergw.listen.binding import BoundService, Plan


class ListenerService(BoundService[Listener]):
    """One listener: drains when stopped."""

    @property
    def rules(self) -> Rules:
        """Those that are active."""
        return self.plan.listener.rules

    @property
    def connections(self) -> Connections:
        """Those there are, under these rules and under others before them."""
        return self.plan.listener.connections

    def privilegedStartService(self) -> None:
        """Bind, unless that is done.

        :raises ListenError: the endpoint cannot be bound; the message says which and why.
        """
        self.connections.draining = False
        self.plan.listener.activate(None)
        super().privilegedStartService()

    def activate(self, plan: Plan[Listener]) -> None:
        """Have other rules for new connections from now on."""
        before = self.plan.listener
        super().activate(plan)
        plan.listener.activate(before)

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let the answers that are under way finish.

        :return: fires when the last connection is closed.
        """
        return super().stopService().addCallback(lambda _: self.connections.drain())
