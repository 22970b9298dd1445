"""What the metrics show, read from a gateway at one time. Meters in it go on counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from fingergw.core.rules import Limits
from fingergw.telemetry.meters import BackendMeter, ListenerMeter


@frozen(eq=False)
class ListenerReading:
    """What there is of a listener.

    :param open_connections: how many are open.
    :param waiting: how many queries wait for a backend.
    """

    name: str
    limits: Limits
    meter: ListenerMeter
    open_connections: int
    waiting: int


@frozen(eq=False)
class StoreReading:
    """What there is of the cache's store.

    :param is_open: whether it is in use.
    :param failures: how often it has failed.
    """

    is_open: bool
    failures: int


@frozen(eq=False)
class Readings:
    """What there is of a gateway.

    :param is_ready: whether all listeners are bound, and it does not drain.
    :param reloads: how many were ``applied``, or ``refused``.
    :param last_reload_applied: whether the file as it was last read is active.
    :param configured_at: when what is active was loaded, in seconds since 1970.
    :param lost_lines: how many lines of the access log could not be written.
    :param backends: what was counted of each, by name.
    :param cache_entries: how many answers are kept in memory.
    :param cache_bytes: how much of it they take.
    :param store: the cache's; None where there is none.
    """

    is_ready: bool
    reloads: Mapping[str, int]
    last_reload_applied: bool
    configured_at: float
    lost_lines: int
    listeners: Sequence[ListenerReading]
    backends: Mapping[str, BackendMeter]
    cache_entries: int
    cache_bytes: int
    store: StoreReading | None
