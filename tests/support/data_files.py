"""Gateways whose answers come from files that change."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from fingergw.net import watched
from tests.support.configuration import one_backend
from tests.support.gateway import GatewayCase
from tests.support.waiting import DEADLINE_SECONDS

STATIC = one_backend('type = "static"\nfile = "people.toml"\n[log]\naccess = "off"', name="people")


class AtOnce(GatewayCase):
    """Tests in which a changed file is noticed at once, and log events are collected."""

    def setUp(self) -> None:
        self.patch(watched, "LOOK_SECONDS", 0.0)
        self.patch(watched, "PATIENCE_SECONDS", DEADLINE_SECONDS)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    @property
    def lines(self) -> list[str]:
        """What was logged of files."""
        return [line for line in map(formatEvent, self.events) if "stays in use" in line]
