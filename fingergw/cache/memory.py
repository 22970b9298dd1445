"""The entries that a process has at hand, within bounds."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from fingergw.cache.entry import Entry
from fingergw.core.outcome import Missing

# This much of all is for names that do not exist: however many are invented, they push out each other only.
_MISSING_PART = 0.1
_SWEEP_SECONDS = 60.0


@define(eq=False)
class _Share:
    """Entries by key, the least recently used first."""

    max_entries: int
    max_bytes: int
    entries: OrderedDict[str, Entry] = field(init=False, factory=OrderedDict)
    bytes: int = field(init=False, default=0)

    def put(self, key: str, entry: Entry) -> None:
        self.drop(key)
        entry.size_bytes = entry.measure(key)
        if entry.size_bytes > self.max_bytes:
            return  # or all the others would make room for it, and then it itself
        self.entries[key] = entry
        self.bytes += entry.size_bytes
        self._make_room()

    def resize(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._make_room()

    def _make_room(self) -> None:
        while len(self.entries) > self.max_entries or self.bytes > self.max_bytes:
            self.drop(next(iter(self.entries)))

    def drop(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size_bytes


class Memory:
    """Entries by key; those least recently used go when there are too many.

    :param max_entries: of all backends together.
    :param max_bytes: likewise; what an entry takes is estimated.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._answered, self._missing = _Share(0, 0), _Share(0, 0)
        self._swept_at = 0.0
        self.resize(max_entries, max_bytes)

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new bounds; what does not fit goes."""
        missing_entries, missing_bytes = max(1, int(max_entries * _MISSING_PART)), int(max_bytes * _MISSING_PART)
        self._answered.resize(max(1, max_entries - missing_entries), max_bytes - missing_bytes)
        self._missing.resize(missing_entries, missing_bytes)

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self._answered.entries) + len(self._missing.entries)

    @property
    def bytes(self) -> int:
        """How much memory they take, about."""
        return self._answered.bytes + self._missing.bytes

    def get(self, key: str) -> Entry | None:
        """Return a key's entry, which counts as a use of it; None if there is none."""
        share = self._answered
        entry = share.entries.get(key)
        if entry is None:
            share = self._missing
            entry = share.entries.get(key)
        if entry is not None:
            share.entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Keep an entry in place of what was there; one that is larger than all may be is not kept."""
        self.drop(key)
        (self._missing if isinstance(entry.outcome, Missing) else self._answered).put(key, entry)
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            self._sweep(now)

    def drop(self, key: str) -> None:
        """Keep nothing any more."""
        self._answered.drop(key)
        self._missing.drop(key)

    def _sweep(self, now: float) -> None:
        for share in (self._answered, self._missing):
            for key in [key for key, entry in share.entries.items() if entry.keep_until <= now]:
                share.drop(key)
