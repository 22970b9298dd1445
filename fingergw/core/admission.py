"""How many connections a client may have, and how often it may ask."""

from __future__ import annotations

from attrs import define, field

from fingergw.core.setting_types import Count, Seconds
from fingergw.core.settings import setting, settings

# A client with more addresses than this could exceed the rate whatever the table's size.
_MAX_CLIENTS = 16384


@settings
class Rate:
    """A number of queries within a number of seconds, and a number at once."""

    queries: Count = setting("How many queries a client may send within per.")
    per: Seconds = setting("The period, in seconds.")
    burst: Count = setting("How many it may send at once.")


@define(eq=False, repr=False)
class RateLimit:
    """Limit how often each client may ask: the generic cell rate algorithm (ITU-T I.371) over a bounded table.

    A query costs ``per / queries`` seconds. The table has the time at which each client's queries will be paid for. The
    client that asked least recently comes first, and is dropped first when the table is full.

    :param max_clients: the most clients that the table holds.
    """

    rate: Rate
    max_clients: int = _MAX_CLIENTS
    _paid_at: dict[str, float] = field(init=False, factory=dict)
    _interval: float = field(init=False)
    _burst_seconds: float = field(init=False)
    _tolerance: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        burst, self._interval = self.rate.burst, self.rate.per / self.rate.queries
        self._burst_seconds = self._interval * burst
        # a little slack, as times that are exactly an interval apart are rounded
        self._tolerance = self._interval * (burst - 1 + 1e-6)

    def spend(self, client: str, now: float) -> bool:
        """Count a query, and tell whether it is allowed.

        :param client: as :func:`fingergw.core.addresses.client_of` returns it.
        :param now: in seconds, on a clock that is never set back.
        """
        table = self._paid_at
        ahead = table.pop(client, now) - now
        if ahead < 0:
            ahead = 0.0
        elif ahead > self._burst_seconds:  # the clock was set back after all: nobody waits for it to catch up
            ahead = self._burst_seconds
        is_allowed = ahead <= self._tolerance
        table[client] = now + ahead + (self._interval if is_allowed else 0.0)
        if len(table) > self.max_clients:
            del table[next(iter(table))]
        return is_allowed

    def __len__(self) -> int:
        return len(self._paid_at)


@define(eq=False, repr=False)
class ConnectionCounts:
    """Count the connections of each client that has any."""

    _counts: dict[str, int] = field(init=False, factory=dict)

    def enter(self, client: str, max_each: int) -> bool:
        """Count a connection, unless its client has too many.

        :param max_each: the most connections of one client.
        :return: whether it was counted.
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
