"""The finger client behind ``fingergw query``, with servers that misbehave."""

from __future__ import annotations

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred

from fingergw.client import Target, ask
from tests.finger_server import FingerServer, Script, breaks_off, half_closes, hangs, says, trickles
from tests.support import GatewayCase, free_port, reactor, until


class ClientTests(GatewayCase):
    async def shown(self, script: Script, *, timeout: float = 20) -> str:
        """Return what is shown of a server that does as the script says, once the connection is gone."""
        server = FingerServer(self, script)
        asking = Deferred.fromCoroutine(ask(Target("127.0.0.1", server.port, "x"), reactor, timeout=timeout))
        try:
            return await asking
        finally:
            await until(lambda: server.connections and not server.open, "the end of the connection")

    async def test_whole(self) -> None:
        """An answer is shown, however it comes."""
        for script in (says(b"whole\r\n"), half_closes(b"whole\r\n"), trickles(b"whole\r\n")):
            assert await self.shown(script) == "whole\n"
        assert await self.shown(says(b"")) == ""

    async def test_reset_in_the_middle(self) -> None:
        """What there is of an answer that broke off is shown."""
        assert await self.shown(breaks_off(b"half")) == "half"

    async def test_reset_at_once(self) -> None:
        """A connection that broke off without an answer is an error."""
        with pytest.raises(error.ConnectionLost):
            await self.shown(breaks_off())

    async def test_too_much(self) -> None:
        """An answer of more than 1 MiB is cut there, also one that would not end."""
        for script in (says(b"x" * (3 << 20)), hangs(b"x" * (3 << 20))):
            assert await self.shown(script) == "x" * (1 << 20)

    async def test_timeout(self) -> None:
        """An answer that does not end in time is an error."""
        with pytest.raises(TimeoutError, match=r"^no answer within 0\.2 s$"):
            await self.shown(hangs(b"half"), timeout=0.2)

    async def test_refused(self) -> None:
        """So is a server that is not there."""
        with pytest.raises(error.ConnectionRefusedError):
            await ask(Target("127.0.0.1", free_port(), "x"), reactor, timeout=20)
