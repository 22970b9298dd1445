"""Gateways that name each other, and clients that ask a slow server for the same."""

from __future__ import annotations

from typing import Any

import tomli_w
from twisted.internet.defer import gatherResults

from fingergw.app.gateway import Gateway
from tests.support.finger_server import FingerServer, hangs
from tests.support.gateway import Client, GatewayCase, port_of
from tests.support.relay import Relay
from tests.support.waiting import until

BROKEN = b"Internal error in server\r\n"
LONG = 20.0  # a time-out that nothing waits for
SHORT = 0.4
Table = dict[str, Any]


class LoopCase(GatewayCase):
    """Gateways with static names, that ask a finger server for all other names."""

    def serve(self, port: int, *, timeout: float = LONG, then: str = "", **more: Any) -> Gateway:
        """Start one.

        :param port: of the finger server.
        :param then: what it answers when the server fails.
        :param more: other keys of the backend's table; or tables of the configuration, with a capital.
        """
        tables = {key.lower(): more.pop(key) for key in list(more) if key.istitle()}
        next_one: dict[str, Table] = {"next": {"type": "static", "text": then}} if then else {}
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                    "routes": [
                        {"user": "known", "backends": ["map"]},
                        {"pattern": "*", "backends": ["server", *next_one]},
                    ],
                    "backends": {
                        "map": {"type": "static", "text": "known"},
                        "server": {"type": "finger", "host": "127.0.0.1", "port": port, "timeout": timeout, **more},
                        **next_one,
                    },
                    "log": {"access": "off"},
                    **tables,
                }
            )
        )

    def ring(self, *settings: Table) -> tuple[list[Gateway], list[Relay]]:
        """Start gateways of which each asks the next one, and the last one the first, each behind a relay."""
        relays = [Relay(self) for _ in settings]
        gateways = []
        for place, more in enumerate(settings):
            following = relays[(place + 1) % len(settings)]
            gateways.append(self.serve(following.port, **more))
            relays[place].target = port_of(gateways[place])
        return gateways, relays

    async def sent(self, gateway: Gateway, query: str) -> Client:
        """Send a query, and do not wait for its answer."""
        client = await self.connect(gateway)
        client.transport.write(f"{query}\r\n".encode())  # type: ignore[union-attr]
        return client

    @staticmethod
    async def until_asked(*relays: Relay) -> None:
        """Wait until each gateway has been asked by another one."""
        await until(lambda: all(relay.connections for relay in relays), "the questions")

    @staticmethod
    async def until_over(relays: list[Relay]) -> None:
        """Wait until none is being asked any more."""
        await until(lambda: not any(relay.open for relay in relays), "the end of the questions")


class LoopTests(LoopCase):
    """Gateways whose finger backends name each other, behind a NAT."""

    async def test_one_question_each_way(self) -> None:
        """A query that none answers makes one question each way, and ends at the timeout."""
        (one, _), relays = self.ring({"timeout": SHORT}, {"timeout": SHORT})
        assert await self.ask(one, b"x\r\n") == BROKEN
        await self.until_over(relays)
        assert [relay.connections for relay in relays] == [1, 1]

    async def test_several(self) -> None:
        """So do several queries at both, for the same name and for others, each name."""
        (one, two), relays = self.ring({"timeout": SHORT}, {"timeout": SHORT})
        clients = [await self.sent(gateway, name) for name in "aab" for gateway in (one, two)]
        await gatherResults([client.closed for client in clients])
        await self.until_over(relays)
        assert max(relay.connections for relay in relays) <= 2 * 2

    async def test_three_gateways(self) -> None:
        """So it is in a ring of three."""
        (one, _, _), relays = self.ring({"timeout": SHORT}, {"timeout": SHORT}, {"timeout": SHORT})
        assert await self.ask(one, b"/W x\r\n") == BROKEN
        await self.until_over(relays)
        assert [relay.connections for relay in relays] == [1, 1, 1]

    async def test_static_names_meanwhile(self) -> None:
        """While a question goes round, static names are answered at both, and other names go their way."""
        gateways, relays = self.ring({}, {})
        client = await self.sent(gateways[0], "x")
        await self.until_asked(*relays)
        for gateway in gateways:
            assert await self.ask(gateway, b"known\r\n") == b"known\r\n"
        await self.sent(gateways[1], "other")
        await until(lambda: [relay.connections for relay in relays] == [2, 2], "the other question")
        assert client.reason is None
        for relay in relays:
            relay.cut()  # or a stop would wait for the questions

    async def test_cache(self) -> None:
        """So it is where one of the two keeps answers."""
        for cached in (0, 1):
            settings: list[Table] = [{"timeout": SHORT}, {"timeout": SHORT}]
            settings[cached]["cache"] = {"ttl": 30}
            gateways, relays = self.ring(*settings)
            assert await self.ask(gateways[0], b"x\r\n") == BROKEN
            await self.until_over(relays)
            assert [relay.connections for relay in relays] == [1, 1]

    async def test_next_in_the_chain(self) -> None:
        """Where the other one has something else to say when its question fails, that is the answer."""
        (one, _), relays = self.ring({}, {"timeout": SHORT, "then": "not today"})
        assert await self.ask(one, b"x\r\n") == b"not today\r\n"
        assert [relay.connections for relay in relays] == [1, 1]

    async def test_forwarded(self) -> None:
        """A query that is forwarded to one that asks back makes one question more, as it is another one at first."""
        relays = [Relay(self), Relay(self)]
        forwarding = {"allow": {"h": f"tcp:127.0.0.1:{relays[1].port}"}, "timeout": SHORT}
        gateways = [
            self.serve(relays[1].port, timeout=SHORT, Forwarding=forwarding),
            self.serve(relays[0].port, timeout=SHORT),
        ]
        for relay, gateway in zip(relays, gateways, strict=True):
            relay.target = port_of(gateway)
        assert await self.ask(gateways[0], b"x@h\r\n") == BROKEN
        await self.until_over(relays)
        assert [relay.connections for relay in relays] == [1, 2]


class SlowServerTests(LoopCase):
    """A finger server that takes its time, and clients that ask for the same."""

    async def asked(self, server: FingerServer, lines: list[bytes]) -> None:
        """Wait until a server has been asked these."""
        await until(lambda: sorted(server.lines) == sorted(lines), f"the lines {lines}")

    async def both(self, queries: list[str], **more: Any) -> None:
        """See that two queries share one connection, and its answer."""
        server = FingerServer(self, hangs())
        gateway = self.serve(server.port, **self.forwarding(server), **more)
        clients = [await self.sent(gateway, query) for query in queries]
        await until(lambda: gateway.listeners[0].connections.waiting == len(queries), "the queries")
        await self.asked(server, [b"x\r\n"])
        server.connections[0].answer(b"here\n")
        assert [await client.closed for client in clients] == [b"here\r\n"] * len(queries)
        assert len(server.connections) == 1

    @staticmethod
    def forwarding(server: FingerServer) -> Table:
        """Return the table that forwards to a server as ``h``."""
        return {"Forwarding": {"allow": {"h": f"tcp:127.0.0.1:{server.port}"}, "timeout": LONG}}

    async def test_same_question(self) -> None:
        """Clients that ask for the same name at the same time share one connection, and all get the answer."""
        await self.both(["x", "x", "X"])
        await self.both(["x", "x"], cache={"ttl": 30})

    async def test_same_question_forwarded(self) -> None:
        """So it is where the server is asked by forwarding."""
        await self.both(["x@h", "X@h"])

    async def test_first_one_leaves(self) -> None:
        """When the one leaves that has asked first, the other one still gets the answer."""
        server = FingerServer(self, hangs())
        gateway = self.serve(server.port)
        first, second = [await self.sent(gateway, "x") for _ in range(2)]
        await until(lambda: gateway.listeners[0].connections.waiting == 2, "the queries")
        await self.asked(server, [b"x\r\n"])
        first.transport.abortConnection()  # type: ignore[union-attr]
        await until(lambda: gateway.listeners[0].connections.waiting == 1, "its end")
        server.connections[0].answer(b"here\n")
        assert await second.closed == b"here\r\n"

    async def test_all_leave(self) -> None:
        """When all have left the connection is closed, and who asks then asks anew."""
        server = FingerServer(self, hangs())
        gateway = self.serve(server.port)
        clients = [await self.sent(gateway, "x") for _ in range(2)]
        await until(lambda: gateway.listeners[0].connections.waiting == 2, "the queries")
        await self.asked(server, [b"x\r\n"])
        for client in clients:
            client.transport.abortConnection()  # type: ignore[union-attr]
        await until(lambda: not server.open, "the end of the connection")
        client = await self.sent(gateway, "x")
        await self.asked(server, [b"x\r\n"] * 2)
        server.connections[1].answer(b"here\n")
        assert await client.closed == b"here\r\n"

    async def test_after_the_answer(self) -> None:
        """Who asks when the answer has come asks anew."""
        server = FingerServer(self, lambda served: served.answer(f"{len(server.connections)}\n".encode()))
        gateway = self.serve(server.port)
        assert [await self.ask(gateway, b"x\r\n") for _ in range(3)] == [b"1\r\n", b"2\r\n", b"3\r\n"]

    async def test_different_questions(self) -> None:
        """Other names, and /W, are other questions, and none waits for another."""
        for host in ("", "@h"):
            server = FingerServer(self, hangs())
            gateway = self.serve(server.port, **self.forwarding(server))
            clients = [await self.sent(gateway, f"{query}{host}") for query in ("x", "y", "/W x")]
            await self.asked(server, [b"x\r\n", b"y\r\n", b"/W x\r\n"])
            for connection in server.connections:
                connection.answer(b"to " + connection.received)
            assert [await client.closed for client in clients] == [b"to x\r\n", b"to y\r\n", b"to /W x\r\n"]

    async def test_names_that_are_not_sent(self) -> None:
        """A name that would be read as /W is missing at once, while the host is asked for its list of users."""
        server = FingerServer(self, hangs())
        gateway = self.serve(server.port, **self.forwarding(server))
        client = await self.sent(gateway, "@h")
        await self.asked(server, [b"\r\n"])
        assert await self.ask(gateway, b"/W@h\r\n") == b"No such user\r\n"
        server.connections[0].answer(b"users\n")
        assert await client.closed == b"users\r\n"
