"""One finger exchange, with real servers that misbehave."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.net.exchange import Connection, NoAnswer, NotSent, TooMuch, connect, exchange
from tests.support.certificates import UNTRUSTED
from tests.support.finger_server import (
    FingerServer,
    Stuck,
    breaks_off,
    half_closes,
    hangs,
    says,
    serve_unread,
    tls_endpoint,
    trickles,
)
from tests.support.gateway import GatewayCase
from tests.support.sockets import free_port
from tests.support.waiting import reactor, until

MAX_BYTES = 100
DONE, LOST = Failure(ConnectionDone()), Failure(ConnectionLost())


class ExchangeCase(GatewayCase):
    def begin(
        self,
        endpoint: IStreamClientEndpoint,
        line: bytes = b"x",
        *,
        max_bytes: int = MAX_BYTES,
        may_send: Callable[[ITransport], bool] = lambda _: True,
    ) -> Deferred[bytes]:
        """Begin an exchange; it is cancelled at the end."""
        begun = Deferred.fromCoroutine(exchange(endpoint, line, max_bytes=max_bytes, may_send=may_send))
        self.addCleanup(self._end, begun)
        return begun

    @staticmethod
    def _end(begun: Deferred[bytes]) -> None:
        begun.cancel()
        begun.addErrback(lambda _: None)  # whoever wanted its result has had it

    async def closed(self, server: FingerServer) -> None:
        """Wait until a server has seen its connections go."""
        await until(lambda: server.connections and not server.open, "the end of the connection")


class AnswerTests(ExchangeCase):
    """What counts as a whole answer."""

    async def test_answer(self) -> None:
        """All up to the end of the connection is the answer, byte for byte."""
        answer = b"Login: x\r\n\tcaf\xe9\x00\r\nno end"
        server = FingerServer(self, says(answer))
        assert await self.begin(server.endpoint) == answer
        await self.closed(server)

    async def test_line(self) -> None:
        """What is asked is one line, in the bytes that are given."""
        for line, sent in ((b"", b"\r\n"), (b"/W", b"/W\r\n"), (b"/W zo\xeb@h", b"/W zo\xeb@h\r\n")):
            server = FingerServer(self, says(b"yes"))
            await self.begin(server.endpoint, line)
            assert server.lines == [sent]

    async def test_nothing(self) -> None:
        """A connection that ends properly without a byte is an answer without a byte."""
        assert await self.begin(FingerServer(self, says(b"")).endpoint) == b""

    async def test_half_close(self) -> None:
        """A server that closes its side alone has ended its answer, and the connection goes."""
        server = FingerServer(self, half_closes(b"whole"))
        assert await self.begin(server.endpoint) == b"whole"
        await self.closed(server)

    async def test_byte_by_byte(self) -> None:
        """An answer may come in pieces."""
        assert await self.begin(FingerServer(self, trickles(b"in pieces")).endpoint) == b"in pieces"

    async def test_reset_after_the_end(self) -> None:
        """A reset after the end does not matter, as of a server that has never read the line."""
        port, serve = serve_unread(b"whole", half_close=True)
        serving = deferToThread(serve)
        assert await self.begin(TCP4ClientEndpoint(reactor, "127.0.0.1", port)) == b"whole"
        await serving

    async def test_limit(self) -> None:
        """An answer may have as many bytes as are allowed."""
        answer = b"x" * MAX_BYTES
        assert await self.begin(FingerServer(self, says(answer)).endpoint) == answer

    async def test_large(self) -> None:
        """A large answer arrives whole where it is allowed."""
        answer = bytes(range(256)) * 4096
        assert await self.begin(FingerServer(self, says(answer)).endpoint, max_bytes=len(answer)) == answer

    async def test_logs_nothing(self) -> None:
        """An exchange is no event for the log."""
        server = FingerServer(self, says(b"yes"))
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await self.begin(server.endpoint)
        assert events == []


class BrokenTests(ExchangeCase):
    """What does not, and leaves nothing open."""

    async def test_too_much(self) -> None:
        """One byte more breaks the connection off; what there is of the answer can still be had."""
        for answer in (b"x" * (MAX_BYTES + 1), b"x" * (1 << 20)):
            server = FingerServer(self, hangs(answer))
            with pytest.raises(TooMuch, match=rf"^more than {MAX_BYTES} bytes$") as caught:
                await self.begin(server.endpoint)
            assert caught.value.received == b"x" * MAX_BYTES
            await self.closed(server)

    async def test_reset_in_the_middle(self) -> None:
        """A reset in the middle is an error that has what came before it, so that the server was heard."""
        server = FingerServer(self, breaks_off(b"half"))
        with pytest.raises(NoAnswer, match=r"^the connection was lost, 4 bytes into the answer$") as caught:
            await self.begin(server.endpoint)
        assert caught.value.received == b"half"
        assert caught.value.upstream == "responded"

    async def test_reset_for_an_end(self) -> None:
        """A reset instead of an end is one too: nobody knows what is missing."""
        port, serve = serve_unread(b"whole?", half_close=False)
        serving = deferToThread(serve)
        with pytest.raises(NoAnswer):
            await self.begin(TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        await serving

    async def test_reset_at_once(self) -> None:
        """A reset before the answer is told as such."""
        server = FingerServer(self, breaks_off())
        with pytest.raises(NoAnswer, match=r"^the connection was lost$"):
            await self.begin(server.endpoint)

    async def test_refused(self) -> None:
        """A server that is not there is told in the system's words."""
        with pytest.raises(NoAnswer, match=r"^Connection refused$"):
            await self.begin(TCP4ClientEndpoint(reactor, "127.0.0.1", free_port()))

    async def test_no_unix_socket(self) -> None:
        """So is a unix socket that is not there."""
        path = str(self.write("unused", "").with_name("none.sock"))
        with pytest.raises(NoAnswer, match=r"^No such file or directory$"):
            await self.begin(UNIXClientEndpoint(reactor, path))

    async def test_unknown_host(self) -> None:
        """A host that has no address is told without its name."""
        with pytest.raises(NoAnswer, match=r"^the host has no address; check its name, and the name server$"):
            await self.begin(HostnameEndpoint(resolving(answers=True)[0], "secret.example", 79))

    async def test_impossible_host(self) -> None:
        """A name that no host can have is told without it, too."""
        with pytest.raises(NoAnswer, match=r"^this is not a valid host name or address; correct it$"):
            await self.begin(HostnameEndpoint(reactor, "a" * 64 + ".example", 79))


class MaySendTests(ExchangeCase):
    """The caller's look at the connection before anything is sent."""

    async def test_refrain(self) -> None:
        """Where the caller would not send nothing is sent, not even TLS's first message."""
        authority = trustme.CA()
        server = FingerServer(self, says(b"yes"))
        for endpoint in (server.endpoint, tls_endpoint(server.port, authority)):
            with pytest.raises(NotSent):
                await self.begin(endpoint, may_send=lambda _: False)
            await self.closed(server)
        assert server.lines == [b"", b""]

    async def test_is_shown_the_addresses(self) -> None:
        """The caller sees both ends' addresses."""
        seen: list[tuple[Any, Any]] = []

        def look(wire: ITransport) -> bool:
            seen.append((wire.getPeer(), wire.getHost()))
            return True

        server = FingerServer(self, says(b"yes"))
        await self.begin(server.endpoint, may_send=look)
        [(peer, host)] = seen
        assert (peer.host, peer.port, host.host) == ("127.0.0.1", server.port, "127.0.0.1")

    async def test_mistake(self) -> None:
        """A mistake in it comes out, and the connection goes."""
        server = FingerServer(self, says(b"yes"))
        with pytest.raises(ZeroDivisionError):
            await self.begin(server.endpoint, may_send=lambda _: bool(1 / 0))
        await self.closed(server)


class CancelTests(ExchangeCase):
    """A caller that waits no more."""

    async def check(self, begun: Deferred[bytes]) -> None:
        """Cancel an exchange, and see it end at once."""
        begun.cancel()
        assert begun.called
        with pytest.raises(CancelledError):
            await begun

    async def test_while_waiting(self) -> None:
        """Cancelling closes the connection, also in the middle of an answer."""
        for script in (hangs(), hangs(b"half")):
            server = FingerServer(self, script)
            begun = self.begin(server.endpoint)
            await until(lambda server=server: server.lines == [b"x\r\n"])  # type: ignore[misc]
            await self.check(begun)
            await self.closed(server)

    async def test_while_connecting(self) -> None:
        """Cancelling ends the attempt to connect."""
        stuck = Stuck(self)
        before = stuck.attempts()
        begun = self.begin(TCP4ClientEndpoint(reactor, "127.0.0.1", stuck.port))
        await until(lambda: stuck.attempts() == before + 1, "the attempt")
        await self.check(begun)
        await until(lambda: stuck.attempts() == before, "the attempt's end")

    async def test_while_looking_up(self) -> None:
        """Cancelling while a name is looked up is not taken for a name that is not there, and nobody is contacted."""
        memory, receivers = resolving(answers=False)
        begun = self.begin(HostnameEndpoint(memory, "old.example", 79))
        await self.check(begun)
        [receiver] = receivers
        receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", 79))
        receiver.resolutionComplete()
        assert memory.tcpClients == []

    async def test_endpoint_that_cannot_be_cancelled(self) -> None:
        """A connection that comes about nevertheless is closed at once, with nothing sent."""
        endpoint = FakeEndpoint()
        begun = self.begin(endpoint)
        await self.check(begun)
        wire = endpoint.connect_now()
        assert (wire.written, wire.disconnected) == ([], True)


class WireTests(ExchangeCase):
    """What a real server cannot be made to show."""

    async def begin_lately(self, *events: Callable[[IProtocol], None]) -> bytes:
        """Begin an exchange whose endpoint tells of its connection only after something has happened on it."""
        endpoint = FakeEndpoint()
        begun = self.begin(endpoint)
        endpoint.connect_now(*events)
        return await begun

    async def test_answer_before_all_else(self) -> None:
        """An answer that was there before the endpoint told of the connection is not lost."""
        assert (
            await self.begin_lately(lambda it: it.dataReceived(b"early"), lambda it: it.connectionLost(DONE))
            == b"early"
        )

    async def test_error_before_all_else(self) -> None:
        """Neither is an error."""
        with pytest.raises(NoAnswer):
            await self.begin_lately(lambda it: it.connectionLost(LOST))
        with pytest.raises(TooMuch):
            await self.begin_lately(*[lambda it: it.dataReceived(b"x" * MAX_BYTES)] * 3)

    async def test_error_that_nobody_waits_for(self) -> None:
        """An error of a connection that the caller would not have is nobody's, and is not logged."""
        endpoint = FakeEndpoint()
        begun = Deferred.fromCoroutine(exchange(endpoint, b"x", max_bytes=MAX_BYTES, may_send=lambda _: False))
        endpoint.connect_now(lambda it: it.connectionLost(LOST))
        ended = begun.addErrback(lambda failure: failure.type)  # the error itself would keep all this alive
        assert await ended is NotSent
        del endpoint, begun, ended
        gc.collect()
        assert self.flushLoggedErrors() == []

    async def test_single_write(self) -> None:
        """The line goes out in a single write."""
        endpoint = FakeEndpoint()
        self.begin(endpoint, b"/W x")
        assert endpoint.connect_now().written == [b"/W x\r\n"]


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
class TlsTests(ExchangeCase):
    """The same over TLS."""

    async def test_answer(self) -> None:
        """A server whose certificate is right is asked."""
        server = FingerServer(self, says(b"secret"), authority=trustme.CA())
        assert await self.begin(server.endpoint) == b"secret"
        assert server.lines == [b"x\r\n"]
        await self.closed(server)

    async def test_untrusted(self) -> None:
        """A certificate of nobody's whom one trusts is an error, and the server is not asked."""
        server = FingerServer(self, says(b"secret"), authority=trustme.CA())
        with pytest.raises(NoAnswer, match=f"^{UNTRUSTED}$"):
            await self.begin(tls_endpoint(server.port, trustme.CA()))
        assert set(server.lines) <= {b""}

    async def test_another_name(self) -> None:
        """So is one for another name."""
        authority = trustme.CA()
        server = FingerServer(self, says(b"secret"), authority=authority)
        with pytest.raises(NoAnswer, match=r"^TLS: the certificate is for 127\.0\.0\.1, not for old\.example; "):
            await self.begin(tls_endpoint(server.port, authority, "old.example"))
        assert set(server.lines) <= {b""}

    async def test_no_goodbye(self) -> None:
        """An end that TLS has not said goodbye for may be anybody's, so the answer is not whole."""

        def script(served: Any) -> None:
            served.wire.write(b"half")
            served.wire.transport.loseConnection()  # TCP's end alone

        server = FingerServer(self, script, authority=trustme.CA())
        with pytest.raises(NoAnswer, match=r"^the connection was lost, 4 bytes into the answer$"):
            await self.begin(server.endpoint)

    async def test_no_tls(self) -> None:
        """A server that speaks no TLS is an error."""
        server = FingerServer(self, says(b"Hello\r\n"))
        begun = self.begin(tls_endpoint(server.port, trustme.CA()))
        await until(lambda: server.connections)
        server.connections[0].answer(b"Hello\r\n")
        with pytest.raises(NoAnswer, match=r"^TLS: "):
            await begun

    async def test_cancel(self) -> None:
        """Cancelling closes the connection, in the handshake and after it, whatever the server does."""
        authority = trustme.CA()
        plain = FingerServer(self, hangs())
        begun = self.begin(tls_endpoint(plain.port, authority))
        await until(lambda: plain.connections and plain.connections[0].received, "the handshake's begin")
        begun.cancel()
        await self.closed(plain)
        server = FingerServer(self, hangs(b"half"), authority=authority)
        begun = self.begin(server.endpoint)
        await until(lambda: server.lines == [b"x\r\n"])
        begun.cancel()
        await self.closed(server)

    async def test_close_late(self) -> None:
        """Closing a connection that is long gone does nothing."""
        server = FingerServer(self, says(b"secret"), authority=trustme.CA())
        connection = Connection(MAX_BYTES)
        await connect(server.endpoint, connection)
        connection.send(b"x")
        assert await connection.answer == b"secret"
        await self.closed(server)
        await deferLater(reactor, 0)
        connection.close()

    async def test_too_much(self) -> None:
        """Too large an answer breaks the connection off."""
        server = FingerServer(self, hangs(b"x" * (1 << 20)), authority=trustme.CA())
        with pytest.raises(TooMuch):
            await self.begin(server.endpoint)
        await self.closed(server)


class UnixTests(ExchangeCase):
    """The same over a unix socket."""

    async def test_answer(self) -> None:
        """A server on a unix socket is asked."""
        server = FingerServer(self, says(b"local"), path=str(self.write("unused", "").with_name("finger.sock")))
        assert await self.begin(server.endpoint) == b"local"
        assert server.lines == [b"x\r\n"]

    async def test_cancel(self) -> None:
        """Cancelling closes the connection."""
        server = FingerServer(self, hangs(), path=str(self.write("unused", "").with_name("finger.sock")))
        begun = self.begin(server.endpoint)
        await until(lambda: server.lines == [b"x\r\n"])
        begun.cancel()
        await self.closed(server)


class ResetWire(StringTransport):
    """A transport whose socket has an error that nobody has read yet."""

    def __init__(self, connection: Connection, error: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection, self.error = connection, error

    def getHandle(self) -> ResetWire:  # Twisted's name
        """Return itself, as the socket."""
        return self

    def getsockopt(self, level: int, option: int) -> int:
        """Return the error."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.error

    def loseConnection(self) -> None:
        """Close."""
        self.connection.connectionLost(Failure(ConnectionDone()))


@pytest.mark.parametrize("error", [0, errno.EPIPE, errno.ECONNRESET])
def test_reset_that_looks_like_an_end(error: int) -> None:
    """A reset in the middle of an answer is not its end, also where Twisted takes it for one; one after the end is."""
    connection = Connection(100)
    connection.makeConnection(ResetWire(connection, error))
    connection.dataReceived(b"half")
    connection.readConnectionLost()
    answered: list[Any] = []
    connection.answer.addBoth(answered.append)
    if error == errno.ECONNRESET:
        assert str(answered[0].value) == "the connection was lost, 4 bytes into the answer"
    else:
        assert answered == [b"half"]


class Wire(StringTransport):
    """A transport that notes each write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """An endpoint that connects when the test says so, even after it was cancelled."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self._factory = protocolFactory
        self._connecting: Deferred[IProtocol] = Deferred()
        return self._connecting

    def connect_now(self, *events: Callable[[IProtocol], None]) -> Wire:
        """Connect, and return the client's transport.

        :param events: what happens on the connection before the endpoint tells of it.
        """
        wire = Wire()
        protocol = self._factory.buildProtocol(wire.getPeer())
        assert protocol is not None
        protocol.makeConnection(wire)
        for event in events:
            event(protocol)
        self._connecting.callback(protocol)
        return wire


def resolving(*, answers: bool) -> tuple[Any, list[IResolutionReceiver]]:
    """Return a reactor that knows no names, and who waits for names.

    :param answers: whether it says so; otherwise it has yet to.
    """
    receivers: list[IResolutionReceiver] = []

    def resolve(receiver: IResolutionReceiver, *_: Any, **__: Any) -> None:
        receivers.append(receiver)
        if answers:
            receiver.resolutionComplete()

    memory: Any = MemoryReactor()
    resolver = Mock(spec=memory.nameResolver, resolveHostName=resolve)
    memory.installNameResolver(resolver)
    return memory, receivers
