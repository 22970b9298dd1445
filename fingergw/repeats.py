"""Log messages that come again and again, summed up."""

from __future__ import annotations

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
_ALWAYS = ("fingergw.operation", "fingergw.daemon", "fingergw.gateway", "stdout")

_Kind: TypeAlias = tuple[object, ...]


@define(eq=False)
class _Seen:
    """A message that has been let through, or a heap of those that have not.

    :param text: of the message, or the heap's last.
    :param saying: how the heap is told of.
    :param ends: when it is told of.
    """

    event: LogEvent
    text: str
    saying: str
    ends: float
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
    _kinds: dict[_Kind, int] = field(init=False, factory=dict)  # how many of each are among those seen
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
        self._tell_due()
        kind = (is_grave, space, level, event.get("log_format"), *(str(event.get(key)) for key in _CONFIGURED))
        text = _text(event)
        seen = self._seen.get((*kind, text))
        if seen is None:
            if self._kinds.get(kind, 0) >= _MAX_OF_A_KIND:
                seen = self._heap(kind, event, "{count} more in the last minute, the last of them: {text}")
            elif self._kinds.get((is_grave,), 0) >= _MAX_MESSAGES:
                seen = self._heap((is_grave,), event, "{count} other messages in the last minute, the last: {text}")
        if seen is None:
            self._seen[(*kind, text)] = self._new(event, text, "{count} times more in the last minute: {text}")
            for each in (kind, (is_grave,)):
                self._kinds[each] = self._kinds.get(each, 0) + 1
            return True
        seen.text = text
        seen.count += 1
        if self._timer is None:
            self._timer = self.clock.callLater(seen.ends - self.clock.seconds(), self._on_timer)
        return False

    def stop(self) -> None:
        """Tell of all that was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seen = [each for each in self._seen.values() if each.count]
        self._seen, self._kinds = {}, {}
        for each in seen:
            self._tell(each)

    def _new(self, event: LogEvent, text: str, saying: str) -> _Seen:
        kept = {key: event[key] for key in _KEPT if key in event}
        return _Seen(kept, text, saying, self.clock.seconds() + _SECONDS)

    def _heap(self, kind: _Kind, event: LogEvent, saying: str) -> _Seen:
        """Return what counts the messages of a kind that there are too many of."""
        heap = self._seen.get(kind)
        if heap is None:
            heap = self._seen[kind] = self._new(event, "", saying)
        return heap

    def _on_timer(self) -> None:
        self._timer = None
        self._tell_due()
        ends = [each.ends for each in self._seen.values() if each.count]
        if ends:
            self._timer = self.clock.callLater(max(0.0, min(ends) - self.clock.seconds()), self._on_timer)

    def _tell_due(self) -> None:
        """Tell of what was counted in the minutes that are over; what did not come again is new when it does."""
        now = self.clock.seconds()
        due = [(key, each) for key, each in self._seen.items() if each.ends <= now]
        for key, each in due:
            if each.count:
                self._tell(each)
                each.count, each.ends = 0, now + _SECONDS
                continue
            del self._seen[key]
            if len(key) > _KIND_ITEMS:
                for kind in (key[:-1], key[:1]):
                    self._kinds[kind] -= 1
                    if not self._kinds[kind]:
                        del self._kinds[kind]

    def _tell(self, seen: _Seen) -> None:
        saying = seen.saying.replace("times", "time") if seen.count == 1 else seen.saying
        self.tell({**seen.event, "log_format": saying, "count": seen.count, "text": seen.text})


_KIND_ITEMS = 4 + len(_CONFIGURED)


def _text(event: LogEvent) -> str:
    """Return what an event says in a line or so, and what raised; not where, which costs much to find out."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.getErrorMessage()}"
    return text[:_MAX_CHARACTERS]
