"""Whether clients that send more after their line get whole answers, while the processors are busy.

What they have sent and the server has not read makes a close a reset, and that can take the answer's end with it.
"""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import tomli_w
from attrs import define, field, frozen

from tests.benchmarks import gateway, raise_open_files
from tests.benchmarks.speed import Ask, always, in_turn
from tests.benchmarks.yardsticks import tutorial
from tests.support.sockets import free_port

CLIENTS = 6000
SIZES = {"20 bytes": 20, "4 KiB": 4 << 10, "64 KiB": 64 << 10}
_BUSY_PROCESSES = 2
_AT_ONCE = 64
_LATER_SECONDS = 0.005
_MAX_SECONDS = 60.0  # for so long a client waits for more


@frozen
class Client:
    """What a client does.

    :param more_bytes: so many it sends after its line.
    :param is_later: it sends them a little later than the line.
    :param buffer_bytes: of its receive buffer; None for the system's own.
    :param read_bytes: the most that it reads in one go.
    :param pause_seconds: before each reading.
    """

    more_bytes: int
    is_later: bool
    buffer_bytes: int | None
    read_bytes: int
    pause_seconds: float

    @classmethod
    def drawn(cls, chances: random.Random, size: int) -> Client:
        """Draw what a client does.

        :param size: of the answer; who is slow reads it in a few goes.
        """
        is_slow = chances.random() < 0.25
        return cls(
            more_bytes=chances.randint(1 << 10, 64 << 10),
            is_later=chances.random() < 0.5,
            buffer_bytes=chances.randint(1 << 10, 4 << 10) if chances.random() < 0.25 else None,
            read_bytes=max(16, size // 8) if is_slow else 65536,
            pause_seconds=0.002 if is_slow else 0.0,
        )

    def __str__(self) -> str:
        size = "usual" if self.buffer_bytes is None else "small"
        return (
            f"{'slow' if self.pause_seconds else 'fast'} {size} buffer, more {'later' if self.is_later else 'at once'}"
        )

    def ask(self, port: int, line: bytes) -> tuple[bytes, str]:
        """Send the line and more, and read to the end.

        :return: what was received, and what went wrong: the empty string if nothing did.
        """
        with socket.socket() as client:
            client.settimeout(_MAX_SECONDS)
            if self.buffer_bytes is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
            client.connect(("127.0.0.1", port))
            more = b"x" * self.more_bytes
            try:
                if self.is_later:
                    client.sendall(line)
                    time.sleep(_LATER_SECONDS)
                    client.sendall(more)
                else:
                    client.sendall(line + more)
            except ConnectionError:
                pass  # it is gone already; the answer may be here
            return self._read(client)

    def _read(self, client: socket.socket) -> tuple[bytes, str]:
        received = b""
        try:
            while True:
                if self.pause_seconds:
                    time.sleep(self.pause_seconds)
                data = client.recv(self.read_bytes)
                if not data:
                    return received, ""
                received += data
        except OSError as error:  # a reset, or nothing for long
            return received, type(error).__name__


@define
class Received:
    """What clients got.

    :param lost: how many answers were not whole, by how they ended and what those who asked had done.
    :param reset: how many connections were reset after the whole answer.
    """

    whole: int = 0
    lost: Counter[str] = field(factory=Counter)
    reset: int = 0

    def count(self, client: Client, received: bytes, error: str, answer: bytes) -> None:
        """Add what one client got.

        :raises SystemExit: it is something else than the answer's beginning.
        """
        if received == answer:
            self.whole += 1
            self.reset += bool(error)
        elif answer.startswith(received):
            self.lost[f"{error or 'closed'} of {client}"] += 1
        else:
            raise SystemExit(f"a wrong answer: {received[:100]!r}")

    def __str__(self) -> str:
        lost = self.lost.total()
        how = f" ({', '.join(f'{count} x {what}' for what, count in self.lost.most_common())})" if lost else ""
        return f"lost {lost} of {lost + self.whole}{how}; reset after a whole answer: {self.reset}"


def ask_many(port: int, size: int, line: Ask, clients: int, seed: int) -> Received:
    """Have clients ask, many of them at once.

    :param size: of the answer.
    :param line: returns the line of the n-th.
    """
    answer, found, lock = text(size), Received(), threading.Lock()

    def ask(number: int) -> None:
        client = Client.drawn(random.Random(f"{seed} {size} {number}"), size)
        received, error = client.ask(port, line(number))
        with lock:
            found.count(client, received, error, answer)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(ask, range(clients)):
            pass
    return found


def text(size: int) -> bytes:
    """Return an answer of so many bytes, in lines."""
    lines = b"".join(b"%08d %s\r\n" % (number, b"x" * 53) for number in itertools.islice(itertools.count(), size // 64))
    return lines + b"y" * (size - len(lines) - 2) + b"\r\n" if size % 64 else lines


@contextmanager
def busy(processes: int = _BUSY_PROCESSES) -> Iterator[None]:
    """Keep so many processors busy for as long as the body of this runs."""
    with ExitStack() as stack:
        for _ in range(processes):
            running = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.enter_context(running)
            stack.callback(running.kill)
        yield


@contextmanager
def _gateway() -> Iterator[int]:
    """Run a gateway which answers names by the size that they begin with; return its port."""
    with tempfile.TemporaryDirectory() as folder:
        port, config = free_port(), Path(folder, "fingergw.toml")
        tables = {
            "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
            "routes": [{"pattern": f"{size}-*", "backends": [str(size)]} for size in SIZES.values()],
            "backends": {str(size): {"type": "static", "text": text(size).decode()} for size in SIZES.values()},
            "limits": {"max_connections": 5000, "max_connections_per_client": 5000},
            "log": {"access": "off"},
        }
        config.write_text(tomli_w.dumps(tables))
        with gateway(config, port):
            yield port


def run(seed: int | None = None, clients: int = CLIENTS) -> None:
    """Print how many answers of each size were lost, of the gateway's and of the tutorial's server's.

    :param seed: what the clients do follows from it; one of the clock's own without.
    :param clients: for each size and kind of name.
    """
    raise_open_files()
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    users = {f"{size}-known".encode(): text(size).removesuffix(b"\r\n") for size in SIZES.values()}
    with _gateway() as port, tutorial(users) as plain, busy():
        print(f"answers that clients do not get whole which send more than their line, seed {seed}; goal 0")
        for name, size in SIZES.items():
            known = always(f"{size}-known\r\n".encode())
            kinds = {
                "fingergw, a new name": (port, in_turn(str(size))),
                "fingergw, a known name": (port, known),
                "tutorial": (plain.port, known),
            }
            for kind, (asked, line) in kinds.items():
                print(f"{name:9} {kind:23} {ask_many(asked, size, line, clients, seed)}", flush=True)
