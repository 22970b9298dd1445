"""The entries that a process has in memory, within bounds."""

from __future__ import annotations

from fingergw.cache.entry import Entry
from fingergw.cache.shares import Owner, Shares
from fingergw.core.outcome import Missing

# The part for names that do not exist: however many are invented, they evict only each other.
_MISSING_PART = 0.1
_SWEEP_SECONDS = 60.0


class Memory:
    """Entries by key. When there are too many, those go first that are over an equal share; see :class:`Shares`.

    :param max_entries: of all backends together.
    :param max_bytes: likewise; the size of an entry is an estimate.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._answered: Shares[str, Entry] = Shares(1, 1)
        self._missing: Shares[str, Entry] = Shares(1, 1)
        self._swept_at = 0.0
        self.resize(max_entries, max_bytes)

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new bounds, and evict what does not fit."""
        missing_entries, missing_bytes = (max(1, int(most * _MISSING_PART)) for most in (max_entries, max_bytes))
        self._answered.resize(max(1, max_entries - missing_entries), max(1, max_bytes - missing_bytes))
        self._missing.resize(missing_entries, missing_bytes)
        self._answered.evict()
        self._missing.evict()

    @property
    def entries(self) -> int:
        """The number of entries."""
        return len(self._answered.items) + len(self._missing.items)

    @property
    def bytes(self) -> int:
        """Their size, as an estimate."""
        return self._answered.bytes + self._missing.bytes

    def get(self, key: str) -> Entry | None:
        """Return a key's entry, and count it as used; None if there is none."""
        return self._answered.touch(key) or self._missing.touch(key)

    def peek(self, key: str) -> Entry | None:
        """Return a key's entry without counting it as used; None if there is none."""
        item = self._answered.items.get(key) or self._missing.items.get(key)
        return None if item is None else item.value

    def put(self, key: str, entry: Entry, now: float, owner: Owner) -> None:
        """Replace a key's entry. One that is larger than the bounds is not kept.

        :param owner: who has asked for it.
        """
        if isinstance(entry.outcome, Missing):
            shares, others = self._missing, self._answered
        else:
            shares, others = self._answered, self._missing
        others.drop(key)
        size = entry.measure(key)
        if size > shares.max_bytes:  # or it would evict all the others, and then itself
            shares.drop(key)
        else:
            shares.put(key, entry, size, owner)
            shares.evict()
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            for each in (self._answered, self._missing):
                for expired in [name for name, item in each.items.items() if item.value.keep_until <= now]:
                    each.drop(expired)

    def drop(self, key: str) -> None:
        """Remove a key's entry, if there is one."""
        self._answered.drop(key)
        self._missing.drop(key)
