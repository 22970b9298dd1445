"""The one place where a configuration meets Twisted: Config and reactor to a MultiService."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import OpenSSL.crypto
from twisted.application.service import IService
from twisted.internet.defer import CancelledError
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.util import gidFromString, uidFromString
from twisted.web.client import BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers

from fingergw import __version__, config, listening
from fingergw.access_log import AccessLog
from fingergw.backends.command import CommandBackend, spawner
from fingergw.backends.http import HttpBackend, compile_template
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import StaticMap, StaticText, layout
from fingergw.bounded_http import bounded_agent
from fingergw.chain import Chain
from fingergw.config import model
from fingergw.config.problems import Problem, to_error
from fingergw.errors import ConfigError, FingergwError
from fingergw.gateway import Gateway, ListenerService
from fingergw.outcome import Answered, Backend, Failed, Missing
from fingergw.placeholders import Template
from fingergw.protocol import FingerFactory, Limits
from fingergw.query import Query, to_wire
from fingergw.routing import Route, Router, glob, regex

_log = Logger()
_PEM_END = "-----END CERTIFICATE-----"
_FALLTHROUGH: dict[str, type[Missing | Failed]] = {"missing": Missing, "failed": Failed}


def make_service(configuration: model.Config, reactor: Any) -> IService:
    """Compile a configuration into a service, for ``twistd`` or any other Twisted application.

    Listeners are bound by ``privilegedStartService``, and clients are served from ``startService`` on.

    :param configuration: as :func:`fingergw.load` returns it.
    :param reactor: the reactor that the application runs.
    :raises ConfigError: a file, program or endpoint that it names is not what it should be; all of them are reported.
    """
    gateway, found = _build(configuration, reactor)
    if found:
        raise to_error(found, configuration.source)
    return gateway


def problems(configuration: model.Config, reactor: Any) -> list[Problem]:
    """Return what is wrong with the files, programs and endpoints that a configuration names; nothing is bound."""
    return _build(configuration, reactor)[1]


def _build(configuration: model.Config, reactor: Any) -> tuple[Gateway, list[Problem]]:
    parts = _Parts(configuration, reactor)
    process = configuration.process
    parts.check("process", "user", text=process.user, lookup=uidFromString)
    parts.check("process", "group", text=process.group, lookup=gidFromString)
    access = configuration.log.access
    if access not in ("-", "off"):
        access = str(parts.base / access)
    access_log = AccessLog(access, configuration.log.format, reactor, time.time)
    gateway = Gateway(process.user, access_log, reactor)
    backends = {name: parts.backend(name, settings) for name, settings in configuration.backends.items()}
    chains = [
        Chain(
            tuple((name, backend) for name in route.backends if (backend := backends.get(name)) is not None),
            tuple(_FALLTHROUGH[kind] for kind in route.fallthrough),
            (CancelledError,),
        )
        for route in configuration.routes
    ]
    case_sensitive = configuration.answers.case_sensitive
    for place, listener in configuration.numbered_listeners():
        description = listening.anchor(listener.endpoint, parts.base)
        try:
            listening.check(description, reactor)
        except FingergwError as error:
            parts.problems.append(Problem(("listeners", place, "endpoint"), str(error)))
        own = [
            (route, _route(route, chain, case_sensitive))
            for route, chain in zip(configuration.routes, chains, strict=True)
            if route.listeners is None or listener.name in route.listeners
        ]
        parts.menus[listener.name] = own
        router = Router([compiled for _, compiled in own])
        factory = _factory(configuration, listener, router, access_log, reactor)
        service = ListenerService(listener.name, description, factory, reactor, gateway.listener_failed)
        service.setServiceParent(gateway)
    gateway.pools = parts.pools
    return gateway, parts.problems


def _factory(
    configuration: model.Config, listener: model.Listener, router: Router[Chain], access_log: AccessLog, reactor: Any
) -> FingerFactory:
    answers, limits = configuration.answers, listener.limits
    texts = attrs.asdict(answers, filter=lambda attribute, _: attribute.name not in ("charset", "case_sensitive"))
    return FingerFactory(
        listener=listener.name,
        router=router,
        limits=Limits(
            max_query_bytes=limits.max_query_bytes,
            query_timeout=limits.query_timeout,
            answer_timeout=limits.answer_timeout,
            max_answer_bytes=limits.max_answer_bytes,
            max_connections=limits.max_connections,
        ),
        refusals={name: to_wire(text, answers.charset) for name, text in texts.items()},
        charset=answers.charset,
        case_sensitive=answers.case_sensitive,
        allow=listener.allow,
        deny=listener.deny,
        access_log=access_log,
        clock=reactor,
    )


def _route(route: model.Route, chain: Chain, case_sensitive: bool) -> Route[Chain]:
    match = None
    if route.pattern is not None:
        match = glob(route.pattern, case_sensitive=case_sensitive)
    elif route.regex is not None:
        match = regex(route.regex, case_sensitive=case_sensitive)
    users = route.users or ((route.user,) if route.user is not None else ())
    return Route(
        name=route.name,
        target=chain,
        users=users if case_sensitive else tuple(user.lower() for user in users),
        match=match,
        index=route.index,
        clients=route.clients,
    )


class _Parts:
    """What is built from a configuration's backends, and what is found wrong on the way."""

    def __init__(self, configuration: model.Config, reactor: Any) -> None:
        self.problems: list[Problem] = []
        self.pools: list[HTTPConnectionPool] = []
        self.menus: dict[str, list[tuple[model.Route, Route[Chain]]]] = {}
        self.base = configuration.source.base if configuration.source else Path.cwd()
        self._case_sensitive = configuration.answers.case_sensitive
        self._reactor = reactor

    def backend(self, name: str, settings: model.Backend) -> Backend | None:
        """Build a backend; None if something about it is wrong."""
        before = len(self.problems)
        backend = _BUILDERS[type(settings)](self, name, settings)
        return backend if len(self.problems) == before else None

    def check(self, *path: str | int, text: str | None, lookup: Callable[[str], object]) -> None:
        """Look whether this machine knows a user or group."""
        try:
            if text is not None:
                lookup(text)
        except KeyError:
            self.problems.append(Problem(path, f'no {path[-1]} "{text}" on this machine'))

    def read(self, path: Path, *where: str | int) -> str | None:
        """Return what is in a file; None if it cannot be read, which is noted."""
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            self.problems.append(Problem(where, f"{path}: {why}"))
            return None

    def static(self, name: str, settings: model.StaticBackend) -> Backend | None:
        if settings.text is not None:
            return StaticText(Answered(settings.text))
        entries = settings.entries
        if settings.file is not None:
            try:
                entries = config.load_entries(settings.file)
            except ConfigError as error:
                self.problems += [Problem(("backends", name, "file"), problem) for problem in error.problems]
        answers: dict[str, Answered] = {}
        for user, entry in (entries or {}).items():
            text = entry if isinstance(entry, str) else layout(user, **attrs.asdict(entry))
            key = user if self._case_sensitive else user.lower()
            if key in answers:
                self.problems.append(
                    Problem(("backends", name, "entries", user), "this name is there twice, but for case")
                )
            answers[key] = Answered(text)
        return StaticMap(answers)

    def command(self, name: str, settings: model.CommandBackend) -> Backend | None:
        program = settings.argv[0]
        executable = shutil.which(str(self.base / program) if "/" in program else program)
        if executable is None:
            why = f'no executable file "{program}"' + ("" if "/" in program else " on the PATH")
            self.problems.append(Problem(("backends", name, "argv", 0), why))
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
            self.problems.append(Problem(("backends", name, key), message))

        headers = Headers({"User-Agent": [f"fingergw/{__version__}"]})
        for key, value in settings.headers.items():
            headers.setRawHeaders(key, [value])
        if settings.bearer_token_file is not None:
            token = self.read(settings.bearer_token_file, "backends", name, "bearer_token_file")
            if token is not None:
                token = token.strip()
                if not token or not token.isascii() or not token.isprintable():
                    wrong("bearer_token_file", "expected a file that holds one token")
                headers.setRawHeaders("Authorization", [f"Bearer {token}"])
        trust = platformTrust()
        if settings.ca_file is not None:
            bundle = self.read(settings.ca_file, "backends", name, "ca_file")
            if bundle is not None:
                certificates = _certificates(bundle)
                if not certificates:
                    wrong("ca_file", "expected one or more certificates in PEM form")
                trust = trustRootFromCertificates(certificates)
        template = None
        try:
            template = compile_template(settings.template) if settings.template is not None else None
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


def _certificates(bundle: str) -> list[Certificate]:
    """Return the certificates in a PEM file's text; none if one of them is not what it should be."""
    try:
        return [Certificate.loadPEM((pem + _PEM_END).encode()) for pem in bundle.split(_PEM_END)[:-1]]
    except OpenSSL.crypto.Error:
        return []


# A new type of backend is one line here, and its class in config.model.
_BUILDERS: dict[type[model.Backend], Callable[[_Parts, str, Any], Backend | None]] = {
    model.StaticBackend: _Parts.static,
    model.CommandBackend: _Parts.command,
    model.HttpBackend: _Parts.http,
    model.MenuBackend: _Parts.menu,
    model.FingerBackend: lambda parts, name, settings: None,  # refused by config as not supported yet
}
