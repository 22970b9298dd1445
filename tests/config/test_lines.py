"""The line of each key in a TOML file."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fingergw.config.lines import line_numbers
from fingergw.core.settings import KeyPath
from tests.support.contract import KEYS, VALUES, paths


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\n\n# c\nb = 2 # c\n", {("a",): 1, ("b",): 4}),
        ("a.b.c = 1\na.b.d = 2\n", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2}),
        ('"a.b"."c d"=1\n', {("a.b",): 1, ("a.b", "c d"): 1}),
        ("'a' . \"\\u0062\" = 1\n", {("a",): 1, ("a", "b"): 1}),
        ("[a]\nb = 1\n[a.c]\nd = 1\n", {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "d"): 4}),
        ("[a.c]\nd = 1\n[a]\nb = 1\n", {("a",): 3, ("a", "c"): 1, ("a", "c", "d"): 2, ("a", "b"): 4}),
        (
            "a = { b = 1, c.d = { e = 2 } }\n",
            {("a",): 1, ("a", "b"): 1, ("a", "c"): 1, ("a", "c", "d"): 1, ("a", "c", "d", "e"): 1},
        ),
        (
            "a = [\n  1, # one\n\n  [2,\n  3],\n  { b = 4 },\n]\n",
            {("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, 0): 4, ("a", 1, 1): 5, ("a", 2): 6, ("a", 2, "b"): 6},
        ),
        ('a = """\nx = 1\n[y]\n"""\nb = 1\n', {("a",): 1, ("b",): 5}),
        (
            "[[a]]\nb = 1\n[a.c]\nd = 1\n[[a.e]]\nf = 1\n[[a.e]]\n[[a]]\nb = 2\n[[a.e]]\nf.g = 3\n",
            {
                ("a",): 1,
                ("a", 0): 1,
                ("a", 0, "b"): 2,
                ("a", 0, "c"): 3,
                ("a", 0, "c", "d"): 4,
                ("a", 0, "e"): 5,
                ("a", 0, "e", 0): 5,
                ("a", 0, "e", 0, "f"): 6,
                ("a", 0, "e", 1): 7,
                ("a", 1): 8,
                ("a", 1, "b"): 9,
                ("a", 1, "e"): 10,
                ("a", 1, "e", 0): 10,
                ("a", 1, "e", 0, "f"): 11,
                ("a", 1, "e", 0, "f", "g"): 11,
            },
        ),
        ("[x.y]\n[[x.z]]\nk = 1\n", {("x",): 1, ("x", "y"): 1, ("x", "z"): 2, ("x", "z", 0): 2, ("x", "z", 0, "k"): 3}),
    ],
    ids=["plain", "dotted", "quoted", "spaced", "tables", "late", "inline", "arrays", "multi-line", "nested", "mixed"],
)
def test_line_numbers(text: str, lines: dict[KeyPath, int]) -> None:
    """Every key, table and list item is known with its line."""
    assert line_numbers(text) == lines


@given(raw=st.dictionaries(KEYS, VALUES, max_size=5), multiline=st.booleans())
def test_no_key_is_without_a_line(raw: dict[str, object], *, multiline: bool) -> None:
    """In any TOML, each key and list item that tomllib finds has a line, and no other has."""
    text = tomli_w.dumps(raw, multiline_strings=multiline)
    assert set(line_numbers(text)) == set(paths(tomllib.loads(text)))
