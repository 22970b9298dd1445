"""A gateway in this process that is reloaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

import fingergw
from fingergw import config
from fingergw.app.gateway import Gateway
from fingergw.app.reload import Operation
from tests.support.gateway import GatewayCase
from tests.support.waiting import reactor, until


class ReloadCase(GatewayCase):
    """A gateway in this process that is reloaded as a signal would."""

    def begin(self, text: str, *, warns_late: bool = False) -> Gateway:
        """Start one that can be reloaded, and have it stopped at the end.

        :param warns_late: whether it logs what is doubtful in the text while the test goes on.
        """
        self.path = self.write("fingergw.toml", text)
        gateway = fingergw.make_service(fingergw.load(self.path), reactor)
        assert isinstance(gateway, Gateway)
        gateway.parts.warns_late = warns_late
        self.applied: list[Any] = []
        gateway.operation = self.operation = Operation(gateway, partial(config.read, self.path), self.applied.append)
        gateway.privilegedStartService()
        gateway.startService()
        self.addCleanup(gateway.stopService)
        return gateway

    async def reload(self, gateway: Gateway, text: str) -> list[str]:
        """Reload, wait until that is over, and return what was logged of it."""
        self.write("fingergw.toml", text)
        before = sum(gateway.reloads.values())
        with capturedLogs() as logged:
            self.operation.reload()
            await until(lambda: sum(gateway.reloads.values()) > before, "the end of the reload")
        return told(logged)


def told(logged: Sequence[LogEvent]) -> list[str]:
    """Return the messages of fingergw itself, but for debugging."""
    own = [event for event in logged if event.get("log_namespace", "").startswith("fingergw.")]
    return [formatEvent(event) for event in own if event["log_level"] > LogLevel.debug]
