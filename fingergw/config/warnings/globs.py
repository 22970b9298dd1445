"""Shell-style patterns as they are read, and whether one matches all that another does."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from typing import Final

from attrs import field, frozen

from fingergw.core.literals import glob_pieces

_STAR: Final = "*"
_ANY: Final = "?"
_NOWHERE: Final = "\x00"  # in no pattern
_MAX_PIECES: Final = 200  # comparing two takes time by the product of theirs


@frozen
class Glob:
    """A pattern, as :mod:`fnmatch` reads it.

    :param text: in lower case, if case does not count.
    :param pieces: its wildcards, and what it has between them: ``*``, ``?``, ``[...]``, or ``=`` and a character.
    """

    text: str
    pieces: tuple[str, ...] = field(init=False, eq=False, repr=False)

    @pieces.default
    def _find_pieces(self) -> tuple[str, ...]:
        return tuple(glob_pieces(self.text))

    @property
    def example(self) -> str | None:
        """A name that it matches, with a character that no pattern has for each wildcard; None if none is found."""
        found = ""
        for piece in self.pieces:
            inside = (
                next((each for each in (_NOWHERE, *piece) if _match(piece, each)), None)
                if piece[0] == "["
                else _NOWHERE
            )
            if inside is None:
                return None
            found += piece[1:] if piece[0] == "=" else inside
        return found

    @property
    def is_plain(self) -> bool:
        """Whether it has no wildcard, and matches one name alone."""
        return all(piece.startswith("=") for piece in self.pieces)

    @property
    def matches_all(self) -> bool:
        """Whether every name matches it."""
        return _STAR in self.pieces and set(self.pieces) <= {_STAR, _ANY} and self.pieces.count(_ANY) <= 1

    @property
    def matches_none(self) -> bool:
        """Whether no name can match it, as with ``[z-a]``."""
        return any(piece.startswith("[") and "(?!)" in fnmatch.translate(piece) for piece in self.pieces)

    @property
    def least_bytes(self) -> int:
        """The length of the shortest name that can match it."""
        return sum(len(piece[1:].encode()) if piece.startswith("=") else piece != _STAR for piece in self.pieces)

    @property
    def has_open_bracket(self) -> bool:
        """Whether a bracket in it is not closed, so that it is taken as it is."""
        return self.pieces.count("=[") > self.text.count("[[]")

    def covers(self, other: Glob) -> bool:
        """Tell whether all names that another pattern matches match this one; in doubt they do not."""
        mine, theirs = self.pieces, other.pieces
        if max(len(mine), len(theirs)) > _MAX_PIECES:
            return False
        here = there = 0
        star, tried = -1, 0  # the last star of this one, and from where on what follows it is tried
        while there < len(theirs):
            if here < len(mine) and mine[here] == _STAR:
                star, tried = here, there
                here += 1
            elif here < len(mine) and _covers(mine[here], theirs[there]):
                here, there = here + 1, there + 1
            elif star >= 0:
                tried += 1
                here, there = star + 1, tried
            else:
                return False
        return all(piece == _STAR for piece in mine[here:])


def _covers(mine: str, theirs: str) -> bool:
    """Tell whether one piece, which is no star, matches all that another does."""
    if theirs == _STAR:
        return False
    if mine in (_ANY, theirs):
        return True
    return mine.startswith("[") and theirs.startswith("=") and _match(mine, theirs[1:])


@lru_cache(maxsize=4096)
def _match(piece: str, character: str) -> bool:
    return fnmatch.fnmatchcase(character, piece)
