"""The cache in front of command, menu and static backends, with a real program that counts its runs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import tomli_w
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.app.gateway import Gateway
from fingergw.cache import cached_backend as cache_backend
from fingergw.core.query import Query
from tests.support.cache_bench import in_memory
from tests.support.gateway import Client, GatewayCase, caches
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

LONG = 3600
SHORT = 0.05
NO_SUCH_USER = b"No such user\r\n"
INTERNAL_ERROR = b"Internal error in server\r\n"
SHOW = 'echo "$FINGER_USER|$FINGER_VERBOSE|$FINGER_CLIENT|$FINGER_LISTENER"'


class CommandCacheCase(GatewayCase):
    """Tests with a gateway that has two listeners and keeps what a program answers."""

    def setUp(self) -> None:
        self.folder = self.write("runs", "").parent
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def serve(
        self, backends: dict[str, Any], *routes: dict[str, Any], listeners: Sequence[str] = ("one", "two")
    ) -> Gateway:
        """Start a gateway; a route whose chain is not given asks all backends."""
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [{"name": name, "endpoint": "tcp:0:interface=127.0.0.1"} for name in listeners],
                    "routes": [{"backends": list(backends), **route} for route in routes or ({"pattern": "*"},)],
                    "backends": backends,
                    "log": {"access": "off"},
                }
            )
        )

    def program(self, script: str, *arguments: str, cache: Mapping[str, object], **settings: object) -> dict[str, Any]:
        """Return the table of a program that notes each of its runs, and that runs in the test's folder."""
        text = f"cd '{self.folder}'\necho $FINGER_USER >> runs\n{script}\n"
        env = {"PATH": os.environ["PATH"]}
        argv = ["/bin/sh", "-c", text, "program", *arguments]
        return {"type": "command", "argv": argv, "env": env, "cache": cache, **settings}

    @property
    def runs(self) -> list[str]:
        """The names that the program has been run for."""
        return (self.folder / "runs").read_text().splitlines()

    def touch(self, name: str) -> Path:
        """Make a file that a program looks for."""
        path = self.folder / name
        path.touch()
        return path

    async def client(self, gateway: Gateway, listener: str = "one", address: str = "127.0.0.1") -> Client:
        """Connect from an address."""
        (port,) = (service.port for service in gateway.listeners if service.rules.listener == listener)
        assert port is not None
        host: Any = port.getHost()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port, bindAddress=(address, 0))
        client: Client = await connectProtocol(endpoint, Client())
        self.addCleanup(self._disconnect, client)
        return client

    async def told(self, gateway: Gateway, query: str, listener: str = "one", address: str = "127.0.0.1") -> bytes:
        """Ask from an address at a listener."""
        client = await self.client(gateway, listener, address)
        assert client.transport is not None
        client.transport.write(query.encode() + b"\r\n")
        return await client.closed

    async def askers(self, gateway: Gateway) -> list[bytes]:
        """Have the same asked twice in all the ways in which a command can be told it, and return each answer once."""
        answers = []
        for query in ("ada", "/W ada"):
            for listener in ("one", "two"):
                for address in ("127.0.0.1", "127.0.0.2"):
                    first, second = [await self.told(gateway, query, listener, address) for _ in range(2)]
                    assert first == second
                    answers.append(first)
        return list(dict.fromkeys(answers))

    def logged(self) -> list[str]:
        """Return what was logged of failures."""
        return [text for text in map(formatEvent, self.events) if " failed" in text]


class ToldTests(CommandCacheCase):
    """Who shares an answer."""

    async def test_all(self) -> None:
        """A command is told who asks, where and how, so each of these has a run and an answer of its own."""
        gateway = self.serve({"program": self.program(SHOW, cache={"ttl": LONG})})
        assert await self.askers(gateway) == [
            f"ada|{verbose}|{address}|{listener}\r\n".encode()
            for verbose in (0, 1)
            for listener in ("one", "two")
            for address in ("127.0.0.1", "127.0.0.2")
        ]
        assert self.runs == ["ada"] * 8

    async def test_nothing(self) -> None:
        """With vary = [] it is told nothing but the name, and there is one run for all."""
        gateway = self.serve({"program": self.program(SHOW, cache={"ttl": LONG, "vary": []})})
        assert await self.askers(gateway) == [b"ada|0||\r\n"]
        assert self.runs == ["ada"]

    async def test_one_thing(self) -> None:
        """With one thing in vary, it is told that and nothing else."""
        for told, answers in (
            ("verbose", [b"ada|0||\r\n", b"ada|1||\r\n"]),
            ("client", [b"ada|0|127.0.0.1|\r\n", b"ada|0|127.0.0.2|\r\n"]),
            ("listener", [b"ada|0||one\r\n", b"ada|0||two\r\n"]),
        ):
            (self.folder / "runs").write_text("")
            gateway = self.serve({"program": self.program(SHOW, cache={"ttl": LONG, "vary": [told]})})
            assert await self.askers(gateway) == answers
            assert self.runs == ["ada"] * 2

    async def test_names(self) -> None:
        """Each name has a run of its own, in whatever case it is written, even if no argument shows it."""
        gateway = self.serve({"program": self.program(SHOW, cache={"ttl": LONG, "vary": []})})
        answers = [await self.told(gateway, name) for name in ("ada", "bob", "Ada", "bob")]
        assert answers == [b"ada|0||\r\n", b"bob|0||\r\n"] * 2
        assert self.runs == ["ada", "bob"]

    async def test_groups(self) -> None:
        """A regex's group is part of what is asked, as far as the arguments show it."""
        program = self.program('echo "$1"', "{team}", cache={"ttl": LONG, "vary": []})
        gateway = self.serve({"program": program}, {"regex": "(?P<team>[a-z]+)-oncall"})
        answers = [await self.told(gateway, name) for name in ("a-oncall", "b-oncall", "a-oncall")]
        assert answers == [b"a\r\n", b"b\r\n", b"a\r\n"]
        assert self.runs == ["a-oncall", "b-oncall"]

    async def test_groups_of_two_routes(self) -> None:
        """One name in two routes, whose groups take other parts of it, has two answers."""
        program = self.program('echo "$1"', "{part}", cache={"ttl": LONG, "vary": []})
        gateway = self.serve(
            {"program": program},
            {"regex": "(?P<part>[a-z]+)-[a-z]+", "listeners": ["one"]},
            {"regex": "[a-z]+-(?P<part>[a-z]+)", "listeners": ["two"]},
        )
        for _ in range(2):
            answers = [await self.told(gateway, "a-b", listener) for listener in ("one", "two")]
            assert answers == [b"a\r\n", b"b\r\n"]
        assert len(self.runs) == 2

    async def test_many_at_once(self) -> None:
        """However many ask at once, there is one run."""
        script = "while [ ! -e go ]; do sleep 0.02; done; echo late"
        gateway = self.serve({"program": self.program(script, cache={"ttl": LONG, "vary": []})})
        clients = [await self.client(gateway, listener) for listener in ("one", "two") * 15]
        for client in clients:
            assert client.transport is not None
            client.transport.write(b"ada\r\n")
        await until(lambda: caches(gateway)[0].counts["absent"] == 30, "the last query")
        self.touch("go")
        assert {await client.closed for client in clients} == {b"late\r\n"}
        assert self.runs == ["ada"]

    async def test_the_last_one_leaves(self) -> None:
        """When the last one who waits leaves, the program is killed; while another waits, it is not."""
        script = "echo $$ > pid; mv pid started; while [ ! -e go ]; do sleep 0.02; done; echo late"
        gateway = self.serve({"program": self.program(script, cache={"ttl": LONG, "vary": []}, timeout=LONG)})
        clients = [await self.client(gateway) for _ in range(2)]
        for client in clients:
            assert client.transport is not None
            client.transport.write(b"ada\r\n")
        await until(lambda: caches(gateway)[0].counts["absent"] == 2, "the last query")
        await until((self.folder / "started").exists, "the program")
        pid = int((self.folder / "started").read_text())
        for client in clients:
            os.kill(pid, 0)  # it is there
            assert client.transport is not None
            client.transport.abortConnection()  # type: ignore[attr-defined]
            await client.closed
            await until(partial(self.has_clients, gateway, 1 if client is clients[0] else 0), "that it is seen")
        await until(partial(self.is_gone, pid), "the program's end")

    @staticmethod
    def has_clients(gateway: Gateway, number: int) -> bool:
        """Tell whether so many clients are connected to the first listener."""
        return len(gateway.listeners[0].connections.open) == number

    @staticmethod
    def is_gone(pid: int) -> bool:
        """Tell whether a process is gone, and reaped."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False


class TimeTests(CommandCacheCase):
    """For how long, and what if the program fails."""

    async def asked(self, gateway: Gateway, runs: int) -> bytes:
        """Ask until there have been so many runs; return the last answer."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = await self.told(gateway, "ada")
            if len(self.runs) >= runs:
                return answer
            assert time.monotonic() < ends, f"{len(self.runs)} runs and not {runs}"
            await deferLater(reactor, 0.01)

    async def test_refresh(self) -> None:
        """What is stale is served while the program runs anew, and then what it says now."""
        script = "if [ -e go ]; then while [ ! -e on ]; do sleep 0.02; done; echo new; else echo old; fi"
        gateway = self.serve({"program": self.program(script, cache={"ttl": SHORT, "vary": []}, timeout=LONG)})
        assert await self.told(gateway, "ada") == b"old\r\n"
        self.touch("go")
        assert await self.asked(gateway, 2) == b"old\r\n"
        assert await self.told(gateway, "ada") == b"old\r\n"
        assert len(self.runs) == 2
        self.touch("on")
        ends = time.monotonic() + DEADLINE_SECONDS
        while await self.told(gateway, "ada") != b"new\r\n":
            assert time.monotonic() < ends
            await deferLater(reactor, 0.01)

    async def test_missing(self) -> None:
        """What the program does not know is kept for negative_ttl, and not for ttl."""
        for cache, runs in (
            ({"ttl": 0, "stale": 0, "negative_ttl": LONG}, 1),
            ({"ttl": LONG, "stale": LONG, "negative_ttl": 0}, 3),
        ):
            (self.folder / "runs").write_text("")
            gateway = self.serve({"program": self.program("exit 4", cache=cache, missing_exit_codes=[4])})
            for _ in range(3):
                assert await self.told(gateway, "ada") == NO_SUCH_USER
            assert len(self.runs) == runs

    async def test_new_name(self) -> None:
        """After negative_ttl who asks for a name that is known by then has its answer at once."""
        script = "[ -e known ] || exit 4; echo known"
        cache: dict[str, object] = {"ttl": LONG, "negative_ttl": SHORT, "vary": []}
        gateway = self.serve({"program": self.program(script, cache=cache, missing_exit_codes=[4])})
        assert await self.told(gateway, "ada") == NO_SUCH_USER
        self.touch("known")
        await until(lambda: in_memory(caches(gateway)[0], Query("ada"))[0] == "expired", "the end of negative_ttl")
        assert await self.told(gateway, "ada") == b"known\r\n"

    async def test_names_that_are_options(self) -> None:
        """A name that would be an option is unknown, and costs no run."""
        program = self.program("echo run", "{user}", cache={"ttl": LONG, "vary": []})
        gateway = self.serve({"program": program})
        answers = [await self.told(gateway, name) for name in ("-x", "-x", "x")]
        assert answers == [NO_SUCH_USER, NO_SUCH_USER, b"run\r\n"]
        assert self.runs == ["x"]

    async def test_failure(self) -> None:
        """If the program fails, in whatever way, what is stale is served; it is logged once, and not run again soon."""
        patch = mock.patch.object(cache_backend, "RECHECK_SECONDS", LONG)
        patch.start()
        self.addCleanup(patch.stop)
        fallback = {"type": "static", "text": "next"}
        for way, why in (
            ("exit 3", "exit code 3"),
            ("kill -9 $$", "ended by SIGKILL"),
            ("sleep 60", "not done within 1.5 s"),
            ("head -c 2000 /dev/zero", "killed: its output is larger than max_bytes = 1000"),
        ):
            (self.folder / "runs").write_text("")
            self.events.clear()
            down = self.folder / "down"
            program = self.program(
                f"if [ -e down ]; then {way}; else echo up; fi",
                cache={"ttl": SHORT, "vary": []},
                timeout=1.5 if "sleep" in way else 20,
                max_bytes=1000,
            )
            gateway = self.serve({"program": program, "next": fallback})
            assert await self.told(gateway, "ada") == b"up\r\n"
            down.touch()
            assert await self.asked(gateway, 2) == b"up\r\n"
            counts = caches(gateway)[0].counts
            await until(partial(counts.__getitem__, "failed"), "the failure")
            for _ in range(5):
                assert await self.told(gateway, "ada") == b"up\r\n"
            assert self.logged() == [f"backend program failed, so its cached answer stays in use: {why}"]
            assert len(self.runs) == 2
            down.unlink()

    async def test_failure_with_nothing_kept(self) -> None:
        """If nothing is kept, a failure is not either: the next in the chain is asked, and the program again."""
        program = self.program("[ -e up ] || exit 3; echo up", cache={"ttl": LONG, "vary": []})
        gateway = self.serve({"program": program, "next": {"type": "static", "text": "next"}})
        answers = [await self.told(gateway, "ada") for _ in range(2)]
        self.touch("up")
        answers += [await self.told(gateway, "ada") for _ in range(2)]
        assert answers == [b"next\r\n", b"next\r\n", b"up\r\n", b"up\r\n"]
        assert len(self.runs) == 3

    async def test_a_program_that_is_gone(self) -> None:
        """A program that was removed has failed, so what it answered is served."""
        path = self.write("program", "#!/bin/sh\necho up\n")
        path.chmod(0o755)
        cache = {"ttl": SHORT, "vary": []}
        gateway = self.serve({"program": {"type": "command", "argv": [str(path)], "cache": cache}})
        assert await self.told(gateway, "ada") == b"up\r\n"
        path.unlink()
        await until(lambda: in_memory(caches(gateway)[0], Query("ada"))[0] == "stale", "the end of ttl")
        assert await self.told(gateway, "ada") == b"up\r\n"
        await until(lambda: caches(gateway)[0].counts["failed"], "the failure")
        assert await self.told(gateway, "ada") == b"up\r\n"

    async def test_a_program_that_is_gone_with_nothing_kept(self) -> None:
        """Where nothing is kept, its failure is logged as any other: once, and not as if something were kept."""
        path = self.write("program", "#!/bin/sh\necho up\n")
        path.chmod(0o755)
        gateway = self.serve({"program": {"type": "command", "argv": [str(path)], "cache": {}}})
        path.unlink()
        assert await self.told(gateway, "ada") == INTERNAL_ERROR
        why = f"{path} is missing or not executable; install it, or let the gateway's user run it"
        assert self.logged() == [f"backend program failed, asked by route *: {why}"]

    async def test_stale_if_error_when_the_program_is_gone(self) -> None:
        """Each query that gets the cached answer because the program failed counts as stale_if_error."""
        path = self.write("program", "#!/bin/sh\nexit 4\n")
        path.chmod(0o755)
        cache = {"negative_ttl": SHORT, "vary": []}
        table = {"type": "command", "argv": [str(path)], "missing_exit_codes": [4], "cache": cache}
        gateway = self.serve({"program": table})
        assert await self.told(gateway, "ada") == NO_SUCH_USER
        path.unlink()
        await until(lambda: in_memory(caches(gateway)[0], Query("ada"))[0] == "expired", "the end of negative_ttl")
        assert await self.told(gateway, "ada") == NO_SUCH_USER
        assert caches(gateway)[0].counts["stale_if_error"] == 1


class OtherBackendsTests(CommandCacheCase):
    """Backends that are told little."""

    async def check_menus(self, **cache: object) -> None:
        """See each listener and each client have the menu of what can be asked there."""
        text = {"type": "static", "text": "text"}
        gateway = self.serve(
            {"menu": {"type": "menu", "cache": {"ttl": LONG, **cache}}, "text": text},
            {"user": "menu", "backends": ["menu"]},
            {"user": "all", "summary": "All", "backends": ["text"]},
            {"user": "first", "summary": "First", "backends": ["text"], "listeners": ["one"]},
            {"user": "second", "summary": "Second", "backends": ["text"], "clients": ["127.0.0.2/32"]},
        )
        for _ in range(2):
            for listener in ("one", "two"):
                for address in ("127.0.0.1", "127.0.0.2"):
                    answer = await self.told(gateway, "menu", listener, address)
                    expected = ["all"]
                    expected += ["first"] if listener == "one" else []
                    expected += ["second"] if address == "127.0.0.2" else []
                    assert [line.split()[0] for line in answer.decode().splitlines()] == expected
        assert +caches(gateway)[0].counts == {"absent": 4, "fresh": 4}

    async def test_menu(self) -> None:
        """A menu is right for each listener and each client, also from the cache."""
        await self.check_menus()

    async def test_static(self) -> None:
        """A static backend's answers are right for each name, also from the cache."""
        for content, answers in (
            ({"entries": {"ada": "Ada", "Bob": "Bob"}}, [b"Ada\r\n", b"Bob\r\n", NO_SUCH_USER]),
            ({"text": "text"}, [b"text\r\n"] * 3),
        ):
            gateway = self.serve({"static": {"type": "static", "cache": {"ttl": LONG}, **content}})
            for _ in range(2):
                for listener in ("one", "two"):
                    found = [await self.told(gateway, name, listener) for name in ("ada", "/W BOB", "eve")]
                    assert found == answers

    async def test_times_of_zero(self) -> None:
        """With all times 0 nothing is kept, and all is answered."""
        cache = {"ttl": 0, "stale": 0, "negative_ttl": 0}
        gateway = self.serve({"program": self.program(SHOW, cache={**cache, "vary": []})})
        assert [await self.told(gateway, "ada") for _ in range(3)] == [b"ada|0||\r\n"] * 3
        assert len(self.runs) == 3
