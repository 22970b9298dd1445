"""``fingergw explain``: what comes of a query, and why."""

from __future__ import annotations

import json
import re
import signal
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.backends.static import Static
from fingergw.cli import main
from fingergw.cli.explain import ask, decided, usual_client, with_answers
from fingergw.cli.explanation import Explanation
from fingergw.cli.reasons import explain
from fingergw.config import model, tables
from fingergw.config.tables import Answers, Forwarding, Log, Route
from fingergw.core.decide import Asked
from fingergw.core.outcome import Answered, Failed, Missing
from fingergw.core.query import Query
from fingergw.core.routing import Router
from fingergw.core.rules import Limits, Rules
from fingergw.core.setting_types import Bytes, Count, HostName, Line
from fingergw.finger.factory import FingerFactory
from fingergw.finger.listener import Listener
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase
from tests.support.processes import process, run
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, sync, wait_until

CONFIG = """\
[[listeners]]
name = "public"
endpoint = "tcp:1079"
allow = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"]
deny = ["10.6.0.0/16"]
[[listeners]]
name = "local"
endpoint = "Unix:finger.sock"
allow = ["10.0.0.0/8"]
[[listeners]]
name = "behind"
endpoint = "haproxy:tcp:1080:interface=192.0.2.7"
trusted_proxies = ["192.0.2.1"]
[[listeners]]
name = "trap"
endpoint = "tcp:1081"
decoy = true
[[routes]]
user = "status"
backends = ["people"]
[[routes]]
users = ["moshez", "nail"]
clients = ["10.1.0.0/16"]
backends = ["people"]
[[routes]]
name = "services"
pattern = "svc-*"
listeners = ["local"]
backends = ["people"]
[[routes]]
name = "team"
regex = '(?P<team>[a-z]+)-oncall'
backends = ["touch", "people"]
fallthrough = ["failed"]
[[routes]]
index = true
listeners = ["local"]
backends = ["people"]
[backends.people]
type = "static"
text = "Hi"
cache = { ttl = 5 }
[backends.touch]
type = "command"
argv = ["touch", "asked"]
[forwarding]
allow = { "Old.example.org" = "tcp:old.example.org:79", "192.0.2.7" = "tcp:192.0.2.7:79" }
local_names = ["finger.example.org", "2001:db8::9"]
listeners = ["public", "behind"]
clients = ["127.0.0.0/8"]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a configuration, in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "fingergw.toml"
    path.write_text(CONFIG)
    return path


def explained(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run ``fingergw explain`` here, and return its exit code and what it prints, each run of blanks as one."""
    code = main(["explain", "--config", str(config), *arguments])
    return code, "\n".join(" ".join(line.split()) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["status"], 0, 'line 18 "status" matches: user is "status"\nchain line 39 "people" (static, cached)'),
        (["/W  Status"], 0, 'query for "status", verbose (/W)\n'),
        (["status\nx"], 0, 'query for "status"\n'),
        (["status\r"], 0, '"status" matches: user is "status"\n'),
        (["x"], 1, 'listener line 1 "public": tcp:1079\nclient 127.0.0.1 is allowed: in 127.0.0.0/8 of allow\n'),
        (["x"], 1, 'routes line 18 "status" no: user is not "status"\nline 21'),
        (["x"], 1, '"moshez, nail" no: user is none of "moshez", "nail"\n'),
        (["svc-1"], 1, '"services" no: not asked here, only at "local"\n'),
        (["x"], 1, '"team" no: user does not match the regex "(?P<team>[a-z]+)-oncall"\n'),
        (["x"], 1, "outcome no_such_user\nanswer No such user"),
        (["nail"], 1, "user is one of users, but not for 127.0.0.1, only for clients in 10.1.0.0/16\n"),
        (["--from", "10.1.2.3", "nail"], 0, '"moshez, nail" matches: user is one of users\nchain'),
        (["web-oncall"], 0, 'line 30 "team" matches: user matches the regex "(?P<team>[a-z]+)-oncall"\nteam = "web"\n'),
        (["web-oncall"], 0, '(command)\nline 39 "people" (static, cached)\nthe next one is asked after: failed'),
        ([""], 1, '"team" no: not for the empty query\n'),
        ([""], 1, "outcome list_denied\nanswer Finger online user list denied"),
        (["--listener", "local", ""], 0, '"index" matches: the query is empty\n'),
        (["--listener", "local", "x"], 1, "client unix is allowed"),
        (["--listener", "local", "x"], 1, '"services" no: user does not match the pattern "svc-*"\n'),
        (["--listener", "local", "x"], 1, '"index" no: only for the empty query\n'),
        (["--from", "10.6.1.1", "x"], 1, "10.6.1.1 is not allowed: in 10.6.0.0/16 of deny\noutcome denied"),
        (["--from", "192.0.2.1", "x"], 1, "192.0.2.1 is not allowed: in no network of allow\noutcome denied"),
        (["--from", "2001:DB8:0::1", "x"], 1, "client 2001:db8::1 is allowed: in 2001:db8::/32 of allow"),
        (["--from", "::ffff:10.1.2.3", "x"], 1, "client 10.1.2.3 is allowed: in 10.0.0.0/8 of allow"),
        (["--listener", "behind", "x"], 1, "the one in the PROXY header, if that comes from 192.0.2.1/32\nclient 127."),
        (
            ["--listener", "trap", "status"],
            1,
            "it is a decoy: it answers every query with no_such_user\noutcome no_such_user",
        ),
        (["GET / HTTP/1.1"], 1, "is not a query: a line of another protocol, such as HTTP or SSH\n"),
        (["a@"], 1, 'query "a@" is not a query: an empty host name\n'),
        (["\x1b[2J"], 1, 'query "\\x1b[2J" is not a query: a control or an invisible character\n'),
        (["\udcfe"], 1, "is not a query: not UTF-8\n"),
        (["x" * 513], 1, "is not a query: longer than 512 bytes\n"),
        (["\udcff\udcfd\x01status"], 0, 'query for "status"\n'),  # a telnet command is no part of it
        (["/W@finger.example.org"], 1, 'query for no user at "finger.example.org", verbose (/W)\n'),
        (["@old.example.org."], 0, 'query for no user at "old.example.org."\n'),
        (["a@x@old.example.ORG"], 0, "forwarding goes to tcp:old.example.org:79: [forwarding] allow has the host\n"),
        (["a@old.example.org"], 0, 'chain line 47 "old.example.org" (finger)'),
        (["a@192.0.2.7"], 0, "note it is not forwarded if one of the hosts is the address that the client"),
        (["--listener", "behind", "a@192.0.2.7"], 1, '"192.0.2.7" is this gateway itself\n'),
        (["status@Finger.Example.org."], 0, 'query for "status" at "finger.example.org."\n'),
        (
            ["status@finger.example.org"],
            0,
            '"status" matches: user is "status"\nchain line 39 "people" (static, cached)',
        ),
        (["status@finger.example.org"], 0, 'note "finger.example.org" is in [forwarding] local_names: it was decided'),
        (["a@[2001:DB8::9]@finger.example.org"], 1, '"[2001:db8::9]", "finger.example.org" are in [forwarding] local'),
        (["@finger.example.org"], 1, "outcome list_denied\nanswer Finger online user list denied\nnote"),
        (["--listener", "local", "@finger.example.org"], 0, '"index" matches: the query is empty\n'),
        (["a@old.example.org@finger.example.org"], 0, "forwarding goes to tcp:old.example.org:79: "),
        (["a@192.0.2.7@finger.example.org"], 0, "it is not forwarded if one of the hosts is the address that the"),
        (["a@192.0.2.7@finger.example.org"], 0, 'note "finger.example.org" is in [forwarding] local_names'),
        (["a@finger.example.org@old.example.org"], 1, '"finger.example.org" is this gateway itself\n'),
        (["a@other"], 1, 'forwarding is not forwarded: "other" is not in [forwarding] allow\noutcome forward_denied'),
        (["a@b@c@d@old.example.org"], 1, "is not forwarded: 4 hosts are more than max_hops, 3\n"),
        (["a@127.1@old.example.org"], 1, '"127.1" is not a plain host name or address\n'),
        (["a@localhost@old.example.org"], 1, '"localhost" is a loopback\n'),
        (["a@LOCALHOST."], 1, 'forwarding is not forwarded: "localhost" is a loopback\n'),
        (["a@127.0.0.1"], 1, '"127.0.0.1" is a loopback\n'),
        (["--from", "10.1.2.3", "a@[::1]"], 1, '"[::1]" is a loopback\n'),
        (["a@public"], 1, '"public" is this gateway itself\n'),
        (["a@b@c@d@127.1"], 1, '"127.1" is not a plain host name or address\n'),
        (["a@public@old.example.org"], 1, '"public" is this gateway itself\n'),
        (["--from", "10.1.2.3", "a@old.example.org"], 1, "not for 10.1.2.3, only for clients in 127.0.0.0/8\n"),
        (["--listener", "local", "a@old.example.org"], 1, 'not from here, only from "public", "behind"\n'),
    ],
)
def test_why(config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str) -> None:
    """Each thing that is decided of a query is told with its reason, and the exit code is 0 where it goes anywhere."""
    found, text = explained(config, capsys, *arguments)
    assert told in text + "\n"
    assert found == code


def test_case_sensitive_names(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where names are case-sensitive, they are compared as they were sent."""
    config.write_text(CONFIG + "[answers]\ncase_sensitive = true\n")
    assert explained(config, capsys, "status")[0] == 0
    code, told = explained(config, capsys, "Status")
    assert (code, told.splitlines()[0]) == (1, 'query for "Status"')


def test_nothing_after_the_match(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Routes after the one that matches are not told of, as they are not looked at."""
    assert "moshez" not in explained(config, capsys, "status")[1]


def test_nobody_is_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --ask no program is run, nothing is bound, and nothing is made."""
    assert explained(config, capsys, "web-oncall")[0] == 0
    assert [path.name for path in config.parent.iterdir()] == ["fingergw.toml"]


def test_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has all of it under keys that stay."""
    assert main(["explain", "--config", str(config), "--json", "/W web-oncall"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "query": {"line": "/W web-oncall", "user": "web-oncall", "hosts": [], "verbose": True, "invalid": ""},
        "listener": {
            "name": "public",
            "line": 1,
            "endpoint": "tcp:1079",
            "decoy": False,
            "trusted_proxies": None,
        },
        "client": {"address": "127.0.0.1", "let_in": True, "why": "in 127.0.0.0/8 of allow"},
        "routes": [
            {"name": name, "line": line, "matches": matches, "why": why, "groups": groups}
            for name, line, matches, why, groups in [
                ("status", 18, False, 'user is not "status"', {}),
                ("moshez, nail", 21, False, 'user is none of "moshez", "nail"', {}),
                ("services", 25, False, 'not asked here, only at "local"', {}),
                ("team", 30, True, 'user matches the regex "(?P<team>[a-z]+)-oncall"', {"team": "web"}),
            ]
        ],
        "forwarding": None,
        "route": "team",
        "chain": [
            {"name": "touch", "line": 43, "type": "command", "cached": False},
            {"name": "people", "line": 39, "type": "static", "cached": True},
        ],
        "fallthrough": ["failed"],
        "steps": None,
        "outcome": None,
        "answer": None,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listener", "publik", "x"], 'unknown listener "publik"; did you mean "public"?'),
        (["--listener", "zzz", "x"], "expected one of: behind, local, public, trap"),
        (["--from", "somewhere", "x"], "expected an IP address"),
        (
            ["--listener", "local", "--from", "10.1.2.3", "x"],
            'listener "local" is a unix socket, whose clients have no address; leave out --from 10.1.2.3',
        ),
        (["--from", "unix", "x"], 'listener "public" is no unix socket; leave out --from unix'),
        ([], "missing argument: QUERY"),
        (["a", "b"], 'unexpected argument "b"; put quotes around a query of several words'),
    ],
)
def test_wrong_usage(config: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    """What is asked for wrongly is told with what there is, and exits with 2."""
    assert main(["explain", "--config", str(config), *arguments]) == 2
    assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    ("endpoint", "client"),
    [
        ("tcp:1", "127.0.0.1"),
        ("tcp:1:interface=192.0.2.1", "127.0.0.1"),
        (r"tcp:1:interface=\:\:ffff\:127.0.0.1", "127.0.0.1"),
        (r"tcp:1:interface=2001\:db8\:\:1", "::1"),
        (r"tcp:1:interface=\:\:", "::1"),
        ("tcp6:1", "::1"),
        ("TCP6:1", "::1"),
        ("tcp6:1:interface=127.0.0.1", "127.0.0.1"),
        ("tls:folder:1", "::1"),
        ("ssl:1:k.pem", "127.0.0.1"),
        ("haproxy:tcp6:1", "::1"),
        ("systemd:domain=INET6:name=x", "::1"),
        ("systemd:domain=INET:name=x", "127.0.0.1"),
        ("systemd:domain=UNIX:name=x", "unix"),
        ("Unix:s", "unix"),
        ("other:1", "127.0.0.1"),
    ],
)
def test_usual_client(endpoint: str, client: str) -> None:
    """Where no client is named, it is one of the family of the listener's socket."""
    assert usual_client(endpoint) == client


def test_ipv6_listener(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So an IPv6 listener is explained for the IPv6 loopback."""
    config.write_text(CONFIG.replace('"tcp:1079"', '"tcp6:1079"').replace('"2001:db8::/32"', '"::1"'))
    told = explained(config, capsys, "x")[1]
    assert "client ::1 is allowed: in ::1/128 of allow" in told


def test_mistakes_in_the_configuration(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All mistakes are told as check does, in the file and on the machine; the exit code is 78."""
    broken = CONFIG.replace('"touch", "asked"', '"no-such-program"').replace("=192.0.2.7", "=127.0.0.7")
    config.write_text(broken + "max_hops = 0\n")
    assert main(["explain", "--config", str(config), "x"]) == 78
    told = capfd.readouterr().err
    assert main(["check", "--config", str(config)]) == 78
    assert told == capfd.readouterr().err
    assert told.count("fingergw.toml:") == 2


def test_base_dir(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--base-dir is where the file's relative paths begin."""
    config.write_text(CONFIG.replace('text = "Hi"', 'file = "people.toml"'))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "people.toml").write_text('status = "Hi"')
    assert explained(config, capsys, "--base-dir", "base", "status")[0] == 0
    assert explained(config, capsys, "status")[0] == 78


# Real routes, clients and lines, at random

NETWORKS = st.none() | st.sampled_from([("10.0.0.0/8",), ("10.1.0.0/16", "192.0.2.0/24"), ("0.0.0.0/0", "::/0")])
NAMES = ["a", "b", "AB", "ab", "a-b", "svc-a"]
MATCHES = st.one_of(
    st.builds(lambda name: {"user": name}, st.sampled_from(NAMES)),
    st.builds(lambda names: {"users": tuple(names)}, st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.builds(lambda text: {"pattern": text}, st.sampled_from(["*", "a*", "?", "svc-*", "[!a]*"])),
    st.builds(lambda text: {"regex": text}, st.sampled_from(["a.*", "(?P<x>[a-z])-(?P<y>.)?", ".*"])),
    st.just({"index": True}),
)
LISTENERS = st.none() | st.sampled_from([("first",), ("second",), ("first", "second")])
LINES = st.one_of(
    st.sampled_from(["", "/W", " ", "@", "a@", "@h", "A", "a\tb", "a\nb", "\x1b", "a" * 40]),
    st.builds(
        lambda verbose, name, hosts: verbose + "@".join((name, *hosts)),
        st.sampled_from(["", "/W "]),
        st.sampled_from([*NAMES, "", "c"]),
        st.lists(st.sampled_from(["h", "H.", "other", "localhost", "192.0.2.9", "first", "1"]), max_size=3),
    ),
)


def networks(texts: tuple[str, ...] | None) -> tuple[Any, ...] | None:
    """Return the networks that texts stand for."""
    return None if texts is None else tuple(map(ip_network, texts))


@st.composite
def configurations(draw: st.DrawFn) -> model.Config:
    """Return a configuration with two listeners, and any routes and forwarding."""
    routes = [
        Route(
            backends=(f"b{number}",),
            name=Line(f"r{number}"),
            listeners=draw(LISTENERS),
            clients=networks(draw(NETWORKS)),
            **match,
        )
        for number, match in enumerate(draw(st.lists(MATCHES, max_size=6)))
    ]
    listeners = [
        tables.Listener(
            endpoint="tcp:79",
            name=name,
            allow=networks(draw(NETWORKS)),
            deny=networks(draw(st.sampled_from([(), ("10.1.0.0/16",)]))) or (),
            decoy=draw(st.integers(0, 9)) == 0,
            limits=Limits(max_query_bytes=Bytes(30)),
        )
        for name in ("first", "second")
    ]
    allow = {HostName(host): "tcp:192.0.2.80:79" for host in draw(st.sampled_from([(), ("h", "other"), ("h",)]))}
    return model.Config(
        listeners=tuple(listeners),
        routes=tuple(routes),
        backends={
            f"b{number}": model.Backend("static", Static(text=f"told by {number}")) for number in range(len(routes))
        },
        forwarding=Forwarding(
            allow=allow,
            listeners=draw(LISTENERS),
            clients=networks(draw(NETWORKS)),
            max_hops=Count(draw(st.integers(1, 3))),
            local_names=draw(st.sampled_from([(), (HostName("own"),)])),
        ),
        answers=Answers(case_sensitive=draw(st.booleans())),
        log=Log(access="off"),
    )


def listener_of(configuration: model.Config, name: str, clock: Any = None) -> Listener:
    """Return a listener of a gateway's."""
    gateway = fingergw.make_service(configuration, clock or MemoryReactorClock())
    assert isinstance(gateway, Gateway)
    return next(each.listener for each in gateway.listeners if each.rules.listener == name)


def told_by_gateway(listener: Listener, line: bytes, client: str) -> bytes:
    """Return what a connection of the gateway's own gets."""
    protocol = FingerFactory(listener).buildProtocol(IPv4Address("TCP", client, 1024))
    transport: Any = StringTransport(IPv4Address("TCP", "198.51.100.1", 79))
    transport.loseWriteConnection = transport.loseConnection
    protocol.makeConnection(transport)
    if not transport.disconnecting:
        protocol.dataReceived(line + b"\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
    return bytes(transport.value())


@given(
    configurations(),
    LINES,
    st.sampled_from(["10.0.0.1", "10.1.0.1", "192.0.2.1"]),
    st.sampled_from(["first", "second"]),
)
def test_explain_never_disagrees_with_the_gateway(
    configuration: model.Config, line: str, client: str, name: str
) -> None:
    """Whatever the rules and the query: route, outcome and answer are the gateway's own, and each no has its reason."""
    listener = listener_of(configuration, name)
    rules = listener.rules
    decision = decided(rules, line.encode(), client, "tcp:79")
    explained = explain(configuration, rules, line.encode(), client, decision)
    assert [each.matches for each in explained.routes[:-1]] == [False] * len(explained.routes[:-1])
    if isinstance(decision, Asked) and explained.forwarding is None:
        explained = sync(ask(explained, decision, rules, listener.connections.clock))
    answer = told_by_gateway(listener, line.encode(), client)
    if explained.outcome is None:  # passed on, and given up as the client left
        assert listener.connections.meter.outcomes == {("forwarding", "gone"): 1}
    else:
        assert listener.connections.meter.outcomes == {(explained.route, explained.outcome): 1}
        assert (explained.answer or "").replace("\n", "\r\n").encode() == answer


@settings(max_examples=30)
@given(configurations(), LINES, st.sampled_from(["10.0.0.1", "10.1.0.1", "192.0.2.1"]))
def test_reasons_are_those_of_the_router(configuration: model.Config, line: str, client: str) -> None:
    """A route has a reason not to match exactly where the router, given that route alone, does not find it."""
    router = listener_of(configuration, "first").rules.router
    query = Query(line, client=client)
    for route in router.routes:
        assert (route.mismatch(query) is None) == (Router([route]).find(query) is not None)


# Asking

CHAIN = """\
[[listeners]]
name = "public"
endpoint = "tcp:0:interface=127.0.0.1"
limits = { max_answer_bytes = 12, answer_timeout = 0.3 }
[[routes]]
user = "x"
backends = ["a", "b", "c"]
[[routes]]
index = true
backends = ["a"]
[backends.a]
type = "static"
text = "from a"
cache = {}
[backends.b]
type = "static"
text = "from b"
[backends.c]
type = "static"
text = "from c"
"""


class AskTests(GatewayCase):
    """--ask, with backends that say what they are told to."""

    def explain(self, line: bytes = b"x", more: str = "", **says: Any) -> tuple[Explanation, Asked, Rules, Gateway]:
        """Explain a query at a gateway, some of whose backends say something else."""
        configuration = fingergw.load(self.write("fingergw.toml", CHAIN + more))
        gateway = fingergw.make_service(configuration, reactor)
        assert isinstance(gateway, Gateway)
        rules = gateway.listeners[0].rules
        decision = decided(rules, line, "127.0.0.1", "tcp:79")
        explained = explain(configuration, rules, line, "127.0.0.1", decision)
        assert isinstance(decision, Asked)
        backends = tuple(
            (name, FakeBackend(says[name]) if name in says else backend) for name, backend in decision.chain.backends
        )
        return explained, decision._replace(chain=evolve(decision.chain, backends=backends)), rules, gateway

    async def asked(self, line: bytes = b"x", **says: Any) -> Explanation:
        """Ask, and return what is told."""
        explained, decision, rules, _ = self.explain(line, **says)
        return await ask(explained, decision, rules, reactor)

    async def test_each_backend(self) -> None:
        """Each backend that is asked is told of with its outcome and reason, up to the one that answers."""
        told = await self.asked(a=Failed("upstream \x1b is down"), b=Missing())
        assert told.steps is not None
        assert [(step.backend, step.outcome, step.why, step.cache) for step in told.steps] == [
            ("a", "failed", "upstream \x1b is down", ""),
            ("b", "missing", "", ""),
            ("c", "answered", "", ""),
        ]
        assert (told.outcome, told.answer) == ("answered", "from c\n")
        assert "upstream \\x1b is down" in told.as_text()

    async def test_backends_after_the_answer(self) -> None:
        """Who comes after the one that answers is not asked."""
        told = await self.asked(a=Missing(), c=AssertionError())
        assert [step.backend for step in told.steps or ()] == ["a", "b"]

    async def test_a_mistake(self) -> None:
        """A backend that raises has failed, and the error is told."""
        told = await self.asked(a=ZeroDivisionError("by zero"))
        assert [step.why for step in told.steps or ()] == ["unforeseen ZeroDivisionError: by zero", ""]

    async def test_refusals(self) -> None:
        """Where nobody answers, it is told what the client is, of the empty query as of a name."""
        failed = await self.asked(a=Missing(), b=Failed("down"), c=Missing())
        assert (failed.outcome, failed.answer) == ("internal_error", "Internal error in server\n")
        assert (await self.asked(a=Missing(), b=Missing(), c=Missing())).outcome == "no_such_user"
        assert (await self.asked(b"", a=Missing())).outcome == "list_denied"

    async def test_answer_timeout(self) -> None:
        """The whole chain has answer_timeout; who is asked then is given up."""
        told = await self.asked(a=Missing(), b=Deferred())
        assert [step.outcome for step in told.steps or ()] == ["missing", "given_up"]
        assert told.outcome == "internal_error"
        assert told.steps is not None
        assert 200 < told.steps[1].milliseconds < 5000
        assert "answer_timeout was over: not done within 0.3 s" in told.notes

    async def test_the_answer_as_a_client_gets_it(self) -> None:
        """It is clean, and cut to max_answer_bytes; both can be seen."""
        told = await self.asked(a=Answered("\x1b[2Jsome more than a line"))
        assert told.answer == "some more \n"
        assert "the answer is cut to max_answer_bytes, 12" in told.notes

    async def test_cache(self) -> None:
        """What a cache had is told, and that the gateway's own is not used."""
        explained, decision, rules, gateway = self.explain()
        first = await ask(explained, decision, rules, reactor)
        second = await with_answers(explained, decision, rules, gateway.parts, gateway.environment)
        assert [each.steps[0].cache for each in (first, second) if each.steps] == ["absent", "fresh"]
        assert any("the gateway's own cache is not used" in note for note in second.notes)

    @needs_redis
    async def test_shared_cache(self) -> None:
        """A Redis that a fleet shares is looked into, and has what was answered here afterwards."""
        with RedisServer() as server:
            more = f'[cache]\nstore = "redis://127.0.0.1:{server.port}/0"\n'
            first = await self.asked_by_command(more)
            second = await self.asked_by_command(more)
        assert [each.steps[0].cache for each in (first, second) if each.steps] == ["absent", "fresh"]
        assert first.notes == second.notes == ()

    async def asked_by_command(self, more: str) -> Explanation:
        """Ask as ``--ask`` does."""
        explained, decision, rules, gateway = self.explain(more=more)
        return await with_answers(explained, decision, rules, gateway.parts, gateway.environment)

    async def test_shared_cache_that_is_gone(self) -> None:
        """A Redis that cannot be reached is told of, and the backends answer all the same."""
        told = await self.asked_by_command(f'[cache]\nstore = "redis://127.0.0.1:{free_port()}/0"\n')
        assert told.outcome == "answered"
        assert any("the store is unavailable" in note for note in told.notes)


class Web(BaseHTTPRequestHandler):
    """A web server that knows one name."""

    def do_GET(self) -> None:
        """Answer, or not."""
        self.send_response(200 if self.path == "/nail" else 404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"web\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


REAL = """
[[listeners]]
endpoint = "tcp:79"
[[routes]]
pattern = "*"
backends = ["web", "program"]
[backends.web]
type = "http"
url = "http://127.0.0.1:{port}/{{user}}"
cache = {{}}
[backends.program]
type = "command"
argv = ["sh", "-c", 'echo "$FINGER_USER at $FINGER_LISTENER"']
[cache]
store = "sqlite:cache.db"
[process]
user = "nobody"
"""


def test_real_backends(tmp_path: Path) -> None:
    """A process asks the web and a program, says so, and exits; the gateway's own store in a file it does not touch."""
    config = tmp_path / "fingergw.toml"
    with HTTPServer(("127.0.0.1", 0), Web) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            config.write_text(REAL.format(port=server.server_port))
            arguments = ["explain", "--config", str(config), "--ask"]
            text = run([*arguments, "nail"])
            machine = run([*arguments, "--json", "Anna"])
        finally:
            server.shutdown()
            serving.join()
    assert (text.returncode, text.stderr) == (0, "")
    assert re.search(r'asked       "web" answered in [0-9.]+ ms, cache: absent\noutcome     answered\n', text.stdout)
    assert "\nanswer      web\nnote        cache: the gateway's own cache is not used" in text.stdout
    assert "program" not in text.stdout.partition("asked after")[2]
    assert (machine.returncode, machine.stderr) == (0, "")
    told = json.loads(machine.stdout)
    assert [(step["backend"], step["outcome"]) for step in told["steps"]] == [
        ("web", "missing"),
        ("program", "answered"),
    ]
    assert told["answer"] == "anna at tcp:79\n"
    assert 'in the gateway as "nobody"' in told["notes"][-1]
    assert [path.name for path in tmp_path.iterdir()] == ["fingergw.toml"]


NOTE = 'after 2 such failures in a row the gateway does not ask "web" for 7 s; its log says when that begins and ends'


@pytest.mark.parametrize(("breaker", "notes"), [("{ failures = 2, pause = 7 }", [NOTE]), ("false", [])])
def test_breaker(tmp_path: Path, breaker: str, notes: list[str]) -> None:
    """A failure for which the gateway may leave a backend alone comes with a note that says so."""
    config = tmp_path / "c.toml"
    config.write_text(
        '[[listeners]]\nendpoint = "tcp:0"\n[[routes]]\nuser = "x"\nbackends = ["web"]\n'
        f'[backends.web]\ntype = "http"\nurl = "http://127.0.0.1:{free_port()}"\nbreaker = {breaker}\n'
    )
    told = run(["explain", "--config", str(config), "--ask", "x"])
    assert told.returncode == 1
    assert "Connection refused" in told.stdout
    assert re.findall("breaker: (.*)", told.stdout) == notes


def test_broken_off(tmp_path: Path) -> None:
    """Asking that is broken off is no answer, ends what it has started, and says nothing."""
    (tmp_path / "c.toml").write_text(
        '[[listeners]]\nendpoint = "tcp:0"\n[[routes]]\nuser = "slow"\nbackends = ["slow"]\n'
        '[backends.slow]\ntype = "command"\nargv = ["sh", "-c", "echo $$ > pid; exec sleep 60"]\ntimeout = 14\n'
    )
    pid = tmp_path / "pid"
    with process(["explain", "--config", "c.toml", "--ask", "slow"], cwd=tmp_path) as running:
        wait_until(lambda: running.poll() is not None or (pid.exists() and pid.read_text()), "the program's start")
        running.send_signal(signal.SIGINT)
        assert (*running.communicate(timeout=DEADLINE_SECONDS), running.returncode) == ("", "", 130)
    wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "the program's end")


def test_routes_of_the_same_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two routes that have the same name by default, the one that the query goes to is the one that is printed."""
    config = tmp_path / "c.toml"
    config.write_text(
        '[[listeners]]\nendpoint = "tcp:1079"\n'
        '[[routes]]\nuser = "a"\nclients = ["10.0.0.0/8"]\nbackends = ["one"]\n'
        '[[routes]]\nuser = "a"\nbackends = ["two"]\n'
        '[backends.one]\ntype = "static"\ntext = "1"\n[backends.two]\ntype = "static"\ntext = "2"\n'
    )
    code, told = explained(config, capsys, "a")
    assert code == 0
    assert 'line 3 "a" no: user is "a", but not for 127.0.0.1, only for clients in 10.0.0.0/8\n' in told
    assert 'line 7 "a" matches: user is "a"\nchain line 13 "two" (static)' in told


@pytest.mark.parametrize(
    ("key", "text", "is_tried_for_all"),
    [
        ("pattern", "*", True),
        ("pattern", "?[ab]*", True),
        ("pattern", "*-b", False),
        ("regex", "[a-z]+(-[a-z])?", True),
        ("regex", ".*(x|y)+", False),
        ("user", "a", False),
    ],
)
@pytest.mark.parametrize("name", ["ab-c", "1"])
def test_patterns_that_are_tried_for_every_name(
    config: Path, capsys: pytest.CaptureFixture[str], name: str, key: str, text: str, *, is_tried_for_all: bool
) -> None:
    """Of a pattern or regex that has no text to look it up by, that is told whether or not it matches."""
    config.write_text(
        f"[[listeners]]\nendpoint = 'tcp:1079'\n[[routes]]\n{key} = '{text}'\nbackends = ['b']\n"
        "[backends.b]\ntype = 'static'\ntext = 'Hi'\n"
    )
    told = explained(config, capsys, name)[1]
    assert ("; it has no literal text, so it is tried for every name\n" in told) == is_tried_for_all
