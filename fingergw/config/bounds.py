"""What a TOML text may not have in it, as tomllib would take too long for it, or too much of Python's stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_BYTES: Final = 64 << 20
"""Of a whole file."""
_MAX_DEPTH: Final = 100
_MAX_NAMES: Final = 10
_MAX_DIGITS: Final = 1000
_DIGIT = "[0-9A-Fa-fxob_]"
_DIGITS = rf"(?<!{_DIGIT})[0-9]{_DIGIT}{{{_MAX_DIGITS},}}+"
_STRINGS = r"""
    \"{3}(?:[^"\\]|\\.|\"{1,2}(?!"))*+\"{3,5} | '{3}(?:[^']|'{1,2}(?!'))*+'{3,5}
    | "(?!"")(?:[^"\\\n]|\\[^\n])*+" | '(?!'')[^'\n]*+'
"""
_TOKEN = re.compile(
    rf"""
    (?P<digits>-?{_DIGITS})
    | (?P<names>(?:(?:[A-Za-z0-9_-]++|{_STRINGS})[ \t]*+\.[ \t]*+){{{_MAX_NAMES},}}+)
    | [A-Za-z0-9_-]++ | {_STRINGS} | \#[^\n]*+
    | (?P<opens>[\[{{]) | (?P<closes>[\]}}])
    | (?P<unclosed>["'])
    """,
    re.VERBOSE | re.DOTALL,
)
_MANY_DIGITS = re.compile(_DIGITS)


def is_suspect(text: str) -> bool:
    """Tell whether a text may be :func:`out_of_bounds` in what tomllib takes too long for; quickly, as most are not."""
    return any(line.count(".") >= _MAX_NAMES for line in text.split("\n")) or _MANY_DIGITS.search(text) is not None


def out_of_bounds(text: str) -> Iterator[tuple[int, str]]:
    """Return what a text has in it that it may not have, each with its line.

    Nothing is looked for behind a string that is not closed: there a parser gives up.
    """
    depth = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind is None:
            continue
        if kind == "unclosed":
            return
        if kind == "closes":
            depth -= 1
        elif kind == "opens":
            depth += 1
            if depth == _MAX_DEPTH + 1:
                yield _line(text, token), "expected lists and tables in each other less deeply"
        elif kind == "digits":
            yield _line(text, token), "expected a number with fewer digits"
        else:
            yield _line(text, token), "expected a key of fewer names"


def _line(text: str, token: re.Match[str]) -> int:
    return text.count("\n", 0, token.start()) + 1
