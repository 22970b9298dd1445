"""What others wait for while upstreams send what takes long, and what it costs to convert a body."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from tests.benchmarks import gateway, server
from tests.benchmarks.cache import memory_bytes, p99
from tests.benchmarks.hostile import HOSTILE, PLAIN, Hostile
from tests.support.sockets import finger, free_port, receive_all

SECONDS = 1.5
"""For so long each response is asked for."""
STALL_SECONDS = 0.05
"""Nothing from outside may hold the event loop for longer."""
GROWTH_BYTES = 32 << 20
"""Nor may it take more of the gateway's memory."""
_TURNS_NAME = "html-b-col"
_MANY_ASKERS = 40
_PAUSE_SECONDS = 0.001
_LOOK_SECONDS = 0.05

CONFIG = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1:backlog=1024"
[[routes]]
user = "static"
backends = ["static"]
[backends.static]
type = "static"
entries = {{ static = "Happy and well" }}
[log]
access = "off"
"""


def configuration(port: int, upstream: int, responses: Mapping[str, Hostile]) -> str:
    """Return a gateway's file, with a backend of its own for each response; all limits are the defaults."""
    text = CONFIG.format(port=port)
    for name, hostile in responses.items():
        text += (
            f'[[routes]]\nuser = "{name}"\nbackends = ["{name}"]\n[backends.{name}]\ntype = "http"\n'
            f'url = "http://127.0.0.1:{upstream}/{{user}}"\n'
        )
        if hostile.template is not None:
            text += f"template = {json.dumps(hostile.template)}\n"
    return text


def descendants(pid: int) -> Iterator[int]:
    """Return the processes that a process has started, and those that these have."""
    for number in re.findall(r"\d+", Path(f"/proc/{pid}/task/{pid}/children").read_text()):
        yield int(number)
        try:
            yield from descendants(int(number))
        except FileNotFoundError:
            continue  # it has ended


def tree_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and all below it, those that have ended included."""
    total = 0
    for each in (pid, *descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def loop_cpu_seconds(pid: int) -> float:
    """Return the time for which a process's main thread, in which its event loop is, has been on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had since it was asked to forget its peak."""
    match = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) << 10 if match else 0


@define
class Waits:
    """How long a client waited.

    :param seconds: for each answer.
    :param held: for how many seconds of a wait the event loop was on a processor, at most.
    :param workers_bytes: the most memory that a process had which the gateway had started.
    """

    seconds: list[float] = field(factory=list)
    held: float = 0.0
    workers_bytes: int = 0


def waits(port: int, pid: int, seconds: float, name: str = "static") -> Waits:
    """Ask for a name every one or two milliseconds.

    Other programs on the machine, too, can make an answer late: only if the gateway was at work meanwhile was it that.

    :param seconds: for so long.
    """
    found = Waits()
    ends = looks = time.perf_counter()
    ends += seconds
    while (begun := time.perf_counter()) < ends or len(found.seconds) < 2:  # of one there is no percentile
        held = loop_cpu_seconds(pid)
        finger(port, f"{name}\r\n".encode())
        now = time.perf_counter()
        found.seconds.append(now - begun)
        found.held = max(found.held, min(now - begun, loop_cpu_seconds(pid) - held))
        if now > looks:
            looks = now + _LOOK_SECONDS
            found.workers_bytes = max(found.workers_bytes, *map(_memory_bytes, descendants(pid)), 0)
        time.sleep(_PAUSE_SECONDS)
    return found


def _memory_bytes(pid: int) -> int:
    try:
        return memory_bytes(pid)
    except FileNotFoundError:
        return 0


@define
class _Told:
    """What those that ask for a response were told, and how long they waited."""

    answers: list[bytes] = field(factory=list)
    seconds: list[float] = field(factory=list)

    def summary(self) -> str:
        failed = sum(answer == b"Internal error in server\r\n" for answer in self.answers)
        answered = len(self.answers) - failed
        return " ".join(f"{n} {what}" for n, what in ((answered, "answered"), (failed, "failed")) if n) or "none ended"


@contextmanager
def asked(port: int, name: str, askers: int) -> Iterator[_Told]:
    """Have clients ask for a name again and again for as long as the body of this runs."""
    told, over = _Told(), threading.Event()

    def ask(address: str) -> None:
        while not over.is_set():
            begun = time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), source_address=(address, 0)) as client:
                client.sendall(f"{name}\r\n".encode())
                told.answers.append(receive_all(client))
            told.seconds.append(time.perf_counter() - begun)

    # each from an address of its own: one client may have no more than 20 connections
    threads = [threading.Thread(target=ask, args=(f"127.0.1.{place + 1}",)) for place in range(askers)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _row(*columns: object) -> str:
    return f"{columns[0]:26}" + "".join(f"{column:>14}" for column in columns[1:])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def beside(port: int, pid: int, names: Sequence[str], seconds: float) -> list[str]:
    """Print how long others wait while each response is asked for, and without.

    :return: what went beyond the bounds.
    """
    print("others' slowest answer (and 99th percentile) while a client asks for a response, and without")
    print(_row("response", "slowest", "without", "ratio", "p99", "without", "loop held", "gateway", "workers", "query"))
    over = []
    for name in names:
        without = waits(port, pid, seconds)
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak
        before = memory_bytes(pid)
        with asked(port, name, 1) as told:
            found = waits(port, pid, seconds)
        grown = peak_bytes(pid) - before
        slowest, usual = max(found.seconds), max(without.seconds)
        columns = (
            *(_milliseconds(slowest), _milliseconds(usual), f"{slowest / usual:.1f}"),
            *(_milliseconds(p99(found.seconds)), _milliseconds(p99(without.seconds)), _milliseconds(found.held)),
            *(_mib(grown), _mib(found.workers_bytes), _milliseconds(max(told.seconds, default=0.0))),
        )
        print(_row(name, *columns), told.summary(), flush=True)
        if found.held > STALL_SECONDS:
            over.append(f"{name}: the event loop was held for {_milliseconds(found.held)}")
        if grown > GROWTH_BYTES:
            over.append(f"{name}: the gateway took {_mib(grown)} more memory")
    return over


def turns(port: int, pid: int, seconds: float) -> None:
    """Print how long who asks one backend waits while another backend's responses take long."""
    print(f"slowest answers of another backend while {_MANY_ASKERS} clients ask for {_TURNS_NAME}, and without")
    print(_row("answer", "slowest", "without", "ratio", "p99", "without"))
    for name in ("page", "small-template"):
        without = waits(port, pid, seconds, name).seconds
        with asked(port, _TURNS_NAME, _MANY_ASKERS):
            found = waits(port, pid, seconds, name).seconds
        slowest, usual = max(found), max(without)
        columns = (_milliseconds(slowest), _milliseconds(usual), f"{slowest / usual:.1f}")
        print(_row(name, *columns, _milliseconds(p99(found)), _milliseconds(p99(without))), flush=True)


def costs(port: int, pid: int, queries: int) -> None:
    """Print what an answer costs that is converted, beside a plain text of that size."""
    print("what an answer costs: processor time of the gateway and its workers, and how long it takes")
    print(_row("answer", "CPU", "above text", "time", "above text"))
    for names in (("text-1", "page-1", "small-template"), ("text-10", "page-10"), ("text-64", "page-64")):
        texts: tuple[float, float] | None = None
        for name in names:
            cost = _cost(port, pid, name, queries)
            texts = texts or cost
            columns = itertools.chain.from_iterable(
                (value, value - text) for value, text in zip(cost, texts, strict=True)
            )
            print(_row(name, *(f"{value * 1e3:.2f} ms" for value in columns)), flush=True)


def _cost(port: int, pid: int, name: str, queries: int) -> tuple[float, float]:
    query = f"{name}\r\n".encode()
    for _ in range(min(queries, 10)):
        finger(port, query)
    cpu, begun = tree_cpu_seconds(pid), time.perf_counter()
    for _ in range(queries):
        finger(port, query)
    return (tree_cpu_seconds(pid) - cpu) / queries, (time.perf_counter() - begun) / queries


def run(*names: str, seconds: float = SECONDS, queries: int = 300) -> None:
    """Run a gateway and a hostile upstream, and print each figure.

    :param names: of the responses; all, if there are none.
    :param seconds: for each response.
    :param queries: by which a cost is measured.
    :raises SystemExit: one of them held the event loop, or took memory, beyond the bounds.
    """
    with _running({**HOSTILE, **PLAIN}) as (port, pid):
        over = beside(port, pid, names or tuple(HOSTILE), seconds)
        turns(port, pid, seconds)
        costs(port, pid, queries)
    if over:
        raise SystemExit("\n".join(over))


@contextmanager
def _running(responses: Mapping[str, Hostile]) -> Iterator[tuple[int, int]]:
    """Run both; return the gateway's port and process."""
    with tempfile.TemporaryDirectory() as folder:
        port, upstream, config = free_port(), free_port(), Path(folder, "fingergw.toml")
        config.write_text(configuration(port, upstream, responses))
        with (
            server("-m", "tests.benchmarks.hostile", str(upstream), port=upstream),
            gateway(config, port) as running,
        ):
            yield port, running.pid
