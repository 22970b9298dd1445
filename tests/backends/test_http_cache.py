"""The cache in front of the http backend, with a real server on the loopback that counts what it is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import partial
from typing import Any
from unittest import mock

import tomli_w
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.app.gateway import Gateway
from fingergw.cache import cached_backend as cache_backend
from fingergw.cache.cached_backend import CachedBackend
from fingergw.cache.entry import Entry
from fingergw.core.query import Query
from tests.support.cache_bench import in_memory
from tests.support.gateway import Client, caches
from tests.support.http_server import (
    CHUNKED,
    HEAD,
    INTERNAL_ERROR,
    HttpCase,
    RawServer,
    Script,
    Upstream,
    chunk,
    in_turn,
    response,
    says,
)
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

NO_SUCH_USER = b"No such user\r\n"
NEXT = b"next in the chain\r\n"
LONG = 3600
SHORT = 0.05
OOPS = response(b"", status="500 Oops")
NOT_FOUND = response(b"", status="404 Not Found")
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
TAGGED = 'ETag: "one"\r\n'


def field_of(head: bytes, name: str) -> str | None:
    """Return a request's header field, None if there is none."""
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return None


def path_of(head: bytes) -> str:
    """Return what a request asks for."""
    return head.split(b" ")[1].decode()


def conditions_of(head: bytes) -> tuple[str | None, str | None]:
    """Return the conditions that a request makes."""
    return field_of(head, "If-None-Match"), field_of(head, "If-Modified-Since")


def numbered(*extras: str) -> Script:
    """Return a script that answers the n-th request by its number.

    :param extras: header fields of the first answer, the second and so on; the last is for all that follow.
    """

    def script(server: RawServer, _: bytes) -> None:
        number = len(server.requests)
        extra = extras[min(number, len(extras)) - 1] if extras else ""
        server.send(response(b"answer %d" % number, extra=extra))

    return script


failing = says(OOPS)


def at_paths(scripts: Mapping[str, Script]) -> Script:
    """Return a script that does what there is for a request's path."""
    return lambda server, head: scripts[path_of(head)](server, head)


def unchanged(extra: str = "") -> Script:
    """Return a script that says that nothing has changed."""
    return says(f"HTTP/1.1 304 Not Modified\r\n{extra}\r\n".encode())


def redirect(place: str, extra: str = "") -> Script:
    """Return a script that redirects."""
    return says(response(b"", status="302 Found", extra=f"Location: {place}\r\n{extra}"))


class CacheCase(HttpCase):
    """Tests with a gateway whose http backend keeps answers."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def cached(
        self,
        url: str,
        *,
        ttl: float = LONG,
        stale: float = LONG,
        negative_ttl: float = LONG,
        stale_while_revalidate: float | None = None,
        **settings: Any,
    ) -> Gateway:
        """Start a gateway in which one URL, whose answers are kept, answers everything."""
        cache = {"ttl": ttl, "stale": stale, "negative_ttl": negative_ttl}
        if stale_while_revalidate is not None:
            cache["stale_while_revalidate"] = stale_while_revalidate
        return self.gateway(url, cache=cache, **settings)

    def chained(self, url: str, *, ttl: float = LONG, stale: float = LONG, **settings: Any) -> Gateway:
        """Start a gateway like that, in which a text is next in the chain."""
        web = {"type": "http", "url": url, "cache": {"ttl": ttl, "stale": stale}, **settings}
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [
                        {"endpoint": "tcp:0:interface=127.0.0.1", "limits": {"max_connections_per_client": 1000}}
                    ],
                    "routes": [{"backends": ["web", "next"], "pattern": "*"}],
                    "backends": {"web": web, "next": {"type": "static", "text": "next in the chain"}},
                    "log": {"access": "off"},
                }
            )
        )

    def recheck_after(self, seconds: float) -> None:
        """Have the next refresh begin so long after one that has failed."""
        patch = mock.patch.object(cache_backend, "RECHECK_SECONDS", seconds)
        patch.start()
        self.addCleanup(patch.stop)

    @staticmethod
    def cache(gateway: Gateway) -> CachedBackend:
        """Return the cache itself."""
        (cache,) = caches(gateway)
        return cache

    def entry(self, gateway: Gateway, user: str = "x") -> Entry:
        """Return what is kept for a name."""
        entry = in_memory(self.cache(gateway), Query(user))[1]
        assert entry is not None
        return entry

    async def state(self, gateway: Gateway, *states: str, user: str = "x") -> None:
        """Wait until what is kept has become one of these."""
        await until(lambda: in_memory(self.cache(gateway), Query(user))[0] in states, f"the state {states}")

    async def failed(self, gateway: Gateway, times: int = 1) -> None:
        """Wait until asking upstream has failed so often."""
        await until(lambda: self.cache(gateway).counts["failed"] >= times, f"failure {times}")

    async def eventually(self, gateway: Gateway, answer: bytes, query: bytes = b"x\r\n") -> None:
        """Ask until the answer is this one."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while (got := await self.ask(gateway, query)) != answer:
            assert time.monotonic() < ends, f"{got!r} and not {answer!r}"
            await deferLater(reactor, 0.01)

    async def asked(self, gateway: Gateway, upstream: Upstream, times: int, query: bytes = b"x\r\n") -> bytes:
        """Ask until upstream has been asked so often; return the last answer."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = await self.ask(gateway, query)
            if len(upstream.requests) >= times:
                return answer
            assert time.monotonic() < ends, f"{len(upstream.requests)} requests and not {times}"
            await deferLater(reactor, 0.01)

    async def sent(self, gateway: Gateway, query: bytes = b"x\r\n") -> Client:
        """Send a query and do not wait for its answer."""
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(query)
        return client

    def logged(self, part: str = "backend web failed") -> list[str]:
        """Return what was logged of failures."""
        return [text for text in map(formatEvent, self.events) if part in text]


class FreshTests(CacheCase):
    """Answers that are fresh, or only so old that they may still be served."""

    async def test_fresh(self) -> None:
        """While an answer is fresh, upstream is asked once."""
        upstream = self.upstream(numbered())
        gateway = self.cached(upstream.url)
        for _ in range(5):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert len(upstream.requests) == 1
        assert +self.cache(gateway).counts == {"absent": 1, "fresh": 4}

    async def test_many_at_once(self) -> None:
        """However many ask at once, upstream is asked once, and all have its answer, also when it comes late."""
        upstream = self.upstream(says())
        gateway = self.cached(upstream.url)
        clients = [await self.sent(gateway) for _ in range(200)]
        await until(lambda: self.cache(gateway).counts["absent"] == 200, "the last query")
        await until(partial(len, upstream.requests))
        upstream.connections[0].send(response(b"late"))
        assert {await client.closed for client in clients} == {b"late\r\n"}
        assert len(upstream.requests) == 1

    async def test_many_at_once_and_a_failure(self) -> None:
        """If that request fails, the next in the chain answers all of them."""
        upstream = self.upstream(says())
        gateway = self.chained(upstream.url)
        clients = [await self.sent(gateway) for _ in range(20)]
        await until(lambda: self.cache(gateway).counts["absent"] == 20, "the last query")
        await until(partial(len, upstream.requests))
        upstream.connections[0].close()
        assert {await client.closed for client in clients} == {NEXT}
        assert len(upstream.requests) == 1

    async def test_stale_is_served_at_once(self) -> None:
        """A stale answer is served while its refresh hangs, of which there is one."""
        upstream = self.upstream(in_turn(numbered(), says()))
        gateway = self.cached(upstream.url, ttl=SHORT)
        assert await self.asked(gateway, upstream, 2) == b"answer 1\r\n"
        for _ in range(5):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert len(upstream.requests) == 2
        assert not upstream.connections[0].lost.called  # it hangs still
        upstream.connections[0].send(response(b"refreshed"))
        await self.eventually(gateway, b"refreshed\r\n")

    async def test_refresh_outlives_who_caused_it(self) -> None:
        """A refresh goes on when the client whose query began it is gone."""
        upstream = self.upstream(in_turn(numbered(), says()))
        gateway = self.cached(upstream.url, ttl=SHORT)
        await self.asked(gateway, upstream, 2)
        await until(lambda: not gateway.listeners[0].connections.open, "the end of all clients")
        upstream.connections[0].send(response(b"refreshed", extra="Cache-Control: max-age=3600\r\n"))
        await until(lambda: in_memory(self.cache(gateway), Query("x"))[0] == "fresh", "the refresh")
        assert await self.ask(gateway, b"x\r\n") == b"refreshed\r\n"

    async def test_never_stale(self) -> None:
        """With stale = 0 nothing is served after its ttl: who causes a request has its answer."""
        upstream = self.upstream(numbered())
        gateway = self.cached(upstream.url, ttl=SHORT, stale=0)
        ends = time.monotonic() + DEADLINE_SECONDS
        while len(upstream.requests) < 3 and time.monotonic() < ends:
            answer = await self.ask(gateway, b"x\r\n")
            assert answer == b"answer %d\r\n" % len(upstream.requests)
        assert len(upstream.requests) == 3

    async def test_stale_has_an_end(self) -> None:
        """When the time in which it may be stale is over too, upstream's answer is waited for."""
        upstream = self.upstream(numbered())
        gateway = self.cached(upstream.url, ttl=SHORT, stale=SHORT)
        await self.ask(gateway, b"x\r\n")
        await self.state(gateway, "absent")
        assert await self.ask(gateway, b"x\r\n") == b"answer 2\r\n"

    async def test_a_refresh_that_hangs_until_stale_has_an_end(self) -> None:
        """Who asks when an answer is no longer stale joins the refresh that is under way."""
        upstream = self.upstream(in_turn(numbered(), says()))
        gateway = self.cached(upstream.url, ttl=SHORT)
        await self.asked(gateway, upstream, 2)
        entry = self.entry(gateway)
        entry.stale_until = entry.error_until = entry.keep_until = entry.fresh_until  # as if so much time had passed
        client = await self.sent(gateway)
        await until(lambda: self.cache(gateway).counts["absent"] == 2, "the query")
        upstream.connections[0].send(response(b"refreshed"))
        assert await client.closed == b"refreshed\r\n"
        assert len(upstream.requests) == 2

    async def test_no_name_is_refreshed_for_another(self) -> None:
        """Each name's answer is refreshed by itself."""
        upstream = self.upstream(lambda server, head: server.send(response(f"at {path_of(head)}".encode())))
        gateway = self.cached(upstream.url + "/{user}", ttl=SHORT)
        for name in (b"a", b"b"):
            await self.ask(gateway, name + b"\r\n")
        await self.state(gateway, "stale", user="a")
        await self.state(gateway, "stale", user="b")
        for name in (b"a", b"b"):
            assert await self.ask(gateway, name + b"\r\n") == b"at /" + name + b"\r\n"
        await until(lambda: len(upstream.requests) == 4, "both refreshes")
        assert sorted(map(path_of, upstream.requests)) == ["/a", "/a", "/b", "/b"]


class WaitingTests(CacheCase):
    """Answers that are old only if upstream fails: ``stale_while_revalidate = 0``."""

    async def expired(self, script: Script, **settings: Any) -> tuple[Gateway, Upstream]:
        """Return a gateway with an answer whose ttl has passed, and its upstream, which goes on as the script says."""
        upstream = self.upstream(in_turn(numbered(), script))
        gateway = self.cached(upstream.url, ttl=SHORT, stale_while_revalidate=0, **settings)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        await self.state(gateway, "expired")
        return gateway, upstream

    async def test_new(self) -> None:
        """While upstream is well, each query after ttl has the answer of its own request."""
        gateway, upstream = await self.expired(numbered())
        for number in range(2, 6):
            assert await self.ask(gateway, b"x\r\n") == b"answer %d\r\n" % number
            await self.state(gateway, "expired")
        assert len(upstream.requests) == 5

    async def test_many_at_once(self) -> None:
        """Those who come while one waits wait with it for the same new answer."""
        gateway, upstream = await self.expired(says())
        clients = [await self.sent(gateway) for _ in range(50)]
        await until(lambda: self.cache(gateway).counts["expired"] == 50, "the last query")
        await until(lambda: len(upstream.requests) == 2, "the request")
        upstream.connections[0].send(response(b"new"))
        assert {await client.closed for client in clients} == {b"new\r\n"}

    async def test_upstream_says_that_it_fails(self) -> None:
        """If upstream answers with an error, the old answer is served."""
        gateway, _ = await self.expired(failing)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert self.cache(gateway).counts["stale_if_error"] == 1

    async def test_upstream_is_gone(self) -> None:
        """If upstream refuses connections, the old answer is served."""
        gateway, upstream = await self.expired(numbered())
        await upstream.stop()
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert self.cache(gateway).counts["stale_if_error"] == 1

    async def test_upstream_hangs(self) -> None:
        """If upstream takes longer than its timeout, the old answer is served, and not before."""
        gateway, _ = await self.expired(says(), timeout=0.5)
        begun = time.monotonic()
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert time.monotonic() - begun >= 0.5
        assert self.cache(gateway).counts["stale_if_error"] == 1

    async def test_upstream_is_well_again(self) -> None:
        """Once upstream answers again, no query has the old answer."""
        gateway, upstream = await self.expired(failing)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        upstream.script = numbered()
        for number in (3, 4):
            assert await self.ask(gateway, b"x\r\n") == b"answer %d\r\n" % number
            await self.state(gateway, "expired")


class FailureTests(CacheCase):
    """What is served when upstream fails."""

    async def test_killed(self) -> None:
        """When upstream is gone, what is stale is served; each refresh that fails is logged and counted, once."""
        self.recheck_after(LONG)
        upstream = self.upstream(numbered())
        gateway = self.chained(upstream.url, ttl=SHORT)
        await self.ask(gateway, b"x\r\n")
        await upstream.stop()
        await self.state(gateway, "stale")
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        await self.failed(gateway)
        for _ in range(10):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        kept = "backend web failed, so its cached answer stays in use: Connection refused"
        assert self.logged() == [kept]
        assert not self.cache(gateway).refreshes  # nor is it asked again so soon, which would take a moment to fail
        assert +self.cache(gateway).counts == {"absent": 1, "stale": 11, "failed": 1}

    async def test_stale_if_error(self) -> None:
        """What may be served only if upstream fails is, each time that it is asked and fails."""
        said = "Cache-Control: max-age=0, stale-while-revalidate=0, stale-if-error=3600\r\n"
        upstream = self.upstream(in_turn(numbered(said), failing))
        gateway = self.chained(upstream.url)
        for _ in range(6):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert len(upstream.requests) == 6
        assert len(self.logged()) == 5
        assert +self.cache(gateway).counts == {"absent": 1, "expired": 5, "stale_if_error": 5, "failed": 5}

    async def test_ways_to_fail(self) -> None:
        """It does not matter in which way upstream fails."""
        said = "Cache-Control: max-age=0, stale-while-revalidate=0\r\n"
        for script, why in (
            (says(close=True), "the other side closed the connection"),
            (says(HEAD + b"Content-Length: 100\r\n\r\nhalf", close=True), "the other side closed the connection"),
            (says(CHUNKED + b"\r\n" + chunk(b"half"), close=True), "the other side closed the connection"),
            (says(HEAD + b"Content-Length: 100\r\n\r\nhalf"), "not done within 1 s"),
            (says(), "not done within 1 s"),
            (says(OOPS), "HTTP 500"),
            (says(response(b"", status="503 Busy", extra="Cache-Control: max-age=3600\r\n")), "HTTP 503"),
            (says(response(b"x" * 70000)), "the answer is larger than max_bytes = 65536"),
            (says(b"SSH\r\n\r\n"), "the response is not valid HTTP, or ends early (ParseError)"),
            (redirect("http://localhost/"), "HTTP 302, a redirect to another origin: not followed"),
        ):
            upstream = self.upstream(in_turn(numbered(said), script))
            gateway = self.chained(upstream.url, timeout=1 if "within" in why else LONG)
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n", why
            assert self.cache(gateway).counts["failed"] == 1
            assert len(self.logged()) == 1
            assert self.logged()[0].endswith(f" stays in use: {why}")
            self.events.clear()

    async def test_stale_if_error_for_several_queries(self) -> None:
        """Of many who wait for an upstream that then fails, each is served what is kept; it is logged once."""
        said = "Cache-Control: max-age=0, stale-while-revalidate=0\r\n"
        upstream = self.upstream(in_turn(numbered(said), says()))
        gateway = self.chained(upstream.url)
        await self.ask(gateway, b"x\r\n")
        clients = [await self.sent(gateway) for _ in range(20)]
        await until(lambda: self.cache(gateway).counts["expired"] == 20, "the last query")
        await until(lambda: len(upstream.requests) == 2, "the request")
        upstream.connections[0].send(OOPS)
        assert {await client.closed for client in clients} == {b"answer 1\r\n"}
        assert self.cache(gateway).counts["stale_if_error"] == 20
        assert len(self.logged()) == 1

    async def test_back_again(self) -> None:
        """When upstream is back, its answers are fresh again; each refresh that failed before that has had one line."""
        self.recheck_after(SHORT)
        upstream = self.upstream(numbered())
        gateway = self.chained(upstream.url, ttl=SHORT)
        await self.ask(gateway, b"x\r\n")
        upstream.script = failing
        while self.cache(gateway).counts["failed"] < 3:
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        upstream.script = says(response(b"back", extra="Cache-Control: max-age=3600\r\n"))
        await self.eventually(gateway, b"back\r\n")
        failures = self.cache(gateway).counts["failed"]
        assert len(self.logged()) == failures
        requests = len(upstream.requests)
        for _ in range(5):
            assert await self.ask(gateway, b"x\r\n") == b"back\r\n"
        assert len(upstream.requests) == requests

    async def test_recheck(self) -> None:
        """After a refresh has failed, the next one begins a second later."""
        upstream = self.upstream(in_turn(numbered(), failing))
        gateway = self.cached(upstream.url, ttl=SHORT)
        begun = time.monotonic()
        await self.asked(gateway, upstream, 2)
        await self.failed(gateway)
        assert begun + 1 <= self.entry(gateway).retry_at <= time.monotonic() + 1

    async def test_nothing_kept(self) -> None:
        """As long as nothing is kept, each query asks upstream, and the next in the chain answers if that fails."""
        upstream = self.upstream(in_turn(failing, says(OOPS), numbered()))
        gateway = self.chained(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(4)]
        assert answers == [NEXT, NEXT, b"answer 3\r\n", b"answer 3\r\n"]
        assert self.cache(gateway).counts["failed"] == 2

    async def test_failures_are_never_kept(self) -> None:
        """A 500 is not kept, whatever it says."""
        upstream = self.upstream(says(response(b"", status="500 Oops", extra="Cache-Control: max-age=3600\r\n")))
        gateway = self.cached(upstream.url)
        for _ in range(3):
            assert await self.ask(gateway, b"x\r\n") == INTERNAL_ERROR
        assert len(upstream.requests) == 3

    async def test_too_old(self) -> None:
        """What is too old to be stale is not served if upstream fails."""
        upstream = self.upstream(in_turn(numbered(), failing))
        gateway = self.chained(upstream.url, ttl=SHORT, stale=SHORT)
        await self.ask(gateway, b"x\r\n")
        await self.state(gateway, "absent")
        assert await self.ask(gateway, b"x\r\n") == NEXT

    async def test_must_revalidate(self) -> None:
        """What must be revalidated is not served if upstream fails: the next in the chain is asked."""
        for said in ("max-age=0, must-revalidate", "max-age=0, proxy-revalidate", "s-maxage=0", "no-cache"):
            upstream = self.upstream(in_turn(numbered(f"{TAGGED}Cache-Control: {said}\r\n"), failing))
            gateway = self.chained(upstream.url)
            answers = [await self.ask(gateway, b"x\r\n") for _ in range(3)]
            assert answers == [b"answer 1\r\n", NEXT, NEXT], said

    async def test_must_revalidate_and_nothing_is_next(self) -> None:
        """If there is no next, that is an error."""
        said = f"{TAGGED}Cache-Control: max-age=0, must-revalidate\r\n"
        upstream = self.upstream(in_turn(numbered(said), failing))
        gateway = self.cached(upstream.url)
        assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"answer 1\r\n", INTERNAL_ERROR]


class MissingTests(CacheCase):
    """Names that upstream does not know."""

    async def test_kept(self) -> None:
        """A 404, a 410 and an answer of nothing are kept for negative_ttl; the body of an error does not matter."""
        gone = (response(b"nothing here", status=status) for status in ("404 Not Found", "410 Gone"))
        for raw in (*gone, NO_CONTENT, response(b"\n", extra=TAGGED)):
            upstream = self.upstream(says(raw))
            gateway = self.cached(upstream.url, ttl=0, stale=0)
            for _ in range(4):
                assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
            assert +self.cache(gateway).counts == {"absent": 1, "fresh": 3}

    async def test_negative_ttl_has_an_end(self) -> None:
        """After negative_ttl upstream is asked at once: who asks for a name that is new has its answer."""
        upstream = self.upstream(in_turn(says(NOT_FOUND), numbered()))
        gateway = self.cached(upstream.url, negative_ttl=SHORT)
        assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
        await self.state(gateway, "expired")
        assert await self.ask(gateway, b"x\r\n") == b"answer 2\r\n"

    async def test_zero(self) -> None:
        """With negative_ttl = 0 each is asked for."""
        upstream = self.upstream(says(NOT_FOUND))
        gateway = self.cached(upstream.url, negative_ttl=0)
        for _ in range(3):
            assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
        assert len(upstream.requests) == 3

    async def test_upstream_fails(self) -> None:
        """While upstream fails, a name that it did not know stays unknown, and each failure is logged."""
        upstream = self.upstream(in_turn(says(NOT_FOUND), failing))
        gateway = self.cached(upstream.url, negative_ttl=SHORT)
        await self.ask(gateway, b"x\r\n")
        await self.state(gateway, "expired")
        for _ in range(3):
            assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
        assert (len(upstream.requests), len(self.logged())) == (4, 3)

    async def test_a_name_that_is_gone(self) -> None:
        """A 404, or an answer of nothing, takes the place of what was kept."""
        for raw in (NOT_FOUND, NO_CONTENT):
            upstream = self.upstream(in_turn(numbered(TAGGED), says(raw)))
            gateway = self.cached(upstream.url, ttl=SHORT)
            await self.ask(gateway, b"x\r\n")
            await self.eventually(gateway, NO_SUCH_USER)
            assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
            assert len(upstream.requests) == 2

    async def test_upstreams_word(self) -> None:
        """Upstream's max-age wins over negative_ttl, and its no-store too."""
        for status in ("404 Not Found", "204 No Content"):
            kept = f"HTTP/1.1 {status}\r\nCache-Control: max-age=3600\r\nContent-Length: 0\r\n\r\n".encode()
            not_kept = kept.replace(b"max-age=3600", b"no-store")
            for answer, negative_ttl, requests in ((kept, 0, 1), (not_kept, LONG, 3)):
                upstream = self.upstream(says(answer))
                gateway = self.cached(upstream.url, negative_ttl=negative_ttl)
                for _ in range(3):
                    assert await self.ask(gateway, b"x\r\n") == NO_SUCH_USER
                assert len(upstream.requests) == requests

    async def test_other_names(self) -> None:
        """A name that is unknown says nothing of another."""
        upstream = self.upstream(at_paths({"/a": says(NOT_FOUND), "/b": says(response(b"known"))}))
        gateway = self.cached(upstream.url + "/{user}")
        assert [await self.ask(gateway, name) for name in (b"a\r\n", b"b\r\n")] == [NO_SUCH_USER, b"known\r\n"]


class RevalidationTests(CacheCase):
    """Whether what is kept has changed."""

    async def test_etag(self) -> None:
        """With an ETag upstream is asked whether it has changed; a 304 makes what is kept fresh again."""
        stale = 'ETag: W/"o\'ne"\r\nCache-Control: max-age=0\r\n'
        upstream = self.upstream(in_turn(numbered(stale), unchanged("Cache-Control: max-age=3600\r\n")))
        gateway = self.cached(upstream.url)
        await self.asked(gateway, upstream, 2)
        await self.state(gateway, "fresh")
        for _ in range(3):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert list(map(conditions_of, upstream.requests)) == [(None, None), ('W/"o\'ne"', None)]

    async def test_last_modified(self) -> None:
        """With Last-Modified too, and with both by both."""
        date = "Sun, 06 Nov 1994 08:49:37 GMT"
        for said, expected in (("", (None, date)), (TAGGED, ('"one"', date))):
            stale = f"{said}Last-Modified: {date}\r\nCache-Control: max-age=0\r\n"
            upstream = self.upstream(in_turn(numbered(stale), unchanged("Cache-Control: max-age=3600\r\n")))
            gateway = self.cached(upstream.url)
            await self.asked(gateway, upstream, 2)
            await self.state(gateway, "fresh")
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
            assert conditions_of(upstream.requests[1]) == expected

    async def test_stored_fields_hold(self) -> None:
        """Where the 304 says nothing, what came with the answer holds."""
        upstream = self.upstream(
            in_turn(numbered(f"{TAGGED}Cache-Control: max-age=3600\r\nAge: 3600\r\n"), unchanged())
        )
        gateway = self.cached(upstream.url, ttl=SHORT)
        await self.asked(gateway, upstream, 2)
        await self.state(gateway, "fresh")
        entry = self.entry(gateway)
        assert 3500 < entry.fresh_until - entry.since <= 3600

    async def test_ttl_holds_after_a_304(self) -> None:
        """Where neither has said anything, ttl holds again."""
        upstream = self.upstream(in_turn(numbered(TAGGED), unchanged()))
        gateway = self.cached(upstream.url, ttl=SHORT)
        await self.asked(gateway, upstream, 5)
        assert [conditions_of(head)[0] for head in upstream.requests] == [None, *['"one"'] * 4]

    async def test_changed(self) -> None:
        """What has changed is answered whole, and its own ETag is the next condition."""
        tags = [f'ETag: "{number}"\r\nCache-Control: no-cache\r\n' for number in (1, 2, 3)]
        upstream = self.upstream(numbered(*tags))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(3)]
        assert answers == [b"answer 1\r\n", b"answer 2\r\n", b"answer 3\r\n"]
        assert [conditions_of(head)[0] for head in upstream.requests] == [None, '"1"', '"2"']

    async def test_an_answer_that_has_no_etag_any_more(self) -> None:
        """An ETag is not sent once there is an answer without one."""
        upstream = self.upstream(numbered(f"{TAGGED}Cache-Control: max-age=0\r\n", "Cache-Control: max-age=0\r\n"))
        gateway = self.cached(upstream.url, stale=0)
        for _ in range(3):
            await self.ask(gateway, b"x\r\n")
        assert [conditions_of(head)[0] for head in upstream.requests][2] is None

    async def test_another_etag(self) -> None:
        """A 304 for another answer than ours tells nothing of ours: the whole is asked for, without conditions."""
        first = f"{TAGGED}Cache-Control: no-cache\r\n"
        upstream = self.upstream(in_turn(numbered(first), unchanged('ETag: "two"\r\n'), numbered()))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(2)]
        assert answers == [b"answer 1\r\n", b"answer 3\r\n"]
        assert [conditions_of(head)[0] for head in upstream.requests] == [None, '"one"', None]

    async def test_another_etag_for_ever(self) -> None:
        """A server that says 304 also to that has failed, and is not asked on and on."""
        first = f"{TAGGED}Cache-Control: no-cache\r\n"
        upstream = self.upstream(in_turn(numbered(first), unchanged('ETag: "two"\r\n')))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(2)]
        assert answers == [b"answer 1\r\n", INTERNAL_ERROR]
        assert len(upstream.requests) == 3

    async def test_not_asked_for(self) -> None:
        """A 304 that was not asked for is a failure, with and without something that is kept."""
        upstream = self.upstream(unchanged())
        assert await self.ask(self.cached(upstream.url), b"x\r\n") == INTERNAL_ERROR
        upstream = self.upstream(in_turn(numbered(), unchanged()))
        gateway = self.cached(upstream.url, ttl=SHORT)
        assert await self.asked(gateway, upstream, 2) == b"answer 1\r\n"
        await self.failed(gateway)
        assert self.logged()[-1].endswith(": HTTP 304")

    async def test_each_name_has_conditions_of_its_own(self) -> None:
        """One name's ETag is not sent for another."""

        def script(server: RawServer, head: bytes) -> None:
            extra = f'ETag: "{path_of(head)}"\r\nCache-Control: no-cache\r\n'
            server.send(response(path_of(head).encode(), extra=extra))

        upstream = self.upstream(script)
        gateway = self.cached(upstream.url + "/{user}")
        for name in (b"a", b"b", b"c", b"a", b"b"):
            await self.ask(gateway, name + b"\r\n")
        asked = [(path_of(head), conditions_of(head)[0]) for head in upstream.requests]
        assert asked == [("/a", None), ("/b", None), ("/c", None), ("/a", '"/a"'), ("/b", '"/b"')]

    async def test_no_cache(self) -> None:
        """What may not be served unasked is asked for each time; a 304 spares the body."""
        upstream = self.upstream(in_turn(numbered(f"{TAGGED}Cache-Control: no-cache\r\n"), unchanged()))
        gateway = self.cached(upstream.url)
        for number in range(1, 5):
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
            assert len(upstream.requests) == number
        assert [conditions_of(head)[0] for head in upstream.requests] == [None, *['"one"'] * 3]

    async def test_vary_everything(self) -> None:
        """So is what varies by everything; what varies by a header field is kept, as these are always the same."""
        for field, requests in (("*", 3), ("Accept, Cookie", 1)):
            upstream = self.upstream(in_turn(numbered(f"{TAGGED}Vary: {field}\r\n"), unchanged()))
            gateway = self.cached(upstream.url)
            for _ in range(3):
                assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
            assert len(upstream.requests) == requests

    async def test_no_cache_without_a_validator(self) -> None:
        """Where there is nothing to ask with, the whole is asked for each time."""
        upstream = self.upstream(numbered("Cache-Control: no-cache\r\n"))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(2)]
        assert answers == [b"answer 1\r\n", b"answer 2\r\n"]

    async def test_not_stored(self) -> None:
        """What may not be stored is not kept: no ETag is sent, and if upstream fails, nothing is served."""
        for said in ("no-store", "private", "max-age=3600, no-store", 'private="x", max-age=3600'):
            extra = f"{TAGGED}Cache-Control: {said}\r\n"
            upstream = self.upstream(in_turn(numbered(extra), numbered(extra), failing))
            gateway = self.chained(upstream.url)
            answers = [await self.ask(gateway, b"x\r\n") for _ in range(3)]
            assert answers == [b"answer 1\r\n", b"answer 2\r\n", NEXT], said
            assert {conditions_of(head) for head in upstream.requests} == {(None, None)}

    async def test_not_stored_any_more(self) -> None:
        """A refresh that may not be stored, be it a 304, ends the keeping of what there was."""
        for script in (numbered("Cache-Control: no-store\r\n"), unchanged("Cache-Control: no-store\r\n")):
            upstream = self.upstream(in_turn(numbered(f"{TAGGED}Cache-Control: max-age=0\r\n"), script))
            gateway = self.cached(upstream.url)
            await self.asked(gateway, upstream, 2)
            await self.state(gateway, "absent")
            assert in_memory(self.cache(gateway), Query("x")) == ("absent", None)

    async def test_not_stored_but_shared(self) -> None:
        """Those who ask while it is asked for share what may not be stored."""
        upstream = self.upstream(says())
        gateway = self.cached(upstream.url)
        clients = [await self.sent(gateway) for _ in range(3)]
        await until(lambda: self.cache(gateway).counts["absent"] == 3, "the last query")
        await until(partial(len, upstream.requests))
        upstream.connections[0].send(response(b"shared", extra="Cache-Control: no-store\r\n"))
        assert [await client.closed for client in clients] == [b"shared\r\n"] * 3
        upstream.script = says(response(b"another"))
        assert await self.ask(gateway, b"x\r\n") == b"another\r\n"

    async def test_conditions_outlive_a_failure(self) -> None:
        """After a failure upstream is asked conditionally still."""
        self.recheck_after(SHORT)
        first = f"{TAGGED}Cache-Control: max-age=0\r\n"
        upstream = self.upstream(in_turn(numbered(first), failing, unchanged("Cache-Control: max-age=99\r\n")))
        gateway = self.cached(upstream.url)
        await self.asked(gateway, upstream, 3)
        await self.state(gateway, "fresh")
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert [conditions_of(head)[0] for head in upstream.requests] == [None, '"one"', '"one"']

    async def test_templates_and_pages(self) -> None:
        """After a 304 the answer is what the template, or the reading of a page, had made of the body."""
        extra = f"{TAGGED}Cache-Control: no-cache\r\n"
        cases: list[tuple[str, bytes, dict[str, Any]]] = [
            ("application/json", b'{"name": "Ada"}', {"template": "{{ name }} for {{ user }}"}),
            ("text/html", b"<p>Ada for x", {}),
        ]
        for content_type, body, settings in cases:
            upstream = self.upstream(in_turn(says(response(body, content_type, extra=extra)), unchanged()))
            gateway = self.cached(upstream.url, **settings)
            answers = [(await self.ask(gateway, b"x\r\n")).strip() for _ in range(2)]
            assert answers == [b"Ada for x", b"Ada for x"]

    async def test_a_304_with_a_body(self) -> None:
        """A body that a 304 must not have is no answer, and what follows on its connection neither."""
        first = f"{TAGGED}Cache-Control: no-cache\r\n"
        wrong = says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nwrong")
        upstream = self.upstream(in_turn(numbered(first), wrong, numbered(first)))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(2)]
        assert answers == [b"answer 1\r\n", b"answer 1\r\n"]
        await self.eventually(gateway, b"answer %d\r\n" % (len(upstream.requests) + 1))


class SaidTests(CacheCase):
    """For how long, as upstream says."""

    async def times(self, extra: str, *, path: str = "/", **cache: float) -> tuple[int, int, int]:
        """Return for how long an answer is kept: fresh, stale after that, and in place of a failure."""
        upstream = self.upstream(says(response(b"x", extra=extra)))
        gateway = self.cached(upstream.url + path, **cache)
        await self.ask(gateway, b"x\r\n")
        entry = self.entry(gateway)
        kept = (entry.fresh_until - entry.since, entry.stale_until - entry.fresh_until)
        rounded = (*map(round, kept), round(entry.error_until - entry.fresh_until))
        return rounded[0], rounded[1], rounded[2]

    async def test_upstreams_word_wins(self) -> None:
        """Upstream's word takes the place of a longer and of a shorter ttl and stale; Age is taken off."""
        now = time.time()
        for extra, fresh, stale, error in (
            ("", 600, 60, 60),
            ("Cache-Control: public\r\n", 600, 60, 60),
            ("Cache-Control: max-age=86400\r\n", 86400, 60, 60),
            ("Cache-Control: max-age=7\r\n", 7, 60, 60),
            ("Cache-Control: max-age=7, s-maxage=86400\r\n", 86400, 0, 0),
            ("Cache-Control: max-age=7\r\nCache-Control: s-maxage=5\r\n", 5, 0, 0),
            ("Cache-Control: max-age=86400\r\nAge: 400\r\n", 86000, 60, 60),
            (f"Expires: {formatdate(now + 86400, usegmt=True)}\r\n", 86400, 60, 60),
            (f"Date: {formatdate(now - 400, usegmt=True)}\r\nCache-Control: max-age=86400\r\n", 86000, 60, 60),
            ("Cache-Control: max-age=7, stale-while-revalidate=3, stale-if-error=86400\r\n", 7, 3, 86400),
            ("Cache-Control: stale-if-error=5\r\n", 600, 60, 5),
            ("Cache-Control: max-age=7, must-revalidate\r\n", 7, 0, 0),
        ):
            found = await self.times(extra, ttl=600, stale=60)
            assert all(abs(a - b) <= 5 for a, b in zip(found, (fresh, stale, error), strict=True)), (extra, found)

    async def test_longer_than_ttl(self) -> None:
        """An answer is served unasked for longer than ttl if upstream says so."""
        long = numbered("Cache-Control: max-age=3600\r\n")
        upstream = self.upstream(at_paths({"/long": long, "/short": numbered()}))
        gateway = self.cached(upstream.url + "/{user}", ttl=SHORT)
        await self.ask(gateway, b"long\r\n")
        await self.asked(gateway, upstream, 3, b"short\r\n")  # so ttl is over
        await self.ask(gateway, b"long\r\n")
        await self.asked(gateway, upstream, 5, b"short\r\n")
        assert list(map(path_of, upstream.requests)).count("/long") == 1

    async def test_shorter_than_ttl(self) -> None:
        """An answer is refreshed before its ttl is over if upstream says so."""
        upstream = self.upstream(numbered("Cache-Control: max-age=1\r\n", "Cache-Control: max-age=3600\r\n"))
        gateway = self.cached(upstream.url)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        await self.eventually(gateway, b"answer 2\r\n")

    async def test_not_fresh_when_it_comes(self) -> None:
        """What is not fresh when it comes is served again only if upstream fails, then for stale, whatever that is."""
        now = formatdate(time.time(), usegmt=True)
        for said in (
            "Cache-Control: max-age=0\r\n",
            "Cache-Control: max-age=soon\r\n",
            "Cache-Control: max-age=60\r\nAge: 90\r\n",
            "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            f"Expires: {now}\r\nDate: {now}\r\n",
            "Expires: 0\r\n",
            "Expires: -1\r\n",
            "Expires: never\r\n",
        ):
            upstream = self.upstream(numbered(said))
            gateway = self.chained(upstream.url)
            answers = [await self.ask(gateway, b"x\r\n") for _ in range(3)]
            assert answers == [b"answer 1\r\n", b"answer 2\r\n", b"answer 3\r\n"], said
            upstream.script = failing
            assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"answer 3\r\n"] * 2, said
            assert self.cache(gateway).counts["stale_if_error"] == 2

    async def test_not_fresh_when_it_comes_and_a_redirect(self) -> None:
        """So it is if only a redirect to it is not fresh when it comes."""
        page = numbered("Cache-Control: max-age=3600, stale-while-revalidate=3600\r\n")
        scripts = {"/": redirect("/page", "Expires: 0\r\n"), "/page": page}
        gateway = self.cached(self.upstream(at_paths(scripts)).url)
        assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"answer 2\r\n", b"answer 4\r\n"]

    async def test_not_fresh_after_a_304(self) -> None:
        """A 304 that says so of an answer has the next query ask upstream, and wait."""
        old = unchanged("Cache-Control: max-age=0\r\n")
        upstream = self.upstream(in_turn(numbered(TAGGED), old, numbered()))
        gateway = self.cached(upstream.url, ttl=SHORT, stale_while_revalidate=0)
        await self.ask(gateway, b"x\r\n")
        await self.state(gateway, "expired")
        assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"answer 1\r\n", b"answer 3\r\n"]

    async def test_not_fresh_and_stale_while_revalidate(self) -> None:
        """If upstream also allows it to be served while it is refreshed, it is."""
        said = "Cache-Control: max-age=0, stale-while-revalidate=3600\r\n"
        upstream = self.upstream(in_turn(numbered(said), says()))
        gateway = self.cached(upstream.url, stale_while_revalidate=0)
        assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"answer 1\r\n"] * 2

    async def test_redirects(self) -> None:
        """What a redirect leads to is kept no longer than the shortest that all say, or ttl where one says nothing."""
        day, minute = "Cache-Control: max-age=86400\r\n", "Cache-Control: max-age=60\r\n"
        for on_the_way, page, fresh in (
            ("", day, 600),
            ("", minute, 60),
            (day, "", 600),
            (minute, "", 60),
            (minute, day, 60),
            (day, minute, 60),
            (day, day, 86400),
            ("", "", 600),
        ):
            scripts = {"/": redirect("/page", on_the_way), "/page": says(response(b"page", extra=page))}
            gateway = self.cached(self.upstream(at_paths(scripts)).url, ttl=600)
            assert await self.ask(gateway, b"x\r\n") == b"page\r\n"
            entry = self.entry(gateway)
            assert abs(entry.fresh_until - entry.since - fresh) < 5, (on_the_way, page)

    async def test_redirect_that_leads_elsewhere(self) -> None:
        """A 302 that says nothing is followed anew after ttl, whatever the page says."""
        day = "Cache-Control: max-age=86400\r\n"
        scripts = {path: says(response(path.encode(), extra=day)) for path in ("/one", "/two")}
        upstream = self.upstream(at_paths({"/": redirect("/one"), **scripts}))
        gateway = self.cached(upstream.url, ttl=SHORT)
        assert await self.ask(gateway, b"x\r\n") == b"/one\r\n"
        upstream.script = at_paths({"/": redirect("/two"), **scripts})
        await self.eventually(gateway, b"/two\r\n")

    async def test_redirect_that_may_not_be_stored(self) -> None:
        """Behind a redirect that may not be stored nothing is fresh or stale."""
        page = says(response(b"page", extra="Cache-Control: max-age=86400\r\n"))
        upstream = self.upstream(at_paths({"/": redirect("/page", "Cache-Control: no-store\r\n"), "/page": page}))
        gateway = self.cached(upstream.url)
        for _ in range(3):
            await self.ask(gateway, b"x\r\n")
        assert list(map(path_of, upstream.requests)) == ["/", "/page"] * 3

    async def test_conditions_go_to_the_final_url(self) -> None:
        """Conditions are for the URL that had the validators, and for no other: neither before it nor in its place."""
        extra = f"{TAGGED}Cache-Control: no-cache\r\n"
        first = {"/": redirect("/page"), "/page": in_turn(numbered(extra), numbered(extra), unchanged())}
        upstream = self.upstream(at_paths(first))
        gateway = self.cached(upstream.url)
        answers = [await self.ask(gateway, b"x\r\n") for _ in range(2)]
        upstream.script = at_paths({"/": redirect("/other"), "/other": says(response(b"other"))})
        answers.append(await self.ask(gateway, b"x\r\n"))
        assert answers == [b"answer 2\r\n", b"answer 2\r\n", b"other\r\n"]
        asked = [(path_of(head), conditions_of(head)[0]) for head in upstream.requests]
        assert asked == [("/", None), ("/page", None), ("/", None), ("/page", '"one"'), ("/", None), ("/other", None)]

    async def test_etag_of_a_redirect(self) -> None:
        """A redirect's own ETag is no condition: it would be a 304 for something that is not kept."""
        scripts = {"/": redirect("/page", 'ETag: "redirect"\r\n'), "/page": numbered("Cache-Control: no-cache\r\n")}
        upstream = self.upstream(at_paths(scripts))
        gateway = self.cached(upstream.url)
        for _ in range(2):
            await self.ask(gateway, b"x\r\n")
        assert {conditions_of(head) for head in upstream.requests} == {(None, None)}

    async def test_large_headers(self) -> None:
        """A Cache-Control of 60 KiB is read, and read quickly."""
        for piece in ("a=1,", 'a="\\",', '"', "=", "a ", ",", "\\", 'a="'):
            lines = [f"Cache-Control: {(piece * 12000)[:12000]}\r\n" for _ in range(5)]
            upstream = self.upstream(numbered("".join(lines)))
            begun = time.process_time()
            gateway = self.cached(upstream.url)
            assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n", piece
            assert time.process_time() - begun < 2, piece

    async def test_a_header_line_that_is_too_long(self) -> None:
        """A line of 60 KiB is a failure like any other: what is kept is served."""
        first = "Cache-Control: max-age=0, stale-while-revalidate=0\r\n"
        upstream = self.upstream(numbered(first, f"Cache-Control: {'x' * 60000}\r\n"))
        gateway = self.cached(upstream.url)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        assert self.cache(gateway).counts["stale_if_error"] == 1

    async def test_large_validators(self) -> None:
        """An ETag of 12 KiB is not kept, and the answer is, for ttl."""
        upstream = self.upstream(numbered(f'ETag: "{"x" * 12000}"\r\n'))
        gateway = self.cached(upstream.url, ttl=SHORT)
        assert await self.ask(gateway, b"x\r\n") == b"answer 1\r\n"
        await self.asked(gateway, upstream, 2)
        assert conditions_of(upstream.requests[1]) == (None, None)

    async def test_nonsense_in_headers(self) -> None:
        """What is no date and no number does no harm: the answer is an answer."""
        for extra in (
            "Date: yesterday\r\nExpires: 0\r\n",
            "Expires: Thu, 99 Foo 9999 99:99:99 GMT\r\n",
            "Expires: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            "Date: Thu, 01 Jan 0000 00:00:00 GMT\r\nCache-Control: max-age=5\r\n",
            "Age: -5\r\nCache-Control: max-age=-5\r\n",
            f"Age: {'9' * 5000}\r\nCache-Control: max-age={'9' * 5000}\r\n",
            "Last-Modified: never\r\nETag: unquoted\r\nCache-Control: max-age=0\r\n",
            "ETag:\r\nLast-Modified:\r\nVary:\r\nCache-Control:\r\n",
            'ETag: "a"\r\nETag: "b"\r\nCache-Control: no-cache\r\n',
            'ETag: "a\rb\x00c"\r\nCache-Control: no-cache\r\n',
            'ETag: "a\x7f\x01\tb"\r\n folded: "c"\r\nCache-Control: no-cache\r\n',
        ):
            upstream = self.upstream(numbered(extra))
            gateway = self.cached(upstream.url)
            for _ in range(2):
                answer = await self.ask(gateway, b"x\r\n")
                assert answer.startswith(b"answer "), extra
            assert self.logged() == []

    async def test_bytes_that_are_no_utf_8(self) -> None:
        """Neither do bytes beyond ASCII, which an ETag may have (RFC 9110 §8.8.3); they come back as they are."""
        tag = b'"caf\xe9"'
        answer = HEAD + b"Content-Length: 2\r\nCache-Control: no-cache\r\nETag: " + tag + b"\r\n\r\nup"
        upstream = self.upstream(in_turn(says(answer), unchanged()))
        gateway = self.cached(upstream.url)
        assert [await self.ask(gateway, b"x\r\n") for _ in range(2)] == [b"up\r\n", b"up\r\n"]
        assert b"If-None-Match: " + tag + b"\r\n" in upstream.requests[1] + b"\r\n"


class NameTests(CacheCase):
    """What has an answer of its own."""

    async def paths(self, url: str, *queries: bytes, **settings: Any) -> list[str]:
        """Ask for some names, and return what upstream is asked for."""
        upstream = self.upstream(numbered())
        gateway = self.cached(upstream.url + url, **settings)
        for query in queries:
            await self.ask(gateway, query + b"\r\n")
        return list(map(path_of, upstream.requests))

    async def test_no_placeholders(self) -> None:
        """A URL without placeholders is asked for once, for all names."""
        assert await self.paths("/", b"a", b"b", b"/W c", b"c d", match={"regex": ".*"}) == ["/"]

    async def test_user(self) -> None:
        """One with {user} is asked for once for each name; neither case nor /W matters."""
        assert await self.paths("/{user}", b"a", b"b", b"A", b"/W a", b"a", b"B", b" a ") == ["/a", "/b"]

    async def test_case(self) -> None:
        """Where case matters, names that differ in it are different."""
        upstream = self.upstream(lambda server, head: server.send(response(path_of(head).encode())))
        text = self.configuration(upstream.url + "/{user}", cache={"ttl": LONG})
        gateway = self.start(f"{text}[answers]\ncase_sensitive = true\n")
        answers = [await self.ask(gateway, name) for name in (b"a\r\n", b"A\r\n", b"a\r\n")]
        assert answers == [b"/a\r\n", b"/A\r\n", b"/a\r\n"]
        assert len(upstream.requests) == 2

    async def test_names_of_any_kind(self) -> None:
        """No two names have one answer, whatever is in them."""
        upstream = self.upstream(lambda server, head: server.send(response(path_of(head).encode())))
        gateway = self.cached(upstream.url + "/{user}", match={"regex": ".*"})
        names = ["a", "a b", "a:b", "a%20b", "a/b", "a?b", "a#b", "é", "e", "ß", "ss", "\\r", "%s", "{user}"]
        for _ in range(2):
            answers = [await self.ask(gateway, name.encode() + b"\r\n") for name in names]
            assert len(set(answers)) == len(names)
        assert len(upstream.requests) == len(names)

    async def test_groups(self) -> None:
        """Of a regex's groups those count that are used."""
        match = {"regex": "(?P<team>[a-z]+)-(?P<day>[a-z]+)"}
        asked = await self.paths("/{team}", b"a-mon", b"a-tue", b"b-mon", b"A-wed", match=match)
        assert asked == ["/a", "/b"]

    async def test_groups_are_kept_apart(self) -> None:
        """Two groups have one answer only if both are the same, however their texts meet."""
        match = {"regex": "(?P<a>[a-z ]*)-(?P<b>[a-z ]*)"}
        asked = await self.paths("/{a}/{b}", b"x-yz", b"xy-z", b"-xyz", b"xyz-", b"x-yz", match=match)
        assert asked == ["/x/yz", "/xy/z", "//xyz", "/xyz/"]

    async def test_user_and_groups(self) -> None:
        """The whole name and a group of it are kept apart too."""
        match = {"regex": "(?P<a>[a-z])[a-z]*"}
        asked = await self.paths("/{a}/{user}", b"ab", b"ac", b"ab", match=match)
        assert asked == ["/a/ab", "/a/ac"]

    async def told(self, template: str, *queries: bytes, **settings: Any) -> tuple[list[bytes], int]:
        """Ask for some names where a template shows one URL's body, and return the answers and how many requests."""
        upstream = self.upstream(says(response(b'{"state": "up"}', "application/json")))
        gateway = self.cached(upstream.url, template=template, **settings)
        answers = [await self.ask(gateway, query + b"\r\n") for query in queries]
        return answers, len(upstream.requests)

    async def test_template_that_shows_the_name(self) -> None:
        """Two names with one URL have answers of their own if the template shows the name."""
        answers, requests = await self.told("{{ user }} is {{ state }}", b"ada", b"bob", b"ADA")
        assert answers == [b"ada is up\r\n", b"bob is up\r\n", b"ada is up\r\n"]
        assert requests == 2

    async def test_template_that_shows_no_name(self) -> None:
        """They share one if it does not."""
        answers, requests = await self.told("It is {{ state }} {{ '{{ user }}' }}{# user #}", b"ada", b"bob")
        assert answers == [b"It is up {{ user }}\r\n"] * 2
        assert requests == 1

    async def test_ways_to_use_a_name(self) -> None:
        """In whatever way a template comes by the name."""
        for template in (
            "{% if user == 'ada' %}ada{% else %}bob{% endif %}",
            "{% macro show() %}{{ user }}{% endmacro %}{{ show() }}",
            "{% set state = user %}{{ state }}",
            "{% for letter in user %}{{ letter }}{% endfor %}",
            "{% block name %}{{ user }}{% endblock %}",
            "{% if not state %}{% set user = '' %}{% endif %}{{ user }}",
            "{% with who = user %}{{ who }}{% endwith %}",
            "{{ {'ada': 'ada', 'bob': 'bob'}[user] }}",
        ):
            answers, _ = await self.told(template, b"ada", b"bob", b"ada")
            assert answers == [b"ada\r\n", b"bob\r\n", b"ada\r\n"], template

    async def test_template_that_shows_a_group(self) -> None:
        """A group that a template shows counts, and one that it does not show does not."""
        match = {"regex": "(?P<team>[a-z]+)-(?P<day>[a-z]+)"}
        answers, requests = await self.told("{{ team }} {{ state }}", b"a-mon", b"a-tue", b"b-mon", match=match)
        assert answers == [b"a up\r\n", b"a up\r\n", b"b up\r\n"]
        assert requests == 2

    async def test_groups_that_have_names_of_jinjas(self) -> None:
        """A group counts also if it is called as something is that every template has."""
        for name in ("range", "dict", "lipsum", "cycler", "joiner", "namespace"):
            match = {"regex": f"(?P<{name}>[a-z]+)-oncall"}
            answers, _ = await self.told(f"{{{{ {name} }}}} {{{{ state }}}}", b"a-oncall", b"b-oncall", match=match)
            assert answers == [b"a up\r\n", b"b up\r\n"], name

    async def test_names_that_are_steps_in_a_path(self) -> None:
        """A name that is . or .. is a name where it has no place in the URL, and a missing elsewhere."""
        assert await self.paths("/", b".", b"..", b"x", match={"regex": ".*"}) == ["/"]
        assert await self.paths("/{user}", b".", b"..", b".", b"x", match={"regex": ".*"}) == ["/x"]

    async def test_backends(self) -> None:
        """Two backends never share an answer, be their tables the same."""
        upstream = self.upstream(numbered())
        web = {"type": "http", "url": upstream.url, "cache": {}}
        gateway = self.start(
            tomli_w.dumps(
                {
                    "listeners": [
                        {"endpoint": "tcp:0:interface=127.0.0.1", "limits": {"max_connections_per_client": 1000}}
                    ],
                    "routes": [{"user": "a", "backends": ["a"]}, {"user": "b", "backends": ["b"]}],
                    "backends": {"a": web, "b": web},
                    "log": {"access": "off"},
                }
            )
        )
        answers = [await self.ask(gateway, name) for name in (b"a\r\n", b"b\r\n", b"a\r\n", b"b\r\n")]
        assert answers == [b"answer 1\r\n", b"answer 2\r\n"] * 2


class LeavingTests(CacheCase):
    """Clients that do not wait."""

    async def waiting(self, script: Script = says()) -> tuple[Upstream, Gateway, list[Client]]:  # noqa: B008
        """Have three clients wait for one answer."""
        upstream = self.upstream(script)
        gateway = self.cached(upstream.url)
        clients = [await self.sent(gateway) for _ in range(3)]
        await until(lambda: self.cache(gateway).counts["absent"] == 3, "the last query")
        await until(partial(len, upstream.requests))
        return upstream, gateway, clients

    async def leave(self, gateway: Gateway, *clients: Client) -> None:
        """Have clients leave, and the gateway see it."""
        left = len(gateway.listeners[0].connections.open) - len(clients)
        for client in clients:
            assert client.transport is not None
            client.transport.abortConnection()  # type: ignore[attr-defined]
            await client.closed
        await until(lambda: len(gateway.listeners[0].connections.open) == left, "that the gateway sees it")

    async def test_one_of_three(self) -> None:
        """Of three one leaves, be it the first, whose query began it all; the others are answered."""
        for leaves in range(3):
            upstream, gateway, clients = await self.waiting()
            await self.leave(gateway, clients.pop(leaves))
            upstream.connections[0].send(response(b"late"))
            assert [await client.closed for client in clients] == [b"late\r\n"] * 2
            assert len(upstream.requests) == 1
            assert await self.ask(gateway, b"x\r\n") == b"late\r\n"

    async def test_all_of_three(self) -> None:
        """When the last one leaves, the request upstream is broken off, and the next who asks is answered."""
        for script in (says(), says(HEAD + b"Content-Length: 100\r\n\r\nhalf")):
            upstream, gateway, clients = await self.waiting(script)
            await self.leave(gateway, *clients)
            await upstream.connections[0].lost
            upstream.script = says(response(b"another"))
            assert await self.ask(gateway, b"x\r\n") == b"another\r\n"
            assert self.logged() == []
            assert self.cache(gateway).counts["failed"] == 0

    async def test_one_comes_as_the_last_leaves(self) -> None:
        """Who asks as the last one leaves has an answer, whichever is seen first."""
        upstream, gateway, clients = await self.waiting()
        upstream.script = says(response(b"another"))
        comer = await self.connect(gateway)
        assert comer.transport is not None
        for client in clients:
            assert client.transport is not None
            client.transport.abortConnection()  # type: ignore[attr-defined]
        comer.transport.write(b"x\r\n")
        await until(lambda: self.cache(gateway).counts["absent"] == 4, "the query")
        if not upstream.connections[0].lost.called:
            upstream.connections[0].send(response(b"another"))
        assert await comer.closed == b"another\r\n"

    async def test_answer_timeout(self) -> None:
        """The listener's answer_timeout ends the waiting and the request, if nobody else waits."""
        upstream = self.upstream(says())
        text = self.configuration(upstream.url, cache={"ttl": LONG}, timeout=LONG)
        gateway = self.start(text.replace("[limits]\n", "[limits]\nanswer_timeout = 1\n"))
        client = await self.sent(gateway)
        await until(partial(len, upstream.requests), "the request")
        assert await client.closed == INTERNAL_ERROR
        await until(lambda: upstream.connections[0].lost.called, "the end of the request")

    async def test_the_gateway_stops(self) -> None:
        """A refresh that hangs ends with the gateway, which does not wait for it."""
        upstream = self.upstream(in_turn(numbered(), says()))
        gateway = self.cached(upstream.url, ttl=SHORT, timeout=LONG)
        await self.asked(gateway, upstream, 2)
        await gateway.stopService()
        await until(lambda: upstream.connections[0].lost.called, "the end of the request")
