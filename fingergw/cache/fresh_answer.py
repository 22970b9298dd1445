"""A fresh answer in memory that is given again without asking its cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field

from fingergw.cache.entry import Entry
from fingergw.cache.memory import Memory
from fingergw.core.query import Query


@define(eq=False, repr=False)
class FreshAnswer:
    """An answer as it was in memory, for as long as it is there and fresh.

    :param query: one that it answers.
    :param key: returns the key of a query.
    :param seconds: the clock of the entry's times.
    :param counts: of the cache that it is from.
    """

    query: Query
    entry: Entry
    memory: Memory
    key: Callable[[Query], str]
    seconds: Callable[[], float]
    counts: Counter[str]
    _key_now: str = field(init=False, default="")

    def holds(self) -> bool:
        """Tell whether a query like this one would get it."""
        if self.seconds() >= self.entry.fresh_until:
            return False
        self._key_now = self.key(self.query)  # made again, as the version of the backend may be another by now
        return self.memory.peek(self._key_now) is self.entry

    def count_again(self) -> None:
        """Count it, which holds, as found fresh, and as used."""
        self.counts["fresh"] += 1
        self.memory.get(self._key_now)
