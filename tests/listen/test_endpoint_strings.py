"""Servers' endpoint strings: what they bind, and sockets that were passed."""

from __future__ import annotations

import socket
import tempfile
from functools import partial
from typing import Any

import pytest
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from fingergw.core.errors import ListenError
from fingergw.listen import endpoints
from fingergw.listen.endpoints import on_loopback, parse, server
from tests.support.waiting import reactor

SAME = {
    "tcp:79": [
        "tcp:port=79",
        "tcp:079",
        "tcp:79:backlog=4096",
        "tcp:79::4096",
        "haproxy:tcp:79",
        "tcp:79:interface=0.0.0.0",
        "TCP:79",
        r"t\cp:79",
    ],
    "tcp:79:interface=127.0.0.1": [
        "tcp:79:127.0.0.1",
        "tcp:interface=127.0.0.1:port=79",
        "ssl:79:privateKey=k.pem:interface=127.0.0.1",
        "ssl:79:k.pem:c.pem:TLS_METHOD:127.0.0.1",
        "Ssl:79:k.pem:interface=127.0.0.1",
    ],
    r"tcp:79:interface=\:\:": [
        "tcp6:79",
        r"tcp6:79:interface=0\:0\:\:0",
        "tcp6:79:4096",
        "tls:/certs:79",
        "tls:port=79:path=/other",
    ],
    r"tcp:79:interface=\:\:1": [r"tcp6:79:interface=\:\:1", r"tls:/certs:79:4096:\:\:1"],
    "tcp:79:backlog=50": ["tcp:79:backlog=50", "ssl:79:backlog=50"],
    "unix:/run/s": ["unix:address=/run/s", "unix:/run/s:mode=666", "unix:/run/s:0666", "unix:/run/s:lockfile=1"],
    "unix:/run/s:mode=660:lockfile=0": ["unix:/run/s:lockfile=0:mode=660", "unix:/run/s:660:4096:0"],
    r"unix:/run/a\=b\:c": [r"unix:/run/a\=b\:c", r"unix:address=/run/a=b\:c"],
    "systemd:domain=INET:name=x": ["systemd:INET:name=x", "systemd:name=x:domain=INET"],
    "other:x=1:y": ["other:x=1:y"],
}


@pytest.mark.parametrize("expected", SAME)
def test_socket_of(expected: str) -> None:
    """However a string is spelled, and whether TLS or a proxy comes before it, what it binds is spelled one way."""
    socket_string = server(expected).socket
    for description in SAME[expected]:
        assert server(description).socket == socket_string, description
    assert socket_string not in {server(other).socket for other in SAME if other != expected}


def test_not_secured() -> None:
    """Without TLS a factory stays as it is."""
    factory = Factory()
    for description in ("tcp:79", "unix:/run/s", "haproxy:tcp:79", "other:x"):
        assert server(description).secured(reactor)(factory) is factory


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("tcp:79", "tcp:79:interface=127.0.0.1"),
        ("tcp6:79", r"tcp6:79:interface=\:\:1"),
        ("ssl:79:k.pem", "ssl:79:k.pem:interface=127.0.0.1"),
        ("tls:/certs:79", r"tls:/certs:79:interface=\:\:1"),
        ("tcp:79:interface=192.0.2.1", "tcp:79:interface=192.0.2.1"),
        ("tcp:79:192.0.2.1", "tcp:79:192.0.2.1"),
        ("tcp:79:interface=", "tcp:79:interface="),
        ("unix:/run/s", "unix:/run/s"),
        ("other:79", "other:79"),
        ("tcp:7\\", "tcp:7\\"),
        ("tcp", "tcp"),
        ("TCP:79", "TCP:79:interface=127.0.0.1"),
    ],
)
def test_on_loopback(description: str, expected: str) -> None:
    """A string that names no interface gets the loopback's; one that names any, even all, is left alone."""
    assert on_loopback(description) == expected
    if ":79" in description and not description.startswith("other"):
        server(on_loopback(description))


class PassedTests(TestCase):
    """Sockets that systemd passed."""

    def _pass(self) -> int:
        """Pass a socket by the name ``public``, and return its port."""
        passed = socket.create_server(("127.0.0.1", 0))
        port: int = passed.getsockname()[1]
        self._has(passed.detach())
        return port

    def _has(self, descriptor: int) -> None:
        """Have ``systemd:`` strings mean a descriptor, as if this process had been started with it."""
        endpoint = partial(AdoptedStreamServerEndpoint, reactor, descriptor, socket.AF_INET)
        self.patch(endpoints, "serverFromString", lambda *_: endpoint())

    async def test_again(self) -> None:
        """One whose listener is gone is there for the next; what has its number meanwhile is not what was passed."""
        number = self._pass()
        for _ in range(2):
            port: Any = await parse("systemd:domain=INET:name=public", reactor).listen(Factory())
            assert port.getHost().port == number
            await port.stopListening()

    def test_others(self) -> None:
        """A socket that is no stream, and one with a path, are refused with what to write."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        with_path = socket.socket(socket.AF_UNIX)
        with_path.bind(f"{folder.name}/s")
        for passed, domain, expected in (
            (datagrams, "INET", "ListenStream="),
            (with_path, "UNIX", "unix:PATH"),
        ):
            with passed:
                self._has(passed.fileno())
                with pytest.raises(ListenError, match=expected):
                    parse(f"systemd:domain={domain}:name=public", reactor)

    async def test_failed(self) -> None:
        """One that could not be taken over can be tried again."""
        self._pass()
        description = "systemd:domain=INET:name=public"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reactor, "adoptStreamPort", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await parse(description, reactor).listen(Factory())
        port: Any = await parse(description, reactor).listen(Factory())
        await port.stopListening()
