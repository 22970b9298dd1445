"""A gateway in a process of its own as the target of hostile clients, and measurements of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define, field

from tests.support.forked import Forked
from tests.support.processes import ROOT, command_of_gateway
from tests.support.sockets import receive_all, serves
from tests.support.waiting import DEADLINE_SECONDS, wait_until

# Whole loopback network, so clients can have addresses of their own.
ATTACKER = "127.0.0.1"
HONEST = "127.0.0.2"
DENIED = "127.0.0.3"

HELLO_WIRE = b"Hello\r\n"
BUSY_WIRE = b"Too many queries, try again later\r\n"
NOBODY_WIRE = b"No such user\r\n"
BIG_BYTES = 4 << 20
MIB = 1 << 20
# What takes a test's figures down for the report: pytest's ``record_property``.
Note: TypeAlias = Callable[[str, object], None]
# What a deadline of a second may take on a machine that is busy with other tests.
LATE_SECONDS = 8.0
# What the allocator may keep of memory that was freed.
SLACK_BYTES = 12 * MIB


@define(eq=False)
class Target:
    """A gateway in a process of its own.

    :param port: its listener's.
    :param folder: with its configuration, its log and its access log.
    """

    running: subprocess.Popen[bytes] | Forked
    port: int
    folder: Path
    _quiet_size: int = field(init=False, default=0)

    @property
    def memory(self) -> int:
        """The bytes of memory that it has in use (VmRSS)."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> int:
        """The most bytes of memory that it has had in use since ``forget_peak`` (VmHWM)."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Count the peak of its memory from now on."""
        self._proc("clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        """How many file descriptors it has."""
        return len(list(self._proc("fd").iterdir()))

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return len(list(self._proc("task").iterdir()))

    @property
    def children(self) -> int:
        """The number of its child processes."""
        pid = self.running.pid
        return len(self._proc(f"task/{pid}/children").read_text().split())

    @property
    def cpu(self) -> float:
        """The seconds of processor time that it has used."""
        fields = self._proc("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        lines = self._proc("status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self.running.pid}/{name}")

    @property
    def access(self) -> list[dict[str, Any]]:
        """The access log, which is a fifth of a second late."""
        text = (self.folder / "access.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line]

    def outcomes(self) -> Counter[str]:
        """Return how many connections there were of each outcome, so far as the access log has them."""
        return Counter(entry["outcome"] for entry in self.access)

    def start_is_over(self) -> None:
        """Leave out of ``logged`` all that it has logged so far."""
        self._quiet_size = (self.folder / "log").stat().st_size

    @property
    def logged(self) -> list[str]:
        """The lines that it has logged since ``start_is_over``, without the access log."""
        return (self.folder / "log").read_bytes()[self._quiet_size :].decode().splitlines()

    def connect(
        self, source: str = ATTACKER, *, receive_buffer: int | None = None, seconds: float = DEADLINE_SECONDS
    ) -> socket.socket:
        """Connect a client that blocks.

        :param source: its address.
        :param seconds: how long it tries to connect.
        """
        client = socket.socket()
        client.settimeout(seconds)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            client.bind((source, 0))
            with contextlib.suppress(ConnectionResetError):  # it was connected, and is gone again: as if it were now
                client.connect(("127.0.0.1", self.port))
        except OSError:
            client.close()
            raise
        client.settimeout(DEADLINE_SECONDS)
        return client

    def ask(self, query: bytes, source: str = ATTACKER) -> bytes:
        """Send a query whole, and return the answer."""
        with self.connect(source) as client:
            client.sendall(query)
            return receive_all(client)


def configuration(port: int, listener: str = "", limits: str = "", more: str = "", endpoint: str = "") -> str:
    """Return a configuration that answers "hello" and "big"; limits that are not given are wide."""
    endpoint = endpoint or f"tcp:{port}:interface=127.0.0.1:backlog=4096"
    given = {line.split("=")[0].strip() for line in limits.splitlines()}
    base = {"query_timeout": "1", "max_connections_per_client": "5000", "max_connections": "5000"}
    limits += "".join(f"\n{key} = {value}" for key, value in base.items() if key not in given)
    return f"""
[[listeners]]
name = "public"
endpoint = '{endpoint}'
{listener}
[[routes]]
user = "hello"
backends = ["map"]
[[routes]]
user = "big"
backends = ["big"]
[backends.map]
type = "static"
entries = {{ hello = "Hello" }}
[backends.big]
type = "static"
file = "big.toml"
[log]
access = "access.log"
format = "json"
[limits]
{limits}
max_answer_bytes = {2 * BIG_BYTES}
{more}
"""


@contextlib.contextmanager
def target(
    folder: Path,
    text: str,
    port: int,
    *,
    noise: Sequence[str] = (),
    chatter: Sequence[str] = (),
    before: Sequence[str] = (),
    hello: Callable[[Target], bytes] = lambda gateway: gateway.ask(b"hello\r\n", HONEST),
    is_ended: bool = False,
) -> Iterator[Target]:
    """Run a gateway for a test; at the end, check that it answers, stops cleanly and has logged nothing unexpected.

    :param noise: what it may say in its log, each a part of one line at the most.
    :param chatter: what it may say again and again, likewise.
    :param before: the command that starts the gateway's, which is given it as its last arguments.
    :param hello: how an honest client asks for "hello".
    :param is_ended: the test itself has it end.
    """
    (folder / "fingergw.toml").write_text(text)
    (folder / "big.toml").write_text(f"big = '{'x' * BIG_BYTES}'\n")  # tomllib reads "..." character by character
    running = _started(folder, before) if before else Forked(["--config", "fingergw.toml"], folder, folder / "log")
    try:
        gateway = Target(running, port, folder)
        wait_until(lambda: serves(port) or running.poll() is not None, f"a listener on port {port}")
        assert running.poll() is None, (folder / "log").read_text()
        gateway.start_is_over()
        yield gateway
        if not is_ended:
            assert running.poll() is None, "it has ended"
            assert hello(gateway) == HELLO_WIRE
            running.send_signal(signal.SIGTERM)
        assert running.wait(DEADLINE_SECONDS) == 0
        left = [line for line in gateway.logged if line and not line.endswith(_FAREWELLS)]
        left = [line for line in left if not (_WARNING in line or any(allowed in line for allowed in chatter))]
        for allowed in noise:
            found = next((line for line in left if allowed in line), None)
            if found is not None:
                left.remove(found)
        assert left == [], "\n".join(left)
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        if isinstance(running, Forked):
            running.forget()


def _started(folder: Path, before: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a gateway by another command."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*before, *command_of_gateway(), "--config", "fingergw.toml"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


_WARNING = "[fingergw.app.reload#warn] fingergw.toml:"  # is found once the start is over
_FAREWELLS = ("Main loop terminated.", "Server Shut Down.", "SIGTERM, shutting down.", " Closed)")


@define
class Service:
    """What an honest client saw.

    :param asked: how often it asked.
    :param slowest: the seconds that the slowest answer took.
    :param wrong: what else than the answer it got.
    """

    asked: int = 0
    slowest: float = 0.0
    wrong: list[object] = field(factory=list)


@contextlib.contextmanager
def served_all_along(gateway: Target, source: str = HONEST) -> Iterator[Service]:
    """Query in a loop meanwhile; fail if any answer is wrong or late."""
    service, over = Service(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                answer: object = gateway.ask(b"hello\r\n", source)
            except OSError as error:
                answer = error
            service.asked += 1
            service.slowest = max(service.slowest, time.monotonic() - began)
            if answer != HELLO_WIRE:
                service.wrong.append(answer)
            over.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield service
    finally:
        over.set()
        thread.join()
    assert service.wrong == [], service.wrong
    assert service.asked
    assert service.slowest < LATE_SECONDS


@define
class Figures:
    """The resources that a gateway uses before and after an attack.

    :param note: takes them down for the report of the tests (``pytest --junitxml``).
    """

    gateway: Target
    note: Note
    memory: int = field(init=False)
    descriptors: int = field(init=False)
    cpu: float = field(init=False)
    began: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gateway.forget_peak()
        self.memory, self.descriptors = self.gateway.memory, self.gateway.descriptors
        self.cpu, self.began = self.gateway.cpu, time.monotonic()

    def settle(self, slack: int = SLACK_BYTES) -> None:
        """Wait until descriptors and memory are back to what they were."""
        gateway = self.gateway
        took, cpu = time.monotonic() - self.began, gateway.cpu - self.cpu
        wait_until(lambda: gateway.descriptors <= self.descriptors, f"no more than {self.descriptors} descriptors")
        wait_until(lambda: gateway.memory - self.memory < slack, f"the memory's return to {self.memory / MIB:.1f} MiB")
        memory = gateway.memory
        self.note("seconds", f"{took:.2f}")
        self.note("cpu seconds", f"{cpu:.2f}")
        self.note("MiB", f"{self.memory / MIB:.1f} -> {memory / MIB:.1f}, at most {gateway.peak_memory / MIB:.1f}")
        self.note("descriptors", f"{self.descriptors} -> {gateway.descriptors}")
