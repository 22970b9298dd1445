"""The clients of a soak: those who ask and know what they must get, and those who do harm."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

from attrs import define, field, frozen

from tests.benchmarks.soak.mix import DENIED, KINDS, STALL_SECONDS, STUCK
from tests.support.configuration import REFUSALS

Address: TypeAlias = str | tuple[str, int]
T = TypeVar("T")

_QUICK_AT_ONCE = 32
_SLOW_AT_ONCE = 96
_SECONDS = 30.0
"""What a client waits at the most; the gateway's own deadlines come before."""
_HOSTILE_PART = 0.12
HOSTILE = "127.0.0.9"
"""Where those come from who do harm; the access log has nobody else's queries under it."""
PROXIED_HOSTILE = "10.9.9.9"
_SHORT = 100
BUSY = REFUSALS["busy"].encode() + b"\r\n"

LISTENERS = {"tcp": 64, "tcp6": 8, "unix": 8, "proxied": 10, "tls": 3, "decoy": 3, "tight": 3}
STYLES = {"whole": 70, "lf": 5, "bytes": 5, "half-close": 6, "two lines": 4, "telnet": 4, "verbose": 4, "case": 2}


@frozen
class Plan:
    """What the n-th client does.

    :param kind: of query, or what a hostile client does.
    :param wire: all that an honest client sends.
    :param expected: what it must get.
    :param outcome: as the access log must have it.
    """

    number: int
    kind: str
    is_hostile: bool
    listener: str = ""
    style: str = ""
    wire: bytes = b""
    expected: bytes = b""
    outcome: str = ""
    source: str = ""
    is_slow: bool = False


@define
class Tally:
    """What came of all clients.

    :param honest: how many asked at each listener and, as they saw it, with what outcome.
    :param received: how many bytes these got.
    :param kinds: how many of each kind there were.
    :param wrong: what was wrong, in words; no more than are of use.
    :param seconds: how long answers from the file took.
    """

    honest: Counter[tuple[str, str]] = field(factory=Counter)
    received: Counter[tuple[str, str]] = field(factory=Counter)
    kinds: Counter[str] = field(factory=Counter)
    wrong_answers: int = 0
    wrong: list[str] = field(factory=list)
    seconds: list[float] = field(factory=list)

    def note(self, plan: Plan, got: bytes, ending: str, took: float) -> None:
        """Compare what an honest client got with what it must get.

        :param ending: how its connection ended; empty for a clean end.
        """
        self.kinds[plan.kind] += 1
        outcome = plan.outcome
        if plan.listener == "tight" and (got == BUSY or (ending and BUSY.startswith(got))):
            outcome = "busy"  # whoever is turned away may be reset for what he has sent, before he has read that
        elif plan.outcome in ("denied", "untrusted_proxy"):
            if got:  # likewise whoever may not ask
                self._wrong(plan, got, ending)
        elif got != plan.expected or ending:
            self._wrong(plan, got, ending)
        elif plan.kind == "static-short" and plan.listener == "tcp" and plan.style == "whole":
            self.seconds.append(took)
        self.honest[plan.listener, outcome] += 1
        self.received[plan.listener, outcome] += len(got)

    def _wrong(self, plan: Plan, got: bytes, ending: str) -> None:
        self.wrong_answers += 1
        if len(self.wrong) < 10:
            self.wrong.append(
                f"query {plan.number}, {plan.wire[:_SHORT]!r} sent {plan.style} to {plan.listener}: "
                f"got {len(got)} bytes {got[:_SHORT]!r}{ending and ', ' + ending}, not {plan.expected[:_SHORT]!r}"
            )


def _picker(weights: Mapping[T, float]) -> Callable[[random.Random], T]:
    keys, sums = list(weights), list(itertools.accumulate(weights.values()))
    return lambda rng: rng.choices(keys, cum_weights=sums)[0]


@define
class Clients:
    """Many clients at once, each with a number that decides what it does.

    :param seed: decides it too.
    :param addresses: of the listeners, by name.
    :param trusted: what checks the TLS listener's certificate.
    """

    seed: int
    addresses: dict[str, Address]
    trusted: ssl.SSLContext
    tally: Tally = field(init=False, factory=Tally)
    _pick_listener: Callable[[random.Random], str] = field(init=False)
    _pick_kind: Callable[[random.Random], str] = field(init=False)
    _pick_style: Callable[[random.Random], str] = field(init=False)
    _pick_harm: Callable[[random.Random], str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pick_listener = _picker({name: weight for name, weight in LISTENERS.items() if name in self.addresses})
        self._pick_kind = _picker({name: kind.weight for name, kind in KINDS.items()})
        self._pick_style = _picker(STYLES)
        self._pick_harm = _picker({name: weight for name, (weight, _) in _HARMS.items()})

    def plan(self, number: int) -> Plan:
        """Return what a client does."""
        rng = self._random(number)
        if rng.random() < _HOSTILE_PART:
            harm = self._pick_harm(rng)
            return Plan(number, harm, True, is_slow=True)
        listener, kind_name = self._pick_listener(rng), self._pick_kind(rng)
        kind, style = KINDS[kind_name], self._pick_style(rng)
        name = f"{kind_name}-{rng.randrange(kind.names)}"
        query = kind.query.replace("{name}", name)
        if (listener == "tls" and style == "half-close") or (len(query) > _SHORT and style == "bytes"):
            style = "whole"
        expected, outcome, source = kind.expected(name), kind.outcome, f"127.0.0.{rng.randrange(1, 9)}"
        if listener == "decoy":
            expected, outcome = KINDS["static-nobody"].expected(name), "no_such_user"
        if listener in ("tcp", "proxied") and rng.random() < 0.01:
            expected, outcome, source = b"", "denied" if listener == "tcp" else "untrusted_proxy", DENIED
        wire = _wire(query, style)
        if listener == "proxied":
            wire = _header(rng, f"10.0.0.{rng.randrange(1, 9)}") + wire
        slow = kind.slow or listener in ("tls", "decoy")
        return Plan(number, kind_name, False, listener, style, wire, expected, outcome, source, slow)

    def _random(self, number: int) -> random.Random:
        return random.Random((self.seed << 40) + number)

    async def run(self, numbers: range) -> None:
        """Have all of these clients come and go."""
        left, slots = iter(numbers), asyncio.Semaphore(_SLOW_AT_ONCE)
        slow: set[asyncio.Task[None]] = set()

        async def work() -> None:
            for number in left:
                plan = self.plan(number)
                if not plan.is_slow:
                    await self._ask(plan)
                    continue
                await slots.acquire()
                task = asyncio.create_task(self._harm(plan) if plan.is_hostile else self._ask(plan))
                slow.add(task)
                task.add_done_callback(slow.discard)
                task.add_done_callback(lambda _: slots.release())

        async with asyncio.TaskGroup() as group:
            for _ in range(_QUICK_AT_ONCE):
                group.create_task(work())
        await asyncio.gather(*slow)

    async def _ask(self, plan: Plan) -> None:
        began, received, ending = time.perf_counter(), bytearray(), ""
        try:
            async with asyncio.timeout(_SECONDS):
                if plan.listener == "tls":
                    await self._ask_by_tls(plan, received)
                else:
                    await self._ask_plainly(plan, received)
        except OSError as error:  # a timeout is one
            ending = f"then {type(error).__name__}"
        self.tally.note(plan, bytes(received), ending, time.perf_counter() - began)

    async def _ask_plainly(self, plan: Plan, received: bytearray) -> None:
        loop = asyncio.get_running_loop()
        with self.connect(plan.listener, plan.source) as client:
            if plan.style == "bytes":
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if plan.listener != "unix" else None
                for byte in plan.wire:
                    client.send(bytes([byte]))
                    await asyncio.sleep(0)
            else:
                client.sendall(plan.wire)
            if plan.style == "half-close":
                client.shutdown(socket.SHUT_WR)
            while data := await loop.sock_recv(client, 65536):
                received += data

    async def _ask_by_tls(self, plan: Plan, received: bytearray) -> None:
        reader, writer = await self.connect_by_tls()
        try:
            for piece in (bytes([byte]) for byte in plan.wire) if plan.style == "bytes" else (plan.wire,):
                writer.write(piece)
            received += await reader.read()
        finally:
            writer.transport.abort()

    def connect(self, listener: str, source: str, *, buffer_bytes: int = 0) -> socket.socket:
        """Connect; on the loopback that takes no time.

        :param buffer_bytes: how much the system shall receive that nobody reads; 0 for what is usual.
        """
        address = self.addresses[listener]
        if isinstance(address, str):
            client = socket.socket(socket.AF_UNIX)
        else:
            client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            if client.family == socket.AF_INET and source != "127.0.0.1":
                client.bind((source, 0))
        if buffer_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        try:
            client.settimeout(_SECONDS)
            client.connect(address)
            client.setblocking(False)
        except OSError:
            client.close()
            raise
        return client

    async def connect_by_tls(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the TLS listener, and shake hands."""
        address = self.addresses["tls"]
        assert not isinstance(address, str)
        return await asyncio.open_connection(
            *address, ssl=self.trusted, server_hostname="127.0.0.1", local_addr=(source, 0)
        )

    async def _harm(self, plan: Plan) -> None:
        self.tally.kinds[plan.kind] += 1
        try:
            async with asyncio.timeout(_SECONDS):
                await _HARMS[plan.kind][1](self, self._random(plan.number + (1 << 39)))
        except TimeoutError:
            self.tally.wrong_answers += 1
            self.tally.wrong.append(f"client {plan.number}, which would {plan.kind}, was still not got rid of")
        except OSError:
            pass  # the gateway has closed on it


def _wire(query: str, style: str) -> bytes:
    line = query.encode()
    match style:
        case "lf":
            return line + b"\n"
        case "two lines":
            return line + b"\r\nstatic-short-1\r\n"
        case "telnet":
            return b"\xff\xfd\x06" + line[:3] + b"\xff\xfb\x0a" + line[3:] + b"\r\n"
        case "verbose":
            return b"/W " + line + b"\r\n"
        case "case":
            return b" " + line.upper() + b" \r\n"
    return line + b"\r\n"


def _header(rng: random.Random, source: str) -> bytes:
    if rng.random() < 0.5:
        return f"PROXY TCP4 {source} 10.1.1.1 4711 79\r\n".encode()
    addresses = socket.inet_aton(source) + socket.inet_aton("10.1.1.1") + struct.pack("!HH", 4711, 79)
    more = bytes(rng.randrange(9))
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses + more)) + addresses + more


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _end(client: socket.socket, rng: random.Random) -> None:
    """Be gone, by a reset or by closing."""
    if rng.random() < 0.5:
        _reset(client)
    else:
        client.close()


async def _read_on(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 65536):
        pass


async def _knock(clients: Clients, rng: random.Random) -> None:
    where = rng.choice(["tcp", "proxied", "tls", "decoy"])
    _end(clients.connect(where, HOSTILE), rng)


async def _half_a_line(clients: Clients, rng: random.Random) -> None:
    with clients.connect("tcp", HOSTILE) as client:
        client.send(b"static-sho")
        await asyncio.sleep(rng.choice([0, 0.01]))
        _end(client, rng)


async def _go(clients: Clients, rng: random.Random) -> None:
    """Ask what is known at once or soon, and be gone."""
    kind = rng.choice(["static-short", "static-long", "web-ok", "web-reset", "kept-ok", "kept-slow", "program-ok"])
    with clients.connect("tcp", HOSTILE) as client:
        client.send(f"{kind}-{rng.randrange(10)}\r\n".encode())
        await asyncio.sleep(rng.choice([0, 0, 0.002, 0.02]))
        _end(client, rng)


async def _go_from_what_hangs(clients: Clients, rng: random.Random) -> None:
    """Ask what hangs, and be gone: nothing may go on working on that."""
    what = rng.choice(STUCK)
    host = "@peer.test" if what == "forward" else ""
    with clients.connect("tcp", HOSTILE) as client:
        client.send(f"{what}-stuck-{rng.randrange(10)}{host}\r\n".encode())
        await asyncio.sleep(rng.choice([0, 0.002, 0.02, 0.1]))
        _reset(client)


async def _go_mid_answer(clients: Clients, rng: random.Random) -> None:
    with clients.connect("tcp", HOSTILE) as client:
        client.send(b"static-long-1\r\n")
        await asyncio.get_running_loop().sock_recv(client, rng.randrange(1, 4000))
        _end(client, rng)


async def _garbage(clients: Clients, rng: random.Random) -> None:
    where = rng.choice(["tcp", "proxied", "tls", "decoy"])
    with clients.connect(where, HOSTILE) as client:
        client.send(rng.randbytes(rng.randrange(1, 900)) + b"\n" * rng.randrange(2))
        await asyncio.sleep(0.01)
        if rng.random() < 0.5:
            client.shutdown(socket.SHUT_WR)
            await _read_on(client)
        _end(client, rng)


async def _pour(clients: Clients, rng: random.Random) -> None:
    """Never stop sending, with or without a line's end."""
    loop = asyncio.get_running_loop()
    with clients.connect("tcp", HOSTILE) as client:
        await loop.sock_sendall(client, rng.choice([b"x", b"static-long-1\r\n", b"static-nobody-1\r\n"]))
        while True:
            await loop.sock_sendall(client, b"x" * 16384)


async def _never_read(clients: Clients, rng: random.Random) -> None:
    """Ask for more than a socket's buffers hold, and do not read before the gateway has given up."""
    with clients.connect("bulk", HOSTILE, buffer_bytes=4096) as client:
        client.send(b"bulk\r\n")
        await asyncio.sleep(STALL_SECONDS + rng.random())
        await _read_on(client)


async def _never_ask(clients: Clients, rng: random.Random) -> None:
    with clients.connect("bulk", HOSTILE) as client:
        client.send(b"static"[: rng.randrange(6)])
        await _read_on(client)


async def _lie_as_proxy(clients: Clients, rng: random.Random) -> None:
    whole = _header(rng, PROXIED_HOSTILE) + b"static-short-1\r\n"
    begin = rng.choice([b"PROXY TCP4 a b c d\r\n", b"PROXY ", whole[: rng.randrange(1, 16)], whole[1:], b"static\r\n"])
    with clients.connect("proxied", HOSTILE) as client:
        client.send(begin)
        await asyncio.sleep(rng.choice([0, 0.01]))
        _end(client, rng)


async def _half_a_handshake(clients: Clients, rng: random.Random) -> None:
    outgoing = ssl.MemoryBIO()
    handshake = clients.trusted.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read()
    with clients.connect("tls", HOSTILE) as client:
        client.send(hello[: rng.choice([5, len(hello) // 2, len(hello)])])
        await asyncio.sleep(rng.choice([0, 0.005, 0.02]))
        _end(client, rng)


async def _go_by_tls(clients: Clients, rng: random.Random) -> None:
    _, writer = await clients.connect_by_tls(HOSTILE)
    if rng.random() < 0.5:
        writer.write(b"static-long-1\r\n")
    if rng.random() < 0.5:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


_Harm: TypeAlias = Callable[[Clients, random.Random], Awaitable[None]]
_HARMS: dict[str, tuple[float, _Harm]] = {
    "knock": (18, _knock),
    "send half a line": (12, _half_a_line),
    "go": (18, _go),
    "go from what hangs": (8, _go_from_what_hangs),
    "go mid-answer": (12, _go_mid_answer),
    "send garbage": (12, _garbage),
    "pour": (4, _pour),
    "never read": (0.2, _never_read),
    "never ask": (0.5, _never_ask),
    "lie as a proxy": (8, _lie_as_proxy),
    "go in the handshake": (5, _half_a_handshake),
    "go under TLS": (2, _go_by_tls),
}
