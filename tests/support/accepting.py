"""Clients that have sent their line by the time they are accepted, answered as it is known or by a protocol."""

from __future__ import annotations

from attrs import define

from fingergw.core.addresses import client_of
from fingergw.finger.answering import begin
from fingergw.finger.listener import Listener
from fingergw.finger.protocol import FingerProtocol
from tests.support.listener import FakeTransport, connect


@define(eq=False)
class KnownConnection:
    """A connection that was answered without a protocol, and is closed."""

    answer: bytes
    closed: str = "clean"

    def sent(self) -> bytes:
        """Return what it was sent."""
        return self.answer


def accept(listener: Listener, client: str, data: bytes, *, uses_known: bool) -> FakeTransport | KnownConnection | None:
    """Accept a client whose first read has returned some bytes.

    :param uses_known: whether what is known is used; otherwise a protocol does it all.
    :return: its connection; None if it was closed on.
    """
    if client != "unix" and not listener.rules.lets_in(client):
        listener.connections.meter.rejections["denied"] += 1
        listener.record("denied", client)
        return None
    if not uses_known:
        transport = connect(listener, client=client)
        if not transport.closed and data:
            transport.protocol.dataReceived(data)
        return transport
    connections, counted_as = listener.connections, client_of(client)
    rejected = connections.enter(counted_as, listener.rules.limits)
    begun = None if rejected is not None else begin(listener, client, counted_as, data)
    _, _, line, at, step = begun or (client, counted_as, b"", 0.0, None)
    if isinstance(step, bytes):
        connections.leave(counted_as)
        return KnownConnection(step)
    protocol = FingerProtocol(listener, client)
    transport = FakeTransport(protocol)
    protocol.connected, protocol.transport = True, transport
    protocol.begin(counted_as, rejected)
    if step is not None:
        protocol.go_on(line, at, step)
    elif not transport.closed and data:
        protocol.dataReceived(data)
    return transport
