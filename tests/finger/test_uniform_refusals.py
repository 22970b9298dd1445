"""A name that is not for who asks is refused as one that does not exist: in the same bytes, as soon, asking nobody."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.outcome import Answered, Failed, Missing, Outcome
from fingergw.core.patterns import glob, regex
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from fingergw.finger.listener import Listener
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, caches
from tests.support.http_server import Upstream, response
from tests.support.listener import FakeTransport, connect, make_listener
from tests.support.transports import on_both_transports
from tests.support.waiting import until

INSIDER, OUTSIDER = "10.0.0.1", "192.0.2.1"
NO_USER = b"No such user\r\n"
NO_LIST = b"Finger online user list denied\r\n"
NO_FORWARDING = b"Finger forwarding service denied\r\n"
LISTENERS = """
[[listeners]]
name = "public"
endpoint = "tcp:0:interface=127.0.0.1"
[[listeners]]
name = "inside"
endpoint = "tcp:0:interface=127.0.0.1"
[log]
access = "off"
"""
PUBLIC, INSIDE = 0, 1


class Restriction(NamedTuple):
    """A client that may use a route, and one that may not.

    :param keys: the route's.
    :param listener: the place of the listener that is asked.
    """

    keys: str
    listener: int
    client: str


BY_LISTENER = 'listeners = ["inside"]'
BY_CLIENT = 'clients = ["10.0.0.0/8", "fd00::/8"]'
BOTH = f"{BY_LISTENER}\n{BY_CLIENT}"
RESTRICTIONS = {
    "another listener": Restriction(BY_LISTENER, PUBLIC, INSIDER),
    "another client": Restriction(BY_CLIENT, PUBLIC, OUTSIDER),
    "a client over IPv6": Restriction(BY_CLIENT, PUBLIC, "2001:db8::1"),
    "a client next to those": Restriction(BY_CLIENT, PUBLIC, "11.0.0.0"),
    "a client on a unix socket": Restriction('clients = ["0.0.0.0/0", "::/0"]', PUBLIC, "unix"),
    "another listener, the right client": Restriction(BOTH, PUBLIC, INSIDER),
    "the right listener, another client": Restriction(BOTH, INSIDE, OUTSIDER),
    "another listener and client": Restriction(BOTH, PUBLIC, OUTSIDER),
}
# what a route may match, and a name that it matches
MATCHES = {
    'user = "secret"': "secret",
    'users = ["other", "Secret"]': "secret",
    'pattern = "sec*"': "secret",
    "regex = '(?P<part>sec).*'": "secret",
    "index = true": "",
}
OPEN = """
[[routes]]
{match}
name = "open"
backends = ["open"]
[backends.open]
type = "static"
{content}
"""
# what else there is in the file
BEHIND = {
    "nothing": "",
    "a text for any name": OPEN.format(match='pattern = "*"', content='text = "Ask inside."'),
    "a map for any name": OPEN.format(match='pattern = "*"', content='entries = { known = "Here" }'),
    "a map that has the name": OPEN.format(match='regex = ".*"', content='entries = { secret = "Nothing to tell" }'),
    "the index": OPEN.format(match="index = true", content='text = "A list"'),
}
BACKENDS = {
    "static": 'type = "static"\ntext = "the answer"',
    "command": 'type = "command"\nargv = ["echo", "the answer"]',
    "http": 'type = "http"\nurl = "http://127.0.0.1:1/{user}"',
    "finger": 'type = "finger"\nhost = "127.0.0.1"\nport = 1',
    "http with a cache": 'type = "http"\nurl = "http://127.0.0.1:1/{user}"\ncache = { ttl = 30 }',
}
# ways to ask for one name
FORMS = ["{}\r\n", "{}\n", "{}  \r\n", "  {}\r\n", "\t{}\r\n", "/W {}\r\n", "/w  {}\r\n", "{} /W\r\n", "{}\r\nx\r\n"]


def route(match: str, keys: str, backend: str = BACKENDS["static"]) -> str:
    """Return a route with a backend of its own, in TOML."""
    return f'[[routes]]\n{match}\n{keys}\nsummary = "Not for all"\nbackends = ["own"]\n[backends.own]\n{backend}\n'


def lines(name: str) -> list[bytes]:
    """Return the ways to ask for a name, in any case."""
    return [form.format(each).encode() for form in FORMS for each in dict.fromkeys((name, name.upper(), name.title()))]


class Still(MemoryReactorClock):
    """A reactor that starts no process, connection or timer, so that any backend that is queried fails."""

    def spawnProcess(self, *_: object, **__: object) -> object:
        raise AssertionError("a process is started")

    def connectTCP(self, *_: object, **__: object) -> Any:
        raise AssertionError("a connection is made")


def compiled(folder: Path, text: str) -> list[Listener]:
    """Return a gateway's listeners, on a reactor that lets nothing be started."""
    path = folder / "fingergw.toml"
    path.write_text(LISTENERS + text)
    gateway = fingergw.make_service(fingergw.load(path), Still())
    assert isinstance(gateway, Gateway)
    return [service.listener for service in gateway.listeners]


def seen(listener: Listener, line: bytes, client: str = OUTSIDER, before: bytes = b"") -> tuple[bytes, str, bool]:
    """Return all that a client sees of its answer, which has come before anything else can happen.

    :param before: what the client sends before its line.
    """
    transport = connect(listener, client=client)
    if before:
        transport.protocol.dataReceived(before)
    waiting = _calls(listener)
    transport.protocol.dataReceived(line)
    assert transport.closed or transport.half_closed, "it is answered in the same turn of the reactor"
    assert _calls(listener) <= waiting, "no timer is started"
    result = transport.sent(), transport.closed, transport.half_closed
    transport.abortConnection()
    return result


def _calls(listener: Listener) -> set[object]:
    clock: Any = listener.connections.clock
    return set(clock.getDelayedCalls())


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("match", MATCHES)
def test_as_if_the_route_were_not_there(match: str, behind: str, tmp_path: Path) -> None:
    """Who may not use a route sees what he would see if it were not in the file, however he asks for its names."""
    without = compiled(tmp_path, BEHIND[behind])
    for keys, place, client in RESTRICTIONS.values():
        with_it = compiled(tmp_path, route(match, keys) + BEHIND[behind])
        for line in lines(MATCHES[match]):
            assert seen(with_it[place], line, client) == seen(without[place], line, client), (keys, place, client)


@pytest.mark.parametrize("match", MATCHES)
def test_who_may_use_it(match: str, tmp_path: Path) -> None:
    """The control for the tests above: a client that may use these routes is answered."""
    listener = compiled(tmp_path, route(match, BOTH))[INSIDE]
    for line in lines(MATCHES[match]):
        assert seen(listener, line, INSIDER)[0] == b"the answer\r\n"


@pytest.mark.parametrize("behind", ["nothing", "a text for any name"])
@pytest.mark.parametrize("match", [match for match, name in MATCHES.items() if name])
def test_as_a_name_that_nobody_has(match: str, behind: str, tmp_path: Path) -> None:
    """A name that is not for who asks looks like any name that nobody has."""
    for keys, place, client in RESTRICTIONS.values():
        listener = compiled(tmp_path, route(match, keys) + BEHIND[behind])[place]
        for restricted, absent in zip(lines("secret"), lines("nobody"), strict=True):
            assert seen(listener, restricted, client) == seen(listener, absent, client), (keys, place, client)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("match", MATCHES)
def test_nobody_is_asked(match: str, backend: str, tmp_path: Path) -> None:
    """Whatever a route's backend is: who may not use it is answered without a process, connection or timer."""
    listener = compiled(tmp_path, route(match, BY_CLIENT, BACKENDS[backend]))[PUBLIC]
    for line in lines(MATCHES[match]):
        assert seen(listener, line)[0] == (NO_USER if MATCHES[match] else NO_LIST)


@pytest.mark.parametrize("says", [Answered("for all"), Missing(), Failed("down")])
@pytest.mark.parametrize("first", [True, False])
def test_where_others_are_asked(says: Outcome, first: bool) -> None:
    """Where a route for all has the name too that is asked, and who fails there fails for any name alike."""
    own, other = FakeBackend(Answered("secret")), FakeBackend(says)
    networks = Networks([ip_network("10.0.0.0/8")])
    restricted = [
        Route("exact", Chain((("own", own),)), users=("secret",), clients=networks),
        Route("glob", Chain((("own", own),)), match=glob("sec*"), clients=networks),
        Route("regex", Chain((("own", own),)), match=regex("[a-z]ecret"), clients=networks),
    ]
    open_to_all = [Route("all", Chain((("other", other),)), match=glob("*"))]
    listener = make_listener(router=Router([*restricted, *open_to_all] if first else [*open_to_all, *restricted]))
    assert seen(listener, b"secret\r\n") == seen(listener, b"nobody\r\n")
    assert [query.user for query in other.queries] == ["secret", "nobody"]
    assert own.queries == []


@pytest.mark.parametrize("proxied", ["secret", "/W SECRET "])
def test_a_proxy_lends_nobody_its_address(proxied: str) -> None:
    """A client does not gain a route because its proxy may use it."""
    own = FakeBackend(Answered("secret"))
    networks = Networks([ip_network("10.0.0.0/8")])
    router = Router([Route("exact", Chain((("own", own),)), users=("secret",), clients=networks)])
    listener = make_listener(router=router, trusted_proxies=networks)
    header = f"PROXY TCP4 {OUTSIDER} 192.0.2.9 40000 79\r\n".encode()
    assert seen(listener, f"{proxied}\r\n".encode(), INSIDER, header) == seen(listener, b"nobody\r\n", INSIDER, header)
    assert own.queries == []


@pytest.mark.parametrize("line", [b"secret\r\n", b"nobody\r\n"])
def test_rate(line: bytes, tmp_path: Path) -> None:
    """A name that is not for who asks counts as much for his rate as one that does not exist."""
    rate = "[limits]\nrate = { queries = 1, per = 60, burst = 3 }\n"
    listener = compiled(tmp_path, rate + route('user = "secret"', BY_CLIENT))[PUBLIC]
    answers = [seen(listener, line)[0] for _ in range(4)]
    assert answers == [NO_USER] * 3 + [b"Too many queries, try again later\r\n"]


MENU = """
[[routes]]
index = true
backends = ["menu"]
[backends.menu]
type = "menu"
[[routes]]
user = "open"
summary = "For all"
backends = ["text"]
[backends.text]
type = "static"
text = "Open"
"""


@pytest.mark.parametrize("match", [match for match, name in MATCHES.items() if name])
def test_menu(match: str, tmp_path: Path) -> None:
    """The menu of who may not use a route is as if the route were not there, down to its columns."""
    for keys, place, client in RESTRICTIONS.values():
        listener = compiled(tmp_path, route(match, keys) + MENU)[place]
        assert seen(listener, b"\r\n", client)[0] == b"open  For all\r\n", (keys, place, client)


def test_menu_of_who_may(tmp_path: Path) -> None:
    """The control for the test above: a client that may use the route sees it on the menu."""
    listener = compiled(tmp_path, route('user = "secret"', BOTH) + MENU)[INSIDE]
    assert seen(listener, b"\r\n", INSIDER)[0] == b"secret  Not for all\r\nopen    For all\r\n"


FORWARDING = '[forwarding]\nallow = { "old.example.org" = "tcp:127.0.0.1:1" }\nmax_hops = 2\n'
HOSTS = [
    "new.example.org",
    "no-such-host.invalid",
    "localhost",
    "127.0.0.1",
    "public",
    "inside",
    "old.example.org@new.example.org",
    "localhost@old.example.org",
    "127.0.0.1@old.example.org",
    "[::1]@old.example.org",
    "public@old.example.org",
    "inside@old.example.org",
    "h1@h2@old.example.org",
    "old.example.org:79",
    "old",
    "*",
]


@pytest.mark.parametrize("allowed", [FORWARDING, ""], ids=["a host is allowed", "none is"])
@pytest.mark.parametrize("host", HOSTS)
def test_forwarding(host: str, allowed: str, tmp_path: Path) -> None:
    """Whether a host is there, is this one or is only not allowed is not told, nor whether any is allowed."""
    listener = compiled(tmp_path, allowed + route('user = "secret"', BY_CLIENT))[PUBLIC]
    for each in dict.fromkeys((host, host.upper(), f" {host} ")):
        for user in ("", "secret", "nobody", "/W secret", "/W "):
            assert seen(listener, f"{user}@{each}\r\n".encode()) == (NO_FORWARDING, "clean", False), (user, each)


def test_forwarding_that_is_allowed(tmp_path: Path) -> None:
    """That says something: for a host that is allowed it is not refused, but tried."""
    transport = connect(compiled(tmp_path, FORWARDING)[PUBLIC], client=OUTSIDER)
    transport.protocol.dataReceived(b"nobody@old.example.org\r\n")
    assert transport.sent() != NO_FORWARDING


class AskedTests(GatewayCase):
    """Backends that are at work for those who may use them."""

    def _seen(self, gateway: Gateway, line: bytes) -> tuple[bytes, str, bool]:
        return seen(gateway.listeners[PUBLIC].listener, line)

    async def _insider(self, gateway: Gateway, line: bytes = b"secret\r\n") -> bytes:
        transport: FakeTransport = connect(gateway.listeners[PUBLIC].listener, client=INSIDER)
        transport.protocol.dataReceived(line)
        await until(lambda: transport.closed, "the answer")
        return transport.sent()

    def _check(self, gateway: Gateway, names: Sequence[str] = ("secret", "SECRET ", "/W secret")) -> None:
        for name in names:
            assert self._seen(gateway, f"{name}\r\n".encode()) == self._seen(gateway, b"nobody\r\n")

    async def test_command(self) -> None:
        """No program is run for who may not use it, whether or not one has been run for others."""
        marks = self.write("marks", "")
        command = f"type = \"command\"\nargv = ['sh', '-c', 'echo x >> {marks}; echo yes']"
        gateway = self.start(LISTENERS + route('user = "secret"', BY_CLIENT, command))
        self._check(gateway)
        assert await self._insider(gateway) == b"yes\r\n"
        self._check(gateway)
        await self._insider(gateway)  # by now any other program would have left its mark
        assert marks.read_text() == "x\n" * 2

    async def _http(self, cache: str, requests: int) -> Gateway:
        upstream = Upstream(self, lambda server, _: server.send(response(b"yes")))
        backend = f'type = "http"\nurl = "{upstream.url}/{{user}}"\n{cache}'
        gateway = self.start(LISTENERS + route('user = "secret"', BY_CLIENT, backend))
        self._check(gateway)
        assert await self._insider(gateway) == b"yes\r\n"
        self._check(gateway)
        assert await self._insider(gateway) == b"yes\r\n"
        assert len(upstream.requests) == requests
        return gateway

    async def test_http(self) -> None:
        """No request is made for who may not use it."""
        await self._http("", 2)

    async def test_cache(self) -> None:
        """An answer that is kept for others is not looked for, so that he cannot even tell that it is there."""
        gateway = await self._http("cache = { ttl = 30 }", 1)
        (cached,) = caches(gateway)
        assert dict(cached.counts) == {"absent": 1, "fresh": 1}

    async def test_cached_menu(self) -> None:
        """A menu that is kept for others shows him nothing of theirs, nor his one them."""
        menu = MENU.replace('type = "menu"', 'type = "menu"\ncache = { ttl = 30 }')
        gateway = self.start(LISTENERS + route('user = "secret"', BY_CLIENT) + menu)
        for _ in range(2):
            assert await self._insider(gateway, b"\r\n") == b"secret  Not for all\r\nopen    For all\r\n"
            assert self._seen(gateway, b"\r\n")[0] == b"open  For all\r\n"


@on_both_transports
class WireTests(GatewayCase):
    """The same over a network."""

    async def test_on_the_wire(self) -> None:
        """What comes over a real connection is the same too, and so is how the connection ends."""
        gateway = self.start(LISTENERS + route('user = "secret"', BY_CLIENT))
        for name in (b"secret", b"nobody"):
            client = await self.connect(gateway)
            assert client.transport is not None
            client.transport.write(name + b"\r\n")
            assert await client.closed == NO_USER
            assert client.reason is not None
            assert client.reason.check(ConnectionDone)


class Counting(Networks):
    """Networks that count how often a client is looked for in them."""

    looked = 0

    def __contains__(self, client: str) -> bool:
        Counting.looked += 1
        return super().__contains__(client)


def test_work() -> None:
    """A name that is not for who asks costs the gateway no more than one that does not exist."""

    def work(line: bytes) -> int:
        Counting.looked = 0
        route = Route("r", Chain((("b", FakeBackend(Answered("x"))),)), users=("secret",), clients=Counting([]))
        seen(make_listener(router=Router([route])), line)
        return Counting.looked

    assert work(b"secret\r\n") == work(b"nobody\r\n") == 1


def steps(router: Router[str], user: str, client: str) -> int:
    """Return how many instructions Python executes to look for a name."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    previous = sys.gettrace()
    gc.disable()  # what others have called at a collection would be counted
    sys.settrace(trace)
    try:
        router.find(Query(user, client=client))
    finally:
        sys.settrace(previous)
        gc.enable()
    return count


@pytest.mark.parametrize("others", [1, 100], ids=["few patterns", "many patterns"])
def test_steps(others: int) -> None:
    """Looking for a name of a pattern that is not for who asks takes the very steps that any other name takes."""
    inside, elsewhere = Networks([ip_network("10.0.0.0/8")]), Networks([ip_network("192.0.2.0/24")])
    closed = [
        Route("glob", "", match=glob("secret-*"), clients=inside),
        Route("regex", "", match=regex("(?P<team>[a-z]+)-secret"), clients=inside),
        Route("no text", "", match=regex("[x-z].*"), clients=inside),
    ]
    routes = [Route("", "", match=glob(f"svc-{number}*")) for number in range(others)]
    routes += [Route("", "", match=glob(f"web-{number}*"), clients=elsewhere) for number in range(others)]
    router = Router([*routes, *closed, *routes])
    names = ["secret-pub", "pub-secret", "x-secret-y", "nobodyever"]
    assert len({*map(len, names)}) == 1
    for client in (OUTSIDER, "unix", "192.0.2.7"):
        steps(router, "nobodyever", client)  # what is open to a client is found once
        assert len({steps(router, name, client) for name in names}) == 1, client
    steps(router, "nobodyever", INSIDER)
    assert steps(router, "secret-pub", INSIDER) != steps(router, "nobodyever", INSIDER)  # who may use it is told
