"""The grammar and the cleaning of output, sans-IO: each wire case whole, byte by byte and with trailing data."""

from __future__ import annotations

import re
import sys
import time
import timeit
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.errors import BadQuery
from fingergw.core.patterns import regex
from fingergw.core.query import Query, compose, fold_case, parse, take_last_line, take_line
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
TEXT = st.text(
    ANY_CHARACTER | st.sampled_from("\r\n\t\b_x[]\\\x1b\x7f\x85\x9b\x9d\u202e\u2028\ufeff\ud800"), max_size=60
)
FORBIDDEN = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def feed(chunks: Iterable[bytes], max_query_bytes: int = MAX, *, is_all: bool = False) -> Query | Literal["bad"] | None:
    """Feed chunks as the protocol does, and return the query, "bad" or None while it is incomplete.

    :param is_all: whether the client then closes its side.
    """
    received, line = b"", None
    for chunk in chunks:
        received += chunk
        line = take_line(received, max_query_bytes)
        if line is not None:
            break
    if line is None and is_all:
        line = take_last_line(received, max_query_bytes)
    try:
        return None if line is None else parse(line) if len(line) <= max_query_bytes else "bad"
    except BadQuery:
        return "bad"


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
        # what is of another protocol; a name may be that of a method
        (b"GET / HTTP/1.1", "bad"),
        (b"get /index.html http/1.0", "bad"),
        (b"GET /a path HTTP/1.1", "bad"),
        (b"GET\t/ HTTP/1.1", "bad"),
        (b"HEAD / HTTP/1.0", "bad"),
        (b"HEAD / HTTP/2", "bad"),
        (b"OPTIONS * HTTP/1.1", "bad"),
        (b"OPTIONS *", Query("options *")),
        (b"POST http://example.org/ HTTP/1.1", "bad"),
        (b"CONNECT example.org:443 HTTP/1.1", "bad"),
        (b"PRI * HTTP/2.0", "bad"),
        (b"GET /~ada@example.org HTTP/1.1", "bad"),
        (b"GET /W HTTP/1.1", "bad"),
        (b"GET HTTP/1.1", "bad"),
        (b"PROPFIND /x HTTP/1.1", "bad"),
        (b"GET /x", "bad"),
        (b"GET  /x", "bad"),
        (b"GET http://example.org/", "bad"),
        (b"HTTP/1.1 200 OK", "bad"),
        (b"OPTIONS / RTSP/1.0", "bad"),
        (b"DESCRIBE rtsp://example.org/x RTSP/1.0", "bad"),
        (b"OPTIONS sip:nm SIP/2.0", "bad"),
        (b"REGISTER sip:example.org SIP/2.0", "bad"),
        (b"OPTIONS icap://example.org/x ICAP/1.0", "bad"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2", "bad"),
        (b"SSH-1.99-x", "bad"),
        (b"get", Query("get")),
        (b"HEAD", Query("head")),
        (b"/W options", Query("options", verbose=True)),
        (b"GET /W", Query("get", verbose=True)),
        (b"get up", Query("get up")),
        (b"GET@host", Query("get", ("host",))),
        (b"http/1.1", Query("http/1.1")),
        (b"web/2.0 team", Query("web/2.0 team")),
        (b"ssh-keys", Query("ssh-keys")),
        # names in Unicode's NFC
        ("jose\u0301".encode(), Query("jos\u00e9")),
        ("JOSE\u0301".encode(), Query("jos\u00e9")),
        ("\u1112\u1161\u11ab".encode(), Query("\ud55c")),
        ("a@jose\u0301".encode(), Query("a", ("jos\u00e9",))),
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
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r\r\n"], ids=["crlf", "lf", "cr-crlf"])
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
        (b"x" * MAX + b"\r" * 8, None),
        (b"x" * MAX + b"\r" * 9, "bad"),  # or a line could have CRs without end
        *((bytes([first]) + b"x", "bad") for first in (0, 3, 4, 5, 0x16, 0x1B, 0x1F, 0x7F, 0x80, 0xC1, 0xFE)),
        *((bytes([first]) + b"x", None) for first in b"\t\r !~\xc2\xf4\xff"),
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
    """A line without its end is waited for up to the size limit, unless it begins as no query does."""
    assert feed([received]) == expected


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"moshez", Query("moshez")),
        (b"moshez\r", Query("moshez")),
        (b"moshez\r\r", Query("moshez")),
        (b"/W mosh\xff\xf1ez", Query("moshez", verbose=True)),
        (b"\xff\xfb\x18moshez\xff\xfb", Query("moshez")),
        (b"moshez\xff\xfa\x18\nxterm", Query("moshez")),
        (b"\r", Query("")),
        (b" ", Query("")),
        (b"\xff\xff", "bad"),
        (b"mosh\xe9", "bad"),
        (b"GET / HTTP/1.0", "bad"),
        (b"x" * MAX, Query("x" * MAX)),
        (b"x" * MAX + b"\r", Query("x" * MAX)),
        (b"x" * (MAX + 1), "bad"),
        (b"", None),
        (b"\xff\xfb\x18", None),
        (b"\xff\xfd\r\xff\xfd\n", None),
        (b"\xff", None),
        (b"\xff\xfb\x18\xff\xfb", None),
        (b"\xff\xfa\x18\xff\xff\xf0", None),
    ],
    ids=ascii,
)
def test_end_of_file(received: bytes, expected: Query | Literal["bad"] | None) -> None:
    """A client that closes its side ends its line; of telnet commands alone, whole or not, comes no query."""
    assert feed([received], is_all=True) == expected
    assert feed((received[place : place + 1] for place in range(len(received))), is_all=True) == expected


@given(WIRE)
def test_end_of_file_is_a_line_end(wire: bytes) -> None:
    """Whatever has been sent comes to the same by the end of file as by a line end, if not to nothing."""
    last = feed([wire], is_all=True)
    assert last is None or last == feed([wire + b"\r\n"]) or b"\xff" in wire


def test_names_in_nfc() -> None:
    """Names that differ only in how accents are composed are the same; ASCII and what is composed stay as they are."""
    for code in range(0x80, sys.maxunicode):
        name = chr(code)
        decomposed = unicodedata.normalize("NFD", name)
        if decomposed != name:
            assert compose(decomposed) == unicodedata.normalize("NFC", name)
            assert fold_case(decomposed) == fold_case(name)
    assert (compose("Jose"), fold_case("\u017f\u0323")) == ("Jose", "\u1e63")


@given(
    st.text(
        st.sampled_from("aA\u017f\u0130\u0131\u1e9b\u03a3\u0301\u0307\u0323\u0345\u1fbc\u212a\u212b") | st.characters()
    )
)
def test_fold_case_gives_one_form(name: str) -> None:
    """Whatever form a name is typed in, one form is compared: in NFC, and folded again it is the same."""
    folded = fold_case(name)
    assert folded == fold_case(unicodedata.normalize("NFD", name)) == fold_case(folded)
    assert unicodedata.is_normalized("NFC", folded)


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
        ("a\x0bb\x0cc\x85d", b"a\r\nb\r\nc\r\nd\r\n"),
        ("\x1b[31mred\x1b]0;title\x07", b"red\r\n"),
        ("\x00\x08\x7f\x80\x9b31m\xff", "ÿ\r\n".encode()),
        ("\ufeffa\ufeffb", "a\ufeffb\r\n".encode()),
        ("\u202eevil\u2066\u200f", b"evil\r\n"),
        ("\ud800", "\ufffd\r\n".encode()),
        ("é", "é\r\n".encode()),
    ],
    ids=ascii,
)
def test_to_wire(text: str, wire: bytes) -> None:
    """An answer goes out without controls and marks that reorder, every line ended by CRLF."""
    assert to_wire(text) == wire


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # CSI
        ("\x1b[1;31mALERT\x1b[0m", "ALERT"),
        ("a\x1b[?25lb\x1b[0 qc\x1b[2Jd\x1b[@e", "abcde"),
        ("a\x9b1;31mb", "ab"),
        ("a\x1b[3\0\t1mb", "ab"),
        ("a\x1b[1 2mb", "ab"),
        ("a\x1b[12\x1b[1mb", "ab"),
        ("a\x1b[12\x18b\x1b[12\x1ac", "abc"),
        ("a\x1b[12\u00e9", "a\u00e9"),
        # OSC
        ("\x1b]8;;http://e.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b]0;t\u00eetre\x07b\x9d0;title\x9cc\x9d0;title\x07d", "abcd"),
        ("a\x1b]0;title\x1b[1mb", "ab"),
        ("a\x1b]0;title\x18b", "ab"),
        # DCS, SOS, PM, APC
        ("a\x1bPq#0;2\x07x\x1b\\b\x1bXsos\x1b\\c\x1b^pm\x1b\\d\x1b_apc\x1b\\e", "abcde"),
        ("a\x90q\x9cb\x98sos\x9cc\x9epm\x9cd\x9fapc\x1b\\e", "abcde"),
        ("a\x1bPtmux;\x1b\x1b]0;title\x07\x1b\\b", "ab"),
        # other escapes
        ("a\x1bcb\x1b7c\x1b=d\x1bMe\x1b\\f\x1b~g", "abcdefg"),
        ("a\x1b(Bb\x1b#8c\x1b%Gd\x1b Fe\x1b$(Cf", "abcdef"),
        ("a\x1b\0\x7f[1mb\x1b\x1b[1mc", "abc"),
        ("a\x1b\u00e9b\x84c\x9cd", "a\u00e9bcd"),
        # unfinished
        ("a\x1b", "a"),
        ("a\x1b\nb\x1b[31\nc\x1b]0;title\nd\x1bPq\re\x9d0\x85f\x1b(\x0cg\x1bP\u2028h\x1b\\", "a\nb\nc\nd\ne\nf\ng\nh"),
        # overstrike
        ("N\bNA\bAM\bME\bE", "NAME"),
        ("_\bx_\by", "xy"),
        ("x\b_y\b_", "xy"),
        ("_\bx\bx", "x"),
        ("__\b\bxy", "xy"),
        ("ab\b\bAB", "AB"),
        ("ab\b\b__", "ab"),
        ("+\bo", "o"),
        ("_\b_", "_"),
        ("a \b_b", "a_b"),
        ("abc\b\bx", "axc"),
        ("abc\b", "abc"),
        ("\b\ba\b\b\bb", "b"),
        ("a\nb\b\b\bc\nd", "a\nc\nd"),
        ("\x1b[1mN\x1b[0m\bN", "N"),
        ("e\u0301\be\u0301x", "e\u0301x"),
        ("_\be\u0301", "e\u0301"),
        ("\u5b57\b\u5b57x", "\u5b57x"),
        ("a\u5b57\b\b\u5b57x", "a\u5b57x"),
        ("__\b\b\u5b57", "\u5b57"),
        # a byte order mark
        ("\ufeff", ""),
        ("\ufeff\ufeffa", "a"),
        ("\x1b[m\ufeffa\n\ufeff", "a\n\ufeff"),
    ],
    ids=ascii,
)
def test_terminal_sequences(text: str, shown: str) -> None:
    """A terminal's sequences go as a whole, in their 7-bit and 8-bit forms, and what is overstruck is as it looks."""
    assert clean(text) == shown


@given(TEXT, TEXT)
def test_nothing_reaches_beyond_its_line(text: str, more: str) -> None:
    """What a line has in it changes no other line."""
    first, second = f"<{text}>", f"<{more}>"
    assert clean(f"{first}\n{second}") == f"{clean(first)}\n{clean(second)}"


HOSTILE = ["\x1b", "\x1b[", "\x1b]", "\x1bP\x1b\\", "\x1b\0", "\x9b", "\x9d\x07", "\b", "a\b", "\u00e9\b", "\u5b57\b\b"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
@pytest.mark.parametrize("first", ["", "\x1b]", "a" * 5000], ids=["alone", "in a string", "after a text"])
def test_clean_takes_linear_time(first: str, hostile: str) -> None:
    """Four times as much of the worst text takes about four times as long, not sixteen times."""

    def seconds(count: int) -> float:
        text = first + hostile * count
        return min(timeit.repeat(lambda: clean(text), number=1, repeat=3, timer=time.process_time))

    assert seconds(12000) < 10 * max(seconds(3000), 0.001)


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
SEQUENCES = "\b\x1b\x90\x98\x9b\x9d\x9e\x9f"  # which change what stands beside them
REORDERING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def becomes(character: str) -> str:
    """Return what a character is to come out as, by Unicode's own tables."""
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return character if character == "\t" else "\n"
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    unsafe = category == "Cc" or unicodedata.bidirectional(character) in REORDERING
    return "" if unsafe or unicodedata.name(character, "") in MARKS else character


def test_every_character() -> None:
    """Of all the characters in Unicode, controls and the marks that reorder are dropped, and no other."""
    for plane in range(0, sys.maxunicode, 0x10000):
        characters = [chr(plane + place) for place in range(0x10000) if chr(plane + place) not in SEQUENCES]
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
