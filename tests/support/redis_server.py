"""A real Redis on the loopback, for one test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from io import BufferedReader
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, wait_until

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class RedisError(Exception):
    """An error that Redis replied."""


class RedisServer:
    """A ``redis-server`` that keeps nothing on the disk.

    :param arguments: more of its command line.
    :param password: what ``--requirepass`` asks for, if anything.
    """

    def __init__(self, *arguments: str, password: str = "") -> None:
        self._arguments = [*arguments, *(["--requirepass", password] if password else [])]
        self._password = password
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        self._process: subprocess.Popen[bytes] | None = None
        for last in (False, False, False, False, True):  # another may take the port first
            self.port = free_port()
            try:
                self._start()
            except AssertionError:
                if last:
                    self.stop()
                    raise
            else:
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *arguments: str | bytes | int) -> Any:
        """Run a command on a connection of its own, blocking, and return its reply: bytes, int, None or a list."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS) as client,
            client.makefile("rb") as replies,
        ):
            if self._password:
                client.sendall(_encoded("AUTH", self._password))
                _reply(replies)
            client.sendall(_encoded(*arguments))
            return _reply(replies)

    def info(self, name: str) -> int:
        """Return one of the numbers of Redis's INFO."""
        for line in self.command("INFO").decode().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.partition(":")[2])
        raise KeyError(name)

    def freeze(self) -> None:
        """Let it do nothing, with all its connections open; return when it has stopped."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()  # also what is frozen
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End it, and start it again, empty, on the same port."""
        self.kill()
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return self._start()
            except AssertionError:  # the port may still be held
                if time.monotonic() > ends:
                    raise

    def stop(self) -> None:
        """End it for good."""
        self.kill()
        self._folder.cleanup()

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        command += ["--save", "", "--appendonly", "no", "--logfile", str(self._log)]
        process = subprocess.Popen([*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._process = process
        # it may be another's that answers, if this one could not have the port
        wait_until(lambda: self._answers() or process.poll() is not None, "an answer of Redis")
        if process.poll() is not None:
            raise AssertionError(f"redis-server ended: {self._log.read_text()}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, EOFError, RedisError):
            return bool(self.command("PING") == b"PONG" and self.info("process_id") == self._pid)
        return False


def _encoded(*arguments: str | bytes | int) -> bytes:
    encoded = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        encoded.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(encoded)


def _reply(stream: BufferedReader) -> Any:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("Redis has closed the connection")
    kind, text = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(text.decode(errors="replace"))
    if kind == b"+":
        return text
    number = int(text)
    if kind == b":":
        return number
    if number < 0:
        return None
    if kind == b"$":
        return stream.read(number + 2)[:-2]
    return [_reply(stream) for _ in range(number)]
