"""What a Content-Type says, and text from bytes; nothing that it says is believed before it is known."""

from __future__ import annotations

import encodings
import pkgutil
import re
from encodings.aliases import aliases
from typing import Final

from attrs import frozen

_MAX_BYTES = 1024  # of a Content-Type; a longer one is none
_TYPE = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;|$)")
_CHARSET = re.compile(r""";\s*charset=(?:"([^"\\]*)"|([^\s;"]+))""", re.IGNORECASE)
# Codecs that make no text of bytes, or that the standard library documents as Python's own: no page is written in one,
# and some are slow.
_NOT_CHARSETS: Final = frozenset(
    {"aliases", "base64_codec", "bz2_codec", "charmap", "hex_codec", "idna", "mbcs", "oem", "punycode"}
    | {"quopri_codec", "raw_unicode_escape", "rot_13", "undefined", "unicode_escape", "uu_codec", "zlib_codec"}
)
# What pages are in that say to be in another (https://encoding.spec.whatwg.org/#names-and-labels).
_MEANT: Final = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
    "tis_620": "cp874",
}
# Names from there that Python does not know.
_MORE_NAMES: Final = {
    **{f"x_cp125{number}": f"cp125{number}" for number in range(9)},
    "dos_874": "cp874",
    "iso_8859_8_i": "iso8859_8",
    "unicode_1_1_utf_8": "utf_8",
    "windows_874": "cp874",
    "windows_949": "cp949",
    "x_euc_jp": "euc_jp",
    "x_gbk": "gb18030",
    "x_mac_cyrillic": "mac_cyrillic",
    "x_mac_roman": "mac_roman",
    "x_sjis": "cp932",
    "x_x_big5": "big5hkscs",
}
_MARKS: Final = ((b"\xef\xbb\xbf", "utf_8"), (b"\xfe\xff", "utf_16_be"), (b"\xff\xfe", "utf_16_le"))


def _known() -> dict[str, str]:
    modules = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    names = {**{name: name for name in modules}, **aliases, **_MORE_NAMES}
    return {name: _MEANT.get(codec, codec) for name, codec in names.items() if codec in modules - _NOT_CHARSETS}


# Only these are looked up, by their own names: Python remembers for ever each name that it was asked for.
_CODECS: Final = _known()
CODECS: Final = frozenset(_CODECS.values())
"""The names of Python's codecs that a text can be in."""


@frozen
class ContentType:
    """What a Content-Type header says (RFC 9110 §8.3).

    :param kind: the media type in lower case; empty where there is none.
    :param codec: the name of Python's codec for the charset; None where none is named that is known.
    """

    kind: str
    codec: str | None

    @property
    def is_html(self) -> bool:
        """Whether it is a page."""
        return self.kind in ("text/html", "application/xhtml+xml")


def content_type(value: str) -> ContentType:
    """Return what a Content-Type header says; of several charsets the first counts.

    :param value: of the header, as long as it may be.
    """
    kind = _TYPE.match(value) if len(value) <= _MAX_BYTES else None
    if kind is None:
        return ContentType("", None)
    charset = _CHARSET.search(value)
    return ContentType(kind[1].lower(), None if charset is None else codec_of(charset[1] or charset[2]))


def codec_of(charset: str) -> str | None:
    """Return the name of Python's codec for what is in a charset, as browsers take it; None for one not known."""
    if not charset.isascii():
        return None
    return _CODECS.get(encodings.normalize_encoding(charset.strip()).lower())


def is_marked(data: bytes) -> bool:
    """Tell whether bytes begin with a mark that says what charset they are in."""
    return any(data.startswith(mark) for mark, _ in _MARKS)


def decode(data: bytes, codec: str | None) -> str:
    """Return a text; what is invalid in it is replaced. A mark that it begins with wins, and is left out.

    :param codec: as :class:`ContentType` has it; None for UTF-8.
    """
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(marked, "replace")
    return data.decode(codec or "utf-8", "replace")
