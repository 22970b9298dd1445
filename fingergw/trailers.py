"""Where the trailers of a chunked body begin (RFC 9112 §7.1), and how large they get."""

from __future__ import annotations

from attrs import define, field

_MAX_BYTES = 4096


@define
class Trailers:
    """The trailers of one body; Twisted keeps them, and takes far more memory for a line than it has bytes."""

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
                return self._bytes <= _MAX_BYTES
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
