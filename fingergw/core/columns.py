"""Columns of text, as wide as a terminal shows what they hold."""

from __future__ import annotations

import unicodedata

_NO_ROOM = frozenset({"Mn", "Me", "Cf"})  # marks on the character before, and those that format
_JAMO = range(0x1160, 0x1200)  # the vowels and finals of a Hangul syllable, which stand in the room of its initial
_SOFT_HYPHEN = "\u00ad"


def width(text: str) -> int:
    """Return how many columns of a terminal a clean line takes: wide East Asian characters take two, marks none."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if (unicodedata.category(character) in _NO_ROOM and character != _SOFT_HYPHEN) or ord(character) in _JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def padded(text: str, columns: int) -> str:
    """Return a line with spaces after it up to a width; one that is wider stays as it is."""
    return text + " " * (columns - width(text))
