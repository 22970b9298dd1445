"""A listening TCP socket whose clients are read as they are accepted, and answered together.

Twisted's own way, which TLS and unix sockets keep, is the simple one: it accepts a connection and makes its protocol,
reads the query in a later turn, and sends the answer in the next one. That takes 11 system calls a query, as each
connection is added to the reactor, changed and removed there. But a client's query has mostly come by the time that its
connection is accepted. So here it is looked for at once, and what is answered in a batch is sent at its end: 7 system
calls. A connection that has sent nothing yet is no more than an :class:`Accepted`.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from twisted.internet import tcp
from twisted.logger import Logger

from fingergw.core.addresses import client_of
from fingergw.finger.accepted import Accepted
from fingergw.finger.answering import begin
from fingergw.finger.factory import FingerFactory, usual_text
from fingergw.finger.polling import READABLE, Polling
from fingergw.finger.protocol import FingerProtocol
from fingergw.finger.transport import LAST_FLAGS, READ_BYTES, READ_FLAGS, Transport, has_unread
from fingergw.telemetry.meters import RejectReason

_log = Logger()
_AT_ONCE = 64  # connections in a batch
_BATCHES = 16  # one after the other, while there are connections: then others have their turn
_Accept: TypeAlias = Callable[[], tuple[Any, Any]]
"""Return a new connection's socket, and the client's address."""


def is_available(port: object) -> bool:
    """Tell whether a port's connections can be taken: those of a TCP socket, where there is epoll.

    :param port: what listening on an endpoint has returned.
    """
    return type(port) is tcp.Port and hasattr(select, "epoll")


class FastPath:
    """Accept a port's connections in the place of its own method.

    :param port: of which :func:`is_available` is true.
    :param factory: returns what makes the protocols at present; None where TLS comes before them.
    :param reactor: the port's.
    """

    def __init__(self, port: tcp.Port, factory: Callable[[], FingerFactory | None], reactor: Any) -> None:
        self._factory = factory
        self._accept_simply = port.doRead
        self._accept = accept_function(port.socket)
        self._queue = select.poll()
        self._queue.register(port.fileno(), select.POLLIN)
        self._expected = 1  # connections that surely wait, as about as many did last time
        self._polling = Polling(reactor, self._send_answers)
        self._answers: list[tuple[Accepted, bytes]] = []
        port.doRead = self.accept  # type: ignore[method-assign]

    def end(self) -> None:
        """Note that the port is closed. Its connections go on."""
        self._polling.end()

    def accept(self) -> None:
        """Accept the connections that wait, and answer those that have sent a query."""
        factory = self._factory()
        if factory is None or socket.getdefaulttimeout() is not None:  # with which sockets could wait
            self._accept_simply()
            return
        for _ in range(_BATCHES):
            self._polling.doRead()  # who comes next may have just closed a connection, which is to count no more
            self._accept_batch(factory)
            if not self._queue.poll(0):
                break

    def _accept_batch(self, factory: FingerFactory) -> None:
        """Accept the connections that wait, and answer those that have sent a query."""
        accept, some_wait, expected, count = self._accept, self._queue.poll, self._expected, 0
        cannot_accept = False
        self._polling.begin_batch()
        try:
            # to look whether another one waits costs less than to find that none does
            while count < expected or (count < _AT_ONCE and some_wait(0)):
                sock, address = accept()
                count += 1
                try:
                    self._begin(factory, sock, address)
                except Exception:  # a bug ends one connection, not the listener
                    _log.failure("a connection failed")
        except BlockingIOError:
            pass
        except OSError:
            cannot_accept = True
        finally:
            self._polling.end_batch()
        self._expected = max(1, count - count // 4)
        if cannot_accept and not count:  # else those that have closed now may have left descriptors for more
            self._accept_simply()  # knows what to do where there are too many

    def _begin(self, factory: FingerFactory, sock: Any, address: tuple[Any, ...]) -> None:
        """Count a connection that was accepted, and answer if it has sent something."""
        peer = usual_text(address[0] if len(address) == 2 else _with_zone(address))
        if not factory.admits(peer):
            with suppress(OSError):  # to close alone would reset the connection, if the client has sent its line
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            return
        listener = factory.listener
        client = None if listener.rules.trusted_proxies is not None else client_of(peer)
        accepted = Accepted(self, factory, sock, peer, client)
        rejected = listener.connections.enter(client, listener.rules.limits)
        if rejected is not None:
            with suppress(OSError):  # to close with it unread would reset the connection
                sock.recv(READ_BYTES, READ_FLAGS)
            self._converse(accepted, b"", rejected)
        elif not self.read(accepted):
            accepted.wait()
            self._polling.watch(sock.fileno(), accepted, READABLE)

    def read(self, accepted: Accepted) -> bool:
        """Read from a connection for the first time, and tell whether there was anything, be it the end."""
        try:
            data = accepted.sock.recv(READ_BYTES, READ_FLAGS)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close(accepted)
        else:
            self._serve(accepted, data)
        return True

    def _serve(self, accepted: Accepted, data: bytes) -> None:
        """Answer what a client has sent first, or have a protocol do it."""
        try:
            begun = begin(accepted.factory.listener, accepted.peer, accepted.counted_as, data)
        except Exception:  # a bug, which the protocol may not have
            _log.failure("a query could not be begun; the protocol is asked")
            begun = None
        if begun is None:
            self._converse(accepted, data)
            return
        accepted.peer, accepted.counted_as, line, now, step = begun
        if isinstance(step, bytes):
            self._answers.append((accepted, step))
        else:
            protocol = FingerProtocol(accepted.factory.listener, accepted.peer)
            transport = self._hand_over(accepted, protocol)
            transport.run(partial(protocol.go_on, line, now, step))

    def close(self, accepted: Accepted) -> None:
        """Close a connection that has no protocol, if it is open."""
        fd = accepted.sock.fileno()
        if fd < 0:
            return
        self._polling.forget(fd)
        accepted.sock.close()
        accepted.leave()

    def _converse(self, accepted: Accepted, data: bytes, rejected: RejectReason | None = None) -> None:
        """Have a protocol see to a connection from here on.

        :param data: what was received.
        :param rejected: why the connection was not counted.
        """
        protocol = accepted.factory.protocol_for(accepted.peer)
        transport = self._hand_over(accepted, protocol, rejected)
        if data:
            transport.received(data)

    def _hand_over(
        self, accepted: Accepted, protocol: FingerProtocol, rejected: RejectReason | None = None
    ) -> Transport:
        transport = Transport(accepted.sock, protocol, self._polling, reads_on=rejected is None)
        if accepted.is_waiting:
            accepted.end_wait()
            transport.take_over(READABLE)
        protocol.connected, protocol.transport = True, transport
        protocol.begin(accepted.counted_as, rejected, accepted.due)
        return transport

    def _send_answers(self) -> None:
        """Send the answers of this batch that need no protocol, and close."""
        answers, self._answers = self._answers, []
        for accepted, answer in answers:
            try:
                self._send_answer(accepted, answer)
            except Exception:  # a bug ends one connection, not the batch
                _log.failure("a connection failed")
                self.close(accepted)

    def _send_answer(self, accepted: Accepted, answer: bytes) -> None:
        sock = accepted.sock
        try:
            sent = sock.send(answer, LAST_FLAGS)
            if sent == len(answer):
                sock.shutdown(socket.SHUT_WR)
                if not has_unread(sock):
                    self.close(accepted)
                    return
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            self.close(accepted)
            return
        protocol = FingerProtocol(accepted.factory.listener, accepted.peer)
        self._hand_over(accepted, protocol)
        protocol.finish(answer[sent:])


def accept_function(listening: socket.socket) -> _Accept:
    """Return what accepts a connection, without the class that Python has around sockets: it costs more than all else.

    The method for that is private; where this Python has none of this name, it is the public one.
    """
    accept: Callable[[], tuple[int, Any]] | None = getattr(listening, "_accept", None)
    if accept is None:
        return listening.accept
    family, kind, proto = int(listening.family), int(listening.type), listening.proto

    def accept_plainly() -> tuple[Any, Any]:
        fd, address = accept()
        return socket.SocketType(family, kind, proto, fd), address

    return accept_plainly


def _with_zone(address: tuple[Any, ...]) -> str:
    """Return an IPv6 address as text, with its zone if it has one."""
    host: str = address[0]
    return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0] if address[3] else host
