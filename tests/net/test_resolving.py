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
from twisted.internet.error import ConnectError, DNSLookupError
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
from tests.support.sockets import finger, free_port, receive_all
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


class Connect(TestCase):
    timeout = 30

    def listen(self) -> int:
        """Listen on the loopback, greet, and close."""

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"hello")
                self.transport.loseConnection()

        factory = Factory.forProtocol(Greeting)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def test_name(self) -> None:
        """A name that the system knows is connected to, at whichever of its addresses can be."""
        for resolver in (
            Resolver(reactor),
            Resolver(reactor, lambda *_: found("::1", "127.0.0.1")),
        ):
            endpoint = resolver.endpoint("localhost", self.listen(), timeout=5)
            assert await (await connectProtocol(endpoint, Client())).closed == b"hello"

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
