"""The entries that a process has in memory, within bounds."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from fingergw.cache.entry import Entry
from fingergw.core.outcome import Missing

# The share for names that do not exist: however many are invented, they evict only each other.
_MISSING_PART = 0.1
_SWEEP_SECONDS = 60.0


@define(eq=False)
class _Share:
    """Entries by key, the least recently used first."""

    max_entries: int = 0
    max_bytes: int = 0
    entries: OrderedDict[str, Entry] = field(init=False, factory=OrderedDict)
    bytes: int = field(init=False, default=0)

    def put(self, key: str, entry: Entry) -> None:
        entry.size_bytes = entry.measure(key)
        if entry.size_bytes <= self.max_bytes:  # or it would evict all the others, and then itself
            self.entries[key] = entry
            self.bytes += entry.size_bytes
            self.resize(self.max_entries, self.max_bytes)

    def resize(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries, self.max_bytes = max_entries, max_bytes
        while len(self.entries) > max_entries or self.bytes > max_bytes:
            self.drop(next(iter(self.entries)))

    def drop(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size_bytes


class Memory:
    """Entries by key. When there are too many, the least recently used are evicted.

    :param max_entries: of all backends together.
    :param max_bytes: likewise; the size of an entry is an estimate.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._answered, self._missing = _Share(), _Share()
        self._swept_at = 0.0
        self.resize(max_entries, max_bytes)

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new bounds, and evict what does not fit."""
        missing_entries, missing_bytes = max(1, int(max_entries * _MISSING_PART)), int(max_bytes * _MISSING_PART)
        self._answered.resize(max(1, max_entries - missing_entries), max_bytes - missing_bytes)
        self._missing.resize(missing_entries, missing_bytes)

    @property
    def entries(self) -> int:
        """The number of entries."""
        return len(self._answered.entries) + len(self._missing.entries)

    @property
    def bytes(self) -> int:
        """Their size, as an estimate."""
        return self._answered.bytes + self._missing.bytes

    def get(self, key: str) -> Entry | None:
        """Return a key's entry, and count it as used; None if there is none."""
        for share in (self._answered, self._missing):
            entry = share.entries.get(key)
            if entry is not None:
                share.entries.move_to_end(key)
                return entry
        return None

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Replace a key's entry. One that is larger than the bounds is not kept."""
        self.drop(key)
        (self._missing if isinstance(entry.outcome, Missing) else self._answered).put(key, entry)
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            for share in (self._answered, self._missing):
                for expired in [each for each, kept in share.entries.items() if kept.keep_until <= now]:
                    share.drop(expired)

    def drop(self, key: str) -> None:
        """Remove a key's entry, if there is one."""
        self._answered.drop(key)
        self._missing.drop(key)
