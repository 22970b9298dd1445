"""Whole gateways with an SQLite store: restarts, damaged files and bad disks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any
from unittest import mock

import tomli_w
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.app.gateway import Gateway
from fingergw.cache import guarded
from fingergw.cache.guarded import GuardedStore
from tests.support.finger_server import FingerServer
from tests.support.finger_server import says as answers
from tests.support.gateway import Client
from tests.support.http_server import HttpCase, RawServer, Script, Upstream, response, says
from tests.support.processes import COMMAND, forked, process
from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

LONG = 3600
SHORT = 0.05
NEXT = b"next in the chain\r\n"
NOT_OURS = b"This is somebody's diary, and no cache.\n" * 200


def echoing(prefix: str = "") -> Script:
    """Return a script that answers with the path it is asked for."""

    def script(server: RawServer, head: bytes) -> None:
        server.send(response(prefix.encode() + head.split(b" ")[1]))

    return script


class SqliteCase(HttpCase):
    """Tests with gateways that keep a URL's answers in a file."""

    def setUp(self) -> None:
        self.folder = self.write("unused", "").parent
        self.path = self.folder / "cache.db"
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        # A test's machine may be so busy that a healthy disk is slow.
        patch = mock.patch.object(guarded, "ANSWER_SECONDS", DEADLINE_SECONDS)
        patch.start()
        self.addCleanup(patch.stop)

    def configured(
        self, url: str, *, port: int = 0, ttl: float = LONG, file: str = "cache.db", **settings: object
    ) -> str:
        """Return the configuration of a gateway in which a URL answers everything, or a text if that fails."""
        return tomli_w.dumps(
            {
                "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
                "limits": {"max_connections_per_client": 1000},
                "routes": [{"pattern": "*", "backends": ["web", "next"], "fallthrough": ["failed"]}],
                "backends": {
                    "web": {"type": "http", "url": url, "cache": {"ttl": ttl}, **settings},
                    "next": {"type": "static", "text": "next in the chain"},
                },
                "cache": {"store": f"sqlite:{file}"},
                "log": {"access": "off"},
            }
        )

    async def opened(self, url: str, **settings: Any) -> Gateway:
        """Start such a gateway, and wait until the file is in use."""
        gateway = self.start(self.configured(url, **settings))
        await until(lambda: self.store(gateway).is_open, "the store")
        return gateway

    @staticmethod
    def store(gateway: Gateway) -> GuardedStore:
        """Return a gateway's store."""
        assert gateway.parts.store is not None
        return gateway.parts.store

    async def left_out(self, gateway: Gateway, failures: int = 1) -> None:
        """Wait until a gateway's store has had this many failures."""
        await until(lambda: self.store(gateway).failures >= failures, "the store's failure")

    async def back(self, gateway: Gateway) -> None:
        """Ask for one new name after the other until a gateway's store is in use, and the log says so."""
        ends, number = time.monotonic() + DEADLINE_SECONDS, 0
        while not (self.store(gateway).is_open and self.logged("db is back")):
            assert time.monotonic() < ends, "the store is not back"
            number += 1
            await self.answers(gateway, [f"back{number}"])
            await deferLater(reactor, 0.02)

    async def answers(self, gateway: Gateway, names: Sequence[str]) -> list[bytes]:
        """Ask for some names."""
        return [await self.ask(gateway, name.encode() + b"\r\n") for name in names]

    async def tell(self, port: int, name: str = "x") -> bytes:
        """Ask a process."""
        client: Client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Client())
        assert client.transport is not None
        client.transport.write(name.encode() + b"\r\n")
        return await client.closed

    async def eventually(self, port: int, answer: bytes, name: str = "x") -> None:
        """Ask a process until it answers this: it waits a quarter of a second for its disk, and disks can be slow."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while (got := await self.tell(port, name)) != answer:
            assert time.monotonic() < ends, f"{got!r} and not {answer!r}"
            await deferLater(reactor, 0.02)

    async def in_use(self, port: int, name: str = "before{}") -> None:
        """Ask a process until an answer is in the file. While that is being opened, answers are not."""
        ends, number, entries = time.monotonic() + DEADLINE_SECONDS, 0, 0
        while not entries:
            assert time.monotonic() < ends, "the file is not used"
            number += 1
            await self.tell(port, name.format(number))
            with (
                contextlib.suppress(sqlite3.OperationalError),  # it is not there yet, or has no table
                contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection,
            ):
                (entries,) = connection.execute("SELECT count(*) FROM answers").fetchone()

    async def stored(self, text: str, name: str = "x") -> bytes:
        """Return the answer of a gateway that has only the file."""
        gateway = self.start(text)
        await until(lambda: self.store(gateway).is_open, "the store")
        answer = await self.ask(gateway, name.encode() + b"\r\n")
        await gateway.stopService()
        return answer

    def logged(self, part: str) -> list[str]:
        """Return the messages that contain a text."""
        return [text for text in map(formatEvent, self.events) if part in text]

    def mount(self) -> Path:
        """Return a folder that is a small file system."""
        folder = self.folder / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
            self.skipTest("only root can mount, and not within every container")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        return folder


class RestartTests(SqliteCase):
    """A gateway's answers are there after a restart."""

    async def test_an_outage(self) -> None:
        """A gateway that is restarted while upstream is down answers from the file."""
        upstream = self.upstream(echoing("kept: "))
        port = free_port()
        config = self.write("fingergw.toml", self.configured(upstream.url + "/{user}", port=port, ttl=SHORT))
        arguments = ["--config", str(config)]
        with forked(arguments, port=port) as first:
            await self.in_use(port, "x")
            assert await self.tell(port) == b"kept: /x\r\n"
            first.terminate()
            assert first.wait(DEADLINE_SECONDS) == 0
        await upstream.stop()
        with forked(arguments, port=port) as second:
            await self.eventually(port, b"kept: /x\r\n")
            assert await self.tell(port, "other") == NEXT
            second.terminate()
            assert second.wait(DEADLINE_SECONDS) == 0

    async def test_another_hash_seed(self) -> None:
        """Whatever Python's hash seed, another process finds the answers of each type of backend."""
        upstream = self.upstream(says(response(b'{"body": "b", "x": "y"}')))
        server = FingerServer(self, answers(b"finger"))
        self.write("token", "secret").chmod(0o600)
        self.write("people.toml", 'file = "file"\nada = { name = "Ada", office = "1" }\n')
        backends: dict[str, dict[str, object]] = {
            "web": {
                "type": "http",
                "url": f"{upstream.url}/{{user}}",
                "headers": {"Accept": "text/plain", "X-One": "1", "X-Two": "2"},
                "bearer_token_file": "token",
                "missing_statuses": [404, 410, 418],
            },
            "json": {"type": "http", "url": upstream.url, "template": "{{ user }}{{ body }}{{ x }}"},
            "file": {"type": "static", "file": "people.toml"},
            "map": {"type": "static", "entries": {"map": "map", "ada": {"name": "Ada", "plan": "x"}}},
            "text": {"type": "static", "text": "text"},
            "menu": {"type": "menu"},
            "finger": {"type": "finger", "host": "127.0.0.1", "port": server.port},
            "command": {"type": "command", "argv": ["echo", "{user}"], "env": {"LANG": "C", "A": "1", "B": "2"}},
        }
        routes = [{"user": name, "summary": name, "clients": ["127.0.0.0/8"], "backends": [name]} for name in backends]
        port = free_port()
        configuration = {
            "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
            "routes": [{"pattern": "web*", "backends": ["web"]}, *routes],
            "backends": {name: {**table, "cache": {"ttl": LONG}} for name, table in backends.items()},
            "cache": {"store": "sqlite:cache.db"},
            "log": {"access": "off"},
        }
        arguments = ["--config", str(self.write("fingergw.toml", tomli_w.dumps(configuration)))]
        kept: list[list[bytes]] = []
        for seed in ("1", "2"):
            command = ["env", f"PYTHONHASHSEED={seed}", *COMMAND]
            with process(arguments, port=port, command=command) as running:
                await self.in_use(port, "web{}")
                for name in backends:
                    await self.tell(port, name)
                running.terminate()
                assert running.wait(DEADLINE_SECONDS) == 0
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                found = connection.execute("SELECT key FROM answers ORDER BY key").fetchall()
                kept.append([key for (key,) in found])
        assert {key.split(b":")[2].decode() for key in kept[0]} == set(backends)
        assert kept[0] == kept[1]

    async def test_the_first_query(self) -> None:
        """Even the first query is, once the file is open, and none waits for an upstream that hangs."""
        upstream = self.upstream(echoing("kept: "))
        first = await self.opened(upstream.url + "/{user}", ttl=SHORT, timeout=LONG)
        assert await self.ask(first, b"x\r\n") == b"kept: /x\r\n"
        await first.stopService()
        upstream.script = says()
        second = await self.opened(upstream.url + "/{user}", ttl=SHORT, timeout=LONG)
        assert await self.answers(second, ["x", "x"]) == [b"kept: /x\r\n"] * 2

    async def test_fresh(self) -> None:
        """A fresh answer is still fresh after a restart, and upstream is not asked."""
        upstream = self.upstream(echoing())
        for _ in range(2):
            gateway = await self.opened(upstream.url + "/{user}")
            assert await self.answers(gateway, ["x", "y", "x"]) == [b"/x\r\n", b"/y\r\n", b"/x\r\n"]
            await gateway.stopService()
        assert len(upstream.requests) == 2

    async def test_old_answers(self) -> None:
        """With stale_while_revalidate = 0 a restarted gateway serves an old answer only if upstream fails."""
        upstream = self.upstream(echoing("old: "))
        text = self.configured(upstream.url + "/{user}", cache={"ttl": 0, "stale_while_revalidate": 0})
        assert await self.stored(text) == b"old: /x\r\n"
        upstream.script = echoing("new: ")
        assert await self.stored(text) == b"new: /x\r\n"
        upstream.script = says(response(b"", status="500 Oops"))
        assert await self.stored(text) == b"new: /x\r\n"
        await upstream.stop()
        assert await self.stored(text) == b"new: /x\r\n"

    async def test_conditions(self) -> None:
        """Validators are kept too: after a restart a 304 is enough."""
        extra = 'ETag: "one"\r\nCache-Control: no-cache\r\n'
        upstream = self.upstream(says(response(b"kept", extra=extra)))
        text = self.configured(upstream.url)
        assert await self.stored(text) == b"kept\r\n"
        upstream.script = says(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        assert await self.stored(text) == b"kept\r\n"
        assert [b'If-None-Match: "one"' in head for head in upstream.requests] == [False, True]

    async def test_stopping_loses_nothing(self) -> None:
        """An answer from right before SIGTERM is in the file."""
        upstream = self.upstream(echoing("kept: "))
        port = free_port()
        config = self.write("fingergw.toml", self.configured(upstream.url + "/{user}", port=port))
        for attempt in range(5):
            for path in self.folder.glob("cache.db*"):
                path.unlink()
            names = [f"n{attempt}x{number}" for number in range(30)]
            with forked(["--config", str(config)], port=port) as running:
                await self.in_use(port)
                for name in names:
                    assert await self.tell(port, name) == b"kept: /%s\r\n" % name.encode()
                running.send_signal(signal.SIGTERM)
                output = "".join(running.communicate(timeout=DEADLINE_SECONDS))
                assert running.returncode == 0
            if "is unavailable" not in output:  # as the machine was so busy that a healthy disk was slow
                break
        await upstream.stop()
        gateway = await self.opened(upstream.url + "/{user}")
        assert await self.answers(gateway, names) == [b"kept: /%s\r\n" % name.encode() for name in names]

    async def test_another_url(self) -> None:
        """A changed backend of the same name does not get the previous one's answers."""
        old, new = self.upstream(echoing("old ")), self.upstream(echoing("new "))
        assert await self.stored(self.configured(old.url + "/{user}")) == b"old /x\r\n"
        assert await self.stored(self.configured(new.url + "/{user}")) == b"new /x\r\n"
        assert await self.stored(self.configured(old.url + "/{user}?a=b")) == b"old /x?a=b\r\n"
        await old.stop()
        await new.stop()
        assert await self.stored(self.configured(old.url + "/{user}", headers={"Accept": "a/b"})) == NEXT
        assert await self.stored(self.configured(old.url + "/{user}", template="{{ body }}")) == NEXT
        assert await self.stored(self.configured(old.url + "/{user}")) == b"old /x\r\n"

    async def test_another_token(self) -> None:
        """Nor does a backend with another token, which may be somebody else's."""
        upstream = self.upstream(lambda server, head: server.send(response(head.partition(b"Bearer ")[2].split()[0])))
        for name in ("first", "second"):
            self.write(name, f"of-the-{name}").chmod(0o600)
            text = self.configured(upstream.url, bearer_token_file=name)
            assert await self.stored(text) == f"of-the-{name}\r\n".encode()

    async def test_other_times(self) -> None:
        """Changing a backend's ttl discards its answers, and upstream is asked."""
        upstream = self.upstream(echoing())
        for ttl in (86400, 5):
            assert await self.stored(self.configured(upstream.url + "/{user}", ttl=ttl)) == b"/x\r\n"
        assert len(upstream.requests) == 2

    async def test_unknown_names(self) -> None:
        """An unknown name is not in the file: after a restart upstream is asked for it."""
        upstream = self.upstream(says(response(b"", status="404 Not Found")))
        text = self.configured(upstream.url)
        for _ in range(2):
            assert await self.stored(text) == b"No such user\r\n"
        assert len(upstream.requests) == 2

    async def test_what_may_not_be_stored_any_more(self) -> None:
        """An answer that upstream forbids to store, or no longer has, is removed from the file."""
        upstream = self.upstream(echoing("kept: "))
        for name, last, answer in (
            ("x", response(b"secret", extra="Cache-Control: no-store\r\n"), b"secret\r\n"),
            ("y", response(b"", status="404 Not Found"), b"No such user\r\n"),
        ):
            gateway = await self.opened(upstream.url + "/{user}", ttl=SHORT)
            assert await self.answers(gateway, [name]) == [f"kept: /{name}\r\n".encode()]
            upstream.script = says(last)
            requests = len(upstream.requests)
            ends = time.monotonic() + DEADLINE_SECONDS
            while await self.answers(gateway, [name]) != [answer]:
                assert time.monotonic() < ends
            assert len(upstream.requests) > requests
            await gateway.stopService()
            upstream.script = says(response(b"", status="500 Oops"))
            assert await self.stored(self.configured(upstream.url + "/{user}", ttl=SHORT), name) == NEXT
            upstream.script = echoing("kept: ")

    async def test_two_gateways(self) -> None:
        """Two gateways that share a file by mistake both answer, and end without an error."""
        upstream = self.upstream(echoing())
        port = free_port()
        config = self.write("other.toml", self.configured(upstream.url + "/{user}", port=port))
        with forked(["--config", str(config)], port=port) as other:
            gateway = await self.opened(upstream.url + "/{user}")
            names = [f"n{number}" for number in range(60)]
            expected = [f"/{name}\r\n".encode() for name in names]
            asking = [Deferred.fromCoroutine(self.tell(port, name)) for name in names]
            assert await self.answers(gateway, names) == expected
            assert [await answer for answer in asking] == expected
            other.terminate()
            output, errors = other.communicate(timeout=DEADLINE_SECONDS)
        assert other.returncode == 0
        assert "Traceback" not in output + errors
        assert not Path(f"{self.path}.corrupt").exists()


class FileTests(SqliteCase):
    """Files that are damaged, missing or not the gateway's."""

    async def filled(self, upstream: Upstream) -> Gateway:
        """Return a gateway that has kept more than SQLite keeps in memory."""
        upstream.script = says(response(b"kept" * 15000))
        gateway = await self.opened(upstream.url + "/{user}")
        await self.answers(gateway, [f"n{number}" for number in range(60)])
        return gateway

    async def damaged(self, upstream: Upstream) -> None:
        """Leave a file with many answers, and overwrite all but its first page with garbage."""
        gateway = await self.filled(upstream)
        await gateway.stopService()
        self.garble()

    def garble(self) -> None:
        """Overwrite all but the first page with garbage."""
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write((b"garbage " * size)[: size - 4096])

    async def test_damaged(self) -> None:
        """A damaged file is moved aside, the log says so once, and a new file is used."""
        upstream = self.upstream(says())
        await self.damaged(upstream)
        upstream.script = echoing()
        text = self.configured(upstream.url + "/{user}")
        for _ in range(2):
            assert await self.stored(text) == b"/x\r\n"
        assert len(upstream.requests) == 61
        assert len([line for line in self.logged("cache.db") if not line.endswith("is in use")]) == 1
        assert len(self.logged("damaged; it was moved to")) == 1
        assert Path(f"{self.path}.corrupt").exists()

    async def test_damaged_while_serving(self) -> None:
        """A file that is damaged while it is in use is moved aside too; all queries are answered meanwhile."""
        upstream = self.upstream(says())
        gateway = await self.filled(upstream)
        await gateway.stopService()
        gateway = await self.opened(upstream.url + "/{user}")
        self.garble()
        upstream.script = echoing()
        number = 0
        ends = time.monotonic() + DEADLINE_SECONDS
        while not self.store(gateway).failures:
            number += 1
            assert await self.ask(gateway, b"n%d\r\n" % number) == b"/n%d\r\n" % number
            assert time.monotonic() < ends
        await self.back(gateway)
        assert await self.ask(gateway, b"x\r\n") == b"/x\r\n"
        await gateway.stopService()
        await upstream.stop()
        assert await self.stored(self.configured(upstream.url + "/{user}")) == b"/x\r\n"
        assert Path(f"{self.path}.corrupt").exists()

    async def check_not_ours(self) -> Gateway:
        """Check that a gateway answers, leaves the file alone at every attempt, and logs that once."""
        before = self.path.read_bytes()
        upstream = self.upstream(echoing())
        gateway = self.start(self.configured(upstream.url + "/{user}"))
        for name in ("x", "y", "x", "y"):
            assert await self.ask(gateway, name.encode() + b"\r\n") == b"/%s\r\n" % name.encode()
        await self.left_out(gateway, 2)
        assert await self.ask(gateway, b"z\r\n") == b"/z\r\n"
        assert len(upstream.requests) == 3  # what is in memory is served
        assert self.path.read_bytes() == before
        (line,) = self.logged("is unavailable")
        assert "is not a cache of fingergw; name another file" in line
        assert {path.name for path in self.folder.iterdir()} == {"cache.db", "fingergw.toml", "unused"}
        return gateway

    async def test_not_ours(self) -> None:
        """A file of another kind is never touched. When it is out of the way, the log says that the store is back."""
        self.path.write_bytes(NOT_OURS)
        gateway = await self.check_not_ours()
        self.path.rename(self.folder / "diary")
        await self.back(gateway)
        assert len(self.logged("is unavailable")) == len(self.logged("db is back")) == 1
        assert (self.folder / "diary").read_bytes() == NOT_OURS

    async def test_garbage_throughout(self) -> None:
        """Nor is a gateway's file that cannot be recognised as one any more."""
        gateway = await self.opened(self.upstream(echoing()).url)
        await gateway.stopService()
        self.path.write_bytes(b"garbage " * 1000)
        self.events.clear()
        await self.check_not_ours()

    async def test_not_ours_for_a_process(self) -> None:
        """So does a gateway in a process of its own, which ends without an error."""
        self.path.write_bytes(NOT_OURS)
        upstream = self.upstream(echoing())
        port = free_port()
        config = self.write("fingergw.toml", self.configured(upstream.url + "/{user}", port=port))
        with forked(["--config", str(config)], port=port) as running:
            assert await self.tell(port) == b"/x\r\n"
            running.terminate()
            output, errors = running.communicate(timeout=DEADLINE_SECONDS)
        assert running.returncode == 0
        assert (output + errors).count("is unavailable") == 1
        assert "Traceback" not in output + errors
        assert self.path.read_bytes() == NOT_OURS

    async def test_what_others_may_have_written(self) -> None:
        """A file of mode 0666 is not trusted: it is left alone, the log says so once, and upstream is asked."""
        upstream = self.upstream(echoing())
        configuration = self.configured(upstream.url + "/{user}")
        gateway = self.start(configuration)
        assert await self.ask(gateway, b"x\r\n") == b"/x\r\n"
        await gateway.stopService()
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            ((value,),) = connection.execute("SELECT value FROM answers").fetchall()
            value = value.replace(b"/x", b"/y")
            connection.execute("UPDATE answers SET value = ?, digest = ?", (value, sha1(value).digest()))
        forged = self.path.read_bytes()
        self.path.chmod(0o666)
        self.events.clear()
        gateway = self.start(configuration)
        assert await self.ask(gateway, b"x\r\n") == b"/x\r\n"
        await self.left_out(gateway, 2)
        (line,) = self.logged("is unavailable")
        assert "others can write to it, so its content cannot be trusted; remove it" in line
        assert self.path.read_bytes() == forged
        self.path.unlink()
        await self.back(gateway)

    async def test_a_folder_that_comes_later(self) -> None:
        """The folder that a link leads into can be made later, and the store is used from then on."""
        upstream = self.upstream(echoing())
        self.path.symlink_to(self.folder / "later" / "cache.db")
        gateway = self.start(self.configured(upstream.url + "/{user}"))
        await self.left_out(gateway)
        (self.folder / "later").mkdir()
        await self.back(gateway)
        assert await self.ask(gateway, b"x\r\n") == b"/x\r\n"
        await gateway.stopService()
        await upstream.stop()
        assert await self.stored(self.configured(upstream.url + "/{user}", file="later/cache.db")) == b"/x\r\n"

    async def test_locked(self) -> None:
        """While another program locks the file, queries are answered; the log says so once, and when it is unlocked."""
        upstream = self.upstream(echoing())
        gateway = await self.opened(upstream.url + "/{user}")
        await self.answers(gateway, ["early", "other"])
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as locking:
            locking.execute("BEGIN IMMEDIATE")
            number = 0
            ends = time.monotonic() + DEADLINE_SECONDS
            while self.store(gateway).failures < 2:
                number += 1
                assert await self.answers(gateway, [f"n{number}"]) == [b"/n%d\r\n" % number]
                assert time.monotonic() < ends
            locking.execute("ROLLBACK")
        await self.back(gateway)
        assert len(self.logged("is unavailable")) == len(self.logged("db is back")) == 1
        assert await self.answers(gateway, ["late"]) == [b"/late\r\n"]
        await gateway.stopService()
        await upstream.stop()
        text = self.configured(upstream.url + "/{user}")
        assert [await self.stored(text, name) for name in ("early", "late")] == [b"/early\r\n", b"/late\r\n"]

    async def test_removed_while_serving(self) -> None:
        """When the file is removed while it is in use, all queries are answered."""
        upstream = self.upstream(echoing())
        gateway = await self.opened(upstream.url + "/{user}")
        await self.ask(gateway, b"x\r\n")
        for path in self.folder.glob("cache.db*"):
            path.unlink()
        names = [f"n{number}" for number in range(20)]
        assert await self.answers(gateway, names) == [b"/%s\r\n" % name.encode() for name in names]

    async def test_removed_and_made_anew(self) -> None:
        """A removed file is created again, so that answers survive a restart again."""
        upstream = self.upstream(echoing())
        gateway = await self.opened(upstream.url + "/{user}")
        await self.ask(gateway, b"x\r\n")
        for path in self.folder.glob("cache.db*"):
            path.unlink()
        ends, number = time.monotonic() + 5, 0
        while not self.path.exists():
            number += 1
            assert await self.ask(gateway, b"n%d\r\n" % number) == b"/n%d\r\n" % number
            assert time.monotonic() < ends, "it was not made anew"
            await deferLater(reactor, 0.05)


class DiskTests(SqliteCase):
    """Disks that are full or read-only."""

    def fill(self, folder: Path) -> Path:
        """Fill the disk, and return the file that does."""
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 512)
        return ballast

    async def test_full(self) -> None:
        """On a disk that becomes full all queries are answered; the log says so once, and when there is room again."""
        disk = self.mount()
        upstream = self.upstream(lambda server, head: server.send(response(head.split(b" ")[1] * 2000)))
        gateway = await self.opened(upstream.url + "/{user}", file="disk/cache.db")
        await self.answers(gateway, ["early", "other"])  # when the file is asked for the other, it has the first
        ballast = self.fill(disk)
        number = 0
        ends = time.monotonic() + DEADLINE_SECONDS
        while self.store(gateway).failures < 3:
            number += 1
            name = b"n%d" % number
            begun = time.monotonic()
            assert await self.ask(gateway, name + b"\r\n") == (b"/" + name) * 2000 + b"\r\n"
            assert time.monotonic() - begun < 3
            assert time.monotonic() < ends
            await deferLater(reactor, 0.02)
        assert len(self.logged("is unavailable")) == 1
        assert self.logged("db is back") == []
        ballast.unlink()
        await self.back(gateway)
        await self.ask(gateway, b"late\r\n")
        await gateway.stopService()
        await upstream.stop()
        text = self.configured(upstream.url + "/{user}", file="disk/cache.db")
        kept = [await self.stored(text, name) for name in ("early", "late")]
        assert kept == [b"/early" * 2000 + b"\r\n", b"/late" * 2000 + b"\r\n"]
        assert len(self.logged("is unavailable")) == len(self.logged("db is back")) == 1

    async def test_nearly_full(self) -> None:
        """On a disk with room for small answers but not for large ones, the log says so once."""
        disk = self.mount()
        upstream = self.upstream(lambda server, head: server.send(response(head.split(b" ")[1] * 6000)))
        gateway = await self.opened(upstream.url + "/{user}", file="disk/cache.db")
        ballast = self.fill(disk)
        os.truncate(ballast, ballast.stat().st_size - 32768)
        number = 0
        ends = time.monotonic() + DEADLINE_SECONDS
        while self.store(gateway).failures < 3:
            number += 1
            name = b"n%d" % number
            assert await self.ask(gateway, name + b"\r\n") == (b"/" + name) * 6000 + b"\r\n"
            assert time.monotonic() < ends
            await deferLater(reactor, 0.02)
        assert len(self.logged("is unavailable")) == 1

    async def test_full_at_the_start(self) -> None:
        """A gateway that starts on a full disk answers; when there is room, it begins to use the file."""
        disk = self.mount()
        ballast = self.fill(disk)
        upstream = self.upstream(echoing())
        text = self.configured(upstream.url + "/{user}", file="disk/cache.db")
        gateway = self.start(text)
        assert await self.answers(gateway, ["x", "y"]) == [b"/x\r\n", b"/y\r\n"]
        await self.left_out(gateway, 2)
        assert len(self.logged("is unavailable")) == 1
        ballast.unlink()
        await self.back(gateway)
        assert await self.ask(gateway, b"z\r\n") == b"/z\r\n"
        await gateway.stopService()
        await upstream.stop()
        assert await self.stored(text, "z") == b"/z\r\n"

    async def test_read_only(self) -> None:
        """On a read-only disk all queries are answered; the log says so once, and when the disk is writable again."""
        disk = self.mount()
        upstream = self.upstream(echoing())
        text = self.configured(upstream.url + "/{user}", file="disk/cache.db")
        for name in "xy":  # first there is no file, then there is one
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            self.events.clear()
            gateway = self.start(text)
            assert await self.answers(gateway, ["a", "b"]) == [b"/a\r\n", b"/b\r\n"]
            await self.left_out(gateway, 2)
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            await self.back(gateway)
            assert len(self.logged("is unavailable")) == len(self.logged("db is back")) == 1
            assert await self.answers(gateway, [name]) == [f"/{name}\r\n".encode()]
            await gateway.stopService()
        await upstream.stop()
        assert [await self.stored(text, name) for name in ("x", "y")] == [b"/x\r\n", b"/y\r\n"]
