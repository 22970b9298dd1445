"""The metrics page: what the gateway has counted, in Prometheus' format. It costs nothing until it is asked for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import Any, get_args

import twisted
from attrs import frozen
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fingergw.cache.guarded import GuardedStore
from fingergw.cache.memory import Memory
from fingergw.core.rules import Limits
from fingergw.core.version import __version__
from fingergw.telemetry.meters import BUCKETS_SECONDS, BackendMeter, ListenerMeter, RejectReason, Times

_VERSIONS = {"version": __version__, "python": platform.python_version(), "twisted": twisted.__version__}
_BUCKETS = (*map(str, BUCKETS_SECONDS), "+Inf")
# Every series exists from the start: rate() and increase() miss the first event of one that appears with it.
_REJECT_REASONS: tuple[RejectReason, ...] = get_args(RejectReason)
_RELOADS = ("applied", "refused")
_BACKEND_OUTCOMES = ("answered", "missing", "failed", "given_up")
_CACHE_STATES = ("fresh", "stale", "expired", "absent")
# Formatting this many takes about 5 ms. Queries wait for no longer than that.
_SERIES_AT_ONCE = 25

_PROCESS = CollectorRegistry()
ProcessCollector(registry=_PROCESS)
GCCollector(registry=_PROCESS)


@frozen(eq=False, repr=False)
class ListenerReading:
    """A listener's numbers at the time of a scrape.

    :param open_connections: connections that are open now.
    :param waiting: queries that wait for a backend now.
    """

    name: str
    limits: Limits
    meter: ListenerMeter
    open_connections: int
    waiting: int


@frozen(eq=False, repr=False)
class Readings:
    """A gateway's numbers at the time of a scrape. The meters in it keep counting.

    :param is_ready: whether ``/readyz`` says so.
    :param reloads: how many were ``applied``, and how many ``refused``.
    :param last_reload_applied: whether the active configuration is what the file had at the last reload.
    :param configured_at: when the active configuration was loaded, in seconds since 1970.
    :param lost_lines: lines of the access log that could not be written.
    :param backends: the meters of the backends, by name.
    :param backends_up: whether a backend is asked, or left alone by its breaker; without those that have none.
    :param hosts_up: the same for hosts that queries are forwarded to.
    :param memory: the cached answers in memory.
    :param store: where cached answers are stored besides; None for nowhere.
    """

    is_ready: bool
    reloads: Mapping[str, int]
    last_reload_applied: bool
    configured_at: float
    lost_lines: int
    listeners: Sequence[ListenerReading]
    backends: Mapping[str, BackendMeter]
    backends_up: Mapping[str, bool]
    hosts_up: Mapping[str, bool]
    memory: Memory
    store: GuardedStore | None


def exposition(read: Callable[[], Readings], accept: str) -> tuple[str, Iterator[bytes]]:
    """Return the metrics page: its content type, and its text in pieces that each take a few milliseconds to format.

    :param read: is called when the first piece is asked for.
    :param accept: the request's ``Accept`` header.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a malformed version
        encode, content_type = choose_encoder("")
    return content_type, _pieces(read, encode)


def _pieces(read: Callable[[], Readings], encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    end = encode(_Collected())  # OpenMetrics has a last line, which is to come once
    previous = ""
    for metric in chain(_families(read()), _PROCESS.collect()):
        text = encode(_Collected(metric)).removesuffix(end)
        while metric.name == previous and text.startswith(b"# "):  # HELP and TYPE came with the family's first part
            text = text.partition(b"\n")[2]
        previous = metric.name
        yield text
    yield end


class _Collected(Collector):
    """Metrics in the shape that prometheus_client's encoders take."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _families(readings: Readings) -> Iterator[Metric]:
    """Return the gateway's families of metrics; a large one comes as several with the same name.

    Labels are names from the configuration and words of our own, never anything that a client sent.
    """
    yield InfoMetricFamily("fingergw_build", "The versions of fingergw, Python and Twisted.", _VERSIONS)
    yield from _operation(readings)
    yield from _queries(readings)
    yield from _connections(readings)
    yield from _backends(readings)
    yield from _cache(readings)


def _operation(readings: Readings) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "fingergw_ready", "Whether all listeners are bound and the gateway is not stopping.", readings.is_ready
    )
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_reloads",
        "Reloads, by result.",
        ["result"],
        [([result], readings.reloads[result]) for result in _RELOADS],
    )
    yield GaugeMetricFamily(
        "fingergw_config_last_reload_successful",
        "Whether the last reload was applied.",
        readings.last_reload_applied,
    )
    yield GaugeMetricFamily(
        "fingergw_config_loaded_timestamp_seconds",
        "When the active configuration was loaded, in seconds since 1970.",
        readings.configured_at,
    )
    yield CounterMetricFamily(
        "fingergw_access_log_lost", "Lines of the access log that could not be written.", readings.lost_lines
    )


def _queries(readings: Readings) -> Iterator[Metric]:
    meters = [(each.name, each.meter) for each in readings.listeners]
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_queries",
        "Lines of the access log, by outcome.",
        ["listener", "route", "outcome"],
        [([name, *key], count) for name, meter in meters for key, count in meter.outcomes.items()],
    )
    yield from _histograms(
        "fingergw_query_duration_seconds",
        "Time from receiving a query to its answer.",
        ["listener", "route"],
        [([name, route], times) for name, meter in meters for route, times in meter.times.items()],
    )
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_refusals",
        "Connections and queries that were rejected, by reason.",
        ["listener", "reason"],
        [([name, reason], meter.rejections[reason]) for name, meter in meters for reason in _REJECT_REASONS],
    )


def _connections(readings: Readings) -> Iterator[Metric]:
    families: tuple[tuple[type[Metric], str, str, Callable[[ListenerReading], int]], ...] = (
        # to OpenMetrics, fingergw_connections_total would have the same name as the gauge
        (CounterMetricFamily, "connections_accepted", "Connections accepted.", lambda each: each.meter.accepted),
        (GaugeMetricFamily, "connections", "Open connections.", lambda each: each.open_connections),
        (
            GaugeMetricFamily,
            "connections_limit",
            "Limit on open connections.",
            lambda each: each.limits.max_connections,
        ),
        (GaugeMetricFamily, "waiting_queries", "Queries waiting for a backend.", lambda each: each.waiting),
        (GaugeMetricFamily, "waiting_queries_limit", "Limit on waiting queries.", lambda each: each.limits.max_waiting),
    )
    for family, name, text, number in families:
        series = [([each.name], number(each)) for each in readings.listeners]
        yield from _in_parts(family, f"fingergw_{name}", text, ["listener"], series)


def _backends(readings: Readings) -> Iterator[Metric]:
    meters = list(readings.backends.items())
    cached = [(name, meter) for name, meter in meters if meter.cache]
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_backend_requests",
        "Requests to a backend, by outcome. Answers from its cache are not counted.",
        ["backend", "outcome"],
        [([name, outcome], meter.outcomes[outcome]) for name, meter in meters for outcome in _BACKEND_OUTCOMES],
    )
    yield from _histograms(
        "fingergw_backend_request_duration_seconds",
        "How long a backend took.",
        ["backend"],
        [([name], meter.times) for name, meter in meters],
    )
    for name, label, up in (
        ("backend_up", "backend", readings.backends_up),
        ("forwarding_host_up", "host", readings.hosts_up),
    ):
        text = f"Whether the {label} is asked; 0 while its breaker is open."
        yield from _in_parts(GaugeMetricFamily, f"fingergw_{name}", text, [label], [([k], v) for k, v in up.items()])
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_cache_lookups",
        "Lookups in a backend's cache, by what it had.",
        ["backend", "state"],
        [([name, state], meter.cache[state]) for name, meter in cached for state in _CACHE_STATES],
    )
    yield from _in_parts(
        CounterMetricFamily,
        "fingergw_cache_rescues",
        "Queries that a cache answered with a stale answer because the backend failed.",
        ["backend"],
        [([name], meter.cache["stale_if_error"]) for name, meter in cached],
    )


def _cache(readings: Readings) -> Iterator[Metric]:
    memory, store = readings.memory, readings.store
    yield GaugeMetricFamily("fingergw_cache_entries", "Cached answers in memory.", memory.entries)
    yield GaugeMetricFamily("fingergw_cache_bytes", "Memory that cached answers take, about.", memory.bytes)
    if store is not None:
        yield GaugeMetricFamily("fingergw_cache_store_up", "Whether the cache's store is in use.", store.is_open)
        yield CounterMetricFamily("fingergw_cache_store_failures", "Failures of the cache's store.", store.failures)


def _histograms(name: str, text: str, labels: list[str], times: list[tuple[list[str], Times]]) -> Iterator[Metric]:
    series = (
        (values, list(zip(_BUCKETS, accumulate(each.counts), strict=True)), each.total_seconds)
        for values, each in times
    )
    return _in_parts(HistogramMetricFamily, name, text, labels, series)


def _in_parts(
    family: type[Metric], name: str, text: str, labels: list[str], series: Iterable[tuple[Any, ...]]
) -> Iterator[Metric]:
    """Return a family of metrics in parts.

    :param series: for each series the values of its labels, and then what ``add_metric`` of the family takes.
    """
    left = iter(series)
    while batch := list(islice(left, _SERIES_AT_ONCE)):
        part: Any = family(name, text, labels=labels)  # type: ignore[call-arg]  # as all families but Metric itself have
        for each in batch:
            part.add_metric(*each)
        yield part
