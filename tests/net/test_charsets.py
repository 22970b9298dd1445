"""What a Content-Type says, and texts in charsets."""

from __future__ import annotations

import codecs

import pytest

from fingergw.net.http.charsets import ContentType, codec_of, content_type, decode, known_codecs


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text/html", ContentType("text/html", None)),
        ("Text/HTML ; Charset=UTF-8", ContentType("text/html", "utf_8")),
        ('text/plain; charset="ISO-8859-1"', ContentType("text/plain", "cp1252")),
        ("text/plain;charset=windows-1252;a=b", ContentType("text/plain", "cp1252")),
        ("text/plain; charset=utf-8; charset=latin-1", ContentType("text/plain", "utf_8")),
        ("text/plain; a=b; charset=koi8-r", ContentType("text/plain", "koi8_r")),
        ("text/plain; charset=nope", ContentType("text/plain", None)),
        ("text/plain; charset=", ContentType("text/plain", None)),
        ("text/plain; charset*=a%00b'x'utf-8", ContentType("text/plain", None)),
        ("text/plain; charset*=us-ascii'en'utf-8%00", ContentType("text/plain", None)),
        ("", ContentType("", None)),
        ("html", ContentType("", None)),
        ("text/html html", ContentType("", None)),
        ('text/html;a="' + ";" * 60_000, ContentType("", None)),
        ("text/html" + " " * 60_000, ContentType("", None)),
        ("text/html;a=" + ";a=" * 300, ContentType("text/html", None)),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_content_type(value: str, said: ContentType) -> None:
    """The media type and the first charset are read; what is longer than 1 KiB, or malformed, says nothing."""
    assert content_type(value) == said


def test_only_known_charsets_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no charset's is not looked up: Python would remember it for ever."""
    asked: list[str] = []
    monkeypatch.setattr(codecs, "lookup", asked.append)
    for name in (f"x1{'a' * 14_000}", "utf-8x", "../utf-8", "\0", "ü", "", "-", "x" * 1000, "encodings"):
        assert codec_of(name) is None, name
    assert asked == []


def test_spellings_are_one_name() -> None:
    """However a charset is written, it is looked up by the one name of its codec."""
    assert {codec_of(name) for name in ("utf-8", "UTF8", "u-t-f-8", "Utf_8", "utf----8", " utf 8 ", "U8")} == {
        "utf_8",
        None,  # u-t-f-8
    }
    assert all(codec_of(each) == each for each in known_codecs())


def test_no_codecs_that_are_no_charsets() -> None:
    """What makes no text of bytes, or is Python's own, is no charset."""
    for name in ("base64", "bz2", "hex", "quopri", "rot13", "uu", "zlib", "idna", "punycode", "undefined"):
        assert codec_of(name) is None, name
    for name in ("unicode_escape", "unicode-escape", "raw-unicode-escape", "mbcs", "oem", "charmap", "aliases"):
        assert codec_of(name) is None, name


@pytest.mark.parametrize("codec", sorted(known_codecs()))
def test_every_charset_takes_any_bytes(codec: str) -> None:
    """Any bytes are a text in any charset: what is invalid is replaced."""
    for data in (bytes(range(256)), b"\xff" * 100, b"\x1b$)A\x0e~{+", b"\x80", b""):
        assert isinstance(decode(data, codec), str)


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("iso-8859-1", b"\x93caf\xe9\x94 \x80", "“café” €"),
        ("latin1", b"\x80", "€"),
        ("us-ascii", b"\x93", "“"),
        ("iso-8859-9", b"\x93\xfe", "“ş"),
        ("tis-620", b"\x85\xa1", "…ก"),
        ("gb2312", "镕 €".encode("gb18030"), "镕 €"),
        ("x-gbk", "镕".encode("gbk"), "镕"),
        ("shift_jis", "①".encode("cp932"), "①"),
        ("x-sjis", "①".encode("cp932"), "①"),
        ("euc-kr", "똠".encode("cp949"), "똠"),
        ("windows-949", "똠".encode("cp949"), "똠"),
        ("windows-874", b"\x85", "…"),
        ("x-cp1251", b"\xfe", "ю"),
        ("iso-8859-15", b"\xa4", "€"),
        # to a terminal these C1 controls would begin a sequence, which would swallow text
        ("iso-8859-2", b"\x8ba\x9b b\x84c\x9d d", "\x8ba b\x84c d"),
        ("koi8-u", b"\x9b", "\u2321"),
        ("utf-8", "\x9b1ma".encode(), "\x9b1ma"),
    ],
)
def test_charsets_as_browsers_take_them(charset: str, data: bytes, text: str) -> None:
    """A text is in what those who name a charset mean by it, as the Encoding Standard has it."""
    assert decode(data, codec_of(charset)) == text


@pytest.mark.parametrize("codec", [None, "utf_8", "cp1252", "utf_16", "utf_16_le", "utf_16_be"])
def test_marks(codec: str | None) -> None:
    """The mark that a text begins with says what it is in, whatever the header says, and is no part of it."""
    for mark, marked in ((b"\xef\xbb\xbf", "utf_8"), (b"\xff\xfe", "utf_16_le"), (b"\xfe\xff", "utf_16_be")):
        assert decode(mark + "é".encode(marked), codec) == "é"


def test_default() -> None:
    """Without a charset a text is UTF-8, and what is not is replaced."""
    assert decode("é".encode() + b"\xff", None) == "é\ufffd"
