"""How many connections a client may have, and how often it may ask."""

from __future__ import annotations

from attrs import define, field

from fingergw.core.setting_types import Count, Seconds
from fingergw.core.settings import setting, settings

# Whoever has more addresses than this at work at once could ask more often than a full table lets him anyway.
_MAX_CLIENTS = 16384


@settings
class Rate:
    """So many queries in so many seconds, and so many at once."""

    queries: Count = setting("How many queries a client may send within per.")
    per: Seconds = setting("So many seconds.")
    burst: Count = setting("How many it may send at once.")


@define(eq=False)
class RateLimit:
    """Tell who asks too often: the generic cell rate algorithm (ITU-T I.371) over a table that cannot grow.

    The table has the time by which each client will have paid for its queries, at one every ``per / queries`` seconds,
    those who asked least recently first. These are forgotten where there are too many.

    :param max_clients: how many the table has at the most.
    """

    rate: Rate
    max_clients: int = _MAX_CLIENTS
    _paid_at: dict[str, float] = field(init=False, factory=dict)

    def allows(self, client: str, now: float) -> bool:
        """Note a query, unless it comes too soon.

        :param client: as :func:`fingergw.core.addresses.client_of` returns it.
        :param now: in seconds, on a clock that is never set back.
        """
        table, interval = self._paid_at, self.rate.per / self.rate.queries
        # no later than a full burst takes: should the clock be set back all the same, nobody waits for it to catch up
        paid_at = min(max(table.pop(client, now), now), now + interval * self.rate.burst)
        # a hair's breadth for the rounding of times that lie just an interval apart
        is_allowed = paid_at - now <= interval * (self.rate.burst - 1 + 1e-6)
        table[client] = paid_at + interval if is_allowed else paid_at
        if len(table) > self.max_clients:
            del table[next(iter(table))]
        return is_allowed

    def __len__(self) -> int:
        return len(self._paid_at)


@define(eq=False)
class ConnectionCounts:
    """Count the connections of each client that has any."""

    _counts: dict[str, int] = field(init=False, factory=dict)

    def enter(self, client: str, max_each: int) -> bool:
        """Count a connection, unless its client has too many.

        :param max_each: how many one may have.
        """
        count = self._counts.get(client, 0)
        if count >= max_each:
            return False
        self._counts[client] = count + 1
        return True

    def leave(self, client: str) -> None:
        """Note the end of a connection that was counted."""
        count = self._counts[client] - 1
        if count:
            self._counts[client] = count
        else:
            del self._counts[client]

    def __len__(self) -> int:
        return len(self._counts)
