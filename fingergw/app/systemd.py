"""What a service manager such as systemd is told, where it asks to be: sd_notify(3), without a library."""

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
# It reads at once, but for when it starts half a machine; and what it was not told it would wait for, and then kill.
_PATIENCE = struct.pack("@ll", 1, 0)  # seconds, microseconds
_BEATS = 3  # a late one is no reason to be killed
_MAX_STATUS = 500  # characters; a message of more than 4096 bytes is not read at all


@define(eq=False)
class ServiceManager:
    """The way to the one who started this process. Where nobody asks to be told, all of it does nothing.

    It works in a chroot, and as any user, as its socket is connected from the beginning. A message that nobody takes
    any more is no error.

    :param watchdog_seconds: after how long without a sign of life the process is killed; None for never.
    """

    watchdog_seconds: float | None = None
    _socket: socket.socket | None = None
    _beat: LoopingCall | None = field(default=None, init=False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """Take what a service manager says out of the environment, so that no child has it.

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
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        try:
            own.connect(address)
        except OSError as error:
            own.close()
            _log.warn("NOTIFY_SOCKET: the service manager cannot be told anything: {why}", why=error.strerror or error)
            return cls()
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(int(microseconds) / 1e6 if is_watched else None, own)

    def ready(self, status: str) -> None:
        """Say that clients are served from now on, after a start or a reload."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that a reload begins; :meth:`ready` says that it is over, however it went."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", _status("reloading"))

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._send("STOPPING=1", _status("answers under way are finished"))

    def status(self, text: str) -> None:
        """Say in a line how things stand."""
        self._send(_status(text))

    def watch(self, clock: IReactorTime) -> None:
        """Give signs of life from the reactor, so that one that hangs is noticed; where that was asked for."""
        if self.watchdog_seconds is not None and self._beat is None:
            self._beat = LoopingCall(self._send, "WATCHDOG=1", flags=socket.MSG_DONTWAIT)
            self._beat.clock = clock
            self._beat.start(self.watchdog_seconds / _BEATS)

    def stop(self) -> None:
        """Give no more signs of life. The process is to end soon after, or it is killed."""
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.stop()

    def _send(self, *lines: str, flags: int = 0) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(lines).encode(), flags)
        except OSError as error:
            _log.debug("the service manager was not told: {why}", why=error.strerror)


def _status(text: str) -> str:
    return f"STATUS={printable(text)[:_MAX_STATUS]}"
