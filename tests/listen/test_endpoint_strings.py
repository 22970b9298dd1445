"""Servers' endpoint strings: what they bind, and sockets that were passed."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from fingergw.app.parts.listeners import check_socket
from fingergw.app.parts.machine import Machine
from fingergw.core.errors import ListenError
from fingergw.listen import endpoints
from fingergw.listen.client_strings import parse_client
from fingergw.listen.endpoint_strings import PROXIED, anchor, split
from fingergw.listen.endpoints import on_loopback, parse, server
from fingergw.net.resolving import Resolver
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
        "tcp:79:interface=localhost",
        "ssl:79:k.pem:interface=localhost",
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
    r"tcp:79:interface=\:\:1": [
        r"tcp6:79:interface=\:\:1",
        "tcp6:79:interface=localhost",
        "tls:/c:79:interface=localhost",
        r"tls:/certs:79:4096:\:\:1",
    ],
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


KINDS = [
    "tcp",
    "tcp6",
    "TCP",
    r"t\cp",
    "unix",
    "systemd",
    "ssl",
    "tls",
    "haproxy",
    "stdio",
    "fd",
    "onion",
    "x",
    "",
    "79",
]
NAMES = [
    "port",
    "interface",
    "backlog",
    "address",
    "mode",
    "lockfile",
    "domain",
    "index",
    "name",
    "path",
    "privateKey",
    "x",
]
NAMES += ["host", "timeout", "bindAddress", "endpoint", "trustRoots", ""]
WORDS = [
    "0",
    "79",
    "65536",
    "-1",
    "-3",
    "x",
    "localhost",
    "127.0.0.1",
    r"\:\:1",
    "::1",
    "INET",
    "UNIX",
    "s",
    "a/b",
    "\n",
    "é",
]
PARTS = st.one_of(
    st.sampled_from(WORDS),
    st.builds("{}={}".format, st.sampled_from(NAMES), st.sampled_from(WORDS)),
    st.text(r":=\79sx ", max_size=5),
)
STRINGS = st.builds(
    "{}{}".format,
    st.lists(st.one_of(st.sampled_from(KINDS), PARTS), min_size=1, max_size=6).map(":".join),
    st.sampled_from(["", "", "\\", ":", "="]),
)
# what parsing raises of these is about this machine
UNPARSED = ("systemd", "onion")


def is_right(text: str, folder: Path) -> bool:
    """Tell whether the endpoint of a listener is right, as ``check`` does."""
    machine = Machine(folder)
    sockets = [check_socket(text, each, machine, reactor, "endpoint") for each in (text, on_loopback(text))]
    assert all(problem.message and problem.path == ("endpoint",) for problem in machine.problems)
    return None not in sockets


@settings(max_examples=200, deadline=None)
@given(STRINGS)
@example("unix:mode=660:s")
@example(r"unix:addre\ss=s")
@example("tcp:79:interface=localhost")
@example("systemd:domain=INET:index=0")
@example("ssl:79:privateKey=k.pem\\")
@example("port=79:tcp")
@example("tcp:79:\\")
def test_what_check_takes_twisted_takes(text: str) -> None:
    """Whatever the string of a listener, it is a mistake or Twisted takes it too, and nothing raises anything else."""
    with tempfile.TemporaryDirectory() as folder:
        if not is_right(text, Path(folder)):
            return
    bare = ":".join(split(text.removeprefix(PROXIED)))  # Twisted minds case in some types' names; we never do
    if not bare.startswith(UNPARSED):
        serverFromString(reactor, bare)
        parse(server(text).socket, reactor)


@settings(max_examples=200, deadline=None)
@given(STRINGS)
@example("unix:/x\\")
@example("timeout=5:ssl:h:79")
@example("tcp:h:79:bindAddress=x\\")
@example(r"tls:h:79:endpoint=unix\:x\\")
def test_what_forwarding_takes_twisted_takes(text: str) -> None:
    """Likewise the string of a host that queries are forwarded to."""
    with contextlib.suppress(ListenError):
        parse_client(text, Path("/"), Resolver(reactor), 5)
        clientFromString(reactor, text)


@pytest.mark.parametrize(
    ("description", "anchored"),
    [
        ("unix:mode=660:s", "unix:mode=660:/base/s"),
        (r"unix:addr\ess=s", r"unix:addr\ess=/base/s"),
        ("unix:a\\\nb", "unix:/base/a\nb"),
    ],
)
def test_paths_wherever_they_stand(description: str, anchored: str) -> None:
    """A path is found after named arguments, under a quoted name, and with a quoted line end in it."""
    assert anchor(description, Path("/base")) == anchored


def test_what_may_be_different_at_the_start() -> None:
    """An address that this machine has not, and a folder that a unit makes as it starts, are no mistakes in a check."""
    for text in ("tcp:79:interface=192.0.2.1", "tcp6:79:interface=192.0.2.1", r"tcp:79:interface=fe80\:\:1%none"):
        warning = server(text).check(reactor)
        assert warning is not None
        why = "is no address of this machine now, and without it the gateway cannot start"
        assert warning.endswith(f" {why}; assign it to this machine, or name another")
    for folder in ("/run/no-such-unit", "/run/no/such/unit", "/var/lib/no-such-unit", "/var/log/no-such-unit"):
        assert server(f"unix:{folder}/s").check(reactor) == (
            f"no folder {folder} now, and without it the gateway cannot start; a systemd unit makes it if it has a "
            f"RuntimeDirectory=, StateDirectory= or the like; or make it: mkdir -p {folder}"
        )
    for text in (
        "tcp:79",
        "tcp:79:interface=127.0.0.1",
        "tcp:79:interface=localhost",
        "unix:/run/s",
        "systemd:INET:index=9",
    ):
        assert server(text).check(reactor) is None


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
