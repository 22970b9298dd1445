"""The admin site: its pages, and its limits against strangers."""

from __future__ import annotations

import contextlib
import gc
import re
import socket
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

import fingergw
from fingergw.app.admin import make_site
from fingergw.app.build import build
from fingergw.app.gateway import Gateway
from tests.support.admin import ADMIN, AdminCase, parse_response
from tests.support.configuration import HELLO
from tests.support.gateway import Client
from tests.support.http_server import RawServer, Upstream, response
from tests.support.memory import traced
from tests.support.processes import forked
from tests.support.sockets import free_port, receive_all
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

HERE = '[[listeners]]\nname = "here"\nendpoint = "tcp:0:interface=127.0.0.1"\n[log]\naccess = "off"\n'


class PagesTest(AdminCase):
    async def test_health_and_readiness(self) -> None:
        """A running gateway answers that it is alive and ready."""
        gateway = self.start(HERE + ADMIN + HELLO)
        health, ready = await self.get(gateway, "/healthz"), await self.get(gateway, "/readyz")
        self.assertEqual((health.status, health.body), (200, b"ok\n"))
        self.assertEqual((ready.status, ready.body), (200, b"ready\n"))
        self.assertEqual(ready.headers["content-type"], "text/plain; charset=utf-8")

    async def test_not_ready_until_all_listeners_are_bound(self) -> None:
        """Until all listeners are bound, /readyz says which one is not; /healthz is ok."""
        gateway = self.start(HERE + ADMIN + HELLO)
        self.patch(gateway.listeners[0], "port", None)
        ready = await self.get(gateway, "/readyz")
        self.assertEqual((ready.status, ready.body), (503, b'listener "here" is not bound yet\n'))
        self.assertEqual((await self.get(gateway, "/healthz")).status, 200)
        self.assertIn(b"\nfingergw_ready 0.0\n", await self.scrape(gateway))

    async def test_not_ready_while_it_drains(self) -> None:
        """While a gateway sends its last answers before it stops, /readyz says so."""
        asked: list[RawServer] = []
        upstream = Upstream(self, lambda server, _: asked.append(server))
        route = '[[routes]]\nuser = "slow"\nbackends = ["web"]\n'
        backend = f'[backends.web]\ntype = "http"\nurl = "{upstream.url}/"\n'
        gateway = self.start(HERE + ADMIN + route + backend)
        answer = Deferred.fromCoroutine(self.ask(gateway, b"slow\r\n"))
        await until(lambda: asked, "the request")
        stopped = gateway.stopService()
        ready = await self.get(gateway, "/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn(b"stops", ready.body)
        asked[0].send(response(b"at last"))
        self.assertEqual(await answer, b"at last\r\n")
        await stopped

    async def test_head(self) -> None:
        """HEAD answers with the status and header of GET, and no body."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for path in ("/healthz", "/readyz", "/metrics", "/nothing"):
            whole, head = await self.get(gateway, path), await self.get(gateway, path, "HEAD")
            self.assertEqual(head.body, b"")
            self.assertEqual((head.status, head.headers["content-type"]), (whole.status, whole.headers["content-type"]))
            self.assertEqual(head.headers.get("content-length"), whole.headers.get("content-length"))

    async def test_not_found(self) -> None:
        """Other paths are 404, with a list of the pages. No response names the server's software."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for path in ("/", "//metrics", "/metrics/", "/metrics/x", "/Metrics", "/..%2fmetrics", "/%00"):
            found = await self.get(gateway, path)
            self.assertEqual(found.status, 404, path)
            self.assertIn(b"/metrics, /healthz and /readyz", found.body)
            self.assertNotIn("server", found.headers)

    async def test_other_methods(self) -> None:
        """Any method other than GET and HEAD is 405, known or not."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "X"):
            rejected = await self.get(gateway, "/healthz", method)
            self.assertEqual((rejected.status, rejected.headers["allow"]), (405, "GET, HEAD"), method)
            self.assertEqual(rejected.body, b"not allowed: use GET or HEAD\n")

    async def test_nothing_is_logged(self) -> None:
        """Requests leave nothing in the log."""
        gateway = self.start(HERE + ADMIN + HELLO)
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for path in ("/metrics", "/healthz", "/nothing"):
            await self.get(gateway, path)
            await self.get(gateway, path, "HEAD")
            await self.get(gateway, path, "POST")
        own = [event for event in events if "OneShotFactory" not in event["log_namespace"]]  # the test's clients
        self.assertEqual([event for event in own if event["log_level"].name != "debug"], [])


KNOWN = ["localhost", "LocalHost", "localhost.", "localhost:9179", "localhost:", "127.0.0.1", "192.0.2.7:80", "[::1]"]
KNOWN += ["[2001:DB8::7]:9179", "[::ffff:127.0.0.1]", "gateway-1.example.org", "Gateway-1.EXAMPLE.org."]
KNOWN += ["gateway-1.example.org:9179"]
UNKNOWN = ["evil.example", "evil.example:9179", "127.0.0.1.evil.example", "localhost.evil.example", "evil@localhost"]
UNKNOWN += ["localhost@evil.example", "localhost:9179@evil.example", "localhost/evil.example", "localhost#evil.example"]
UNKNOWN += ["localhost?x", "evil.example,localhost", "localhost evil.example", "http://localhost", "x%00localhost"]
UNKNOWN += ["localhost:x", "localhost:123456", "localhost:1:2", ":", "localhost..", ".localhost", "localh\u00f6st"]
UNKNOWN += ["localhost\xa0", "gateway-1", "x.gateway-1.example.org", "gateway-1.example.orgx", "0x7f.1", "127.1"]
UNKNOWN += [
    "2130706433",
    "::1",
    "[::1",
    "[127.0.0.1]",
    "[::1]evil.example",
    "[evil.example]",
    "[localhost]",
    "[::1%25lo]",
]


class NamesTest(AdminCase):
    def gateway(self) -> Gateway:
        """Start a gateway with a name in hosts."""
        return self.start(HERE + ADMIN + 'hosts = ["Gateway-1.example.org"]\n' + HELLO)

    async def status(self, gateway: Gateway, *headers: str, target: str = "/healthz", version: str = "1.1") -> int:
        request = "\r\n".join((f"GET {target} HTTP/{version}", *headers, "", ""))
        return (await self.request(gateway, request.encode("latin-1"))).status

    async def test_known(self) -> None:
        """Host may be an IP address, localhost or a name in hosts, in any case, with or without a port."""
        gateway = self.gateway()
        for host in KNOWN:
            assert await self.status(gateway, f"Host: {host}") == 200, host

    async def test_reload(self) -> None:
        """A reload changes the known hosts from the next request on."""
        gateway = self.gateway()
        assert await self.status(gateway, "Host: other.example.org") == 421
        text = HERE + ADMIN + 'hosts = ["other.example.org."]\n' + HELLO
        parts, found = build(fingergw.load(self.write("fingergw.toml", text)), gateway.parts, gateway.environment)
        assert found == []
        await gateway.change_to(parts)
        assert await self.status(gateway, "Host: other.example.org") == 200
        assert await self.status(gateway, "Host: gateway-1.example.org") == 421

    async def test_unknown(self) -> None:
        """Any other host gets 421, which says which key to set and nothing else."""
        gateway = self.gateway()
        for host in UNKNOWN:
            for path in ("/healthz", "/metrics", "/readyz", "/nothing"):
                request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
                rejected = await self.request(gateway, request)
                assert rejected.head.startswith("HTTP/1.1 421 Misdirected Request\r\n"), host
                assert b"hosts in [admin]" in rejected.body
                assert b"evil" not in rejected.body

    async def test_without(self) -> None:
        """A request without Host is answered: browsers always send it."""
        gateway = self.gateway()
        assert await self.status(gateway) == 200
        assert await self.status(gateway, version="1.0") == 200

    async def test_several(self) -> None:
        """One unknown host among several is rejected, in any order, and in any case of the header's name."""
        gateway = self.gateway()
        assert await self.status(gateway, "Host: localhost", "hOST: evil.example") == 421
        assert await self.status(gateway, "Host: evil.example", "Host: localhost") == 421
        assert await self.status(gateway, "Host: localhost", "Host: 127.0.0.1") == 200
        assert await self.status(gateway, "Host: localhost", " evil.example") == 421  # a header may go on in a new line
        assert await self.status(gateway, "Host:") == 421

    async def test_absolute_target(self) -> None:
        """The host in an absolute target must be known too, whatever Host says."""
        gateway = self.gateway()
        for target in (
            "http://evil.example/",
            "http://evil.example",
            "HTTPS://evil.example/metrics",
            "x://evil/healthz",
        ):
            assert await self.status(gateway, "Host: localhost", target=target) == 421, target
        assert await self.status(gateway, "Host: localhost", target="http://localhost@evil.example/") == 421
        assert await self.status(gateway, "Host: localhost", target="//evil.example/metrics") == 404

    async def test_head(self) -> None:
        """A 421 to HEAD has no body."""
        gateway = self.gateway()
        head = await self.request(gateway, b"HEAD /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (head.status, head.body) == (421, b"")


class HostileTest(AdminCase):
    def site(self, gateway: Gateway) -> tuple[Clock, Any]:
        """Serve the admin site on another port, with a clock that stands still."""
        clock = Clock()
        site: Any = make_site(gateway, clock)
        port = reactor.listenTCP(0, site, backlog=1000, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return clock, port

    async def ask_at(self, port: Any, request: bytes) -> Client:
        client = await self.connect_to(port.getHost().port)
        assert client.transport is not None
        client.transport.write(request)
        return client

    async def test_a_request_has_a_deadline(self) -> None:
        """A client that is slow to send its request or to read is cut off after 10 seconds."""
        gateway = self.start(HERE + ADMIN + HELLO)
        outcomes = gateway.listeners[0].connections.meter.outcomes
        outcomes.update({(f"{number:>09000}", "answered"): 1 for number in range(1000)})  # more than sockets hold
        clock, port = self.site(gateway)
        asking = await self.ask_at(port, b"GET /healthz HTTP/1.1\r\n")
        sending = await self.ask_at(port, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
        reading = await self.ask_at(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: reading.received, "the metrics")
        assert reading.transport is not None
        reading.transport.pauseProducing()  # type: ignore[attr-defined]
        await until(lambda: len(port.factory.idle) + len(port.factory.asking) == 3, "three connections")
        clock.advance(9.9)
        assert asking.transport is not None
        asking.transport.write(b"X-Still: here\r\n")
        self.assertEqual((await self.get(gateway, "/healthz")).status, 200)  # and all that was sent has been read
        clock.advance(0.1)
        await asking.closed
        await sending.closed
        reading.transport.resumeProducing()  # type: ignore[attr-defined]
        self.assertNotIn(b"\r\n0\r\n\r\n", await reading.closed)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_idle_connections_give_way(self) -> None:
        """When there are too many idle connections, the oldest are closed, and requests are still answered."""
        gateway = self.start(HERE + ADMIN + HELLO)
        _, port = self.site(gateway)
        idle = [await self.ask_at(port, b"GET /he") for _ in range(136)]
        await until(lambda: sum(client.reason is not None for client in idle) == 8, "the end of eight")
        self.assertEqual([client.reason is not None for client in idle], [True] * 8 + [False] * 128)
        client = await self.ask_at(port, b"GET /healthz HTTP/1.1\r\n\r\n")
        self.assertTrue((await client.closed).endswith(b"ok\n"))

    async def test_requests_that_have_arrived_are_answered(self) -> None:
        """However many clients connect in the same instant, a request that has arrived is answered."""
        gateway = self.start(HERE + ADMIN + HELLO)
        _, port = self.site(gateway)
        address = ("127.0.0.1", port.getHost().port)
        with contextlib.ExitStack() as sockets:
            # nothing is accepted before all of them are there: the reactor does not run
            asking = sockets.enter_context(socket.create_connection(address))
            asking.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            for number in range(300):
                idle = sockets.enter_context(socket.create_connection(address))
                if number % 2:
                    idle.sendall(b"GET /he")
            received = await deferToThread(_read_all, asking)
        self.assertTrue(received.endswith(b"ok\n"))

    async def test_clients_that_do_not_read_give_way(self) -> None:
        """When too many clients do not read their answers, the oldest are closed."""
        gateway = self.start(HERE + ADMIN + HELLO)
        outcomes = gateway.listeners[0].connections.meter.outcomes
        outcomes.update({(f"{number:>09000}", "answered"): 1 for number in range(1000)})  # more than sockets hold
        _, port = self.site(gateway)
        stuck = []
        for _ in range(34):
            client = await self.ask_at(port, b"GET /metrics HTTP/1.1\r\n\r\n")
            await until(lambda client=client: client.received, "the metrics")  # type: ignore[misc]
            client.transport.pauseProducing()  # type: ignore[union-attr]
            stuck.append(client)
        self.assertLessEqual(len(port.factory.asking), 32)
        client = await self.ask_at(port, b"GET /healthz HTTP/1.1\r\n\r\n")
        self.assertTrue((await client.closed).endswith(b"ok\n"))

    async def test_names_of_headers_leave_nothing(self) -> None:
        """Unknown header names are not cached, however many there are; long ones are rejected."""
        gateway = self.start(HERE + ADMIN + HELLO)
        trailer = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-T: 1\r\n" * 50 + b"\r\n"
        await self.get(gateway, "/healthz")
        await self.request(gateway, trailer)
        with traced() as held:
            for number in range(20):
                names = b"".join(b"X-%d-%d: x\r\n" % (number, place) for place in range(400))
                request = b"GET /healthz HTTP/1.1\r\n%sHOST: localhost\r\n\r\n" % names
                self.assertEqual((await self.request(gateway, request)).status, 200)
            self.assertLess(held(), 500_000)  # Twisted would keep twice as much
        for name, status in ((b"a" * 15_000, 431), (b"a" * 257, 431), (b"a" * 256, 200), (b"a b", 400), (b"", 400)):
            for end in (b"", b"Host: localhost\r\n"):
                request = b"GET /healthz HTTP/1.1\r\n" + name + b": x\r\n" + end + b"\r\n"
                self.assertEqual((await self.request(gateway, request)).status, status)
        for case in range(40):
            cased = "".join(each.upper() if case >> place & 1 else each for place, each in enumerate("accept"))
            self.assertEqual(
                (await self.request(gateway, f"GET /healthz HTTP/1.1\r\n{cased}: x\r\n\r\n".encode())).status, 200
            )
        self.assertEqual((await self.request(gateway, trailer)).status, 405)

    async def test_idle_connections_end_with_the_site(self) -> None:
        """Closing the endpoint closes its connections."""
        gateway = self.start(HERE + ADMIN + HELLO)
        clock, port = self.site(gateway)
        idle = await self.ask_at(port, b"GET /he")
        await until(lambda: port.factory.idle, "the connection")
        await port.stopListening()
        await idle.closed
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_huge_requests(self) -> None:
        """An endless header is cut off, a body is discarded, and queries are answered meanwhile."""
        gateway = self.start(HERE + ADMIN + HELLO)
        self.patch(tempfile, "TemporaryFile", lambda *_: self.fail("a body is kept in a file"))
        for header in (b"X-A: " + b"a" * 100_000, b"X-A: a\r\n" * 10_000):
            client = await self.ask_at(gateway.admin.port, b"GET /healthz HTTP/1.1\r\n" + header)  # type: ignore[union-attr]
            self.assertNotIn(b"200", await client.closed)
        for head, body in (
            (b"Content-Length: 3000000", b"x" * 3_000_000),
            (b"Transfer-Encoding: chunked", b"2dc6c0\r\n" + b"x" * 3_000_000 + b"\r\n0\r\n\r\n"),
        ):
            request = b"POST /metrics HTTP/1.1\r\n" + head + b"\r\n\r\n" + body
            posted = Deferred.fromCoroutine(self.request(gateway, request))
            self.assertEqual(await self.ask(gateway, b"hello\r\n"), b"Hello\r\n")
            self.assertEqual((await posted).status, 405)

    async def test_broken_requests(self) -> None:
        """Malformed HTTP gets 400, and leaves no error in the log."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for request in (
            b"\r\n\r\nhello\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            self.assertEqual((await self.request(gateway, request)).status, 400, request)
        self.assertEqual((await self.get(gateway, "/healthz")).status, 200)

    async def test_a_long_scrape_comes_in_pieces(self) -> None:
        """A large metrics page is formatted and sent in pieces, and queries are answered in between."""
        gateway = self.start(HERE + ADMIN + HELLO)
        meter = gateway.listeners[0].connections.meter
        for number in range(500):
            meter.times[f"route {number}"].add(0.01)
        assert gateway.admin is not None
        scrape = await self.ask_at(gateway.admin.port, b"GET /metrics HTTP/1.1\r\n\r\n")
        self.assertEqual(await self.ask(gateway, b"hello\r\n"), b"Hello\r\n")
        received = await scrape.closed
        chunks = re.split(rb"\r\n[0-9a-f]+\r\n", received)
        self.assertLess(max(chunk.count(b"\n") for chunk in chunks), 500)
        text = parse_response(received).body
        self.assertEqual(text.count(b"# TYPE fingergw_query_duration_seconds histogram"), 1)
        self.assertEqual(text.count(b'_count{listener="here",route="route '), 500)

    async def test_scrapes_leave_nothing(self) -> None:
        """Scrapes leave no objects behind."""
        gateway = self.start(HERE + ADMIN + HELLO)
        await self.get(gateway, "/metrics")
        before = _objects_there_are()
        for _ in range(30):
            await self.get(gateway, "/metrics", accept="application/openmetrics-text")
            await self.get(gateway, "/healthz", "POST")
        more = _objects_there_are() - before
        self.assertEqual({kind for kind, count in more.items() if count >= 30}, set())


@pytest.mark.parametrize("sent", [b"", b"GET /he", b"GET / HTTP/1.1\r\nX: "])
def test_flood(sent: bytes, tmp_path: Path) -> None:
    """A request is answered, however many clients connect after it."""
    port, admin = free_port(), free_port()
    file = tmp_path / "fingergw.toml"
    file.write_text(HERE.replace("tcp:0", f"tcp:{port}") + ADMIN.replace("tcp:0", f"tcp:{admin}"))
    with forked(["--config", str(file)], port=port), contextlib.ExitStack() as sockets:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", admin), timeout=DEADLINE_SECONDS) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                _connect(admin, sent, sockets, 160)
                assert receive_all(client).endswith(b"\r\n\r\nok\n")


def _connect(port: int, sent: bytes, sockets: contextlib.ExitStack, count: int) -> None:
    """Open connections, send something on each, and read nothing."""
    for _ in range(count):
        client = sockets.enter_context(socket.socket())
        client.settimeout(DEADLINE_SECONDS)
        with contextlib.suppress(ConnectionError):  # it may be gone already, even before it knows that it is connected
            client.connect(("127.0.0.1", port))
            client.sendall(sent)


def _read_all(client: socket.socket) -> bytes:
    client.settimeout(DEADLINE_SECONDS)
    return receive_all(client)


def _objects_there_are() -> Counter[str]:
    """Count the objects of all classes that a scrape can create."""
    gc.collect()
    modules = ("prometheus_client", "twisted.web", "fingergw.app.admin", "fingergw.telemetry.metrics")
    kinds = (type(each) for each in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith(modules))
