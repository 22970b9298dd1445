"""What the benchmarks share: servers in processes of their own, and many clients at once from this one.

    python -m tests.benchmarks [NAME [ARGUMENT]...]...

Without a name, all that take no arguments run in turn. They, and their arguments:

=========== ===========================================================================================================
speed       processor time of a query, over the tutorial's server and over a loop in C
lost [SEED] whether clients that send more than their line get whole answers
idle        memory of a connection that says nothing
patterns    processor time of a query with 10 and with 10,000 patterns, and how long those take to load
start       memory and time of a start, and of commands
still       the slowest query while large files are read again
stall       what others wait for while upstreams send what takes long; arguments: names of responses
cache       clients at once, fresh hits, a hanging upstream, invented names
soak        faults of every kind; argument: the number of queries
reload      reloads while clients ask; argument: the number of queries
others      what others get while one makes trouble; arguments: names of scenarios
=========== ===========================================================================================================

A server's processor time, and its memory, are read from the system's accounting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
IN_FLIGHT = 64
_MAX_SECONDS = 60  # for so long answers are waited for
_libc = ctypes.CDLL(None, use_errno=True)


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used, threads that have ended included."""
    clock = ctypes.c_int()
    if error := _libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


def raise_open_files() -> int:
    """Raise the limit on open files of this process, and of those that it starts, as far as it may; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def cpu_clock(pid: int) -> int:
    """Return the clock of a process's user and system time, all threads included, for ``time.clock_gettime``.

    So does clock_getcpuclockid(3), which Python does not have.
    """
    return ~pid << 3 | 2


def ask_many(
    port: int, queries: int, query: Callable[[int], bytes], answer: bytes, *, in_flight: int = IN_FLIGHT
) -> list[float]:
    """Ask that many queries, so many at once; every answer must be right, and fit into a socket's buffer.

    :param query: the bytes to send as the n-th.
    :return: seconds from connecting to the end of the answer, for each.
    """
    took = ask_while(port, lambda begun: begun < queries, query, answer, time.perf_counter, in_flight=in_flight)
    return [ended - begun for begun, ended in took]


def ask_while(
    port: int,
    more: Callable[[int], bool],
    query: Callable[[int], bytes],
    answer: bytes,
    clock: Callable[[], T],
    *,
    in_flight: int = IN_FLIGHT,
) -> list[tuple[T, T]]:
    """Ask queries, so many at once; every answer must be right, and fit into a socket's buffer.

    :param more: tells whether to ask another, when so many have begun.
    :param query: the bytes to send as the n-th.
    :return: what the clock read before connecting and at the end of the answer, for each.
    """
    ended = select.epoll()
    asking: dict[int, tuple[socket.socket, T]] = {}
    took: list[tuple[T, T]] = []
    address = ("127.0.0.1", port)

    def begin() -> None:
        begun = len(took) + len(asking)
        if not more(begun):
            return
        client = socket.socket()
        begun_at = clock()
        client.connect(address)
        client.sendall(query(begun))
        asking[client.fileno()] = client, begun_at
        ended.register(client.fileno(), select.EPOLLRDHUP)  # once, when the answer is here to its end

    with ended:
        for _ in range(in_flight):
            begin()
        while asking:
            events = ended.poll(_MAX_SECONDS)
            if not events:
                raise SystemExit("an answer does not come")
            for descriptor, _ in events:
                client, begun_at = asking.pop(descriptor)
                with client:
                    received = client.recv(1 << 20, socket.MSG_WAITALL)
                took.append((begun_at, clock()))
                if received != answer:
                    raise SystemExit(f"a wrong answer: {received[:100]!r}")
                begin()
    return took


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
def server(*command: str, port: int, program: str = sys.executable) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process of its own, with what it prints thrown away."""
    with subprocess.Popen([program, *command], stdout=subprocess.DEVNULL) as running:
        try:
            wait_for(port)
            yield running
        finally:
            running.terminate()


def gateway(config: Path, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a gateway."""
    return server("-m", "fingergw", "--config", str(config), port=port)
