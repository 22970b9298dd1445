"""The event log: everything that is logged, except queries."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define, field
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
)
from twisted.python.failure import Failure
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from fingergw.config.tables import Log
from fingergw.core.addresses import anonymised, without_client
from fingergw.core.breaker import Breaker
from fingergw.core.outcome import Failed
from fingergw.core.text import escape, printable
from fingergw.telemetry.log_file import open_log
from fingergw.telemetry.log_output import Output, standard_output
from fingergw.telemetry.repeats import Repeats

_log = Logger()
_KEPT = ("log_time", "log_level", "log_namespace", "log_system")
_MAX_FORMAT_CHARACTERS = 200
_TWISTED_ADDRESS = re.compile(r"(host=')([^']*)")  # as Twisted writes the address of a peer
# syslog(3) and sd-daemon(3)
_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}


def log_failed(text: str, failed: Failed, backend: str, **fields: Any) -> None:
    """Log that a backend failed, with a traceback if the failure was unforeseen.

    :param text: the format of the message, with ``{backend}``, ``{why}`` and the names of the fields.
    """
    why = escape(failed.reason)
    if failed.error is None:
        _log.error(text, backend=backend, why=why, **fields)
    else:
        failure = Failure(failed.error, type(failed.error), failed.error.__traceback__)
        _log.failure(text, failure, backend=backend, why=why, **fields)


def log_breaker(whom: str, breaker: Breaker) -> None:
    """Log that a breaker has opened or closed.

    :param whom: whom it is the breaker of: a backend, or a host that queries are forwarded to.
    """
    if breaker.is_open:
        limits = breaker.settings
        text = "{name} is not asked for {seconds:g} s, after {count} failures in a row; the last: {why}"
        _log.error(text, name=escape(whom), seconds=limits.pause, count=limits.failures, why=escape(breaker.why))
    else:
        _log.info("{name} responds again", name=escape(whom))


def _levels() -> LogLevelFilterPredicate:
    levels = LogLevelFilterPredicate()
    # it logs twice for each request of an http backend
    levels.setLogLevelForNamespace("twisted.web.client._HTTP11ClientFactory", LogLevel.warn)
    # a daemon's access log, which no level applies to
    levels.setLogLevelForNamespace("stdout", LogLevel.info)
    return levels


@implementer(ILogObserver)
@define(eq=False, repr=False)
class EventLog:
    """Write events to a file, standard output or syslog: escaped, and throttled by :class:`Repeats`.

    :param path: a file, or ``-`` for standard output.
    :param later_path: the file's path inside the chroot; None if it is outside.
    :param prefix: the identity in syslog; None to write to the path.
    :param anonymises: whether only the networks of clients are written.
    """

    path: str
    later_path: str | None
    prefix: str | None
    anonymises: bool = field(init=False, default=False)
    _levels: LogLevelFilterPredicate = field(init=False, factory=_levels)
    _reactor: Any = field(init=False, default=None)
    _repeats: Repeats | None = field(init=False, default=None)
    _output: Output | None = field(init=False, default=None)
    _filtered: ILogObserver | None = field(init=False, default=None)

    def follow(self, settings: Log) -> None:
        """Write what the settings say from now on. The file stays the same."""
        self.set_level(settings.level)
        self.anonymises = settings.anonymise

    def set_level(self, name: str) -> None:
        """Drop events below a level.

        :param name: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
        """
        self._levels.setLogLevelForNamespace("", LogLevel.levelWithName(name))

    def open(self, reactor: Any, opener: Callable[[str], int] = open_log) -> None:
        """Open the log.

        :param opener: opens a file for appending.
        :raises OSError: the file cannot be opened for appending; the message says what to do.
        """
        self._reactor = reactor
        write: Any  # it needs no wrapper to be an observer
        if self.prefix is not None:
            write = _to_syslog(self.prefix, self._text)
        else:
            charset = "utf-8"
            if self.path == "-":
                self._output = standard_output(reactor)
                charset = getattr(sys.__stdout__, "encoding", None) or charset
            else:
                self._output = Output(self.later_path or self.path, f"log {self.path}", reactor)
            self._output.open(self.path, opener)
            write = partial(_write, self._output, charset, self._text)
        self._repeats = Repeats(reactor, partial(self._hand_to, write))
        self._filtered = FilteringLogObserver(write, [self._levels, self._repeats])

    def __call__(self, event: LogEvent) -> None:
        """Write an event. If that raises, a replacement is written. This never raises."""
        if self._filtered is None:
            return
        if threading.current_thread() is not threading.main_thread():
            self._reactor.callFromThread(self, event)
            return
        self._hand_to(self._filtered, event)

    def _hand_to(self, observer: ILogObserver, event: LogEvent) -> None:
        try:
            observer(event)
        except Exception as error:
            if self._filtered is not None:
                with suppress(Exception):  # nothing more can be said
                    self._filtered(_replacement_for(event, error))

    def _text(self, event: LogEvent, **parts: bool) -> str:
        """Return what :func:`text_of` does, perhaps without the addresses of clients."""
        text = text_of(event, **parts)
        return _without_clients(text, event.get("client")) if self.anonymises else text

    def reopen(self) -> None:
        """Open the file of this name again, after the present one was renamed.

        If that fails, the failure is logged, and the present file stays in use.
        """
        if self._output is None or self.path == "-":
            return
        if self.later_path is None:
            text = (
                "log {path}: cannot be reopened, as it is outside of the chroot; "
                "move it inside, or use copytruncate in logrotate"
            )
            _log.error(text, path=self.path, throttled=False)
        else:
            self._output.reopen()

    def close(self) -> None:
        """Write what was held back, and close the log. Later events are dropped."""
        if self._repeats is not None:
            self._repeats.end_minute()
        self._filtered = self._repeats = None
        if self._output is not None:
            self._output.close()
            self._output.wait_until_closed()
            self._output = None


def text_of(event: LogEvent, *, has_time: bool = True, has_system: bool = True) -> str:
    """Return an event as text, traceback included, that is safe on a terminal.

    A message may quote an upstream or a client. What is not printable is escaped, except for line ends and tabs. What
    follows a line end is to be indented, so that it cannot pass for an event of its own.

    :param has_time: whether it begins with the time.
    :param has_system: whether the namespace and level, or ``log_system``, come before the message.
    """
    return printable(eventAsText(event, includeTimestamp=has_time, includeSystem=has_system), kept="\n\t")


def _without_clients(text: str, client: object) -> str:
    """Return an event's text with the networks of clients in the place of their addresses.

    :param client: the address of the client that may be quoted in it.
    """
    text = _TWISTED_ADDRESS.sub(lambda found: found[1] + anonymised(found[2]), text)
    return without_client(text, client) if isinstance(client, str) else text


def _replacement_for(event: LogEvent, error: Exception) -> LogEvent:
    """Return what to write for an event that cannot be written, without the values that may be the reason."""
    form = event.get("log_format")
    return {
        "log_time": time.time(),
        "log_level": LogLevel.error,
        "log_namespace": __name__,
        "log_format": "a message cannot be written, as it raised {error}; its format is {form}",
        "error": type(error).__name__,
        "form": ascii(form)[:_MAX_FORMAT_CHARACTERS] if type(form) is str else "not a text",
    }


def _to_syslog(prefix: str, to_text: Callable[..., str]) -> Callable[[LogEvent], object]:
    emit: Any = SyslogObserver(prefix).emit
    observer = LegacyLogObserverWrapper(emit)

    def write(event: LogEvent) -> None:
        kept = {key: event[key] for key in _KEPT if key in event}
        text = to_text(event, has_time=False, has_system=False)
        priority = _PRIORITIES[event["log_level"]]
        observer({**kept, "log_format": "{text}", "text": text, "syslogPriority": priority})

    return write


def _write(output: Output, charset: str, to_text: Callable[..., str], event: LogEvent) -> None:
    line = to_text(event, has_time=not output.is_journal).replace("\n", "\n\t") + "\n"
    if output.is_journal:  # it has its own time, and takes a priority for each line
        priority = f"<{_PRIORITIES[event['log_level']]}>"
        line = "".join(f"{priority}{each}\n" for each in line.splitlines())
    output.write(line.encode(charset, "backslashreplace"))
