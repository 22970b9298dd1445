"""A gateway for a soak: it logs to a file, and tells what it holds for each line on its standard input.

python -m tests.benchmarks.soak.gateway CONFIG LOG
"""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.cache.cached_backend import Refresh
from fingergw.core.turns import Turns
from fingergw.net.workers import pool
from fingergw.telemetry.meters import Times

reactor: Any = _reactor


class Teller(LineReceiver):
    """Tell what the gateway holds, or how many objects it has, for each line that asks for it."""

    delimiter = b"\n"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def connectionMade(self) -> None:
        self.sendLine(json.dumps(addresses(self._gateway)).encode())

    def lineReceived(self, line: bytes) -> None:
        told = held(self._gateway) if line == b"held" else objects()
        self.sendLine(json.dumps(told).encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        reactor.stop()


def addresses(gateway: Gateway) -> dict[str, str | list[Any]]:
    """Return where each listener is bound: a path, or host and port."""
    bound: dict[str, str | list[Any]] = {}
    for listener in gateway.listeners:
        assert listener.port is not None
        address: Any = listener.port.getHost()
        bound[listener.rules.listener] = (
            [address.host, address.port] if hasattr(address, "port") else address.name.decode()
        )
    return bound


def held(gateway: Gateway) -> dict[str, Any]:
    """Return the counters, which are to be zero when all clients are gone, and what else there is.

    ``counters`` are connections, queries that wait, clients with connections, queries that backends work on or have
    in a queue, questions of caches, and timers; ``outcomes`` are how often each listener has noted what; ``workers``
    are how many there are.
    """
    # twisted.web keeps a timer, and what is left of a connection, for each that it could have used again
    timers = [call for call in reactor.getDelayedCalls() if getattr(call.func, "__name__", "") != "_removeConnection"]
    counters: dict[str, int] = {"timers": len(timers), "writers": len(reactor.getWriters())}
    outcomes: dict[str, dict[str, int]] = {}
    for listener in gateway.listeners:
        rules, connections = listener.rules, listener.connections
        name = rules.listener
        counters[f"connections at {name}"] = len(connections.open)
        counters[f"queries that wait at {name}"] = connections.waiting
        counters[f"clients at {name}"] = len(connections.per_client)
        noted = outcomes[name] = Counter()
        for (_, outcome), count in connections.meter.outcomes.items():
            noted[outcome] += count
    gc.collect()
    alive = gc.get_objects()
    places = [each for each in alive if isinstance(each, Turns)]  # those that queries wait for
    assert places, "the backends' places are of another class now"
    counters["busy places"] = sum(each.taken for each in places)
    counters["queries in queues"] = sum(map(len, places))
    counters["questions of caches"] = sum(isinstance(each, Refresh) for each in alive)
    workers = sum(type(each).__module__ == pool.__name__ and isinstance(each, Protocol) for each in alive)
    return {"counters": counters, "outcomes": outcomes, "workers": workers}


def objects() -> Counter[str]:
    """Count the objects of each of the gateway's classes, and of Twisted's."""
    gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        # there is one of Times for each route that has been asked for
        if str(kind.__module__).startswith(("fingergw.", "twisted.")) and kind is not Times:
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return found


def main(config: Path, log: Path) -> None:
    """Run a gateway until its standard input ends."""
    with log.open("w") as file:
        level = LogLevelFilterPredicate(LogLevel.info)
        # as the daemon does
        level.setLogLevelForNamespace("twisted.web.client._HTTP11ClientFactory", LogLevel.warn)
        observer = FilteringLogObserver(textFileLogObserver(file), [level])
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        gateway = fingergw.make_service(fingergw.load(config), reactor)
        assert isinstance(gateway, Gateway)
        gateway.privilegedStartService()
        gateway.startService()
        stdio.StandardIO(Teller(gateway))
        reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)
        reactor.run()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
