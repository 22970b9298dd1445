"""The time and the memory of a start, over those of a process that only imports Twisted with TLS, and treq."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.benchmarks import cpu_seconds
from tests.support.configuration import HELLO, listener
from tests.support.processes import COMMAND, ROOT
from tests.support.sockets import finger, free_port

REFERENCE = "import treq; from twisted.internet import endpoints, reactor, ssl; print(flush=True); input()"
"""What the others are compared with: it has imported all that it will once it prints a line, and ends after another."""
QUERIES = {"static": (b"hello\r\n", b"Hello\r\n"), "packaged": (b"moshez\r\n", b"Happy and well\r\n")}
"""What each configuration is asked first: a static map alone, and the packaged one with an HTTP backend."""
_PAUSE_SECONDS = 0.002
_REST_SECONDS = 1.0
_RESTING = 0.002  # of the time: timers
_DEADLINE_SECONDS = 60


def configuration(name: str, port: int) -> str:
    """Return the text of a configuration with a listener on a port."""
    if name == "static":
        return listener(port) + HELLO
    return (ROOT / "fingergw.toml").read_text().replace("tcp:1079", f"tcp:{port}")


@contextmanager
def spawned(arguments: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with its bytecode kept in a folder, as that of an installed package is."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    options = {"cwd": folder, "env": env, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, **options) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.terminate()


def seconds_of(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command to its end, and return how long it took, and its processor time.

    :raises SystemExit: it failed.
    """
    began, before = time.perf_counter(), _children_cpu_seconds()
    with spawned(command, folder) as running:
        running.communicate(b"\n")
        took = time.perf_counter() - began
    if running.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return {"whole, s": took, "whole, s of CPU": _children_cpu_seconds() - before}


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process, and that of it and all below it with what is shared counted in part."""
    resident, proportional = _sizes_mib(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        proportional += memory_mib(int(child))[1]
    return resident, proportional


def _sizes_mib(pid: int) -> tuple[float, float]:
    sizes = dict(re.findall(r"(?m)^(Rss|Pss): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text()))
    return int(sizes["Rss"]) / 1024, int(sizes["Pss"]) / 1024


def one_round(folder: Path) -> dict[str, float]:
    """Start each process once, and return what was measured."""
    measured: dict[str, float] = {}
    began = time.perf_counter()
    with spawned([sys.executable, "-c", REFERENCE], folder) as running:
        assert running.stdout is not None
        running.stdout.readline()
        measured["reference: ready, s"] = time.perf_counter() - began
        measured["reference: ready, s of CPU"] = _cpu_seconds(running.pid)
        sizes = memory_mib(running.pid)
        measured["reference: at rest, MiB"], measured["reference: at rest, MiB shared in part"] = sizes
    measured |= _named("reference", seconds_of([sys.executable, "-c", REFERENCE], folder))
    for name, (query, answer) in QUERIES.items():
        port = free_port()
        path = folder / f"{name}.toml"
        path.write_text(configuration(name, port))
        measured |= _named(f"{name}: check", seconds_of([*COMMAND, "check", "--config", str(path)], folder))
        began = time.perf_counter()
        with spawned([*COMMAND, "--config", str(path), "--logfile", "/dev/null"], folder) as running:
            _wait_for(port, query, answer)
            measured[f"{name}: first answer: ready, s"] = time.perf_counter() - began
            measured[f"{name}: first answer: ready, s of CPU"] = _cpu_seconds(running.pid)
            _wait_for_rest(running.pid)
            resident, proportional = memory_mib(running.pid)
            measured[f"{name}: at rest, MiB"], measured[f"{name}: at rest, MiB shared in part"] = resident, proportional
            if name == "static":
                measured |= _named("query", seconds_of([*COMMAND, "query", f"hello@127.0.0.1:{port}"], folder))
    return measured


def _named(name: str, measured: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}: {what}": value for what, value in measured.items()}


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's main thread; that of its whole process is told in hundredths."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _wait_for(port: int, query: bytes, answer: bytes) -> None:
    """Ask again and again, until there is an answer.

    :raises SystemExit: it is a wrong one, or none comes.
    """
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            if (told := finger(port, query)) == answer:
                return
            raise SystemExit(f"answered {told!r}")
        time.sleep(_PAUSE_SECONDS)
    raise SystemExit("the gateway does not answer")


def _wait_for_rest(pid: int) -> None:
    """Wait until a process has used next to no processor time for a second, in any of its threads.

    :raises SystemExit: it never rests.
    """
    deadline, used = time.monotonic() + _DEADLINE_SECONDS, -1.0
    while (now_used := cpu_seconds(pid)) - used > _REST_SECONDS * _RESTING:
        if time.monotonic() > deadline:
            raise SystemExit("the gateway does not rest")
        used = now_used
        time.sleep(_REST_SECONDS)


def run(rounds: int = 15) -> None:
    """Print the least and the median of each, and its ratio to the reference's, from interleaved rounds."""
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as made:
        one_round(Path(made))  # which writes the bytecode
        for _ in range(rounds):
            for what, value in one_round(Path(made)).items():
                found[what].append(value)
    for what, values in found.items():
        kind = what.rpartition(": ")[2]
        least, median = min(values), statistics.median(values)
        beside = found[f"reference: {kind}"]
        ratios = f"{least / min(beside):.2f} and {median / statistics.median(beside):.2f}"
        print(f"{what}: least {least:.3f}, median {median:.3f}; over the reference {ratios}")
