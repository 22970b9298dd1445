"""Which sockets take each other's port: what is said of two endpoint strings is what the kernel does."""

from __future__ import annotations

from itertools import product

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from fingergw.listen.endpoints import parse, server
from fingergw.listen.taken import taken_twice
from tests.support.sockets import free_port
from tests.support.waiting import reactor

ENDPOINTS = (
    "tcp:{port}",
    "tcp:{port}:interface=0.0.0.0",
    "tcp:{port}:interface=127.0.0.1",
    "tcp:{port}:interface=127.0.0.2:backlog=9",
    "haproxy:tcp:{port}:interface=127.0.0.1",
    "ssl:{port}",
    "tls:certificates:{port}:interface=127.0.0.1",
    "tcp6:{port}",
    r"tcp6:{port}:interface=\:\:1",
    r"tcp:{port}:interface=\:\:",
    r"tcp6:{port}:interface=0\:0\:0\:0\:0\:0\:0\:1",
    r"tcp6:{port}:interface=\:\:ffff\:127.0.0.1",
    "tcp:{other}",
)


class Taken(TestCase):
    async def _can_bind(self, first: str, second: str) -> bool:
        """Bind one socket, and tell whether the other can be bound beside it."""
        bound = [await parse(first, reactor).listen(Factory())]
        try:
            bound.append(await parse(second, reactor).listen(Factory()))
        except CannotListenError:
            return False
        finally:
            for port in bound:
                await maybeDeferred(port.stopListening)
        return True

    async def test_as_the_kernel_does(self) -> None:
        """Each two of many endpoint strings are said to take each other's port if and only if they do."""
        wrong = []
        for first, second in product(ENDPOINTS, repeat=2):
            port, other = free_port(), free_port()
            sockets = [server(each.format(port=port, other=other)).socket for each in (first, second)]
            said = list(taken_twice(sockets))
            if (said == []) is not await self._can_bind(*sockets):
                wrong.append((first, second, said))
            assert said in ([], [(1, 0, f"port {port}")], [(1, 0, f"port {other}")])
        assert wrong == []
