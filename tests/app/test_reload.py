"""A configuration that changes while clients are served."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from fingergw.app import reload
from fingergw.config.problems import Problem
from fingergw.net import watched
from tests.support.configuration import HELLO
from tests.support.gateway import Client
from tests.support.http_server import Upstream, response, says
from tests.support.privileged import privileged_port, write_process
from tests.support.processes import COMMAND, ROOT, forked, process
from tests.support.reload_storm import listener, storm
from tests.support.reloading import ReloadCase, told
from tests.support.sockets import finger, free_port, listens, serves
from tests.support.transports import on_both_transports
from tests.support.waiting import DEADLINE_SECONDS, reactor, until, wait_until

LISTENER = '[[listeners]]\nname = "a"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
NO_SUCH_USER = b"No such user\r\n"


def says_text(text: str) -> str:
    """Return a route that answers any name with a text."""
    return f'[[routes]]\npattern = "*"\nbackends = ["t"]\n[backends.t]\ntype = "static"\ntext = "{text}"\n'


def listen_only(ports: Sequence[int], expected: Sequence[int]) -> bool:
    """Tell whether something listens on just these of some ports."""
    return [port for port in ports if listens(port)] == list(expected)


def is_open(path: Path) -> bool:
    """Tell whether this process has a file open."""
    return any(os.path.realpath(link) == str(path.resolve()) for link in Path("/proc/self/fd").iterdir())


def is_open_twice(path: Path) -> bool:
    """Tell whether this process has a pipe open at both ends, by two descriptors."""
    links = (os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
    return list(links).count(str(path.resolve())) == 2


@contextlib.contextmanager
def hanging(path: Path) -> Iterator[Callable[[str], None]]:
    """Put a pipe in the place of a file, so that reading it hangs until the returned function has it read a text."""
    path.unlink()
    os.mkfifo(path)
    writer = os.fdopen(os.open(path, os.O_RDWR), "w")

    def let_go(text: str) -> None:
        writer.write(text)
        writer.close()

    try:
        yield let_go
    finally:
        writer.close()


@on_both_transports
class RulesTests(ReloadCase):
    """What a reload changes for clients."""

    async def test_new_answers(self) -> None:
        """After a reload the next rules are active, at the same socket."""
        gateway = self.begin(LISTENER + says_text("old"))
        port = gateway.listeners[0].port
        assert await self.ask(gateway, b"x\r\n") == b"old\r\n"
        assert await self.reload(gateway, LISTENER + says_text("new")) == ["configuration reloaded"]
        assert await self.ask(gateway, b"x\r\n") == b"new\r\n"
        assert gateway.listeners[0].port is port
        assert gateway.reloads == {"applied": 1}
        assert len(self.applied) == 1

    async def test_connection_keeps_its_rules(self) -> None:
        """A connection from before a reload is answered by the previous rules, even if its query comes after it."""
        gateway = self.begin(LISTENER + says_text("old"))
        client = await self.connect(gateway)
        await until(lambda: gateway.listeners[0].connections.open, "the connection")
        await self.reload(gateway, LISTENER + says_text("new"))
        assert client.transport is not None
        client.transport.write(b"x\r\n")
        assert await client.closed == b"old\r\n"

    async def test_late_warnings(self) -> None:
        """Warnings that are found after a reload has replaced what they are about are not logged."""
        assert await self._warned_late(is_replaced=False)
        assert not await self._warned_late(is_replaced=True)

    async def _warned_late(self, *, is_replaced: bool) -> bool:
        """Tell whether a warning is logged that is found late."""
        threads, goes_on = list[threading.Thread](), threading.Event()

        def late_warnings(_: object) -> list[Problem]:
            threads.append(threading.current_thread())
            assert goes_on.wait(DEADLINE_SECONDS)
            return [Problem(("routes", 0), "is doubtful")]

        await deferLater(reactor, 0)  # threads are started while it runs
        with mock.patch.object(reload, "late_warnings", late_warnings), capturedLogs() as logged:
            gateway = self.begin(LISTENER + says_text("old"), warns_late=True)
            await until(lambda: threads, "the thread")
            if is_replaced:
                await self.reload(gateway, LISTENER + says_text("new"))
            goes_on.set()
            await until(lambda: not threads[0].is_alive(), "the end of the thread")
            await deferLater(reactor, 0)
        return any("is doubtful" in line for line in told(logged))

    async def test_mistakes(self) -> None:
        """A file with mistakes is refused as a whole; all are logged as check prints them, and nothing changes."""
        gateway = self.begin(LISTENER + says_text("old"))
        logged = await self.reload(
            gateway,
            LISTENER + "colour = 1\n" + says_text("new") + '[backends.c]\ntype = "command"\nargv = ["no-such"]\n',
        )
        unknown = (
            'unknown key "colour"; expected one of: allow, decoy, delay, deny, endpoint, limits, name, trusted_proxies'
        )
        missing = 'no executable file "no-such" on the PATH; install it, or write its path'
        assert logged == [
            f"{self.path}:4: listeners[0].colour: {unknown}",
            f"{self.path}:13: backends.c.argv[0]: {missing}",
            "2 mistakes; the previous configuration stays active",
        ]
        assert await self.ask(gateway, b"x\r\n") == b"old\r\n"
        assert (gateway.reloads, self.applied) == ({"refused": 1}, [])

    async def test_no_file(self) -> None:
        """A missing file is a mistake as well."""
        gateway = self.begin(LISTENER + says_text("old"))
        self.path.unlink()
        before = gateway.parts
        with capturedLogs() as logged:
            self.operation.reload()
            await until(lambda: gateway.reloads["refused"], "the refusal")
        assert "No such file or directory" in told(logged)[0]
        assert gateway.parts is before

    async def test_asked_again(self) -> None:
        """A reload that is requested during another runs after it."""
        gateway = self.begin(LISTENER + says_text("old"))
        with pytest.MonkeyPatch.context() as patch:
            held: Deferred[None] = Deferred()
            change_to = gateway.change_to

            async def slow(parts: Any) -> None:
                await held
                await change_to(parts)

            patch.setattr(gateway, "change_to", slow)
            self.write("fingergw.toml", LISTENER + says_text("first"))
            self.operation.reload()
            self.write("fingergw.toml", LISTENER + says_text("second"))
            self.operation.reload()
            self.operation.reload()
            held.callback(None)
        await until(lambda: gateway.reloads["applied"] == 2, "the second reload")
        assert await self.ask(gateway, b"x\r\n") == b"second\r\n"

    async def test_limits_go_on(self) -> None:
        """The rate and the connections of a client still count after a reload."""
        limits = "limits = { max_connections_per_client = 1, rate = { queries = 1, per = 1000, burst = 1 } }\n"
        gateway = self.begin(LISTENER + limits + says_text("old"))
        assert await self.ask(gateway, b"x\r\n") == b"old\r\n"
        await self.reload(gateway, LISTENER + limits + says_text("new"))
        assert await self.ask(gateway, b"x\r\n") == b"Too many queries, try again later\r\n"
        await self.connect(gateway)
        await self.reload(gateway, LISTENER + limits + says_text("newer"))
        refusals = gateway.listeners[0].connections.meter.rejections
        assert refusals == {"rate": 1}
        await self.ask(gateway, b"")
        assert refusals == {"rate": 1, "client_connections": 1}

    async def test_shorter_deadlines(self) -> None:
        """A deadline that is shorter than all previous ones is kept from the reload on."""
        gateway = self.begin(LISTENER + HELLO)
        idle = await self.connect(gateway)
        await self.reload(gateway, LISTENER + "limits = { query_timeout = 0.1 }\n" + HELLO)
        began = time.monotonic()
        assert await (await self.connect(gateway)).closed == b""
        assert time.monotonic() - began < 1.5
        assert idle.reason is None

    async def test_process_takes_a_restart(self) -> None:
        """For a change of [process] the log says that it needs a restart; the rest of the file is activated."""
        gateway = self.begin(LISTENER + says_text("old"))
        logged = await self.reload(gateway, LISTENER + says_text("new") + '[process]\nuser = "nobody"\n')
        assert logged[0] == "[process] has changed, which needs a restart; the rest is reloaded"
        assert await self.ask(gateway, b"x\r\n") == b"new\r\n"


class HangingTests(ReloadCase):
    """A reload whose file hangs."""

    async def test_hangs(self) -> None:
        """Queries are answered while the file hangs, and a reload that is requested meanwhile runs after it."""
        gateway = self.begin(LISTENER + says_text("old"))
        with hanging(self.path) as let_go:
            self.operation.reload()
            await until(lambda: is_open_twice(self.path), "the reading")
            self.operation.reload()
            assert [await self.ask(gateway, b"x\r\n") for _ in range(3)] == [b"old\r\n"] * 3
            assert not gateway.reloads
            let_go(LISTENER + says_text("new"))
        await until(lambda: sum(gateway.reloads.values()) == 2, "the end of both reloads")
        assert gateway.reloads == {"applied": 1, "refused": 1}  # the second finds nothing in the pipe
        assert await self.ask(gateway, b"x\r\n") == b"new\r\n"

    async def test_stops_meanwhile(self) -> None:
        """What is read after the gateway has been told to stop changes nothing."""
        gateway = self.begin(LISTENER + says_text("old"))
        before = gateway.parts
        with hanging(self.path) as let_go:
            self.operation.reload()
            await until(lambda: is_open_twice(self.path), "the reading")
            await gateway.stopService()
            let_go(LISTENER + says_text("new"))
        await until(lambda: gateway.reloads, "the end of the reload")
        assert gateway.reloads == {"refused": 1}
        assert gateway.parts is before


@on_both_transports
class ListenerTests(ReloadCase):
    """Sockets that are added, kept and removed."""

    async def test_comes_and_goes(self) -> None:
        """A new listener is bound, a removed one is closed, and the listeners are in file order."""
        first, second, third = free_port(), free_port(), free_port()
        gateway = self.begin(listener(first, "a") + listener(second, "b") + HELLO)
        kept = gateway.listeners[1].port
        await self.reload(gateway, listener(third, "c") + listener(second, "b") + HELLO)
        assert [each.rules.listener for each in gateway.listeners] == ["c", "b"]
        assert gateway.listeners[1].port is kept
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"
        assert await self.ask(gateway, b"hello\r\n", listener=1) == b"Hello\r\n"
        assert not listens(first)

    async def test_cannot_be_bound(self) -> None:
        """If a new listener cannot be bound, nothing changes, and the message says which and why."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        free, number = free_port(), taken.getsockname()[1]
        gateway = self.begin(LISTENER + says_text("old"))
        before = gateway.parts
        logged = await self.reload(gateway, LISTENER + listener(free, "b") + listener(number, "c") + says_text("new"))
        (line,) = logged
        assert line.startswith(
            f'listener "c" (tcp:{number}:interface=127.0.0.1) cannot be bound: Address already in use; '
        )
        assert await self.ask(gateway, b"x\r\n") == b"old\r\n"
        assert not listens(free)
        assert gateway.parts is before

    async def test_there_and_back(self) -> None:
        """A listener, or [admin], that is removed and comes back with the very next reload is bound again."""
        ports, admins = (free_port(), free_port()), (free_port(), free_port())
        texts = [
            f'{listener(port)}{HELLO}[admin]\nendpoint = "tcp:{admin}"\n'
            for port, admin in zip(ports, admins, strict=True)
        ]
        gateway = self.begin(texts[0])
        for text in (texts[1], texts[0], texts[1]):
            await self.reload(gateway, text)
        assert gateway.reloads == {"applied": 3}

    async def test_leaves_no_client_behind(self) -> None:
        """A removed listener answers all clients, those in its socket's queue too, and the gateway waits for it."""
        upstream = Upstream(self, lambda *_: None)
        route = f'[[routes]]\nuser = "slow"\nbackends = ["u"]\n[backends.u]\ntype = "http"\nurl = "{upstream.url}"\n'
        port = free_port()
        gateway = self.begin(listener(port) + route)
        waits = await self.connect(gateway)
        assert waits.transport is not None
        waits.transport.write(b"slow\r\n")
        await until(lambda: upstream.requests, "the request")
        with socket.create_connection(("127.0.0.1", port)) as queued:
            queued.sendall(b"nobody\r\n")
            await self.reload(gateway, listener(free_port(), "b") + route)
            stopping = gateway.stopService()
            queued.settimeout(0)
            received: list[bytes] = []

            def receive() -> bool:
                try:
                    received.append(queued.recv(4096))
                except BlockingIOError:
                    return False
                return received[-1] == b""

            await until(receive, "the answer to who was in the queue")
            assert b"".join(received) == NO_SUCH_USER
        assert not stopping.called
        upstream.connections[0].send(response(b"at last"))
        assert await waits.closed == b"at last\r\n"
        await stopping

    async def test_socket_stays(self) -> None:
        """Everything about a listener but its address and port can change without another socket."""
        port = free_port()
        gateway = self.begin(listener(port) + HELLO)
        kept = gateway.listeners[0].port
        proxied = f'[[listeners]]\nname = "p"\nendpoint = "haproxy:tcp:{port}:interface=127.0.0.1"\n'
        await self.reload(gateway, proxied + 'trusted_proxies = ["127.0.0.1"]\n' + HELLO)
        assert gateway.listeners[0].port is kept
        asked = b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\nhello\r\n"
        assert await self.ask(gateway, asked) == b"Hello\r\n"
        await self.reload(gateway, listener(port) + HELLO)
        assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"
        assert gateway.listeners[0].port is kept

    async def test_admin(self) -> None:
        """The admin pages are added, moved and removed with their table."""
        first, second = free_port(), free_port()
        gateway = self.begin(LISTENER + HELLO)
        for ports in ((first,), (second,), ()):
            admin = "".join(f'[admin]\nendpoint = "tcp:{port}"\n' for port in ports)
            await self.reload(gateway, LISTENER + HELLO + admin)
            await until(partial(listen_only, (first, second), ports), "[admin]")


class BackendTests(ReloadCase):
    """Which backends and which of their answers are kept."""

    def _config(self, upstream: Upstream, more: str = "", cache: str = "ttl = 100") -> str:
        return (
            f'{LISTENER}[[routes]]\npattern = "*"\nbackends = ["u"]\n'
            f'[backends.u]\ntype = "http"\nurl = "{upstream.url}/{{user}}"\n{more}\ncache = {{ {cache} }}\n'
        )

    async def test_cache_survives(self) -> None:
        """The answers of an unchanged backend are kept; a changed one is asked again."""
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream))
        for more, requests in (("", 1), ("", 1), ("headers = { Accept = 'text/plain' }", 2)):
            await self.reload(gateway, self._config(upstream, more))
            assert await self.ask(gateway, b"x\r\n") == b"said\r\n"
            assert len(upstream.requests) == requests
        assert gateway.parts.meters["u"].cache == {"absent": 2, "fresh": 1}

    async def test_cache_survives_what_changes_no_answer(self) -> None:
        """A backend with another timeout is opened again, and its answers are kept."""
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream))
        await self.ask(gateway, b"x\r\n")
        await self.reload(gateway, self._config(upstream, "timeout = 4"))
        assert await self.ask(gateway, b"x\r\n") == b"said\r\n"
        assert len(upstream.requests) == 1

    async def test_smaller_cache(self) -> None:
        """A cache that becomes smaller keeps the answers that were used last."""
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream))
        for name in (b"one\r\n", b"two\r\n", b"three\r\n"):
            await self.ask(gateway, name)
        await self.reload(gateway, self._config(upstream) + "[cache]\nmax_entries = 2\n")
        assert gateway.parts.memory.entries == 1
        await self.ask(gateway, b"three\r\n")
        assert len(upstream.requests) == 3

    async def test_who_waits_is_answered(self) -> None:
        """A request in progress also answers clients that come after the reload, if its backend is unchanged."""
        upstream = Upstream(self, lambda *_: None)
        gateway = self.begin(self._config(upstream))
        clients: list[Client] = []
        for count in (1, 2):
            client = await self.connect(gateway)
            clients.append(client)
            assert client.transport is not None
            client.transport.write(b"x\r\n")
            counts = gateway.parts.meters["u"].cache
            await until(partial(lambda counts, count: counts["absent"] == count, counts, count), "the query")
            await until(lambda: upstream.requests, "the request")
            await self.reload(gateway, self._config(upstream))
        upstream.connections[0].send(response(b"shared"))
        assert [await client.closed for client in clients] == [b"shared\r\n"] * 2
        assert len(upstream.requests) == 1

    async def test_who_waits_for_what_is_gone(self) -> None:
        """A request in progress to a removed backend still answers its client."""
        upstream = Upstream(self, lambda *_: None)
        gateway = self.begin(self._config(upstream))
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(b"x\r\n")
        await until(lambda: upstream.requests, "the request")
        await self.reload(gateway, LISTENER + says_text("new"))
        upstream.connections[0].send(response(b"late"))
        assert await client.closed == b"late\r\n"
        assert await self.ask(gateway, b"x\r\n") == b"new\r\n"

    async def test_token(self) -> None:
        """After a reload the token of another file, or a new token in the same file, is sent."""
        upstream = Upstream(self, says(response(b"said")))
        for name in ("one", "two"):
            self.write(name, f"{name}-secret").chmod(0o600)
        gateway = self.begin(self._config(upstream, 'bearer_token_file = "one"'))
        await self.ask(gateway, b"x\r\n")
        await self.reload(gateway, self._config(upstream, 'bearer_token_file = "two"'))
        await self.ask(gateway, b"x\r\n")
        assert [b"Bearer one-secret" in request for request in upstream.requests] == [True, False]
        assert b"Bearer two-secret" in upstream.requests[1]
        self.write("two", "another-secret")
        await self.reload(gateway, self._config(upstream, 'bearer_token_file = "two"'))
        await self.ask(gateway, b"x\r\n")
        assert b"Bearer another-secret" in upstream.requests[2]

    async def test_header_files(self) -> None:
        """The same holds for the values of headers in files."""
        upstream = Upstream(self, says(response(b"said")))
        for name in ("one", "two"):
            self.write(name, f"Basic {name}").chmod(0o600)
        files = 'header_files = { Authorization = "%s", X-Key = "two" }'
        gateway = self.begin(self._config(upstream, files % "one"))
        await self.ask(gateway, b"x\r\n")
        await self.reload(gateway, self._config(upstream, files % "two"))
        await self.ask(gateway, b"x\r\n")
        self.write("two", "Basic another")
        await self.reload(gateway, self._config(upstream, files % "two"))
        await self.ask(gateway, b"x\r\n")
        sent = [[line for line in head.decode().split("\r\n") if ": Basic " in line] for head in upstream.requests]
        assert list(map(sorted, sent)) == [
            ["Authorization: Basic one", "X-Key: Basic two"],
            ["Authorization: Basic two", "X-Key: Basic two"],
            ["Authorization: Basic another", "X-Key: Basic another"],
        ]

    async def test_store(self) -> None:
        """Another store is opened and used, and the previous one is closed."""
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream) + '[cache]\nstore = "sqlite:one.db"\n')
        one = gateway.parts.store
        assert one is not None
        await until(lambda: one.is_open, "the first store")
        await self.reload(gateway, self._config(upstream) + '[cache]\nstore = "sqlite:one.db"\n')
        assert gateway.parts.store is one
        await self.reload(gateway, self._config(upstream) + '[cache]\nstore = "sqlite:two.db"\n')
        two = gateway.parts.store
        assert two is not None
        assert two is not one
        await until(lambda: two.is_open, "the second store")
        await gateway.stopService()
        assert (one.is_open, two.is_open) == (False, False)

    async def test_what_is_not_needed_is_closed(self) -> None:
        """A part that is no longer active is closed when the longest possible connection is over."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fingergw.app.gateway.LINGER_SECONDS", 0.05)
            limits = "[limits]\nquery_timeout = 0.05\nanswer_timeout = 0.05\n"
            gateway = self.begin(LISTENER + HELLO + limits + '[log]\naccess = "one.log"\n')
            await self.reload(gateway, LISTENER + HELLO + limits + '[log]\naccess = "off"\n')
        log = self.path.with_name("one.log")
        assert is_open(log)
        await until(lambda: not is_open(log), "the end of the access log")

    async def test_what_an_older_connection_needs(self) -> None:
        """A connection from before two reloads keeps its backend and access log for as long as it lasts."""
        upstream = Upstream(self, lambda *_: None)
        old, new = '[log]\naccess = "one.log"\n', '[log]\naccess = "two.log"\n'
        short = "[limits]\nquery_timeout = 0.05\nanswer_timeout = 0.05\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fingergw.app.gateway.LINGER_SECONDS", 0.05)
            gateway = self.begin(self._config(upstream) + old)
            client = await self.connect(gateway)
            assert client.transport is not None
            client.transport.write(b"x\r\n")
            await until(lambda: upstream.requests, "the request")
            await self.reload(gateway, self._config(upstream) + old + short)
            await self.reload(gateway, LISTENER + HELLO + new + short)
            for _ in range(6):  # each lasts for a query_timeout: longer than what is active now needs
                await (await self.connect(gateway)).closed
        upstream.connections[0].send(response(b"late"))
        assert await client.closed == b"late\r\n"
        await gateway.stopService()
        assert '"x"' in self.path.with_name("one.log").read_text()

    async def test_store_of_another_size(self) -> None:
        """A store's file is closed before the next store opens it."""
        gateway = self.begin(LISTENER + HELLO + '[cache]\nstore = "sqlite:one.db"\n')
        stores = [gateway.parts.store]
        for size in (1000, 2000):
            await self.reload(gateway, LISTENER + HELLO + f'[cache]\nmax_entries = {size}\nstore = "sqlite:one.db"\n')
            stores.append(gateway.parts.store)
            await until(lambda: stores[-1] is not None and stores[-1].is_open, "the store")
            assert [store is not None and store.is_open for store in stores].count(True) == 1

    async def test_access_log(self) -> None:
        """After a reload the next access log is written; one that cannot be opened is refused."""
        gateway = self.begin(LISTENER + HELLO + '[log]\naccess = "one.log"\n')
        await self.ask(gateway, b"first\r\n")
        logged = await self.reload(gateway, LISTENER + HELLO + '[log]\naccess = "none/two.log"\n')
        assert "log.access: no folder" in logged[0]
        await self.ask(gateway, b"second\r\n")
        await self.reload(gateway, LISTENER + HELLO + '[log]\naccess = "two.log"\nformat = "json"\n')
        await self.ask(gateway, b"third\r\n")
        await gateway.stopService()
        one, two = (self.path.with_name(name).read_text() for name in ("one.log", "two.log"))
        assert ['"first"' in one, '"second"' in one, '"third"' in one] == [True, True, False]
        assert two.count("\n") == 1
        assert '"query": "third"' in two

    async def test_http_connection_is_kept(self) -> None:
        """An unchanged backend keeps its connections."""
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream))
        await self.ask(gateway, b"one\r\n")
        await self.reload(gateway, self._config(upstream))
        await self.ask(gateway, b"two\r\n")
        assert (len(upstream.requests), len(upstream.connections)) == (2, 1)

    async def test_http_connection_is_closed(self) -> None:
        """A changed backend opens its own connections; the previous ones are closed when no query needs them."""
        upstream = Upstream(self, says(response(b"said")))
        limits = "[limits]\nquery_timeout = 0.05\nanswer_timeout = 1\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fingergw.app.gateway.LINGER_SECONDS", 0.05)
            gateway = self.begin(self._config(upstream) + limits)
            await self.ask(gateway, b"one\r\n")
            await self.reload(gateway, self._config(upstream, "max_running = 3") + limits)
        await self.ask(gateway, b"two\r\n")
        assert [connection.lost.called for connection in upstream.connections] == [False, False]
        await until(lambda: upstream.connections[0].lost.called, "the end of the old connection")
        assert not upstream.connections[1].lost.called

    async def test_refused(self) -> None:
        """A reload that is refused because a socket cannot be bound leaves each backend as it was."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        upstream = Upstream(self, says(response(b"said")))
        gateway = self.begin(self._config(upstream))
        await self.ask(gateway, b"one\r\n")
        another = listener(taken.getsockname()[1], "b")
        for more in ("", "max_running = 3"):
            await self.reload(gateway, another + self._config(upstream, more))
            await self.ask(gateway, more.encode() + b"two\r\n")
        assert gateway.reloads == {"refused": 2}
        await self.ask(gateway, b"one\r\n")
        assert (len(upstream.requests), len(upstream.connections)) == (3, 1)

    async def test_menu(self) -> None:
        """A cached menu lists the active routes, and stays cached while these are the same."""
        menu = (
            '[backends.menu]\ntype = "menu"\ncache = { ttl = 100 }\n[[routes]]\nindex = true\nbackends = ["menu"]\n'
            '[backends.t]\ntype = "static"\ntext = "T"\n'
        )
        route = '[[routes]]\nuser = "{0}"\nsummary = "What {0} is"\nbackends = ["t"]\n'
        gateway = self.begin(LISTENER + menu + route.format("one"))
        for name in ("one", "one", "two", "one"):
            await self.reload(gateway, LISTENER + menu + route.format(name))
            assert await self.ask(gateway, b"\r\n") == f"{name}  What {name} is\r\n".encode()
        assert gateway.parts.meters["menu"].cache == {"absent": 2, "fresh": 2}

    async def test_case(self) -> None:
        """A change of case_sensitive holds for all maps at once, also for one that was empty before."""
        maps = (
            '[[routes]]\npattern = "*"\nbackends = ["file", "map"]\n'
            '[backends.file]\ntype = "static"\nfile = "people.toml"\n'
            '[backends.map]\ntype = "static"\nentries = {{ Ada = "ada" }}\n[answers]\ncase_sensitive = {0}\n'
        )
        self.write("people.toml", "")
        gateway = self.begin(LISTENER + maps.format("false"))
        assert await self.ask(gateway, b"ADA\r\n") == b"ada\r\n"
        await self.reload(gateway, LISTENER + maps.format("true"))
        self.write("people.toml", 'Moshez = "moshez"\nmoshez = "another"\n')
        with mock.patch.object(watched, "LOOK_SECONDS", 0.0):
            ends = time.monotonic() + DEADLINE_SECONDS
            while await self.ask(gateway, b"Moshez\r\n") != b"moshez\r\n":
                assert time.monotonic() < ends
        answers = [await self.ask(gateway, name + b"\r\n") for name in (b"moshez", b"MOSHEZ", b"ADA", b"Ada")]
        assert answers == [b"another\r\n", NO_SUCH_USER, NO_SUCH_USER, b"ada\r\n"]

    async def test_file(self) -> None:
        """A reload takes the present content of a watched file, without waiting until the file has settled."""
        text = '[[routes]]\npattern = "*"\nbackends = ["p"]\n[backends.p]\ntype = "static"\nfile = "people.toml"\n'
        for cache in ("", "cache = { ttl = 100 }\n"):
            self.write("people.toml", 'moshez = "Happy"')
            gateway = self.begin(LISTENER + text + cache)
            assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
            self.write("people.toml", 'moshez = "Away"')
            await self.reload(gateway, LISTENER + text + cache)
            assert await self.ask(gateway, b"moshez\r\n") == b"Away\r\n"

    async def test_file_and_a_refused_reload(self) -> None:
        """A refused reload does not take over the new content of a watched file."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        text = '[[routes]]\npattern = "*"\nbackends = ["p"]\n[backends.p]\ntype = "static"\nfile = "people.toml"\n'
        self.write("people.toml", 'moshez = "Happy"')
        with mock.patch.object(watched, "LOOK_SECONDS", 1000.0):  # by itself it does not look
            gateway = self.begin(LISTENER + text)
            self.write("people.toml", 'moshez = "Away"')
            await self.reload(gateway, LISTENER + listener(taken.getsockname()[1], "b") + text)
            assert (gateway.reloads, await self.ask(gateway, b"moshez\r\n")) == ({"refused": 1}, b"Happy\r\n")
            await self.reload(gateway, LISTENER + text)
            assert await self.ask(gateway, b"moshez\r\n") == b"Away\r\n"

    # what Twisted itself does with pyOpenSSL
    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
    async def test_authorities(self) -> None:
        """Changed authorities are used from the reload on, and do not discard cached answers."""
        old, new = trustme.CA(), trustme.CA()
        pem = new.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
        context = PrivateCertificate.loadPEM(pem).options()
        upstream = Upstream(self, says(response(b"said"), close=True), context=context)
        text = self._config(upstream, 'ca_file = "ca.pem"').replace("http:", "https:")
        self.write("ca.pem", new.cert_pem.bytes().decode())
        gateway = self.begin(text)
        assert await self.ask(gateway, b"one\r\n") == b"said\r\n"
        self.write("ca.pem", old.cert_pem.bytes().decode())
        await self.reload(gateway, text)
        assert await self.ask(gateway, b"one\r\n") == b"said\r\n"
        assert await self.ask(gateway, b"two\r\n") == b"Internal error in server\r\n"
        assert len(upstream.requests) == 1


@on_both_transports
def test_reload_storm(tmp_path: Path) -> None:
    """During at least twenty reloads each of some thousand queries gets the answer of one configuration."""
    told, done = storm(tmp_path, queries=4000, reloads=20)
    assert done >= 20
    assert sum(told.values()) == 4000
    assert {answer for answer in told if not answer.startswith(b"number ")} == set()
    assert len(told) > 3


def test_signal(tmp_path: Path) -> None:
    """SIGHUP reloads the file that was named, from any working folder, and the log level with it."""
    port = free_port()
    path = tmp_path / "fingergw.toml"
    path.write_text(listener(port) + HELLO)
    log = tmp_path / "log"
    other = tmp_path / "other"
    other.mkdir()
    arguments = ["--config", "fingergw.toml", "--rundir", "other", "--logfile", str(log)]
    with process(arguments, port=port, cwd=tmp_path) as running:
        path.write_text(listener(port) + HELLO.replace('"Hello"', '"Changed"') + '[log]\nlevel = "critical"\n')
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the new configuration")
        path.write_text("nonsense")
        before = log.read_text()
        running.send_signal(signal.SIGHUP)
        path.write_text(listener(port) + HELLO)
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: finger(port, b"hello\r\n") == b"Hello\r\n", "the newest configuration")
        assert "nonsense" not in log.read_text().removeprefix(before)
        running.terminate()
        assert running.wait(20) == 0


def test_stops_while_a_file_hangs(tmp_path: Path) -> None:
    """SIGTERM ends a gateway whose reload hangs, as it ends any other."""
    port, path = free_port(), tmp_path / "fingergw.toml"
    path.write_text(listener(port) + says_text("old"))
    with process(["--config", str(path)], port=port) as running, hanging(path):
        running.send_signal(signal.SIGHUP)
        descriptors = Path(f"/proc/{running.pid}/fd")
        wait_until(lambda: str(path) in map(os.path.realpath, descriptors.iterdir()), "the reading")
        assert finger(port, b"x\r\n") == b"old\r\n"
        running.terminate()
        assert running.wait(DEADLINE_SECONDS) == 0


def test_signals_while_it_stops(tmp_path: Path) -> None:
    """SIGHUP and SIGUSR1 do not kill a gateway that is stopping."""
    port = free_port()
    path = tmp_path / "fingergw.toml"
    path.write_text(listener(port) + HELLO)
    with forked(["--config", str(path), "--logfile", str(tmp_path / "log")], port=port) as running:
        running.terminate()

        def has_ended() -> bool:
            for number in (signal.SIGHUP, signal.SIGUSR1):
                running.send_signal(number)
            return running.poll() is not None

        wait_until(has_ended, "its end")
        assert running.returncode == 0


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Return what is closed at the end of a test."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_without_the_rights(stack: contextlib.ExitStack) -> None:
    """A new listener that needs root's rights, which are given up, is a clear error, and nothing changes."""
    port, more = privileged_port(), privileged_port()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    folder.chmod(0o755)
    log = folder / "log"
    arguments = [*write_process(folder, 'user = "nobody"', endpoint=f"tcp:{port}"), "--logfile", str(log)]
    with forked(arguments, port=port) as running:
        path = folder / "fingergw.toml"
        path.write_text(listener(more, "new") + path.read_text().replace('"Hello"', '"Changed"'))
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays active" in log.read_text(), "the refusal")
        assert f'listener "new" (tcp:{more}:interface=127.0.0.1) cannot be bound: Permission denied' in log.read_text()
        assert "a restart can bind" in log.read_text()
        assert finger(port, b"hello\r\n") == b"Hello\r\n"


@contextlib.contextmanager
def in_a_window(folder: Path, port: int, *before: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a gateway in a terminal of its own, and give the descriptor that is the terminal's window.

    :param before: a command that runs it.
    """
    window, terminal = pty.openpty()
    running = subprocess.Popen(
        [*before, *COMMAND, "--config", "fingergw.toml"],
        cwd=folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(terminal)
    try:
        wait_until(lambda: serves(port), "a listener")
        yield running, window
    finally:
        running.kill()
        running.wait()


def test_closed_window(tmp_path: Path) -> None:
    """Closing its terminal ends a gateway, although the same signal, sent with kill, reloads it."""
    port = free_port()
    path = tmp_path / "fingergw.toml"
    path.write_text(listener(port) + HELLO)
    with in_a_window(tmp_path, port) as (running, window):
        path.write_text(listener(port) + HELLO.replace('"Hello"', '"Changed"'))
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the new configuration")
        os.close(window)
        assert running.wait(20) == 0


def test_closed_window_of_nohup(tmp_path: Path) -> None:
    """A gateway that nohup keeps from that goes on, and is reloaded as by any SIGHUP."""
    port = free_port()
    path = tmp_path / "fingergw.toml"
    path.write_text(listener(port) + HELLO)
    with in_a_window(tmp_path, port, "nohup") as (_, window):
        path.write_text(listener(port) + HELLO.replace('"Hello"', '"Changed"'))
        os.close(window)
        wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the new configuration")
