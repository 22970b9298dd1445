"""Undo the escaping of queries in a log."""

from __future__ import annotations

import re

_NAMED = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\"}


def unescaped(text: str) -> str:
    """Return the original of an escaped text; bytes that were not UTF-8 become surrogate escapes."""
    return re.sub(r'\\(?:x(..)|u(....)|U(.{8})|([tnr"\\]))', _unescape, text)


def _unescape(found: re.Match[str]) -> str:
    byte, short, long, named = found.groups()
    if named:
        return _NAMED[named]
    number = int(byte or short or long, 16)
    return chr(number + 0xDC00 if byte and number >= 0x80 else number)
