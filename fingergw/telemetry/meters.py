"""What is counted and timed, for whoever watches the gateway."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Literal, TypeAlias

from attrs import Factory, define

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histograms' buckets; one more has what took longer."""


@define(eq=False)
class Times:
    """How long something took each time, as a histogram.

    :param counts: by bucket, each without those below it; the last one's bound is infinite.
    :param total_seconds: of all together.
    """

    counts: list[int] = Factory(lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    total_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Note that it took so long."""
        self.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.total_seconds += seconds


RejectReason: TypeAlias = Literal[
    "denied",
    "untrusted_proxy",
    "bad_proxy_header",
    "bad_handshake",
    "connections",
    "client_connections",
    "rate",
    "waiting",
]
"""Why a connection or query was turned away: its client may not ask here, or its proxy may not say who that is; TLS did
not come about with it; there are too many connections, or too many of this client; it asks too often; too many queries
wait for a backend."""


@define(eq=False)
class ListenerMeter:
    """What came of a listener's connections and queries. It outlives the rules that a reload puts in place of others.

    :param accepted: how many connections there have been.
    :param outcomes: how many lines of the access log there were, by route and outcome.
    :param times: how long queries took from their line to the answer, by route.
    :param rejections: how many connections and queries were turned away.
    """

    accepted: int = 0
    outcomes: Counter[tuple[str, str]] = Factory(Counter)
    times: dict[str, Times] = Factory(dict)
    rejections: Counter[RejectReason] = Factory(Counter)

    def took(self, route: str, seconds: float) -> None:
        """Note how long a query took from its line to the answer."""
        times = self.times.get(route)
        if times is None:
            times = self.times[route] = Times()
        times.add(seconds)


@define(eq=False)
class BackendMeter:
    """What came of asking a backend. It outlives the backend where a reload changes that.

    :param outcomes: how often it ``answered``, ``failed``, said that the name is ``missing``, or was ``given_up``.
    :param times: how long it took.
    :param cache: for one whose answers are kept, how many queries found what: ``fresh``, ``stale``, ``expired`` or
        ``absent``; and how many of these were ``rescued``, as it failed and there was something to serve.
    """

    outcomes: Counter[str] = Factory(Counter)
    times: Times = Factory(Times)
    cache: Counter[str] = Factory(Counter)
