"""Texts that are in every name that a pattern or regex matches."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
import re2

from fingergw.core.literals import literals_of_glob, marked
from fingergw.core.patterns import regex
from fingergw.core.regex_literals import literals_of_regex

# A begin and an end of the name, in what is expected
FIRST, LAST = "<", ">"


def shown(literals: tuple[tuple[str, ...], ...]) -> list[list[str]]:
    """Return literals with their marks as they are expected."""
    marks = str.maketrans(dict(zip(marked(""), FIRST + LAST, strict=True)))
    return [[text.translate(marks) for text in choice] for choice in literals]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("svc-*", [["<svc-"]]),
        ("*-svc", [["-svc>"]]),
        ("a*b?c", [["<a"], ["b"], ["c>"]]),
        ("name", [["<name>"]]),
        ("a[bc]d", [["<a"], ["d>"]]),
        ("a[!b]d", [["<a"], ["d>"]]),
        ("a[]d]e*", [["<a"], ["e"]]),
        ("a[b]c*", [["<abc"]]),
        ("[[]x*", [["<[x"]]),
        ("[", [["<[>"]]),
        ("[*]a[?]*", [["<*a?"]]),
        ("a[!]b", [["<a[!]b>"]]),
        ("\u00fcbers\u00df*", [["<\u00fcbersss"]]),
        ("*", []),
        ("?[ab]*", []),
    ],
)
def test_glob(pattern: str, expected: list[list[str]]) -> None:
    """What stands between the wildcards of a shell-style pattern, with marks where the name begins and ends."""
    assert shown(literals_of_glob(pattern)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?P<team>[a-z]+)-oncall", [["-oncall>"]]),
        ("(?<team>[a-z]+)-oncall", [["-oncall>"]]),
        ("a.b", [["<a"], ["b>"]]),
        ("(web|db)-[0-9]+x", [["<db-", "<web-"], ["x>"]]),
        ("a-.*|b-.*|c", [["<a-", "<b-", "<c>"]]),
        ("a|.*", []),
        ("[0-9](a|)", []),
        ("x([0-9]a|b[0-9]+cc)y", [["<x"], ["a", "cc"], ["y>"]]),
        ("colou?r", [["<color>", "<colour>"]]),
        ("ab*c", [["<a"], ["c>"]]),
        ("ab{0}c", [["<a"], ["c>"]]),
        ("ab{0,3}?c", [["<a"], ["c>"]]),
        ("ab+c", [["<a"], ["b"], ["c>"]]),
        ("(ab){2,}c", [["ab"], ["c>"]]),
        ("(a|b)+[0-9]", [["a", "b"]]),
        ("a{,2}{x}", [["<a{,2}{x}>"]]),
        ("a{01}", [["<a{01}>"]]),
        ("^a$|^b\\z", [["<a>", "<b>"]]),
        ("(?i)Ab(?-i)C.*", [["<abc"]]),
        ("(?i:Ab)(?s-mU:C).*", [["<abc"]]),
        (r"a\.b\-.*", [["<a.b-"]]),
        (r"\Qa.b|c\E+", [["<a.b|"], ["c"]]),
        (r"[0-9]\Qa.b", [["a.b>"]]),
        (r"\x41\x{42}\0601\101.*", [["<ab01a"]]),
        (r"\d\pN\p{Greek}\P{^Lu}a\W\w\s", [["a"]]),
        (r"[\]]a[^]]b[]]c[[:alpha:]]d[[:^x]e[a\]]", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("[ab]c.*", [["<ac", "<bc"]]),
        ("[.]c.*", [["<.c"]]),
        ("[a-c]d", [["d>"]]),
        (r"\ta\nb", [["a"], ["b>"]]),
        ("\u212aelvin\u017f.*", [["<kelvins"]]),
        ("stra\u00dfe.*", [["<strasse"]]),
        ("", [["<>"]]),
        (r"a\Z", []),
        (r"a\C", []),
        ("a(?=b)", []),
        (r"a\1", []),
        (r"a\8", []),
        (r"a\x4", []),
        ("a(b", []),
        ("a)b", []),
        ("*a", []),
        ("[a", []),
    ],
)
def test_regex(pattern: str, expected: list[list[str]]) -> None:
    """What is in all that a regex matches; of what is not understood, nothing is known."""
    assert shown(literals_of_regex(pattern)) == expected


def test_deep_and_long() -> None:
    """Groups in groups, and long texts, take time by their length."""
    assert shown(literals_of_regex("(" * 1000 + "ab" + ")" * 1000)) == [["<ab>"]]
    many = literals_of_regex("(a|b)" * 4 + r"\." * 2900)
    assert all(len(text) < 200 for choice in many for text in choice)
    assert len(literals_of_regex("|".join(f"name{number}" for number in range(300)))[0]) == 300
    began = time.process_time()
    assert shown(literals_of_regex("[" + "[:" * 30_000 + "x]a")) == [["a>"]]
    assert time.process_time() - began < 5  # to look for each one's end would be some 10 ** 9 steps


def test_what_unicode_adds() -> None:
    """A character that only a later Unicode has is no text: RE2 may know a partner of it that Python does not."""
    unassigned = next(chr(each) for each in range(0xA7CB, sys.maxunicode) if unicodedata.category(chr(each)) == "Cn")
    assert shown(literals_of_regex(f"{unassigned}.*")) == []
    assert shown(literals_of_regex(f"a.{unassigned}.b")) == [["<a"], ["b>"]]


def test_case() -> None:
    """No two characters that RE2 takes for the same differ after casefold, which literals rely on."""
    characters = [chr(each) for each in range(sys.maxunicode + 1) if chr(each).isprintable()]
    cased = [each for each in characters if not each == each.lower() == each.upper() == each.casefold()]
    numbers = {folded: number for number, folded in enumerate(dict.fromkeys(map(str.casefold, cased)), start=1)}
    number_of = {each: numbers.get(each.casefold(), 0) for each in characters}
    options = re2.Options()
    options.case_sensitive, options.max_mem = False, 1 << 28
    for bit in range(len(numbers).bit_length()):
        # two numbers that differ do so in some bit
        have = "".join(rf"\x{{{ord(each):x}}}" for each in cased if number_of[each] >> bit & 1)
        have_not = "".join(each for each in characters if not number_of[each] >> bit & 1)
        assert re2.compile(f"[{have}]", options).search(have_not.encode()) is None
    assert regex("\u212a\u017f")("ks") == {}  # the control: it does take these for the same
