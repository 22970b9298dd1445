"""What the benchmarks share: servers in processes of their own, and many clients at once from this one.

    python -m tests.benchmarks [speed|cache]...
    python -m tests.benchmarks soak [QUERIES]
    python -m tests.benchmarks stall [RESPONSE]...
    python -m tests.benchmarks others [SCENARIO]...

A server's user and system time, and its memory, are read from the system's accounting (/proc).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

IN_FLIGHT = 64


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask_many(
    port: int, queries: int, query: Callable[[int], bytes], answer: bytes, *, in_flight: int = IN_FLIGHT
) -> list[float]:
    """Ask that many queries, so many at once; every answer must be right.

    :param query: the bytes to send as the n-th.
    :return: seconds from connecting to the end of the answer, for each.
    """
    selector = selectors.DefaultSelector()
    received: dict[socket.socket, bytes] = {}
    begun_at: dict[socket.socket, float] = {}
    seconds: list[float] = []

    def begin() -> None:
        now = time.perf_counter()
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(query(len(seconds) + len(received)))
        received[client], begun_at[client] = b"", now
        selector.register(client, selectors.EVENT_READ)

    for _ in range(min(in_flight, queries)):
        begin()
    while received:
        for key, _ in selector.select():
            client = key.fileobj
            assert isinstance(client, socket.socket)
            data = client.recv(65536)
            received[client] += data
            if data:
                continue
            selector.unregister(client)
            client.close()
            seconds.append(time.perf_counter() - begun_at.pop(client))
            if received.pop(client) != answer:
                raise SystemExit("a wrong answer")
            if len(seconds) + len(received) < queries:
                begin()
    return seconds


def wait_for(port: int) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def server(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process of its own, with what it prints thrown away."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as running:
        try:
            wait_for(port)
            yield running
        finally:
            running.terminate()


def gateway(config: Path, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a gateway."""
    return server("-m", "fingergw", "--config", str(config), port=port)
