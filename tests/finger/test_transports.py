"""Which transport a listener's connections have: the fast path's where it can be, else Twisted's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred

from fingergw.app.gateway import Gateway
from fingergw.core.outcome import Answered
from tests.support.configuration import HELLO, LISTENER, listener
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase
from tests.support.listener import put
from tests.support.processes import forked, process
from tests.support.sockets import free_port
from tests.support.transports import on_both_transports, without_fast_path
from tests.support.waiting import until

CONFIGURATION = LISTENER + '[log]\naccess = "off"\n'


class TransportCase(GatewayCase):
    """Tests that look at what a query comes over."""

    async def is_twisteds(self, gateway: Gateway) -> bool:
        """Tell whether the transport of a query to be answered is Twisted's."""
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(b"x\r\n")
        await until(lambda: backend.queries, "the query")
        (connection,) = gateway.listeners[0].connections.open
        found = isinstance(connection.transport, tcp.Server)  # type: ignore[attr-defined]
        backend.says.callback(Answered("yes"))
        assert await client.closed == b"yes\r\n"
        return found


class FastTests(TransportCase):
    """What the tests that are run over both transports are run over, first."""

    async def test_tcp(self) -> None:
        """TCP connections have the fast path."""
        assert not await self.is_twisteds(self.start(CONFIGURATION))

    async def test_tcp6(self) -> None:
        """So have those over IPv6."""
        text = CONFIGURATION.replace("tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\\:\\:1")
        assert not await self.is_twisteds(self.start(text))

    async def test_unix(self) -> None:
        """Unix sockets are left to Twisted."""
        assert await self.is_twisteds(self.start(CONFIGURATION.replace("tcp:0:interface=127.0.0.1", "unix:s")))


class TwistedTests(TransportCase):
    """What they are run over then."""

    async def test_tcp(self) -> None:
        """Without the fast path the transport is Twisted's."""
        with without_fast_path():
            assert await self.is_twisteds(self.start(CONFIGURATION))


@on_both_transports
class BothTests(TransportCase):
    """What the decorator of a TestCase makes of it."""

    async def test_class(self) -> None:
        """The class that is added for Twisted has Twisted's, and the one that is written has not."""
        expected = type(self).__name__ == "BothTestsOnTwisted"
        assert await self.is_twisteds(self.start(CONFIGURATION)) is expected


@on_both_transports
def test_process(transport: str, tmp_path: Path) -> None:
    """A gateway in a process of its own has the same: it has an epoll beside the reactor's for the fast path alone."""
    path, ports = tmp_path / "fingergw.toml", (free_port(), free_port())
    starts: tuple[Any, ...] = (forked, process)
    for port, start in zip(ports, starts, strict=True):
        path.write_text(listener(port) + HELLO)
        with start(["--config", str(path)], port=port) as running:
            links = [each.readlink() for each in Path(f"/proc/{running.pid}/fd").iterdir()]
            assert links.count(Path("anon_inode:[eventpoll]")) == (2 if transport == "fast" else 1)
