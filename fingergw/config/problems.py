"""Mistakes in a configuration, and how they are shown: file, line, key path, what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from fingergw.config.lines import line_numbers
from fingergw.config.mistaken import MistakenKeys
from fingergw.config.model import Source
from fingergw.core.errors import ConfigError
from fingergw.core.settings import KeyPath
from fingergw.core.text import escape, printable

_MAX_MESSAGE: Final = 1000
_MAX_WORD: Final = 100
_MAX_KNOWN: Final = 200
_MAX_LISTED: Final = 50


@frozen
class Problem:
    """One mistake.

    :param path: the keys and list positions that lead to it; empty for the whole file.
    :param message: what was expected.
    :param about: the keys whose values it leaves unknown, where that is not the key at the path: a missing one, say. A
        path that ends with "" stands for something in a table, so that its keys can be right.
    """

    path: KeyPath
    message: str
    about: tuple[KeyPath, ...] = ()


def mistaken(problems: Iterable[Problem]) -> MistakenKeys:
    """Return the keys that the problems are about."""
    return MistakenKeys(path for problem in problems for path in problem.about or (problem.path,))


def to_error(problems: Sequence[Problem], source: Source | None) -> ConfigError:
    """Return an error that reports all of the problems, in the order of their lines."""
    return ConfigError(located(problems, source))


def located(problems: Sequence[Problem], source: Source | None) -> list[str]:
    """Return a message for each problem with its file, line and key path, in the order of their lines."""
    if source is None or not problems:
        return [f"{_start(problem.path)}{_shown(problem.message)}" for problem in problems]
    lines = line_numbers(source.text)

    def line(problem: Problem) -> int:
        ends = range(len(problem.path), 0, -1)
        return next((lines[problem.path[:end]] for end in ends if problem.path[:end] in lines), 1)

    numbered = sorted(((line(problem), problem) for problem in problems), key=lambda item: item[0])
    return [f"{source.path}:{number}: {_start(problem.path)}{_shown(problem.message)}" for number, problem in numbered]


def _shown(message: str) -> str:
    """Return a message as it is shown: printable, and of a length that can be read."""
    return printable(_shortened(message, _MAX_MESSAGE))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the known words that an unknown word is likely to mean."""
    known = list(known)
    if len(word) > _MAX_WORD or len(known) > _MAX_KNOWN:  # it takes time by the lengths of all of them
        return None
    import difflib  # only mistakes need it

    near = difflib.get_close_matches(word, sorted(known), n=1)
    return near[0] if near else None


def unknown(word: str, known: Iterable[str], what: str) -> str:
    """Return the message for an unknown word, with the nearest of the known ones.

    :param what: what it should name.
    """
    known = sorted(known)
    shown = escape(_shortened(word, _MAX_WORD))
    near = nearest(word, known)
    if near is not None:
        return f'unknown {what} "{shown}"; did you mean "{near}"?'
    if not known:
        return f'unknown {what} "{shown}"; there is none in this file'
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f'unknown {what} "{shown}"; expected one of: {", ".join(known[:_MAX_LISTED])}{more}'


def _start(path: KeyPath) -> str:
    """Return a key path as it begins a message; empty for the whole file."""
    return f"{dotted(path)}: " if path else ""


def dotted(path: KeyPath) -> str:
    """Return a key path as a message shows it, such as ``listeners[1].limits``."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
            continue
        is_bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum() and len(part) <= _MAX_WORD
        shown += ("." if shown else "") + (part if is_bare else f'"{escape(_shortened(part, _MAX_WORD))}"')
    return shown
