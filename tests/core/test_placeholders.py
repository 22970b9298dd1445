"""Texts with placeholders."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.placeholders import Template

VALUES = {"user": "{team}", "team": "b"}


@pytest.mark.parametrize(
    ("text", "names", "filled"),
    [
        ("", set(), ""),
        ("plain", set(), "plain"),
        ("{user}", {"user"}, "{team}"),
        ("a{team}c{user}", {"team", "user"}, "abc{team}"),
        ("{team}{team}", {"team"}, "bb"),
        ("{{user}}", set(), "{user}"),
        ("{{{team}}}", {"team"}, "{b}"),
        ("{team:upper}", {"team"}, "B"),
        ("a{team:upper}{team}.{user:upper}", {"team", "user"}, "aBb.{TEAM}"),
        ("{{team:upper}}", set(), "{team:upper}"),
    ],
)
def test_fill(text: str, names: set[str], filled: str) -> None:
    """Each placeholder gives way to its value, which is not looked at again; doubled braces are braces."""
    template = Template(text)
    assert template.names == names
    assert template.fill(VALUES) == filled


@pytest.mark.parametrize(
    "text", ["{", "}", "{user", "{}", "{0}", "{user.x}", "{user[0]}", "{user!r}", "{user:>9}", "{a b}"]
)
def test_mistakes(text: str) -> None:
    """Anything but a plain name between braces is refused, with advice."""
    with pytest.raises(ValueError, match=r"write a placeholder as \{user\}, and a literal brace as"):
        Template(text)


@pytest.mark.parametrize("text", ["{user:lower}", "{user:UPPER}", "{user: upper}", "{user:upper:upper}", "{user:>9}"])
def test_unknown_filter(text: str) -> None:
    """A filter but upper is refused, and the only one is named."""
    with pytest.raises(ValueError, match="the only filter is :upper"):
        Template(text)


def test_upper_case_is_composed() -> None:
    """What is in upper case is in NFC too, as names are: there is an I with a dot, though no such small letter."""
    assert Template("{user:upper}").fill({"user": "i\u0307 \u01f0"}) == "\u0130 J\u030c"


def test_encoding_comes_last() -> None:
    """A value is put in upper case before it is encoded, with letters of any script."""
    assert Template("/{user:upper}/{user}").fill({"user": "é ß"}, quote) == "/%C3%89%20SS/%C3%A9%20%C3%9F"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", False), ("{user}", True), ("{user:upper}", True), ("-{user}", False), ("{{{user}", False), ("a", False)],
)
def test_begins_with_placeholder(text: str, *, expected: bool) -> None:
    """A text whose first piece comes from the client is told from others."""
    assert Template(text).begins_with_placeholder == expected


@given(st.text())
def test_doubled_braces_say_any_text(text: str) -> None:
    """Any text can be written, with its braces doubled."""
    template = Template(text.replace("{", "{{").replace("}", "}}"))
    assert template.fill({}) == text
    assert not template.begins_with_placeholder
