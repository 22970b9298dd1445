"""Backends that are open: what a chain asks, with time limit, queue, metrics and cache."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from traceback import format_exception
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger

from fingergw.app.parts.cache import key_prefix
from fingergw.app.parts.checked_backend import CheckedBackend
from fingergw.cache.cached_backend import CachedBackend
from fingergw.cache.guarded import GuardedStore
from fingergw.cache.keys import Inputs, keys
from fingergw.cache.memory import Memory
from fingergw.config.backend_types import run_foreign
from fingergw.core.addresses import without_client
from fingergw.core.breaker import Breaker, Breaking, unless_opened
from fingergw.core.errors import FingergwError
from fingergw.core.outcome import (
    Answered,
    Ask,
    Failed,
    Holds,
    Known,
    Missing,
    Outcome,
    Reuse,
    Unchanged,
    ask_function,
    at_once_function,
    nothing_known,
    outcome_of,
)
from fingergw.core.query import Query
from fingergw.core.turns import Payers, payer
from fingergw.net.coalescing import Coalescing
from fingergw.net.site import Site
from fingergw.net.waiting import Waiting, detached
from fingergw.telemetry.event_log import log_breaker, log_failed
from fingergw.telemetry.meters import BackendMeter, Measured

_log = Logger()
_KEPT = "backend {backend} failed, so its cached answer stays in use: {why}"
# The longest time that a backend without a timeout takes.
_UNTIMED_SECONDS = 5.0
_MARGIN_SECONDS = 1.0
_CLOSE_SECONDS = 5.0  # how long a stop, or the rest after a reload, waits for a backend to close


@frozen(eq=False, repr=False)
class UncachedBackend:
    """What a chain asks where a backend's answers are not cached.

    :param inputs: the parts of a query that the backend is given.
    :param known: returns what the backend answers without asking anybody, or None.
    :param backend: tells how long that holds; None if nobody can tell.
    :param meter: counts the backend's answers.
    """

    ask: Ask
    inputs: Inputs
    known: Known = nothing_known
    backend: object = None
    meter: BackendMeter | None = None

    def at_once(self, query: Query) -> Outcome | None:
        """Return what the backend answers without asking anybody; None if it is to be asked."""
        return self.known(self.inputs.of(query))

    def reuse(self, query: Query, outcome: Answered | Missing) -> Reuse | None:
        """Return how an outcome that was known at once is used again; None if it cannot be, or is for one client."""
        # it is looked up when it is needed, as there may be very many backends
        tell: Callable[[Query], Holds | None] | None = getattr(self.backend, "lasting", None)
        if tell is None or self.meter is None or self.inputs.client:
            return None
        holds = tell(self.inputs.of(query))
        word = "answered" if isinstance(outcome, Answered) else "missing"
        return None if holds is None else Reuse(holds, self.meter.counting_again(word))

    def answer(self, query: Query) -> Awaitable[Outcome]:
        """Ask the backend."""
        payers = Payers([payer(query.client)])
        return self.ask(self.inputs.of(query), {}, payers)  # type: ignore[return-value]  # Unchanged takes validators


@frozen(eq=False, repr=False)
class OpenBackend:
    """A backend that is open.

    :param checked: its table, and the files that it watches.
    :param site: what it was given when it was opened.
    :param meter: counts and times its answers.
    :param breaker: None if it is always asked.
    :param store: where its answers are kept, if its table has a cache.
    :param hides_client: whether the addresses of clients may neither be in its reasons nor in the store.
    :param backend: what its type opened.
    :param entry: what a chain asks: its cache, or else the backend itself.
    """

    checked: CheckedBackend
    site: Site
    meter: BackendMeter
    breaker: Breaker | None
    store: GuardedStore | None
    hides_client: bool
    backend: Any
    entry: CachedBackend | UncachedBackend

    @property
    def fingerprint(self) -> object:
        """What it was made from; a reload keeps it while this is the same."""
        return fingerprint(self.checked, self.site.used, self.store, self.hides_client)

    @property
    def is_closable(self) -> bool:
        """Whether there is anything to close: of the others nothing is to be kept until then."""
        return isinstance(self.entry, CachedBackend) or hasattr(self.backend, "close")

    def close(self) -> Deferred[object]:
        """Cancel what its cache has asked, and close it; an error is logged.

        :return: fires when it is closed, or has had its time.
        """
        if isinstance(self.entry, CachedBackend):
            self.entry.stop()
        if not hasattr(self.backend, "close"):
            return succeed(None)
        closing: Deferred[object] = detached(maybeDeferred(self.backend.close))
        closing.addTimeout(_CLOSE_SECONDS, self.site.reactor)
        return closing.addErrback(
            lambda failure: _log.failure("backend {name} cannot be closed", failure, name=self.site.name)
        )


def fingerprint(
    checked: CheckedBackend, used: Mapping[str, object], store: GuardedStore | None, hides_client: bool
) -> object:
    """Return the fingerprint of a backend.

    A change in a watched file keeps the fingerprint; a changed secret or authority changes it.

    :param used: the settings beside its own table that it uses.
    :param store: where its answers are kept, if its table has a cache.
    :param hides_client: as for :func:`open_backend`.
    """
    where = None if store is None or checked.table.cache is None else store.fingerprint
    return checked.table, checked.programs, checked.digests, dict(used), where, hides_client


def open_backend(
    checked: CheckedBackend,
    site: Site,
    meter: BackendMeter,
    memory: Memory,
    store: GuardedStore | None,
    *,
    hides_client: bool = False,
) -> OpenBackend:
    """Open a backend, with time limit, queue, metrics and cache around it.

    :param hides_client: whether it is told the addresses of clients, which may not be logged: then its reasons are
        without them, and so is the store, whose keys would have them.
    :raises ForeignError: its type cannot open it.
    """
    table, reactor = checked.table, site.reactor
    backend, version = run_foreign(partial(_open, table.settings, site))
    ask, known = ask_function(backend), at_once_function(backend)
    if hides_client:
        ask, known = _hiding_client(ask, known)
    breaker = Breaker(table.breaker, checked.question) if table.breaker else None
    if table.timeout is not None and table.max_running is not None:
        waiting = Waiting(table.timeout, table.max_running, reactor)
        measured = Measured(waiting.wrap(unless_opened(ask, breaker)), known, meter, reactor.seconds, (CancelledError,))
        changed = partial(log_breaker, f"backend {checked.name}")
        ask, known = Breaking(measured, measured.known_outcome, breaker, reactor.seconds, changed), nothing_known
    else:
        measured = Measured(ask, known, meter, reactor.seconds, (CancelledError,))
        ask, known = measured, measured.at_once
    if getattr(table.settings, "coalesces", False) and table.cache is None:  # a cache does that, too
        ask = Coalescing(ask, keys("", checked.inputs))
    entry: CachedBackend | UncachedBackend = UncachedBackend(ask, checked.inputs, known, backend, meter)
    if table.cache is not None:
        entry = CachedBackend(
            name=checked.name,
            ask=ask,
            inputs=checked.inputs,
            key=keys(key_prefix(checked, site.used), checked.inputs, version),
            settings=table.cache,
            lock_seconds=(table.timeout or _UNTIMED_SECONDS) + _MARGIN_SECONDS,
            memory=memory,
            store=None if hides_client else store,
            clock=reactor,
            seconds=time.monotonic,
            report=partial(log_failed, _KEPT, backend=checked.name),
            counts=meter.cache,
        )
    return OpenBackend(checked, site, meter, breaker, store, hides_client, backend, entry)


def _hiding_client(ask: Ask, known: Known) -> tuple[Ask, Known]:
    """Return the functions of a backend whose reasons have the network of the query's client, not its address."""

    async def asked(query: Query, validators: Mapping[str, str], payers: Payers) -> Outcome | Unchanged:
        outcome = await outcome_of(ask(query, validators, payers), (CancelledError,))
        return _without_client(outcome, query.client) if isinstance(outcome, Failed) else outcome

    def known_then(query: Query) -> Outcome | None:
        outcome = known(query)
        return _without_client(outcome, query.client) if isinstance(outcome, Failed) else outcome

    return asked, known_then


def _without_client(failed: Failed, client: str) -> Failed:
    reason, error = without_client(failed.reason, client), failed.error
    traceback = "" if error is None else "".join(format_exception(error))
    if without_client(traceback, client) != traceback:  # the log would have it
        reason, error = f"{reason}: {without_client(str(error), client)}", None
    return evolve(failed, reason=reason, error=error)


def _open(settings: Any, site: Site) -> tuple[Any, Callable[[], str] | None]:
    """Return what a type opens, and what returns its version, if it has one.

    :raises FingergwError: it opens something else than a backend.
    """
    backend = settings.open(site)
    if isinstance(backend, type) or not callable(getattr(backend, "answer", None)):
        raise FingergwError("its open returns an object without a method answer")
    return backend, (lambda: str(backend.version)) if hasattr(backend, "version") else None
