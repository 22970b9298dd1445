"""The access log: one line for each query."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache, partial
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
_FLUSH_LINES = 1000
_KNOWN = 1024  # clients and routes that are escaped only once
_JOURNAL_PRIORITY = "<6>"  # informational: sd-daemon(3)

Entry: TypeAlias = tuple[float, str, str, bytes, str, str, str, int, float, str]
"""Time of day, listener, client, query, route, backend, outcome, bytes, seconds, cache state."""

_Line: TypeAlias = Callable[[str, Entry], str]


def text_line(stamp: str, entry: Entry) -> str:
    """Return a query's line as text, with fields that may contain spaces in double quotes."""
    _, listener, client, query, route, backend, outcome, size, seconds, cache = entry
    asked = escape(query.decode("utf-8", "surrogateescape"))
    return (
        f'{stamp} {_client_in_text(listener, client)} "{asked}" {_route_in_text(route, backend)} '
        f"{outcome} {size} {seconds * 1000:.3f} {cache or '-'}\n"
    )


@lru_cache(_KNOWN)
def _client_in_text(listener: str, client: str) -> str:
    return f'"{escape(listener)}" {escape(client)}'


@lru_cache(_KNOWN)
def _route_in_text(route: str, backend: str) -> str:
    return f'"{escape(route)}" "{escape(backend)}"'


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


def _line_in_journal(line: _Line, is_json: bool, stamp: str, entry: Entry) -> str:
    """Return a line with its priority, and without a time, as the journal has its own."""
    text = line(stamp, entry)
    return _JOURNAL_PRIORITY + (text if is_json else text[len(stamp) + 1 :])


_LINES: dict[str, _Line] = {"text": text_line, "json": json_line}


@define(eq=False, repr=False)
class AccessLog:
    """Write a line for each query, in batches: each line waits for at most a fifth of a second.

    Each is made when its query has ended: to make all lines of a batch at once would hold up other queries. When lines
    cannot be written, lines are lost, and queries are answered as ever.

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
    _line: _Line = field(init=False, default=text_line)
    _lines: list[str] = field(init=False, factory=list)
    _stamp: str = field(init=False, default="")
    _second: float = field(init=False, default=math.nan)  # that the stamp is for
    _unwritable: list[str] = field(init=False, factory=list)  # the exceptions in the place of lines
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
        self._line = _LINES[self.form]
        if self.path != "-":
            return self._output or Output(self.path, f"access log {self.path}", self.clock)
        if not is_null():
            return standard_output(self.clock)
        # in a daemon, Twisted has replaced sys.stdout by its log
        self._write = lambda lines: sys.stdout.write(lines)
        return None

    def _begin(self, output: Output) -> None:
        self._output = output
        if output.is_journal:
            self._line = partial(_line_in_journal, self._line, self.form == "json")
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
        now = self.now()
        entry = (now, listener, client, query, route, backend, outcome, size, seconds, cache)
        lines = self._lines
        try:
            if now // 1 != self._second:
                self._stamp, self._second = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now)), now // 1
            lines.append(self._line(self._stamp, entry))
        except Exception as error:
            self._unwritable.append(type(error).__name__)
        if self._timer is None:
            self._timer = self.clock.callLater(_FLUSH_SECONDS, self.flush)
        elif len(lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Lines that cannot be written are counted as lost. This never raises."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        lines, self._lines = self._lines, []
        errors, self._unwritable = self._unwritable, []
        if self._write is None or not (lines or errors):
            return
        lost = len(errors)
        try:
            self._write("".join(lines))
        except Exception as error:
            errors.append(type(error).__name__)
            lost += len(lines)
        self._lost += lost
        if errors and not self._is_in_trouble:
            text = (
                "access log {path}: lines lost: {lost}, as writing them raised {error}; "
                "the metric fingergw_access_log_lost_total counts all of them"
            )
            _log.error(text, path=self.path, lost=lost, error=errors[-1])
        self._is_in_trouble = bool(errors)

    def close(self) -> Deferred[None]:
        """Write what waits, and close the file.

        :return: fires when that is done, or after a second.
        """
        self.flush()
        is_open, self._write = self._write is not None, None
        return self._output.close() if self._output is not None and is_open else succeed(None)
