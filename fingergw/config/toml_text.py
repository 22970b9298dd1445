"""A TOML file's text, and what it says: read within bounds, as tomllib has none for time and Python's stack."""

from __future__ import annotations

import re
import shlex
import tomllib
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final

from fingergw.core.errors import ConfigError
from fingergw.core.text import printable
from fingergw.net.files import line_of, path_advice, read_file

_MAX_BYTES: Final = 64 << 20
_MAX_REPORTED: Final = 20
_MAX_REASON: Final = 500
_REASONS: Final = {
    "Invalid value": 'expected a value: a "string" in quotes, a number, true, false, a date, a [list] or a { table }',
    "Invalid statement": "expected a key, a [table] or a [[list of tables]]",
    "Invalid initial character": "expected a key; put it in quotes if it has other characters than A-Z a-z 0-9 - _",
    "Expected '='": "expected = after the key",
    "Expected ']": "expected ] or ]] at the end of the table's name",
    "Expected newline": "expected the end of the line after the value; put the whole string in quotes",
    "Cannot overwrite": "this key or table is defined twice; remove one of the two",
    "Cannot declare": "this key or table is defined twice; remove one of the two",
    "Cannot redefine": "this key or table is defined twice; remove one of the two",
    "Duplicate inline": "this key or table is defined twice; remove one of the two",
    "Cannot mutate": "a table in { } or a list in [ ] cannot be extended elsewhere; write all of it in one place",
    "Found invalid character": "expected the closing quote on this line, and no control characters",
    "Illegal character": "expected the closing quote on this line, and no control characters",
    "Unescaped": "expected an escape such as \\n after the backslash; write \\\\ for a backslash itself",
    "Escaped character": (
        r"this escape is no character; \u takes four and \U eight hexadecimal digits, but not D800 to DFFF"
    ),
    "Invalid hex value": (
        r"this escape is no character; \u takes four and \U eight hexadecimal digits, but not D800 to DFFF"
    ),
    "Unterminated string": "expected the string to end; add the closing quotes",
    "Expected \"'": "expected the string to end; add the closing quotes",
    "Unclosed array": "expected , or ] in the list",
    "Unclosed inline table": "expected , or } in the table, on the same line",
    "Invalid date": "expected a valid date and time",
}
"""What to say in the place of tomllib's own words, by how these begin."""
_MAX_DEPTH: Final = 100
_MAX_NAMES: Final = 10
_MAX_DIGITS: Final = 1000
_PIECE_LENGTH: Final = 1 << 16
_TOO_DEEP: Final = f"expected lists and tables nested at most {_MAX_DEPTH} deep"
_DIGIT = "[0-9A-Fa-fxob_]"
_DIGITS = rf"(?<!{_DIGIT})[0-9]{_DIGIT}{{{_MAX_DIGITS},}}+"
_STRINGS = r"""
    \"{3}(?:[^"\\]|\\.|\"{1,2}(?!"))*+\"{3,5} | '{3}(?:[^']|'{1,2}(?!'))*+'{3,5}
    | "(?!"")(?:[^"\\\n]|\\[^\n])*+" | '(?!'')[^'\n]*+'
"""
_TOKEN: Final = rf"""(?xs)
    (?P<digits>-?{_DIGITS})
    | (?P<names>(?:(?:[A-Za-z0-9_-]++|{_STRINGS})[ \t]*+\.[ \t]*+){{{_MAX_NAMES},}}+)
    | [A-Za-z0-9_-]++ | {_STRINGS} | \#[^\n]*+
    | (?P<opens>[\[{{]) | (?P<closes>[\]}}])
    | (?P<unclosed>["'])
"""
_MANY_DIGITS = re.compile(_DIGITS)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # CRLF is LF before
_ZERO = re.compile(r".*[=\[,][ \t]*[+-]?0[0-9_]")


def read_text(path: Path, *, is_whole: bool = False, hint: bool = False) -> str:
    """Return the text of a file, with LF for CRLF and without a byte order mark.

    :param is_whole: whether it is a whole configuration, which may come through a pipe.
    :param hint: whether to say how to create a file that is not there.
    :raises ConfigError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        data, _ = read_file(path, max_bytes=_MAX_BYTES, or_pipe=is_whole)
    except OSError as error:
        advice = path_advice(error)
        if hint and isinstance(error, FileNotFoundError):
            advice = f"; to create one to start from, run: fingergw init {shlex.quote(str(path))}"
        raise ConfigError(f"{path}: cannot be read: {error.strerror}{advice}") from None
    data = data.removeprefix(BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = line_of(data, error.start)
        raise ConfigError(f"{path}:{line}: not UTF-8, which TOML requires; save the file as UTF-8") from None
    return text.replace("\r\n", "\n") if "\r" in text else text  # it holds up other threads


def parse(text: str, path: Path) -> dict[str, object]:
    """Parse a TOML text.

    :param path: the file that it is from.
    :raises ConfigError: it is not TOML, or out of bounds; the message has the line.
    """
    if is_suspect(text):
        _refuse_out_of_bounds(text, path)
    if hidden := list(islice(_hidden(text), _MAX_REPORTED)):
        raise ConfigError([f"{path}:{problem}" for problem in hidden])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told, _, place = str(error).rpartition(" (at ")
        reason = next(
            (ours for theirs, ours in _REASONS.items() if told.startswith(theirs)), told[:1].lower() + told[1:]
        )
        line, comma, column = place.removeprefix("line ").rstrip(")").partition(", ")
        if not comma:  # at the end
            line, column = str(text.count("\n") + 1), "end of the file"
        elif _begins_with_zero(text, int(line), int(column.removeprefix("column "))):
            reason = "a number has no zero before its first digit; put it in quotes if it is a text, such as a umask"
        problem = f"{line}: not TOML: {printable(reason[:_MAX_REASON])} ({column})"
    except RecursionError:
        _refuse_out_of_bounds(text, path)
        problem = f"1: {_TOO_DEEP}"
    raise ConfigError(f"{path}:{problem}")


def _hidden(text: str) -> Iterator[str]:
    """Return the controls that TOML forbids, each with its place: an editor may show none, or the end of a line."""
    for found in chain.from_iterable(_CONTROL.finditer(text, begin, end) for begin, end in _pieces(text)):
        number = ord(found[0])
        what = "a carriage return that does not end the line, as no line feed follows it"
        if number != 0x0D:
            what = f"the control character U+{number:04X}"
        advice = "remove it; in a string, write " + ("\\r" if number == 0x0D else f"\\u{number:04x}")
        column = found.start() - text.rfind("\n", 0, found.start())
        yield f"{_line(text, found)}: not TOML: {what}; {advice} (column {column})"


def _begins_with_zero(text: str, line: int, column: int) -> bool:
    """Tell whether at this place, which is no TOML, a number goes on that begins with 0."""
    return _ZERO.fullmatch(text.split("\n")[line - 1][:column]) is not None


def _refuse_out_of_bounds(text: str, path: Path) -> None:
    """Refuse a text that takes tomllib too long, or too much of Python's stack.

    :raises ConfigError: it does; the message has the lines.
    """
    found = list(islice(out_of_bounds(text), _MAX_REPORTED))
    if found:
        raise ConfigError([f"{path}:{line}: {why}" for line, why in found])


def is_suspect(text: str) -> bool:
    """Tell quickly whether a text may be :func:`out_of_bounds` in what takes tomllib too long; most are not."""
    return any(
        any(line.count(".") >= _MAX_NAMES for line in text[begin:end].split("\n"))
        or _MANY_DIGITS.search(text, begin, end) is not None
        for begin, end in _pieces(text)
    )


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Return where a text's pieces of whole lines begin and end: a search in all of it would hold up other threads."""
    end = 0
    while end < len(text):
        begin, end = end, text.find("\n", end + _PIECE_LENGTH) + 1 or len(text)
        yield begin, end


def out_of_bounds(text: str) -> Iterator[tuple[int, str]]:
    """Return what is out of bounds in a text, each with its line.

    Nothing is looked for after a string that does not end: a parser gives up there.
    """
    depth = 0
    for token in re.finditer(_TOKEN, text):  # compiled here, as few texts need it
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
                yield _line(text, token), _TOO_DEEP
        elif kind == "digits":
            yield _line(text, token), f"expected a number of at most {_MAX_DIGITS} digits"
        else:
            yield _line(text, token), f"expected a key of at most {_MAX_NAMES} names joined by dots"


def _line(text: str, token: re.Match[str]) -> int:
    return text.count("\n", 0, token.start()) + 1
