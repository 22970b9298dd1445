"""One client that asks for more names than the cache can hold, and what it leaves of the answers of others."""

from __future__ import annotations

from typing import Any

import tomli_w
from twisted.internet.defer import Deferred, gatherResults

from fingergw.app.gateway import Gateway
from tests.support.finger_server import FingerServer, Served
from tests.support.gateway import GatewayCase
from tests.support.waiting import until

MAX_ENTRIES, NAMES = 50, 200
VICTIM, FLOODER = "192.0.2.1", "198.51.100.7"


class FloodTests(GatewayCase):
    """A gateway behind a proxy, so that a test can have any client's address, and two servers that it asks."""

    def setUp(self) -> None:
        self.is_down = False
        self.rota = FingerServer(self, self._answer)
        self.people = FingerServer(self, self._answer)

    def _answer(self, served: Served) -> None:
        if self.is_down:
            served.reset()
        else:
            served.answer(b"this is " + served.received)

    def gateway(self, store: str = "memory") -> Gateway:
        """Start a gateway whose cache has room for a few answers."""
        kept: dict[str, Any] = {"type": "finger", "host": "127.0.0.1", "breaker": False, "cache": {"ttl": 0.001}}
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [
                        {"endpoint": "haproxy:tcp:0:interface=127.0.0.1", "trusted_proxies": ["127.0.0.1/32"]}
                    ],
                    "routes": [{"user": "oncall", "backends": ["rota"]}, {"pattern": "*", "backends": ["people"]}],
                    "backends": {
                        "rota": {**kept, "port": self.rota.port},
                        "people": {**kept, "port": self.people.port},
                    },
                    "cache": {"store": store, "max_entries": MAX_ENTRIES},
                    "log": {"access": "off"},
                }
            )
        )

    async def told(self, gateway: Gateway, name: str, client: str) -> bytes:
        """Ask as a client."""
        family, other = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
        return await self.ask(gateway, f"PROXY {family} {client} {other} 1 1\r\n{name}\r\n".encode())

    async def flood(self, gateway: Gateway, client: str = FLOODER) -> None:
        """Ask for many names; each number in the client's address is that of the name."""
        for start in range(0, NAMES, 20):
            names = range(start, start + 20)
            asked = [self.told(gateway, f"x{number}", client.format(number + 1)) for number in names]
            assert await gatherResults(map(Deferred.fromCoroutine, asked)) == [
                b"this is x%d\r\n" % number for number in names
            ]

    async def assert_kept(self, gateway: Gateway, name: str) -> None:
        """See that an answer is still there once nobody can be asked for it any more."""
        self.is_down = True
        assert await self.told(gateway, name, VICTIM) == f"this is {name}\r\n".encode()

    async def test_another_backend(self) -> None:
        """An answer of a backend that few ask stays, however many names are invented for another one."""
        gateway = self.gateway()
        await self.told(gateway, "oncall", VICTIM)
        await self.flood(gateway)
        await self.assert_kept(gateway, "oncall")

    async def test_the_same_backend(self) -> None:
        """An answer that another client asked for stays, however many names are invented for its backend."""
        gateway = self.gateway()
        await self.told(gateway, "ada", VICTIM)
        await self.flood(gateway)
        await self.assert_kept(gateway, "ada")

    async def test_the_flooder_asks_for_it_too(self) -> None:
        """Whoever asks for an answer of others as well does not draw it into a share that it then floods."""
        gateway = self.gateway()
        await self.told(gateway, "ada", VICTIM)
        await self.told(gateway, "ada", FLOODER)
        await self.flood(gateway)
        await self.assert_kept(gateway, "ada")

    async def test_a_subnet(self) -> None:
        """The many addresses of an IPv6 /64 fill one share."""
        gateway = self.gateway()
        await self.told(gateway, "ada", VICTIM)
        await self.flood(gateway, "2001:db8::{:x}")
        await self.assert_kept(gateway, "ada")

    async def test_in_a_file(self) -> None:
        """An SQLite file keeps to the shares, too."""
        store = f"sqlite:{self.write('note', '').parent}/cache.db"
        gateway = self.gateway(store)
        await until(lambda: gateway.parts.store is not None and gateway.parts.store.is_open, "the store")
        for name in ("oncall", "ada"):
            await self.told(gateway, name, VICTIM)
        await self.flood(gateway)
        await gateway.stopService()
        again = self.gateway(store)
        await self.assert_kept(again, "oncall")
        await self.assert_kept(again, "ada")
