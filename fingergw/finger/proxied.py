"""Listeners behind a proxy, which says who the client is."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from fingergw.core.addresses import Networks
from fingergw.core.errors import BadProxyHeader
from fingergw.core.proxy_header import take_header
from fingergw.finger.factory import Closed, FingerFactory, client_text
from fingergw.finger.protocol import FingerProtocol

_log = Logger()


class ProxiedProtocol(FingerProtocol):
    """A connection that begins with a PROXY header, within the time that the query has too."""

    _header: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        if self._header is not None and not self.is_closing:
            self._header += data
            try:
                taken = take_header(self._header)
            except BadProxyHeader as error:
                _log.warn("{client}: closed on: {why}", client=self.client, why=str(error))
                self.factory.traffic.refusals["bad_proxy_header"] += 1
                self.close("bad_proxy_header")
                return
            if taken is None:
                return
            self._header = None
            source, data = taken
            self.client = source or self.client
            if not self.factory.lets_in(self.client):
                self.factory.traffic.refusals["denied"] += 1
                self.close("denied")
                return
            super().admit()
        if data:
            super().dataReceived(data)

    def admit(self) -> None:
        """Wait for the header: until then nobody knows whose connection it is."""


@define(eq=False)
class ProxiedFactory(FingerFactory):
    """A listener that only proxies reach.

    :param trusted_proxies: who is believed; everyone else is closed on.
    """

    trusted_proxies: Networks = field(kw_only=True)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a protocol for a proxy's connection."""
        proxy = client_text(addr)
        if proxy not in self.trusted_proxies:
            self.traffic.refusals["untrusted_proxy"] += 1
            self.note("untrusted_proxy", proxy)
            return Closed()
        return ProxiedProtocol(self, proxy)
