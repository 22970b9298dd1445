"""Backends that are down are left alone: with real servers that hang, refuse or fail, and real programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import tomli_w
import trustme
from twisted.internet.defer import gatherResults
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from fingergw.app.gateway import Gateway
from tests.support.admin import ADMIN, AdminCase, value
from tests.support.finger_server import FingerServer, Served, hangs, says
from tests.support.gateway import Client
from tests.support.http_server import HttpCase, RawServer, Script, response
from tests.support.http_server import says as http_says
from tests.support.reloading import ReloadCase
from tests.support.sockets import free_port, silent
from tests.support.waiting import reactor, until

NEXT = b"next in the chain\r\n"
BROKEN = b"Internal error in server\r\n"
SHORT = 0.2  # a time-out that is waited for
PAUSE = 0.2  # one that is
NAMES = ("a", "b", "c", "d", "e", "f")
OLD = "Cache-Control: max-age=0, stale-while-revalidate=0, stale-if-error=3600\r\n"
Table = dict[str, Any]


def slow_ones(server: RawServer, head: bytes) -> None:
    """Answer, but for names that begin with "slow"."""
    if b"/slow" not in head:
        server.send(response(b"quick"))


hanging: Script = http_says()


def closes_after(seconds: float) -> Callable[[Served], object]:
    """Say nothing, and close after a time."""
    return lambda served: reactor.callLater(seconds, served.reset)


class BreakerCase(HttpCase, AdminCase, ReloadCase):
    """A gateway in which a backend answers every name, and a text when it fails."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def told(self) -> list[tuple[LogLevel, str]]:
        """Return what was logged of breakers."""
        lines = [(event["log_level"], formatEvent(event)) for event in self.events]
        return [line for line in lines if "is not asked for " in line[1] or "responds again" in line[1]]

    @staticmethod
    def text(table: Table, **more: Any) -> str:
        """Return the configuration."""
        return tomli_w.dumps(
            {
                "listeners": [{"name": "front", "endpoint": "tcp:0:interface=127.0.0.1"}],
                "limits": {"max_connections_per_client": 1000},
                "routes": [{"pattern": "*", "backends": ["first", "next"]}],
                "backends": {"first": table, "next": {"type": "static", "text": "next in the chain"}},
                "log": {"access": "off"},
                **more,
            }
        )

    def serve(self, table: Table, **more: Any) -> Gateway:
        """Start one."""
        return self.start(self.text(table, **more))

    async def each(self, gateway: Gateway, names: Sequence[str] = NAMES) -> list[bytes]:
        """Ask for names, one after the other."""
        return [await self.ask(gateway, f"{name}\r\n".encode()) for name in names]

    async def all_at_once(self, gateway: Gateway, names: Sequence[str]) -> list[bytes]:
        """Ask for names at the same time."""
        clients = [await self.sent(gateway, name) for name in names]
        return await gatherResults([client.closed for client in clients])

    async def sent(self, gateway: Gateway, name: str) -> Client:
        """Send a query, and do not wait for its answer."""
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(f"{name}\r\n".encode())
        return client

    async def trying(self, gateway: Gateway, server: FingerServer, name: str = "try") -> Client:
        """Ask until a query comes to a server that has not been asked; return the client that it is from."""
        while True:
            client = await self.sent(gateway, name)
            await self.answer_or_query(client, server)
            if any(server.lines):
                return client

    @staticmethod
    async def answer_or_query(client: Client, server: FingerServer) -> None:
        """Wait until a client has its answer, or a server its query."""
        await until(lambda: client.reason or any(server.lines), "an answer, or the query")

    @staticmethod
    async def leave(client: Client, server: FingerServer) -> None:
        """Disconnect a client once its query has come to a server, and wait until the server is not asked any more."""
        await until(lambda: server.open and all(server.lines), "the query")
        client.transport.abortConnection()  # type: ignore[union-attr]
        await until(lambda: not server.open, "the end of the connection")


def finger(port: int, **more: Any) -> Table:
    """Return the table of a finger backend."""
    return {"type": "finger", "host": "127.0.0.1", "port": port, **more}


class OpeningTests(BreakerCase):
    """What makes a backend be left alone."""

    async def test_http_hangs(self) -> None:
        """Of six queries for different names three take their time-out, and the others are answered without."""
        for cache in ({}, {"cache": {"ttl": 30}}):
            upstream = self.upstream(hanging)
            gateway = self.serve({"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT, **cache})
            assert await self.each(gateway) == [NEXT] * 6
            assert len(upstream.requests) == 3

    async def test_host_is_silent(self) -> None:
        """A host that drops all packets cannot be reached, whatever it is asked, and whether by name or address."""
        port = free_port()
        self.addCleanup(silent("127.0.0.1", port).close)
        for host in ("localhost", "127.0.0.1"):
            gateway = self.serve({"type": "http", "url": f"http://{host}:{port}/{{user}}", "timeout": SHORT})
            assert await self.each(gateway, "aaaaaa") == [NEXT] * 6
            ((_, told), *_) = self.told()
            assert "the connection attempt timed out" in told
            self.events.clear()

    async def test_http_hangs_for_all(self) -> None:
        """So it is for one name, where the URL is the same for every name."""
        for cache in ({}, {"cache": {"ttl": 30}}):
            upstream = self.upstream(hanging)
            gateway = self.serve({"type": "http", "url": upstream.url, "timeout": SHORT, **cache})
            assert await self.each(gateway, "aaaaaa") == [NEXT] * 6
            assert len(upstream.requests) == 3

    async def test_finger_hangs(self) -> None:
        """So it is where a finger server hangs, half an answer sent or not."""
        server = FingerServer(self, hangs(b"half"))
        gateway = self.serve(finger(server.port, timeout=SHORT))
        assert await self.each(gateway) == [NEXT] * 6
        assert server.lines == [b"a\r\n", b"b\r\n", b"c\r\n"]

    async def test_refused(self) -> None:
        """After three connections that were refused, for one name too, nobody connects for a while."""
        port = free_port()
        for table in (finger(port), {"type": "http", "url": f"http://127.0.0.1:{port}/{{user}}"}):
            gateway = self.serve(table)
            assert await self.each(gateway, "aaa") == [NEXT] * 3
            server = FingerServer(self, says(b"here\n"), port=port)
            assert await self.each(gateway, "ab") == [NEXT] * 2
            assert server.connections == []
            await server.stop()

    async def all_wait(self, query: str, right: bytes) -> None:
        """See that queries which wait for a place when it begins are not asked any more."""
        server = FingerServer(self, closes_after(1.1))
        limits = {"max_running": 1, "timeout": 2, "breaker": {"failures": 1}}
        allow = {"allow": {"h": f"tcp:127.0.0.1:{server.port}"}}
        gateway = self.serve(finger(server.port, **limits), forwarding={**allow, **limits})
        clients = [await self.sent(gateway, query.format(name)) for name in NAMES]
        assert await gatherResults([client.closed for client in clients]) == [right] * len(NAMES)
        assert len(server.connections) == 1

    async def test_those_that_wait_for_a_place(self) -> None:
        """Queries that wait for a place when it begins fail at once; so do those that are forwarded."""
        await self.all_wait("{}", NEXT)
        await self.all_wait("{}@h", BROKEN)

    @pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")  # what Twisted itself does with pyOpenSSL
    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
    async def test_untrusted(self) -> None:
        """So it is with a server whose certificate is not trusted."""
        upstream = self.upstream(http_says(response(b"here")), trustme.CA())
        gateway = self.serve({"type": "http", "url": f"https://127.0.0.1:{upstream.port}/{{user}}"})
        assert await self.each(gateway, "aaaaaa") == [NEXT] * 6
        assert len(upstream.connections) == 3

    async def test_closed_late_without_a_word(self) -> None:
        """A server that closes connections without an answer, and takes its time for that, is left alone."""
        server = FingerServer(self, closes_after(0.15))
        assert await self.each(self.serve(finger(server.port, timeout=SHORT))) == [NEXT] * 6
        assert len(server.connections) == 3

    async def test_program_that_hangs(self) -> None:
        """A command is asked for ever, unless its table has a breaker."""
        for breaker, names in (({}, "abcde"), ({"breaker": {"failures": 4}}, "abcd"), ({"breaker": False}, "abcde")):
            folder = self.write("runs", "").parent
            script = f"echo $FINGER_USER >>'{folder}/runs'; exec sleep 60"
            table = {"type": "command", "argv": ["/bin/sh", "-c", script], "env": {"PATH": "/usr/bin:/bin"}}
            gateway = self.serve({**table, "timeout": SHORT, **breaker})
            assert await self.all_at_once(gateway, "abcd") == [NEXT] * 4
            assert await self.each(gateway, "e") == [NEXT]
            assert sorted((folder / "runs").read_text().split()) == list(names)

    async def test_other_backends(self) -> None:
        """That one backend is left alone does not concern another one of the same type."""
        upstream = self.upstream(slow_ones)
        more = {
            "routes": [{"user": "quick", "backends": ["other"]}, {"pattern": "*", "backends": ["first"]}],
            "backends": {
                "first": finger(free_port()),
                "other": {"type": "http", "url": upstream.url + "/{user}"},
            },
        }
        gateway = self.serve({}, **more)
        await self.each(gateway)
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]


class NotCountedTests(BreakerCase):
    """What is no reason to leave a backend alone."""

    async def test_error_statuses(self) -> None:
        """A server that answers by errors is asked each time."""
        upstream = self.upstream(http_says(response(b"", status="500 Oops")))
        gateway = self.serve({"type": "http", "url": upstream.url + "/{user}"})
        assert await self.each(gateway) == [NEXT] * 6
        assert len(upstream.requests) == 6
        assert self.told() == []

    async def test_answers_that_are_too_large(self) -> None:
        """So is one whose answers are too large."""
        upstream = self.upstream(http_says(response(b"x" * 2000)))
        server = FingerServer(self, says(b"x" * 2000))
        for table in (finger(server.port), {"type": "http", "url": upstream.url + "/{user}"}):
            assert await self.each(self.serve({**table, "max_bytes": 1000})) == [NEXT] * 6
        assert (len(server.connections), len(upstream.requests)) == (6, 6)

    async def test_responses_that_are_not_valid(self) -> None:
        """So is one whose responses are not valid HTTP, in whatever way."""
        for garbage in (
            b"SSH-2.0\r\n",
            response(b"x", extra="no header\r\n"),
            response(b"x", extra="Content-Length: x\r\n"),
        ):
            upstream = self.upstream(http_says(garbage, close=True))
            gateway = self.serve({"type": "http", "url": upstream.url + "/{user}"})
            assert await self.each(gateway) == [NEXT] * 6
            assert len(upstream.requests) == 6

    async def test_closed_without_a_word(self) -> None:
        """A server that closes connections at once without an answer keeps nobody waiting, and is asked each time."""
        server = FingerServer(self, says(b""))
        assert await self.each(self.serve(finger(server.port))) == [NEXT] * 6
        assert len(server.connections) == 6
        upstream = self.upstream(http_says(close=True))
        assert await self.each(self.serve({"type": "http", "url": upstream.url + "/{user}"})) == [NEXT] * 6
        assert len(upstream.requests) == 6
        assert self.told() == []

    async def test_one_slow_name(self) -> None:
        """One name that is slow, however often it is asked, trips nothing; three of them do."""
        upstream = self.upstream(slow_ones)
        gateway = self.serve({"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT})
        await self.all_at_once(gateway, ["slow"] * 10)
        await self.all_at_once(gateway, ["slow", "slow2"])
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]
        await self.all_at_once(gateway, ["slow2", "slow3", "slow4"])
        assert await self.each(gateway, ["quick"]) == [NEXT]

    async def test_slow_names_of_a_server_that_answers_others(self) -> None:
        """However many names are slow, they trip nothing while another one is answered."""
        upstream = self.upstream(slow_ones)
        gateway = self.serve({"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT})
        clients = [await self.sent(gateway, f"slow{number}") for number in range(6)]
        await until(lambda: len(upstream.requests) == 6, "the queries")
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]
        assert await gatherResults([client.closed for client in clients]) == [NEXT] * 6
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]
        assert self.told() == []

    async def test_one_name_that_hangs(self) -> None:
        """One name that hangs is left alone by itself, and who asks for it gets the next backend's answer at once."""
        upstream = self.upstream(slow_ones)
        gateway = self.serve({"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT})
        assert await self.each(gateway, ["slow", "quick"] * 6) == [NEXT, b"quick\r\n"] * 6
        asked = [request.split()[1] for request in upstream.requests]
        assert (asked.count(b"/slow"), asked.count(b"/quick")) == (3, 6)

    async def test_waiting_for_a_place(self) -> None:
        """Those that never had a place say nothing of the server."""
        upstream = self.upstream(slow_ones)
        gateway = self.serve({"type": "http", "url": upstream.url + "/{user}", "timeout": 0.5, "max_running": 1})
        assert await self.all_at_once(gateway, ["slow1", "slow2", "slow3", "slow4"]) == [NEXT] * 4
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]

    async def test_clients_that_leave(self) -> None:
        """A client that leaves before its answer says nothing of the server, whatever it has asked for."""
        server = FingerServer(self, hangs())
        gateway = self.serve(finger(server.port))
        for name in NAMES:
            await self.leave(await self.sent(gateway, name), server)
        server.script = says(b"here\n")
        assert await self.each(gateway, "x") == [b"here\r\n"]

    async def test_what_is_known_without_asking(self) -> None:
        """A name that no server is asked for neither ends a row of failures nor takes the place of a try."""
        port = free_port()
        gateway = self.serve({"type": "http", "url": f"http://127.0.0.1:{port}/{{user}}", "breaker": {"pause": PAUSE}})
        for name in ("a", "..", "b", "..", "c"):
            assert await self.each(gateway, [name]) == [NEXT]
        assert len(self.told()) == 1
        server = FingerServer(self, hangs(), port=port)
        while not any(server.lines):
            assert await self.each(gateway, [".."]) == [NEXT]
            await self.answer_or_query(await self.sent(gateway, "x"), server)
        assert len(self.told()) == 1  # open still, as the try hangs

    async def test_turned_off(self) -> None:
        """With breaker = false the backend is asked each time."""
        port = free_port()
        gateway = self.serve(finger(port, breaker=False))
        assert await self.each(gateway) == [NEXT] * 6
        FingerServer(self, says(b"here\n"), port=port)
        assert await self.each(gateway, "x") == [b"here\r\n"]


class ClosingTests(BreakerCase):
    """How a backend that is left alone is asked again."""

    def refused(self, **more: Any) -> tuple[Gateway, int]:
        """Start a gateway whose finger backend's port nobody listens on; return that port as well."""
        port = free_port()
        return self.serve(finger(port, breaker={"failures": 3, "pause": PAUSE}), **more), port

    async def test_one_tries(self) -> None:
        """After the pause one query tries, and others fail at once meanwhile; when it is answered all ask again."""
        gateway, port = self.refused()
        assert await self.each(gateway, "abc") == [NEXT] * 3
        server = FingerServer(self, hangs(), port=port)
        client = await self.trying(gateway, server)
        assert await self.each(gateway) == [NEXT] * 6
        assert server.lines == [b"try\r\n"]
        server.script = says(b"back\n")
        server.connections[0].answer(b"here\n")
        assert await client.closed == b"here\r\n"
        assert await self.each(gateway, "abcdef") == [b"back\r\n"] * 6

    async def test_logged(self) -> None:
        """A line says when it begins, with whom, for how long and why; another one when it ends; no query adds any."""
        gateway, port = self.refused()
        await self.each(gateway, "ab")
        assert self.told() == []
        await self.each(gateway, "cdefgh")
        begun = (
            LogLevel.error,
            "backend first is not asked for 0.2 s, after 3 failures in a row; the last: Connection refused",
        )
        assert self.told() == [begun]
        server = FingerServer(self, says(b"here\n"), port=port)
        await self.trying(gateway, server)
        await until(lambda: len(self.told()) > 1, "the line")
        await self.each(gateway)
        assert self.told() == [begun, (LogLevel.info, "backend first responds again")]

    async def test_a_try_whose_client_leaves(self) -> None:
        """When who tries leaves the next query tries, without another pause."""
        gateway, port = self.refused()
        await self.each(gateway, "abc")
        server = FingerServer(self, hangs(), port=port)
        await self.leave(await self.trying(gateway, server), server)
        server.script = says(b"here\n")
        assert await self.each(gateway, "x") == [b"here\r\n"]

    async def test_answer_of_one_that_was_under_way(self) -> None:
        """A query that was under way before, and is answered, ends the pause."""
        server = FingerServer(self, hangs())
        gateway = self.serve(finger(server.port, timeout=2))
        client = await self.sent(gateway, "early")
        await until(lambda: any(server.lines), "the query")
        server.script = closes_after(1.1)
        assert await self.all_at_once(gateway, "abc") == [NEXT] * 3
        assert await self.each(gateway) == [NEXT] * 6
        assert len(server.lines) == 4
        server.script = says(b"back\n")
        server.connections[0].answer(b"here\n")
        assert await client.closed == b"here\r\n"
        assert await self.each(gateway, "x") == [b"back\r\n"]

    async def test_metrics(self) -> None:
        """The metrics say who is left alone; who is never, has none."""
        gateway, port = self.refused(admin={"endpoint": "tcp:0:interface=127.0.0.1"})

        async def up() -> float:
            return value(await self.scrape(gateway), "fingergw_backend_up", backend="first")

        assert await up() == 1
        await self.each(gateway, "ab")
        assert await up() == 1
        await self.each(gateway, "c")
        assert await up() == 0
        assert b'fingergw_backend_up{backend="next"}' not in await self.scrape(gateway)
        server = FingerServer(self, says(b"here\n"), port=port)
        await (await self.trying(gateway, server)).closed
        assert await up() == 1


class CacheTests(BreakerCase):
    """What a cache has while the backend is left alone."""

    async def test_old_answers(self) -> None:
        """Old answers are served at once, of names too that nobody has asked for since it is down."""
        upstream = self.upstream(http_says(response(b"old", extra=OLD)))
        gateway = self.serve(
            {"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT, "cache": {"ttl": 0, "stale": 3600}}
        )
        assert await self.each(gateway) == [b"old\r\n"] * 6
        upstream.script = hanging
        assert await self.each(gateway) == [b"old\r\n"] * 6
        assert len(upstream.requests) == 9
        assert await self.each(gateway, ["never asked"]) == [NEXT]

    async def test_fresh_answers(self) -> None:
        """A fresh answer is served as such, asks nobody, and says nothing of the server."""
        upstream = self.upstream(slow_ones)
        gateway = self.serve(
            {"type": "http", "url": upstream.url + "/{user}", "timeout": SHORT, "cache": {"ttl": 3600}}
        )
        assert await self.each(gateway, ["quick"]) == [b"quick\r\n"]
        for name in ("slow1", "slow2", "slow3"):
            assert await self.each(gateway, [name, "quick"]) == [NEXT, b"quick\r\n"]
        assert await self.each(gateway, ["slow4", "quick", "other"]) == [NEXT, b"quick\r\n", NEXT]
        assert len(upstream.requests) == 4


class ForwardingTests(BreakerCase):
    """Hosts that queries are forwarded to."""

    def forwarding(self, hosts: dict[str, int], **more: Any) -> dict[str, Any]:
        """Return the part of a configuration that forwards to ports of the loopback."""
        return {"forwarding": {"allow": {host: f"tcp:127.0.0.1:{port}" for host, port in hosts.items()}, **more}}

    async def test_each_host(self) -> None:
        """A host that hangs is left alone, and no other is; the log and the metrics have its name."""
        down, up = FingerServer(self, hangs()), FingerServer(self, says(b"here\n"))
        gateway = self.serve(
            {"type": "static", "text": "x"},
            admin={"endpoint": "tcp:0:interface=127.0.0.1"},
            **self.forwarding({"Down.example": down.port, "up.example": up.port}, timeout=SHORT),
        )
        assert await self.each(gateway, [f"{name}@down.example" for name in NAMES]) == [BROKEN] * 6
        assert down.lines == [b"a\r\n", b"b\r\n", b"c\r\n"]
        assert await self.each(gateway, ["a@up.example"]) == [b"here\r\n"]
        why = "is not asked for 5 s, after 3 failures in a row; the last: not done within 0.2 s"
        assert self.told() == [(LogLevel.error, f"host Down.example, to which queries are forwarded, {why}")]
        metrics = await self.scrape(gateway)
        assert value(metrics, "fingergw_forwarding_host_up", host="Down.example") == 0
        assert value(metrics, "fingergw_forwarding_host_up", host="up.example") == 1

    async def test_settings(self) -> None:
        """The breaker in [forwarding] is that of each host; after its pause a query tries."""
        port = free_port()
        gateway = self.serve(
            {"type": "static", "text": "x"},
            **self.forwarding({"h": port}, breaker={"failures": 1, "pause": PAUSE}),
        )
        assert await self.each(gateway, ["a@h"]) == [BROKEN]
        server = FingerServer(self, says(b"here\n"), port=port)
        client = await self.trying(gateway, server, "x@h")
        assert await client.closed == b"here\r\n"
        assert await self.each(gateway, ["a@h"]) == [b"here\r\n"]
        assert len(self.told()) == 2

    async def test_turned_off(self) -> None:
        """With breaker = false each host is asked each time, and has no metric."""
        port = free_port()
        more = {"admin": {"endpoint": "tcp:0:interface=127.0.0.1"}, **self.forwarding({"h": port}, breaker=False)}
        gateway = self.serve({"type": "static", "text": "x"}, **more)
        assert await self.each(gateway, [f"{name}@h" for name in NAMES]) == [BROKEN] * 6
        FingerServer(self, says(b"here\n"), port=port)
        assert await self.each(gateway, ["a@h"]) == [b"here\r\n"]
        assert b"fingergw_forwarding_host_up{" not in await self.scrape(gateway)

    async def test_names_that_are_not_sent(self) -> None:
        """A name that would be read as /W says nothing of the host, as the host is not asked."""
        port = free_port()
        gateway = self.serve({"type": "static", "text": "x"}, **self.forwarding({"h": port}))
        await self.each(gateway, ["a@h", "/W@h", "b@h", "/W@h", "c@h", "/W@h"])
        FingerServer(self, says(b"here\n"), port=port)
        assert await self.each(gateway, ["a@h"]) == [BROKEN]

    async def test_reload(self) -> None:
        """A reload that leaves a host as it is leaves it alone; one that changes its breaker has it asked."""
        port = free_port()
        table = {"type": "static", "text": "x"}
        gateway = self.begin(self.text(table, **self.forwarding({"h": port})))
        await self.each(gateway, [f"{name}@h" for name in "abc"])
        FingerServer(self, says(b"here\n"), port=port)
        await self.reload(gateway, self.text(table, **self.forwarding({"h": port, "other": port})))
        assert await self.each(gateway, ["a@h"]) == [BROKEN]
        await self.reload(gateway, self.text(table, **self.forwarding({"h": port}, breaker={"failures": 4})))
        assert await self.each(gateway, ["a@h"]) == [b"here\r\n"]


class ReloadTests(BreakerCase):
    """A backend that is left alone while the configuration is reloaded."""

    async def test_reload(self) -> None:
        """One whose table is the same is left alone still; one whose table has changed is asked."""
        port = free_port()
        gateway = self.begin(self.text(finger(port)))
        await self.each(gateway, "abc")
        FingerServer(self, says(b"here\n"), port=port)
        await self.reload(gateway, self.text(finger(port), answers={"no_such_user": "Nobody"}))
        assert await self.each(gateway, "abc") == [NEXT] * 3
        await self.reload(gateway, self.text(finger(port, max_running=21)))
        assert await self.each(gateway, "abc") == [b"here\r\n"] * 3
        assert len(self.told()) == 1  # it is another backend, which has always answered

    async def test_metrics(self) -> None:
        """The metrics are those of the backend that is there now."""
        port = free_port()
        gateway = self.begin(self.text(finger(port)) + ADMIN)
        await self.each(gateway, "abc")
        for table, up in ((finger(port), 0), (finger(port, breaker={"failures": 4}), 1)):
            await self.reload(gateway, self.text(table) + ADMIN)
            assert value(await self.scrape(gateway), "fingergw_backend_up", backend="first") == up
        await self.reload(gateway, self.text(finger(port, breaker=False)) + ADMIN)
        assert b"fingergw_backend_up{" not in await self.scrape(gateway)
