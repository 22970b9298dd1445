"""Texts that are in every name that a pattern or regex matches, by which its candidates are found.

Names and texts are compared after :meth:`str.casefold`. Whatever RE2 takes for the same letter when case does not
count, it makes the same; so it does not matter here whether case counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

Literals: TypeAlias = tuple[tuple[str, ...], ...]
"""Choices of texts: of each choice one text or more is in :func:`marked` of every name that matches."""

MAX_READ: Final = 16_384
"""Regexes of which is kept what was read of them: the check, the warnings, and the listeners need it."""
_BEGIN: Final = "\x02"
_END: Final = "\x03"
_WILDCARD: Final = re.compile("[*?]")
_MOST_TEXTS: Final = 16  # of what is followed text by text; more are only known to be there
_LONGEST: Final = 64  # longer ones would find no fewer candidates
_NO_TEXTS: Final = frozenset({"", _BEGIN, _END})


def marked(name: str) -> str:
    """Return a name as texts are looked for in it: without case, and with marks where it begins and ends."""
    return f"{_BEGIN}{name.casefold()}{_END}"


def literals_of_glob(pattern: str) -> Literals:
    """Return the literals of a shell-style pattern.

    :param pattern: in the form that names in queries have.
    """
    if "[" in pattern:
        texts = "".join(piece[1:] if piece[0] == "=" else "\0" for piece in glob_pieces(pattern)).split("\0")
    else:
        texts = _WILDCARD.split(pattern)
    texts[0] = _BEGIN + texts[0]
    texts[-1] += _END
    return tuple((text.casefold(),) for text in texts if text not in _NO_TEXTS)


def glob_pieces(pattern: str) -> Iterator[str]:
    """Yield a shell-style pattern's pieces as :mod:`fnmatch` reads them.

    :return: ``*``, ``?``, ``[...]``, or ``=`` and a character that is taken as it is.
    """
    place = 0
    while place < len(pattern):
        found = pattern[place]
        place += 1
        if found == "[":
            # fnmatch takes a bracket right after the opening one, or after its !, as one of the characters
            begin = place + pattern.startswith("!", place)
            end = pattern.find("]", begin + pattern.startswith("]", begin))
            if end >= 0:
                inside, place = pattern[place:end], end + 1
                yield f"={inside}" if len(inside) == 1 and inside != "!" else f"[{inside}]"
                continue
        yield found if found in ("*", "?") else f"={found}"


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
    begin, end = _Part(frozenset({_BEGIN})), _Part(frozenset({_END}))
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
    return () if part.exact & _NO_TEXTS else (part.exact,)


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
    return _UNKNOWN if texts & _NO_TEXTS else _Part(None, (texts,))


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
    return _Part(None, tuple(each for each in (*found, texts) if not each & _NO_TEXTS))
