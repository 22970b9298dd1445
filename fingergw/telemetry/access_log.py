"""One line a query."""

from __future__ import annotations

import sys
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from time import gmtime, strftime
from typing import Literal, TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fingergw.core.text import escape
from fingergw.telemetry.log_output import Output, is_null, standard_output

_log = Logger()
_FLUSH_SECONDS = 0.2
_FLUSH_ENTRIES = 1000
_JOURNAL_PRIORITY = "<6>"  # an information: sd-daemon(3)


Entry: TypeAlias = tuple[float, str, str, bytes, str, str, str, int, float, str]
"""Time of day, listener, client, query, route, backend, outcome, bytes, seconds, cache state."""


def text_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as words; what may hold blanks is in double quotes. Outcome and cache state are our own."""
    _, listener, client, query, route, backend, outcome, size, seconds, cache = entry
    asked = escape(query.decode("utf-8", "surrogateescape"))
    return (
        f'{stamp} "{escape(listener)}" {escape(client)} "{asked}" "{escape(route)}" "{escape(backend)}" '
        f"{outcome} {size} {seconds * 1000:.3f} {cache or '-'}\n"
    )


def json_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as a JSON object, printable ASCII alone; its bytes too where they are no text."""
    _, listener, client, query, route, backend, outcome, size, seconds, cache = entry
    try:
        asked = quoted(query.decode())
    except UnicodeDecodeError:
        asked = f'{quoted(query.decode(errors="backslashreplace"))}, "query_hex": "{query.hex()}"'
    return (
        f'{{"time": "{stamp}", "listener": {quoted(listener)}, "client": {quoted(client)}, "query": {asked}, '
        f'"route": {quoted(route)}, "backend": {quoted(backend)}, "outcome": {quoted(outcome)}, "bytes": {size}, '
        f'"milliseconds": {seconds * 1000:.3f}, "cache": {quoted(cache)}}}\n'
    )


_LINES = {"text": text_line, "json": json_line}


@define(eq=False)
class AccessLog:
    """Write a line a query, in bunches so that they cost little; none waits longer than a fifth of a second.

    What cannot be written costs lines and never an answer.

    :param path: a file, ``-`` for standard output, or ``off``.
    :param clock: for the bunches.
    :param now: the time of day, in seconds since 1970.
    """

    path: str
    form: Literal["text", "json"]
    clock: IReactorTime
    now: Callable[[], float]
    _output: Output | None = field(init=False, default=None)
    _write: Callable[[str], object] | None = field(init=False, default=None)
    _entries: list[Entry] = field(init=False, factory=list)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _lost: int = field(init=False, default=0)  # but for what the output has lost
    _is_in_trouble: bool = field(init=False, default=False)  # and that is logged

    @property
    def fingerprint(self) -> object:
        """What it was made from; a reload keeps it while this is the same."""
        return self.path, self.form

    @property
    def lost(self) -> int:
        """How many lines could not be written; on standard output those of the other log count, too."""
        return self._lost + (0 if self._output is None else self._output.lost)

    def open(self) -> None:
        """Open the file.

        :raises OSError: it cannot be opened for appending; the message says what to do.
        """
        if self.path == "off" or self._write is not None:
            return
        if self.path == "-" and is_null():
            # A daemon's standard output leads nowhere. Twisted has put its log in the place of sys.stdout.
            self._write = lambda lines: sys.stdout.write(lines)
            return
        if self._output is None:
            is_file = self.path != "-"
            name = f"access log {self.path}"
            self._output = Output(self.path, name, self.clock) if is_file else standard_output(self.clock)
        self._output.open()
        self._write = self._output_lines

    def reopen(self) -> None:
        """Write what has been noted, and go on in a new file of that name, as the old one has been given another.

        Where there can be none, that is logged, and the old one is written to.
        """
        self.flush()
        if self._output is not None:
            self._output.reopen()

    def add(
        self,
        listener: str,
        client: str,
        query: bytes,
        route: str,
        backend: str,
        outcome: str,
        size: int,
        seconds: float,
        cache: str = "",
    ) -> None:
        """Note a query.

        :param query: the line as the client sent it; it is escaped here.
        :param route: the name of the route it took; empty if it took none.
        :param backend: the name of the backend that answered; empty if none did.
        :param outcome: ``answered``, a refusal's name in ``[answers]``, ``timeout``, ``gone``, ``denied``,
            ``untrusted_proxy``, ``bad_proxy_header`` or ``bad_handshake``.
        :param size: bytes of the answer.
        :param seconds: from the line to the answer.
        :param cache: what the cache had: ``fresh``, ``stale``, ``rescued``, ``expired`` or ``absent``; empty where no
            cache was asked.
        """
        if self._write is None:
            return
        entries = self._entries
        entries.append((self.now(), listener, client, query, route, backend, outcome, size, seconds, cache))
        if self._timer is None:
            self._timer = self.clock.callLater(_FLUSH_SECONDS, self._on_timer)
        elif len(entries) >= _FLUSH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted. What cannot be is lost and counted, and nothing is raised."""
        entries, self._entries = self._entries, []
        if not entries or self._write is None:
            return
        lines, error = self._lines(entries)
        try:
            self._write("".join(lines))
        except Exception as raised:
            lines, error = [], raised
        lost = len(entries) - len(lines)
        self._lost += lost
        if error is not None and not self._is_in_trouble:
            text = "access log {path}: {lost} lines are lost, as {error} was raised; the metrics count all that are"
            _log.error(text, path=self.path, lost=lost, error=type(error).__name__)
        self._is_in_trouble = error is not None

    def _lines(self, entries: list[Entry]) -> tuple[list[str], Exception | None]:
        """Return the lines of those that have one, and what another raised."""
        line, lines, second, stamp, error = _LINES[self.form], [], -1, "", None
        is_journal = self._output is not None and self._output.is_journal
        for entry in entries:
            try:
                if int(entry[0]) != second:
                    stamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(entry[0]))
                    second = int(entry[0])
                text = line(stamp, entry)
            except Exception as raised:
                error = raised
                continue
            if is_journal:  # it has a time of its own
                text = _JOURNAL_PRIORITY + (text[len(stamp) + 1 :] if self.form == "text" else text)
            lines.append(text)
        return lines, error

    def close(self) -> None:
        """Write what has been noted, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        if self._output is not None and self._write is not None:
            self._output.close()
        self._write = None

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()

    def _output_lines(self, lines: str) -> None:
        assert self._output is not None
        self._output.write(lines.encode("ascii", "backslashreplace"))  # and all is ASCII, unless escaping has a mistake
