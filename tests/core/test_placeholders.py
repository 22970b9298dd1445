"""Texts with placeholders."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ("{user}", True), ("-{user}", False), ("{{{user}", False), ("a", False)]
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
