"""Connections under TLS, of which the client may close its side first (RFC 8446 §6.1), as without TLS.

Twisted would close the other side with it, and the client would get no answer.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from zope.interface import implementer

from fingergw.net.trust import TlsConnection


class ServerConnection(TlsConnection):
    """OpenSSL's end of a connection; its app data is the Twisted transport."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """Return what was received; after close_notify there is nothing more, and the transport is told."""
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            transport: Any = self.get_app_data()
            if not transport.notes_end_of_file():
                raise
            raise SSL.WantReadError from None


@implementer(IHalfCloseableProtocol)
class _Transport(BufferingTLSTransport):
    """A connection under TLS.

    :param has_begun: whether the client has sent anything.
    """

    has_begun = False
    _has_ended = False  # the client, what it sends

    def dataReceived(self, bytes: bytes) -> None:  # noqa: A002  # as Twisted has it
        self.has_begun = True
        super().dataReceived(bytes)  # type: ignore[no-untyped-call]

    def notes_end_of_file(self) -> bool:
        """Tell the protocol of the client's close_notify; return False if Twisted is to close this side, too."""
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is None or self.disconnecting:
            return False
        if not self._has_ended:
            self._has_ended = True
            protocol.readConnectionLost()
        return True

    def readConnectionLost(self) -> None:
        """Close, unless the client has ended TLS before its connection: then it may wait for the answer."""
        if not self._has_ended and self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: this side is never closed alone."""


class TlsFactory(TLSMemoryBIOFactory):
    """Put TLS before a factory's connections."""

    protocol = _Transport
