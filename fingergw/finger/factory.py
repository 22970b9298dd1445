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
    return usual_text(getattr(addr, "host", "unix"))


def usual_text(host: str) -> str:
    """Return an address in its usual text form: one of IPv4 as such, even if it came over IPv6."""
    return host.removeprefix("::ffff:")


class Closed(Protocol):
    """The connection of a client that may not connect: closed at once. TLS needs a protocol even for that."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()  # closing would wait for the handshake, without a deadline
        else:
            self.transport.loseConnection()


@define(eq=False, repr=False)
class FingerFactory(ServerFactory):
    """Make the protocols of a listener's connections."""

    listener: Listener
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol for a client, or for a trusted proxy if only proxies connect; close all others."""
        peer = client_text(addr)
        return self.protocol_for(peer) if self.admits(peer) else Closed()

    def admits(self, peer: str) -> bool:
        """Tell whether a peer may connect; if not, that is counted and logged.

        :param peer: its address as :func:`client_text` returns it.
        """
        listener, rules = self.listener, self.listener.rules
        reason: RejectReason
        if rules.trusted_proxies is not None:
            if peer in rules.trusted_proxies:
                return True
            reason = "untrusted_proxy"
        else:
            if peer == "unix" or rules.lets_in(peer):
                return True
            reason = "denied"
        listener.connections.meter.rejections[reason] += 1
        listener.record(reason, peer)
        return False

    def protocol_for(self, peer: str) -> FingerProtocol:
        """Return the protocol for a peer that may connect."""
        proxied = self.listener.rules.trusted_proxies is not None
        return (ProxiedProtocol if proxied else FingerProtocol)(self.listener, peer)
