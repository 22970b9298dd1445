"""Backends from their tables, and what is wrong with the files and programs that these name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.interfaces import IStreamClientEndpoint, ITransport
from twisted.web.client import BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers

from fingergw import __version__, config, listening
from fingergw.assemble.machine import Machine
from fingergw.backends.command import CommandBackend
from fingergw.backends.finger import FingerBackend
from fingergw.backends.http import BodyTemplate, HttpBackend
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import StaticMap, StaticText, layout
from fingergw.bounded_http import bounded_agent
from fingergw.chain import Chain
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.errors import ConfigError, ListenError
from fingergw.forwarding import normal_host
from fingergw.outcome import Answered, Backend
from fingergw.placeholders import Template
from fingergw.programs import ProgramLimits, spawner
from fingergw.query import Query, fold_case
from fingergw.resolving import Resolver
from fingergw.routing import Route


class Backends:
    """What is built from a configuration's backends, and what is found wrong on the way."""

    def __init__(
        self, configuration: model.Config, machine: Machine, resolver: Resolver, is_self: Callable[[ITransport], bool]
    ) -> None:
        self.machine = machine
        self.pools: list[HTTPConnectionPool] = []
        self.menus: dict[str, list[tuple[model.Route, Route[Chain]]]] = {}
        self._case_sensitive = configuration.answers.case_sensitive
        self._resolver, self._reactor = resolver, resolver.reactor
        self._is_self = is_self

    def build(self, name: str, settings: model.Backend) -> Backend | None:
        """Build a backend; None if something about it is wrong."""
        before = len(self.machine.problems)
        backend = _BUILDERS[type(settings)](self, name, settings)
        return backend if len(self.machine.problems) == before else None

    def static(self, name: str, settings: model.StaticBackend) -> Backend | None:
        if settings.text is not None:
            return StaticText(Answered(settings.text))
        entries = settings.entries
        if settings.file is not None:
            try:
                entries = config.load_entries(settings.file)
            except ConfigError as error:
                self.machine.problems += [Problem(("backends", name, "file"), problem) for problem in error.problems]
        answers: dict[str, Answered] = {}
        for user, entry in (entries or {}).items():
            text = entry if isinstance(entry, str) else layout(user, **attrs.asdict(entry))
            key = user if self._case_sensitive else fold_case(user)
            if key in answers:
                self.machine.problems.append(
                    Problem(("backends", name, "entries", user), "this name is there twice, but for case")
                )
            answers[key] = Answered(text)
        return StaticMap(answers)

    def command(self, name: str, settings: model.CommandBackend) -> Backend | None:
        program = settings.argv[0]
        executable = shutil.which(str(self.machine.base / program) if "/" in program else program)
        if executable is None:
            why = f'no executable file "{program}"' + ("" if "/" in program else " on the PATH")
            self.machine.problems.append(Problem(("backends", name, "argv", 0), why))
            return None
        return CommandBackend(
            executable=str(Path(executable).absolute()),
            argv=tuple(Template.compile(argument) for argument in settings.argv),
            env={str(name): value for name, value in settings.env.items()},
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            max_running=settings.max_running,
            missing_exit_codes=frozenset(settings.missing_exit_codes),
            clock=self._reactor,
            spawn=spawner(
                self._reactor,
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

        headers = Headers({"User-Agent": [f"fingergw/{__version__}"]})
        for key, value in settings.headers.items():
            headers.setRawHeaders(key, [value])
        if settings.bearer_token_file is not None:
            token = self.machine.secret(settings.bearer_token_file, "token", "backends", name, "bearer_token_file")
            headers.setRawHeaders("Authorization", [f"Bearer {token}"])
        trust = self.machine.trust(settings.ca_file, "backends", name, "ca_file")
        template = None
        try:
            template = BodyTemplate.compile(settings.template) if settings.template is not None else None
        except ValueError as error:
            wrong("template", str(error))
        pool = HTTPConnectionPool(self._reactor)
        self.pools.append(pool)
        agent = bounded_agent(
            self._resolver,
            BrowserLikePolicyForHTTPS(trust),
            pool,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
        )
        return HttpBackend(
            agent=agent,
            clock=self._reactor,
            now=time.time,
            url=Template.compile(settings.url),
            headers=headers,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            max_running=settings.max_running,
            missing_statuses=frozenset(settings.missing_statuses),
            template=template,
            follow_redirects=settings.follow_redirects,
        )

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
                endpoint = listening.parse_client(description, self.machine.base, self._resolver)
            except ListenError as error:
                self.machine.problems.append(Problem(path, str(error)))
                continue
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
            clock=self._reactor,
            is_self=self._is_self,
        )

    def menu(self, _name: str, _settings: model.MenuBackend) -> Backend | None:
        def keywords(query: Query) -> Iterator[tuple[str, str]]:
            for route, compiled in self.menus[query.listener]:
                if route.summary and not route.index and compiled.is_for(query.client):
                    yield route.keyword, route.summary

        return MenuBackend(keywords)


# A new type of backend is one line here, and its class in config.model.
_BUILDERS: dict[type[model.Backend], Callable[[Backends, str, Any], Backend | None]] = {
    model.StaticBackend: Backends.static,
    model.CommandBackend: Backends.command,
    model.HttpBackend: Backends.http,
    model.MenuBackend: Backends.menu,
    model.FingerBackend: Backends.finger,
}
