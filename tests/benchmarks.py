"""Server CPU per query: this gateway with its access log on, over the plain tutorial server; both in one run.

    python -m tests.benchmarks [queries] [rounds]

Each server is a process of its own; its user and system time is read from the system's accounting (/proc).
"""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IN_FLIGHT = 64
QUERY = b"moshez\r\n"
ANSWER = b"Happy and well\r\n"

TUTORIAL = """
from twisted.internet import defer, endpoints, protocol, reactor
from twisted.protocols import basic

class Finger(basic.LineReceiver):
    def lineReceived(self, user):
        d = self.factory.getUser(user)
        d.addErrback(lambda _: b"Internal error in server")
        def write(message):
            self.transport.write(message + b"\\r\\n")
            self.transport.loseConnection()
        d.addCallback(write)

class Factory(protocol.ServerFactory):
    protocol = Finger
    users = {b"moshez": b"Happy and well"}
    def getUser(self, user):
        return defer.succeed(self.users.get(user, b"No such user"))

endpoints.serverFromString(reactor, "tcp:%d:interface=127.0.0.1").listen(Factory())
reactor.run()
"""


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask_many(port: int, queries: int) -> None:
    """Ask that many queries, so many at once; every answer must be right."""
    selector = selectors.DefaultSelector()
    received: dict[socket.socket, bytes] = {}
    begun = 0

    def begin() -> None:
        nonlocal begun
        begun += 1
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(QUERY)
        received[client] = b""
        selector.register(client, selectors.EVENT_READ)

    for _ in range(min(IN_FLIGHT, queries)):
        begin()
    while received:
        for key, _ in selector.select():
            client = key.fileobj
            assert isinstance(client, socket.socket)
            data = client.recv(65536)
            received[client] += data
            if data:
                continue
            selector.unregister(client)
            client.close()
            answer = received.pop(client)
            if answer != ANSWER:
                raise SystemExit(f"a wrong answer: {answer!r}")
            if begun < queries:
                begin()


def wait_for(port: int) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main(queries: int = 20_000, rounds: int = 5) -> None:
    """Run both servers, measure them in turn, print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        ports = {"tutorial": free_port(), "fingergw": free_port()}
        shipped = (Path(__file__).parent.parent / "fingergw.toml").read_text()
        config = Path(folder, "fingergw.toml")
        access = Path(folder, "access.log")
        config.write_text(shipped.replace("tcp:1079", f"tcp:{ports['fingergw']}") + f'\n[log]\naccess = "{access}"\n')
        commands = {
            "tutorial": [sys.executable, "-c", TUTORIAL % ports["tutorial"]],
            "fingergw": [sys.executable, "-m", "fingergw", "--config", str(config)],
        }
        with Path(os.devnull).open("wb") as null:
            servers = {name: subprocess.Popen(command, stdout=null) for name, command in commands.items()}
        try:
            spent: dict[str, list[float]] = {name: [] for name in servers}
            for name in servers:
                wait_for(ports[name])
                ask_many(ports[name], 1000)
            for _ in range(rounds):
                for name, server in servers.items():
                    before = cpu_seconds(server.pid)
                    ask_many(ports[name], queries)
                    spent[name].append((cpu_seconds(server.pid) - before) / queries * 1e6)
        finally:
            for server in servers.values():
                server.terminate()
                server.wait()
        lines = access.read_text().count('"moshez"')
        if lines != 1000 + rounds * queries:
            raise SystemExit(f"{lines} lines in the access log, not one a query")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.1f} µs of CPU a query (rounds: {', '.join(f'{time:.1f}' for time in spent[name])})")
    print(f"ratio fingergw / tutorial: {medians['fingergw'] / medians['tutorial']:.3f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
