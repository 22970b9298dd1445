"""Finding the few of many patterns that a name may match, at a cost that does not grow with their number.

Of each pattern's literals, the piece of up to six characters that the fewest patterns have is a key of a dictionary. A
name is looked up by all of its own pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from fingergw.core.literals import Literals, marked

T = TypeVar("T")
Keys: TypeAlias = tuple[tuple[str, str], ...]
"""The keys of a pattern: pieces, each with the literal that it is of. A name that matches has one of these literals."""
_LONGEST_PIECE: Final = 6
_LOOKUPS_PER_PATTERN: Final = 4  # cost no more than trying it


def keys_of(patterns: Sequence[Literals]) -> list[Keys]:
    """Return the keys of each of many patterns.

    :param patterns: their literals.
    :return: empty for a pattern that has to be tried for every name.
    """
    pieces_of = {text: _pieces(text) for literals in patterns for choice in literals for text in choice}
    count = Counter(
        piece for literals in patterns for choice in literals for text in choice for piece in pieces_of[text]
    )

    def rarest(text: str) -> tuple[int, str, str]:
        piece = min(pieces_of[text], key=count.__getitem__)
        # a name has a shorter piece by chance more often
        return count[piece] << 2 * (_LONGEST_PIECE - len(piece)), piece, text

    def keys(literals: Literals) -> Keys:
        choices = [[rarest(text) for text in choice] for choice in literals]
        if not choices:
            return ()
        best = min(choices, key=_cost) if len(choices) > 1 else choices[0]
        return tuple((piece, text) for _, piece, text in best)

    return [*map(keys, patterns)]


def _pieces(text: str) -> list[str]:
    return [text[start : start + _LONGEST_PIECE] for start in range(max(1, len(text) - _LONGEST_PIECE + 1))]


def _cost(texts: Iterable[tuple[int, str, str]]) -> int:
    return sum(cost for cost, _, _ in texts)


class PatternIndex(Generic[T]):
    """An index over patterns.

    :param patterns: in order, each with its keys.
    """

    def __init__(self, patterns: Iterable[tuple[T, Keys]]) -> None:
        self._patterns: list[T] = []
        always: list[int] = []
        found: dict[str, list[tuple[str, int]]] = {}
        for place, (pattern, keys) in enumerate(patterns):
            self._patterns.append(pattern)
            if not keys:
                always.append(place)
            for piece, text in keys:
                found.setdefault(piece, []).append((text, place))
        self._always = tuple(always)
        self._always_tried = [self._patterns[place] for place in always]
        self._found = {piece: tuple(texts) for piece, texts in found.items()}
        self._sizes = sorted({*map(len, found)})

    def candidates(self, name: str) -> Sequence[T]:
        """Return the patterns that a name may match, in order: all others, it does not match.

        :param name: in the form that names in queries have.
        """
        if len(name) * len(self._sizes) > _LOOKUPS_PER_PATTERN * len(self._patterns):
            return self._patterns
        text = marked(name)
        get = self._found.get
        places = [
            place
            for size in self._sizes
            for start in range(len(text) - size + 1)
            for literal, place in get(text[start : start + size], ())
            if literal in text
        ]
        if not places:
            return self._always_tried
        return [self._patterns[place] for place in sorted({*places, *self._always})]
