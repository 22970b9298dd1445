"""What a listener knows by the bytes that a client sends: which answers, for whom, for how long, and how many."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve
from twisted.internet.task import Clock

from fingergw.app.parts.open_backend import UncachedBackend
from fingergw.cache.keys import Inputs
from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.outcome import Answered, Outcome, ask_function
from fingergw.core.patterns import glob
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Rules
from fingergw.finger.known_answers import MAX_DATA_BYTES, MAX_KNOWN
from fingergw.finger.listener import SMALL_ANSWER_BYTES, Listener
from fingergw.telemetry.meters import BackendMeter
from tests.support.accepting import accept
from tests.support.configuration import HELLO, LISTENER
from tests.support.data_files import STATIC, AtOnce
from tests.support.gateway import GatewayCase
from tests.support.listener import connect, make_listener
from tests.support.waiting import until

CLIENT, INSIDER = "192.0.2.1", "10.0.0.1"
INSIDE = Networks([ip_network("10.0.0.0/8")])


@define(eq=False)
class Map:
    """A backend that answers at once from a map, until it is another.

    :param entries: replaced, not changed.
    :param asked: how often it was asked.
    """

    entries: dict[str, str]
    asked: int = 0

    def at_once(self, query: Query) -> Outcome:
        """Answer."""
        self.asked += 1
        return Answered(self.entries.get(query.user, query.user))

    async def answer(self, query: Query) -> Outcome:
        """Answer."""
        return self.at_once(query)

    def lasting(self, _: Query) -> Callable[[], bool]:
        """Tell whether it still holds."""
        entries = self.entries
        return lambda: self.entries is entries


def chain_of(backend: Map, meter: BackendMeter | None = None) -> Chain:
    """Return a chain that asks a backend, as a gateway has it."""
    entry = UncachedBackend(ask_function(backend), Inputs(), backend.at_once, backend, meter or BackendMeter())
    return Chain((("map", entry),))


def listening(backend: Map, *, routes: Sequence[Route[Chain]] = (), **settings: Any) -> Listener:
    """Return a listener that asks a backend for any name that begins with an x."""
    router = Router([*routes, Route("x", chain_of(backend), match=glob("x*"))])
    return make_listener(router=router, **settings)


def ask(listener: Listener, *reads: bytes, client: str = CLIENT) -> bytes:
    """Have a protocol answer a client, and return the answer."""
    transport = connect(listener, client=client)
    for data in reads:
        transport.protocol.dataReceived(data)
    return transport.sent()


def test_the_second_time() -> None:
    """What was asked for twice is known, and is the answer that the protocol has sent."""
    listener = listening(Map({"x": "hi"}))
    for line, answer in ((b"x\r\n", b"hi\r\n"), (b"nobody\r\n", b"No such user\r\n")):
        assert ask(listener, line) == answer
        assert listener.known.find(CLIENT, line) is None
        ask(listener, line)
        known = listener.known.find(CLIENT, line)
        assert known is not None
        assert known.answer == answer
    assert len(listener.known) == 2


def test_finding_counts_nothing() -> None:
    """To look for an answer counts, logs and asks nothing; to use it does what the protocol does."""
    meter, backend, clock = BackendMeter(), Map({}), Clock()
    listener = make_listener(router=Router([Route("r", chain_of(backend, meter), users=("x",))]), clock=clock)
    for _ in range(2):
        ask(listener, b"x\r\n")
    counts, asked = listener.connections.meter, backend.asked
    for number in (2, 3):
        known = listener.known.find(CLIENT, b"x\r\n")
        assert (counts.outcomes["r", "answered"], counts.times["r"].counts[0]) == (number, number)
        assert known is not None
        clock.advance(0.25)
        assert listener.known.use(known, CLIENT, clock.seconds()) == b"x\r\n"
        assert meter.outcomes == {"answered": number - 1}
    assert meter.times.counts[0] == 2
    assert backend.asked == asked


def test_log(tmp_path: Path) -> None:
    """The line of the access log differs in nothing but what it took, which is from when the line was there."""
    clock = Clock()
    listener = listening(Map({"x": "hi"}), log=tmp_path / "log", clock=clock)
    for _ in range(3):
        accept(listener, CLIENT, b"/W  X\r\n", uses_known=True)
    known = listener.known.find(CLIENT, b"/W  X\r\n")
    assert known is not None
    began = clock.seconds()
    clock.advance(0.5)
    listener.known.use(known, CLIENT, began)
    listener.access_log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines[1:3] == lines[:2]
    assert lines[3] == {**lines[0], "milliseconds": 500.0}
    assert (lines[0]["query"], lines[0]["route"], lines[0]["backend"]) == ("/W  X", "x", "map")


@pytest.mark.parametrize(
    "reads",
    [
        [b"x", b"\r\n"],
        [b"x\r", b"\n"],
        [b"x\r\nmore"],
        [b"x\r\nx\r\n"],
        [b"x@old\r\n"],
        [b"x@elsewhere\r\n"],
        [b"x@\r\n"],
        [b"\xc3\r\n"],
        [b"GET / HTTP/1.0\r\n"],
        [b"x" * 1001 + b"\r\n"],
        [b"x" + b" " * MAX_DATA_BYTES + b"\r\n"],
        [b"long\r\n"],
    ],
    ids=lambda reads: repr(reads)[:30],
)
def test_what_is_not_known(reads: list[bytes]) -> None:
    """Nothing is known but a whole line in one read that is a query without hosts, and whose answer is small."""
    long = Map({"long": "x" * SMALL_ANSWER_BYTES, "x": "hi"})
    routes = [Route("long", chain_of(long), users=("long",))]
    listener = listening(long, routes=routes, max_query_bytes=1000)
    forwarding = Forwarding({"old": chain_of(long)}, frozenset(), 1)
    listener = evolve(listener, rules=evolve(listener.rules, forwarding=forwarding))
    for _ in range(3):
        assert ask(listener, *reads)
        ask(listener, b"xx\r\n")
    assert len(listener.known) == 1  # xx
    assert listener.known.find(CLIENT, b"".join(reads)) is None


def test_the_longest_answer() -> None:
    """An answer of the size that is small is known, and so is one that has lost a host of this gateway's own."""
    listener = listening(Map({"x": "x" * (SMALL_ANSWER_BYTES - 2)}))
    rules = evolve(listener.rules, forwarding=Forwarding({}, frozenset(), 1, local_names=frozenset({"own"})))
    listener = evolve(listener, rules=rules)
    for line in (b"x\r\n", b"x@own\r\n"):
        assert len(ask(listener, line)) == len(ask(listener, line)) == SMALL_ANSWER_BYTES
        assert listener.known.find(CLIENT, line)


def test_decoy() -> None:
    """A decoy knows nothing, as its answers take their time."""
    for delay in (0.0, 2.0):
        listener = listening(Map({}), decoy_delay=delay)
        for _ in range(3):
            ask(listener, b"x\r\n")
        assert len(listener.known) == 0


def test_routes_that_are_closed() -> None:
    """What is known for a client is known for those for whom the same routes are closed, and for no others."""
    routes = [Route("inside", chain_of(Map({"x": "secret"})), users=("x",), clients=INSIDE)]
    listener = listening(Map({"x": "open"}), routes=routes)
    for client in (INSIDER, CLIENT):
        for _ in range(2):
            ask(listener, b"x\r\n", client=client)
    for client, answer in ((INSIDER, b"secret"), ("10.9.9.9", b"secret"), ("unix", b"open"), ("192.0.2.9", b"open")):
        known = listener.known.find(client, b"x\r\n")
        assert known is not None
        assert known.answer == answer + b"\r\n"
    assert len(listener.known) == 2


def test_an_answer_that_has_changed() -> None:
    """An answer that does not hold any more is forgotten, and learned anew."""
    backend = Map({"x": "old"})
    listener = listening(backend)
    ask(listener, b"x\r\n")
    ask(listener, b"x\r\n")
    backend.entries = {"x": "new"}
    assert listener.known.find(CLIENT, b"x\r\n") is None
    assert len(listener.known) == 0
    assert ask(listener, b"x\r\n") == b"new\r\n"
    known = listener.known.find(CLIENT, b"x\r\n")
    assert known is not None
    assert known.answer == b"new\r\n"


def test_a_backend_that_breaks() -> None:
    """A backend that has a bug where it tells how long something lasts is asked each time."""

    class Broken(Map):
        def lasting(self, _: Query) -> Callable[[], bool]:
            if not self.entries:
                raise SystemExit(1)
            return partial(self.holds, self.entries["x"])

        def holds(self, text: str) -> bool:
            if text:
                raise BaseException("not even an Exception")
            return 1 // len(text) > 0

    broken = Broken({})
    listener = listening(broken)
    for entries in ({}, {"x": ""}, {"x": "y"}):
        broken.entries = entries
        for _ in range(3):
            assert accept(listener, CLIENT, b"x\r\n", uses_known=True)
    assert broken.asked == 9


def test_bounded() -> None:
    """However many names are asked for, and for whatever set of closed routes, only so many answers are known."""
    routes = [Route("inside", chain_of(Map({})), users=("in",), clients=INSIDE)]
    listener = listening(Map({}), routes=routes)
    for number in range(MAX_KNOWN):
        for client in (CLIENT, INSIDER):
            for _ in range(2):
                ask(listener, b"x%d\r\n" % number, client=client)
    assert MAX_KNOWN // 2 <= len(listener.known) <= MAX_KNOWN


@pytest.mark.parametrize("times", [1, 2])
def test_a_flood_of_names(times: int) -> None:
    """What others ask for meanwhile stays known, however many names one invents, and asks for once or twice."""
    listener = listening(Map({}))
    for _ in range(2):
        ask(listener, b"x\r\n")
    for number in range(2 * MAX_KNOWN):
        for _ in range(times):
            ask(listener, b"no%d\r\n" % number)
        if number % 100 == 0:
            assert listener.known.find(CLIENT, b"x\r\n")
    assert listener.known.find(CLIENT, b"x\r\n")


def test_behind_a_proxy() -> None:
    """Behind a proxy it is known by what follows the header, for the client in it."""
    proxies = Networks([ip_network("203.0.113.0/24")])
    routes = [Route("inside", chain_of(Map({})), users=("x",), clients=INSIDE)]
    listener = listening(Map({}), routes=routes, trusted_proxies=proxies)
    for _ in range(2):
        ask(listener, b"PROXY TCP4 10.0.0.1 198.51.100.1 12345 79\r\nx\r\n", client="203.0.113.1")
    assert len(listener.known) == 1
    known = listener.known.find(INSIDER, b"x\r\n")
    assert known is not None
    assert known.route == "inside"
    assert listener.known.find(CLIENT, b"x\r\n") is None


class ReloadTests(GatewayCase):
    """A gateway with static entries, one of its own and one in a file."""

    async def test_reload(self) -> None:
        """After a reload nothing is known, although the backend is the same."""
        gateway = self.start(LISTENER + HELLO)
        service = gateway.listeners[0]
        for _ in range(2):
            assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"
        before = service.listener
        assert before.known.find("127.0.0.1", b"hello\r\n")
        rules: Rules = evolve(before.rules)
        service.change(service.socket, Listener(rules, before.connections, before.access_log))
        assert service.listener.known.find("127.0.0.1", b"hello\r\n") is None

    async def test_kinds(self) -> None:
        """Static answers and fresh cached ones are known; what sees its client, or does not tell, is not."""
        backends = {
            "text": 'type = "static"\ntext = "Text"',
            "kept": 'type = "static"\nentries = { kept = "Kept" }\ncache = {}',
            "menu": 'type = "menu"\ncache = {}',
            "command": 'type = "command"\nargv = ["echo", "hi"]',
        }
        tables = "".join(
            f'[[routes]]\nuser = "{name}"\nsummary = "x"\nbackends = ["{name}"]\n[backends.{name}]\n{keys}\n'
            for name, keys in backends.items()
        )
        gateway = self.start(f'{LISTENER}{tables}[log]\naccess = "off"\n')
        for name in backends:
            for _ in range(3):
                assert await self.ask(gateway, f"{name}\r\n".encode())
        known = gateway.listeners[0].listener.known
        assert [name for name in backends if known.find("127.0.0.1", f"{name}\r\n".encode())] == ["text", "kept"]


class FileTests(AtOnce):
    """A gateway whose entries are in a file."""

    async def _check(self, more: str) -> None:
        self.write("people.toml", 'moshez = "old"')
        gateway = self.start(STATIC + more)
        known = gateway.listeners[0].listener.known
        for _ in range(3):
            assert await self.ask(gateway, b"moshez\r\n") == b"old\r\n"
        assert known.find("127.0.0.1", b"moshez\r\n")
        self.write("people.toml", 'moshez = "new"')
        await until(lambda: known.find("127.0.0.1", b"moshez\r\n") is None, "the end of what was known")
        assert await self.ask(gateway, b"moshez\r\n") == b"new\r\n"

    async def test_changed(self) -> None:
        """What was known of a file that has changed is not known any more."""
        await self._check("")

    async def test_changed_under_a_cache(self) -> None:
        """Nor is it where answers are cached, however fresh they are."""
        await self._check("[backends.people.cache]\nttl = 100\n")
