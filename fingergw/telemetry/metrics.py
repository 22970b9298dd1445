"""What the gateway has counted, as Prometheus reads it. Nothing of this is touched until somebody asks for it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import accumulate
from typing import TypeVar, get_args

import twisted
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fingergw.telemetry.meters import BUCKETS_SECONDS, RejectReason, Times
from fingergw.telemetry.readings import Readings

M = TypeVar("M", bound=Metric)
V = TypeVar("V")

_VERSION = version("fingergw")  # now: in a chroot it cannot be looked for later
_BOUNDS = (*map(str, BUCKETS_SECONDS), "+Inf")
# a series that begins with its first event hides this one from whoever looks at what changes
_REASONS: tuple[RejectReason, ...] = get_args(RejectReason)
_RELOADS = ("applied", "refused")
_OUTCOMES = ("answered", "missing", "failed", "given_up")
_CACHE_STATES = ("fresh", "stale", "expired", "absent")
# About 5 ms of work, which is what clients wait for whom the gateway has something to answer meanwhile.
_ROWS_AT_ONCE = 25


class Exposition:
    """A gateway's metrics, to be made into text.

    :param read: reads what there is to show, each time that somebody asks for it.
    """

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_GatewayCollector(read))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def texts(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """Return the content type, and the text in pieces, each of which takes a moment only.

        :param accept: what the ``Accept`` header of the request has.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return content_type, self._pieces(encode)

    def _pieces(self, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
        end = encode(_Family())
        before = ""
        for metric in self._registry.collect():
            text = encode(_Family(metric)).removesuffix(end)
            while metric.name == before and text.startswith(b"# "):
                text = text.partition(b"\n")[2]
            before = metric.name
            yield text
        yield end


class _Family(Collector):
    """One family of metrics, or a part of it, or none."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class _GatewayCollector(Collector):
    """What was read of a gateway, as families of metrics. One can come in parts, one after the other.

    Labels are names from the configuration and words of our own alone, never anything that a client sent.
    """

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read
        versions = {
            "version": _VERSION,
            "python": platform.python_version(),
            "twisted": twisted.__version__,
        }
        self._build = InfoMetricFamily(
            "fingergw_build", "The versions of the gateway, and of what it runs on.", versions
        )

    def collect(self) -> Iterator[Metric]:
        readings = self._read()
        yield self._build
        yield from _state(readings)
        yield from _queries(readings)
        yield from _connections(readings)
        yield from _backends(readings)
        yield from _cache(readings)


def _state(readings: Readings) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "fingergw_ready", "Whether all listeners are bound, and it does not drain.", readings.is_ready
    )
    yield from _counter(
        "fingergw_reloads",
        "Reloads, by what came of them.",
        ["result"],
        [([result], readings.reloads[result]) for result in _RELOADS],
    )
    yield GaugeMetricFamily(
        "fingergw_config_last_reload_successful",
        "Whether the file as it was last read is in force.",
        readings.last_reload_applied,
    )
    yield GaugeMetricFamily(
        "fingergw_config_loaded_timestamp_seconds",
        "When the configuration in force was loaded, in seconds since 1970.",
        readings.configured_at,
    )
    yield CounterMetricFamily(
        "fingergw_access_log_lost",
        "Lines of the access log that could not be written.",
        readings.lost_lines,
    )


def _queries(readings: Readings) -> Iterator[Metric]:
    meters = [(each.name, each.meter) for each in readings.listeners]
    yield from _counter(
        "fingergw_queries",
        "Lines of the access log, by what came of the query.",
        ["listener", "route", "outcome"],
        [([name, *key], count) for name, meter in meters for key, count in meter.outcomes.items()],
    )
    yield from _histogram(
        "fingergw_query_duration_seconds",
        "From the query's line to its answer or refusal.",
        ["listener", "route"],
        [([name, route], times) for name, meter in meters for route, times in meter.times.items()],
    )
    yield from _counter(
        "fingergw_refusals",
        "Connections and queries that were turned away, by reason.",
        ["listener", "reason"],
        [([name, reason], meter.rejections[reason]) for name, meter in meters for reason in _REASONS],
    )


def _connections(readings: Readings) -> Iterator[Metric]:
    yield from _counter(
        # fingergw_connections_total would, to OpenMetrics, be of the same name as the gauge
        "fingergw_connections_accepted",
        "Connections that there have been.",
        ["listener"],
        [([each.name], each.meter.accepted) for each in readings.listeners],
    )
    yield from _gauge(
        "fingergw_connections",
        "Connections that are open.",
        ["listener"],
        [([each.name], each.open_connections) for each in readings.listeners],
    )
    yield from _gauge(
        "fingergw_connections_limit",
        "How many may be open: max_connections.",
        ["listener"],
        [([each.name], each.limits.max_connections) for each in readings.listeners],
    )
    yield from _gauge(
        "fingergw_waiting_queries",
        "Queries that wait for a backend.",
        ["listener"],
        [([each.name], each.waiting) for each in readings.listeners],
    )
    yield from _gauge(
        "fingergw_waiting_queries_limit",
        "How many may wait: max_waiting.",
        ["listener"],
        [([each.name], each.limits.max_waiting) for each in readings.listeners],
    )


def _backends(readings: Readings) -> Iterator[Metric]:
    meters = list(readings.backends.items())
    cached = [(name, meter) for name, meter in meters if meter.cache]
    yield from _counter(
        "fingergw_backend_requests",
        "How often a backend was asked, by what it said. What its cache has answered is not among it.",
        ["backend", "outcome"],
        [([name, outcome], meter.outcomes[outcome]) for name, meter in meters for outcome in _OUTCOMES],
    )
    yield from _histogram(
        "fingergw_backend_request_duration_seconds",
        "How long a backend took.",
        ["backend"],
        [([name], meter.times) for name, meter in meters],
    )
    yield from _counter(
        "fingergw_cache_lookups",
        "Queries to a backend's cache, by what there was for them.",
        ["backend", "state"],
        [([name, state], meter.cache[state]) for name, meter in cached for state in _CACHE_STATES],
    )
    yield from _counter(
        "fingergw_cache_rescues",
        "Queries that a backend's cache has answered because the backend had failed.",
        ["backend"],
        [([name], meter.cache["rescued"]) for name, meter in cached],
    )


def _cache(readings: Readings) -> Iterator[Metric]:
    yield GaugeMetricFamily("fingergw_cache_entries", "Answers that are kept in memory.", readings.cache_entries)
    yield GaugeMetricFamily("fingergw_cache_bytes", "Memory that they take, about.", readings.cache_bytes)
    if (store := readings.store) is not None:
        yield GaugeMetricFamily("fingergw_cache_store_up", "Whether the cache's store is in use.", store.is_open)
        yield CounterMetricFamily(
            "fingergw_cache_store_failures", "How often the cache's store has failed.", store.failures
        )


_Rows = Sequence[tuple[list[str], V]]
"""The labels' values of each series, and what it has."""


def _counter(name: str, text: str, labels: list[str], rows: _Rows[float]) -> Iterator[Metric]:
    return _in_parts(partial(CounterMetricFamily, name, text, labels=labels), CounterMetricFamily.add_metric, rows)


def _gauge(name: str, text: str, labels: list[str], rows: _Rows[float]) -> Iterator[Metric]:
    return _in_parts(partial(GaugeMetricFamily, name, text, labels=labels), GaugeMetricFamily.add_metric, rows)


def _histogram(name: str, text: str, labels: list[str], rows: _Rows[Times]) -> Iterator[Metric]:
    return _in_parts(partial(HistogramMetricFamily, name, text, labels=labels), _add_times, rows)


def _add_times(family: HistogramMetricFamily, labels: list[str], times: Times) -> None:
    family.add_metric(labels, list(zip(_BOUNDS, accumulate(times.counts), strict=True)), times.total_seconds)


def _in_parts(make: Callable[[], M], add: Callable[[M, list[str], V], None], rows: _Rows[V]) -> Iterator[M]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        family = make()
        for labels, value in rows[start : start + _ROWS_AT_ONCE]:
            add(family, labels, value)
        yield family
