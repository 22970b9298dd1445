"""The transport of a TCP connection on the fast path: it sends, closes and reads in batches."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISystemHandle, ITransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.finger.polling import READABLE, WRITABLE, Polling

_log = Logger()

READ_BYTES: Final = 4096
"""As much is read first: more than a query with a PROXY header before it has, mostly."""
_READ_ON_BYTES: Final = 16384
_SEND_BYTES: Final = 131072
"""As much is sent at once: then others have their turn."""
READ_FLAGS: Final = socket.MSG_DONTWAIT
SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
LAST_FLAGS: Final = SEND_FLAGS | getattr(socket, "MSG_MORE", 0)
"""For what is followed by the end: both go in one segment, which halves the work."""
_NONE: Final = bytes(4)  # bytes that wait
_RESET: Final = struct.pack("ii", 1, 0)
_DONE = Failure(ConnectionDone())
_LOST = Failure(ConnectionLost())
_ABORTED = Failure(ConnectionAborted())
_NOBODY = Protocol()

# What is to be done once everything is sent: nothing, close this side, close; or reset without sending.
_End: TypeAlias = Literal["", "write", "all", "reset"]


def has_unread(sock: Any) -> bool:
    """Tell whether a client has sent what was not read: closing would reset the connection."""
    return fcntl.ioctl(sock.fileno(), termios.FIONREAD, _NONE) != _NONE


@implementer(ITransport, ISystemHandle)
class Transport:
    """A connection to a client: what it is given is done at the end of the batch, or in the reactor's next turn.

    Twisted's own differs in one thing that clients could tell: this one never closes with something unread, which
    could lose the end of an answer. It closes its own side then, and reads on until the client closes, or the protocol
    ends it.

    :param sock: the connection's socket.
    :param protocol: what it tells of input, and of the ends of both sides.
    :param polling: tells it when the socket is ready, and when a batch ends.
    :param reads_on: whether it does so. A connection that was rejected is to cost nothing more.
    """

    __slots__ = (
        "_end",
        "_events",
        "_has_ended",
        "_has_sent",
        "_is_acting",
        "_is_shut",
        "_out",
        "_polling",
        "_reads_on",
        "_sock",
        "protocol",
    )

    def __init__(self, sock: Any, protocol: Protocol, polling: Polling, *, reads_on: bool = True) -> None:
        self._sock, self.protocol, self._polling, self._reads_on = sock, protocol, polling, reads_on
        self._out: bytes | memoryview = b""
        self._end: _End = ""
        self._has_sent = self._has_ended = self._is_acting = self._is_shut = False
        self._events = -1  # not watched

    def take_over(self, events: int) -> None:
        """Take over a socket that is watched for these events already."""
        self._events = events
        self._polling.replace(self._sock.fileno(), self)

    # what the protocol wants

    def write(self, data: bytes) -> None:
        if not self._end:
            self._out = bytes(self._out) + data if self._out else data
            self._act_later()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Close this side, once all is sent."""
        self._close_as("write", "")

    def loseConnection(self) -> None:
        """Close, once all is sent and read."""
        self._close_as("all", "", "write")

    def abortConnection(self) -> None:
        """Reset the connection."""
        self._close_as("reset", "", "write", "all")

    def _close_as(self, end: _End, *before: _End) -> None:
        if self._end in before:
            self._end = end
            self._act_later()

    def _act_later(self) -> None:
        if not self._is_acting:
            self._is_acting = True
            self._polling.later(self)

    def getHost(self) -> IPv4Address | IPv6Address:
        return _address(self._sock.getsockname())

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _address(self._sock.getpeername())

    def getHandle(self) -> Any:
        return self._sock

    # what it does

    def act(self) -> None:
        """Send what can be sent, and then close as far as the protocol wants it."""
        self._is_acting = False
        if self._sock is None:
            return
        try:
            if self._end == "reset":
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._lose(_ABORTED)
                return
            if self._out and not self._send():
                return
            if self._end == "write":
                self._close_side()
            elif self._end == "all":
                self._close()
            self._watch()
        except Exception:
            self._failed()

    def _send(self) -> bool:
        """Send what the kernel takes, and tell whether that was all."""
        out = self._out
        try:
            some = out if len(out) <= _SEND_BYTES else memoryview(out)[:_SEND_BYTES]
            sent = self._sock.send(some, LAST_FLAGS if self._end else SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(_LOST)
            return False
        self._has_sent = True
        if sent == len(out):
            self._out = b""
            return True
        self._out = memoryview(out)[sent:]
        self._watch()
        return False

    def _close_side(self) -> None:
        """Close this side, unless that is done."""
        if not self._is_shut:
            self._shut()
            self.protocol.writeConnectionLost()  # type: ignore[attr-defined]  # a FingerProtocol

    def _close(self) -> None:
        """Close, or only this side if something is unread."""
        if self._has_sent and not self._is_shut:
            self._shut()
            if self._reads_on and not self._has_ended and has_unread(self._sock):
                self._end = "write"
                self.protocol.writeConnectionLost()  # type: ignore[attr-defined]
                return
        self._lose(_DONE)

    def _shut(self) -> None:
        self._is_shut = True
        with suppress(OSError):  # the client is gone
            self._sock.shutdown(socket.SHUT_WR)

    def ready(self, events: int) -> None:
        """Read and write what can be."""
        try:
            if events & WRITABLE:
                self.act()
            if events & ~WRITABLE and self._sock is not None:
                self._read()
            self._watch()
        except Exception:
            self._failed()

    def _read(self) -> None:
        if self._has_ended:  # so this is the end of both sides, or a reset
            self._lose(_LOST)
            return
        try:
            data = self._sock.recv(_READ_ON_BYTES, READ_FLAGS)
        except BlockingIOError:
            return
        except OSError:
            self._lose(_LOST)
            return
        self._received(data)

    def received(self, data: bytes) -> None:
        """Pass on what was received; never raise."""
        self.run(partial(self._received, data))

    def run(self, work: Callable[[], object]) -> None:
        """Have the protocol do something, and wait for what is to come, or end the connection if it raises."""
        try:
            work()
            self._watch()
        except Exception:
            self._failed()

    def _received(self, data: bytes) -> None:
        if data:
            if self._end == "all" and self._reads_on and not self._is_shut:
                self._end = "write"  # a client that goes on sending may send yet more
            self.protocol.dataReceived(data)
        else:
            self._has_ended = True
            self.protocol.readConnectionLost()  # type: ignore[attr-defined]

    def _watch(self) -> None:
        """Wait for what is to come: input until the client closes its side, and room for what is not sent."""
        if self._sock is None or self._is_acting:  # it may be closed by the end of the batch
            return
        events = (0 if self._has_ended else READABLE) | (WRITABLE if self._out else 0)
        if events != self._events:
            self._events = events
            self._polling.watch(self._sock.fileno(), self, events)

    def _lose(self, reason: Failure) -> None:
        sock, self._sock, self._out = self._sock, None, b""
        if self._events >= 0:
            self._polling.forget(sock.fileno())
        sock.close()
        protocol, self.protocol = self.protocol, _NOBODY  # no cycle, so all of it goes now
        protocol.connectionLost(reason)

    def _failed(self) -> None:
        """End a connection whose protocol has a bug."""
        _log.failure("a connection failed")
        if self._sock is not None:
            with suppress(Exception):
                self._lose(_LOST)


def _address(address: Any) -> IPv4Address | IPv6Address:
    return (IPv4Address if len(address) == 2 else IPv6Address)("TCP", *address)
