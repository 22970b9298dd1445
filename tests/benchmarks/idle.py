"""What a connection that says nothing takes of a server's memory, beside the tutorial's server."""

from __future__ import annotations

import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import tomli_w
from attrs import frozen

from tests.benchmarks import ask_many, gateway, raise_open_files
from tests.benchmarks.yardsticks import tutorial
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

CONNECTIONS = 10_000
GOAL_BYTES = 450
_OTHER_FILES = 200  # what this process, and a server, have open besides
_TEXT = "Happy and well"
_ANSWER = b"Happy and well\r\n"


@frozen
class Memory:
    """What a process has of memory, in bytes.

    :param resident: all that is in the machine's memory.
    :param private: what of it is the process's own, and was written to.
    """

    resident: int
    private: int

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Read it of a process."""
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])}
        return cls(kib["Rss"] << 10, kib["Private_Dirty"] << 10)


def growth(port: int, pid: int, connections: int) -> Memory:
    """Return by how much a server's memory grows for each connection that is open and says nothing."""
    ask_many(port, 200, lambda _: b"moshez\r\n", _ANSWER)  # what is made once is there

    def open_files() -> int:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())

    before = Memory.of(pid)
    with ExitStack() as clients:
        for _ in range(connections):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: open_files() >= connections, "connections that the server has accepted")
        after = Memory.of(pid)
    return Memory(
        round((after.resident - before.resident) / connections), round((after.private - before.private) / connections)
    )


def run(connections: int = CONNECTIONS) -> None:
    """Print what a connection takes of the gateway, and of the tutorial's server.

    :param connections: so many are open at once, as far as a process may have so many files open.
    """
    connections = min(connections, raise_open_files() - _OTHER_FILES)
    with tempfile.TemporaryDirectory() as folder:
        port, config = free_port(), Path(folder, "fingergw.toml")
        most = connections + _OTHER_FILES
        tables = {
            "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
            "routes": [{"user": "moshez", "backends": ["people"]}],
            "backends": {"people": {"type": "static", "entries": {"moshez": _TEXT}}},
            "limits": {"max_connections": most, "max_connections_per_client": most, "query_timeout": 600},
            "log": {"access": "off"},
        }
        config.write_text(tomli_w.dumps(tables))
        with gateway(config, port) as running, tutorial({b"moshez": _TEXT.encode()}) as plain:
            own = growth(port, running.pid, connections)
            its = growth(plain.port, plain.pid, connections)
    print(f"memory of each of {connections} idle connections: resident, and private and written to")
    print(f"fingergw: {own.resident} bytes, {own.private} bytes; goal {GOAL_BYTES}")
    print(f"tutorial: {its.resident} bytes, {its.private} bytes")
    if its.resident > 0:
        print(f"ratio fingergw / tutorial: {own.resident / its.resident:.3f}")
