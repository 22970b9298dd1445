"""The grammar and the cleaning of output, sans-IO: each wire case whole, byte by byte and with trailing data."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.errors import BadQuery
from fingergw.core.patterns import regex
from fingergw.core.query import Query, fold_case, parse, take_line
from fingergw.core.text import clean, escape, printable, to_wire, truncate
from tests.support.escaped import unescaped

MAX = 64

# what a client is likely to send, so that hypothesis finds lines, telnet commands and words soon
WIRE = st.lists(
    st.sampled_from([b"a", b"Z", b"/W", b"@", b" ", b"\t", b"\r", b"\n", b"\xff", b"\xfa", b"\xf0", b"\xfb", b"\x00"])
    | st.binary(max_size=3),
    max_size=40,
).map(b"".join)
ANY_CHARACTER = st.characters(exclude_categories=())  # surrogates, too
TEXT = st.text(ANY_CHARACTER | st.sampled_from("\r\n\t\x1b\x7f\x85\x9b\u202e\u2028\ud800"), max_size=60)
FORBIDDEN = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def feed(chunks: Iterable[bytes], max_query_bytes: int = MAX) -> Query | Literal["bad"] | None:
    """Feed chunks as the protocol does, and return the query, "bad" or None while it is incomplete."""
    received = b""
    try:
        for chunk in chunks:
            received += chunk
            line = take_line(received, max_query_bytes)
            if line is not None:
                return parse(line) if len(line) <= max_query_bytes else "bad"
    except BadQuery:
        return "bad"
    return None


def every_way(wire: bytes, max_query_bytes: int = MAX) -> Query | Literal["bad"] | None:
    """Feed a whole query in every way, and return what all of them come to."""
    ways = [
        feed([wire], max_query_bytes),
        feed((wire[place : place + 1] for place in range(len(wire))), max_query_bytes),
        feed([wire + b"more\r\n\xff\xfa\n@"], max_query_bytes),
        feed([wire + b"x" * 1000], max_query_bytes),
    ]
    assert all(way == ways[0] for way in ways)
    return ways[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # {C} and {U}
        (b"", Query("")),
        (b"moshez", Query("moshez")),
        (b"MosheZ", Query("moshez")),
        (b"-p", Query("-p")),
        (b"$(id);`id`|'\"\\", Query("$(id);`id`|'\"\\")),
        ("josé".encode(), Query("josé")),
        ("ÉÀ".encode(), Query("éà")),
        (b"john smith", Query("john smith")),
        # blanks
        (b"  moshez  ", Query("moshez")),
        (b"\tmoshez\t", Query("moshez")),
        (b"john \t  smith", Query("john smith")),
        (b"   ", Query("")),
        # {W}
        (b"/W", Query("", verbose=True)),
        (b"/w", Query("", verbose=True)),
        (b" /W ", Query("", verbose=True)),
        (b"/W moshez", Query("moshez", verbose=True)),
        (b"/w\tmoshez", Query("moshez", verbose=True)),
        (b"/W   moshez", Query("moshez", verbose=True)),
        (b"moshez /W", Query("moshez", verbose=True)),
        (b"john /W smith", Query("john smith", verbose=True)),
        (b"/W /W moshez", Query("moshez", verbose=True)),
        (b"/Wuser", Query("/wuser")),
        (b"user/W", Query("user/w")),
        (b"/", Query("/")),
        (b"/X moshez", Query("/x moshez")),
        # {Q2}
        (b"@host", Query("", ("host",))),
        (b"user@host", Query("user", ("host",))),
        (b"user@Host.Example", Query("user", ("host.example",))),
        (b"user@h1@h2@h3", Query("user", ("h1", "h2", "h3"))),
        (b"@h1@h2", Query("", ("h1", "h2"))),
        (b"/W @host", Query("", ("host",), verbose=True)),
        (b"/W user@h1@h2", Query("user", ("h1", "h2"), verbose=True)),
        (b"user@host /W", Query("user", ("host",), verbose=True)),
        (b" user @ host ", Query("user", ("host",))),
        (b"user@[::1]:79", Query("user", ("[::1]:79",))),
        (b"user@", "bad"),
        (b"@", "bad"),
        (b"user@@host", "bad"),
        (b"user@host@", "bad"),
        (b"user@ @host", "bad"),
        # telnet commands
        (b"\xff\xfb\x18moshez", Query("moshez")),
        (b"\xff\xfd\nmoshez", Query("moshez")),
        (b"moshez\xff\xfe\r", Query("moshez")),
        (b"mo\xff\xfc\xffshez", Query("moshez")),
        (b"\xff\xfa\x18\x00a\nb\xff\xf0moshez", Query("moshez")),
        (b"\xff\xfa\x18\xff\xff\xf0\n\xff\xf0moshez", Query("moshez")),
        (b"mo\xff\xf1shez", Query("moshez")),
        (b"\xff\xf4\xff\xfd\x06moshez", Query("moshez")),
        (b"\xff\xff", "bad"),
        (b"\xff\xfamoshez", None),
        # what is no text
        (b"mosh\xe9z", "bad"),
        (b"\xc0\xaf", "bad"),
        (b"\xed\xa0\x80", "bad"),
        (b"mo\x00shez", "bad"),
        (b"mo\x1b[2Jshez", "bad"),
        (b"mo\x7fshez", "bad"),
        (b"mo\rshez", "bad"),
        ("mo\u0085shez".encode(), "bad"),
        ("mo\u202eshez".encode(), "bad"),
        ("mo\u2028shez".encode(), "bad"),
        # size
        (b"x" * MAX, Query("x" * MAX)),
        (b"x" * (MAX + 1), "bad"),
        (b" " * (MAX + 1), "bad"),
        (b"\xff\xf1" * (MAX // 2), Query("")),
        (b"\xff\xf1" * (MAX // 2) + b"x", "bad"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_wire(line: bytes, end: bytes, expected: Query | Literal["bad"] | None) -> None:
    """A line means the same however it ends and however it arrives; what follows it is ignored."""
    wire = line + end
    result = feed([wire]) if expected is None else every_way(wire)
    assert result == expected


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"", None),
        (b"moshez\r", None),
        (b"x" * MAX, None),
        (b"x" * MAX + b"\r", None),
        (b"x" * (MAX + 1), None),  # an end may still come, and with a CR the line is not too long
        (b"x" * (MAX + 2), "bad"),
        (b"\xff\xfb", None),
        (b"\xff\xfb\n", None),
        (b"moshez\xff\n", None),
        (b"\xff\xfa" + b"\n" * (MAX - 1), None),
        (b"\xff\xfa" + b"\n" * MAX, "bad"),
    ],
    ids=lambda value: ascii(value[:6]) + str(len(value)) if isinstance(value, bytes) else "",
)
def test_incomplete(received: bytes, expected: Literal["bad"] | None) -> None:
    """A line without its end is waited for up to the size limit, and refused from there on."""
    assert feed([received]) == expected


def test_what_a_regex_takes_for_ascii_is_ascii() -> None:
    """Of all characters, a regex without regard to case takes none in a name for a letter of ASCII that is not one."""
    match = regex("[a-z]+")
    names = [fold_case(chr(code)) for code in range(0x80, 0x20000) if chr(code).isalpha()]
    assert {name for name in names if match(name) and not name.isascii()} == set()
    assert (fold_case("\u017fecret"), fold_case("\u212aim")) == ("secret", "kim")


def test_case_is_kept_where_names_are_case_sensitive() -> None:
    """A case-sensitive gateway keeps a name as it was asked."""
    assert parse(b"/w MosheZ@Host", case_sensitive=True) == Query("MosheZ", ("Host",), verbose=True)


def test_query_knows_where_and_who() -> None:
    """A query carries the listener and the client it came by."""
    assert parse(b"a", False, "public", "192.0.2.1") == Query("a", listener="public", client="192.0.2.1")


def test_placeholders() -> None:
    """The placeholders are the regex's groups and the user, whom no group can replace."""
    assert Query("b", groups={"team": "a", "user": "x"}).placeholders == {"team": "a", "user": "b"}


@given(WIRE, st.lists(st.integers(0, 80)))
def test_chunking_makes_no_difference(wire: bytes, cuts: list[int]) -> None:
    """Any bytes come to the same result in any chunks, and nothing but BadQuery is ever raised."""
    places = [0, *sorted(cuts), len(wire)]
    assert feed(wire[start:end] for start, end in pairwise(places)) == feed([wire])


@given(WIRE)
def test_parse_gives_clean_lower_case(line: bytes) -> None:
    """Whatever is parsed is printable and in lower case, and no host is empty."""
    try:
        query = parse(line)
    except BadQuery:
        return
    for text in (query.user, *query.hosts):
        assert text == text.lower().strip()
        assert text.isprintable()
    assert all(query.hosts)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("", b""),
        ("a", b"a\r\n"),
        ("a\n", b"a\r\n"),
        ("a\r\nb", b"a\r\nb\r\n"),
        ("a\rb\n\nc", b"a\r\nb\r\n\r\nc\r\n"),
        ("a\tb", b"a\tb\r\n"),
        ("a\u2028b\u2029c", b"a\r\nb\r\nc\r\n"),
        ("\x1b[31mred\x1b]0;title\x07", b"[31mred]0;title\r\n"),
        ("\x00\x08\x7f\x80\x9b31m\xff", "31mÿ\r\n".encode()),
        ("\u202eevil\u2066\u200f", b"evil\r\n"),
        ("\ud800", "\ufffd\r\n".encode()),
        ("é", "é\r\n".encode()),
    ],
    ids=ascii,
)
def test_to_wire(text: str, wire: bytes) -> None:
    """An answer goes out without controls and marks that reorder, every line ended by CRLF."""
    assert to_wire(text) == wire


def test_to_wire_in_ascii() -> None:
    """In ASCII, each character that is not becomes a question mark."""
    assert to_wire("José \N{PILE OF POO}\ud800", "ascii") == b"Jos? ??\r\n"


@given(TEXT, st.sampled_from(["utf-8", "ascii"]))
def test_nothing_unsafe_leaves(text: str, charset: str) -> None:
    """Of any text at all, only tabs, CRLF and what a terminal can show goes out; doing it again changes nothing."""
    wire = to_wire(text, charset)
    sent = wire.decode(charset)
    assert not sent or sent.endswith("\r\n")
    assert not re.search(FORBIDDEN, sent)
    assert not re.search("\r(?!\n)|(?<!\r)\n", sent)
    assert to_wire(sent, charset) == wire


@given(TEXT)
def test_clean(text: str) -> None:
    """A clean text has nothing forbidden, nor any CR, and can be encoded; cleaning it again changes nothing."""
    cleaned = clean(text)
    assert not re.search(FORBIDDEN, cleaned)
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned
    assert cleaned.encode().decode() == cleaned


@given(st.text(ANY_CHARACTER.filter(str.isprintable)), st.text(st.sampled_from("\n\t é")))
def test_what_is_printable_is_kept(text: str, more: str) -> None:
    """Printable text, line feeds and tabs come out as they are."""
    text += more
    assert clean(text) == text
    assert to_wire(text + "\n").decode() == (text + "\n").replace("\n", "\r\n")


# the marks that count as letters, by their names, and the others, by what they do
MARKS = {"ARABIC LETTER MARK", "LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK"}
REORDERING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def becomes(character: str) -> str:
    """Return what a character is to come out as, by Unicode's own tables."""
    if character in "\t\n\r\u2028\u2029":
        return character if character == "\t" else "\n"
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    unsafe = category == "Cc" or unicodedata.bidirectional(character) in REORDERING
    return "" if unsafe or unicodedata.name(character, "") in MARKS else character


def test_every_character() -> None:
    """Of all the characters in Unicode, controls and the marks that reorder are dropped, and no other."""
    for plane in range(0, sys.maxunicode, 0x10000):
        characters = [chr(plane + place) for place in range(0x10000)]
        is_as_expected = clean("x".join(characters)) == "x".join(map(becomes, characters))
        assert is_as_expected, [ascii(each) for each in characters if clean(each) != becomes(each)]


@pytest.mark.parametrize(
    ("text", "max_bytes", "kept"),
    [
        ("abc", 5, b"abc\r\n"),
        ("abc", 4, b"ab\r\n"),
        ("a\nbc", 6, b"a\r\nb\r\n"),
        ("a\nbc", 5, b"a\r\n"),
        ("a\nbc", 4, b"a\r\n"),
        ("éé", 5, "é\r\n".encode()),
        ("éé", 3, b"\r\n"),
        ("abc", 2, b"\r\n"),
        ("abc", 1, b""),
    ],
)
def test_truncate(text: str, max_bytes: int, kept: bytes) -> None:
    """A long answer is cut between two characters, and its last line ended."""
    assert truncate(to_wire(text), max_bytes) == kept


@given(TEXT, st.integers(1, 80))
def test_truncate_keeps_within_the_limit(text: str, max_bytes: int) -> None:
    """A cut answer never exceeds the limit, is a beginning of the whole, and ends as every answer does."""
    wire = to_wire(text)
    kept = truncate(wire, max_bytes)
    assert len(kept) <= max_bytes
    assert wire.decode().startswith(kept.decode().removesuffix("\r\n"))
    assert kept.endswith(b"\r\n") or not wire or max_bytes < 2
    assert truncate(kept, max_bytes) == kept
    assert not re.search(FORBIDDEN, kept.decode())


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("moshez", "moshez"),
        ('say "hi"', 'say \\"hi\\"'),
        ("a\\b", "a\\\\b"),
        ('\\"', '\\\\\\"'),
        ("\x1b[2J\r\n", "\\x1b[2J\\r\\n"),
        ("é\u202e\ud800\U0001f642", "\\u00e9\\u202e\\ud800\\U0001f642"),
        ("\x7f\x9b", "\\x7f\\u009b"),
        ("\xff \\xff \udcff", "\\u00ff \\\\xff \\xff"),
    ],
    ids=ascii,
)
def test_escape(text: str, escaped: str) -> None:
    """What a log must not hold as it is stands there escaped."""
    assert escape(text) == escaped


@given(TEXT)
def test_escape_gives_one_quotable_line(text: str) -> None:
    """Any text becomes printable ASCII that no double quote ends, from which it can be told again."""
    escaped = escape(text)
    assert re.fullmatch(r'(?:[^"\\]|\\.)*', escaped)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert unescaped(escaped) == text


@given(TEXT)
def test_printable(text: str) -> None:
    """What is not printable comes out escaped; the rest, and what is to be kept, as it is."""
    shown = printable(text, kept="\n")
    assert shown.replace("\n", "").isprintable()
    assert shown.count("\n") == text.count("\n")
    assert (shown == text) == text.replace("\n", "").isprintable()


def test_printable_keeps_the_rest() -> None:
    """Quotes and letters of any script stay readable."""
    assert printable('José "\\" \x1b[1m\n\u202e', kept="\n") == 'José "\\" \\x1b[1m\n\\u202e'
