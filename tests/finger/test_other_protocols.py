"""Clients of other protocols, on the wire: they are told at once that this is no query, and no backend is asked."""

from __future__ import annotations

import socket
import ssl

from fingergw.app.gateway import Gateway
from fingergw.core.chain import Chain
from fingergw.core.outcome import Answered
from fingergw.core.patterns import glob
from fingergw.core.routing import Route, Router
from tests.support.configuration import LISTENER
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, port_of
from tests.support.listener import connect, make_listener
from tests.support.sockets import receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import in_thread

INVALID = b"Invalid query\r\n"
EVERYBODY = """
[limits]
query_timeout = 3600
[[routes]]
index = true
backends = ["texts"]
[[routes]]
pattern = "*"
backends = ["texts"]
[backends.texts]
type = "static"
text = "Hello"
[log]
access = "off"
"""


def client_hello() -> bytes:
    """Return what a client of TLS sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.org")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("there is no server")


LINES = [
    b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"POST /x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
    b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /x\r\n",
    b"OPTIONS / RTSP/1.0\r\n\r\n",
    b"OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/TCP nm\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 79\r\nada\r\n",
    b"PROXY UNKNOWN\r\nada\r\n",
    b"gemini://example.org/\r\n",
    b"titan://example.org/x;size=1\r\n",
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
]
# none of them has a line feed
BYTES = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    "RDP": b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
    "SOCKS 4": b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    "SOCKS 5": b"\x05\x01\x00",
    "SMB": b"\x00\x00\x00\xa4\xff\x53\x4d\x42",
    "SMB 2": b"\x00\x00\x00\xa4\xfeSMB",
    "DNS": b"\x00\x1e\x00\x06\x01\x00",
    "PostgreSQL": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "MQTT": b"\x10\x0c\x00\x04MQTT\x04",
    "an escape": b"\x1b",
    "DEL": b"\x7f",
}


@on_both_transports
class OtherProtocolTests(GatewayCase):
    """What comes of them."""

    async def ask_and_wait(self, gateway: Gateway, sent: bytes) -> bytes:
        """Send something, and return the answer to a client that goes on waiting."""

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as client:
                client.sendall(sent)
                return receive_all(client)

        return await in_thread(ask)

    async def test_lines(self) -> None:
        """A request of another protocol gets bad_query, though there is a route for any name."""
        gateway = self.start(LISTENER + EVERYBODY)
        for line in LINES:
            assert await self.ask_and_wait(gateway, line) == INVALID, line
        assert gateway.listeners[0].connections.meter.outcomes == {("", "bad_query"): len(LINES)}

    async def test_bytes(self) -> None:
        """What can begin no query is told so at its first byte, not when the time for a query is over."""
        gateway = self.start(LISTENER + EVERYBODY)
        for name, sent in {**BYTES, "a whole ClientHello": client_hello()}.items():
            assert await self.ask_and_wait(gateway, sent) == INVALID, name
            assert await self.ask_and_wait(gateway, sent[:1]) == INVALID, name

    async def test_names(self) -> None:
        """Users whose names are those of methods and protocols can be asked for."""
        gateway = self.start(LISTENER + EVERYBODY)
        for line in (
            b"get",
            b"HEAD",
            b"/W options",
            b"GET /W",
            b"connect",
            b"http",
            b"ssh",
            b"get well",
            b"PROXY",
            b"proxy team",
        ):
            assert await self.ask_and_wait(gateway, line + b"\r\n") == b"Hello\r\n"


def test_no_backend_is_asked() -> None:
    """Such a line reaches no backend, not even that of a pattern for any name."""
    backend = FakeBackend(Answered("hi"))
    router = Router([Route("all", Chain((("b", backend),)), match=glob("*"))])
    for line in [*LINES, *(sent + b"\n" for sent in BYTES.values())]:
        transport = connect(make_listener(router=router))
        transport.protocol.dataReceived(line)
        assert transport.sent() == INVALID
    assert backend.queries == []
