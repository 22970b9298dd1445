"""Places for slow backends go round by client: real programs and servers, and clients at several addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.process import reapProcessHandlers

from fingergw.app.gateway import Gateway
from tests.support.finger_server import FingerServer, hangs, says
from tests.support.gateway import Client, GatewayCase
from tests.support.waiting import until

GREEDY = "127.0.0.1"
OTHERS = [f"127.0.0.{number}" for number in range(2, 5)]
CONNECTIONS = 20  # as many as one client may have
SECONDS = 0.3  # what a program takes, where that is not up to the test


class TurnsCase(GatewayCase):
    """A client at one address that asks a lot, and others that ask once."""

    def serve(self, backend: dict[str, Any], **more: Any) -> Gateway:
        """Start a gateway in which one backend answers every name."""
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                    "limits": {"max_connections_per_client": CONNECTIONS},
                    "routes": [{"pattern": "*", "backends": ["b"]}],
                    "backends": {"b": backend},
                    "log": {"access": "off"},
                    **more,
                }
            )
        )

    def program(self, script: str, **settings: Any) -> dict[str, Any]:
        """Return the table of a program that notes each of its runs, and that runs in the test's folder."""
        self.folder = self.write("runs", "").parent
        text = f"cd '{self.folder}'\necho $FINGER_USER >>runs\n{script}\necho $FINGER_USER is well\n"
        return {"type": "command", "argv": ["/bin/sh", "-c", text], "env": {"PATH": "/usr/bin:/bin"}, **settings}

    def waiting_program(self, **settings: Any) -> dict[str, Any]:
        """Return the table of a program that waits until the test says go."""
        table = self.program("while ! [ -e go ]; do sleep 0.02; done", timeout=20, **settings)
        self.go.unlink(missing_ok=True)
        return table

    @property
    def go(self) -> Path:
        """The file for which such a program waits."""
        return self.folder / "go"

    @property
    def runs(self) -> list[str]:
        """The names that the program has been run for."""
        return (self.folder / "runs").read_text().split()

    async def sent(self, gateway: Gateway, name: str, source: str) -> Client:
        """Send a query from an address, and do not wait for its answer."""
        client = await self.connect(gateway, source=source)
        client.transport.write(f"{name}\r\n".encode())  # type: ignore[union-attr]
        return client

    async def all_sent(self, gateway: Gateway, names: list[str], source: str) -> list[Client]:
        """Send queries from an address, one after the other, and wait until they wait."""
        clients = []
        for name in names:
            before = gateway.listeners[0].connections.waiting
            clients.append(await self.sent(gateway, name, source))
            await self.until_waiting(gateway, before + 1)
        return clients

    @staticmethod
    async def until_waiting(gateway: Gateway, count: int) -> None:
        """Wait until so many queries wait for their answers."""
        await until(lambda: gateway.listeners[0].connections.waiting == count, f"{count} that wait")

    @staticmethod
    async def until_asked(server: FingerServer) -> None:
        """Wait until the first query has come to a server."""
        await until(lambda: any(server.lines), "the query")


class GreedyTests(TurnsCase):
    """One address that keeps all its connections asking for what takes a while."""

    is_on = True

    async def keep_asking(self, gateway: Gateway, name: str) -> None:
        """Ask for one name after the other, until the test is over."""
        number = 0
        while self.is_on:
            number += 1
            await (await self.sent(gateway, f"{name}-{number}", GREEDY)).closed

    async def others_are_answered(self, **settings: Any) -> None:
        """See that other clients are answered meanwhile."""
        # Of its queries the last takes as long as the time-out, even if each program ends in time.
        timeout = SECONDS * CONNECTIONS / 4
        gateway = self.serve(self.program(f"sleep {SECONDS}", timeout=timeout, max_running=4, **settings))
        for number in range(CONNECTIONS):
            ensureDeferred(self.keep_asking(gateway, f"{number}"))
        await self.until_waiting(gateway, CONNECTIONS)
        try:
            for _ in range(2):
                others = [await self.sent(gateway, source, source) for source in OTHERS]
                answers = [await client.closed for client in others]
                assert answers == [f"{source} is well\r\n".encode() for source in OTHERS]
        finally:
            self.is_on = False
            await self.until_waiting(gateway, 0)
            await until(lambda: not reapProcessHandlers, "the end of the programs")

    async def test_command(self) -> None:
        """Each other client gets its answer."""
        await self.others_are_answered()

    async def test_cached_command(self) -> None:
        """So it does where answers are cached, and the program does not see who asks."""
        await self.others_are_answered(cache={"vary": [], "ttl": 0, "stale": 0})


class OrderTests(TurnsCase):
    """Whose turn is when, with one place."""

    async def test_programs(self) -> None:
        """Each of two other clients has a turn before the second that waits of one that has asked 20 times before."""
        variants: list[dict[str, Any]] = [{}, {"cache": {"vary": []}}]
        for settings in variants:
            gateway = self.serve(self.waiting_program(max_running=1, **settings))
            greedy = [f"greedy{number}" for number in range(CONNECTIONS)]
            clients = await self.all_sent(gateway, greedy, GREEDY)
            for source in OTHERS[:2]:
                clients += await self.all_sent(gateway, [f"{source}-{number}" for number in range(2)], source)
            self.go.touch()
            await gatherResults([client.closed for client in clients])
            one, two = OTHERS[:2]
            begin = ["greedy0", "greedy1", f"{one}-0", f"{two}-0", "greedy2", f"{one}-1", f"{two}-1"]
            assert self.runs == begin + greedy[3:]

    async def test_joining(self) -> None:
        """Who asks for what waits far behind in another one's queue has it at its own turn, and both are told."""
        gateway = self.serve(self.waiting_program(max_running=1, cache={"vary": []}))
        clients = await self.all_sent(gateway, [f"greedy{number}" for number in range(CONNECTIONS)], GREEDY)
        clients += await self.all_sent(gateway, [f"greedy{CONNECTIONS - 1}"], OTHERS[0])
        self.go.touch()
        answers = await gatherResults([client.closed for client in clients])
        assert answers[-1] == answers[-2] == f"greedy{CONNECTIONS - 1} is well\r\n".encode()
        assert self.runs[:4] == ["greedy0", "greedy1", f"greedy{CONNECTIONS - 1}", "greedy2"]
        assert len(self.runs) == CONNECTIONS

    async def test_joining_a_refresh(self) -> None:
        """So it is where one's queries have begun to refresh what has expired."""
        gateway = self.serve(self.waiting_program(max_running=1, cache={"vary": [], "ttl": 0, "stale": 0}))
        self.go.touch()
        await (await self.sent(gateway, "greedy9", GREEDY)).closed
        self.go.unlink()
        clients = await self.all_sent(gateway, [f"greedy{number}" for number in range(10)], GREEDY)
        clients += await self.all_sent(gateway, ["greedy9"], OTHERS[0])
        self.go.touch()
        await gatherResults([client.closed for client in clients])
        assert self.runs[1:4] == ["greedy0", "greedy1", "greedy9"]

    async def test_servers(self) -> None:
        """So it is for those who ask a finger server, as a backend or by forwarding."""
        for name in ("{}", "{}@h"):
            server = FingerServer(self, hangs())
            backend = {"type": "finger", "host": "127.0.0.1", "port": server.port, "max_running": 1}
            forwarding = {"allow": {"h": f"tcp:127.0.0.1:{server.port}"}, "max_running": 1}
            gateway = self.serve(backend, forwarding=forwarding)
            clients = await self.all_sent(gateway, [name.format(f"g{number}") for number in range(9)], GREEDY)
            clients += await self.all_sent(gateway, [name.format("other")], OTHERS[0])
            await self.until_asked(server)
            server.script = says(b"here\n")
            server.connections[0].answer(b"here\n")
            assert await gatherResults([client.closed for client in clients]) == [b"here\r\n"] * 10
            assert server.lines[:4] == [b"g0\r\n", b"g1\r\n", b"other\r\n", b"g2\r\n"]

    async def test_one_alone(self) -> None:
        """A client that is alone has all places."""
        gateway = self.serve(self.waiting_program(max_running=4))
        clients = await self.all_sent(gateway, [f"{number}" for number in range(8)], GREEDY)
        await until(lambda: len(self.runs) == 4, "four programs")
        self.go.touch()
        assert await gatherResults([client.closed for client in clients]) == [
            f"{number} is well\r\n".encode() for number in range(8)
        ]

    async def test_who_leaves(self) -> None:
        """A client that leaves while it waits takes nobody's turn."""
        gateway = self.serve(self.waiting_program(max_running=1))
        clients = await self.all_sent(gateway, ["greedy0", "greedy1"], GREEDY)
        gone = await self.all_sent(gateway, ["gone"], OTHERS[0])
        clients += await self.all_sent(gateway, ["other"], OTHERS[1])
        gone[0].transport.abortConnection()  # type: ignore[union-attr]
        await self.until_waiting(gateway, 3)
        self.go.touch()
        await gatherResults([client.closed for client in clients])
        assert self.runs == ["greedy0", "greedy1", "other"]
