"""Backends from their tables, and what is wrong with the files and programs that these name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint, ITransport
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from fingergw import __version__, config
from fingergw.app.machine import Machine, read_file, read_secret
from fingergw.backends.command import CommandBackend
from fingergw.backends.finger import FingerBackend
from fingergw.backends.http import BodyTemplate, HttpBackend
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import StaticFile, StaticMap, StaticText, layout
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.core.chain import Chain
from fingergw.core.errors import ConfigError, ListenError
from fingergw.core.forwarding import normal_host
from fingergw.core.outcome import Answered, Backend
from fingergw.core.placeholders import Template
from fingergw.core.query import Query, escape, fold_case
from fingergw.core.routing import Route
from fingergw.listen.client_strings import client_files, parse_client
from fingergw.net.bounded_http import bounded_agent
from fingergw.net.programs import ProgramLimits, spawner
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities, verified
from fingergw.net.worker_pool import WorkerPool

_TWICE = "this name is there twice, but for case"


class Backends:
    """What is built from a configuration's backends, and what is found wrong on the way."""

    def __init__(
        self,
        configuration: model.Config,
        machine: Machine,
        resolver: Resolver,
        workers: WorkerPool,
        is_self: Callable[[ITransport], bool],
    ) -> None:
        self.machine = machine
        self.pools: dict[str, HTTPConnectionPool] = {}
        self.menus: dict[str, list[tuple[model.Route, Route[Chain]]]] = {}
        self._case_sensitive = configuration.answers.case_sensitive
        self._resolver, self.reactor = resolver, resolver.reactor
        self._workers = workers
        self._is_self = is_self

    def build(self, name: str, settings: model.Backend) -> Backend | None:
        """Build a backend; None if something about it is wrong."""
        before = len(self.machine.problems)
        backend = _BUILDERS[type(settings)](self, name, settings)
        return backend if len(self.machine.problems) == before else None

    def static(self, name: str, settings: model.StaticBackend) -> Backend | None:
        if settings.text is not None:
            return StaticText(Answered(settings.text))
        if settings.file is not None:
            path = settings.file
            answers = self.machine.watch(path, lambda: self._answers_in(path), "backends", name, "file")
            return None if answers is None else StaticFile(answers)
        made, twice = self._answers(settings.entries or {})
        for user in twice:
            self.machine.problems.append(Problem(("backends", name, "entries", user), _TWICE))
        return StaticMap(made)

    def _answers_in(self, path: Path) -> Mapping[str, Answered]:
        answers, twice = self._answers(config.load_entries(path))
        if twice:
            raise ConfigError([f'{path}: "{escape(user)}": {_TWICE}' for user in twice])
        return answers

    def _answers(self, entries: model.Entries) -> tuple[dict[str, Answered], list[str]]:
        """Return the answers by name, and the names that are there twice, but for case."""
        answers: dict[str, Answered] = {}
        twice = []
        for user, entry in entries.items():
            text = entry if isinstance(entry, str) else layout(user, **attrs.asdict(entry))
            key = user if self._case_sensitive else fold_case(user)
            if key in answers:
                twice.append(user)
            answers[key] = Answered(text)
        return answers, twice

    def command(self, name: str, settings: model.CommandBackend) -> Backend | None:
        executable = self.machine.program(settings.argv[0], "backends", name, "argv", 0)
        if executable is None:
            return None
        return CommandBackend(
            executable=str(executable),
            argv=tuple(Template.compile(argument) for argument in settings.argv),
            env={str(name): value for name, value in settings.env.items()},
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            max_running=settings.max_running,
            missing_exit_codes=frozenset(settings.missing_exit_codes),
            clock=self.reactor,
            spawn=spawner(
                self.reactor,
                ProgramLimits(
                    cpu_seconds=settings.max_cpu_seconds,
                    memory_bytes=settings.max_memory_bytes,
                    file_bytes=settings.max_file_bytes,
                    processes=settings.max_processes,
                ),
            ),
        )

    def http(self, name: str, settings: model.HttpBackend) -> Backend | None:
        def wrong(key: str, message: str) -> None:
            self.machine.problems.append(Problem(("backends", name, key), message))

        headers = self._headers(settings, "backends", name, "bearer_token_file")
        trust = self._trust(settings.ca_file, "backends", name, "ca_file")
        template = None
        try:
            template = (
                None if settings.template is None else BodyTemplate.compile(settings.template, settings.max_bytes)
            )
        except ValueError as error:
            wrong("template", str(error))
        pool = HTTPConnectionPool(self.reactor)
        self.pools[name] = pool
        agent = bounded_agent(
            self._resolver,
            _Policy(trust),
            pool,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
        )
        return HttpBackend(
            agent=agent,
            clock=self.reactor,
            now=time.time,
            convert=partial(self._workers.convert, name),
            url=Template.compile(settings.url),
            headers=headers,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            max_running=settings.max_running,
            missing_statuses=frozenset(settings.missing_statuses),
            template=template,
            follow_redirects=settings.follow_redirects,
        )

    def _headers(self, settings: model.HttpBackend, *where: str) -> Callable[[], Headers]:
        """Return what gives the headers of a request, with the token that is in the file at the time."""
        plain = Headers({"User-Agent": [f"fingergw/{__version__}"]})
        for key, value in settings.headers.items():
            plain.setRawHeaders(key, [value])
        path = settings.bearer_token_file
        if path is None or not self.machine.secret(path, "token", *where):
            return lambda: plain

        def load() -> Headers:
            headers = plain.copy()
            token = read_secret(path, "token")
            headers.setRawHeaders("Authorization", [f"Bearer {token}"])
            return headers

        watched = self.machine.watch(path, load, *where)
        return watched.current if watched is not None else lambda: plain

    def _trust(self, path: Path | None, *where: str) -> Callable[[], Any]:
        """Return what tells whom to trust for TLS: the authorities that are in a file at the time, or the system's."""
        before = len(self.machine.problems)
        trust = self.machine.trust(path, *where)
        if path is None or len(self.machine.problems) > before:
            return lambda: trust

        def load() -> Any:
            try:
                return authorities(read_file(path).encode())
            except ValueError as error:
                raise ConfigError([str(error)]) from None

        watched = self.machine.watch(path, load, *where)
        return watched.current if watched is not None else lambda: trust

    def finger(self, _name: str, settings: model.FingerBackend) -> Backend | None:
        return self._ask_finger(
            self._resolver.endpoint(settings.host, settings.port, timeout=settings.timeout), settings
        )

    def forwarding(self, settings: model.Forwarding) -> dict[str, Backend]:
        """Build what asks each of the hosts that queries may be forwarded to, by the host's name."""
        backends: dict[str, Backend] = {}
        for host, description in settings.allow.items():
            path = ("forwarding", "allow", host)
            try:
                endpoint = parse_client(description, self.machine.base, self._resolver)
            except ListenError as error:
                self.machine.problems.append(Problem(path, str(error)))
                continue
            self.machine.files += [(file, path) for file in client_files(description, self.machine.base)]
            name = normal_host(host)
            if name in backends:
                self.machine.problems.append(Problem(path, "this host is there twice, but for case"))
            backends[name] = self._ask_finger(endpoint, settings)
        return backends

    def _ask_finger(
        self, endpoint: IStreamClientEndpoint, settings: model.FingerBackend | model.Forwarding
    ) -> FingerBackend:
        return FingerBackend(
            endpoint=endpoint,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            max_running=settings.max_running,
            clock=self.reactor,
            is_self=self._is_self,
        )

    def menu(self, _name: str, _settings: model.MenuBackend) -> Backend | None:
        def keywords(query: Query) -> Iterator[tuple[str, str]]:
            for route, compiled in self.menus[query.listener]:
                if route.summary and not route.index and compiled.is_for(query.client):
                    yield route.keyword, route.summary

        return MenuBackend(keywords)


@implementer(IPolicyForHTTPS)
@frozen
class _Policy:
    """Verify servers.

    :param trust: tells whom to trust, at each connection.
    """

    trust: Callable[[], Any]

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return verified(hostname.decode("ascii"), self.trust())


# A new type of backend is one line here, and its class in config.model.
_BUILDERS: dict[type[model.Backend], Callable[[Backends, str, Any], Backend | None]] = {
    model.StaticBackend: Backends.static,
    model.CommandBackend: Backends.command,
    model.HttpBackend: Backends.http,
    model.MenuBackend: Backends.menu,
    model.FingerBackend: Backends.finger,
}
