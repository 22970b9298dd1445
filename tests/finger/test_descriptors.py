"""A gateway that has too few file descriptors."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sockets import drop, free_port, rest
from tests.support.target import HELLO_WIRE, Figures, Note, Target, configuration, target
from tests.support.transports import on_both_transports
from tests.support.waiting import wait_until

FEW = 64
NO_WARNINGS = "warnings about the configuration cannot be looked for: Too many open files"
NO_CLIENT = "the HTTP client cannot be imported: [Errno 24] Too many open files"
FAILED_WIRE = b"Internal error in server\r\n"
LIMITS = "query_timeout = 60\nanswer_timeout = 60"
NEEDING = """
[[routes]]
user = "program"
backends = ["program"]
[[routes]]
user = "web"
backends = ["web"]
[[routes]]
user = "program-or-map"
backends = ["program", "word"]
[[routes]]
user = "web-or-map"
backends = ["web", "word"]
[backends.program]
type = "command"
argv = ["/bin/echo", "Ran"]
[backends.program.breaker]
failures = 3
[backends.web]
type = "http"
url = "http://127.0.0.1:{port}/"
timeout = 2
[[routes]]
user = "other"
backends = ["other"]
[backends.other]
type = "finger"
host = "127.0.0.1"
port = {port}
timeout = 2
[backends.word]
type = "static"
text = "The map"
"""


def limited(soft: int, hard: int) -> list[str]:
    """Return a command that gives another so many file descriptors."""
    return ["/bin/sh", "-c", 'ulimit -Sn "$0" && ulimit -Hn "$1" && shift && exec "$@"', str(soft), str(hard)]


def fill(gateway: Target, clients: contextlib.ExitStack) -> None:
    """Connect clients until one is closed on, as no descriptor is left."""
    while True:
        before, client = gateway.descriptors, clients.enter_context(gateway.connect())
        ends = time.monotonic() + 0.5  # it may be inside while another's end hides that
        while gateway.descriptors <= before and time.monotonic() < ends:
            if _is_closed(client):
                return
            time.sleep(0.001)


def _is_closed(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


def soft_limit(gateway: Target) -> int:
    """Return how many file descriptors a gateway may have."""
    lines = Path(f"/proc/{gateway.running.pid}/limits").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Max open files")).split()[3])


@contextlib.contextmanager
def short_of_descriptors(folder: Path, note: Note) -> Iterator[tuple[Target, contextlib.ExitStack, Figures]]:
    """Run a gateway that has few file descriptors; clients that are entered into the stack leave with it."""
    port = free_port()
    text = configuration(port, limits=LIMITS)
    with (
        target(folder, text, port, before=limited(FEW, FEW), chatter=["EMFILE ", NO_WARNINGS]) as gateway,
        contextlib.ExitStack() as clients,
    ):
        yield gateway, clients, Figures(gateway, note)


@on_both_transports
class TestNoneLeft:
    """Clients connect until there are none."""

    def test_clients_come_and_go(self, tmp_path: Path, record_property: Note) -> None:
        """Those inside are answered, those outside closed on at once, and served as soon as others have left."""
        with short_of_descriptors(tmp_path, record_property) as (gateway, clients, figures):
            inside = [clients.enter_context(gateway.connect()) for _ in range(10)]
            for round_ in range(5):
                fill(gateway, clients)
                assert {rest(gateway.connect()) for _ in range(100)} == {b""}
                inside[round_].sendall(b"hello\r\n")
                assert rest(inside[round_]) == HELLO_WIRE
                wait_until(lambda: gateway.ask(b"hello\r\n") == HELLO_WIRE, "an answer to one who came later")
            for client in inside:
                drop(client)
            clients.close()
            figures.settle()

    def test_no_busy_loop(self, tmp_path: Path, record_property: Note) -> None:
        """While there are none, and nobody asks for one, it rests."""
        with short_of_descriptors(tmp_path, record_property) as (gateway, clients, figures):
            fill(gateway, clients)
            assert rest(gateway.connect()) == b""
            used, lines = gateway.cpu, len(gateway.logged)
            time.sleep(1)  # what is measured takes its time
            record_property("cpu seconds in a second at rest", f"{gateway.cpu - used:.2f}")
            assert gateway.cpu - used < 0.2
            assert len(gateway.logged) - lines < 10  # those of the one before may come late
            used = gateway.cpu
            for _ in range(1000):
                rest(gateway.connect())
            record_property("cpu seconds for 1000 that are closed on", f"{gateway.cpu - used:.2f}")
            assert gateway.cpu - used < 5
            clients.close()
            figures.settle()

    def test_few_log_lines(self, tmp_path: Path, record_property: Note) -> None:
        """Refused connections do not fill the log."""
        with short_of_descriptors(tmp_path, record_property) as (gateway, clients, figures):
            fill(gateway, clients)
            for _ in range(300):
                rest(gateway.connect())
            clients.close()
            figures.settle()
            record_property("lines for 300 that are closed on", len(gateway.logged))
            assert len(gateway.logged) < 30


# Twisted's transport closes on those that it finds no descriptor for at once.
def test_more_clients_at_once_than_descriptors(tmp_path: Path, record_property: Note) -> None:
    """Clients that have asked are all answered where each answer frees a descriptor for the next one."""
    with short_of_descriptors(tmp_path, record_property) as (gateway, clients, figures):
        os.kill(gateway.running.pid, signal.SIGSTOP)
        asking = [clients.enter_context(gateway.connect()) for _ in range(4 * FEW)]
        for client in asking:
            client.sendall(b"hello\r\n")
        os.kill(gateway.running.pid, signal.SIGCONT)
        assert Counter(map(rest, asking)) == {HELLO_WIRE: len(asking)}
        figures.settle()


# Over one transport: by the time that a backend is asked, it makes no difference any more.
class TestBackendsWithNone:
    """Backends are asked while there are none."""

    @pytest.mark.parametrize(
        ("query", "answers"),
        [
            (b"program", {FAILED_WIRE}),
            (b"web", {FAILED_WIRE}),
            (b"other", {FAILED_WIRE}),
            (b"program-or-map", {b"The map\r\n"}),
            (b"web-or-map", {b"The map\r\n"}),
        ],
    )
    def test_backends(self, query: bytes, answers: set[bytes], tmp_path: Path, record_property: Note) -> None:
        """A backend that needs one fails, and the next in the chain is asked; its breaker does not open for that."""
        port = free_port()
        with (
            socket.create_server(("127.0.0.1", 0)) as upstream,
            target(
                tmp_path,
                configuration(port, limits=LIMITS, more=NEEDING.format(port=upstream.getsockname()[1])),
                port,
                before=limited(FEW, FEW),
                chatter=["EMFILE ", NO_WARNINGS, NO_CLIENT, "failed, asked by route"],
            ) as gateway,
            contextlib.ExitStack() as clients,
        ):
            figures = Figures(gateway, record_property)
            inside = [clients.enter_context(gateway.connect()) for _ in range(5)]
            for client in inside:
                fill(gateway, clients)
                began = time.monotonic()
                client.sendall(query + b"\r\n")
                assert rest(client) in answers
                assert time.monotonic() - began < 1.5  # it fails, and is not waited for
            clients.close()
            figures.settle()
            assert gateway.ask(b"program\r\n") == b"Ran\r\n"

    def test_programs_that_get_some_of_theirs(self, tmp_path: Path, record_property: Note) -> None:
        """However many of the pipes that a program needs can be made, none of them is left."""
        port = free_port()
        text = configuration(port, limits=LIMITS, more=NEEDING.format(port=1))
        chatter = ["EMFILE ", NO_WARNINGS, NO_CLIENT, "failed, asked by route"]
        with (
            target(tmp_path, text, port, before=limited(FEW, FEW), chatter=chatter) as gateway,
            contextlib.ExitStack() as clients,
        ):
            figures, children = Figures(gateway, record_property), gateway.children
            told = []
            for free in range(12):
                asking = clients.enter_context(gateway.connect())
                leaving = [clients.enter_context(gateway.connect()) for _ in range(free)]
                fill(gateway, clients)
                for client in leaving:
                    drop(client)
                wait_until(lambda: gateway.descriptors == FEW - free, f"{free} descriptors")  # noqa: B023
                asking.sendall(b"program\r\n")
                told.append(rest(asking))
                clients.close()
                wait_until(lambda: gateway.descriptors <= figures.descriptors, "the end of all connections")
            assert told[0] == FAILED_WIRE
            assert told[-1] == b"Ran\r\n"
            assert set(told) == {FAILED_WIRE, b"Ran\r\n"}
            assert gateway.children == children
            record_property("needed for a program", told.index(b"Ran\r\n"))
            figures.settle()


WARNING = "file descriptors may be needed"


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "warnings"),
    [(64, 4096, 392, 0), (400, 400, 400, 0), (1000, 4096, 1000, 0), (64, 128, 128, 1), (100, 100, 100, 1)],
)
def test_limit(soft: int, hard: int, limit: int, warnings: int, tmp_path: Path) -> None:
    """At its start it raises its limit to what it may need, never lowers it, and says once when it cannot."""
    port = free_port()
    text = configuration(port, limits="max_connections = 150\nmax_waiting = 50")
    with target(tmp_path, text, port, before=limited(soft, hard)) as gateway:
        assert soft_limit(gateway) == limit
    assert (tmp_path / "log").read_text().count(WARNING) == warnings
