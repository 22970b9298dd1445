"""All connections of a listener: what stays over reloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fingergw.core.admission import ConnectionCounts
from fingergw.core.rules import Limits
from fingergw.finger.deadlines import Deadlines, Expiring
from fingergw.telemetry.meters import ListenerMeter, RejectReason


class Connection(Expiring, Protocol):
    """An open connection."""

    def give_up(self) -> None:
        """Answer that too many queries wait for a backend, in place of the answer that this one waits for."""

    def drain(self) -> None:
        """Close soon, unless an answer is pending or being sent."""


@define(eq=False, repr=False)
class Connections:
    """The connections of a listener. A reload replaces the listener's rules, but not these.

    :param open: all open connections. They keep this, and ``rejected``, up to date themselves.
    :param entered: how many connections count towards ``max_connections``.
    :param rejected: how many of those that are open were rejected, and do not count.
    :param waiting: how many queries wait for a backend.
    :param per_client: how many connections each client has.
    :param meter: counts what became of the connections.
    :param seconds: returns the time.
    :param draining: whether the listener has stopped.
    """

    clock: IReactorTime
    open: set[Connection] = field(init=False, factory=set)
    entered: int = field(init=False, default=0)
    rejected: int = field(init=False, default=0)
    waiting: int = field(init=False, default=0)
    per_client: ConnectionCounts = field(init=False, factory=ConnectionCounts)
    meter: ListenerMeter = field(init=False, factory=ListenerMeter)
    deadlines: Deadlines = field(init=False)
    seconds: Callable[[], float] = field(init=False)
    draining: bool = field(init=False, default=False)
    _waiting: dict[str | None, dict[Connection, None]] = field(init=False, factory=dict)  # by client, the newest last
    _drained: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self.open, self.clock)
        self.seconds = self.clock.seconds

    def enter(self, client: str | None, limits: Limits) -> RejectReason | None:
        """Count a connection that was accepted, and return why it is rejected; None if it is not.

        :param client: as :func:`fingergw.core.addresses.client_of` returns it; None if it is not known, or not yet.
        """
        self.meter.accepted += 1
        if self.entered >= limits.max_connections:
            return "connections"
        if client is not None and not self.per_client.enter(client, limits.max_connections_per_client):
            return "client_connections"
        self.entered += 1
        return None

    def leave(self, client: str | None) -> None:
        """Note the end of a connection that has entered.

        :param client: whom it counted towards.
        """
        self.entered -= 1
        if client is not None:
            self.per_client.leave(client)

    def begin_waiting(self, connection: Connection, client: str | None, work: Deferred[Any], max_waiting: int) -> None:
        """Count a query as waiting for a backend until its work is done. If too many wait now, one gives up.

        That is the newest query of the client that has most, so that no client can hold all places. If this query's own
        client has as many as any other, it is this query.

        :param connection: the query's.
        :param client: as :func:`fingergw.core.addresses.client_of` returns it. Clients of a unix socket cannot be told
            apart, and count as one.
        :param work: not done yet.
        """
        self._waiting.setdefault(client, {})[connection] = None
        self.waiting += 1
        work.addBoth(self._end_waiting, client, connection)
        if self.waiting > max_waiting:
            most = max(self._waiting, key=lambda each: (len(self._waiting[each]), each == client))
            newest = next(reversed(self._waiting[most]))
            self._end_waiting(None, most, newest)  # at once, even if its work takes time to end
            newest.give_up()

    def _end_waiting(self, _: object, client: str | None, connection: Connection) -> None:
        queries = self._waiting.get(client, {})
        if connection in queries:  # or it has given up before its work was done
            del queries[connection]
            self.waiting -= 1
            if not queries:
                del self._waiting[client]

    def drain(self) -> Deferred[None]:
        """Close all connections but those whose query may still arrive or whose answer is pending.

        :return: fires when these are closed too, at most about ``answer_timeout`` later.
        """
        self.draining = True
        for connection in list(self.open):
            connection.drain()
        self.deadlines.check_soon()
        drained = self._drained = Deferred[None]()
        self.connection_lost()
        return drained

    def connection_lost(self) -> None:
        """Note that a connection was lost, which may have been the last one while draining."""
        if self._drained is not None and not self.open:
            self.deadlines.stop()
            drained, self._drained = self._drained, None
            drained.callback(None)
