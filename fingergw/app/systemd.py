"""Messages to a service manager such as systemd, if it asks for them: sd_notify(3), without a library."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import MutableMapping
from typing import Self

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from fingergw.core.text import printable

_log = Logger()
# It reads at once unless it is busy starting a machine. If it misses READY=1 it waits for that, and then kills us.
_SEND_TIMEOUT = struct.pack("@ll", 1, 0)  # seconds, microseconds
_BEATS = 3  # in the watchdog's time: the process is not killed because one is late
_MAX_STATUS = 500  # characters; a message of more than 4096 bytes is not read at all


@define(eq=False, repr=False)
class ServiceManager:
    """The connection to the service manager that started this process; without one, nothing here does anything.

    It also works in a chroot, and as any user, as the socket is connected from the beginning. A message that cannot be
    sent is no error.

    :param watchdog_seconds: the process is killed after so long without a sign of life; None for never.
    :param connection: the socket to send to; None if no service manager asks for messages.
    """

    watchdog_seconds: float | None = None
    connection: socket.socket | None = None
    _beat: LoopingCall | None = field(default=None, init=False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """Connect as the environment says, and remove the service manager's variables, so that no child has them.

        Source: sd_notify(3) and sd_watchdog_enabled(3).
        """
        address, microseconds, pid = (
            environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        if not address:
            return cls()
        if address.startswith("@"):  # in the abstract namespace
            address = "\0" + address[1:]
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        try:
            own.connect(address)
        except OSError as error:
            own.close()
            _log.warn("NOTIFY_SOCKET: no messages to the service manager: {why}", why=error.strerror or error)
            return cls()
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(int(microseconds) / 1e6 if is_watched else None, own)

    def ready(self, status: str) -> None:
        """Report that clients are served from now on, after a start or a reload."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Report that a reload begins; :meth:`ready` reports its end, whether it was applied or refused."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", _status("reloading"))

    def stopping(self) -> None:
        """Report that the process is about to end."""
        self._send("STOPPING=1", _status("finishing the answers under way"))

    def watch(self, clock: IReactorTime) -> None:
        """Send signs of life from the reactor, if the watchdog asks for them; a reactor that hangs sends none."""
        if self.watchdog_seconds is not None and self._beat is None:
            self._beat = LoopingCall(self._send, "WATCHDOG=1", flags=socket.MSG_DONTWAIT)
            self._beat.clock = clock
            self._beat.start(self.watchdog_seconds / _BEATS)

    def stop(self) -> None:
        """Send no more signs of life. The process must end soon after, or it is killed."""
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.stop()

    def _send(self, *lines: str, flags: int = 0) -> None:
        if self.connection is None:
            return
        try:
            self.connection.send("\n".join(lines).encode(), flags)
        except OSError as error:
            _log.debug("no message to the service manager: {why}", why=error.strerror)


def _status(text: str) -> str:
    return f"STATUS={printable(text)[:_MAX_STATUS]}"
