"""The pages at which the gateway is watched, and what strangers can do there."""

from __future__ import annotations

import gc
import re
import tempfile
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from fingergw.admin import make_site
from fingergw.gateway import Gateway
from tests.support import HELLO, Client, RawServer, Upstream, reactor, response, until
from tests.watched import ADMIN, WatchedCase, parse_response

HERE = '[[listeners]]\nname = "here"\nendpoint = "tcp:0:interface=127.0.0.1"\n[log]\naccess = "off"\n'


class PagesTest(WatchedCase):
    async def test_health_and_readiness(self) -> None:
        """A gateway that serves is alive and ready, in words."""
        gateway = self.start(HERE + ADMIN + HELLO)
        health, ready = await self.get(gateway, "/healthz"), await self.get(gateway, "/readyz")
        self.assertEqual((health.status, health.body), (200, b"ok\n"))
        self.assertEqual((ready.status, ready.body), (200, b"ready\n"))
        self.assertEqual(ready.headers["content-type"], "text/plain; charset=utf-8")

    async def test_not_ready_until_all_listeners_are_bound(self) -> None:
        """While a listener is not bound the gateway is not ready, and says which one; it lives all the same."""
        gateway = self.start(HERE + ADMIN + HELLO)
        self.patch(gateway.listeners[0], "port", None)
        ready = await self.get(gateway, "/readyz")
        self.assertEqual((ready.status, ready.body), (503, b'listener "here" is not bound yet\n'))
        self.assertEqual((await self.get(gateway, "/healthz")).status, 200)
        self.assertIn(b"\nfingergw_ready 0.0\n", await self.scrape(gateway))

    async def test_not_ready_while_it_drains(self) -> None:
        """A gateway that finishes its last answers before it stops says so, to its end."""
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
        """HEAD tells of each page what GET does, without the page."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for path in ("/healthz", "/readyz", "/metrics", "/nothing"):
            whole, head = await self.get(gateway, path), await self.get(gateway, path, "HEAD")
            self.assertEqual(head.body, b"")
            self.assertEqual((head.status, head.headers["content-type"]), (whole.status, whole.headers["content-type"]))
            self.assertEqual(head.headers.get("content-length"), whole.headers.get("content-length"))

    async def test_nothing_else_is_there(self) -> None:
        """Other paths are not found, in words that tell which there are; the server's name is told nowhere."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for path in ("/", "//metrics", "/metrics/", "/metrics/x", "/Metrics", "/..%2fmetrics", "/%00"):
            found = await self.get(gateway, path)
            self.assertEqual(found.status, 404, path)
            self.assertIn(b"/metrics, /healthz and /readyz", found.body)
            self.assertNotIn("server", found.headers)

    async def test_other_methods(self) -> None:
        """What is not GET or HEAD is not allowed, known method or not."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "X"):
            refused = await self.get(gateway, "/healthz", method)
            self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET, HEAD"), method)
            self.assertEqual(refused.body, b"this can only be read\n")

    async def test_no_line_in_the_log(self) -> None:
        """Who watches leaves nothing in the log, whatever it asks for."""
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


class HostileTest(WatchedCase):
    def site(self, gateway: Gateway) -> tuple[Clock, Any]:
        """Serve the pages at a port of their own, whose clock stands still."""
        clock = Clock()
        site: Any = make_site(gateway, clock)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return clock, port

    async def ask_at(self, port: Any, request: bytes) -> Client:
        client = await self.connect_to(port.getHost().port)
        assert client.transport is not None
        client.transport.write(request)
        return client

    async def test_a_request_has_a_deadline(self) -> None:
        """A client that is slow to ask, to send a body or to read is cut off after 10 seconds, however busy it is."""
        gateway = self.start(HERE + ADMIN + HELLO)
        outcomes = gateway.listeners[0].factory.traffic.outcomes
        outcomes.update({(f"{number:>09000}", "answered"): 1 for number in range(1000)})  # more than sockets hold
        clock, port = self.site(gateway)
        asking = await self.ask_at(port, b"GET /healthz HTTP/1.1\r\n")
        sending = await self.ask_at(port, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
        reading = await self.ask_at(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: reading.received, "the metrics")
        assert reading.transport is not None
        reading.transport.pauseProducing()  # type: ignore[attr-defined]
        await until(lambda: len(port.factory._deadlines) == 3, "three connections")
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
        """However many connections somebody opens, the oldest go, and who asks is answered."""
        gateway = self.start(HERE + ADMIN + HELLO)
        _, port = self.site(gateway)
        idle = [await self.ask_at(port, b"GET /he") for _ in range(40)]
        await until(lambda: sum(client.reason is not None for client in idle) == 8, "the end of eight")
        self.assertEqual([client.reason is not None for client in idle], [True] * 8 + [False] * 32)
        client = await self.ask_at(port, b"GET /healthz HTTP/1.1\r\n\r\n")
        self.assertTrue((await client.closed).endswith(b"ok\n"))

    async def test_idle_connections_end_with_the_site(self) -> None:
        """When the endpoint is closed, what is still open there is closed too."""
        gateway = self.start(HERE + ADMIN + HELLO)
        clock, port = self.site(gateway)
        idle = await self.ask_at(port, b"GET /he")
        await until(lambda: port.factory._deadlines, "the connection")
        await port.stopListening()
        await idle.closed
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_huge_requests(self) -> None:
        """A header without end is cut off, a body is thrown away and never kept; queries are answered meanwhile."""
        gateway = self.start(HERE + ADMIN + HELLO)
        self.patch(tempfile, "TemporaryFile", lambda *_: self.fail("a body is kept in a file"))
        for header in (b"X-A: " + b"a" * 100_000, b"X-A: a\r\n" * 10_000):
            client = await self.ask_at(gateway._admin.port, b"GET /healthz HTTP/1.1\r\n" + header)  # type: ignore[union-attr]
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
        """What is no HTTP harms nothing, and leaves no error in the log."""
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
        """Metrics of many routes are made and sent piece by piece, so that queries can be answered between."""
        gateway = self.start(HERE + ADMIN + HELLO)
        traffic = gateway.listeners[0].factory.traffic
        for number in range(500):
            traffic.took(f"route {number}", 0.01)
        assert gateway._admin is not None
        scrape = await self.ask_at(gateway._admin.port, b"GET /metrics HTTP/1.1\r\n\r\n")
        self.assertEqual(await self.ask(gateway, b"hello\r\n"), b"Hello\r\n")
        received = await scrape.closed
        chunks = re.split(rb"\r\n[0-9a-f]+\r\n", received)
        self.assertLess(max(chunk.count(b"\n") for chunk in chunks), 500)
        text = parse_response(received).body
        self.assertEqual(text.count(b"# TYPE fingergw_query_duration_seconds histogram"), 1)
        self.assertEqual(text.count(b'_count{listener="here",route="route '), 500)

    async def test_scrapes_leave_nothing(self) -> None:
        """Of what a scrape makes nothing stays."""
        gateway = self.start(HERE + ADMIN + HELLO)
        await self.get(gateway, "/metrics")
        before = _objects_there_are()
        for _ in range(30):
            await self.get(gateway, "/metrics", accept="application/openmetrics-text")
            await self.get(gateway, "/healthz", "POST")
        more = _objects_there_are() - before
        self.assertEqual({kind for kind, count in more.items() if count >= 30}, set())


def _objects_there_are() -> Counter[str]:
    """Return how many objects there are of all kinds that a scrape can make."""
    gc.collect()
    modules = ("prometheus_client", "twisted.web", "fingergw.admin", "fingergw.metrics")
    kinds = (type(each) for each in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith(modules))
