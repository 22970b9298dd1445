"""Where the head of an HTTP response ends, and its trailers begin (RFC 9112), and how large they get; sans-IO."""

from __future__ import annotations

from attrs import define, field

_MAX_LINE_BYTES = 16384  # which Twisted takes no more of either, but does not say so
_MAX_LINES = 500  # of a head and all interim ones before it; as many as Twisted takes of a request
# Twisted remembers the names of headers for ever, as long as they are: so a longer one never gets there.
_MAX_NAME_BYTES = 256
_MAX_TRAILER_BYTES = 4096


@define
class _Trailers:
    """The trailers of one chunked body (RFC 9112 §7.1).

    Twisted keeps them, and takes far more memory for a line than it has bytes.
    """

    _line: bytes = field(init=False, default=b"")  # a chunk's first line, so far
    _left: int = field(init=False, default=0)  # of a chunk, with its line end
    _bytes: int | None = field(init=False, default=None)  # of the trailers; None as long as there are chunks
    _is_nonsense: bool = field(init=False, default=False)

    def fit(self, data: bytes) -> bool:
        """Look at what has come of the body; tell whether its trailers are not too large yet."""
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
            self._is_nonsense = True  # as Twisted will say
            return
        if size == 0:
            self._bytes = 0
        else:
            self._left = size + 2


class Head:
    """The heads of responses, of which no line is handed on before it is known to be short, and the name in it.

    Of trailers, too, no more than may be is handed on.
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
        """Return what may be handed on of what has come; None if something in it is too long, or too much."""
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
        """Return what is left, as no more will come."""
        line, self._line = self._line, b""
        return line


def _is_interim(line: bytes) -> bool:
    """Tell whether another head follows, by a response's first line (RFC 9110 §15.2), however its status is written."""
    try:
        return 100 <= int(line.split(b" ", 2)[1]) < 200  # as Twisted reads it
    except (IndexError, ValueError):
        return False  # and there is nothing that Twisted goes on with
