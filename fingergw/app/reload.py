"""What signals make a running gateway do: reload its configuration, and reopen its access log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw import config
from fingergw.app import signals
from fingergw.app.build import Draft, draft, finish, late_warnings, make_gateway, process_problems
from fingergw.app.environment import Environment
from fingergw.app.gateway import Gateway
from fingergw.app.parts.parts import Parts
from fingergw.config import model
from fingergw.config.problems import Problem, located, to_error
from fingergw.core.errors import ConfigError, FingergwError, ListenError
from fingergw.core.settings import changed
from fingergw.net.threads import in_thread

T = TypeVar("T")
_log = Logger()
_TURN_SECONDS = 0.005  # of opening backends, before others have their turn
_NOT_BOUND = "; a restart can bind what needs root, or what another listener still uses"

Read: TypeAlias = Callable[[], tuple[model.Config, list[Problem]]]


def make_service(configuration: model.Config, reactor: Any) -> Gateway:
    """Make a configuration into a service, for ``twistd`` or any other Twisted application.

    Listeners are bound by ``privilegedStartService``, and clients are served from ``startService`` on. Until
    ``stopService`` is done, SIGHUP makes it read its file again, and SIGUSR1 reopen its access log; if it is started in
    the main thread, as Python handles signals in no other. Its children are named as their listeners.

    :param configuration: as :func:`fingergw.load` returns it.
    :param reactor: the reactor that the application runs.
    :raises ConfigError: a file, program or endpoint that it names is not what it should be; all of them are reported.
    """
    gateway = make_gateway(configuration, reactor)
    source = configuration.source
    read = None if source is None else partial(config.read, source.path.absolute(), base=source.base)
    gateway.operation = Operation(gateway, read)
    return gateway


class Operation:
    """What signals do to a gateway: SIGHUP reloads its configuration, and SIGUSR1 reopens its access log.

    :param read: reads the configuration, as :func:`fingergw.config.read` does; None if there is no file to read.
    :param on_applied: called with each configuration that a reload has activated.
    """

    def __init__(
        self,
        gateway: Gateway,
        read: Read | None,
        on_applied: Callable[[model.Config], object] = lambda _: None,
    ) -> None:
        self._gateway = gateway
        self._read = read
        self._on_applied = on_applied
        self._reactor = gateway.reactor
        self._trigger: object = None
        self._process_ends = False
        self._has_terminal = False
        self._is_reloading = False
        self._is_asked_again = False

    def begin(self) -> None:
        """Begin to act on signals."""
        # who closes a terminal that nohup has kept its signal from does not mean to stop it
        self._has_terminal = not signals.was_ignored(signal.SIGHUP) and _has_terminal()
        signals.add(self._on_hangup, signal.SIGHUP)
        signals.add(self._on_reopen, signal.SIGUSR1)
        self._trigger = self._reactor.addSystemEventTrigger("before", "shutdown", self._process_is_ending)
        parts = self._gateway.parts
        _warn(located(parts.warnings, parts.configuration.source))
        if parts.warns_late:
            self._reactor.callWhenRunning(self._warn_late, parts)

    def _warn_late(self, parts: Parts) -> None:
        """Log the warnings that take long to find, which clients need not wait for."""

        def warn(warnings: list[str]) -> None:
            if self._gateway.running and self._gateway.parts is parts:
                _warn(warnings)

        finding = in_thread(self._reactor, lambda: located(late_warnings(parts), parts.configuration.source))
        finding.addCallbacks(warn, _not_found)

    def end(self) -> None:
        """Act on signals no more: their earlier handlers are restored."""
        for act, number in ((self._on_hangup, signal.SIGHUP), (self._on_reopen, signal.SIGUSR1)):
            signals.remove(act, number, at_end=self._process_ends)
        if self._trigger is not None and not self._process_ends:
            self._reactor.removeSystemEventTrigger(self._trigger)
        self._trigger = None

    def _process_is_ending(self) -> None:
        self._process_ends = True

    def _on_hangup(self) -> None:
        self._reactor.callFromThread(self._hung_up)

    def _on_reopen(self) -> None:
        self._reactor.callFromThread(self.reopen_access_log)

    def reopen_access_log(self) -> None:
        """Go on in a new access log, as the old one has been moved away."""
        self._gateway.parts.access_log.reopen()

    def _hung_up(self) -> None:
        if self._has_terminal and not _has_terminal():  # its window was closed
            with suppress(ReactorNotRunning):
                self._reactor.stop()
        elif self._read is None:
            _log.warn("SIGHUP: nothing to reload, as the configuration was made by a program, not read from a file")
        else:
            self.reload()

    def reload(self) -> None:
        """Begin to read the configuration and activate it; if a reload is under way, do so once more after it."""
        if self._is_reloading:
            self._is_asked_again = True
        elif self._gateway.running:
            self._is_reloading = True
            reloading = Deferred.fromCoroutine(self._reload())
            reloading.addErrback(lambda failure: _log.failure("the reload failed", failure)).addCallback(self._reloaded)

    def _reloaded(self, _: object) -> None:
        self._is_reloading = False
        if self._is_asked_again:
            self._is_asked_again = False
            self.reload()

    async def _reload(self) -> None:
        gateway = self._gateway
        gateway.manager.reloading()
        # a socket that the last reload has stopped is closed by then, and can be bound again
        await deferLater(self._reactor, 0)
        if not self._gateway.running:
            return
        result = "refused"
        try:
            configuration = await self._change()
            result = "applied"
            self._on_applied(configuration)
        except FingergwError as error:
            _log_refused(error)
        finally:
            gateway.last_reload_applied = result == "applied"
            gateway.reloads[result] += 1
            await gateway.tell_ready()

    async def _change(self) -> model.Config:
        """Read the configuration, and activate it.

        :raises FingergwError: it cannot be activated, and nothing has changed.
        """
        gateway, previous = self._gateway, self._gateway.parts
        assert self._read is not None
        configuration, problems = await self._in_thread(self._read)
        process = previous.configuration.process
        if configuration.process != process:
            _log.warn("[process] has changed, which needs a restart; the rest is reloaded")
        drafted = await self._in_thread(partial(_draft, configuration, problems, previous, gateway.environment))
        try:
            await self._open(drafted)
            parts, warnings = await self._in_thread(partial(_finish, drafted))
            await gateway.change_to(parts)
        except BaseException:
            drafted.give_up()
            raise
        _log.info("configuration reloaded")
        _warn(warnings)
        return parts.configuration

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread.

        :raises FingergwError: meanwhile the gateway has begun to stop.
        """
        found = await in_thread(self._reactor, work)
        if not self._gateway.running:
            raise FingergwError("the gateway is stopping")
        return found

    async def _open(self, drafted: Draft) -> None:
        """Open backends, of which there may be many: queries are answered in between."""
        ends = time.monotonic() + _TURN_SECONDS
        for _ in drafted.open():
            if time.monotonic() > ends:
                await deferLater(self._reactor, 0)
                ends = time.monotonic() + _TURN_SECONDS


def _draft(configuration: model.Config, problems: list[Problem], previous: Parts, environment: Environment) -> Draft:
    """Check a configuration on this machine.

    :param problems: those in its file.
    :raises ConfigError: there are some, or what it names is wrong.
    """
    process = previous.configuration.process
    if configuration.process != process:
        problems = [*problems, *process_problems(configuration)]
        configuration = changed(configuration, process=process)
    drafted = draft(configuration, previous, environment, opens=not problems, warns=not problems)
    _raise_if_any([*problems, *drafted.problems], configuration)
    return drafted


def _finish(drafted: Draft) -> tuple[Parts, list[str]]:
    """Return the parts, and the warnings with their lines.

    :raises ConfigError: a backend could not be opened.
    """
    configuration = drafted.parts.configuration
    _raise_if_any(drafted.problems, configuration)
    return finish(drafted), located(drafted.parts.warnings, configuration.source)


def _raise_if_any(problems: list[Problem], configuration: model.Config) -> None:
    if problems:
        raise to_error(problems, configuration.source)


def _log_refused(error: FingergwError) -> None:
    """Log why a configuration is not activated."""
    why, advice = str(error), _NOT_BOUND if isinstance(error, ListenError) else ""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _log.error("{problem}", problem=problem)
        why = error.count
    _log.error("{why}; the previous configuration stays active{advice}", why=why, advice=advice)


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        _log.warn("{warning}", warning=warning)


def _not_found(failure: Failure) -> None:
    if isinstance(failure.value, OSError):  # what looks for them cannot be imported
        why = "warnings about the configuration cannot be looked for: {why}; fingergw check can, when that is mended"
        _log.warn(why, why=failure.value.strerror)
    else:
        _log.failure("looking for warnings failed", failure)


def _has_terminal() -> bool:
    """Tell whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
