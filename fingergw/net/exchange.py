"""One finger exchange, as the client: send a line, receive until the connection ends (RFC 1288 §2.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.outcome import Upstream
from fingergw.net.reasons import is_local, is_reset
from fingergw.net.reasons import reason as reason_of
from fingergw.net.reasons import upstream as upstream_of


class NoAnswer(Exception):
    """There is no complete answer; the message says why, and is safe to log.

    :param received: the part that was received, ``max_bytes`` at most.
    :param upstream: what that says of the server.
    """

    def __init__(self, message: str, received: bytes = b"", upstream: Upstream = "responded") -> None:
        super().__init__(message)
        self.received, self.upstream = received, upstream


class NotSent(NoAnswer):
    """The caller refused to send to the other end of the connection."""


class TooMuch(NoAnswer):
    """The answer is larger than ``max_bytes``."""


@implementer(IHalfCloseableProtocol)
@define(eq=False, repr=False)
class Connection(Protocol):
    """A client's side of one connection to a finger server.

    The server's end of file ends the connection, even if the server would read on.

    :param max_bytes: of the answer.
    :param answer: fires with the answer when the server has closed; fails with :class:`NoAnswer`.
    :param closed: whether this side has closed it.
    """

    max_bytes: int
    answer: Deferred[bytes] = field(init=False, factory=Deferred)
    closed: bool = field(init=False, default=False)
    _received: bytearray = field(init=False, factory=bytearray)
    _lost: bool = field(init=False, default=False)
    _ended: Failure | None = field(init=False, default=None)  # how the other side has ended it

    @property
    def received(self) -> bytes:
        """The part of the answer received so far."""
        return bytes(self._received)

    def connectionMade(self) -> None:
        if self.closed:  # some endpoints connect although they were cancelled
            self._abort()

    def send(self, line: bytes) -> None:
        """Send a query line in one write, as some servers read only once.

        :param line: without CRLF.
        """
        assert self.transport is not None
        self.transport.write(line + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self.closed:
            return
        self._received += data[: self.max_bytes + 1 - len(self._received)]
        if len(self._received) > self.max_bytes:
            self._break_off()
            self.answer.errback(TooMuch(f"more than {self.max_bytes} bytes", self.received[: self.max_bytes]))

    def readConnectionLost(self) -> None:
        """Note the end of file, or a reset that Twisted takes for one."""
        transport: Any = self.transport
        self._ended = Failure(ConnectionLost() if is_reset(transport) else ConnectionDone())
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: this side is never closed alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        if self.closed:
            return
        reason = self._ended or reason  # which may be that of closing this side
        if reason.check(ConnectionDone):
            self.answer.callback(self.received)
        else:
            where = f", {len(self._received)} bytes into the answer" if self._received else ""
            upstream = "responded" if self._received else upstream_of(reason.value)
            self.answer.errback(NoAnswer(reason_of(reason.value) + where, self.received, upstream))

    def close(self) -> None:
        """Abort the connection, or the attempt to connect; data on its way in either direction is lost."""
        self._break_off()
        self.answer.addErrback(lambda _: None)  # there may be no one waiting for it

    def _break_off(self) -> None:
        if not self.closed:
            self.closed = True
            self._abort()

    def _abort(self) -> None:
        if self.transport is not None and not self._lost:  # a lost TLS connection cannot be aborted
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


def connect(endpoint: IStreamClientEndpoint, connection: Connection) -> Deferred[IProtocol]:
    """Connect to a server.

    :return: fires when it is connected, and fails as the endpoint does. Cancelling it closes the connection.
    """
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False
    connecting: Deferred[IProtocol] = endpoint.connect(factory)

    def cancel(connected: Deferred[IProtocol]) -> None:
        connection.close()
        # Endpoints fail with errors of their own when cancelled: during a lookup, with "no such name".
        connected.errback(CancelledError())
        connecting.cancel()

    def settle(result: IProtocol | Failure) -> None:
        if not connected.called:
            connected.callback(result)

    connected: Deferred[IProtocol] = Deferred(cancel)
    connecting.addBoth(settle)
    return connected


async def exchange(
    endpoint: IStreamClientEndpoint, line: bytes, *, max_bytes: int, may_send: Callable[[ITransport], bool]
) -> bytes:
    """Send a query line to a server, and return its answer.

    Cancelling it closes the connection. There is no timeout but the endpoint's: callers have deadlines.

    :param line: without CRLF.
    :param max_bytes: of the answer.
    :param may_send: asked before anything is sent; with TLS, before the handshake.
    :return: the bytes up to a clean end of the connection; may be empty.
    :raises NoAnswer: there is no complete answer.
    """
    connection = Connection(max_bytes)
    try:
        try:
            await connect(endpoint, connection)
        except CancelledError:
            raise
        except Exception as error:  # endpoints may be plug-ins, with errors of their own
            raise NoAnswer(reason_of(error), upstream="unknown" if is_local(error) else "unreachable") from error
        assert connection.transport is not None
        if not may_send(connection.transport):
            raise NotSent("not to be sent to")
        connection.send(line)
        return await connection.answer
    finally:
        connection.close()
