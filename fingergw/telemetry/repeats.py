"""Log messages that come again and again, summed up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import LogEvent, LogLevel, formatEvent

_SECONDS = 60.0
_MAX_OF_A_KIND = 5
_MAX_MESSAGES = 100
_MAX_CHARACTERS = 1000
_KEPT = ("log_level", "log_namespace", "log_system")
# What the configuration names; whatever else a message has in it may be an outsider's choice.
_CONFIGURED = ("backend", "route", "listener", "name", "program", "path")

# What an operator has asked for is answered each time; and the access log's lines may come as "stdout".
_ALWAYS = ("fingergw.app.reload", "fingergw.app.daemon", "fingergw.app.gateway", "stdout")

_Kind: TypeAlias = tuple[object, ...]


@define(eq=False)
class _Seen:
    """A message that has been let through, or a heap of those that have not.

    :param saying: how it is told of.
    :param text: of the message, or the heap's last.
    :param kinds: what the message is one of; none for a heap.
    :param count: how often it was not let through in this minute.
    """

    event: LogEvent
    saying: str
    text: str
    kinds: tuple[_Kind, ...] = ()
    count: int = 0


@define(eq=False)
class Repeats:
    """Let a message through once a minute, and at the minute's end tell how often it came again.

    Of messages of a kind, which differ only in what outsiders may choose, five are let through in a minute, and of all
    a hundred, so that nobody can fill the log. What is for debugging is let through always.

    :param tell: called with an event for what was not let through.
    """

    clock: IReactorTime
    tell: Callable[[LogEvent], object]
    _seen: dict[_Kind, _Seen] = field(init=False, factory=dict)
    _let_through: Counter[_Kind] = field(init=False, factory=Counter)  # how many of each kind are among those seen
    _ends: float = field(init=False, default=0.0)  # the minute
    _timer: IDelayedCall | None = field(init=False, default=None)

    def lets_through(self, event: LogEvent) -> bool:
        """Tell whether an event is to be written now; otherwise it is counted."""
        level = event["log_level"]
        space = event.get("log_namespace")
        is_grave = level > LogLevel.info  # what is not takes no room from what is
        # Twisted's old-style information tells of each listener
        is_asked_for = space in _ALWAYS or event.get("is_asked_for", False)
        if is_asked_for or level < LogLevel.info or (space == "log_legacy" and not is_grave):
            return True
        if self.clock.seconds() >= self._ends:
            self.end_minute()
        text = _text(event)
        kind = (is_grave, space, level, event.get("log_format"), *(str(event.get(key)) for key in _CONFIGURED))
        message, any_kind = (*kind, text), (is_grave,)
        if message in self._seen:
            seen = self._seen[message]
        elif self._let_through[kind] >= _MAX_OF_A_KIND:
            seen = self._heap(kind, event, "{count} more in the last minute, the last of them: {text}")
        elif self._let_through[any_kind] >= _MAX_MESSAGES:
            seen = self._heap(any_kind, event, "{count} other messages in the last minute, the last: {text}")
        else:
            saying = "{count} times more in the last minute: {text}"
            self._seen[message] = _Seen(_kept(event), saying, text, (kind, any_kind))
            self._let_through.update((kind, any_kind))
            return True
        seen.text = text
        seen.count += 1
        if self._timer is None:
            self._timer = self.clock.callLater(self._ends - self.clock.seconds(), self._on_timer)
        return False

    def end_minute(self) -> None:
        """Tell of what was counted, and begin another minute; what did not come again is new when it does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ends = self.clock.seconds() + _SECONDS
        self._seen = {key: seen for key, seen in self._seen.items() if seen.count}
        self._let_through = Counter(kind for seen in self._seen.values() for kind in seen.kinds)
        for seen in list(self._seen.values()):
            count, seen.count = seen.count, 0
            saying = seen.saying.replace("times", "time") if count == 1 else seen.saying
            self.tell({**seen.event, "log_time": time.time(), "log_format": saying, "count": count, "text": seen.text})

    def _on_timer(self) -> None:
        self._timer = None
        self.end_minute()

    def _heap(self, kind: _Kind, event: LogEvent, saying: str) -> _Seen:
        """Return what counts the messages of a kind that there are too many of."""
        return self._seen.setdefault(kind, _Seen(_kept(event), saying, ""))


def _kept(event: LogEvent) -> LogEvent:
    return {key: event[key] for key in _KEPT if key in event}


def _text(event: LogEvent) -> str:
    """Return what an event says in a line or so, and what raised; not where, which costs much to find out."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.getErrorMessage()}"
    return text[:_MAX_CHARACTERS]
