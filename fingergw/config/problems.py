"""Mistakes in a configuration, and how they are shown: file, line, key path, what was expected."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence

from attrs import frozen

from fingergw.config.lines import KeyPath, line_numbers
from fingergw.config.model import Source
from fingergw.errors import ConfigError
from fingergw.query import escape, printable


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
        return [f"{_show(problem.path)}: {printable(problem.message)}" for problem in problems]
    lines = line_numbers(source.text)

    def line(problem: Problem) -> int:
        ends = range(len(problem.path), 0, -1)
        return next((lines[problem.path[:end]] for end in ends if problem.path[:end] in lines), 1)

    numbered = sorted(((line(problem), problem) for problem in problems), key=lambda item: item[0])
    return [
        f"{source.path}:{number}: {_show(problem.path) + ': ' if problem.path else ''}{printable(problem.message)}"
        for number, problem in numbered
    ]


def parse_toml(source: Source) -> dict[str, object]:
    """Parse a TOML text.

    :raises ConfigError: it is not TOML; the message has the line.
    """
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        line = place.removeprefix("line ").partition(",")[0]
        number = line if line.isdigit() else str(source.text.count("\n") + 1)
        raise ConfigError([f"{source.path}:{number}: not TOML: {reason[:1].lower()}{reason[1:]}"]) from None
    except RecursionError:
        raise ConfigError([f"{source.path}: expected lists and tables in each other less deeply"]) from None


def unknown(word: str, known: Iterable[str], what: str) -> str:
    """Return the message for a word that is not among those it may be, with the nearest of these."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f'unknown {what} "{escape(word)}"; did you mean "{near[0]}"?'
    return f'unknown {what} "{escape(word)}"; expected one of: {", ".join(known) or "(there is none)"}'


def _show(path: KeyPath) -> str:
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            plain = part.replace("-", "").replace("_", "").isalnum() and part.isascii()
            shown += ("." if shown else "") + (part if plain else f'"{escape(part)}"')
    return shown
