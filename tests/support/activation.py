"""Gateways that get sockets as from systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.support.processes import ROOT, command_of_gateway

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
def passing(
    sockets: Mapping[str, socket.socket] | Sequence[tuple[str, socket.socket]],
    arguments: list[str],
    *,
    log: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gateway that gets sockets as from systemd.

    :param sockets: each with its name.
    :param log: where all that it prints goes.
    """
    pairs = list(sockets.items()) if isinstance(sockets, Mapping) else sockets
    names, numbers = ":".join(name for name, _ in pairs), [each.fileno() for _, each in pairs]
    running = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, names, ",".join(map(str, numbers)), *command_of_gateway(), *arguments],
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
