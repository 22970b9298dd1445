"""How wide a terminal shows a line."""

from __future__ import annotations

import pytest

from fingergw.core.columns import padded, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("plain", 5),
        ("naïve", 5),
        ("nai\u0308ve", 5),  # a combining mark
        ("日本語", 6),
        ("\uff21\uff22", 4),  # full width
        ("ｶﾅ", 2),  # half width
        ("한국", 4),
        ("\u1112\u1161\u11ab", 2),  # the same syllable in its parts
        ("a\u200bb\u2060", 2),  # no room at all
        ("\u0439\u0306", 1),
        ("ไทยดี", 4),  # vowels and tones above and below
        ("⏰", 2),
        ("a\u00adb", 3),  # terminals show the hyphen
        ("я€", 2),  # ambiguous: one
    ],
)
def test_width(text: str, columns: int) -> None:
    """Wide characters take two columns, marks and what only formats take none, all others one."""
    assert width(text) == columns


def test_padded() -> None:
    """Spaces fill a line up to its width; one that is wider is left as it is."""
    assert [padded(text, 4) for text in ("a", "日", "日本", "abcde")] == ["a   ", "日  ", "日本", "abcde"]
