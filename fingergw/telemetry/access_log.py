"""The access log: one line for each query."""

from __future__ import annotations

import sys
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from time import gmtime, strftime
from typing import Literal, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fingergw.core.addresses import anonymised
from fingergw.core.text import escape
from fingergw.telemetry.log_file import is_null
from fingergw.telemetry.log_output import Output, standard_output

_log = Logger()
_FLUSH_SECONDS = 0.2
_FLUSH_ENTRIES = 1000
_JOURNAL_PRIORITY = "<6>"  # informational: sd-daemon(3)

Entry: TypeAlias = tuple[float, str, str, bytes, str, str, str, int, float, str]
"""Time of day, listener, client, query, route, backend, outcome, bytes, seconds, cache state."""


def text_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as text, with fields that may contain spaces in double quotes."""
    _, listener, client, query, route, backend, outcome, size, seconds, cache = entry
    asked = escape(query.decode("utf-8", "surrogateescape"))
    return (
        f'{stamp} "{escape(listener)}" {escape(client)} "{asked}" "{escape(route)}" "{escape(backend)}" '
        f"{outcome} {size} {seconds * 1000:.3f} {cache or '-'}\n"
    )


def json_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as a JSON object in printable ASCII, with ``query_hex`` if the query is not UTF-8."""
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
    """Write a line for each query, in batches: each line waits for at most a fifth of a second.

    When lines cannot be written, lines are lost, and queries are answered as ever.

    :param path: a file, ``-`` for standard output, or ``off``.
    :param clock: for the batches.
    :param now: returns the time of day, in seconds since 1970.
    :param anonymises: whether only the networks of clients are written.
    """

    path: str
    form: Literal["text", "json"]
    clock: IReactorTime
    now: Callable[[], float]
    anonymises: bool = False
    _output: Output | None = field(init=False, default=None)
    _write: Callable[[str], object] | None = field(init=False, default=None)
    _entries: list[Entry] = field(init=False, factory=list)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _lost: int = field(init=False, default=0)  # before they reached the output
    _is_in_trouble: bool = field(init=False, default=False)  # and this was logged

    @property
    def fingerprint(self) -> object:
        """What it depends on: a reload keeps the log while this is equal."""
        return self.path, self.form, self.anonymises

    @property
    def lost(self) -> int:
        """How many lines could not be written; on standard output, lines of the event log count, too."""
        return self._lost + (0 if self._output is None else self._output.lost)

    def open(self) -> None:
        """Open the file.

        :raises OSError: it cannot be opened for appending; the message says what to do.
        """
        output = self._new_output()
        if output is not None:
            output.open()
            self._begin(output)

    async def open_while_running(self) -> None:
        """Do as :meth:`open`, while the reactor goes on, even if the disk hangs.

        :raises OSError: likewise; or the disk hangs.
        """
        output = self._new_output()
        if output is not None:
            await output.open_while_running()
            self._begin(output)

    def _new_output(self) -> Output | None:
        """Return what to write to and is to be opened; None if there is nothing to open."""
        if self.path == "off" or self._write is not None:
            return None
        if self.path != "-":
            return self._output or Output(self.path, f"access log {self.path}", self.clock)
        if not is_null():
            return standard_output(self.clock)
        # in a daemon, Twisted has replaced sys.stdout by its log
        self._write = lambda lines: sys.stdout.write(lines)
        return None

    def _begin(self, output: Output) -> None:
        self._output = output
        # the lines are ASCII, unless escaping has a bug
        self._write = lambda lines: output.write(lines.encode("ascii", "backslashreplace"))

    def reopen(self) -> None:
        """Write what waits, and open the file of this name again, after the present one was renamed.

        If that fails, the failure is logged, and the present file stays in use.
        """
        self.flush()
        if self._output is not None:
            self._output.reopen()

    def shown(self, client: str) -> str:
        """Return a client's address as it may be logged, in another log, too."""
        return anonymised(client) if self.anonymises else client

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
        """Add a line for a query.

        :param query: the line as the client sent it, not escaped.
        :param route: the name of the route; empty if none matched.
        :param backend: the name of the backend that answered; empty if none did.
        :param outcome: ``answered``, the key in ``[answers]`` of the text that was sent instead, ``timeout``, ``gone``,
            ``denied``, ``untrusted_proxy``, ``bad_proxy_header`` or ``bad_handshake``.
        :param size: of the answer, in bytes.
        :param seconds: from the query to the answer.
        :param cache: what the cache had: ``fresh``, ``stale``, ``stale_if_error``, ``expired`` or ``absent``; empty
            where no cache was asked.
        """
        if self._write is None:
            return
        if self.anonymises:
            client = anonymised(client)
        entries = self._entries
        entries.append((self.now(), listener, client, query, route, backend, outcome, size, seconds, cache))
        if self._timer is None:
            self._timer = self.clock.callLater(_FLUSH_SECONDS, self.flush)
        elif len(entries) >= _FLUSH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Lines that cannot be written are counted as lost. This never raises."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
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
            text = (
                "access log {path}: lines lost: {lost}, as writing them raised {error}; "
                "the metric fingergw_access_log_lost_total counts all of them"
            )
            _log.error(text, path=self.path, lost=lost, error=type(error).__name__)
        self._is_in_trouble = error is not None

    def _lines(self, entries: list[Entry]) -> tuple[list[str], Exception | None]:
        """Return the lines of all entries that can be formatted, and the last exception that formatting raised."""
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
            if is_journal:  # it has its own time
                text = _JOURNAL_PRIORITY + (text[len(stamp) + 1 :] if self.form == "text" else text)
            lines.append(text)
        return lines, error

    def close(self) -> Deferred[None]:
        """Write what waits, and close the file.

        :return: fires when that is done, or after a second.
        """
        self.flush()
        is_open, self._write = self._write is not None, None
        return self._output.close() if self._output is not None and is_open else succeed(None)
