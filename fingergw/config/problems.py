"""Mistakes in a configuration, and how they are shown: file, line, key path, what was expected."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from attrs import frozen

from fingergw.config.bounds import is_suspect, out_of_bounds
from fingergw.config.lines import line_numbers
from fingergw.config.model import Source
from fingergw.core.errors import ConfigError
from fingergw.core.settings import KeyPath
from fingergw.core.text import escape, printable

_MAX_OUT_OF_BOUNDS: Final = 20
_MAX_MESSAGE: Final = 1000
_MAX_WORD: Final = 100
_MAX_KNOWN: Final = 200
_MAX_LISTED: Final = 50


@frozen
class Problem:
    """One mistake.

    :param path: the keys and list places that lead to it; empty for the file as a whole.
    :param message: what was expected.
    """

    path: KeyPath
    message: str


def to_error(problems: Sequence[Problem], source: Source | None) -> ConfigError:
    """Return the error that reports all of the problems, in the order of their lines."""
    return ConfigError(located(problems, source))


def located(problems: Sequence[Problem], source: Source | None) -> list[str]:
    """Return a line for each problem that says where it stands, in the order of their lines."""
    if source is None or not problems:
        return [f"{_show(problem.path)}: {_shown(problem.message)}" for problem in problems]
    lines = line_numbers(source.text)

    def line(problem: Problem) -> int:
        ends = range(len(problem.path), 0, -1)
        return next((lines[problem.path[:end]] for end in ends if problem.path[:end] in lines), 1)

    numbered = sorted(((line(problem), problem) for problem in problems), key=lambda item: item[0])
    return [
        f"{source.path}:{number}: {_show(problem.path) + ': ' if problem.path else ''}{_shown(problem.message)}"
        for number, problem in numbered
    ]


def parse_toml(source: Source) -> dict[str, object]:
    """Parse a TOML text.

    :raises ConfigError: it is not TOML; the message has the line.
    """
    if is_suspect(source.text):
        _refuse_out_of_bounds(source)
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).rpartition(" (at ")
        line = place.removeprefix("line ").partition(",")[0]
        number = line if line.isdigit() else str(source.text.count("\n") + 1)
        why = f"not TOML: {reason[:1].lower()}{reason[1:]}"
    except RecursionError:
        _refuse_out_of_bounds(source)
        number, why = "1", "expected lists and tables in each other less deeply"
    raise ConfigError([f"{source.path}:{number}: {_shown(why)}"])


def _refuse_out_of_bounds(source: Source) -> None:
    """Refuse a text that takes tomllib too long, or too much of Python's stack.

    :raises ConfigError: it does; the message has the lines.
    """
    found = list(islice(out_of_bounds(source.text), _MAX_OUT_OF_BOUNDS))
    if found:
        raise ConfigError([f"{source.path}:{line}: {why}" for line, why in found])


def _shown(message: str) -> str:
    """Return a message as it is shown: printable, and no longer than somebody reads."""
    return printable(_shortened(message, _MAX_MESSAGE))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown(word: str, known: Iterable[str], what: str) -> str:
    """Return the message for a word that is not among those it may be, with the nearest of these."""
    known = sorted(known)
    shown = escape(_shortened(word, _MAX_WORD))
    # what takes time by the length of both, and by how many there are
    near = difflib.get_close_matches(word, known, n=1) if len(word) <= _MAX_WORD and len(known) <= _MAX_KNOWN else []
    if near:
        return f'unknown {what} "{shown}"; did you mean "{near[0]}"?'
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f'unknown {what} "{shown}"; expected one of: {", ".join(known[:_MAX_LISTED]) or "(there is none)"}{more}'


def _show(path: KeyPath) -> str:
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            plain = part.replace("-", "").replace("_", "").isalnum() and part.isascii()
            shown += ("." if shown else "") + (
                part if plain and len(part) <= _MAX_WORD else f'"{escape(_shortened(part, _MAX_WORD))}"'
            )
    return shown
