"""What others get, and how late, while one makes trouble: a client, an upstream, another gateway, or an address.

    python -m tests.benchmarks others [SCENARIO]...

The gateways have default settings but for what a scenario says, and the clients addresses of the loopback network.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path

from attrs import frozen

from tests.benchmarks import ask_many
from tests.benchmarks.asking import (
    CONNECTIONS,
    OTHERS,
    TROUBLE,
    Answers,
    Table,
    always,
    ask,
    ask_in_turn,
    ask_side_by_side,
    at_once,
    kept_asking,
    running,
)
from tests.benchmarks.upstreams import ANSWER, upstream
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

INVENTED = 12_000
"""So many names, or clients, are more than a cache holds answers."""
_IN_FLIGHT = 16  # a few less than CONNECTIONS, as a connection takes a moment to close
_FALLBACK = b"Ring the front desk, 1234.\r\n"
_DESK = {"type": "static", "text": _FALLBACK.decode().strip()}
_ONCALL = {"user": "oncall", "backends": ["rota"]}
_ANY = {"pattern": "*", "backends": ["any"]}


@frozen
class Found:
    """What a scenario came to.

    :param name: of the scenario, and of its variant.
    :param beside: what others were answered beside the trouble.
    :param without: and without it.
    :param note: what else there is to say.
    """

    name: str
    beside: Answers
    without: Answers
    note: str = ""

    def __str__(self) -> str:
        lines = [self.name, f"    with trouble:    {self.beside}", f"    without trouble: {self.without}"]
        return "\n".join([*lines, f"    {self.note}"] if self.note else lines)


def _with_and_without_cache(
    answers: Callable[[Table, bool], Answers], **cache: object
) -> Iterator[tuple[str, Answers, Answers]]:
    """Find answers for a backend that is cached and for one that is not, with trouble and without, all at once."""
    tables: dict[str, Table] = {"no cache": {}, "cache": {"cache": cache}}
    parts = [(table, trouble) for table in tables.values() for trouble in (True, False)]
    found = at_once(*(lambda table=table, trouble=trouble: answers(table, trouble) for table, trouble in parts))
    yield from zip(tables, found[::2], found[1::2], strict=True)


def _in_turn(port: int, name: str, times: int, right: bytes) -> Answers:
    """Have the others ask so many times in all for a name, one after the other."""
    return ask_in_turn(port, [(OTHERS[number % len(OTHERS)], name) for number in range(times)], always(right))


def hanging(queries: int = 6, **rota: object) -> Iterator[Found]:
    """Ask for what a server is asked first that accepts connections and never answers.

    :param rota: further keys of its backend.
    """

    def answers(table: Table, is_hanging: bool) -> Answers:
        with upstream("http", float("inf") if is_hanging else 0.0) as server:
            backends = {"rota": {"type": "http", "url": f"http://127.0.0.1:{server}/", **rota, **table}, "desk": _DESK}
            with running([{"user": "oncall", "backends": ["rota", "desk"]}], backends) as gateway:
                return _in_turn(gateway.port, "oncall", queries, _FALLBACK if is_hanging else ANSWER)

    for name, beside, without in _with_and_without_cache(answers):
        each = ", ".join(f"{seconds:.2f}" for seconds in beside.seconds)
        yield Found(f"hanging, {name}", beside, without, f"each, in seconds: {each}")


def turns(times: int = 5, connections: int = CONNECTIONS, seconds: float = 1.0) -> Iterator[Found]:
    """Ask a command that takes a second, side by side, while one client keeps all its connections asking it."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script")
        script.write_text(f'#!/bin/sh\nsleep {seconds}\necho "$1"\n')
        script.chmod(0o755)

        def answers(table: Table, is_troubled: bool) -> Answers:
            backends = {"any": {"type": "command", "argv": [str(script), "{user}"], **table}}
            with (
                running([_ANY], backends) as gateway,
                kept_asking(gateway.port, connections if is_troubled else 0),
            ):
                time.sleep(seconds / 2)  # so that all these connections have asked
                return ask_side_by_side(
                    gateway.port,
                    times,
                    lambda source, number: f"{source}-{number}",
                    lambda name: f"{name}\r\n".encode(),
                )

        for name, beside, without in _with_and_without_cache(answers, vary=[]):
            yield Found(f"turns, {name}", beside, without)


def _invent(port: int, number: int, query: Callable[[int], bytes], answer: bytes) -> None:
    if number:
        ask_many(port, number, query, answer, in_flight=_IN_FLIGHT)


def shares(names: int = INVENTED, times: int = 10) -> Iterator[Found]:
    """Ask for what is in the cache and whose server is down, once a client has invented names."""

    def answers(names: int) -> Answers:
        with ExitStack() as rota, upstream("finger") as other:
            url = f"http://127.0.0.1:{rota.enter_context(upstream('http'))}/"
            backends: dict[str, Table] = {
                "rota": {"type": "http", "url": url, "cache": {"ttl": 1, "stale": 3600}},
                "any": {"type": "finger", "host": "127.0.0.1", "port": other, "cache": {}},
            }
            with running([_ONCALL, _ANY], backends) as gateway:
                assert ask(gateway.port, "oncall", OTHERS[0]) == ANSWER
                rota.close()
                time.sleep(1)  # it is stale now
                _invent(gateway.port, names, lambda number: b"invented-%d\r\n" % number, ANSWER)
                return _in_turn(gateway.port, "oncall", times, ANSWER)

    beside, without = at_once(lambda: answers(names), lambda: answers(0))
    yield Found(f"shares, {names} invented names", beside, without)


def subnet(addresses: int = INVENTED) -> Iterator[Found]:
    """Ask for what is in the cache of a backend with an answer for each client, once a /64 has asked it."""
    menu = b"oncall  Who is on call\r\n"
    routes: list[Table] = [
        {"user": "menu", "backends": ["menu"]},
        {"user": "oncall", "summary": "Who is on call", "backends": ["desk"]},
    ]
    backends: dict[str, Table] = {"menu": {"type": "menu", "cache": {"ttl": 3600}}, "desk": _DESK}
    first = int(IPv6Address("2001:db8::"))

    def invented(number: int) -> bytes:
        return b"PROXY TCP6 %s 2001:db8:1::1 40000 79\r\nmenu\r\n" % str(IPv6Address(first + number)).encode()

    def other(number: int) -> bytes:
        return b"PROXY TCP4 192.0.2.%d 192.0.2.254 40000 79\r\nmenu\r\n" % (number + 1)

    def answers(addresses: int, others: int = 10) -> Answers:
        endpoint = "haproxy:tcp:{}:interface=127.0.0.1"
        with running(routes, backends, endpoint=endpoint, trusted_proxies=["127.0.0.1/32"]) as gateway:
            ask_many(gateway.port, others, other, menu, in_flight=1)
            _invent(gateway.port, addresses, invented, menu)
            seconds = ask_many(gateway.port, others, other, menu, in_flight=1)
            wait_until(lambda: len(gateway.logged()) >= addresses + 2 * others, "all lines of the access log")
            states = Counter(each["cache"] for each in gateway.logged()[-others:])
        return Answers(seconds, Counter({state: count for state, count in states.items() if state != "fresh"}))

    beside, without = at_once(lambda: answers(addresses), lambda: answers(0))
    yield Found(f"subnet, {addresses} addresses of a /64; right is what was still cached", beside, without)


def waiting(times: int = 5, max_waiting: int = 10) -> Iterator[Found]:
    """Ask for what takes 0.2 s, side by side, while one client has as many queries waiting as may wait: few, here."""

    def answers(hang: int, rota: int, connections: int) -> Answers:
        backends = {
            "rota": {"type": "http", "url": f"http://127.0.0.1:{rota}/"},
            "any": {"type": "http", "url": f"http://127.0.0.1:{hang}/{{user}}"},
        }
        with (
            running([_ONCALL, _ANY], backends, limits={"max_waiting": max_waiting}) as gateway,
            kept_asking(gateway.port, connections) as told,
        ):
            if connections:
                wait_until(lambda: told, "busy, which is said to one query too many")
            return ask_side_by_side(gateway.port, times, lambda *_: "oncall", always(ANSWER))

    with upstream("http", float("inf")) as hang, upstream("http", 0.2) as rota:
        yield Found("waiting", answers(hang, rota, CONNECTIONS), answers(hang, rota, 0))


def loop(seconds: float = 2.0) -> Iterator[Found]:
    """Ask two gateways for what they know, while a client asks one for what each of them asks the other.

    :param seconds: for so long others ask without a loop, and at least so long beside one.
    """
    ports = free_port(), free_port()
    routes: list[Table] = [{"user": "desk", "backends": ["desk"]}, _ANY]

    def ask_both(is_over: Callable[[], bool]) -> Answers:
        answers, ends = Answers(), time.monotonic() + seconds
        while time.monotonic() < ends or not is_over():
            for port in ports:
                answers.add(_in_turn(port, "desk", len(OTHERS), _FALLBACK))
            time.sleep(0.01)
        return answers

    with ExitStack() as stack:
        gateways = []
        for own, other in (ports, ports[::-1]):
            any_other = {"type": "finger", "host": "127.0.0.1", "port": other}
            backends: dict[str, Table] = {"desk": _DESK, "any": any_other}
            gateways.append(stack.enter_context(running(routes, backends, port=own)))
        without = ask_both(lambda: True)
        asked = Answers()
        client = threading.Thread(
            target=lambda: asked.add(ask_in_turn(ports[0], [(TROUBLE, "ghost")], always(b"")))  # no answer is right
        )
        client.start()
        beside = ask_both(lambda: not client.is_alive())
        time.sleep(0.5)  # for the access logs
        lines = [sum(each["query"].startswith("ghost") for each in gateway.logged()) for gateway in gateways]
    note = f"connections for one query: {lines[0]} + {lines[1]}; answered after {asked.seconds[0]:.2f} s: "
    yield Found("loop", beside, without, note + ", ".join(asked.wrong))


# Instead of fingergw itself: a machine's own localhost may have no ::1, or have it last.
_IPV6_FIRST = """
import socket, sys

look_up = socket.getaddrinfo

def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    is_name = host in ("localhost", b"localhost") and not flags & socket.AI_NUMERICHOST
    hosts = ("::1", "127.0.0.1") if is_name else (host,)
    return [found for each in hosts for found in look_up(each, port, family, type, proto, flags)]

socket.getaddrinfo = getaddrinfo
from fingergw.cli import main
sys.exit(main())
"""


def addresses(queries: int = 10) -> Iterator[Found]:
    """Ask for what is at a host with two addresses, the first of which refuses connections."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        print(f"addresses: skipped, as this machine has no ::1 ({error})")
        return

    def answers(host: str, rota: int) -> Answers:
        backends = {"rota": {"type": "http", "url": f"http://{host}:{rota}/"}}
        with running([_ONCALL], backends, command=("-c", _IPV6_FIRST)) as gateway:
            return _in_turn(gateway.port, "oncall", queries, ANSWER)

    with upstream("http") as rota:
        yield Found("addresses", answers("localhost", rota), answers("127.0.0.1", rota))


SCENARIOS: dict[str, Callable[[], Iterator[Found]]] = {
    "hanging": hanging,
    "turns": turns,
    "shares": shares,
    "subnet": subnet,
    "waiting": waiting,
    "loop": loop,
    "addresses": addresses,
}


def run(*names: str) -> None:
    """Run scenarios, and print what each came to.

    :param names: of the scenarios; all, if there are none.
    :raises SystemExit: there is no such scenario.
    """
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise SystemExit(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    for name in names or SCENARIOS:
        begun = time.monotonic()
        for found in SCENARIOS[name]():
            print(found, flush=True)
        print(f"    ({name} took {time.monotonic() - begun:.0f} s)", flush=True)
