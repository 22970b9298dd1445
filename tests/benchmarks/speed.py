"""Server CPU per query: this gateway with its access log on, over the plain tutorial server; both in one run."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.benchmarks import ask_many, cpu_seconds, gateway, server
from tests.support.processes import ROOT
from tests.support.sockets import free_port

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


def run(queries: int = 20_000, rounds: int = 5) -> None:
    """Run both servers, measure them in turn, print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        ports = {"tutorial": free_port(), "fingergw": free_port()}
        config, access = Path(folder, "fingergw.toml"), Path(folder, "access.log")
        shipped = (ROOT / "fingergw.toml").read_text()
        config.write_text(
            shipped.replace("tcp:1079", f"tcp:{ports['fingergw']}")
            + f'\n[log]\naccess = "{access}"\n[limits]\nmax_connections_per_client = 100\n'
        )
        with (
            server("-c", TUTORIAL % ports["tutorial"], port=ports["tutorial"]) as tutorial,
            gateway(config, ports["fingergw"]) as fingergw,
        ):
            servers = {"tutorial": tutorial, "fingergw": fingergw}
            spent: dict[str, list[float]] = {name: [] for name in servers}
            for port in ports.values():
                ask_many(port, 1000, lambda _: QUERY, ANSWER)
            for _ in range(rounds):
                for name, running in servers.items():
                    before = cpu_seconds(running.pid)
                    ask_many(ports[name], queries, lambda _: QUERY, ANSWER)
                    spent[name].append((cpu_seconds(running.pid) - before) / queries * 1e6)
        lines = access.read_text().count('"moshez"')
        if lines != 1000 + rounds * queries:
            raise SystemExit(f"{lines} lines in the access log, not one a query")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.1f} µs of CPU a query (rounds: {', '.join(f'{time:.1f}' for time in spent[name])})")
    print(f"ratio fingergw / tutorial: {medians['fingergw'] / medians['tutorial']:.3f}")
