"""Listeners where nobody is, whoever is asked for."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fingergw.core.outcome import Answered
from tests.support.fakes import FakeBackend
from tests.support.gateway import GatewayCase
from tests.support.listener import FakeTransport, connect, make_listener
from tests.support.transports import on_both_transports

NOBODY = b"No such user\r\n"
LINES = [
    b"x\r\n",
    b"\r\n",
    b"/W\r\n",
    b"a@b\r\n",
    b"@b\r\n",
    b"\x1b[2J\r\n",
    b"\xff\xfe\r\n",
    b"z" * 1000,
    b"GET /\r\n",
]


def decoy(delay: float = 0.0, clock: Clock | None = None, **settings: Any) -> tuple[Any, FakeBackend]:
    """Return a decoy, and the backend that its routes have."""
    backend = FakeBackend(Answered("hi"))
    return make_listener(backend, clock=clock, decoy_delay=delay, **settings), backend


@pytest.mark.parametrize("line", LINES)
def test_nobody_is_there(line: bytes) -> None:
    """Whatever is asked, valid or not, the answer is no_such_user, and no route's backend is asked."""
    listener, backend = decoy()
    transport = connect(listener)
    transport.protocol.dataReceived(line)
    assert transport.sent() == NOBODY
    assert transport.closed or transport.half_closed
    assert backend.queries == []


class DelayTests(TestCase):
    """A decoy that takes its time."""

    def _asked(self, delay: float) -> tuple[FakeTransport, Clock]:
        clock = Clock()
        listener, _ = decoy(delay, clock)
        transport = connect(listener)
        transport.protocol.dataReceived(b"x\r\n")
        return transport, clock

    def test_delay(self) -> None:
        """It answers when its time is over, be that shorter or longer than any other of its times."""
        for delay in (0.5, 60.0):
            transport, clock = self._asked(delay)
            clock.pump([0.1] * int(delay * 10 - 1))
            assert transport.sent() == b""
            clock.pump([0.1] * 22)
            assert (transport.sent(), transport.closed) == (NOBODY, "clean")

    def test_client_that_does_not_say_goodbye(self) -> None:
        """Also without a delay a client under TLS has the time for its goodbye that one of any other listener has."""
        clock = Clock()
        listener, _ = decoy(0.0, clock)
        transport = connect(listener, reads=False)
        transport.protocol.dataReceived(b"x\r\n")
        clock.pump([0.5] * 29)
        assert transport.closed == ""
        clock.pump([0.5] * 6)
        assert transport.closed == "aborted"

    def test_stop_for_such_a_client(self) -> None:
        """A stop waits for it no longer than for any other whose answer is on its way."""
        clock = Clock()
        listener, _ = decoy(60.0, clock)
        transport = connect(listener, reads=False)
        transport.protocol.dataReceived(b"x\r\n")
        drained = listener.connections.drain()
        clock.pump([0.5] * 9)
        assert transport.closed == "aborted"
        assert drained.called

    def test_half_close(self) -> None:
        """A client that has closed its side waits like any other."""
        transport, clock = self._asked(5)
        transport.protocol.readConnectionLost()
        assert (transport.sent(), transport.closed) == (b"", "")
        clock.pump([0.1] * 75)
        assert transport.sent() == NOBODY

    def test_stop(self) -> None:
        """A stop does not wait: queries that are waiting are answered at once."""
        transport, _ = self._asked(60)
        drained = transport.protocol.connections.drain()
        assert (transport.sent(), transport.closed) == (NOBODY, "clean")
        assert drained.called

    def test_what_is_sent_meanwhile(self) -> None:
        """A client that goes on sending is cut off after a bounded amount."""
        transport, _ = self._asked(60)
        transport.protocol.dataReceived(b"z" * 65537)
        assert transport.closed == "aborted"


def test_logged_whole(tmp_path: Path) -> None:
    """Each query is in the log as it came, escaped, with its time; that of one who left before the answer too."""
    path, clock = tmp_path / "log", Clock()
    listener, _ = decoy(2.0, clock, log=path)
    for line in (b"root\r\n", b"\x1b]0;x\x07 \xfe@h\r\n", b"z" * 1000):
        connect(listener, client="192.0.2.1").protocol.dataReceived(line)
    clock.pump([0.1] * 45)
    leaver = connect(listener)
    leaver.protocol.dataReceived(b"gone\r\n")
    leaver.abortConnection()
    listener.access_log.close()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert {entry["query"]: entry["outcome"] for entry in entries} == {
        "root": "no_such_user",
        "\x1b]0;x\x07 \\xfe@h": "no_such_user",
        "z" * 512: "no_such_user",
        "gone": "gone",
    }
    assert all(entry["milliseconds"] >= 2000 for entry in entries if entry["outcome"] != "gone")
    assert path.read_bytes().isascii()
    assert b"\x1b" not in path.read_bytes()


@on_both_transports
class RealTests(GatewayCase):
    """From the file to the socket."""

    async def test_beside_an_honest_listener(self) -> None:
        """A decoy knows nobody, while the listener beside it does; it logs what it was asked."""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            gateway = self.start(
                '[[listeners]]\nname = "honest"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
                '[[listeners]]\nname = "decoy"\nendpoint = "tcp:0:interface=127.0.0.1"\ndecoy = true\ndelay = 0.3\n'
                f'[[routes]]\nuser = "x"\nbackends = ["b"]\n[backends.b]\ntype = "static"\ntext = "hi"\n'
                f'[log]\naccess = "{log}"\n'
            )
            assert await self.ask(gateway, b"x\r\n") == b"hi\r\n"
            assert await self.ask(gateway, b"x\r\n", listener=1) == NOBODY
            await gateway.stopService()
            assert '"decoy" 127.0.0.1 "x" "" "" no_such_user 14 3' in log.read_text()
