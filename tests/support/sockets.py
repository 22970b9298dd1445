"""Clients that block, and ports of the loopback."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator

from tests.support.waiting import DEADLINE_SECONDS


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """Return a TCP port that was free a moment ago, and that no client's own end can have."""
    chances = random.SystemRandom()
    while True:
        port = chances.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind(("", port))
            return port


def finger(port: int, query: bytes, *, timeout: float = DEADLINE_SECONDS) -> bytes:
    """Ask a server on the loopback, blocking, and return all it says."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        client.sendall(query)
        return receive_all(client)


def silent(host: str, port: int = 0) -> contextlib.ExitStack:
    """Make an address of the loopback silent, until it is closed: one that connects there hears nothing."""
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(20):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            if not select.select([], [client], [], 0.2)[1]:
                return sockets.pop_all()
        raise AssertionError("the queue is never full")


def receive_all(client: socket.socket) -> bytes:
    """Read until the other side closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def serves(port: int) -> bool:
    """Tell whether a server is at work on a port of the loopback: one that has only bound does not close yet."""
    with contextlib.suppress(ConnectionError, TimeoutError), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.shutdown(socket.SHUT_WR)
        return not client.recv(1)
    return False


def listens(port: int) -> bool:
    """Tell whether something listens on a port of the loopback."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS).close()
        return True
    return False


def drop(client: socket.socket) -> None:
    """Close a connection by a reset."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def rest(client: socket.socket) -> bytes:
    """Read to the end of a connection, be it a reset, and close it."""
    received = b""
    with client, contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            received += data
    return received


def push(client: socket.socket, data: bytes) -> int:
    """Send until all is sent or the other side does not want it; return how many bytes it has taken."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < len(data):
            sent += client.send(data[sent : sent + 65536])
    return sent


def wait_closed(clients: Iterable[socket.socket], seconds: float) -> None:
    """Wait until all connections are closed from the other side, without reading any."""
    ends = time.monotonic() + seconds
    for client in clients:
        poller = select.poll()
        poller.register(client, select.POLLRDHUP)
        assert poller.poll(max(0.0, ends - time.monotonic()) * 1000), "a connection is still open"


@contextlib.contextmanager
def many(clients: Iterable[socket.socket]) -> Iterator[list[socket.socket]]:
    """Collect clients in a list; close them all at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client) for client in clients]
