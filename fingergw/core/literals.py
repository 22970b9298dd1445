"""Texts that are in every name that a pattern matches, by which its candidates are found.

Names and texts are compared after :meth:`str.casefold`. Whatever RE2 takes for the same letter when case does not
count, it makes the same; so it does not matter here whether case counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

Literals: TypeAlias = tuple[tuple[str, ...], ...]
"""Choices of texts: of each choice one text or more is in :func:`marked` of every name that matches."""

MAX_READ: Final = 16_384
"""Regexes of which is kept what was read of them: the check, the warnings, and the listeners need it."""
BEGIN: Final = "\x02"
"""The mark before a name."""
END: Final = "\x03"
"""The mark after a name."""
NO_TEXTS: Final = frozenset({"", BEGIN, END})
"""Texts that are in every name."""
_WILDCARD: Final = re.compile("[*?]")


def marked(name: str) -> str:
    """Return a name as texts are looked for in it: without case, and with marks where it begins and ends."""
    return f"{BEGIN}{name.casefold()}{END}"


def literals_of_glob(pattern: str) -> Literals:
    """Return the literals of a shell-style pattern.

    :param pattern: in the form that names in queries have.
    """
    if "[" in pattern:
        texts = "".join(piece[1:] if piece[0] == "=" else "\0" for piece in glob_pieces(pattern)).split("\0")
    else:
        texts = _WILDCARD.split(pattern)
    texts[0] = BEGIN + texts[0]
    texts[-1] += END
    return tuple((text.casefold(),) for text in texts if text not in NO_TEXTS)


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
