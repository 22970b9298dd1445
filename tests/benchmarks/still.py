"""What clients wait for while files of 100,000 names are read again."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from attrs import define, field

from tests.benchmarks import ask_while, cpu_clock, gateway
from tests.support.sockets import finger, free_port

NAMES = 100_000
ROUNDS = 5
SECONDS = 5.0
"""For so long clients ask without anything else in the first round; then as long as the works of the last took."""
_POLL_SECONDS = 0.1

CONFIG = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1:backlog=1024"
limits = {{ max_connections_per_client = 1000 }}
[[routes]]
user = "reload"
backends = ["number"]
[[routes]]
pattern = "*"
backends = ["map", "file"]
[backends]
number = {{ type = "static", text = "number {number}" }}
file = {{ type = "static", file = "people.toml" }}
[log]
access = "off"
[backends.map]
type = "static"
[backends.map.entries]
"""
ANSWER = "Happy and well, and here until five"


def names(what: str, number: int) -> str:
    """Return a map's entries.

    :param what: how each name begins; the first is this alone, and has the number.
    """
    return f'{what} = "number {number}"\n' + "".join(f'{what}-{place} = "{ANSWER}"\n' for place in range(NAMES))


@define
class Gateway:
    """A gateway, and the two files that it reads again.

    :param numbers: of the last version of each file.
    """

    folder: Path
    port: int
    pid: int = 0
    numbers: dict[str, int] = field(factory=lambda: {"reload": 0, "change": 0})

    def write(self, what: str) -> None:
        """Replace the configuration, for ``reload``, or the map beside it, for ``change``."""
        name, number = {"reload": "fingergw.toml", "change": "people.toml"}[what], self.numbers[what]
        text = names("change", number)
        if what == "reload":
            text = CONFIG.format(port=self.port, number=number) + names("map", number)
        new = self.folder / "new"
        new.write_text(text)
        new.rename(self.folder / name)

    def renew(self, what: str) -> None:
        """Have a file read again, and wait until the answers are of its new version."""
        self.numbers[what] += 1
        self.write(what)
        if what == "reload":
            os.kill(self.pid, signal.SIGHUP)
        expected = f"number {self.numbers[what]}\r\n".encode()
        while not self._answers(what, expected):
            time.sleep(_POLL_SECONDS)

    def _answers(self, name: str, expected: bytes) -> bool:
        try:
            return finger(self.port, f"{name}\r\n".encode()) == expected
        except TimeoutError:  # it stands still
            return False


def held_seconds(own: Gateway) -> Callable[[], float]:
    """Return a clock that goes while other threads of the gateway hold up its reactor; at least, as nobody counts that.

    It is the processor time of these threads, less that for which the reactor's has waited for a processor meanwhile.
    So what else runs on the machine does not count.
    """
    clock, reactor = cpu_clock(own.pid), Path(f"/proc/{own.pid}/task/{own.pid}/schedstat")

    def held() -> float:
        ran, waited, _ = map(int, reactor.read_bytes().split())
        return time.clock_gettime(clock) - (ran + waited) / 1e9

    return held


def slowest(own: Gateway, work: Callable[[], object]) -> tuple[float, float]:
    """Return the slowest answer of 64 queries in flight all the time, while some work is done.

    :return: in milliseconds, by the clock on the wall, and by :func:`held_seconds`.
    """
    thread, held = threading.Thread(target=work), held_seconds(own)
    thread.start()
    queries = [f"{what}-{place}\r\n".encode() for what in ("map", "change") for place in range(1000)]
    took = ask_while(
        own.port,
        lambda _: thread.is_alive(),
        lambda number: queries[number % len(queries)],
        f"{ANSWER}\r\n".encode(),
        lambda: (time.perf_counter(), held()),
    )
    thread.join()
    return max(end[0] - begin[0] for begin, end in took) * 1e3, max(end[1] - begin[1] for begin, end in took) * 1e3


def run() -> None:
    """Print the slowest answers without anything, during reloads and while a watched map changes, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        own = Gateway(Path(folder), free_port())
        for what in own.numbers:
            own.write(what)
        with gateway(own.folder / "fingergw.toml", own.port) as running:
            own.pid = running.pid
            works: dict[str, Callable[[], object]] = {
                "without": lambda: time.sleep(sum(seconds.values()) / len(seconds)),
                "reload": lambda: own.renew("reload"),
                "change": lambda: own.renew("change"),
            }
            seconds = {"reload": SECONDS, "change": SECONDS}
            found: dict[str, list[tuple[float, float]]] = {what: [] for what in works}
            for _ in range(ROUNDS):
                for what, work in works.items():
                    began = time.monotonic()
                    found[what].append(slowest(own, work))
                    if what in seconds:
                        seconds[what] = time.monotonic() - began
    print(f"slowest answer of 64 in flight, {NAMES} names in the configuration and as many in a map, {ROUNDS} rounds")
    for place, clock in enumerate(("by the wall", "held up by a thread")):
        print(f"{clock:22}{'median':>12}{'above':>12}{'most':>12}{'above':>12}")
        usual = [each[place] for each in found["without"]]
        for what, pairs in found.items():
            own_figures = [each[place] for each in pairs]
            typical, most = median(own_figures), max(own_figures)
            figures = (typical, typical - median(usual), most, most - max(usual))
            print(f"  {what:20}" + "".join(f"{figure:>9.1f} ms" for figure in figures), flush=True)
