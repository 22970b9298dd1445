"""Server processor time per query, over the tutorial's server and over a loop in C, all of them asked in one run.

The gateway has a rate limit that nobody reaches, metrics and an access log, which must have a line for each query. Its
answers are as long as those of the others, which are asked for one name that they know in the place of many.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import tomli_w
from attrs import define, frozen

from tests.benchmarks import IN_FLIGHT, ask_many, cpu_seconds, gateway, raise_open_files
from tests.benchmarks.upstreams import ANSWER as PAGE
from tests.benchmarks.upstreams import upstream
from tests.benchmarks.yardsticks import Asking, Yardstick, asking, c_loop, tutorial
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

TEXT = b"Happy and well\r\n"
MISSING = b"No such user\r\n"
KNOWN = b"moshez\r\n"
_PROXY_HEADER = b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 79\r\n"
_NEVER_REACHED = {"queries": 1_000_000_000, "per": 1, "burst": 1_000_000_000}

Ask: TypeAlias = Callable[[int], bytes]
Others: TypeAlias = Mapping[str, Yardstick]
Table: TypeAlias = Mapping[str, object]


@frozen
class Case:
    """What is measured.

    :param port: of the gateway's listener.
    :param query: returns a query to the gateway; its argument says which of those that are asked in one go it is.
    :param plain_query: what the others are asked.
    :param goals: the ratio to be reached, by the name of the yardstick.
    """

    name: str
    port: int
    query: Ask
    plain_query: Ask
    answer: bytes
    goals: Mapping[str, float]
    in_flight: int = IN_FLIGHT


@define
class _Log:
    """A gateway's access log, as far as it has been read."""

    path: Path
    asked: int = 0
    _lines: int = 0
    _read_bytes: int = 0

    def settle(self) -> None:
        """Wait for the lines of all that was asked.

        :raises SystemExit: there are more.
        """
        wait_until(lambda: self._count() >= self.asked, f"a line for each of {self.asked} queries in the access log")
        if self._lines > self.asked:
            raise SystemExit(f"{self._lines} lines in the access log for {self.asked} queries")

    def _count(self) -> int:
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        self._read_bytes += len(data)
        self._lines += data.count(b"\n")
        return self._lines


@frozen
class _Gateway:
    """A gateway that runs.

    :param ports: of its listeners.
    """

    ports: Sequence[int]
    pid: int
    log: _Log


@contextmanager
def _running(endpoints: Sequence[Table], routes: Sequence[Table], backends: Table) -> Iterator[_Gateway]:
    """Run a gateway.

    :param endpoints: each listener's table; its endpoint has ``{}`` in the place of the port.
    """
    ports = [free_port() for _ in endpoints]
    listeners = [
        {**table, "endpoint": str(table["endpoint"]).format(port)} for table, port in zip(endpoints, ports, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config, access = Path(folder, "fingergw.toml"), Path(folder, "access.log")
        most = {"max_connections": 5000, "max_connections_per_client": 5000, "max_waiting": 5000}
        tables = {
            "listeners": listeners,
            "routes": routes,
            "backends": backends,
            "limits": {**most, "query_timeout": 60, "rate": _NEVER_REACHED},
            "cache": {"max_entries": 1_000_000, "max_bytes": 1 << 30},
            "admin": {"endpoint": f"tcp:{free_port()}:interface=127.0.0.1"},
            "log": {"access": str(access)},
        }
        config.write_text(tomli_w.dumps(tables))
        with gateway(config, ports[0]) as running:
            yield _Gateway(ports, running.pid, _Log(access))


def compare(case: Case, running: _Gateway, others: Others, ask: Asking, queries: int, rounds: int) -> None:
    """Ask all in turn, round by round, and print the medians of the times and of the ratios.

    :param ask: asks one of them.
    :param queries: to each, in each round.
    """

    def ask_gateway(count: int) -> None:
        running.log.asked += count
        ask(case.port, count, case.query, case.answer, case.in_flight)
        running.log.settle()  # the log, too, is part of the gateway's work

    def ask_other(port: int, count: int) -> None:
        ask(port, count, case.plain_query, case.answer, case.in_flight)

    asks: dict[str, tuple[int, Callable[[int], object]]] = {"fingergw": (running.pid, ask_gateway)}
    for name, yardstick in others.items():
        asks[name] = yardstick.pid, partial(ask_other, yardstick.port)
    for _, ask_one in asks.values():
        ask_one(warming(queries))
    spent: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(rounds):
        for name, (pid, ask_one) in sorted(asks.items(), reverse=turn % 2 == 1):
            before = cpu_seconds(pid)
            ask_one(queries)
            spent[name].append((cpu_seconds(pid) - before) / queries)
    print(row(f"{case.name}, {case.in_flight} in flight", spent, case.goals), flush=True)


def warming(queries: int) -> int:
    """Return how many queries are not measured, before so many that are, round by round."""
    return queries // 4 + 1


def row(name: str, spent: Mapping[str, Sequence[float]], goals: Mapping[str, float]) -> str:
    """Return the medians of times and ratios, and between which values the middle half of the ratios is.

    :param spent: seconds, by whose they are and round; the gateway's come first.
    """
    own = spent["fingergw"]
    columns = [f"{name:27} {statistics.median(own) * 1e6:6.1f} µs"]
    for other, times in spent.items():
        if other != "fingergw":
            ratios = sorted(mine / its for mine, its in zip(own, times, strict=True))
            quarter = len(ratios) // 4
            goal = f", goal {goals[other]:.2f}" if other in goals else ""
            median = f"{statistics.median(ratios):5.2f} x {other} ({statistics.median(times) * 1e6:.1f} µs"
            columns.append(f"{median}, {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}{goal})")
    return "   ".join(columns)


def _static(others: Others, ask: Asking, queries: int, rounds: int, in_flights: Sequence[int], names: int) -> None:
    """Measure what needs no backend that waits."""
    sizes = {in_flight: queries * (2 if in_flight > 500 else 1) for in_flight in in_flights}
    names = max(names, sum(warming(size) + rounds * size for size in sizes.values()))
    endpoints: list[Table] = [
        {"endpoint": "tcp:{}:interface=127.0.0.1"},
        {"endpoint": "haproxy:tcp:{}:interface=127.0.0.1", "trusted_proxies": ["127.0.0.1"]},
    ]
    text = TEXT.decode().strip()
    people = {"type": "static", "entries": {"moshez": text, **{f"name-{number}": text for number in range(names)}}}
    tutorial_alone = {"tutorial": others["tutorial"]}
    routes = [{"user": "moshez", "backends": ["people"]}, {"pattern": "name-*", "backends": ["people"]}]
    with _running(endpoints, routes, {"people": people}) as running:
        port, proxied = running.ports
        for in_flight, size in sizes.items():
            goals = {"tutorial": 0.55, "C loop": 2.0}
            case = Case("known", port, always(KNOWN), always(KNOWN), TEXT, goals, in_flight)
            compare(case, running, others, ask, size, rounds)
        each_once = in_turn("name")
        for in_flight, size in sizes.items():
            case = Case("static", port, each_once, always(KNOWN), TEXT, {"tutorial": 0.80}, in_flight)
            compare(case, running, others, ask, size, rounds)
        for name, stem in (("refusal", "nobody"), ("refusal by the map", "name-nobody")):
            new = in_turn(stem)
            case = Case(name, port, new, new, MISSING, {"tutorial": 0.70})
            compare(case, running, tutorial_alone, ask, queries, rounds)
        case = Case("haproxy:", proxied, always(_PROXY_HEADER + KNOWN), always(KNOWN), TEXT, {})
        compare(case, running, tutorial_alone, ask, queries, rounds)


def _fresh_hits(others: Others, ask: Asking, queries: int, rounds: int) -> None:
    """Measure answers of a cache, each of which is asked for once after it has been put there."""
    names = warming(queries) + rounds * queries
    with upstream("http") as server:
        page = {"type": "http", "url": f"http://127.0.0.1:{server}/{{user}}", "cache": {"ttl": 100_000}}
        endpoints = [{"endpoint": "tcp:{}:interface=127.0.0.1"}]
        with _running(endpoints, [{"pattern": "page-*", "backends": ["page"]}], {"page": page}) as running:
            port = running.ports[0]
            ask_many(port, names, in_turn("page"), PAGE)
            running.log.asked = names
            running.log.settle()
            case = Case("fresh hit", port, in_turn("page"), always(b"page\r\n"), PAGE, {"tutorial": 0.85})
            compare(case, running, {"tutorial": others["tutorial"]}, ask, queries, rounds)
            fresh = running.log.path.read_text().count(" fresh\n")
    if fresh != names:
        raise SystemExit(f"{fresh} of {names} answers were fresh ones of the cache")


def always(query: bytes) -> Ask:
    """Return what asks the same each time."""
    return lambda _: query


def in_turn(stem: str) -> Ask:
    """Return what asks for another name each time it is called."""
    numbers = itertools.count()
    return lambda _: b"%s-%d\r\n" % (stem.encode(), next(numbers))


def run(
    queries: int = 1000, rounds: int = 21, in_flights: Sequence[int] = (1, IN_FLIGHT, 1000), names: int = 50_000
) -> None:
    """Run all servers, and print a line for each case.

    :param queries: to each server, in each round.
    :param in_flights: so many at once.
    :param names: in the map, at least; more, if more are asked for: each is asked for once.
    """
    raise_open_files()
    print("processor time of a query, and its ratio to that of others: medians, and the middle half")
    users = {KNOWN.strip(): TEXT.strip(), b"page": PAGE.strip()}
    with tutorial(users) as plain, c_loop(TEXT) as loop, asking() as ask:
        others = {"tutorial": plain}
        if loop is None:
            print("There is no C compiler, so that the loop in C is left out.")
        else:
            others["C loop"] = loop
        _static(others, ask, queries, rounds, in_flights, names)
        _fresh_hits(others, ask, queries, rounds)
