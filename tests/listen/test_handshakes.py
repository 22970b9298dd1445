"""TLS listeners: handshakes that fail have a line in the access log; what is not asked for here is no failure."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs, formatEvent

from fingergw.app.gateway import Gateway
from tests.support.certificates import AUTHORITY, OTHER_AUTHORITY, client_hello, issue, names
from tests.support.configuration import HELLO
from tests.support.gateway import GatewayCase, port_of
from tests.support.sockets import free_port, receive_all
from tests.support.waiting import until

ENDPOINTS = ("ssl:0:privateKey=own.pem:interface=127.0.0.1", "tls:certificates:0:interface=127.0.0.1")
HANDSHAKE_SECONDS = 0.3


def client_context(trusted: str = AUTHORITY.pem) -> ssl.SSLContext:
    """Return what a client checks certificates with."""
    return ssl.create_default_context(cadata=trusted)


def shake_hands(client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Do a handshake."""
    return context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False)


def sends(data: bytes) -> Callable[[socket.socket], object]:
    """Send, and read until the gateway closes."""

    def act(client: socket.socket) -> None:
        client.sendall(data)
        receive_all(client)

    return act


def breaks_off(data: bytes, *, reset: bool = False) -> Callable[[socket.socket], object]:
    """Send a part of a handshake, and close."""

    def act(client: socket.socket) -> None:
        client.sendall(data)
        if data == HELLO_BYTES:
            client.recv(1)  # the gateway has had it, and goes on
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


HELLO_BYTES = client_hello()


def is_refused(**settings: Any) -> Callable[[socket.socket], object]:
    """Try a handshake that cannot come about."""

    def act(client: socket.socket) -> None:
        context = client_context(OTHER_AUTHORITY.pem if "trusted" in settings else AUTHORITY.pem)
        if "ciphers" in settings:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(settings["ciphers"])
        if "version" in settings:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with warnings.catch_warnings():  # it is old
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = settings["version"]
        with pytest.raises(ssl.SSLError):
            shake_hands(client, context)

    return act


CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
# what a client does, and the reason in the log at level debug
FAILING = {
    "broken off in the first message": (breaks_off(HELLO_BYTES[:7]), "the client closed the connection"),
    "broken off after the first byte": (breaks_off(HELLO_BYTES[:1]), "the client closed the connection"),
    "broken off after the first message": (breaks_off(HELLO_BYTES), "the client closed the connection"),
    "ended properly after the first message": (sends(HELLO_BYTES + CLOSE_NOTIFY), "the client closed the connection"),
    "reset": (breaks_off(HELLO_BYTES, reset=True), "the client closed the connection"),
    "a query without TLS": (sends(b"hello\r\n"), "TLS: "),
    "HTTP without TLS": (
        sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "TLS: the other side speaks HTTP without TLS",
    ),
    "garbage": (sends(b"\x16\x03\x01\x00\x05" + bytes(5)), "TLS: "),
    "no common version": (
        is_refused(version=ssl.TLSVersion.TLSv1_1),
        "TLS: the two sides have no version of TLS in common; it must be 1.2 or later",
    ),
    "no common cipher": (is_refused(ciphers="AES128-SHA"), "TLS: the two sides have no cipher in common"),
    "a client that does not trust the certificate": (is_refused(trusted=False), "TLS: "),
}


class HandshakeCase(GatewayCase):
    """A gateway with a TLS listener, and its access log."""

    def begin(self, endpoint: str, more: str = "") -> Gateway:
        """Start the gateway."""
        own = issue("localhost", names("localhost"), issuer=AUTHORITY)
        folder = self.write("own.pem", own.key_pem + own.pem).parent
        other = issue("other", names("other.example"), issuer=AUTHORITY)
        certificates = folder / "certificates"
        certificates.mkdir(exist_ok=True)
        (certificates / "a.pem").write_text(other.key_pem + other.pem)
        (certificates / "b.pem").write_text(own.key_pem + own.pem)
        self.log = folder / "access.log"
        self.log.unlink(missing_ok=True)
        return self.start(
            f"[[listeners]]\nname = 'l'\nendpoint = '{endpoint}'\n{more}"
            + HELLO
            + f'[log]\naccess = "{self.log.name}"\n'
        )

    async def act(self, gateway: Gateway, act: Callable[[socket.socket], object]) -> None:
        """Connect, do something, close, and see the connection gone from the gateway, too."""

        def work() -> None:
            with (
                contextlib.suppress(ConnectionError),  # which may come before anything else
                socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as client,
            ):
                act(client)

        await deferToThread(work)
        await until(lambda: not gateway.listeners[0].connections.open, "the connection's end")

    async def logged(self, gateway: Gateway) -> list[list[str]]:
        """Stop the gateway, and return client, query and outcome of each line of its access log."""
        await gateway.stopService()
        lines = [line.split() for line in Path(self.log).read_text().splitlines()]
        return [[words[2], words[3], words[6]] for words in lines]


class FailingTests(HandshakeCase):
    """Handshakes that do not come about."""

    async def test_logged(self) -> None:
        """Each has one line, is counted, and leaves the reason for who looks for it; nothing else is logged."""
        for endpoint in ENDPOINTS:
            for name, (act, why) in FAILING.items():
                gateway = self.begin(endpoint)
                refusals = gateway.listeners[0].connections.meter.rejections
                with capturedLogs() as events:
                    await self.act(gateway, act)
                    await until(partial(refusals.get, "bad_handshake"), name)
                assert refusals == {"bad_handshake": 1}, name
                assert await self.logged(gateway) == [["127.0.0.1", '""', "bad_handshake"]], name
                (event,) = events
                assert event["log_level"] is LogLevel.debug
                assert formatEvent(event).startswith(f"127.0.0.1: no TLS handshake: {why}"), (name, formatEvent(event))

    async def test_too_late(self) -> None:
        """One that takes too long is a time-out, and nothing else."""
        gateway = self.begin(ENDPOINTS[0], f"limits = {{ query_timeout = {HANDSHAKE_SECONDS} }}\n")
        for data in (b"", HELLO_BYTES[:9], HELLO_BYTES):
            await self.act(gateway, sends(data))
        assert await self.logged(gateway) == [["127.0.0.1", '""', "timeout"]] * 3
        assert gateway.listeners[0].connections.meter.rejections == {}

    async def test_denied(self) -> None:
        """Who is denied has the line for that alone."""
        gateway = self.begin(ENDPOINTS[0], 'deny = ["127.0.0.1"]\n')
        await self.act(gateway, sends(HELLO_BYTES))
        assert await self.logged(gateway) == [["127.0.0.1", '""', "denied"]]

    async def test_busy(self) -> None:
        """So has a client too many, while another's handshake goes on."""
        gateway = self.begin(ENDPOINTS[0], "limits = { max_connections_per_client = 1 }\n")

        def act(client: socket.socket) -> None:
            client.sendall(HELLO_BYTES)
            client.recv(1)
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(client.getpeername(), timeout=10) as other,
            ):
                sends(HELLO_BYTES)(other)

        await self.act(gateway, act)
        outcomes = [outcome for _, _, outcome in await self.logged(gateway)]
        assert outcomes == ["busy", "bad_handshake"]

    async def test_not_begun(self) -> None:
        """A connection that sends nothing, as one that looks whether the port is open, has no line."""
        gateway = self.begin(ENDPOINTS[0])
        for act in (breaks_off(b""), breaks_off(b"", reset=True)):
            await self.act(gateway, act)
        assert await self.logged(gateway) == []
        assert gateway.listeners[0].connections.meter.rejections == {}

    async def test_done(self) -> None:
        """One that ends after its handshake is as one without TLS: gone in the middle of its query, or nothing."""
        gateway = self.begin(ENDPOINTS[0])
        for query in (b"", b"hel"):

            def act(client: socket.socket, query: bytes = query) -> None:
                with shake_hands(client, client_context()) as shaken:
                    shaken.sendall(query)
                    if not query:
                        shaken.unwrap()  # which would end the query

            await self.act(gateway, act)
        assert await self.logged(gateway) == [["127.0.0.1", '"hel"', "gone"]]


class ApplicationProtocolTests(HandshakeCase):
    """Clients that offer application protocols (ALPN)."""

    async def test_ignored(self) -> None:
        """A finger listener answers whatever is offered, and speaks none of it."""
        for endpoint in ENDPOINTS:
            gateway = self.begin(endpoint)
            offers = (["finger"], ["h2", "http/1.1"], ["x" * 255])
            for offered in offers:
                context = client_context()
                context.set_alpn_protocols(offered)

                def act(client: socket.socket, context: ssl.SSLContext = context) -> None:
                    with shake_hands(client, context) as shaken:
                        assert shaken.selected_alpn_protocol() is None
                        shaken.sendall(b"hello\r\n")
                        assert receive_all(shaken) == b"Hello\r\n"

                await self.act(gateway, act)
            assert await self.logged(gateway) == [["127.0.0.1", '"hello"', "answered"]] * len(offers)

    async def test_admin(self) -> None:
        """The site of ``[admin]`` takes its HTTP of what is offered, and else speaks it unasked."""
        own = issue("localhost", names("localhost"), issuer=AUTHORITY)
        self.write("own.pem", own.key_pem + own.pem)
        port = free_port()
        self.start(
            '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n[log]\naccess = "off"\n'
            f'[admin]\nendpoint = "ssl:{port}:privateKey=own.pem"\n'
        )
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), (["acme-tls/1"], None), ([], None)):

            def act(offered: list[str] = offered) -> tuple[str | None, bytes]:
                context = client_context()
                if offered:
                    context.set_alpn_protocols(offered)
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=10) as client,
                    shake_hands(client, context) as shaken,
                ):
                    shaken.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return shaken.selected_alpn_protocol(), receive_all(shaken)

            selected, received = await deferToThread(act)
            assert (selected, received[:15]) == (chosen, b"HTTP/1.1 200 OK"), offered
