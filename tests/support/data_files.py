"""Gateways whose answers come from files that change."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.net import watched
from tests.support.gateway import GatewayCase

STATIC = """
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[[routes]]
pattern = "*"
backends = ["people"]
[backends.people]
type = "static"
file = "people.toml"
[log]
access = "off"
"""


class AtOnce(GatewayCase):
    """Tests in which a change is seen at once, and what is logged is kept."""

    def setUp(self) -> None:
        self.patch(watched, "_LOOK_SECONDS", 0.0)
        self.patch(watched, "_SETTLED_SECONDS", 0.0)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    @property
    def lines(self) -> list[str]:
        """What was logged of files."""
        return [line for line in map(formatEvent, self.events) if "stays in use" in line]
