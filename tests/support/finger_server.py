"""A scripted finger server on a real socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import trustme
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from fingergw.net.trust import authorities, over_tls
from tests.support.waiting import reactor, until


class Served(Protocol):
    """The server's side of one connection.

    :param received: all of it so far.
    :param lost: fires when the connection is gone.
    """

    def __init__(self, server: FingerServer) -> None:
        self.server = server
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.server.connections.append(self)
        self.server.most_open = max(self.server.most_open, self.server.open)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"\n"):
            self.server.script(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)

    @property
    def wire(self) -> Any:
        """The transport."""
        assert self.transport is not None
        return self.transport

    def answer(self, data: bytes) -> None:
        """Send, and close."""
        self.wire.write(data)
        self.wire.loseConnection()

    def reset(self) -> None:
        """Close by a reset."""
        self.wire.abortConnection()


Script: TypeAlias = Callable[[Served], object]


class FingerServer:
    """A server on the loopback that stops at the end of the test.

    :param script: what to do once a line has come.
    :param authority: issues the certificate if it shall speak TLS.
    :param context: how it shall do so, with a certificate of the test's own.
    :param interface: the address to listen at.
    :param path: of a unix socket to listen on, instead of a port.
    :param port: to listen on where it speaks no TLS; 0 for any.
    :param connections: all there ever were.
    :param most_open: how many were open at once, at most.
    """

    def __init__(
        self,
        case: TestCase,
        script: Script,
        *,
        authority: trustme.CA | None = None,
        context: Any = None,
        path: str | None = None,
        interface: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script = script
        self.connections: list[Served] = []
        self.most_open = 0
        self._authority = authority
        self._path = path
        factory = _Serving(self)
        if path is not None:
            self._port = reactor.listenUNIX(path, factory)
        elif authority is not None:
            pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
            own = PrivateCertificate.loadPEM(pem).options()
            self._port = reactor.listenSSL(0, factory, own, interface=interface)
        elif context is not None:
            self._port = reactor.listenSSL(0, factory, context, interface=interface)
        else:
            self._port = reactor.listenTCP(port, factory, interface=interface)
        case.addCleanup(self.stop)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not connection.lost.called for connection in self.connections)

    @property
    def lines(self) -> list[bytes]:
        """What was received on each connection."""
        return [connection.received for connection in self.connections]

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """Where it is."""
        if self._path is not None:
            return UNIXClientEndpoint(reactor, self._path)
        port = self._port.getHost().port
        if self._authority is not None:
            return tls_endpoint(port, self._authority)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._port.getHost().port)

    async def stop(self) -> None:
        """Stop listening, and reset all connections."""
        await maybeDeferred(self._port.stopListening)
        for connection in self.connections:
            if not connection.lost.called:
                connection.reset()
        await until(lambda: not self.open, "the end of connections")


class _Serving(Factory):
    noisy = False

    def __init__(self, server: FingerServer) -> None:
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return Served(self._server)


def tls_endpoint(port: int, authority: trustme.CA, name: str = "127.0.0.1") -> IStreamClientEndpoint:
    """Return an endpoint to a TLS server on the loopback.

    :param authority: whom the client trusts.
    :param name: whom the certificate must be for.
    """
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
    return over_tls(endpoint, name, authorities(authority.cert_pem.bytes()))


def says(answer: bytes) -> Script:
    """Answer, and close."""
    return lambda served: served.answer(answer)


def hangs(begin: bytes = b"") -> Script:
    """Send something, and never go on."""
    return lambda served: served.wire.write(begin)


def half_closes(answer: bytes) -> Script:
    """Answer, and close this side alone."""

    def script(served: Served) -> None:
        served.wire.write(answer)
        served.wire.loseWriteConnection()

    return script


def trickles(answer: bytes) -> Script:
    """Answer byte by byte, and close."""

    def script(served: Served) -> None:
        left = list(answer)

        def step() -> None:
            if left:
                served.wire.write(bytes([left.pop(0)]))
            else:
                served.wire.loseConnection()

        served.wire.setTcpNoDelay(True)
        loop = LoopingCall(step)
        loop.start(0.002)
        served.lost.addBoth(lambda _: loop.stop())

    return script


def breaks_off(begin: bytes = b"") -> Script:
    """Send something, then reset the connection."""

    def script(served: Served) -> None:
        if begin:
            served.wire.getHandle().send(begin)  # at once: what Twisted has yet to send is lost with a reset
        served.reset()

    return script


def serve_unread(answer: bytes, *, half_close: bool) -> tuple[int, Callable[[], None]]:
    """Serve one client, blocking, without ever reading its line: closing sends a reset then.

    :param half_close: end the answer properly before that.
    :return: the port, and what serves.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)

    def serve() -> None:
        with listening, listening.accept()[0] as client:
            client.settimeout(20)
            client.sendall(answer)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            client.recv(1, socket.MSG_PEEK)  # the line is here, unread

    return listening.getsockname()[1], serve


class Stuck:
    """A port that never completes a connection, because its backlog is full."""

    def __init__(self, case: TestCase) -> None:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        self.port = int(listening.getsockname()[1])
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))
            waiting.append(client)
        for each in (*waiting, listening):
            case.addCleanup(each.close)

    def attempts(self) -> int:
        """Count the connections to it that are being tried, in the whole machine."""
        address = struct.unpack("=I", socket.inet_aton("127.0.0.1"))[0]
        wanted = f"{address:08X}:{self.port:04X}"
        with open("/proc/net/tcp") as table:  # noqa: PTH123
            rows = [line.split() for line in table]
        return sum(row[2] == wanted and row[3] == "02" for row in rows)  # SYN_SENT
