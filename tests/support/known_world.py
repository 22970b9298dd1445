"""A listener with backends of all kinds, on a clock, that does or does not use what it knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from ipaddress import ip_network
from typing import Any, NamedTuple
from unittest.mock import patch

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from fingergw.app.parts.checked_backend import CheckedBackend
from fingergw.app.parts.open_backend import OpenBackend, open_backend
from fingergw.backends.menu import Menu
from fingergw.backends.static import Static, StaticFile, Texts
from fingergw.cache.memory import Memory
from fingergw.config.model import Backend
from fingergw.core.addresses import Networks
from fingergw.core.admission import Rate
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.outcome import Answered, BackendCache, Failed, Missing, Outcome
from fingergw.core.patterns import glob, regex
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Limits
from fingergw.core.setting_types import Bytes, Count, Period, Seconds
from fingergw.finger.connections import Connections
from fingergw.finger.listener import SMALL_ANSWER_BYTES, Listener
from fingergw.net.site import Site
from fingergw.telemetry.meters import BackendMeter, Times
from tests.support.accepting import KnownConnection, accept
from tests.support.controlled_backend import Upstream
from tests.support.listener import FakeTransport, connect, make_listener

INSIDE = Networks([ip_network("10.0.0.0/8")])
MANY = Networks([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
CLIENTS = ("10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::1", "2001:db8::2", "198.51.100.1", "unix")
DENIED = "198.51.100.1"
DENY = Networks([ip_network(DENIED)])
CACHE = BackendCache(ttl=Period(3), stale=Period(4), negative_ttl=Period(2))
LONG = "long " * 1000  # more than SMALL_ANSWER_BYTES
assert len(LONG) > SMALL_ANSWER_BYTES


class Lines:
    """An access log that keeps the fields of its lines.

    :param lines: what :meth:`fingergw.telemetry.access_log.AccessLog.add` was called with.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def add(self, *line: object) -> None:
        """Keep a line."""
        self.lines.append(line)

    def take(self) -> list[tuple[object, ...]]:
        """Return the lines that were not taken before."""
        lines, self.lines = self.lines, []
        return lines

    def shown(self, client: str) -> str:
        """Return a client as it may be logged."""
        return client


def texts_of(texts: dict[str, str]) -> Texts:
    """Return what a file with these texts holds."""
    return Texts(texts, str(sorted(texts.items())))


@define(eq=False)
class Saying:
    """A backend that answers at once, and tells as it is told whether that lasts.

    :param text: what it answers to a query, after how often it was asked if it counts.
    :param holds: whether its answers still hold; None to raise instead; "silent" if it does not tell.
    """

    text: Callable[[Query], str]
    holds: bool | str | None = True
    counts: bool = False
    asked: int = 0

    def at_once(self, query: Query) -> Outcome:
        """Answer."""
        self.asked += 1
        return Answered(f"{self.asked} {self.text(query)}" if self.counts else self.text(query))

    async def answer(self, query: Query) -> Outcome:
        """Answer."""
        return self.at_once(query)

    def lasting(self, query: Query) -> Callable[[], bool] | None:
        """Tell whether it still holds."""
        if self.holds == "silent":
            return None
        if self.holds is None:
            raise SystemExit(1)
        answered = self.text(query)
        return lambda: self._holds(query, answered)

    def _holds(self, query: Query, answered: str) -> bool:
        if self.holds is None:
            raise SystemExit(1)
        return bool(self.holds) and self.text(query) == answered


class Odd(Answered):
    """What is no outcome, although it looks like one."""


@define(eq=False)
class Lying:
    """A backend that does with ``at_once`` what it should not.

    :param at_first: what that returns, or an exception that it raises.
    """

    at_first: object = None

    def at_once(self, query: Query) -> Any:
        """Return something, or raise."""
        if isinstance(self.at_first, BaseException):
            raise self.at_first
        return self.at_first

    async def answer(self, query: Query) -> Outcome:
        """Answer."""
        return Missing() if query.verbose else Answered("asked")

    def lasting(self, query: Query) -> Callable[[], bool]:
        """Tell whether it would do the same."""
        at_first = self.at_first
        return lambda: self.at_first is at_first


class Situation(NamedTuple):
    """The rules of a listener.

    :param order: the places of its routes in :meth:`World.routes`.
    :param decoy_delay: None if it is no decoy.
    """

    order: Sequence[int] = range(18)
    max_connections: int = 100
    per_client: int = 100
    rate: Rate | None = None
    max_answer_bytes: int = 65536
    decoy_delay: float | None = None
    case_sensitive: bool = False
    denies: bool = False


@define(eq=False)
class World:
    """A listener and all that it depends on.

    :param uses_known: whether it uses what it knows.
    :param texts: what its file has.
    :param saying: a backend whose answers last as it says.
    :param lying: one that need not say what is right.
    """

    uses_known: bool
    situation: Situation
    clock: Clock = field(factory=Clock)
    log: Lines = field(factory=Lines)
    texts: Texts = field(factory=lambda: texts_of({"file": "of old", "kept": "of old"}))
    upstream: Upstream = field(factory=lambda: Upstream(says=Answered("first")))
    saying: Saying = field(factory=lambda: Saying(str))
    lying: Lying = field(factory=Lying)
    said: str = "said"
    memory: Memory = field(factory=lambda: Memory(3, 10**6))
    meters: dict[str, BackendMeter] = field(factory=dict)
    reports: list[object] = field(factory=list)
    backends: dict[str, OpenBackend] = field(init=False, factory=dict)
    connections: Connections = field(init=False)
    listener: Listener = field(init=False)
    clients: list[FakeTransport | KnownConnection] = field(init=False, factory=list)
    """Those that were let in and were not looked at since they were closed, in the order in which they came."""

    def __attrs_post_init__(self) -> None:
        self.clock.advance(1000.0)
        self.saying.text = lambda query: f"{self.said} {query.user}"
        self.connections = Connections(self.clock)
        self.listener = make_listener(clock=self.clock)
        self.open_backends(1)
        self.open_others()
        self.reload(self.situation)

    def write(self, texts: dict[str, str]) -> None:
        """Have the file changed."""
        self.texts = texts_of(texts)

    def open_backends(self, generation: int) -> None:
        """Open some backends anew, with other texts; what is cached stays."""
        self.open("text", text=f"text {generation}")
        self.open("map", entries={"Hello": f"hello {generation}", "inside": "in", "long": LONG})
        self.open("up", self.upstream, CACHE)

    def open_others(self) -> None:
        """Open the backends that stay."""
        file = StaticFile(lambda: self.texts)
        self.open("file", file)
        self.open("kept", file, CACHE)
        self.open("client", Saying(lambda query: f"you are {query.client}"))
        self.open("kept client", Saying(lambda query: f"you were {query.client}"), CACHE)
        self.open("counts", Saying(lambda _: "times", "silent", counts=True))
        self.open("saying", self.saying)
        self.open("lying", self.lying)

    def open(self, name: str, backend: object = None, cache: BackendCache | None = None, **own: Any) -> None:
        """Open a backend as a gateway does.

        :param backend: what its type opens, if that is the test's; it sees the client if its name has that word.
        :param own: the type's own keys otherwise.
        """
        sees_client = "client" in name
        own_settings = Menu() if sees_client else Static(**own or {"entries": {name: ""}})
        opening = patch.object(type(own_settings), "open", lambda *_: backend) if backend else nullcontext()
        some: Any = object()
        site = Site(name, self.clock, some, None, some, {}, {}, {"case_sensitive": False}, some, some)
        table = Backend("menu" if sees_client else "static", own_settings, cache)
        meter = self.meters.setdefault(name, BackendMeter())
        with opening, patch.object(time, "monotonic", self.clock.seconds):
            self.backends[name] = open_backend(CheckedBackend(name, table), site, meter, self.memory, None)

    def routes(self) -> list[Route[Chain]]:
        """Return the routes, of which several match the same names."""

        def chain(*names: str, after: tuple[type[Missing | Failed], ...] = (Missing, Failed)) -> Chain:
            return Chain(tuple((name, self.backends[name].entry) for name in names), after, (CancelledError,))

        return [
            Route("inside", chain("map"), users=("inside",), clients=INSIDE),
            Route("hello inside", chain("text"), users=("hello",), clients=INSIDE),
            Route("hello", chain("map"), users=("hello", "long")),
            Route("index", chain("text"), index=True, clients=MANY),
            Route("up", chain("up", "text"), match=glob("up*")),
            Route("team", chain("up"), match=regex("(?P<team>[a-z]+)-team")),
            Route("file", chain("file"), users=("file",)),
            Route("kept", chain("kept"), users=("kept",)),
            Route("client", chain("client"), users=("client",)),
            Route("kept client", chain("kept client"), users=("were",)),
            Route("odd", chain("counts"), users=("counts",)),
            Route("saying", chain("saying"), users=("saying",)),
            Route("several", chain("file", "kept", "up", "map"), users=("several",)),
            Route("after failed", chain("kept", "up", "text", after=(Failed,)), users=("failed",)),
            Route("after missing", chain("file", "up", "text", after=(Missing,)), users=("missing",)),
            Route("at last", chain("kept client", "lying", "up", "saying"), users=("last",)),
            Route("none", chain("map", "file", "kept"), match=glob("none*")),
            Route("lying", chain("map", "lying", "text"), users=("lying",)),
        ]

    def reload(self, situation: Situation) -> None:
        """Use other rules, and the present backends, for new connections."""
        self.situation = situation
        routes, before = self.routes(), self.listener
        limits = Limits(
            max_query_bytes=Bytes(20),
            max_connections=Count(situation.max_connections),
            max_connections_per_client=Count(situation.per_client),
            max_answer_bytes=Bytes(situation.max_answer_bytes),
            query_timeout=Seconds(5),
            answer_timeout=Seconds(5),
            rate=situation.rate,
        )
        rules = evolve(
            self.listener.rules,
            router=Router([routes[place] for place in situation.order]),
            limits=limits,
            case_sensitive=situation.case_sensitive,
            decoy_delay=situation.decoy_delay,
            deny=DENY if situation.denies else None,
            forwarding=Forwarding({}, frozenset({"own"}), 1, local_names=frozenset({"own"})),
        )
        log: Any = self.log
        self.listener = Listener(rules, self.connections, log)
        self.listener.activate(before)

    def ask(self, client: str, data: bytes) -> None:
        """Accept a client that has sent something, and leaves when it has its answer."""
        connection = accept(self.listener, client, data, uses_known=self.uses_known)
        if connection is not None:
            self.clients.append(connection)
        self.settle()

    def connect(self, client: str) -> None:
        """Accept a client that sends nothing yet."""
        if client == "unix" or self.listener.rules.lets_in(client):
            self.clients.append(connect(self.listener, client=client))

    @property
    def waiting(self) -> list[FakeTransport]:
        """Those whose connections are open."""
        return [each for each in self.clients if isinstance(each, FakeTransport) and not each.closed]

    def settle(self) -> None:
        """Let the next turn of the reactor come, in which clients leave that have an answer."""
        for each in self.waiting:
            if each.half_closed:
                each.abortConnection()
        self.clock.advance(0)

    def take_sent(self) -> list[tuple[bytes, bool]]:
        """Return what each client was sent, and whether it is closed; forget those that are."""
        sent = [(each.sent(), bool(each.closed)) for each in self.clients]
        self.clients = [each for each in self.clients if not each.closed]
        return sent

    def counted(self) -> dict[str, object]:
        """Return all that was counted."""
        meter = self.connections.meter
        return {
            "accepted": meter.accepted,
            "outcomes": dict(meter.outcomes),
            "times": {route: _shape(times) for route, times in meter.times.items()},
            "rejections": +meter.rejections,
            "open": (len(self.connections.open), self.connections.rejected, len(self.connections.per_client)),
            "backends": {
                name: (dict(each.outcomes), _shape(each.times), dict(each.cache)) for name, each in self.meters.items()
            },
            "cached": (self.memory.entries, self.memory.bytes),
            "asked": self.upstream.asked,
        }


def _shape(times: Times) -> tuple[list[int], float]:
    return times.counts, times.total_seconds
