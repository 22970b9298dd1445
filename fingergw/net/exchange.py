"""One finger exchange, as its client: a line out, all up to the connection's end in (RFC 1288 §2.1)."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from fingergw.net.reasons import reason as reason_of


class NoAnswer(Exception):
    """There is no whole answer; the message says why, and may be logged."""


class NotConnected(NoAnswer):
    """The server could not be reached."""


class NotSent(NoAnswer):
    """The caller would not send to what it was connected to."""


class Incomplete(NoAnswer):
    """There is only a part of an answer.

    :param received: that part, no more than the caller would have.
    """

    def __init__(self, message: str, received: bytes) -> None:
        super().__init__(message)
        self.received = received


class TooMuch(Incomplete):
    """The answer is larger than it may be."""


class BrokenOff(Incomplete):
    """The connection ended uncleanly, so that nobody knows what is missing; its cause is what it ended with."""


@define(eq=False)
class Connection(Protocol):
    """A client's side of one connection to a finger server.

    What the server does after its answer does not matter: its end of file ends it, whether or not it would read on.

    :param max_bytes: of the answer.
    :param answer: fires with it when the server has closed; fails with :class:`TooMuch` or :class:`BrokenOff`.
    :param closed: whether it was closed from here.
    """

    max_bytes: int
    answer: Deferred[bytes] = field(init=False, factory=Deferred)
    closed: bool = field(init=False, default=False)
    _received: bytearray = field(init=False, factory=bytearray)
    _lost: bool = field(init=False, default=False)

    @property
    def received(self) -> bytes:
        """What has come of the answer so far."""
        return bytes(self._received)

    def connectionMade(self) -> None:
        if self.closed:  # some endpoints cannot be stopped from connecting
            self._abort()

    def send(self, line: str) -> None:
        """Send a query line, in a single write: some servers read but once.

        :param line: without its end.
        """
        assert self.transport is not None
        self.transport.write(line.encode() + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self.closed:
            return
        self._received += data[: self.max_bytes + 1 - len(self._received)]
        if len(self._received) > self.max_bytes:
            self._break_off()
            self.answer.errback(TooMuch(f"more than {self.max_bytes} bytes", self.received[: self.max_bytes]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        if self.closed:
            return
        if reason.check(ConnectionDone):
            self.answer.callback(self.received)
        else:
            where = f", {len(self._received)} bytes into the answer" if self._received else ""
            error = BrokenOff(reason_of(reason.value) + where, self.received)
            error.__cause__ = reason.value
            self.answer.errback(error)

    def close(self) -> None:
        """Have the connection gone, or not come about; what is on its way either way is lost."""
        self._break_off()
        self.answer.addErrback(lambda _: None)  # nobody may have come to wait for it

    def _break_off(self) -> None:
        if not self.closed:
            self.closed = True
            self._abort()

    def _abort(self) -> None:
        if self.transport is not None and not self._lost:  # TLS has nothing left then to do it with
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


def connect(endpoint: IStreamClientEndpoint, connection: Connection) -> Deferred[IProtocol]:
    """Connect to a server.

    :return: fires when it is done, and fails as the endpoint does. Cancelling it closes the connection.
    """
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False
    connecting: Deferred[IProtocol] = endpoint.connect(factory)

    def cancel(connected: Deferred[IProtocol]) -> None:
        connection.close()
        # Endpoints have errors of their own for that: one that looks a name up says that there is no such name.
        connected.errback(CancelledError())
        connecting.cancel()

    def settle(result: IProtocol | Failure) -> None:
        if not connected.called:
            connected.callback(result)

    connected: Deferred[IProtocol] = Deferred(cancel)
    connecting.addBoth(settle)
    return connected


async def exchange(
    endpoint: IStreamClientEndpoint, line: str, *, max_bytes: int, may_send: Callable[[ITransport], bool]
) -> bytes:
    """Send a query line to a server, and return all that it says.

    Nothing is left open when it is cancelled, and it knows no timeout but the endpoint's own: callers have deadlines.

    :param line: without its end.
    :param max_bytes: of the answer.
    :param may_send: asked before anything is sent; under TLS, before the handshake.
    :return: what was received up to the server's clean end; it may be nothing.
    :raises NoAnswer: there is no whole answer.
    """
    connection = Connection(max_bytes)
    try:
        try:
            await connect(endpoint, connection)
        except CancelledError:
            raise
        except Exception as error:  # endpoints may be plug-ins, with errors of their own
            raise NotConnected(reason_of(error)) from error
        assert connection.transport is not None
        if not may_send(connection.transport):
            raise NotSent("not to be sent to")
        connection.send(line)
        return await connection.answer
    finally:
        connection.close()
