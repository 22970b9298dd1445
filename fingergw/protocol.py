"""Bytes to a query, and its answer to bytes, within limits and deadlines (RFC 1288 §2)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import lru_cache, partial
from typing import Any, Final, Literal, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.access_log import AccessLog
from fingergw.addresses import Network, is_in
from fingergw.chain import Chain, Result
from fingergw.deadlines import Deadlines
from fingergw.errors import BadQuery
from fingergw.outcome import Answered, Failed
from fingergw.query import escape, parse, take_line, to_wire, truncate
from fingergw.routing import Router

_log = Logger()

# How long, and how far, a client that goes on sending is read after its answer.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 65536
# An answer of this size is on its way whole before anything else can arrive: it fits TCP's first window (RFC 6928).
_SMALL_ANSWER_BYTES = 4096


def log_failed(text: str, failed: Failed, backend: str, **fields: Any) -> None:
    """Log that a backend failed, with a traceback where that was not foreseen.

    :param text: the message; ``{backend}`` and ``{why}`` are put in place, and the fields.
    """
    why = escape(failed.reason)
    if failed.error is None:
        _log.error(text, backend=backend, why=why, **fields)
    else:
        failure = Failure(failed.error, type(failed.error), failed.error.__traceback__)
        _log.failure(text, failure, backend=backend, why=why, **fields)


Refusal: TypeAlias = Literal["no_such_user", "internal_error", "list_denied", "forward_denied", "busy", "bad_query"]


@frozen
class Limits:
    """What one connection, and all of a listener's together, may use; times in seconds."""

    max_query_bytes: int
    query_timeout: float
    answer_timeout: float
    max_answer_bytes: int
    max_connections: int


# What a connection does: receive the query line; wait for a backend; see the answer on its way.
_State: TypeAlias = Literal["receiving", "answering", "closing"]
_RECEIVING: Final = "receiving"
_ANSWERING: Final = "answering"
_CLOSING: Final = "closing"


@implementer(IHalfCloseableProtocol)
class FingerProtocol(Protocol):
    """One connection: one line in, one answer out, closed (RFC 1288 §2.1).

    :param client: the client's address as text.
    """

    factory: FingerFactory
    due = 0.0
    _state: _State = _RECEIVING
    _received = b""
    _discarded = 0  # bytes after the line
    _asked_at = 0.0
    _line = b""
    _route = ""
    _work: Deferred[Result] | None = None
    _may_send_more = False
    _has_closed = False  # the client, its side
    _handed_over = False  # the answer, to the kernel

    def __init__(self, factory: FingerFactory, client: str) -> None:
        self.factory = factory
        self.client = client

    def connectionMade(self) -> None:
        factory = self.factory
        factory.protocols.add(self)
        self._asked_at = now = factory.seconds()
        self.due = now + factory.limits.query_timeout
        factory.deadlines.watch()
        if len(factory.protocols) > factory.limits.max_connections:
            self._refuse("busy")
            self.due = now + _LINGER_SECONDS
            if len(factory.protocols) > 2 * factory.limits.max_connections:
                self._abort()  # under TLS a refusal waits for the handshake, and so many may wait

    def dataReceived(self, data: bytes) -> None:
        if self._state is not _RECEIVING:
            self._discarded += len(data)
            self._may_send_more = True
            if self._discarded > _LINGER_BYTES:
                self._abort()
            return
        received = self._received + data if self._received else data
        factory = self.factory
        self._asked_at = now = factory.seconds()
        try:
            line = take_line(received, factory.limits.max_query_bytes)
            if line is None:
                self._received = received
                return
            self._line = line
            # A client that sends in pieces, or has sent more than a line, may have something yet to come.
            self._may_send_more = received is not data or received.find(b"\n") != len(received) - 1
            self.due = now + factory.limits.answer_timeout
            query = parse(line, factory.case_sensitive, factory.listener, self.client)
        except BadQuery as error:
            self._line = self._line or received[: factory.limits.max_query_bytes]
            self._may_send_more = True
            _log.debug("{client}: invalid query: {why}", client=self.client, why=str(error))
            self._refuse("bad_query")
            return
        if query.hosts:
            self._refuse("forward_denied")
            return
        found = factory.router.find(query)
        if found is None:
            self._refuse("no_such_user" if query.user else "list_denied")
            return
        route, groups = found
        self._route = route.name
        self._state = _ANSWERING
        self._ask(route.target.answer(query._replace(groups=groups) if groups else query))

    def _ask(self, asking: Coroutine[Deferred[object], object, Result]) -> None:
        """Ask a chain. What is known at once is answered here and now, at the cost of a call, not of a Deferred."""
        try:
            waiting = asking.send(None)
        except StopIteration as done:
            self._resulted(done.value)
        except Exception:
            self._crashed(Failure())
        else:
            self._work = Deferred.fromCoroutine(_go_on(asking, waiting))
            self._work.addCallbacks(self._resulted, self._crashed)

    def _resulted(self, result: Result) -> None:
        """Send what the chain came to; its reasons go to the log alone."""
        if self._state is not _ANSWERING:
            return
        for backend, failed in result.failures:
            log_failed("backend {backend} failed, asked by route {route}: {why}", failed, backend, route=self._route)
        if isinstance(result.outcome, Answered):
            self._send(self.factory.to_wire(result.outcome.text), "answered", result.backend)
        else:
            self._refuse("internal_error" if isinstance(result.outcome, Failed) else "no_such_user")

    def _crashed(self, failure: Failure) -> None:
        if self._state is _ANSWERING:
            _log.failure("the chain of route {route} failed", failure, route=self._route)
            self._refuse("internal_error")

    def _refuse(self, refusal: Refusal) -> None:
        self._send(self.factory.refusals[refusal], refusal, "")

    def _send(self, answer: bytes, outcome: str, backend: str) -> None:
        """Send the answer and close, in the way that is cheapest and loses none of it."""
        transport = self.transport
        assert transport is not None
        self._state = _CLOSING
        transport.write(answer)
        if (
            not self._has_closed
            and (self._may_send_more or len(answer) > _SMALL_ANSWER_BYTES)
            and outcome != "busy"
            and not ISSLTransport.providedBy(transport)  # that has a goodbye of its own
        ):
            # Closing with something unread would reset the connection, and the network or the client would throw away
            # what it has of the answer. So only this side is closed, and the rest is read until the client closes too.
            transport.loseWriteConnection()  # type: ignore[attr-defined]  # ITCPTransport and IUNIXTransport
        else:
            transport.loseConnection()
        self._log_access(outcome, len(answer), backend)

    def _log_access(self, outcome: str, size: int = 0, backend: str = "") -> None:
        factory = self.factory
        factory.access_log.add(
            factory.listener,
            self.client,
            self._line.decode("utf-8", "backslashreplace"),
            self._route,
            backend,
            outcome,
            size,
            factory.seconds() - self._asked_at,
        )

    def readConnectionLost(self) -> None:
        """Note that the client has half-closed: with a query asked, it still waits for the answer."""
        self._has_closed = True
        if self._state is _RECEIVING and self._received:
            self._line = self._received
            self._log_access("gone")
        if self._state is not _ANSWERING and self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Note that the answer is sent and this side closed; what the client still sends is thrown away."""
        self._handed_over = True
        self.due = self.factory.seconds() + _LINGER_SECONDS

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._state is _ANSWERING:
            self._state = _CLOSING
            self._log_access("gone")
            if self._work is not None:
                self._work.cancel()
        factory = self.factory
        factory.protocols.discard(self)
        if factory.draining:
            factory.drained()

    def expired(self) -> None:
        """Act on a deadline: the line has not come, the backends are not done, or the client does not read."""
        assert self.transport is not None
        self.due = self.factory.seconds() + _LINGER_SECONDS
        if self._handed_over:
            self.transport.loseConnection()  # the kernel goes on sending to a client that reads slowly
        elif self._state is _CLOSING:
            self._abort()
        elif self._state is _RECEIVING:
            self._state = _CLOSING
            self._line = self._received
            self.transport.loseConnection()
            self._log_access("timeout")
        else:
            _log.error(
                "no answer within {seconds:g} s, asked by route {route}",
                seconds=self.factory.limits.answer_timeout,
                route=self._route,
            )
            self._refuse("internal_error")
            if self._work is not None:
                self._work.cancel()

    def drain(self) -> None:
        """Close, unless an answer is awaited or on its way."""
        if self._state is _RECEIVING:
            self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


class _Denied(Protocol):
    """The connection of a client that may not ask. Under TLS a protocol is needed even for that."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def _go_on(
    asking: Coroutine[Deferred[object], object, Result], waiting: Deferred[object]
) -> Generator[Deferred[object], object, Result]:
    """Go on with a coroutine that has been begun, and waits."""
    while True:
        try:
            value = yield waiting
        except Exception as error:
            step: Callable[[], Deferred[object]] = partial(asking.throw, error)
        else:
            step = partial(asking.send, value)
        try:
            waiting = step()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


@define(eq=False)
class FingerFactory(ServerFactory):
    """One listener's connections.

    :param listener: its name.
    :param router: its routes.
    :param refusals: what clients are told, by the names in ``[answers]``.
    :param allow: who may ask; None for everyone.
    :param deny: who may not, and wins.
    """

    listener: str
    router: Router[Chain]
    limits: Limits
    refusals: dict[str, bytes]
    charset: str
    case_sensitive: bool
    allow: tuple[Network, ...] | None
    deny: tuple[Network, ...]
    access_log: AccessLog
    clock: IReactorTime
    protocols: set[FingerProtocol] = field(init=False, factory=set)
    draining: bool = field(init=False, default=False)
    _drained: Deferred[None] | None = field(init=False, default=None)
    noisy = False

    def __attrs_post_init__(self) -> None:
        self.seconds = self.clock.seconds
        shortest = min(self.limits.query_timeout, self.limits.answer_timeout, _LINGER_SECONDS)
        self.deadlines = Deadlines(self.protocols, shortest, self.clock)
        # the same few texts are asked for again and again, a static backend's most of all
        self._short_to_wire = lru_cache(maxsize=128)(self._to_wire)

    def to_wire(self, text: str) -> bytes:
        """Return an answer's bytes, within the limit."""
        return (self._short_to_wire if len(text) <= _SMALL_ANSWER_BYTES else self._to_wire)(text)

    def _to_wire(self, text: str) -> bytes:
        wire = to_wire(text, self.charset)
        if len(wire) > self.limits.max_answer_bytes:
            _log.warn("an answer of {size} bytes is cut to {limit}", size=len(wire), limit=self.limits.max_answer_bytes)
        return truncate(wire, self.limits.max_answer_bytes)

    def startFactory(self) -> None:
        self.draining = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a protocol for a client; one that may not ask is closed on."""
        host = getattr(addr, "host", None)
        client = "unix" if host is None else host.removeprefix("::ffff:")
        if host is not None and (
            (self.deny and is_in(client, self.deny)) or (self.allow is not None and not is_in(client, self.allow))
        ):
            self.access_log.add(self.listener, client, "", "", "", "denied", 0, 0.0)
            return _Denied()
        return FingerProtocol(self, client)

    def drain(self) -> Deferred[None]:
        """Close all connections but those whose answer is awaited or on its way.

        :return: fires when these are closed too, at most ``answer_timeout`` later.
        """
        self.draining = True
        for protocol in list(self.protocols):
            protocol.drain()
        drained = self._drained = Deferred[None]()
        self.drained()
        return drained

    def drained(self) -> None:
        """Note that a connection is gone, of those that were drained."""
        if self._drained is not None and not self.protocols:
            self.deadlines.stop()
            drained, self._drained = self._drained, None
            drained.callback(None)
