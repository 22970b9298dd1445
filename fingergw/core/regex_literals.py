"""Texts that are in every name that a regex in RE2 syntax matches; see :mod:`fingergw.core.literals`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from fingergw.core.literals import BEGIN, END, MAX_READ, NO_TEXTS, Literals

_MOST_TEXTS: Final = 16  # of what is followed text by text; more are only known to be there
_LONGEST: Final = 64  # longer ones would find no fewer candidates


class _Part(NamedTuple):
    """What is known of a part of a regex.

    :param exact: all that it matches, if that is a few texts; else None.
    :param choices: of texts one of which is in what it matches, if ``exact`` is None.
    """

    exact: frozenset[str] | None
    choices: tuple[frozenset[str], ...] = ()


_UNKNOWN: Final = _Part(None)
_EMPTY: Final = _Part(frozenset({""}))

# RE2's syntax. A sequence that fits nothing here is not understood, and then nothing is known of the whole regex.
_TOKEN: Final = re.compile(
    r"""
      (?P<text> [^\\\[().*+?{|^$]+ )
    | (?P<repetition> (?: [*+?] | \{ (?:0|[1-9][0-9]*) (?:,(?:0|[1-9][0-9]*)?)? \} ) \?? )
    | (?P<brace> \{ )
    | (?P<or> \| )
    | (?P<flags> \(\?[imsU-]+\) )
    | (?P<open> \(\?P?<\w+> | \(\?[imsU-]*: | \((?!\?) )
    | (?P<close> \) )
    | (?P<width> [$^] | \\[AbBz] )
    | (?P<any> \. | \\[dDsSwW] | \\[pP](?:\{[^}]*\}|[^{]) )
    | (?P<class> \[ \^?+ \]?+ (?: \[:\^?[a-z]+:\] | \\. | [^\]\\] )*+ \] )
    | \\Q (?P<quoted> .*? ) (?: \\E | \Z )
    | (?P<control> \\[afnrtv] )
    | \\x (?: \{ (?P<hexadecimal> [0-9A-Fa-f]+ ) \} | (?P<two_hexadecimal> [0-9A-Fa-f]{2} ) )
    | \\ (?P<octal> 0[0-7]{0,2} | [1-7][0-7]{1,2} )
    | \\ (?P<escaped> [^0-9A-Za-z_\x80-\U0010ffff] )
    """,
    re.VERBOSE | re.DOTALL,
)
_FEW_CHARACTERS: Final = re.compile(rf"\[([^\]\[\\^-]{{1,{_MOST_TEXTS}}})\]")


@lru_cache(maxsize=MAX_READ)
def literals_of_regex(pattern: str) -> Literals:
    """Return the literals of a regex in RE2 syntax, as a whole name is matched.

    :param pattern: as RE2 is given it.
    """
    branches = _parse(pattern)
    if branches is None:
        return ()
    begin, end = _Part(frozenset({BEGIN})), _Part(frozenset({END}))
    found = _choices(_alternation([_concatenation((begin, *parts, end)) for parts in branches]))
    return tuple(tuple(sorted(texts)) for texts in found)


def _parse(pattern: str) -> list[list[_Part]] | None:
    """Return the parts of each branch of a regex; None if it is not understood."""
    outer: list[list[list[_Part]]] = []  # the branches of the groups around what is read, which may be many
    branches: list[list[_Part]] = [[]]
    place = 0
    while place < len(pattern):
        token = _TOKEN.match(pattern, place)
        if token is None:
            return None
        place = token.end()
        parts = branches[-1]
        match token.lastgroup, token[token.lastgroup or 0]:
            case "text" | "quoted" | "escaped" | "brace", text:
                # a repetition is of the last character alone
                parts += map(_text, filter(None, (text[:-1], text[-1:])))
            case "hexadecimal" | "two_hexadecimal", digits:
                parts.append(_character(int(digits, 16)))
            case "octal", digits:
                parts.append(_character(int(digits, 8)))
            case "repetition", text:
                if not parts:
                    return None
                parts[-1] = _repeated(parts[-1], text)
            case "width", _:
                parts.append(_EMPTY)
            case "any" | "control", _:
                parts.append(_UNKNOWN)
            case "class", text:
                few = _FEW_CHARACTERS.fullmatch(text)
                parts.append(_alternation([*map(_text, few[1])]) if few else _UNKNOWN)
            case "or", _:
                branches.append([])
            case "open", _:
                outer.append(branches)
                branches = [[]]
            case "close", _:
                if not outer:
                    return None
                group = _alternation([*map(_concatenation, branches)])
                branches = outer.pop()
                branches[-1].append(group)
    return None if outer else branches


def _text(text: str) -> _Part:
    # What RE2 may know of and Python does not, as its Unicode is older, is not printable; in a name it cannot be.
    return _Part(frozenset({text.casefold()})) if text.isprintable() else _UNKNOWN


def _character(number: int) -> _Part:
    return _text(chr(number)) if number <= 0x10FFFF else _UNKNOWN


def _repeated(part: _Part, repetition: str) -> _Part:
    if repetition.startswith("?"):
        return _alternation([part, _EMPTY])
    return _UNKNOWN if repetition.startswith(("*", "{0")) else _Part(None, _choices(part))


def _choices(part: _Part) -> tuple[frozenset[str], ...]:
    if part.exact is None:
        return part.choices
    return () if part.exact & NO_TEXTS else (part.exact,)


def _alternation(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    found = set[str]()
    is_exact = True
    for part in parts:
        choices = _choices(part)
        found.update(part.exact or max(choices, key=lambda texts: min(map(len, texts)), default=("",)))
        is_exact = is_exact and part.exact is not None
    texts = frozenset(found)
    if is_exact and len(texts) <= _MOST_TEXTS:
        return _Part(texts)
    return _UNKNOWN if texts & NO_TEXTS else _Part(None, (texts,))


def _concatenation(parts: Iterable[_Part]) -> _Part:
    texts = frozenset({""})  # that end here
    found: list[frozenset[str]] = []
    is_exact = True
    for part in parts:
        exact = part.exact
        if exact is None or len(texts) * len(exact) > _MOST_TEXTS or max(map(len, texts)) > _LONGEST:
            is_exact = False
            found.append(texts)
            found += part.choices
            texts = frozenset({""})
        if exact is not None:
            texts = frozenset(before + after for before in texts for after in exact)
    if is_exact:
        return _Part(texts)
    return _Part(None, tuple(each for each in (*found, texts) if not each & NO_TEXTS))
