"""Throttling of log messages that repeat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogFilterPredicate, LogEvent, LogLevel, PredicateResult, formatEvent
from zope.interface import implementer

_MINUTE_SECONDS = 60.0
_MAX_CHARACTERS = 1000
_KEPT = ("log_level", "log_namespace", "log_system")
# These fields come from the configuration. Outsiders may choose what is in any other.
_CONFIGURED = ("backend", "route", "listener", "name", "program", "path")
# Never throttled: these answer an operator's signals, and a daemon's access log comes as "stdout".
_UNTHROTTLED = ("fingergw.app.reload", "fingergw.app.daemon", "fingergw.app.gateway", "stdout")

_Key: TypeAlias = tuple[object, ...]
_LIMITS = (
    (1, "{count} more in the last minute: {text}"),
    (5, "{count} more of this kind in the last minute, the last: {text}"),
    (100, "{count} more of other kinds in the last minute, the last: {text}"),
)
"""How many are written in a minute of one message, of one kind and of all (a hundred of each: information; warnings and
errors), and the summary of those that are not."""


@implementer(ILogFilterPredicate)
@define(eq=False, repr=False)
class Repeats:
    """Let each message through once a minute. At the end of the minute, summarise how many more there were.

    Messages that differ only in what outsiders may choose are of one kind: pass values as fields, not in the format, or
    each makes a kind of its own. So that nobody can fill the log, in a minute only five of a kind are let through, and
    in all a hundred messages with information and a hundred warnings and errors. Debug messages are not throttled, and
    neither is an event with ``throttled=False``.

    :param summarise: is called with an event for each summary.
    """

    clock: IReactorTime
    summarise: Callable[[LogEvent], object]
    _passed: Counter[_Key] = field(init=False, factory=Counter)
    _held_back: dict[tuple[int, _Key], LogEvent] = field(init=False, factory=dict)
    _minute_ends: float = field(init=False, default=0.0)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def __call__(self, event: LogEvent) -> Any:
        """Return ``no`` for an event that is to be summarised, and ``maybe`` for one to be written."""
        level, namespace = event["log_level"], event.get("log_namespace")
        is_severe = level > LogLevel.info
        # Twisted's old-style information is about listeners that start and stop
        is_legacy_information = namespace == "log_legacy" and not is_severe
        is_throttled = event.get("throttled", True) and namespace not in _UNTHROTTLED and not is_legacy_information
        if level < LogLevel.info or not is_throttled:
            return PredicateResult.maybe
        if self.clock.seconds() >= self._minute_ends:
            self.end_minute()
        text = _text(event)
        configured = (str(event.get(key)) for key in _CONFIGURED)
        keys = _keys((is_severe, namespace, level, event.get("log_format"), *configured, text))
        for scope, (key, (most, summary)) in enumerate(zip(keys, _LIMITS, strict=True)):
            if self._passed[key] >= most:
                held_back = self._held_back.get((scope, key))
                if held_back is None:
                    kept = {name: event[name] for name in _KEPT if name in event}
                    held_back = self._held_back[scope, key] = {**kept, "log_format": summary, "count": 0}
                held_back["count"] += 1
                held_back.update(text=text, client=event.get("client"))
                if self._timer is None:
                    self._timer = self.clock.callLater(self._minute_ends - self.clock.seconds(), self.end_minute)
                return PredicateResult.no
        self._passed.update(keys)
        return PredicateResult.maybe

    def end_minute(self) -> None:
        """Summarise what was held back. Messages that repeated are held back in the next minute from the start."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._minute_ends = self.clock.seconds() + _MINUTE_SECONDS
        held_back, self._held_back = self._held_back, {}
        self._passed = Counter(key for scope, message in held_back if scope == 0 for key in _keys(message))
        for event in held_back.values():
            self.summarise({**event, "log_time": time.time()})


def _keys(message: _Key) -> tuple[_Key, _Key, _Key]:
    """Return the keys that a message counts for: its own, its kind's, and all messages'."""
    return message, message[:-1], message[:1]


def _text(event: LogEvent) -> str:
    """Return the start of a message, and its exception without the traceback, which is slow to format."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.getErrorMessage()}"
    return text[:_MAX_CHARACTERS]
