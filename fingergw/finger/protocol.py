"""One connection: bytes to a query line, and an answer to bytes, within limits and deadlines (RFC 1288 §2)."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.addresses import client_of
from fingergw.core.decide import Asked
from fingergw.core.query import take_last_line, take_line
from fingergw.core.rules import Refusal
from fingergw.core.text import escape
from fingergw.finger.answering import Pending, Said, Step, crashed, said, take_step
from fingergw.finger.listener import DRAIN_SECONDS, LINGER_SECONDS, SMALL_ANSWER_BYTES, Listener
from fingergw.net.reasons import is_reset, tls_reason
from fingergw.telemetry.meters import RejectReason

_log = Logger()

_LINGER_BYTES = 65536

# A connection receives the query line; then waits for a backend; then sends the answer and closes.
_State: TypeAlias = Literal["receiving", "answering", "closing"]
_RECEIVING: Final = "receiving"
_ANSWERING: Final = "answering"
_CLOSING: Final = "closing"


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class FingerProtocol(Protocol):
    """One connection: one line in, one answer out, closed (RFC 1288 §2.1).

    :param client: the client's address as text.
    """

    due = 0.0
    _state: _State = _RECEIVING
    _received = b""
    _discarded = 0  # bytes after the line
    _asked_at = 0.0
    _line = b""
    _route = ""
    _counted_as: str | None = None
    _is_rejected = False
    _work: Deferred[None] | None = None
    _may_send_more = False
    _has_closed = False  # the client, its side
    _handed_over = False  # the answer, to the kernel
    _is_handshake_done = False  # under TLS

    def __init__(self, listener: Listener, client: str) -> None:
        self.listener, self.rules, self.connections = listener, listener.rules, listener.connections
        self.client = client

    @property
    def is_closing(self) -> bool:
        """Whether it was answered, refused or closed."""
        return self._state is _CLOSING

    def connectionMade(self) -> None:
        """Begin with a connection that nobody has counted yet."""
        client = self.counted_client()
        self.begin(client, self.connections.enter(client, self.rules.limits))

    def counted_client(self) -> str | None:
        """Return what counts as the client at first; None if that is not known."""
        return client_of(self.client)

    def begin(self, counted_as: str | None, rejected: RejectReason | None, due: float = 0.0) -> None:
        """Wait for the query, or reject the connection.

        :param counted_as: the client that the connection was counted towards.
        :param rejected: why it was not counted.
        :param due: the deadline for the query, if that was set before.
        """
        connections = self.connections
        connections.open.add(self)
        self._asked_at = now = connections.seconds()
        self.due = due or now + self.rules.limits.query_timeout
        connections.deadlines.watch()
        if rejected is None:
            self._counted_as = counted_as
            return
        self._reject_connection(rejected)
        if (rejected == "connections" and connections.rejected > self.rules.limits.max_connections) or (
            rejected == "client_connections" and ISSLTransport.providedBy(self.transport)
        ):
            self._abort()  # under TLS a refusal waits for the handshake: only so many may, and none of one client's

    def handshakeCompleted(self) -> None:
        """Note the end of the TLS handshake."""
        self._is_handshake_done = True

    def _reject_connection(self, reason: RejectReason) -> None:
        self._is_rejected = True
        self.connections.rejected += 1
        self._reject(reason)
        self._linger()

    def finish(self, rest: bytes) -> None:
        """Send the rest of an answer that was begun without a protocol, and noted."""
        assert self.transport is not None
        self._state = _CLOSING
        self.transport.write(rest)
        self.transport.loseWriteConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        if self._state is not _RECEIVING:
            self._discarded += len(data)
            self._may_send_more = True
            if self._discarded > _LINGER_BYTES:
                self._abort()
            return
        received = self._received + data if self._received else data
        line = take_line(received, self.rules.limits.max_query_bytes)
        if line is None:
            self._received = received
            self._asked_at = self.connections.seconds()
            return
        # A client that sends in pieces, or more than a line, may send yet more.
        self._may_send_more = received is not data or received.find(b"\n") != len(received) - 1
        self._decide(line, b"" if self._may_send_more else data)

    def _decide(self, line: bytes, data: bytes = b"") -> None:
        """Do what is decided about a line.

        :param data: all that the client has sent, if that came at once, and is nothing but the line.
        """
        now = self.connections.seconds()
        if self._counted_as is not None and not self.listener.spend_query(self._counted_as, now):
            self._received_at(line, now)
            self._reject("rate")
            return
        local_address = self._local_address() if b"@" in line else ""
        self.go_on(line, now, take_step(self.listener, line, self.client, local_address, now, data))

    def _received_at(self, line: bytes, now: float) -> None:
        limits = self.rules.limits
        self._asked_at, self._line = now, line[: limits.max_query_bytes]  # for the log
        self.due = now + limits.answer_timeout

    def go_on(self, line: bytes, now: float, step: Step) -> None:
        """Go on with what came of a line.

        :param now: when the line was there, on the listener's clock.
        """
        self._received_at(line, now)
        if isinstance(step, Said):
            self._say(step)
        elif isinstance(step, Pending):
            self._ask(step)
        elif step.at > now:  # a decoy takes its time
            self._state, self.due = _ANSWERING, step.at
        else:
            self._may_send_more = True
            client = self.listener.shown(self.client)
            _log.debug("{client}: invalid query: {why}", client=client, why=step.why)
            self._refuse(step.refusal)

    def _local_address(self) -> str:
        assert self.transport is not None
        return getattr(self.transport.getHost(), "host", "")

    def _ask(self, pending: Pending) -> None:
        """Ask a chain, and send its result."""
        self._state, self._route = _ANSWERING, pending.asked.route
        work = self._work = Deferred.fromCoroutine(self._wait_for(*pending))
        if not work.called:
            self.connections.begin_waiting(self, self._counted_as, work, self.rules.limits.max_waiting)

    def give_up(self) -> None:
        """Answer that too many queries wait for a backend, and cancel the work for this one."""
        if self._state is _ANSWERING and self._work is not None:  # or its client is gone
            self._reject("waiting")
            self._work.cancel()

    async def _wait_for(self, asked: Asked, place: int) -> None:
        try:
            result = await asked.chain.answer(asked.query, place)
            if self._state is _ANSWERING:
                self._say(said(self.listener, asked, result))
        except Exception as error:
            if self._state is _ANSWERING or not isinstance(error, CancelledError):
                failed = crashed(self.listener, asked.route)
                if self._state is _ANSWERING:
                    self._say(failed)

    def _say(self, said: Said) -> None:
        answer, outcome, self._route, backend, cache = said
        self._send(answer, outcome, backend, cache)

    def _refuse(self, refusal: Refusal) -> None:
        self._send(self.rules.refusals[refusal], refusal, "", "")

    def _reject(self, reason: RejectReason) -> None:
        self.connections.meter.rejections[reason] += 1
        self._refuse("busy")

    def _send(self, answer: bytes, outcome: str, backend: str, cache: str) -> None:
        """Send the answer and close, in the cheapest way that loses none of it."""
        transport = self.transport
        assert transport is not None
        self._state = _CLOSING
        transport.write(answer)
        if (
            not self._has_closed
            and (self._may_send_more or len(answer) > SMALL_ANSWER_BYTES)
            and outcome != "busy"
            and not ISSLTransport.providedBy(transport)  # which has its own close_notify
        ):
            # To close with unread input would reset the connection, and the client could lose some of the answer. So
            # only this side is closed, and the input is read until the client closes too.
            transport.loseWriteConnection()  # type: ignore[attr-defined]  # ITCPTransport and IUNIXTransport
        else:
            transport.loseConnection()
        took = self._log_access(outcome, len(answer), backend, cache)
        if not self._is_rejected:
            self.connections.meter.times[self._route].add(took)

    def close(self, outcome: str) -> None:
        """Close without an answer.

        :param outcome: the reason, for the access log.
        """
        assert self.transport is not None
        self._state = _CLOSING
        self.transport.loseConnection()
        self._log_access(outcome)

    def _log_access(self, outcome: str, size: int = 0, backend: str = "", cache: str = "") -> float:
        took = self.connections.seconds() - self._asked_at
        self.listener.record(outcome, self.client, self._line, self._route, backend, size, took, cache)
        return took

    def readConnectionLost(self) -> None:
        """Note that the client has half-closed, which ends its line. It waits for the answer; without a line, close."""
        self._has_closed = True
        if self._state is _RECEIVING and self._received and not is_reset(self.transport):
            line = take_last_line(self._received, self.rules.limits.max_query_bytes)
            if line is not None:
                self._decide(line)
                return
        if self._state is not _ANSWERING and self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Note that the answer is sent and this side closed. Further input is discarded."""
        self._handed_over = True
        self._linger()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        connections = self.connections
        connections.open.discard(self)
        if self._is_rejected:
            connections.rejected -= 1
        else:
            connections.leave(self._counted_as)
        if self._state is _ANSWERING or (self._received and self._state is _RECEIVING):
            self._state = _CLOSING
            self._line = self._line or self._received
            self._log_access("gone")
            if self._work is not None:
                self._work.cancel()
        elif self._state is _RECEIVING and self._is_in_handshake:
            self._state = _CLOSING
            why = tls_reason(reason.value) or "the client closed the connection"
            client = self.listener.shown(self.client)
            _log.debug("{client}: no TLS handshake: {why}", client=client, why=escape(why))
            connections.meter.rejections["bad_handshake"] += 1
            self._log_access("bad_handshake")
        if connections.draining:
            connections.connection_lost()

    @property
    def _is_in_handshake(self) -> bool:
        """Whether the client has begun a TLS handshake and not finished it."""
        return getattr(self.transport, "has_begun", False) and not self._is_handshake_done

    def expired(self) -> None:
        """Act on a deadline: the line has not arrived, the chain is not done, or the client does not read."""
        assert self.transport is not None
        self._linger()
        if self._handed_over:
            self.transport.loseConnection()  # the kernel keeps sending to a client that reads slowly
        elif self._state is _CLOSING:
            self._abort()
        elif self._state is _RECEIVING:
            self._line = self._received
            self.close("timeout")
        elif self.rules.decoy_delay is not None:
            self._refuse("no_such_user")
        else:
            _log.error(
                "no answer within {seconds:g} s, asked by route {route}",
                seconds=self.rules.limits.answer_timeout,
                route=self._route,
            )
            self._refuse("internal_error")
            if self._work is not None:
                self._work.cancel()

    def _linger(self) -> None:
        """Give the client a little time to read its answer and close."""
        self.due = self.connections.seconds() + LINGER_SECONDS

    def drain(self) -> None:
        """Close soon, unless an answer is pending or being sent. A decoy answers at once."""
        if self._state is _RECEIVING:
            self.due = min(self.due, self.connections.seconds() + DRAIN_SECONDS)  # the query may be on its way
        elif self._state is _ANSWERING and self.rules.decoy_delay is not None:
            self._linger()
            self._refuse("no_such_user")

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it
