"""Gateways that get sockets as from systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import COMMAND, ROOT

_LAUNCHER = """
import fcntl, os, sys
names, numbers, *argv = sys.argv[1:]
passed = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in numbers.split(",")]
for place, each in enumerate(passed):
    os.dup2(each, 3 + place)
    os.close(each)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=names)
os.execv(argv[0], argv)
"""


@contextmanager
def passing(sockets: dict[str, socket.socket], arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gateway that gets sockets as from systemd."""
    numbers = [each.fileno() for each in sockets.values()]
    running = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, ":".join(sockets), ",".join(map(str, numbers)), *COMMAND, *arguments],
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
