"""What a query costs with 10 patterns, and with 10,000; and how soon a large file is loaded."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from fingergw.core.patterns import glob, regex
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from tests.benchmarks import ask_many, cpu_seconds, gateway
from tests.support.sockets import free_port

COUNTS = FEW, MANY = 10, 10_000
_ROUNDS = 40
_FINDS = 500  # in each round, of each kind
_GATEWAY_ROUNDS = 5
_QUERIES = 2_000  # in each round, to each gateway
_LOADS = 5
_NAMES = 100_000
_FIRST = 10_000  # of the numbers in patterns, so that all names are as long


def _shapes(number: int) -> tuple[tuple[str, str, str], ...]:
    """Return the key and the value of what routes match by a number, each with a name."""
    return (
        ("pattern", f"svc-{number}-*", f"svc-{number}-mail"),
        ("regex", f"(?P<team>[a-z]+)-oncall{number}", f"web-oncall{number}"),
        ("pattern", f"*.{number}.example", f"web.{number}.example"),
        ("regex", f"(?:web|db){number}-[0-9]+", f"db{number}-17"),
        ("pattern", f"rack{number}-??", f"rack{number}-03"),
    )


def patterns(count: int) -> Iterator[tuple[str, str, str]]:
    """Yield the key and the value of what so many routes match, each with a name."""
    for place in range(count):
        shapes = _shapes(_FIRST + place)
        yield shapes[place % len(shapes)]


def names(count: int) -> dict[str, list[str]]:
    """Return the names to ask for, of each kind."""
    found = [name for _, _, name in patterns(count)]
    middle = count // 10 * 5  # a multiple of the number of shapes
    shuffled = random.Random(1).sample(found * (_FINDS // count + 1), _FINDS)
    return {
        "first": found[:1],
        "last": found[-1:],
        "glob": found[middle : middle + 1],
        "regex": found[middle + 1 : middle + 2],
        "miss": [f"app-{_FIRST}-mail"],
        "any": shuffled,
    }


def _router(count: int) -> Router[int]:
    made = ((glob if key == "pattern" else regex)(text) for key, text, _ in patterns(count))
    return Router([Route(str(place), place, match=match) for place, match in enumerate(made)])


def _microseconds(router: Router[int], asked: list[str]) -> float:
    queries = [Query(name, client="192.0.2.1") for name in asked] * (_FINDS // len(asked))
    find = router.find
    began = time.process_time()
    for query in queries:
        find(query)
    return (time.process_time() - began) / len(queries) * 1e6


def _compare(what: str, rounds: dict[int, list[float]]) -> None:
    few, many = (statistics.median(rounds[count]) for count in COUNTS)
    print(f"{what}: {FEW} patterns {few:.2f} µs, {MANY:,} patterns {many:.2f} µs, ratio {many / few:.3f}")


def _finding() -> None:
    routers, asked = {count: _router(count) for count in COUNTS}, {count: names(count) for count in COUNTS}
    for kind in asked[FEW]:
        rounds: dict[int, list[float]] = {count: [] for count in COUNTS}
        for number in range(_ROUNDS + 1):
            for count in COUNTS if number % 2 else reversed(COUNTS):
                spent = _microseconds(routers[count], asked[count][kind])
                if number:  # in the first, matchers are compiled
                    rounds[count].append(spent)
        _compare(f"finding the route, {kind}", rounds)


CONFIG = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1:backlog=1024"
[limits]
max_connections_per_client = 100
[log]
access = "off"
{routes}
[[routes]]
name = "people"
pattern = "*"
backends = ["people"]
[backends.here]
type = "static"
text = "Here"
[backends.people]
type = "static"
[backends.people.entries]
{entries}
"""


def _write(path: Path, port: int, count: int, entries: int) -> Path:
    """Write a configuration with so many patterns, and a map of so many names."""
    routes = (f"[[routes]]\n{key} = '{text}'\nbackends = [\"here\"]" for key, text, _ in patterns(count))
    lines = (f'user{number} = "Happy and well, number {number}"' for number in range(entries))
    path.write_text(CONFIG.format(port=port, routes="\n".join(routes), entries="\n".join(lines)))
    return path


def _asking(folder: Path) -> None:
    """Compare the processor time of a query to two gateways."""
    with ExitStack() as stack:
        ports, pids = {count: free_port() for count in COUNTS}, dict[int, int]()
        for count, port in ports.items():
            config = _write(folder / f"{count}.toml", port, count, 1)
            pids[count] = stack.enter_context(gateway(config, port)).pid
        for kind in ("first", "last", "glob", "regex"):
            asked = {count: f"{names(count)[kind][0]}\r\n".encode() for count in COUNTS}
            rounds: dict[int, list[float]] = {count: [] for count in COUNTS}
            for number in range(_GATEWAY_ROUNDS + 1):
                for count, port in ports.items():
                    before = cpu_seconds(pids[count])
                    ask_many(port, _QUERIES, lambda _, line=asked[count]: line, b"Here\r\n")  # type: ignore[misc]
                    if number:
                        rounds[count].append((cpu_seconds(pids[count]) - before) / _QUERIES * 1e6)
            _compare(f"CPU a query, {kind}", rounds)


def _loading(folder: Path) -> None:
    """Tell how long ``check`` takes, which loads all that the gateway does at its start."""
    files = {
        "1 name, no patterns": _write(folder / "small.toml", 1079, 0, 1),
        f"{_NAMES:,} names, {MANY:,} patterns": _write(folder / "large.toml", 1079, MANY, _NAMES),
    }
    for _ in range(_LOADS):
        for what, file in files.items():
            began = time.perf_counter()
            command = [sys.executable, "-m", "fingergw", "check", "--config", str(file)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
                _, status, used = os.wait4(running.pid, 0)
                running.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - began
            print(f"check, {what}: {seconds:.2f} s, of CPU {used.ru_utime + used.ru_stime:.2f} s")


def run() -> None:
    """Print the ratios of 10 patterns to 10,000, in this process and asked through gateways, and seconds to load."""
    _finding()
    with tempfile.TemporaryDirectory() as folder:
        _asking(Path(folder))
        _loading(Path(folder))
