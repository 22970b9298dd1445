"""Backends that are open, and what stands before each: its turn and its time, and what counts its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from inspect import iscoroutine
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import ITransport
from twisted.logger import Logger

from fingergw.app.parts.examined import Examined
from fingergw.app.parts.machine import Machine
from fingergw.cache.keys import Inputs
from fingergw.config import model
from fingergw.config.backend_types import ForeignError, run_foreign
from fingergw.config.problems import Problem
from fingergw.config.tables import Route
from fingergw.core.addresses import Networks
from fingergw.core.errors import FingergwError
from fingergw.core.outcome import Ask, Outcome, asking, knowing
from fingergw.core.query import Query
from fingergw.net.resolving import Resolver
from fingergw.net.site import Keywords, Site
from fingergw.net.waiting import Waiting, detached
from fingergw.telemetry.measured import Measured
from fingergw.telemetry.meters import BackendMeter

_log = Logger()
_CLOSE_SECONDS = 5.0  # that a stop, or what is opened anew after a reload, may wait for a stranger's


@frozen(eq=False)
class Asked:
    """A backend as a chain asks it.

    :param inputs: what it is told of a query.
    """

    ask: Ask
    inputs: Inputs

    def answer(self, query: Query) -> Awaitable[Outcome]:
        """Ask it."""
        return self.ask(self.inputs.of(query), {})  # type: ignore[return-value]  # nothing was answered before that could still hold


@frozen(eq=False)
class Opened:
    """A backend that is open.

    :param backend: itself.
    :param ask: asks it, within its time and when it is its turn, and counts what comes of that.
    :param version: what tells its answers now from those of another time; None where nothing does.
    :param site: what it was given.
    :param examined: what it was made of.
    """

    backend: Any
    ask: Ask
    version: Callable[[], str] | None
    site: Site
    examined: Examined

    def is_same(self, examined: Examined, given: Mapping[str, object]) -> bool:
        """Tell whether another one would be the same.

        :param examined: what that would be made of.
        :param given: what the configuration says beside its table.
        """
        return self.examined.fingerprint == examined.fingerprint and all(
            given[word] == value for word, value in self.site.used.items()
        )

    def catch_up(self, examined: Examined) -> None:
        """Take over what has just been read of the files that it follows.

        :param examined: what another one, that would be the same, would be made of.
        """
        for key, watched in self.examined.files.items():
            watched.catch_up(examined.files[key])

    @property
    def has_close(self) -> bool:
        """Whether there is something to close."""
        return hasattr(self.backend, "close")

    def close(self) -> Deferred[object]:
        """Close it; what goes wrong is logged.

        :return: fires when it is closed.
        """
        closing: Deferred[object] = detached(maybeDeferred(self._close))
        closing.addTimeout(_CLOSE_SECONDS, self.site.reactor)
        return closing.addErrback(
            lambda failure: _log.failure("backend {name} cannot be closed", failure, name=self.site.name)
        )

    def _close(self) -> object:
        closing = self.backend.close()
        return Deferred.fromCoroutine(closing) if iscoroutine(closing) else closing


@define(eq=False)
class Backends:
    """What backends are made with.

    :param convert: makes a text of a body, for the backend of a name.
    :param is_self: tells of a connection whether this gateway is at its other end.
    """

    configuration: model.Config
    machine: Machine
    resolver: Resolver
    convert: Callable[..., Awaitable[str]]
    is_self: Callable[[ITransport], bool]
    given: Mapping[str, object] = field(init=False)
    """What the configuration says that is in no backend's table, and that one may ask for."""
    _keywords: Keywords = field(init=False)
    _seconds: Callable[[], float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        routes = self.configuration.routes
        self.given = {"case_sensitive": self.configuration.answers.case_sensitive, "routes": routes}
        self._seconds = self.resolver.reactor.seconds
        self._keywords = _keywords(routes)  # once: there may be as many backends as routes

    def open(self, examined: Examined, meter: BackendMeter) -> Opened | None:
        """Open a backend; None if it cannot be, which is noted.

        :param meter: what is counted of it.
        """
        table, reactor = examined.table, self.resolver.reactor
        site = Site(
            name=examined.name,
            reactor=reactor,
            resolver=self.resolver,
            timeout=table.timeout,
            is_self=self.is_self,
            files=examined.files,
            programs=examined.programs,
            given=self.given,
            keywords=self._keywords,
            convert=partial(self.convert, examined.name),
        )
        try:
            backend, version = run_foreign(partial(_open, table.settings, site))
        except ForeignError as error:
            where = ("backends", examined.name)
            self.machine.problems.append(Problem(where, f'type "{table.type}" cannot be opened: {error}'))
            return None
        ask, known = asking(backend), knowing(backend)
        if table.timeout is not None and table.max_running is not None:
            ask = Waiting(table.timeout, table.max_running, reactor).before(ask, known)
        ask = Measured(ask, meter, self._seconds, (CancelledError,))
        return Opened(backend, ask, version, site, examined)


def _open(settings: Any, site: Site) -> tuple[Any, Callable[[], str] | None]:
    """Return what a type opens, and what tells its version, if it has one.

    :raises FingergwError: it opens something else than a backend.
    """
    backend = settings.open(site)
    if isinstance(backend, type) or not callable(getattr(backend, "answer", None)):
        raise FingergwError("what it opens has no method answer")
    return backend, (lambda: str(backend.version)) if hasattr(backend, "version") else None


def _keywords(routes: tuple[Route, ...]) -> Keywords:
    """Return what tells the keywords that routes have."""
    listed = [
        (route, None if route.clients is None else Networks(route.clients))
        for route in routes
        if route.summary and not route.index
    ]

    def keywords(query: Query) -> Iterator[tuple[str, str]]:
        for route, clients in listed:
            if route.listeners is not None and query.listener not in route.listeners:
                continue
            if clients is None or query.client in clients:
                yield route.keyword, route.summary

    return keywords
