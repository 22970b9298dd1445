"""Make text safe: answers for clients, and what is quoted in logs and messages."""

from __future__ import annotations

import re

from fingergw.core.columns import width

_LINE_ENDS = ("\v", "\f", "\u0085", "\u2028", "\u2029")  # besides CR LF, CR and LF
_BYTE_ORDER_MARK = "\ufeff"
# anything but spaces, line ends, marks that take no room
_VISIBLE = re.compile("[^\\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_GLANCE = 200  # characters of a text that mostly tell, so that the whole is not cleaned for it
_SURROGATE = re.compile("[\ud800-\udfff]")

# C0 but TAB, LF and BS; DEL, C1; the bidirectional marks, embeddings, overrides and isolates
_UNSAFE = r"\x00-\x07\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# In a sequence a terminal carries out most controls, or ignores them, and goes on. CAN, SUB, ESC and C1 end it. A line
# end ends it here too, so that nothing beyond its line can be lost.
_WITHIN = r"\x00-\x09\x0e-\x17\x19\x1c-\x1f\x7f"
_PARAMETERS = rf"[{_WITHIN}\ -?]*+[@-~]?"
_STRING = r"[^\n\x18\x1a\x1b\x80-\x9f]*+(?:\x1b\\|\x9c)?"
_COMMAND = r"[^\n\x07\x18\x1a\x1b\x80-\x9f]*+(?:\x07|\x1b\\|\x9c)?"  # terminals take BEL for the end of an OSC
# A control sequence of ECMA-48 (§5.3 to §5.6), whole or unfinished, or another unsafe character. It begins with a set
# of characters, for which re looks fast.
_DROPPED = re.compile(
    rf"""
    [{_UNSAFE}]
    (?: (?<=\x1b) [{_WITHIN}]*+
        (?: \[ {_PARAMETERS} | \] {_COMMAND} | [PX^_] {_STRING} | [{_WITHIN}\ -/]*+[0-~] | (?:[!-/][{_WITHIN}\ -/]*+)? )
      | (?<=\x9b) {_PARAMETERS}
      | (?<=\x9d) {_COMMAND}
      | (?<=[\x90\x98\x9e\x9f]) {_STRING}
    )?
    """,
    re.VERBOSE,
)
_WRITTEN = re.compile("([^\b]*)(\b*)")


def clean(text: str) -> str:
    """Return a text that is safe to print on a terminal (RFC 1288 §3.3), and that can be encoded.

    Every kind of line end becomes LF. Control sequences are dropped as a whole, an unfinished one to the end of its
    line. Overstrike becomes what it shows. Other controls than TAB, the marks that reorder text, and a byte order mark
    at the start are dropped. A lone surrogate becomes U+FFFD.
    """
    if text.isprintable():
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.replace("\n", "").replace("\t", "").isprintable():  # ten times as fast as the patterns
        return text
    for end in _LINE_ENDS:
        text = text.replace(end, "\n")
    text = _DROPPED.sub("", text)
    if "\b" in text:
        text = "\n".join(_overstruck(line) if "\b" in line else line for line in text.split("\n"))
    return _SURROGATE.sub("\ufffd", text).lstrip(_BYTE_ORDER_MARK)


def _overstruck(line: str) -> str:
    """Return what a line with backspaces shows: in each column what was written last, an underline only over a blank.

    So bold characters, each written twice, and underlined ones become plain.
    """
    shown: list[str] = []
    column = 0
    for written, backspaces in _WRITTEN.findall(line):
        cells = list(written) if written.isascii() else _cells(written)
        if cells and column and shown[column : column + 1] == [""]:  # the second half of a wide character
            column -= 1
        over = min(len(cells), len(shown) - column)
        for cell in cells[:over]:
            if cell != "_" or shown[column] == " ":
                shown[column] = cell
            column += 1
        shown += cells[over:]
        column = max(0, column + len(cells) - over - len(backspaces))
    return "".join(shown)


def _cells(text: str) -> list[str]:
    """Return what is in each column: a combining character is in that of the one before it, a wide one takes two."""
    cells: list[str] = []
    for each in text:
        columns = width(each)
        if cells and not columns:
            cells[-1] += each
        else:
            cells += [each, ""] if columns == 2 else [each]
    return cells


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
