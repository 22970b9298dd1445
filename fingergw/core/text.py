"""Make text safe: answers for clients, and what is quoted in logs and messages."""

from __future__ import annotations

import re

_LINE_ENDS = ("\r\n", "\r", "\u2028", "\u2029")
# C0 but TAB and LF, DEL, C1; the bidirectional marks, embeddings, overrides and isolates
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# anything but spaces, line ends, marks that take no room
_VISIBLE = re.compile("[^\\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_GLANCE = 200  # characters of a text that mostly tell, so that the whole is not cleaned for it
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Return a text that is safe to print on a terminal (RFC 1288 §3.3), and that can be encoded.

    Every kind of line end becomes LF. Controls other than TAB, and the marks that reorder text, are dropped. A
    lone surrogate becomes U+FFFD.
    """
    if text.isprintable():
        return text
    for end in _LINE_ENDS:
        text = text.replace(end, "\n")
    if text.replace("\n", "").replace("\t", "").isprintable():  # ten times as fast as the patterns
        return text
    return _SURROGATE.sub("\ufffd", _UNSAFE.sub("", text))


def is_blank(text: str) -> bool:
    """Tell whether nothing of a text can be seen once it is clean."""
    return all(_VISIBLE.search(clean(part)) is None for part in (text[:_GLANCE], text))


def to_wire(text: str, charset: str = "utf-8") -> bytes:
    """Return a text as an answer's bytes: clean, every line ended by CRLF, also the last (RFC 1288 §2.2).

    :param charset: ``"utf-8"`` or ``"ascii"``; characters that it lacks become ``?``.
    """
    text = clean(text)
    if text and not text.endswith("\n"):
        text += "\n"
    return text.encode(charset, "replace").replace(b"\n", b"\r\n")


def truncate(wire: bytes, max_bytes: int) -> bytes:
    """Cut an answer to a size, between two characters, so that its last line still ends by CRLF.

    :param wire: what :func:`to_wire` returned.
    :return: nothing if not even CRLF fits.
    """
    if len(wire) <= max_bytes:
        return wire
    if max_bytes < 2:
        return b""
    kept = wire[: max_bytes - 2].decode(errors="ignore").rstrip("\r\n")
    return kept.encode() + b"\r\n"


# No two texts look the same escaped: a byte has two digits, a character beyond ASCII four or eight.
_ESCAPES = (
    {number: f"\\x{number:02x}" for number in (*range(0x20), 0x7F)}
    | {0xDC00 + number: f"\\x{number:02x}" for number in range(0x80, 0x100)}
    | {number: f"\\u{number:04x}" for number in range(0x80, 0x100)}
    | {ord(each): f"\\{shown}" for each, shown in zip('\t\n\r"\\', 'tnr"\\', strict=True)}
)


def escape(text: str) -> str:
    """Escape a text for use between double quotes in a log line: one line of printable ASCII.

    :param text: bytes that are not UTF-8 are decoded with ``surrogateescape``.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    # not with unicode_escape: its module may be out of reach in a chroot
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


def printable(text: str, kept: str = "") -> str:
    """Return a text with every character escaped that is not printable.

    :param kept: characters to leave as they are, such as line ends.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in kept else escape(each) for each in text)
