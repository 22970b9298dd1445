"""Hosts are looked up without holding anything else up."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from select import select
from threading import Event
from typing import Any
from unittest import mock

import pytest
from attrs import define, field
from twisted.internet.address import IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,  # noqa: A004  # Twisted's own
    DNSLookupError,
)
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fingergw.net import resolving
from fingergw.net.resolving import Resolver
from tests.support.gateway import Client
from tests.support.processes import COMMAND, ROOT, process, run
from tests.support.sockets import finger, free_port, receive_all, silent
from tests.support.waiting import DEADLINE_SECONDS, reactor, until


@define(eq=False)
class Call:
    """A call of getaddrinfo, in the thread where it hangs."""

    host: bytes
    says: Any = None
    ended: Event = field(factory=Event)

    def end(self, says: Any) -> None:
        """Say something, or raise it."""
        self.says = says
        self.ended.set()


@define(eq=False)
class System:
    """A getaddrinfo that hangs until it is told what to say; no name server on the loopback can be made to."""

    calls: list[Call] = field(factory=list)

    def __call__(self, host: bytes, *_: object) -> Any:
        call = Call(host)
        self.calls.append(call)
        call.ended.wait(DEADLINE_SECONDS)
        if isinstance(call.says, BaseException):
            raise call.says
        return call.says


def found(*hosts: str) -> list[Any]:
    """Return what getaddrinfo says of a host with these addresses."""
    return [socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0] for host in hosts]


ONE, OTHER = found("192.0.2.1"), found("192.0.2.2")


class Find(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.system = System()
        self.resolver = Resolver(reactor, self.system)
        self.addCleanup(self._end_all)

    def _end_all(self) -> None:
        for call in self.system.calls:
            call.end([])

    async def calls(self, count: int) -> list[Call]:
        """Wait until the system has been called so often, and return the calls."""
        await until(lambda: len(self.system.calls) >= count, f"call {count}")
        assert len(self.system.calls) == count
        return self.system.calls

    async def test_shared(self) -> None:
        """All who ask for a host while it is being looked up are told what that finds."""
        asking = [self.resolver.find("a.example") for _ in range(3)]
        (call,) = await self.calls(1)
        call.end(ONE)
        assert [await one for one in asking] == [ONE] * 3
        assert call.host == b"a.example"

    async def test_another_after_a_while(self) -> None:
        """A host whose lookup does not end is looked up once more after a while, and all who wait are told of that."""
        self.patch(resolving, "RETRY_SECONDS", 0.0)
        first = self.resolver.find("a.example")
        await self.calls(1)
        second = self.resolver.find("a.example")
        (await self.calls(2))[1].end(ONE)
        assert [await first, await second] == [ONE, ONE]

    async def test_one_of_several_that_fails(self) -> None:
        """A lookup that fails while another still runs decides nothing; the last of them does."""
        self.patch(resolving, "RETRY_SECONDS", 0.0)
        asking = self.resolver.find("a.example")
        await self.calls(1)
        other = self.resolver.find("a.example")
        calls = await self.calls(2)
        calls[1].end([])
        await until(lambda: calls[1].ended.is_set())
        calls[0].end(ONE)
        assert [await asking, await other] == [ONE, ONE]

    async def test_lookups_of_one_host_are_few(self) -> None:
        """However often a host is asked for, no more than a few of its lookups hang."""
        self.patch(resolving, "RETRY_SECONDS", 0.0)
        for _ in range(20):
            self.resolver.find("a.example").addErrback(lambda _: None)
        await self.calls(4)

    async def test_hung(self) -> None:
        """A lookup that hangs holds up no other host's, however many hang."""
        hung = [self.resolver.find(f"hung{number}.example") for number in range(40)]
        await self.calls(40)
        asking = self.resolver.find("a.example")
        (await self.calls(41))[-1].end(ONE)
        assert await asking == ONE
        assert not any(one.called for one in hung)

    async def test_nothing_kept(self) -> None:
        """A host that has been looked up is looked up again for the next who asks."""
        for count, addresses in ((1, ONE), (2, OTHER)):
            asking = self.resolver.find("a.example")
            (await self.calls(count))[-1].end(addresses)
            assert await asking == addresses

    async def test_cancelled(self) -> None:
        """Who cancels is let go at once; who asked with it is told all the same."""
        patient, hasty = self.resolver.find("a.example"), self.resolver.find("a.example")
        self.failureResultOf(self._cancel(hasty), CancelledError)
        (await self.calls(1))[0].end(ONE)
        assert await patient == ONE

    @staticmethod
    def _cancel(asking: Deferred[Any]) -> Deferred[Any]:
        asking.cancel()
        return asking

    async def test_cancelled_by_another(self) -> None:
        """Who is cancelled by one who has just been told is told nothing, and the next is."""
        first, second, third = (self.resolver.find("a.example") for _ in range(3))
        first.addCallback(lambda _: second.cancel())
        (await self.calls(1))[0].end(ONE)
        assert await third == ONE
        self.failureResultOf(second, CancelledError)

    async def test_nobody_waits(self) -> None:
        """When all have cancelled, the next who asks joins the lookup that still runs."""
        self.failureResultOf(self._cancel(self.resolver.find("a.example")), CancelledError)
        asking = self.resolver.find("a.example")
        (await self.calls(1))[0].end(ONE)
        assert await asking == ONE

    async def test_errors(self) -> None:
        """A host that the system does not know, or whose name is none, has no address."""
        for count, error in enumerate((socket.gaierror(-2, "no"), UnicodeError("long"), OSError("no")), 1):
            asking = self.resolver.find("a.example")
            (await self.calls(count))[-1].end(error)
            assert await asking == ()

    async def test_long_label(self) -> None:
        """A name that can be no host's has no address."""
        for host in (f"{'a' * 64}.example", f"{'ä' * 64}.example", "a..example"):
            assert await Resolver(reactor).find(host) == ()

    def test_address(self) -> None:
        """An address is its own, at once, and asks nobody."""
        for host in ("127.0.0.1", "::1", "192.0.2.1"):
            assert self.successResultOf(self.resolver.find(host)) == found(host)
        assert self.system.calls == []

    async def test_no_thread(self) -> None:
        """Where no thread can be had the host has no address, and the next time it is tried again."""
        with mock.patch("fingergw.net.resolving.Thread.start", side_effect=RuntimeError("can't start new thread")):
            assert await self.resolver.find("a.example") == ()
        asking = self.resolver.find("a.example")
        (await self.calls(1))[0].end(ONE)
        assert await asking == ONE

    async def test_unforeseen(self) -> None:
        """Whoever waits for a lookup that breaks is told that there is no address."""
        noted: list[Any] = []
        with mock.patch("threading.excepthook", noted.append):
            asking = self.resolver.find("a.example")
            (await self.calls(1))[0].end(LookupError("unknown encoding: idna"))
            assert await asking == ()
            await until(lambda: noted, "the traceback")


@implementer(IResolutionReceiver)
@define
class Told:
    """One who asks a name resolver.

    :param said: the name, the addresses, and None at the end.
    """

    said: list[Any] = field(factory=list)

    def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802
        self.said.append(resolution.name)

    def addressResolved(self, address: IAddress) -> None:
        self.said.append(address)

    def resolutionComplete(self) -> None:
        self.said.append(None)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_refused(host: str) -> None:
    """Where a host has one address, a refusal there is known at once, without waiting for another to be tried."""
    memory = MemoryReactorClock()
    asking = Resolver(memory).endpoint(host, 79, timeout=5).connect(Factory.forProtocol(Protocol))
    errors: list[Failure] = []
    asking.addErrback(errors.append)
    ((address, port, factory, *_),) = memory.tcpClients
    assert (address, port) == (host, 79)
    factory.clientConnectionFailed(None, Failure(ConnectError()))  # type: ignore[arg-type]
    assert [error.type for error in errors] == [ConnectError]


# No test here leaves a timer or a socket behind: trial fails those that do.
DEAD = tuple(f"127.0.0.{number}" for number in range(11, 17))
AT_ONCE_SECONDS = 0.9  # six times 0.3 s would be too long


class Connect(TestCase):
    timeout = 30

    def listen(self, host: str = "127.0.0.1", port: int = 0, greeting: bytes = b"hello") -> int:
        """Listen on the loopback, greet, and close; return the port."""

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(greeting)
                self.transport.loseConnection()

        listening = reactor.listenTCP(port, Factory.forProtocol(Greeting), interface=host)
        self.addCleanup(listening.stopListening)
        return int(listening.getHost().port)

    def hang(self, host: str, port: int) -> None:
        """Make an address of the loopback silent: one that connects there hears nothing."""
        self.addCleanup(silent(host, port).close)

    async def test_name(self) -> None:
        """A name that the system knows is connected to, at whichever of its addresses can be."""
        for resolver in (
            Resolver(reactor),
            Resolver(reactor, lambda *_: found("::1", "127.0.0.1")),
        ):
            endpoint = resolver.endpoint("localhost", self.listen(), timeout=5)
            assert await (await connectProtocol(endpoint, Client())).closed == b"hello"

    async def test_others_refuse(self) -> None:
        """Addresses that refuse cost next to nothing: not where another of the host's is connected to."""
        resolver = Resolver(reactor, lambda *_: found("::1", *DEAD, "127.0.0.1"))
        endpoint = resolver.endpoint("a.example", self.listen(), timeout=5)
        began = time.monotonic()
        assert await (await connectProtocol(endpoint, Client())).closed == b"hello"
        assert time.monotonic() - began < AT_ONCE_SECONDS

    async def test_all_refuse(self) -> None:
        """Addresses that refuse cost next to nothing: not where all of the host's do."""
        endpoint = Resolver(reactor, lambda *_: found(*DEAD)).endpoint("a.example", free_port(), timeout=5)
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            await connectProtocol(endpoint, Client())
        assert time.monotonic() - began < AT_ONCE_SECONDS

    async def test_other_is_silent(self) -> None:
        """An address that is silent is waited for shortly, and nothing of the attempt is left."""
        resolver = Resolver(reactor, lambda *_: found("127.0.0.2", "127.0.0.1"))
        port = self.listen()
        self.hang("127.0.0.2", port)
        began = time.monotonic()
        connected = await connectProtocol(resolver.endpoint("a.example", port, timeout=20), Client())
        assert 0.2 < time.monotonic() - began < 10
        assert await connected.closed == b"hello"

    async def test_cancelled_attempts(self) -> None:
        """Who gives up while addresses are silent is told so at once, and nothing of the attempts is left."""
        resolver, port = Resolver(reactor, lambda *_: found("127.0.0.2", "127.0.0.3")), free_port()
        self.hang("127.0.0.2", port)
        self.hang("127.0.0.3", port)
        before = set(reactor.getWriters())
        connecting = connectProtocol(resolver.endpoint("a.example", port, timeout=20), Client())
        await until(lambda: len(set(reactor.getWriters()) - before) == 2, "the second attempt")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        assert set(reactor.getWriters()) == before

    async def test_worked(self) -> None:
        """The address that worked is tried first the next time at that port, for as long as the host has it."""
        hosts = ["127.0.0.2", "127.0.0.1"]
        resolver = Resolver(reactor, lambda *_: found(*hosts))

        async def greeted(port: int) -> bytes:
            endpoint = resolver.endpoint("a.example", port, timeout=5)
            connected: Client = await connectProtocol(endpoint, Client())
            return await connected.closed

        port, other = self.listen("127.0.0.1", greeting=b"one"), self.listen("127.0.0.1", greeting=b"one")
        assert await greeted(port) == b"one"
        self.listen("127.0.0.2", port, b"two")
        self.listen("127.0.0.2", other, b"two")
        assert [await greeted(port), await greeted(other)] == [b"one", b"two"]
        hosts.remove("127.0.0.1")
        assert await greeted(port) == b"two"
        hosts.append("127.0.0.1")
        assert await greeted(port) == b"two"

    async def test_few_are_kept(self) -> None:
        """However many hosts and ports are connected to, what is kept of them is bounded: the latest."""
        self.patch(resolving, "MAX_WORKED", 2)
        resolver = Resolver(reactor)
        ports = [self.listen() for _ in range(3)]
        for port in (ports[0], ports[1], ports[0], ports[2]):
            await (await connectProtocol(resolver.endpoint("127.0.0.1", port, timeout=5), Client())).closed
        assert sorted(resolver.worked) == sorted([("127.0.0.1", ports[0]), ("127.0.0.1", ports[2])])

    async def test_scope(self) -> None:
        """A link-local address keeps its scope, beside others too."""
        link_local = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 1))
        resolver = Resolver(reactor, lambda *_: [link_local, *found("127.0.0.1")])
        with mock.patch.object(reactor, "connectTCP", wraps=reactor.connectTCP) as connect:
            endpoint = resolver.endpoint("a.example", self.listen(), timeout=5)
            assert await (await connectProtocol(endpoint, Client())).closed == b"hello"
        assert [call.args[0] for call in connect.call_args_list] == ["fe80::1%1", "127.0.0.1"]

    async def test_bind_address(self) -> None:
        """A connection can come from an address that is named; the host's addresses of another family are left out."""
        resolver = Resolver(reactor, lambda *_: found("::1", *DEAD, "127.0.0.1"))
        port = self.listen()
        with mock.patch.object(reactor, "connectTCP", wraps=reactor.connectTCP) as connect:
            endpoint = resolver.endpoint("a.example", port, timeout=5, bind_address="127.0.0.3")
            client = await connectProtocol(endpoint, Client())
            assert client.transport.getHost().host == "127.0.0.3"
            assert await client.closed == b"hello"
        assert [call.args[0] for call in connect.call_args_list] == [*DEAD, "127.0.0.1"]

    async def test_no_address_to_bind(self) -> None:
        """Where none of the host's addresses is of the family of the address to connect from, it says so."""
        for host, bind_address in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")):
            endpoint = Resolver(reactor).endpoint(host, 79, timeout=5, bind_address=bind_address)
            with pytest.raises(ConnectBindError, match=f"no address of {host} can be reached from {bind_address}"):
                await connectProtocol(endpoint, Client())

    async def test_underscore(self) -> None:
        """A name that Twisted takes for no host's is for the system to know."""
        resolver = Resolver(reactor, lambda *_: found("127.0.0.1"))
        endpoint = resolver.endpoint("the_host", self.listen(), timeout=5)
        assert await (await connectProtocol(endpoint, Client())).closed == b"hello"

    async def test_encoded(self) -> None:
        """An encoded name is looked up as it is, and not as what an older IDNA would make of it."""
        asked: list[bytes] = []

        def look_up(host: bytes, *_: object) -> Any:
            asked.append(host)
            return found("127.0.0.1")

        endpoint = Resolver(reactor, look_up).endpoint("xn--fa-hia.example", self.listen(), timeout=5)
        assert await (await connectProtocol(endpoint, Client())).closed == b"hello"
        assert asked == [b"xn--fa-hia.example"]

    async def test_as_reactor(self) -> None:
        """An endpoint that another has made with what passes for the reactor finds its host in the same way."""
        resolver = Resolver(reactor, lambda *_: found("127.0.0.1"))
        endpoint = HostnameEndpoint(resolver.as_reactor(), "a.example", self.listen())
        assert await (await connectProtocol(endpoint, Client())).closed == b"hello"

    async def test_name_resolver(self) -> None:
        """As a reactor's name resolver it keeps to Twisted's interfaces, and tells what is asked for."""
        system, told = System(), Told()
        names = Resolver(reactor, system).as_reactor().nameResolver
        verifyObject(IHostnameResolver, names)
        hasty = Told()
        resolution = names.resolveHostName(hasty, "a.example", 79)
        verifyObject(IHostResolution, resolution)
        resolution.cancel()
        names.resolveHostName(told, "a.example", 79, [IPv6Address], "UDP")
        await until(lambda: system.calls, "the call")
        system.calls[0].end(found("192.0.2.1", "2001:db8::1"))
        await until(lambda: None in told.said, "the end")
        assert told.said == ["a.example", IPv6Address("UDP", "2001:db8::1", 79), None]
        assert hasty.said == ["a.example"]

    async def test_unknown(self) -> None:
        """A host without an address is said to be unknown."""
        endpoint = Resolver(reactor, lambda *_: []).endpoint("a.example", 79, timeout=5)
        with pytest.raises(DNSLookupError, match=r"a\.example has no address"):
            await connectProtocol(endpoint, Client())

    async def test_cancelled(self) -> None:
        """Who gives up while the host is looked up is told so at once, and never connected."""
        system = System()
        endpoint = Resolver(reactor, system).endpoint("a.example", self.listen(), timeout=5)
        hasty, patient = Client(), Client()
        connecting = connectProtocol(endpoint, hasty)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        again = connectProtocol(endpoint, patient)  # joins its lookup
        await until(lambda: system.calls, "the call")
        system.calls[0].end(found("127.0.0.1"))
        await again
        assert await patient.closed == b"hello"
        assert hasty.transport is None


AFTER_THE_STOP = """
import threading
from twisted.internet import reactor
from fingergw.net.resolving import Resolver
stopped, never = threading.Event(), threading.Event()
resolver = Resolver(reactor, lambda host, *_: (stopped if host == b"a.example" else never).wait() and [])
reactor.callWhenRunning(resolver.find, "a.example")
reactor.callWhenRunning(resolver.find, "hung.example")
reactor.callWhenRunning(reactor.callLater, 0.05, reactor.stop)
reactor.run()
late, hung = [thread for thread in threading.enumerate() if thread.name == "getaddrinfo"]
stopped.set()
late.join(10)
print(late.is_alive(), hung.is_alive())
"""


def test_after_the_stop() -> None:
    """A lookup that ends after the reactor does so quietly, and one that never ends does not keep the process."""
    ended = subprocess.run(
        [sys.executable, "-c", AFTER_THE_STOP], capture_output=True, text=True, timeout=20, check=False, cwd=ROOT
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("False True\n", "", 0)


@pytest.fixture
def hung_dns(tmp_path: Path) -> Iterator[list[str]]:
    """Return a command that runs ``fingergw`` where the only name server never answers, and the timeout is minutes."""
    resolv_conf = tmp_path / "resolv.conf"
    shell = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv_conf)]
    resolv_conf.touch()
    try:
        subprocess.run([*shell, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"only root, where it may mount, can have a resolv.conf of its own: {error}")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((f"127.{random.randrange(1, 255)}.{random.randrange(255)}.{random.randrange(1, 255)}", 53))
        resolv_conf.write_text(f"nameserver {silent.getsockname()[0]}\noptions timeout:30 attempts:5\n")
        yield [*shell, *COMMAND]


HUNG_HOSTS = 12  # Twisted has 10 threads
ANSWER_SECONDS = 4


def ask(port: int, query: bytes) -> socket.socket:
    """Send a query, and do not wait for the answer."""
    client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
    client.sendall(query)
    return client


class TestHungDns:
    def write(self, folder: Path, upstream: int) -> tuple[list[str], int]:
        """Write a configuration with hung hosts and good ones; return the arguments that name it, and the port."""
        port = free_port()
        config = (
            f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
            f"[limits]\nanswer_timeout = {ANSWER_SECONDS}\n"
            f'[backends.noting]\ntype = "command"\nargv = ["/usr/bin/touch", "{folder}/noted"]\n'
        )
        hosts = {f"hung{number}": f"hung{number}.example" for number in range(HUNG_HOSTS)}
        for name, host in {**hosts, "name": f"localhost:{upstream}", "address": f"127.0.0.1:{upstream}"}.items():
            config += (
                f'[[routes]]\nuser = "{name}"\nbackends = ["{name}", "noting"]\n'
                f'[backends.{name}]\ntype = "http"\nurl = "http://{host}/"\ntimeout = 60\n'
            )
        path = folder / "fingergw.toml"
        path.write_text(config)
        return ["--config", str(path)], port

    def test_gateway(self, tmp_path: Path, hung_dns: list[str]) -> None:
        """Hosts that cannot be looked up hold up neither others nor the stop, and who gave up asks no other backend."""
        with serving(b"good") as upstream:
            arguments, port = self.write(tmp_path, upstream)
            with process(arguments, port=port, command=hung_dns) as running:
                hung = [ask(port, b"hung%d\r\n" % number) for number in range(HUNG_HOSTS)]
                assert finger(port, b"name\r\n") == finger(port, b"address\r\n") == b"good\r\n"
                assert select(hung, [], [], 0)[0] == []  # none of the others had to be given up before
                running.terminate()
                assert running.wait(ANSWER_SECONDS + 10) == 0
            for client in hung:
                with client:
                    assert receive_all(client) == b"Internal error in server\r\n"
        assert not (tmp_path / "noted").exists()

    def test_client(self, hung_dns: list[str]) -> None:
        """The client gives up at its timeout, and ends."""
        began = time.monotonic()
        ended = run(["query", "--timeout", "1", "who@hung.example"], command=hung_dns)
        assert time.monotonic() - began < 10
        assert (ended.stdout, ended.returncode) == ("", 1)


@contextlib.contextmanager
def serving(body: bytes) -> Iterator[int]:
    """Serve a body over HTTP from a process of its own, on a port of the loopback."""
    program = (
        "import sys, http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "  def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())\n"
        "s = h.HTTPServer(('127.0.0.1', 0), H); print(s.server_port, flush=True); s.serve_forever()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, body.decode()], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()
