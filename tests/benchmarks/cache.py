"""The cache: clients that come at once, what a fresh hit costs, stale answers while upstream hangs, invented names."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import ask_many, cpu_seconds, gateway, raise_open_files, server
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

CLIENTS = 1000
TEXT = "Ada is on call until Friday, 18:00."
ANSWER = f"{TEXT}\r\n".encode()

# Answers after a second while asked for /slow/..., never while the file in its argument is there; counts requests.
UPSTREAM = """
import asyncio, os, sys

count = 0

async def serve(reader, writer):
    global count
    while True:
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return writer.close()
        path = head.split()[1]
        body = b"%s"
        if path == b"/count":
            body = str(count).encode()
        else:
            count += 1
            if path.startswith(b"/slow/"):
                await asyncio.sleep(1)
            while os.path.exists(sys.argv[1]):
                await asyncio.sleep(0.1)
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: %%d\\r\\n\\r\\n" %% len(body)
        writer.write(head + body)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", %d)
    await server.serve_forever()

asyncio.run(main())
"""

CONFIG = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1:backlog=1024"
limits = {{ max_connections = 2000, max_connections_per_client = 2000, max_waiting = 2000, answer_timeout = 30 }}
[[routes]]
user = "static"
backends = ["static"]
[[routes]]
pattern = "slow-*"
backends = ["slow"]
[[routes]]
pattern = "page-*"
backends = ["page"]
[[routes]]
pattern = "short-*"
backends = ["short"]
[[routes]]
pattern = "*"
backends = ["nobody"]
[backends.static]
type = "static"
entries = {{ static = "{text}" }}
[backends.slow]
type = "http"
url = "http://127.0.0.1:{upstream}/slow/{{user}}"
cache = {{ ttl = 600 }}
[backends.page]
type = "http"
url = "http://127.0.0.1:{upstream}/{{user}}"
cache = {{ ttl = 600 }}
[backends.short]
type = "http"
url = "http://127.0.0.1:{upstream}/{{user}}"
timeout = 2
cache = {{ ttl = 0.5 }}
[backends.nobody]
type = "static"
entries = {{}}
cache = {{}}
[log]
access = "off"
"""


def memory_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(seconds, n=100)[98]


def always(query: str) -> Callable[[int], bytes]:
    """Return what asks the same each time."""
    return lambda _: f"{query}\r\n".encode()


def run(invented: int = 1_000_000) -> None:
    """Run a gateway and its upstream, and print each figure."""
    raise_open_files()
    with tempfile.TemporaryDirectory() as folder:
        port, upstream, config, hang = free_port(), free_port(), Path(folder, "fingergw.toml"), Path(folder, "hang")
        config.write_text(CONFIG.format(port=port, upstream=upstream, text=TEXT))
        with (
            server("-c", UPSTREAM % (TEXT, upstream), str(hang), port=upstream),
            gateway(config, port) as running,
        ):
            at_once(port, upstream)
            fresh_hits(port, running.pid)
            for keys in (10, 100):
                hanging(port, hang, keys)
            inventing(port, running.pid, invented)


def at_once(port: int, upstream: int) -> None:
    """Ask for one thing that is not there yet, with many clients at once."""
    seconds = ask_many(port, CLIENTS, always("slow-1"), ANSWER, in_flight=CLIENTS)
    with urllib.request.urlopen(f"http://127.0.0.1:{upstream}/count") as response:
        requests = int(response.read())
    print(f"{CLIENTS} clients at once, upstream takes 1 s: {requests} request(s), slowest client {max(seconds):.3f} s")


def fresh_hits(port: int, pid: int, queries: int = 5000, rounds: int = 9) -> None:
    """Compare what a fresh hit costs with what a static answer costs."""
    spent: dict[str, list[float]] = {"static": [], "page-1": []}
    for name in spent:
        ask_many(port, 1000, always(name), ANSWER)
    for _ in range(rounds):
        for name, times in spent.items():
            before = cpu_seconds(pid)
            ask_many(port, queries, always(name), ANSWER)
            times.append((cpu_seconds(pid) - before) / queries * 1e6)
    static, hit = (statistics.median(times) for times in spent.values())
    print(f"a fresh hit: {hit:.1f} µs of CPU, a static answer: {static:.1f} µs; ratio {hit / static:.3f}")


def hanging(port: int, hang: Path, keys: int, queries: int = 20_000) -> None:
    """Compare how long stale answers take while upstream hangs with how long fresh hits take.

    :param keys: how many different ones there are.
    """

    def pages(kind: str) -> Callable[[int], bytes]:
        return lambda n: f"{kind}-{n % keys}\r\n".encode()

    names = (f"short-new-{keys}-{number}\r\n".encode() for number in itertools.count())
    wait_until(lambda: finger(port, next(names)) == ANSWER, "an answer after upstream has hung")
    for kind in ("page", "short"):
        ask_many(port, keys, pages(kind), ANSWER)
    hang.touch()
    time.sleep(1)  # all of the short ones are stale now
    fresh, stale = [], []
    for _ in range(4):
        fresh.extend(ask_many(port, queries // 4, pages("page"), ANSWER, in_flight=8))
        stale.extend(ask_many(port, queries // 4, pages("short"), ANSWER, in_flight=8))
    hang.unlink()
    slow, usual = p99(stale) * 1e3, p99(fresh) * 1e3
    print(f"p99 of {keys} stale answers while upstream hangs: {slow:.2f} ms, of fresh hits: {usual:.2f} ms")
    print(f"ratio {slow / usual:.3f}")


def inventing(port: int, pid: int, names: int) -> None:
    """Ask for very many names that do not exist."""
    before = memory_bytes(pid)
    ask_many(port, names, lambda n: f"invented-{n}\r\n".encode(), b"No such user\r\n")
    grown = memory_bytes(pid) - before
    print(f"{names} invented names: {grown / 2**20:.1f} MiB more memory")
