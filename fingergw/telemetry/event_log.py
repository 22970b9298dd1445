"""The other log: what happens, but for the queries."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    eventAsText,
)
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from fingergw.core.text import printable
from fingergw.telemetry.log_file import opened
from fingergw.telemetry.log_output import Output, standard_output
from fingergw.telemetry.repeats import Repeats

_log = Logger()
_LOG_KEYS = ("log_time", "log_level", "log_namespace", "log_system")
_MAX_FORM_CHARACTERS = 200
# syslog(3) and sd-daemon(3)
_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}


@implementer(ILogObserver)
@define(eq=False)
class EventLog:
    """Write what is logged to a file, standard output or syslog, where it can do no harm, and each thing once a minute.

    :param path: a file, or ``-`` for standard output.
    :param later_path: what the file will be called once the root has been changed; None if it will be out of reach.
    :param prefix: what messages to syslog begin with; None to write to the path.
    """

    path: str
    later_path: str | None
    prefix: str | None
    _levels: LogLevelFilterPredicate = field(init=False, factory=LogLevelFilterPredicate)
    _reactor: Any = field(init=False, default=None)
    _repeats: Repeats | None = field(init=False, default=None)
    _output: Output | None = field(init=False, default=None)
    _observer: ILogObserver | None = field(init=False, default=None)
    _last_observer: Callable[[LogEvent], object] | None = field(init=False, default=None)  # it hands on to
    _charset: str = field(init=False, default="utf-8")

    def __attrs_post_init__(self) -> None:
        # two lines for each request that an http backend makes would tell nobody anything
        self._levels.setLogLevelForNamespace("twisted.web.client._HTTP11ClientFactory", LogLevel.warn)
        # a daemon's access log comes this way, and has no level
        self._levels.setLogLevelForNamespace("stdout", LogLevel.info)

    def set_level(self, name: str) -> None:
        """Leave out what is less important than this.

        :param name: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
        """
        self._levels.setLogLevelForNamespace("", LogLevel.levelWithName(name))

    def open(self, reactor: Any, opener: Callable[[str], int] = opened) -> None:
        """Open it.

        :param opener: opens a file for appending.
        :raises OSError: the file cannot be opened for appending; the message says what to do.
        """
        self._reactor = reactor
        if self.prefix is not None:
            self._last_observer = _to_syslog(self.prefix)
        else:
            if self.path == "-":
                self._output = standard_output(reactor)
                self._output.open()
                self._charset = getattr(sys.__stdout__, "encoding", None) or "utf-8"
            else:
                self._output = Output(self.later_path or self.path, f"log {self.path}", reactor)
                self._output.open(self.path, opener)
            self._last_observer = self._write
        self._observer = harmless(self._last_observer)
        self._repeats = Repeats(reactor, self._tell)

    def __call__(self, event: LogEvent) -> None:
        """Write an event, or count it. One that cannot be written is told of instead; nothing is raised."""
        if self._repeats is None:
            return
        if threading.current_thread() is not threading.main_thread():
            self._reactor.callFromThread(self, event)
            return
        try:
            if self._levels(event) is not PredicateResult.no and self._repeats.lets_through(event):
                self._tell(event)
        except Exception as error:
            self._tell_instead(event, error)

    def _tell(self, event: LogEvent) -> None:
        """Hand an event on; if that cannot be done, the next one is no worse off."""
        assert self._observer is not None
        try:
            self._observer(event)
        except Exception as error:
            self._tell_instead(event, error)

    def _tell_instead(self, event: LogEvent, error: Exception) -> None:
        """Tell that an event cannot be written, with no word in it that may be why."""
        form = event.get("log_format")
        instead: LogEvent = {
            "log_time": time.time(),
            "log_level": LogLevel.error,
            "log_namespace": __name__,
            "log_format": "cannot be written, as {error} was raised: {form}",
            "error": type(error).__name__,
            "form": ascii(form)[:_MAX_FORM_CHARACTERS] if type(form) is str else "an event",
        }
        with suppress(Exception):  # or there is nothing more that could be said
            if self._repeats is not None and self._last_observer is not None and self._repeats.lets_through(instead):
                self._last_observer(instead)

    def reopen(self) -> None:
        """Go on in a new file of the same name, as the old one has been given another.

        Where there can be none, that is logged, and the old one is written to.
        """
        if self._output is None or self.path == "-":
            return
        if self.later_path is None:
            text = (
                "log {path}: cannot be opened anew, as it is outside of the chroot: put it inside, "
                "or let logrotate copytruncate"
            )
            _log.error(text, path=self.path, is_asked_for=True)
        else:
            self._output.reopen()

    def close(self) -> None:
        """Write what is left to write. What comes later is left out."""
        if self._repeats is not None:
            self._repeats.end_minute()
        self._observer = self._last_observer = self._repeats = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def _write(self, event: LogEvent) -> None:
        assert self._output is not None
        to_journal = self._output.is_journal
        line = eventAsText(event, includeTimestamp=not to_journal).replace("\n", "\n\t") + "\n"
        if to_journal:  # it has a time of its own, and wants a priority for each line
            mark = f"<{_priority(event)}>"
            line = "".join(f"{mark}{each}\n" for each in line.splitlines())
        self._output.write(line.encode(self._charset, "backslashreplace"))


def harmless(observer: Callable[[LogEvent], object]) -> ILogObserver:
    """Return a log observer that hands on to another what can do a terminal no harm, tracebacks included.

    An error's text may be an upstream's or a client's. What is not printable is escaped, but for line ends and tabs;
    after a line end the other observer indents, so that nothing can pass for an event of its own.
    """

    @implementer(ILogObserver)
    def hand_on(event: LogEvent) -> None:
        text = printable(eventAsText(event, includeTimestamp=False, includeSystem=False), kept="\n\t")
        kept: LogEvent = {key: event[key] for key in _LOG_KEYS if key in event}
        observer({**kept, "log_format": "{text}", "text": text})

    return hand_on  # type: ignore[no-any-return]  # implementer has no types for functions


def _to_syslog(prefix: str) -> Callable[[LogEvent], object]:
    emit: Any = SyslogObserver(prefix).emit
    observer = LegacyLogObserverWrapper(emit)
    return lambda event: observer({**event, "syslogPriority": _priority(event)})


def _priority(event: LogEvent) -> int:
    return _PRIORITIES[event["log_level"]]
