"""A gateway in a process of its own, and clients at several addresses: the one that makes trouble, and others."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w
from attrs import define, field, frozen

from tests.benchmarks import server
from tests.support.sockets import free_port, receive_all

TROUBLE = "127.0.0.1"
"""The address of the client that makes trouble."""
OTHERS = tuple(f"127.0.0.{number}" for number in range(2, 7))
CONNECTIONS = 20
"""The most that a client may have by default."""
_MAX_SECONDS = 30.0  # for so long a client waits for its answer

Table: TypeAlias = Mapping[str, Any]


@define
class Answers:
    """What clients were answered.

    :param seconds: how long each answer took.
    :param wrong: the answers that were not right.
    """

    seconds: list[float] = field(factory=list)
    wrong: Counter[str] = field(factory=Counter)

    def add(self, other: Answers) -> None:
        """Add those of other clients."""
        self.seconds += other.seconds
        self.wrong += other.wrong

    def __str__(self) -> str:
        asked, wrong = len(self.seconds), self.wrong.total()
        said = "".join(f"; {count} x {answer}" for answer, count in self.wrong.most_common(2))
        return (
            f"slowest {max(self.seconds, default=0.0):6.3f} s, right {asked - wrong} of {asked}, failed {wrong}{said}"
        )


@frozen
class Running:
    """A gateway in a process of its own.

    :param port: of its listener.
    :param access: its access log.
    """

    port: int
    access: Path

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of its access log, which is a fifth of a second late."""
        return [json.loads(line) for line in self.access.read_text().splitlines()]


@contextmanager
def running(
    routes: Sequence[Table],
    backends: Mapping[str, Table],
    *,
    port: int = 0,
    command: Sequence[str] = ("-m", "fingergw"),
    **listener: object,
) -> Iterator[Running]:
    """Run a gateway.

    :param port: 0 for any that is free.
    :param command: Python's arguments that start it.
    :param listener: the listener's further keys; an ``endpoint`` has ``{}`` in the place of the port.
    """
    port = port or free_port()
    endpoint = str(listener.pop("endpoint", "tcp:{}:interface=127.0.0.1")).format(port)
    with tempfile.TemporaryDirectory() as folder:
        config, access = Path(folder, "fingergw.toml"), Path(folder, "access.log")
        tables = {
            "listeners": [{"endpoint": endpoint, **listener}],
            "routes": routes,
            "backends": backends,
            "log": {"access": str(access), "format": "json"},
        }
        config.write_text(tomli_w.dumps(tables))
        with server(*command, "--config", str(config), port=port):
            yield Running(port, access)


def ask(port: int, name: str, source: str) -> bytes:
    """Ask for a name.

    :return: the answer, or why there is none.
    """
    try:
        with _connect(port, source) as client:
            client.sendall(f"{name}\r\n".encode())
            return receive_all(client)
    except OSError as error:
        return str(error).encode()


def _connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), _MAX_SECONDS, source_address=(source, 0))


def ask_in_turn(port: int, queries: Iterable[tuple[str, str]], right: Callable[[str], bytes]) -> Answers:
    """Ask one query after the other.

    :param queries: the client's address and the name, of each.
    :param right: returns the right answer to a name.
    """
    answers = Answers()
    for source, name in queries:
        begun = time.perf_counter()
        answer = ask(port, name, source)
        answers.seconds.append(time.perf_counter() - begun)
        if answer != right(name):
            answers.wrong[answer.decode().strip()] += 1
    return answers


def ask_side_by_side(port: int, times: int, name: Callable[[str, int], str], right: Callable[[str], bytes]) -> Answers:
    """Have each of the others ask so many times, one query after the other.

    :param name: returns the n-th name that a client asks for.
    """

    def ask_as(source: str) -> Answers:
        return ask_in_turn(port, [(source, name(source, number)) for number in range(times)], right)

    answers = Answers()
    for each in at_once(*(lambda source=source: ask_as(source) for source in OTHERS)):
        answers.add(each)
    return answers


def at_once(*functions: Callable[[], Answers]) -> list[Answers]:
    """Call them all at once, each in a thread."""
    with ThreadPoolExecutor(len(functions)) as threads:
        return [done.result() for done in [threads.submit(function) for function in functions]]


@contextmanager
def kept_asking(port: int, connections: int = CONNECTIONS) -> Iterator[Counter[bytes]]:
    """Have one client ask on so many connections for as long as the body of this runs, each time for another name.

    :return: what it was answered, and how often.
    """
    told, over, clients = Counter[bytes](), threading.Event(), dict[int, socket.socket]()

    def keep_asking(place: int) -> None:
        for number in itertools.count():
            with suppress(OSError), _connect(port, TROUBLE) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it leaves by a reset
                clients[place] = client
                if over.is_set():
                    return
                client.sendall(f"trouble-{place}-{number}\r\n".encode())
                told[receive_all(client)] += 1
            if over.wait(0.05):  # who is busy asks again
                return

    threads = [threading.Thread(target=keep_asking, args=(place,)) for place in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for client in list(clients.values()):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def always(answer: bytes) -> Callable[[str], bytes]:
    """Return what takes one answer for the right one to all names."""
    return lambda _: answer
