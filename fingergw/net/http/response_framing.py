"""Find and bound the heads and trailers of HTTP responses (RFC 9112); sans-IO."""

from __future__ import annotations

from attrs import define, field

_MAX_LINE_BYTES = 16384  # Twisted's own limit, which it does not report
_MAX_LINES = 500  # of a head and the interim ones before it; Twisted's limit for requests
# Twisted caches header names for ever, whatever their length, so longer ones must not reach it.
_MAX_NAME_BYTES = 256
_MAX_TRAILER_BYTES = 4096


@define
class _Trailers:
    """The trailers of one chunked body (RFC 9112 §7.1).

    Twisted keeps them, with far more memory than they have bytes.
    """

    _line: bytes = field(init=False, default=b"")  # a chunk's first line, so far
    _left: int = field(init=False, default=0)  # of a chunk, with its line end
    _bytes: int | None = field(init=False, default=None)  # of the trailers; None as long as there are chunks
    _is_nonsense: bool = field(init=False, default=False)

    def fit(self, data: bytes) -> bool:
        """Parse the next data of the body; return whether its trailers are within bounds so far."""
        start = 0
        while start < len(data) and not self._is_nonsense:
            if self._bytes is not None:
                self._bytes += len(data) - start
                return self._bytes <= _MAX_TRAILER_BYTES
            if self._left > 0:
                step = min(self._left, len(data) - start)
                start, self._left = start + step, self._left - step
            else:
                end = data.find(b"\n", start)
                self._line += data[start:] if end < 0 else data[start:end]
                start = len(data) if end < 0 else end + 1
                if end >= 0:
                    self._begin_chunk()
        return True

    def _begin_chunk(self) -> None:
        line, self._line = self._line, b""
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            self._is_nonsense = True  # Twisted will report it
            return
        if size == 0:
            self._bytes = 0
        else:
            self._left = size + 2


class Head:
    """The heads of responses: a line is passed on only when it, and the name in it, are known to be within bounds.

    Trailers are bounded too.
    """

    _line = b""
    _lines = 0
    _trailers: _Trailers | None = None
    _is_first = True
    _is_interim = False
    _is_over = False

    def begin(self) -> None:
        """Expect a response's head."""
        self._line, self._lines, self._is_first, self._is_over = b"", 0, True, False
        self._trailers = None

    def take(self, data: bytes) -> bytes | None:
        """Return the data that may be passed on; None if a bound is exceeded."""
        if self._is_over:
            return data if self._trailers is None or self._trailers.fit(data) else None
        held, start = self._line + data, 0
        while not self._is_over and (end := held.find(b"\n", start)) >= 0:
            line, start = held[start:end], end + 1
            self._lines += 1
            if len(line) > _MAX_LINE_BYTES or self._lines > _MAX_LINES:
                return None
            if self._is_first:
                self._is_interim = _is_interim(line)
                self._is_first = False
            elif line in (b"", b"\r"):
                self._is_first, self._is_over = self._is_interim, not self._is_interim
                if self._is_interim:
                    self._trailers = None
            elif line[:1] not in b" \t":
                name = line.partition(b":")[0]
                if len(name) > _MAX_NAME_BYTES:
                    return None
                if name.strip().lower() == b"transfer-encoding":
                    self._trailers = _Trailers()
        if self._is_over:
            if self._trailers is not None and not self._trailers.fit(held[start:]):
                return None
            start = len(held)
        self._line = held[start:]
        return held[:start] if len(self._line) <= _MAX_LINE_BYTES else None

    def end(self) -> bytes:
        """Return the rest, at the end of the connection."""
        line, self._line = self._line, b""
        return line


def _is_interim(line: bytes) -> bool:
    """Tell by a status line whether another head follows (RFC 9110 §15.2)."""
    try:
        return 100 <= int(line.split(b" ", 2)[1]) < 200  # parsed as Twisted does
    except (IndexError, ValueError):
        return False  # Twisted refuses it
