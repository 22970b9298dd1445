"""A soak: faults of every kind, for very many queries; each answer is checked, and nothing may be left in the end.

The gateway, the servers behind it and the clients are a process each. What each client does follows from a seed, which
is printed. There is a warm-up, then two halves; after each the gateway is left alone until it is at rest, and looked
at from outside and inside: memory, descriptors, children, connections, objects. It fails if any answer was wrong, if
anything but a little memory is more than before, if the access log has not exactly what clients saw, and if anything
unforeseen was logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import trustme
from attrs import frozen

from tests.benchmarks import cpu_seconds
from tests.benchmarks.cache import memory_bytes
from tests.benchmarks.soak import mix
from tests.benchmarks.soak.clients import HOSTILE, PROXIED_HOSTILE, Clients, Tally
from tests.support.processes import ROOT
from tests.support.sockets import free_port

MAX_GROWTH_BYTES = 4 << 20  # a quarter of a million clients made 1 MiB of it
MAX_LATE_GROWTH_BYTES = 2 << 20
MAX_OBJECTS = 50
WARM_UP = 10_000
_REST_SECONDS = 15.0
_TELL_SECONDS = 60.0
# What these classes are kept in has bounds of its own: caches of answers, of texts and of log lines' words, what
# breakers remember, and answers that are known by what clients send.
_KEPT = re.compile(
    r"fingergw\.(cache\.(entry\.Entry|fresh_answer\.FreshAnswer|shares\.(Item|Owner))"
    r"|core\.(outcome\.\w+|query\.Query|breaker\._Unanswered)|finger\.known_answers\.Known)"
)
# What is logged as an error and is none of the gateway's: the faults that were injected.
_FORESEEN = re.compile(
    r"backend \S+ (failed, (asked by route \S+|so its cached answer stays in use): (?!unforeseen)|is not asked for )"
)


@frozen
class Measured:
    """What a gateway at rest holds.

    :param descriptors: how many of each kind.
    :param children: its child processes, dead ones that nobody has waited for included, and what these have started.
    :param counters: as :func:`tests.benchmarks.soak.gateway.held` has them.
    :param objects: how many of each class.
    """

    memory_bytes: int
    descriptors: Mapping[str, int]
    children: tuple[str, ...]
    counters: Mapping[str, int]
    objects: Mapping[str, int]


def leaks(start: Measured, before: Measured, halfway: Measured, after: Measured) -> list[str]:
    """Return what a soak has left behind.

    :param start: when nobody had asked yet.
    :param before: after the warm-up.
    """
    found = [f"{count} {name}" for name, count in after.counters.items() if count]
    found += [f"a child: {child}" for child in (Counter(after.children) - Counter(start.children)).elements()]
    found += [
        f"descriptors of {kind}: {start.descriptors.get(kind, 0)} at the start, {after.descriptors.get(kind, 0)} now"
        for kind in sorted({*start.descriptors, *after.descriptors})
        if start.descriptors.get(kind, 0) != after.descriptors.get(kind, 0)
    ]
    found += [
        f"{count - before.objects.get(name, 0)} more objects of {name}"
        for name, count in after.objects.items()
        if count > before.objects.get(name, 0) + MAX_OBJECTS and not _KEPT.fullmatch(name)
    ]
    grown, late = (after.memory_bytes - earlier.memory_bytes for earlier in (before, halfway))
    if grown > MAX_GROWTH_BYTES:
        found.append(f"{grown / 2**20:.1f} MiB more memory than after the warm-up")
    if late > MAX_LATE_GROWTH_BYTES and late > (halfway.memory_bytes - before.memory_bytes) / 2:
        found.append(f"{late / 2**20:.1f} MiB more memory than halfway: it goes on growing")
    return found


def unforeseen(log: Iterable[str]) -> list[str]:
    """Return what a gateway's log has that tells of no injected fault, with its tracebacks."""
    events: list[str] = []
    for line in log:
        if line.startswith("\t") and events:  # it belongs to the line before
            events[-1] += f"\n{line}"
        else:
            events.append(line)
    return [
        event.strip()
        for event in events
        if "Traceback" in event
        or "Unhandled" in event
        or "unforeseen" in event
        or "#critical]" in event
        or ("#error]" in event and not _FORESEEN.search(event))
    ]


def differences(tally: Tally, log: Iterable[str], outcomes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return in what an access log differs from what the clients saw, and from what the gateway counted.

    :param log: its lines, as JSON.
    :param outcomes: how often each listener has noted what.
    """
    logged: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    hostile: Counter[tuple[str, str]] = Counter()
    for line in log:
        entry = json.loads(line)
        key = entry["listener"], entry["outcome"]
        if entry["client"] in (HOSTILE, PROXIED_HOSTILE):
            hostile[key] += 1
        else:
            logged[key] += 1
            sizes[key] += entry["bytes"]
    counted = Counter({(name, outcome): n for name, each in outcomes.items() for outcome, n in each.items()})
    lines = logged + hostile
    found = [
        f"{outcome} at {name}: {lines[name, outcome]} lines in the access log, {counted[name, outcome]} noted"
        for name, outcome in sorted({*lines, *counted})
        if lines[name, outcome] != counted[name, outcome]
    ]
    for name, outcome in sorted({*logged, *tally.honest}):
        seen, received = tally.honest[name, outcome], tally.received[name, outcome]
        if seen != logged[name, outcome]:
            found.append(f"{outcome} at {name}: {logged[name, outcome]} in the access log, {seen} seen by clients")
        elif received != sizes[name, outcome] and (name, outcome) != ("tight", "busy"):
            found.append(f"{outcome} at {name}: {sizes[name, outcome]} bytes logged, {received} received by clients")
    return found


class Gateway:
    """A gateway in a process of its own.

    :param folder: where it has its files.
    """

    def __init__(self, running: subprocess.Popen[str], folder: Path) -> None:
        self._running = running
        self._folder = folder
        self.pid = running.pid
        self.addresses = {
            name: address if isinstance(address, str) else tuple(address) for name, address in self._receive().items()
        }

    def _receive(self) -> Any:
        assert self._running.stdout is not None
        ready, _, _ = select.select([self._running.stdout], [], [], _TELL_SECONDS)
        line = self._running.stdout.readline() if ready else ""
        if not line:
            raise SystemExit(f"the gateway says nothing; exit code {self._running.poll()}, log: {self.log[-2000:]}")
        return json.loads(line)

    def tell(self, what: str) -> Any:
        """Return what it says of itself.

        :param what: ``held`` or ``objects``: see :mod:`tests.benchmarks.soak.gateway`.
        """
        assert self._running.stdin is not None
        self._running.stdin.write(f"{what}\n")
        self._running.stdin.flush()
        return self._receive()

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self._folder / "log"
        return path.read_text() if path.exists() else ""

    def measure(self) -> Measured:
        """Look at it as it is now."""
        objects = self.tell("objects")  # which collects garbage
        return Measured(memory_bytes(self.pid), *self._used(), objects)

    def _used(self) -> tuple[Counter[str], tuple[str, ...], dict[str, int]]:
        children = tuple(_children(self.pid, f"SOAK={self._folder}".encode()))
        descriptors, held = _descriptors(self.pid), self.tell("held")
        descriptors["socket"] -= held["workers"]  # which are there once they were needed
        return descriptors, children, held["counters"]

    def at_rest(self, start: Measured) -> Measured:
        """Wait until all is as it was when nobody had asked yet, as far as that comes, and measure."""
        ends = time.monotonic() + _REST_SECONDS
        while time.monotonic() < ends:
            descriptors, children, counters = self._used()
            if descriptors == start.descriptors and children == start.children and not any(counters.values()):
                break
            time.sleep(0.1)
        return self.measure()


def _descriptors(pid: int) -> Counter[str]:
    """Count a process's descriptors by what they are."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[re.sub(r":\[?\d+\]?$", "", str(entry.readlink()))] += 1
    return found


def _children(pid: int, mark: bytes) -> Iterator[str]:
    """Return a process's children, and whatever has a mark in its environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, fields = (entry / "stat").read_text().rpartition(")")
            state, parent = fields.split()[:2]
            if int(parent) == pid or mark in (entry / "environ").read_bytes().split(b"\0"):
                # whether one that lives is at work at the moment does not matter
                yield name.partition("(")[2] + (", dead" if state == "Z" else "")


@contextlib.contextmanager
def _process(folder: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run one of the soak's programs; it ends with its standard input."""
    command = [sys.executable, "-m", f"tests.benchmarks.soak.{module}", *arguments]
    # A threshold that does not move: what is not held goes back to the system, and memory is what is held.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "65536"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    ) as running:
        try:
            yield running
        finally:
            assert running.stdin is not None
            running.stdin.close()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[Gateway, trustme.CA]]:
    """Run a gateway and what is behind it."""
    with _process(folder, "upstream") as upstream:
        assert upstream.stdout is not None
        ports = json.loads(upstream.stdout.readline())
        config, authority = mix.write(
            folder, web=ports["web"], peer=ports["finger"], closed=free_port(), has_ipv6=_has_ipv6()
        )
        with _process(folder, "gateway", str(config), str(folder / "log")) as running:
            yield Gateway(running, folder), authority


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def run(queries: int = 200_000, *, warm_up: int = WARM_UP, seed: int = 1) -> None:
    """Soak a gateway, and print the figures.

    :param warm_up: clients before the first measure, that are not among the queries.
    :param seed: what all clients do follows from it.
    :raises SystemExit: something was wrong, or is left.
    """
    with tempfile.TemporaryDirectory() as name, _servers(folder := Path(name)) as (gateway, authority):
        print(f"soak: {queries} queries after {warm_up} to warm up, seed {seed}")
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        clients = Clients(seed, gateway.addresses, trusted)
        start = gateway.measure()
        measured: list[Measured] = []
        seconds = cpu = 0.0
        for first, last in itertools.pairwise((0, warm_up, warm_up + queries // 2, warm_up + queries)):
            if len(measured) == 1:
                clients.tally.seconds.clear()
            began_at, used = time.perf_counter(), cpu_seconds(gateway.pid)
            asyncio.run(clients.run(range(first, last)))
            if measured:
                seconds += time.perf_counter() - began_at
                cpu += cpu_seconds(gateway.pid) - used
            measured.append(gateway.at_rest(start))
        outcomes = gateway.tell("held")["outcomes"]
        access = (folder / "access.log").read_text().splitlines()
        tally = clients.tally
        wrong = list(tally.wrong)
        if tally.wrong_answers > len(wrong):
            wrong.append(f"{tally.wrong_answers} wrong answers in all")
        wrong += differences(tally, access, outcomes)
        wrong += leaks(start, *measured)
        wrong += unforeseen(gateway.log.splitlines())[:20]
        _report(tally, start, measured, seconds, queries, cpu)
    if wrong:
        raise SystemExit("\n".join(["the soak failed:", *wrong]))
    print("no wrong answer, and nothing is left")


def _report(tally: Tally, start: Measured, measured: list[Measured], seconds: float, queries: int, cpu: float) -> None:
    """Print the figures."""
    outcomes: Counter[str] = Counter()
    for (_, outcome), count in tally.honest.items():
        outcomes[outcome] += count
    for title, counts in (("clients by kind", tally.kinds), ("honest ones by outcome", outcomes)):
        print(f"{title}: {', '.join(f'{name} {count}' for name, count in counts.most_common())}")
    print(f"{seconds:.1f} s, {queries / seconds:.0f} clients a second, {cpu:.1f} s of the gateway's processor time")
    quantiles = [each * 1e3 for each in statistics.quantiles(tally.seconds, n=100)]
    print(f"an answer from the file meanwhile: median {quantiles[49]:.1f} ms, p99 {quantiles[98]:.1f} ms")
    print(f"{'':22}{'memory, MiB':>12}{'descriptors':>12}{'children':>10}{'counters':>10}{'objects':>10}")
    for title, each in zip(
        ("at the start", "after the warm-up", "halfway", "at the end"), (start, *measured), strict=True
    ):
        print(
            f"{title:22}{each.memory_bytes / 2**20:12.1f}{sum(each.descriptors.values()):12}{len(each.children):10}"
            f"{sum(each.counters.values()):10}{sum(each.objects.values()):10}"
        )
