"""Endpoint strings, and several listeners at once with their own rules."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs

import fingergw
from fingergw.app import build
from fingergw.app.gateway import Gateway
from fingergw.core.errors import ListenError
from fingergw.core.outcome import Answered
from fingergw.finger.factory import FingerFactory
from fingergw.finger.service import ListenerService
from fingergw.listen import binding as binding_module
from fingergw.listen.binding import BoundService, Socket
from fingergw.listen.endpoint_strings import anchor
from fingergw.listen.endpoints import parse, server
from fingergw.listen.reachability import is_reachable
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase, port_of
from tests.support.good_certificates import GOOD
from tests.support.good_certificates import put as issued
from tests.support.listener import make_listener, put
from tests.support.sockets import free_port, listens, receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import in_thread, reactor, until

ANCHORED = [
    ("tcp:79", "tcp:79"),
    (r"tcp:79:interface=\:\:1", r"tcp:79:interface=\:\:1"),
    ("unix:finger.sock", "unix:/base/finger.sock"),
    ("unix:/run/finger.sock", "unix:/run/finger.sock"),
    ("unix:a/b.sock:mode=660:lockfile=0", "unix:/base/a/b.sock:mode=660:lockfile=0"),
    ("unix:address=finger.sock:mode=660", "unix:address=/base/finger.sock:mode=660"),
    (r"unix:with\:colon", r"unix:/base/with\:colon"),
    ("ssl:79:k.pem:c.pem", "ssl:79:/base/k.pem:/base/c.pem"),
    ("ssl:port=79:privateKey=k.pem:certKey=/etc/c.pem", "ssl:port=79:privateKey=/base/k.pem:certKey=/etc/c.pem"),
    ("ssl:79:privateKey=k.pem:sslmethod=TLSv1_2_METHOD", "ssl:79:privateKey=/base/k.pem:sslmethod=TLSv1_2_METHOD"),
    (
        "ssl:79:k.pem:extraCertChain=x.pem:dhParameters=d.pem",
        "ssl:79:/base/k.pem:extraCertChain=/base/x.pem:dhParameters=/base/d.pem",
    ),
    ("tls:certs:79", "tls:/base/certs:79"),
    ("TLS:certs:79", "tls:/base/certs:79"),
    ("Unix:finger.sock", "unix:/base/finger.sock"),
    ("tls:path=certs:port=79", "tls:path=/base/certs:port=79"),
    ("systemd:domain=INET:name=public", "systemd:domain=INET:name=public"),
    ("other:file:x=y", "other:file:x=y"),
    ("", ""),
    ("unix:", "unix:"),
    (r"tcp6:79:interface=\:\:", r"tcp6:79:interface=\:\:"),
    ("unix:address=a=b", r"unix:address=/base/a\=b"),
]


@pytest.mark.parametrize(("description", "anchored"), ANCHORED)
def test_anchor(description: str, anchored: str) -> None:
    """Files in the strings of Twisted's own endpoint types become absolute, and nothing else changes."""
    assert anchor(description, Path("/base")) == anchored


def test_anchor_quotes_the_folder() -> None:
    """A folder with characters that mean something in endpoint strings is quoted."""
    assert anchor("unix:s", Path("/a:b=c")) == r"unix:/a\:b\=c/s"


@pytest.mark.parametrize(
    "description",
    ["tcp:79", r"tcp6:79:interface=\:\:1", "unix:/tmp/s:mode=660", "tcp:79:interface=127.0.0.1:backlog=9"],
)
def test_parse(description: str) -> None:
    """A good string gives an endpoint, and binds nothing."""
    assert IStreamServerEndpoint.providedBy(parse(description, reactor))


def test_systemd_without_sockets() -> None:
    """Outside of systemd there is no socket of the name; that is said as it starts, not by ``check``."""
    server("systemd:domain=INET:name=public").check(reactor)
    with pytest.raises(ListenError, match=r'systemd passed no socket by the name "public"; start the .socket unit'):
        parse("systemd:domain=INET:name=public", reactor)


def test_onion_is_not_parsed_by_check() -> None:
    """Parsing an onion: string would launch Tor, which ``check`` never does."""
    server("onion:79").check(reactor)


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        (IPv4Address("TCP", "127.0.0.1", 79), False),
        (IPv4Address("TCP", "127.9.9.9", 79), False),
        (IPv6Address("TCP", "::1", 79), False),
        (UNIXAddress(b"/run/s"), False),
        (UNIXAddress(None), False),
        (IPv4Address("TCP", "0.0.0.0", 79), True),
        (IPv4Address("TCP", "192.0.2.1", 79), True),
        (IPv6Address("TCP", "::", 79), True),
        (IPv6Address("TCP", "fe80::1%lo", 79), True),
        (object(), True),
    ],
)
def test_is_reachable(address: IAddress, reachable: bool) -> None:
    """Loopback addresses and unix sockets cannot be reached from another host; in doubt an address can."""
    assert is_reachable(address) is reachable


MAP = """
[backends.map]
type = "static"
[backends.map.entries]
hello = "Hello"
[backends.menu]
type = "menu"
[log]
access = "off"
"""
HELLO = '[[routes]]\nuser = "hello"\nbackends = ["map"]\n' + MAP
ANY = "tcp:0:interface=127.0.0.1"


def listener(endpoint: str = ANY, extra: str = "") -> str:
    """Return a listener's table."""
    return f"[[listeners]]\nendpoint = '{endpoint}'\n{extra}\n"


@on_both_transports
class SeveralTests(GatewayCase):
    """Listeners side by side."""

    async def test_all_kinds_at_once(self) -> None:
        """Listeners of several kinds serve the same routes at once."""
        gateway = self.start(listener() + listener(r"tcp6:0:interface=\:\:1") + listener("unix:s") + HELLO)
        answers = [await self.ask(gateway, b"hello\r\n", place) for place in range(3)]
        assert answers == [b"Hello\r\n"] * 3

    async def test_relative_unix_socket(self) -> None:
        """A unix socket's relative path is relative to the configuration file."""
        self.start(listener("unix:here.sock") + HELLO)
        folder = self.write("x", "").parent
        assert (folder / "here.sock").is_socket()

    async def test_limits_of_its_own(self) -> None:
        """Each listener has its own limits and counts its own connections."""
        gateway = self.start(
            listener(extra='name = "a"\nlimits = { max_connections = 1 }') + listener(extra='name = "b"') + HELLO
        )
        await self.connect(gateway, 0)
        assert await self.ask(gateway, b"hello\r\n", 0) == b"Too many queries, try again later\r\n"
        assert await self.ask(gateway, b"hello\r\n", 1) == b"Hello\r\n"

    async def test_routes_of_a_listener(self) -> None:
        """A route with ``listeners`` holds for those alone."""
        routes = '[[routes]]\nuser = "hello"\nlisteners = ["a"]\nbackends = ["map"]\n' + MAP
        gateway = self.start(listener(extra='name = "a"') + listener(extra='name = "b"') + routes)
        assert await self.ask(gateway, b"hello\r\n", 0) == b"Hello\r\n"
        assert await self.ask(gateway, b"hello\r\n", 1) == b"No such user\r\n"

    async def test_routes_for_clients(self) -> None:
        """A route with ``clients`` holds for those alone; for the rest the next route is tried."""
        routes = (
            '[[routes]]\nname = "a"\nuser = "hello"\nclients = ["10.0.0.0/8"]\nbackends = ["menu"]\n'
            '[[routes]]\nname = "b"\nuser = "hello"\nclients = ["127.0.0.1/32"]\nbackends = ["map"]\n'
        )
        gateway = self.start(listener() + listener("unix:s") + routes + MAP)
        assert await self.ask(gateway, b"hello\r\n", 0) == b"Hello\r\n"
        assert await self.ask(gateway, b"hello\r\n", 1) == b"No such user\r\n"

    async def test_menu(self) -> None:
        """The menu names only what this listener and this client can ask."""
        routes = "".join(
            f'[[routes]]\nuser = "{name}"\nsummary = "S"\n{condition}\nbackends = ["map"]\n'
            for name, condition in {
                "both": "",
                "first": 'listeners = ["a"]',
                "second": 'listeners = ["b"]',
                "local": 'clients = ["127.0.0.0/8"]',
                "remote": 'clients = ["10.0.0.0/8"]',
            }.items()
        )
        index = '[[routes]]\nindex = true\nbackends = ["menu"]\n'
        gateway = self.start(listener(extra='name = "a"') + listener(extra='name = "b"') + routes + index + MAP)
        menus = [(await self.ask(gateway, b"\r\n", place)).decode() for place in range(2)]
        names = [{line.split()[0] for line in menu.splitlines() if line.strip()} for menu in menus]
        assert [found & {"both", "first", "second", "local", "remote"} for found in names] == [
            {"both", "first", "local"},
            {"both", "second", "local"},
        ]


@on_both_transports
class WhoMayAskTests(GatewayCase):
    """``allow`` and ``deny``, for a client at 127.0.0.1."""

    async def _answer(self, rules: str, endpoint: str = ANY) -> bytes:
        gateway = self.start(listener(endpoint, rules) + HELLO + '[process]\nuser = "root"\n')

        def ask() -> bytes:
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as client,
            ):
                client.sendall(b"hello\r\n")
                return receive_all(client)
            return b""

        return await in_thread(ask)

    async def test_tables(self) -> None:
        """A client is served if it is allowed and not denied; one that is not gets nothing at all."""
        for rules, served in {
            "": True,
            'allow = ["127.0.0.0/8"]': True,
            'allow = ["10.0.0.0/8", "127.0.0.1"]': True,
            'allow = ["10.0.0.0/8"]': False,
            "allow = []": False,
            'deny = ["127.0.0.1"]': False,
            'deny = ["10.0.0.0/8"]': True,
            'allow = ["127.0.0.1"]\ndeny = ["127.0.0.0/8"]': False,
            'allow = ["::/0"]': False,
        }.items():
            assert await self._answer(rules) == (b"Hello\r\n" if served else b""), rules

    async def test_mapped(self) -> None:
        """On a listener for both families an IPv4 client counts as IPv4."""
        endpoint = r"tcp6:0:interface=\:\:"
        assert await self._answer('allow = ["127.0.0.1"]', endpoint) == b"Hello\r\n"
        assert await self._answer('deny = ["127.0.0.1"]', endpoint) == b""
        assert await self._answer('allow = ["::/0"]', endpoint) == b""

    async def test_unix_clients(self) -> None:
        """Clients on a unix socket have no address, so that these rules do not concern them."""
        gateway = self.start(listener("unix:s", 'allow = ["10.0.0.0/8"]') + HELLO)
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"

    async def test_denied_is_logged(self) -> None:
        """A client that may not ask leaves a line in the access log."""
        folder = self.write("x", "").parent
        gateway = self.start(listener(extra="allow = []") + HELLO.replace('"off"', '"access.log"'))
        await self.ask(gateway, b"hello\r\n")
        await gateway.stopService()
        (line,) = (folder / "access.log").read_text().splitlines()
        assert " denied " in line


@on_both_transports
class BindingTests(GatewayCase):
    """Listeners that cannot be bound."""

    def _taken(self) -> int:
        port = reactor.listenTCP(0, FingerFactory(make_listener()), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def _make(self, text: str) -> Gateway:
        service = fingergw.make_service(fingergw.load(self.write("fingergw.toml", text)), reactor)
        assert isinstance(service, Gateway)
        return service

    async def test_conflict(self) -> None:
        """The error names the listener and why; the listeners before and after it are stopped."""
        free = [free_port(), free_port()]
        taken = f"tcp:{self._taken()}:interface=127.0.0.1"
        gateway = self._make(
            listener(f"tcp:{free[0]}:interface=127.0.0.1")
            + listener(taken, 'name = "middle"')
            + listener(f"tcp:{free[1]}:interface=127.0.0.1")
            + HELLO
        )
        with pytest.raises(ListenError) as caught:
            gateway.privilegedStartService()
        assert str(caught.value).startswith(f'listener "middle" ({taken}) cannot be bound: Address already in use; ')
        await until(lambda: not any(map(listens, free)), "the end of the other listeners")

    async def test_own_port(self) -> None:
        """Where another listener of the gateway has the port, that one is named, and no process to stop."""
        in_use, has = "Address already in use: ", 'listener "a" has this port'
        includes = f"{in_use}{has}, and tcp6: includes IPv4; remove "
        advice = ", or have tcp6: name an IPv6 address in interface="
        for first, second, expected in (
            ("tcp:{0}:interface=127.0.0.1", "tcp:{0}", f"{in_use}{has}; choose another for one of the two"),
            ("tcp6:{0}", "tcp:{0}", f"{includes}this one{advice}"),
            ("tcp6:{0}", "tcp:{0}:interface=127.0.0.1:backlog=9", f"{includes}this one{advice}"),
            ("tcp:{0}", "tcp6:{0}", f'{includes}listener "a"{advice}'),
            ("unix:s", "unix:s:lockfile=0", 'listener "a" has this path; name another for one of the two'),
        ):
            port = free_port(socket.AF_INET6)
            a, b = (listener(each.format(port), f'name = "{name}"') for name, each in (("a", first), ("b", second)))
            gateway = self._make(a + b + HELLO)
            with pytest.raises(ListenError) as caught:
                gateway.privilegedStartService()
            assert str(caught.value).endswith(f") cannot be bound: {expected}")
            await until(lambda port=port: not listens(port), "the end of the listeners")  # type: ignore[misc]

    async def test_tcp_beside_an_address_of_tcp6(self) -> None:
        """What the message says works: tcp6: with an address, beside tcp: with the same port."""
        port = free_port()
        gateway = self.start(
            listener(f"tcp:{port}:interface=127.0.0.1") + listener(rf"tcp6:{port}:interface=\:\:1") + HELLO
        )
        assert [await self.ask(gateway, b"hello\r\n", place) for place in (0, 1)] == [b"Hello\r\n"] * 2

    async def test_can_be_started_again(self) -> None:
        """Once the address is free the same service can be started."""
        blocker = reactor.listenTCP(0, FingerFactory(make_listener()), interface="127.0.0.1")
        gateway = self._make(listener(f"tcp:{blocker.getHost().port}:interface=127.0.0.1") + HELLO)
        with pytest.raises(ListenError):
            gateway.privilegedStartService()
        await blocker.stopListening()
        gateway.privilegedStartService()
        gateway.startService()
        self.addCleanup(gateway.stopService)
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"

    async def test_restart(self) -> None:
        """A gateway that was stopped serves again when it is started again."""
        gateway = self.start(listener() + HELLO)
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"
        await gateway.stopService()
        gateway.privilegedStartService()
        gateway.startService()
        assert not gateway.listeners[0].connections.draining
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"

    async def test_missing_folder(self) -> None:
        """A unix socket whose folder goes before it is bound is named with its reason."""
        folder = self.write("x", "").with_name("none")
        folder.mkdir()
        gateway = self._make(listener("unix:none/s", 'name = "local"') + HELLO)
        folder.rmdir()
        with pytest.raises(ListenError, match=r'^listener "local" \(unix:.*none/s\) cannot be bound: No such file'):
            gateway.privilegedStartService()

    async def test_systemd_without_sockets(self) -> None:
        """A socket that systemd did not pass is named with its listener."""
        gateway = self._make(listener("systemd:domain=INET:name=public", 'name = "l"') + HELLO)
        with pytest.raises(
            ListenError, match=r'^listener "l" \(systemd:.*\) cannot be bound: systemd passed no socket'
        ):
            gateway.privilegedStartService()

    async def test_late_failure_stops_everything(self) -> None:
        """A failure after the start stops the reactor, and is there for the exit code."""
        stops: list[str] = []

        class Stoppable:
            def stop(self) -> None:
                stops.append("stop")

        binding: Deferred[Any] = Deferred()
        gateway = self._make(listener() + HELLO)
        gateway.reactor = Stoppable()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(binding_module, "parse", lambda *_: SlowEndpoint(binding))
            gateway.privilegedStartService()
        ready = Deferred.fromCoroutine(gateway.tell_ready())
        binding.errback(RuntimeError("no"))
        await ready
        assert (
            str(gateway.failure)
            == f"{gateway.listeners[0].socket.name} ({gateway.listeners[0].socket.description}) cannot be bound: no"
        )
        assert stops == ["stop"]

    async def test_late_failure(self) -> None:
        """An endpoint whose binding outlasts the start reports a failure when it comes, and none when it is stopped."""
        for stopped, expected in ((False, ['listener "l" (slow:) cannot be bound: no']), (True, [])):
            binding: Deferred[Any] = Deferred()
            own = make_listener()
            errors: list[str] = []
            service = ListenerService(
                Socket('listener "l"', "slow:", ("slow:", 0), lambda factory: factory), own, reactor
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(binding_module, "parse", lambda *_, binding=binding: SlowEndpoint(binding))
                service.privilegedStartService()
            bound = Deferred.fromCoroutine(_noted(service.bound(), errors))
            if stopped:
                await service.stopService()
            else:
                binding.errback(RuntimeError("no"))
            await bound
            assert errors == expected

    async def test_stop_under_tls(self) -> None:
        """A factory learns that its socket is closed, also if TLS is put before its connections."""
        folder = self.write("own.pem", "").parent
        issued(folder, "own.pem", GOOD)
        described = server(f"ssl:0:privateKey={folder}/own.pem:interface=127.0.0.1")
        stops: list[str] = []
        factory = Factory()
        factory.stopFactory = lambda: stops.append("stop")  # type: ignore[method-assign]
        place = (described.socket, 0)
        service = BoundService(Socket("[admin]", "ssl:", place, described.secured(reactor)), factory, reactor)
        service.privilegedStartService()
        await service.bound()
        await service.stopService()
        assert stops == ["stop"]


async def _noted(bound: Coroutine[Any, Any, None], errors: list[str]) -> None:
    try:
        await bound
    except ListenError as error:
        errors.append(str(error))


class SlowEndpoint:
    """An endpoint that binds when it is told to."""

    def __init__(self, binding: Deferred[Any]) -> None:
        self.binding = binding

    def listen(self, _: object) -> Deferred[Any]:
        """Bind, some time."""
        return self.binding


@on_both_transports
class DrainTests(GatewayCase):
    """What stopping does to connections."""

    async def test_answer_in_flight_and_idle_client(self) -> None:
        """Idle clients are closed on at once, an answer under way is finished first, and nobody new gets in."""
        gateway = self.start(listener() + HELLO)
        port = port_of(gateway)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        idle, asking = await self.connect(gateway), await self.connect(gateway)
        assert asking.transport is not None
        asking.transport.write(b"x\r\n")
        await until(lambda: backend.queries, "the query")
        stopping = gateway.stopService()
        assert await idle.closed == b""
        assert not stopping.called
        await until(lambda: not listens(port), "the end of the listener")
        backend.says.callback(Answered("late"))
        assert await asking.closed == b"late\r\n"
        await stopping

    async def test_bounded(self) -> None:
        """Stopping waits no longer than answer_timeout, and the client is told."""
        gateway = self.start(listener(extra="limits = { answer_timeout = 0.2 }") + HELLO)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        asking = await self.connect(gateway)
        assert asking.transport is not None
        asking.transport.write(b"x\r\n")
        await until(lambda: backend.queries, "the query")
        await gateway.stopService()
        assert await asking.closed == b"Internal error in server\r\n"

    async def test_long_answer_in_flight(self) -> None:
        """A long answer to a client that sent too much arrives whole while the gateway stops."""
        gateway = self.start(listener() + HELLO)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        asking = await self.connect(gateway)
        assert asking.transport is not None
        asking.transport.write(b"x\r\n" + b"more\r\n" * 1000)
        await until(lambda: backend.queries, "the query")
        stopping = gateway.stopService()
        backend.says.callback(Answered("y" * 60000))
        assert await asking.closed == b"y" * 60000 + b"\r\n"
        await stopping

    async def test_socket_that_cannot_be_removed(self) -> None:
        """Where a unix socket's file cannot be removed, which is logged, an answer under way is still finished."""
        gateway = self.start(listener("unix:s", 'name = "l"') + HELLO)
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        asking = await self.connect(gateway)
        assert asking.transport is not None
        asking.transport.write(b"x\r\n")
        await until(lambda: backend.queries, "the query")
        with capturedLogs() as events, pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "unlink", _not_permitted)
            stopping = gateway.stopService()
            await until(lambda: any("left behind" in str(event["log_format"]) for event in events), "the message")
            assert not stopping.called
            backend.says.callback(Answered("late"))
            assert await asking.closed == b"late\r\n"
            await stopping


def _not_permitted(*_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("systemd:domain=INET:name=x", "systemd:domain=INET:name=x"),
        ("systemd:domain=INET:name=x", "systemd:name=x:domain=INET6"),
        ("systemd:domain=UNIX:index=1", "SYSTEMD:domain=INET:index=01"),
    ],
)
def test_one_passed_socket_for_two(tmp_path: Path, one: str, other: str) -> None:
    """A socket that systemd passes can be for one listener alone, whatever domain each says that it is of."""
    path = tmp_path / "fingergw.toml"
    path.write_text(listener(one, 'name = "a"') + listener(other, 'name = "b"') + HELLO)
    config = fingergw.load(path)
    (problem,), _ = build.check(config, reactor)
    assert (problem.path, problem.message) == (
        ("listeners", 1, "endpoint"),
        "another listener uses this socket already; remove one of the two",
    )


def test_one_passed_socket_for_a_listener_and_the_admin_pages(tmp_path: Path) -> None:
    """A socket that a listener uses cannot have the admin pages, too."""
    path = tmp_path / "fingergw.toml"
    admin = '[admin]\nendpoint = "systemd:domain=INET6:name=x"\n'
    path.write_text(listener("systemd:domain=INET:name=x") + HELLO + admin)
    (problem,), _ = build.check(fingergw.load(path), reactor)
    assert (problem.path, problem.message) == (
        ("admin", "endpoint"),
        "a listener uses this socket already; choose another",
    )


def test_metrics_are_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what [admin] takes, check says what to install."""
    for module in ("fingergw.app.admin", "fingergw.telemetry.metrics"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    path = tmp_path / "fingergw.toml"
    path.write_text(listener() + HELLO + '[admin]\nendpoint = "tcp:9179"\n')
    (problem,), _ = build.check(fingergw.load(path), reactor)
    assert problem.path == ("admin", "endpoint")
    assert problem.message.endswith('which is not installed: pip install "fingergw[metrics]"')
