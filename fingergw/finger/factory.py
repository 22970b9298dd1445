"""Make the protocol of each connection."""

from __future__ import annotations

from attrs import define
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory

from fingergw.finger.listener import Listener
from fingergw.finger.protocol import FingerProtocol
from fingergw.finger.proxied import ProxiedProtocol
from fingergw.telemetry.meters import RejectReason


def client_text(addr: IAddress | None) -> str:
    """Return a client's address in its usual text form; ``"unix"`` for a client on a unix socket."""
    host: str = getattr(addr, "host", "unix")
    return host.removeprefix("::ffff:")


class Closed(Protocol):
    """The connection of a client that may not connect: closed at once. TLS needs a protocol even for that."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()  # closing would wait for the handshake, without a deadline
        else:
            self.transport.loseConnection()


@define(eq=False)
class FingerFactory(ServerFactory):
    """Make the protocols of a listener's connections."""

    listener: Listener
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol for a client, or for a trusted proxy if only proxies connect; close all others."""
        listener, rules, peer = self.listener, self.listener.rules, client_text(addr)
        reason: RejectReason
        if rules.trusted_proxies is not None:
            if peer in rules.trusted_proxies:
                return ProxiedProtocol(listener, peer)
            reason = "untrusted_proxy"
        else:
            if peer == "unix" or rules.lets_in(peer):
                return FingerProtocol(listener, peer)
            reason = "denied"
        listener.connections.meter.rejections[reason] += 1
        listener.record(reason, peer)
        return Closed()
