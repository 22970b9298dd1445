"""Connections from a proxy, which names the client."""

from __future__ import annotations

from twisted.logger import Logger

from fingergw.core.addresses import client_of
from fingergw.core.errors import BadProxyHeader
from fingergw.core.proxy_header import take_header
from fingergw.finger.protocol import FingerProtocol

_log = Logger()


class ProxiedProtocol(FingerProtocol):
    """A connection that begins with a PROXY header. The header and the query share one time-out."""

    _header: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        if self._header is not None and not self.is_closing:
            self._header += data
            try:
                taken = take_header(self._header)
            except BadProxyHeader as error:
                client = self.listener.shown(self.client)
                _log.warn("{client}: connection closed: {why}", client=client, why=str(error))
                self.connections.meter.rejections["bad_proxy_header"] += 1
                self.close("bad_proxy_header")
                return
            if taken is None:
                return
            self._header = None
            source, data = taken
            self.client = source or self.client
            if not self.rules.lets_in(self.client):
                self.connections.meter.rejections["denied"] += 1
                self.close("denied")
                return
            self._enter_client()
        if data:
            super().dataReceived(data)

    def counted_client(self) -> None:
        """Wait for the header: until then the client is not known."""

    def _enter_client(self) -> None:
        """Count the connection towards the limit of the client that the proxy has named, or reject it."""
        client, connections = client_of(self.client), self.connections
        if client is None or connections.per_client.enter(client, self.rules.limits.max_connections_per_client):
            self._counted_as = client
        else:
            connections.leave(None)
            self._reject_connection("client_connections")
