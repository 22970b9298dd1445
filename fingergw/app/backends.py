"""Backends from their tables: what these name on this machine, what is opened, and what stands before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from inspect import iscoroutine
from pathlib import Path
from typing import Any, get_args

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import ITransport
from twisted.logger import Logger

from fingergw.app.machine import Machine, read_authorities, read_file, read_secret
from fingergw.cache.keys import Inputs
from fingergw.config import load_table, model
from fingergw.config.backend_types import ForeignError, backend_type, run_foreign
from fingergw.config.problems import Problem
from fingergw.config.tables import Route
from fingergw.core.addresses import Networks
from fingergw.core.errors import ConfigError, FingergwError
from fingergw.core.outcome import Ask, Outcome, asking, knowing
from fingergw.core.query import Query, escape, fold_case
from fingergw.core.setting_types import Argv, AuthoritiesFile, Jinja, Name, ProgramPath, SecretFile, WatchedFile
from fingergw.core.settings import Key, bare, keys_of, takes_placeholders, templates_in
from fingergw.net.resolving import Resolver
from fingergw.net.site import Keywords, Site
from fingergw.net.templates import TemplateError, names_within_limits
from fingergw.net.waiting import Waiting
from fingergw.net.watched import Watched
from fingergw.telemetry.measured import measured
from fingergw.telemetry.meters import BackendMeter

_log = Logger()
_TWICE = "this name is there twice, but for case"
_MAX_TEMPLATE_BYTES = 65536  # of what a template makes, where the table has no max_bytes


@define(eq=False)
class Examined:
    """A backend's table, and what it names on this machine.

    :param files: what is made of each file that it follows, by its key.
    :param programs: the absolute path of each program, by its key.
    :param secrets: what is in files of secrets.
    :param authorities: what is in files of authorities.
    :param template_names: the variables that its Jinja2 templates use.
    """

    name: str
    table: model.Backend
    files: dict[str, Watched[Any]] = field(factory=dict)
    programs: dict[str, str] = field(factory=dict)
    secrets: tuple[tuple[Path, str], ...] = field(default=(), repr=False)
    authorities: tuple[tuple[Path, str], ...] = field(default=(), repr=False)
    template_names: frozenset[str] = frozenset()

    @property
    def made_of(self) -> object:
        """All that the backend depends on, but for files that it follows."""
        return self.table, self.programs, self.secrets, self.authorities

    @property
    def inputs(self) -> Inputs:
        """What in a query can change an answer."""
        known, cache = backend_type(self.table.type), self.table.cache
        names: frozenset[str] | None = None  # it is told the name and all groups
        if "user" in known.sees or takes_placeholders(known.settings):
            used = (template.names for _, template in templates_in(self.table.settings))
            names = self.template_names.union(*used, known.sees & {"user"})
        told = known.sees if cache is None or not known.may_vary else known.sees.intersection(cache.vary)
        return Inputs(names, **{word: word in told for word in ("verbose", "client", "listener")})


@frozen(eq=False)
class Asked:
    """A backend as a chain asks it."""

    ask: Ask

    def answer(self, query: Query) -> Awaitable[Outcome]:
        """Ask it."""
        return self.ask(query, {})  # type: ignore[return-value]  # nothing was answered before that could still hold


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
        return self.examined.made_of == examined.made_of and all(
            given[word] == value for word, value in self.site.used.items()
        )

    def catch_up(self, examined: Examined) -> None:
        """Take over what has just been read of the files that it follows.

        :param examined: what another one, that would be the same, would be made of.
        """
        for key, watched in self.examined.files.items():
            watched.catch_up(examined.files[key])

    def close(self) -> Deferred[object]:
        """Close it, if it can be; what goes wrong is logged.

        :return: fires when it is closed.
        """
        closing: Deferred[object] = maybeDeferred(self._close)
        return closing.addErrback(
            lambda failure: _log.failure("backend {name} cannot be closed", failure, name=self.site.name)
        )

    def _close(self) -> object:
        close: Callable[[], object] = getattr(self.backend, "close", lambda: None)
        closing = close()
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

    @property
    def given(self) -> dict[str, object]:
        """What the configuration says that is in no backend's table, and that one may ask for."""
        return {"case_sensitive": self.configuration.answers.case_sensitive, "routes": self.configuration.routes}

    def examine(self, name: str) -> Examined:
        """Look at what a backend's table names on this machine; what is wrong is noted."""
        table = self.configuration.backends[name]
        examined = Examined(name, table)
        for key in keys_of(backend_type(table.type).settings):
            value = getattr(table.settings, key.name)
            if value is not None:
                self._examine(examined, key, value)
        return examined

    def _examine(self, examined: Examined, key: Key, value: Any) -> None:
        kind, where = bare(key.type), ("backends", examined.name, key.name)
        if kind in (SecretFile, WatchedFile, AuthoritiesFile):
            read = len(self.machine.texts)
            watched = self._file(kind, key, value, *where)
            texts = tuple(self.machine.texts[read:])
            if watched is not None:
                examined.files[key.name] = watched
            if kind is SecretFile:
                examined.secrets += texts
            else:
                examined.authorities += texts
        elif kind in (Argv, ProgramPath):
            is_argv = kind is Argv
            program = self.machine.program(value[0].text if is_argv else value, *where, *([0] if is_argv else []))
            if program is not None:
                examined.programs[key.name] = str(program)
        elif kind is Jinja:
            max_bytes = getattr(examined.table.settings, "max_bytes", _MAX_TEMPLATE_BYTES)
            try:
                examined.template_names |= names_within_limits(value, max_bytes)
            except TemplateError as error:
                self.machine.problems.append(Problem(where, str(error)))
        elif get_args(kind)[:1] == (Name,):
            self.machine.problems += [Problem((*where, name), _TWICE) for name in self._twice(value)]

    def _file(self, kind: Any, key: Key, path: Path, *where: str) -> Watched[Any] | None:
        machine, before = self.machine, len(self.machine.problems)
        load: Callable[[], object]
        if kind is SecretFile:
            what = key.holds or "secret"
            machine.secret(path, what, *where)
            load = partial(read_secret, path, what)
        elif kind is AuthoritiesFile:
            machine.trust(path, *where)
            load = partial(read_authorities, path)
        else:
            load = partial(read_file, path) if key.holds is None else partial(self._table_in, path, key.holds)
        return machine.watch(path, load, *where) if len(machine.problems) == before else None

    def _table_in(self, path: Path, kind: Any) -> Any:
        table = load_table(path, kind)
        if get_args(kind)[:1] == (Name,) and (twice := list(self._twice(table))):
            raise ConfigError([f'{path}: "{escape(name)}": {_TWICE}' for name in twice])
        return table

    def _twice(self, table: Mapping[str, object]) -> Iterator[str]:
        """Return the names that are the same as one before them."""
        fold: Callable[[str], str] = str if self.configuration.answers.case_sensitive else fold_case
        seen: set[str] = set()
        for name in table:
            if fold(name) in seen:
                yield name
            seen.add(fold(name))

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
            keywords=_keywords(self.configuration.routes),
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
        ask = measured(ask, meter, reactor.seconds, (CancelledError,))
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
