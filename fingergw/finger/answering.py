"""What comes of a query at once, and what its client is told: for the protocol of a connection, and without one."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from twisted.logger import Logger

from fingergw.core.addresses import client_of
from fingergw.core.chain import Result
from fingergw.core.decide import Asked, Refused, decide
from fingergw.core.errors import BadProxyHeader
from fingergw.core.outcome import Answered
from fingergw.core.proxy_header import take_header
from fingergw.core.query import take_line
from fingergw.core.rules import Refusal
from fingergw.finger.listener import SMALL_ANSWER_BYTES, Listener
from fingergw.telemetry.event_log import log_failed

_log = Logger()


class Said(NamedTuple):
    """What a client is told, and what the access log has of it.

    :param outcome: ``answered``, or the refusal that it is.
    :param cache: what the cache had.
    """

    answer: bytes
    outcome: str
    route: str = ""
    backend: str = ""
    cache: str = ""


class Pending(NamedTuple):
    """A chain that is to be asked.

    :param place: how many of its first backends are known not to know the name.
    """

    asked: Asked
    place: int


Step: TypeAlias = Said | Pending | Refused
"""What comes of a line at once. It is refused only where the refusal is to be told later, or its line is no query."""


Begun: TypeAlias = tuple[str, str | None, bytes, float, bytes | Step]
"""A query that has come whole: the address of who asks, the client that the connection is counted towards, the line for
the log, when it was there on the listener's clock, and what comes of it: the answer alone if all of it is counted and
logged. It is a plain tuple, as each query makes one."""


def take_step(listener: Listener, line: bytes, client: str, local_address: str, now: float, data: bytes) -> Step:
    """Decide about a line, and answer it if that can be done at once.

    :param line: as :func:`fingergw.core.query.take_line` returns it.
    :param local_address: as for :func:`fingergw.core.decide.decide`.
    :param now: on the listener's clock.
    :param data: all that the client has sent, if that is nothing but the line; empty otherwise.
    """
    rules = listener.rules
    decision = decide(rules, line, client, local_address, now)
    logged = line[: rules.limits.max_query_bytes]
    if isinstance(decision, Refused):
        if decision.at > now or decision.why:
            return decision
        if data:
            listener.known.learn_refusal(client, data, logged, decision)
        return Said(rules.refusals[decision.refusal], decision.refusal)
    try:
        result, place = decision.chain.at_once(decision.query)
        if result is None:
            return Pending(decision, place)
        if data:
            listener.known.learn_result(client, data, logged, decision, result, place)
        return said(listener, decision, result)
    except Exception:
        return crashed(listener, decision.route)


def said(listener: Listener, asked: Asked, result: Result) -> Said:
    """Return what a client is told of a chain's result; the reasons of failures go to the log alone."""
    for backend, failed in result.failures:
        log_failed("backend {backend} failed, asked by route {route}: {why}", failed, backend, route=asked.route)
    outcome = result.outcome
    if isinstance(outcome, Answered):
        return Said(listener.to_wire(outcome.text), "answered", asked.route, result.backend, outcome.cache)
    return refused(listener, asked.refusal(outcome), asked.route, outcome.cache)


def refused(listener: Listener, refusal: Refusal, route: str, cache: str = "") -> Said:
    """Return what a client is told instead of an answer."""
    return Said(listener.rules.refusals[refusal], refusal, route, "", cache)


def crashed(listener: Listener, route: str) -> Said:
    """Log the exception that a chain has raised, which is a bug, and return what the client is told."""
    _log.failure("the chain of route {route} failed", route=route)
    return refused(listener, "internal_error", route)


def begin(listener: Listener, client: str, counted_as: str | None, data: bytes) -> Begun | None:
    """Answer what a client has sent first, if that is a whole query, without a protocol as far as that goes.

    :param client: its address, or that of the proxy which names it.
    :param counted_as: the client that the connection is counted towards.
    :param data: all that was received.
    :return: None if the protocol has to see to it from the beginning: nothing was counted then.
    """
    rules, per_client, named = listener.rules, listener.connections.per_client, None
    if rules.trusted_proxies is not None:
        try:
            taken = take_header(data)
        except BadProxyHeader:
            return None
        if taken is None:
            return None
        client, data = taken[0] or client, taken[1]
        if not rules.lets_in(client):
            return None
        named = client_of(client)
    known, line = listener.known.find(client, data), None
    if known is None:
        line = take_line(data, rules.limits.max_query_bytes)
        if line is None or b"@" in line or data.find(b"\n") != len(data) - 1:
            return None
    if named is not None and not per_client.enter(named, rules.limits.max_connections_per_client):
        return None
    now = listener.connections.seconds()
    if (counted_as := named or counted_as) is not None and not listener.spend_query(counted_as, now):
        if named is not None:
            per_client.leave(named)
        return None  # it is refused again there, at no cost
    try:
        if known is not None:
            return client, counted_as, known.query, now, listener.known.use(known, client, now)
        assert line is not None
        step = _take_whole_step(listener, line, client, now, data)
        return client, counted_as, line[: rules.limits.max_query_bytes], now, step
    except Exception:  # a bug: the protocol counts the client itself
        if named is not None:
            per_client.leave(named)
        raise


def _take_whole_step(listener: Listener, line: bytes, client: str, now: float, data: bytes) -> bytes | Step:
    """Decide about a line as :func:`take_step` does; count and log what can be sent without a protocol."""
    step = take_step(listener, line, client, "", now, data)
    if not isinstance(step, Said) or len(step.answer) > SMALL_ANSWER_BYTES:
        return step
    answer, outcome, route, backend, cache = step
    took, logged = listener.connections.seconds() - now, line[: listener.rules.limits.max_query_bytes]
    listener.record(outcome, client, logged, route, backend, len(answer), took, cache)
    listener.connections.meter.times[route].add(took)
    return answer
