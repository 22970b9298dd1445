"""A backend that is opened as a gateway does it, whose upstream is the test's."""

from __future__ import annotations

import time
from typing import Any, Literal, TypeAlias
from unittest.mock import patch

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from fingergw.app.parts.checked_backend import CheckedBackend
from fingergw.app.parts.open_backend import OpenBackend, UncachedBackend, open_backend
from fingergw.backends.finger import Finger
from fingergw.backends.http import Http
from fingergw.cache.cached_backend import CachedBackend
from fingergw.cache.memory import Memory
from fingergw.config.model import Backend
from fingergw.core.breaker import OptionalBreaker
from fingergw.core.outcome import Answered, BackendCache, Failed, Missing, Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import HostName, Url
from fingergw.net.site import Site
from fingergw.telemetry.meters import BackendMeter

Cache: TypeAlias = BackendCache | Literal["once"] | None
"""How long answers are kept; ``"once"`` if they are only shared by those who ask the same at the same time."""


@define(eq=False)
class Call:
    """What upstream is being asked.

    :param said: fires with what it says.
    :param ended: fires when it has ended after it was cancelled.
    """

    name: str
    said: Deferred[Any] = field(factory=Deferred)
    ended: Deferred[None] = field(factory=Deferred)


@define(eq=False)
class Upstream:
    """A backend that answers as it is told.

    :param lingers: whether it goes on for a while after it is cancelled.
    :param says: an outcome, or an exception to raise; None while it hangs.
    :param asked: the names it was asked.
    :param running: what it has not answered yet.
    """

    lingers: bool = False
    says: Outcome | BaseException | None = None
    asked: list[str] = field(factory=list)
    running: list[Call] = field(factory=list)
    cancelled: int = 0

    async def answer(self, query: Query) -> Outcome:
        """Answer as told."""
        self.asked.append(query.user)
        call = Call(query.user)
        self.running.append(call)
        try:
            said: Any = self.says
            if said is None:
                said = await call.said
        except CancelledError:
            self.cancelled += 1
            if self.lingers:
                await call.ended
            raise
        finally:
            self.running.remove(call)
        if isinstance(said, BaseException):
            raise said
        assert isinstance(said, Answered | Missing | Failed)
        return said


def opened(
    upstream: Upstream,
    clock: Clock,
    *,
    cache: Cache,
    timeout: float,
    max_running: int,
    breaker: OptionalBreaker,
    by_name: bool,
) -> OpenBackend:
    """Open a backend as a gateway does.

    :param timeout: in seconds.
    :param by_name: whether upstream is told the name.
    """
    some: Any = object()
    kept = None if cache == "once" else cache
    url = Template("http://upstream.example/{user}" if by_name else "http://upstream.example/")
    own, kind = (Finger(host=HostName("x")), "finger") if cache == "once" else (Http(url=Url(url)), "http")
    table = Backend(kind, own, kept, timeout, max_running, breaker)
    site = Site("b", clock, some, timeout, some, files={}, programs={}, given={}, keywords=some, convert=some)
    with patch.object(type(own), "open", lambda *_: upstream), patch.object(time, "monotonic", clock.seconds):
        return open_backend(CheckedBackend("b", table), site, BackendMeter(), Memory(1000, 10**7), None)


async def asked(opened: OpenBackend, query: Query) -> Outcome:
    """Ask it as a chain does."""
    entry: CachedBackend | UncachedBackend = opened.entry
    known = entry.at_once(query)
    return await entry.answer(query) if known is None else known


@implementer(ILogObserver)
@define(eq=False)
class BreakerLog:
    """What the log says of the breakers of backends.

    :param changes: each time one ``opened`` or ``closed``.
    """

    changes: list[str] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        """Take a line of the log."""
        line = formatEvent(event)
        if line.startswith("backend b is not asked for "):
            self.changes.append("opened")
        elif line == "backend b responds again":
            self.changes.append("closed")
