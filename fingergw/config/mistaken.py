"""Which keys of a file have mistakes, so that nothing is said of them twice, or concluded from them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from fingergw.core.settings import KeyPath


@frozen(init=False)
class MistakenKeys:
    """Keys whose values are not known, as there are mistakes in them.

    :param paths: the keys.
    """

    _wrong: frozenset[KeyPath]
    _around: frozenset[KeyPath]

    def __init__(self, paths: Iterable[KeyPath] = ()) -> None:
        wrong = frozenset(paths)
        around = frozenset(path[:end] for path in wrong for end in range(1, len(path)))
        self.__attrs_init__(wrong, around)

    def has(self, *path: str | int) -> bool:
        """Tell whether a key, or what it is in, is wrong as a whole."""
        return bool(self._wrong) and any(path[:end] in self._wrong for end in range(1, len(path) + 1))

    def touch(self, *path: str | int) -> bool:
        """Tell whether a key is wrong as a whole, or anything in it is."""
        return path in self._around or self.has(*path)
