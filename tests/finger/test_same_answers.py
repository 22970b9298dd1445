"""Clients that behave at random get the same over both transports."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.support.configuration import LISTENER
from tests.support.gateway import GatewayCase, port_of
from tests.support.sockets import receive_all
from tests.support.transports import without_fast_path
from tests.support.waiting import in_thread, until

CONFIGURATION = """
[[routes]]
user = "hello"
backends = ["map"]
[[routes]]
user = "long"
backends = ["long"]
[[routes]]
user = "program"
backends = ["program"]
[[routes]]
pattern = "p-*"
backends = ["map"]
[backends.map]
type = "static"
entries = { hello = "Hello", p-a = "A" }
[backends.long]
type = "static"
text = "LONG"
[backends.program]
type = "command"
argv = ["/bin/echo", "Ran"]
[limits]
query_timeout = 3600
answer_timeout = 3600
max_connections_per_client = 1000
[log]
access = "access.log"
format = "json"
"""
LINES = [
    *(b"hello", b"HELLO ", b"/W hello", b"long", b"program", b"p-a", b"p-b", b"nobody", b"", b"/W", b"a@b", b"a@"),
    *(b"\x1b[2J", b"GET / HTTP/1.1", b"x" * 600, b"\xff\xfb\x18hello", b"\xc3\x28", b"hello\r\r", b"\x16\x03"),
]
ENDS = [b"\r\n", b"\n", b"\r\n\r\n", b"\r\nhello\r\n", b"\r\n" + b"z" * 5000, b""]
RESET = b"reset"
PROXY = b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\n"
BEFORE = [
    b"no header\r\n",
    PROXY,
    PROXY.replace(b"192.0.2.1", b"192.0.2.66"),
    b"PROXY UNKNOWN\r\n",
    b"PROXY nonsense\r\n",
]


class Script(NamedTuple):
    """What a client does.

    :param pieces: what it sends, each after a short time.
    :param closes: whether it closes its side then.
    """

    pieces: list[bytes]
    closes: bool


def random_script(rng: random.Random, before: list[bytes]) -> Script:
    """Return what a client may do that gets an answer, or the end, in either case."""
    line, end = rng.choice(LINES), rng.choice(ENDS)
    sent = rng.choice(before) + line + end
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.choice((0, 0, 1, 2, 5))))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    return Script([piece for piece in pieces if piece], b"\n" not in line + end or rng.random() < 0.3)


def play(port: int, script: Script) -> bytes:
    """Do it, and return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in script.pieces:
                client.sendall(piece)
                time.sleep(0.001)  # so that not all of them come together
            if script.closes:
                client.shutdown(socket.SHUT_WR)
        except OSError:  # it has been answered before, or closed on
            pass
        try:
            return receive_all(client)
        except ConnectionError:
            return RESET


def logged_as(line: str) -> tuple[object, ...]:
    """Return what a line of the access log says that does not depend on time."""
    entry = json.loads(line)
    keys = ["outcome", "client", "route", "backend", "bytes"]
    if entry["outcome"] != "bad_query":  # of which as much is logged as had come when it could be told
        keys.append("query")
    return tuple(entry[key] for key in keys)


class Seen(NamedTuple):
    """What came of some scripts.

    :param told: what each client was told.
    :param logged: how often each line was logged.
    :param counted: what the gateway counted.
    """

    told: list[bytes]
    logged: Counter[tuple[object, ...]]
    counted: dict[str, object]


class RandomTests(GatewayCase):
    """Two gateways, one of them without the fast path, and the same clients of both."""

    async def seen(self, text: str, log: str, scripts: list[Script]) -> Seen:
        """Start a gateway, have clients play scripts, some at a time, and stop it.

        :param log: the name of the access log's file.
        """
        gateway = self.start(text.replace("access.log", log))
        port = port_of(gateway)
        told: list[bytes] = []

        def play_all() -> bytes:
            with ThreadPoolExecutor(8) as clients:
                told.extend(clients.map(partial(play, port), scripts))
            return b""

        await in_thread(play_all)
        connections = gateway.listeners[0].connections
        await until(lambda: not connections.open, "the end of all connections")
        assert (connections.rejected, len(connections.per_client)) == (0, 0)
        meter = connections.meter
        counted = {"outcomes": dict(meter.outcomes), "rejections": dict(meter.rejections), "accepted": meter.accepted}
        await gateway.stopService()
        lines = self.write("unused", "").with_name(log).read_text().splitlines()
        return Seen(told, Counter(map(logged_as, lines)), counted)

    async def check(self, listener: str, before: list[bytes]) -> None:
        """Compare the two.

        :param before: what may come before the line.
        """
        rng = random.Random(listener)
        scripts = [random_script(rng, before) for _ in range(200)]
        text = listener + CONFIGURATION.replace("LONG", "y" * 60_000)
        with without_fast_path():
            twisted = await self.seen(text, "twisted.log", scripts)
        fast = await self.seen(text, "fast.log", scripts)
        for script, expected, found in zip(scripts, twisted.told, fast.told, strict=True):
            # Twisted may reset what it closes, and then an answer may be lost; the fast path only where there is none.
            if expected != RESET and (expected, found) != (b"", RESET):
                assert found == expected, script
        assert fast.logged == twisted.logged
        assert fast.counted == twisted.counted

    async def test_plain(self) -> None:
        """Clients of a plain listener."""
        await self.check(LISTENER, [b""])

    async def test_proxied(self) -> None:
        """Clients behind a proxy, some of them denied, and proxies that send no header."""
        listener = LISTENER.replace("tcp:0", "haproxy:tcp:0")
        await self.check(listener + 'trusted_proxies = ["127.0.0.1"]\ndeny = ["192.0.2.66"]\n', BEFORE)
