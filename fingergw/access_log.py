"""One line a query."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path
from time import gmtime, strftime
from typing import Literal, TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fingergw.query import escape

_log = Logger()
_FLUSH_SECONDS = 0.2
_FLUSH_ENTRIES = 1000


Entry: TypeAlias = tuple[float, str, str, str, str, str, str, int, float]
"""Time of day, listener, client, query, route, backend, outcome, bytes, seconds."""


def text_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as words; what may hold blanks is in double quotes. The outcome is a word of our own."""
    _, listener, client, query, route, backend, outcome, size, seconds = entry
    return (
        f'{stamp} "{escape(listener)}" {escape(client)} "{escape(query)}" "{escape(route)}" "{escape(backend)}" '
        f"{outcome} {size} {seconds * 1000:.3f}\n"
    )


def json_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as a JSON object, printable ASCII alone."""
    keys = ("time", "listener", "client", "query", "route", "backend", "outcome", "bytes", "milliseconds")
    return json.dumps(dict(zip(keys, (stamp, *entry[1:8], round(entry[8] * 1000, 3)), strict=True))) + "\n"


_LINES = {"text": text_line, "json": json_line}


@define(eq=False)
class AccessLog:
    """Write a line a query, in bunches so that they cost little; none waits longer than a fifth of a second.

    What cannot be written, to a full disk say, costs lines and never an answer. A pipe that nobody reads blocks.

    :param path: a file, ``-`` for standard output, or ``off``.
    :param clock: for the bunches.
    :param now: the time of day, in seconds since 1970.
    """

    path: str
    form: Literal["text", "json"]
    clock: IReactorTime
    now: Callable[[], float]
    lost: int = field(init=False, default=0)
    _write: Callable[[str], object] | None = field(init=False, default=None)
    _close: Callable[[], object] | None = field(init=False, default=None)
    _entries: list[Entry] = field(init=False, factory=list)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self) -> None:
        """Open the file.

        :raises OSError: it cannot be opened for appending.
        """
        if self.path == "off":
            return
        if self.path != "-":
            file = FileIO(self.path, "ab")
            self._write, self._close = partial(_write_all, file.fileno()), file.close
        elif _is_null(1):
            # A daemon's standard output leads nowhere. Twisted has put its log in the place of sys.stdout.
            self._write = lambda lines: sys.stdout.write(lines)
        else:
            self._write = partial(_write_all, 1)

    def add(
        self,
        listener: str,
        client: str,
        query: str,
        route: str,
        backend: str,
        outcome: str,
        size: int,
        seconds: float,
    ) -> None:
        """Note a query.

        :param query: as the client sent it; it is escaped here.
        :param route: the name of the route it took; empty if it took none.
        :param backend: the name of the backend that answered; empty if none did.
        :param outcome: ``answered``, a refusal's name in ``[answers]``, ``timeout``, ``gone``, ``denied``,
            ``untrusted_proxy`` or ``bad_proxy_header``.
        :param size: bytes of the answer.
        :param seconds: from the line to the answer.
        """
        if self._write is None:
            return
        entries = self._entries
        entries.append((self.now(), listener, client, query, route, backend, outcome, size, seconds))
        if self._timer is None:
            self._timer = self.clock.callLater(_FLUSH_SECONDS, self._on_timer)
        elif len(entries) >= _FLUSH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted."""
        entries, self._entries = self._entries, []
        if not entries or self._write is None:
            return
        line, lines, second, stamp = _LINES[self.form], [], -1, ""
        for entry in entries:
            if int(entry[0]) != second:
                second = int(entry[0])
                stamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(second))
            lines.append(line(stamp, entry))
        try:
            self._write("".join(lines))
        except OSError as error:
            if not self.lost:
                _log.error("access log {path}: cannot be written: {why}", path=self.path, why=error.strerror)
            self.lost += len(lines)

    def close(self) -> None:
        """Write what has been noted, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        if self._close is not None:
            self._close()
        self._write = self._close = None

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()


def _write_all(fd: int, lines: str) -> None:
    """Write to the end: a signal or a full disk can cut a write short."""
    left = memoryview(lines.encode("ascii"))
    while left:
        left = left[os.write(fd, left) :]


def _is_null(fd: int) -> bool:
    try:
        status = os.fstat(fd)
    except OSError:
        return True
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev
