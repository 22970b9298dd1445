"""Backends from their tables, and what is wrong with the files and programs that these name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.web.client import BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers

from fingergw import __version__, config
from fingergw.assemble.machine import Machine
from fingergw.backends.command import CommandBackend, spawner
from fingergw.backends.http import BodyTemplate, HttpBackend
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import StaticMap, StaticText, layout
from fingergw.bounded_http import bounded_agent
from fingergw.chain import Chain
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.errors import ConfigError
from fingergw.outcome import Answered, Backend
from fingergw.placeholders import Template
from fingergw.query import Query
from fingergw.routing import Route


class Backends:
    """What is built from a configuration's backends, and what is found wrong on the way."""

    def __init__(self, configuration: model.Config, machine: Machine, reactor: Any) -> None:
        self.machine = machine
        self.pools: list[HTTPConnectionPool] = []
        self.menus: dict[str, list[tuple[model.Route, Route[Chain]]]] = {}
        self._case_sensitive = configuration.answers.case_sensitive
        self._reactor = reactor

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
            key = user if self._case_sensitive else user.lower()
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
            spawn=spawner(self._reactor),
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
            self._reactor,
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
            missing_statuses=frozenset(settings.missing_statuses),
            template=template,
            follow_redirects=settings.follow_redirects,
        )

    def menu(self, _name: str, _settings: model.MenuBackend) -> Backend | None:
        def keywords(query: Query) -> Iterator[tuple[str, str]]:
            for route, compiled in self.menus[query.listener]:
                if route.summary and not route.index and compiled.is_for(query):
                    yield route.keyword, route.summary

        return MenuBackend(keywords)


# A new type of backend is one line here, and its class in config.model.
_BUILDERS: dict[type[model.Backend], Callable[[Backends, str, Any], Backend | None]] = {
    model.StaticBackend: Backends.static,
    model.CommandBackend: Backends.command,
    model.HttpBackend: Backends.http,
    model.MenuBackend: Backends.menu,
    model.FingerBackend: lambda backends, name, settings: None,  # refused by config as not supported yet
}
