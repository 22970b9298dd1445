"""Parse Content-Types and decode text; only known charsets are looked up."""

from __future__ import annotations

import encodings
import pkgutil
import re
from encodings.aliases import aliases
from functools import cache
from typing import Final

from attrs import field, frozen

from fingergw.core.errors import ExpectedError

_MAX_SHOWN = 40  # characters of a name that is no charset's
_MAX_BYTES = 1024  # of a Content-Type; a longer one is ignored
_TYPE = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;|$)")
_CHARSET = re.compile(r""";\s*charset=(?:"([^"\\]*)"|([^\s;"]+))""", re.IGNORECASE)
# Codecs that do not decode bytes to text, or that the standard library documents as Python-specific: no page uses
# them, and some are slow.
_NOT_CHARSETS: Final = frozenset(
    {"aliases", "base64_codec", "bz2_codec", "charmap", "hex_codec", "idna", "mbcs", "oem", "punycode"}
    | {"quopri_codec", "raw_unicode_escape", "rot_13", "undefined", "unicode_escape", "uu_codec", "zlib_codec"}
)
# The codecs that browsers use for some charsets (https://encoding.spec.whatwg.org/#names-and-labels).
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
# Names in that standard that Python does not know.
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
# C1 controls that begin a terminal's sequence. In a legacy charset they are punctuation of another one.
_SEQUENCE: Final = re.compile("[\x90\x98\x9b\x9d-\x9f]")
_UTF_8: Final = "utf_8"
_MARKS: Final = ((b"\xef\xbb\xbf", _UTF_8), (b"\xfe\xff", "utf_16_be"), (b"\xff\xfe", "utf_16_le"))


@cache
def _codecs() -> dict[str, str]:
    """Return the codecs by the names of charsets.

    Only these are looked up, as Python caches every name that it is asked for, for ever.
    """
    modules = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    names = {**{name: name for name in modules}, **aliases, **_MORE_NAMES}
    return {name: _MEANT.get(codec, codec) for name, codec in names.items() if codec in modules - _NOT_CHARSETS}


def known_codecs() -> frozenset[str]:
    """Return Python's names of the codecs that text can be decoded with."""
    return frozenset(_codecs().values())


@frozen
class Charset:
    """A charset by its name, as browsers understand it.

    :param name: as it is written.
    :param codec: Python's codec for it.
    :raises ExpectedError: no charset is known by that name, or it is a codec of Python's that is none.
    """

    name: str
    codec: str = field(init=False, eq=False, repr=False)

    @codec.default
    def _find_codec(self) -> str:
        codec = codec_of(self.name)
        if codec is None:
            raise ExpectedError(
                f'"{self.name[:_MAX_SHOWN]}" is not a known charset; write one such as "utf-8", "windows-1252", '
                '"iso-8859-15" or "koi8-r"'
            )
        return codec

    def decode(self, data: bytes | bytearray) -> str:
        """Decode text that says nothing of its charset but perhaps by a byte order mark, as :func:`decode` does."""
        return decode(data, self.codec)


@frozen
class ContentType:
    """A parsed Content-Type header (RFC 9110 §8.3).

    :param kind: the media type in lower case; empty if there is none.
    :param codec: Python's codec for the charset; None without a known charset.
    """

    kind: str
    codec: str | None

    @property
    def is_html(self) -> bool:
        """Whether it is HTML."""
        return self.kind in ("text/html", "application/xhtml+xml")


def content_type(value: str) -> ContentType:
    """Parse a Content-Type header; of several charsets the first counts.

    :param value: of the header, of any length.
    """
    kind = _TYPE.match(value) if len(value) <= _MAX_BYTES else None
    if kind is None:
        return ContentType("", None)
    charset = _CHARSET.search(value)
    return ContentType(kind[1].lower(), None if charset is None else codec_of(charset[1] or charset[2]))


def codec_of(charset: str) -> str | None:
    """Return Python's codec for a charset, as browsers understand it; None if it is not known."""
    if not charset.isascii():
        return None
    name = encodings.normalize_encoding(charset.strip()).lower()
    return _UTF_8 if name == _UTF_8 else _codecs().get(name)  # a table for the others takes time, and few need it


def is_marked(data: bytes | bytearray) -> bool:
    """Tell whether bytes begin with a byte order mark."""
    return any(data.startswith(mark) for mark, _ in _MARKS)


def decode(data: bytes | bytearray, codec: str | None) -> str:
    """Decode text; invalid bytes are replaced. A byte order mark wins over the codec, and is removed.

    :param codec: as in :class:`ContentType`; None for UTF-8.
    """
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(marked, "replace")
    text = data.decode(codec or "utf-8", "replace")
    return text if codec is None or codec.startswith("utf_") else _SEQUENCE.sub("", text)


UTF_8: Final = Charset("utf-8")
"""What text is in unless something says otherwise."""
