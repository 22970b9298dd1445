"""What signals make a running gateway do: reload its configuration, and reopen its access log."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, TypeAlias

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fingergw.app.build import build, process_problems
from fingergw.app.gateway import Gateway
from fingergw.app.parts.parts import Parts
from fingergw.config import model
from fingergw.config.problems import Problem, located, to_error
from fingergw.core.errors import ConfigError, FingergwError, ListenError
from fingergw.core.settings import changed

_log = Logger()
_NOT_BOUND = "; a restart can bind what needs root, or what another listener still uses"

Read: TypeAlias = Callable[[], tuple[model.Config, list[Problem]]]


class Operation(MultiService):
    """A gateway that reloads its configuration on SIGHUP, and reopens its access log on SIGUSR1.

    :param read: reads the configuration, as :func:`fingergw.config.read` does.
    :param on_applied: called with each configuration that a reload has activated.
    """

    def __init__(
        self,
        gateway: Gateway,
        read: Read,
        on_applied: Callable[[model.Config], object] = lambda _: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        gateway.setServiceParent(self)
        self._gateway = gateway
        self._read = read
        self._on_applied = on_applied
        self._reactor = gateway.reactor
        self._earlier_handlers: dict[int, Any] = {}
        self._has_terminal = False
        self._is_reloading = False
        self._is_asked_again = False

    @property
    def failure(self) -> FingergwError | None:
        """Why the gateway has stopped by itself; None if it has not."""
        return self._gateway.failure

    def startService(self) -> None:
        """Begin to serve, and to handle signals."""
        self._has_terminal = _has_terminal()
        for number, act in ((signal.SIGHUP, self._hung_up), (signal.SIGUSR1, self.reopen_access_log)):
            self._earlier_handlers[number] = signal.signal(number, partial(self._on_signal, act))
        _warn(self._gateway.parts)
        # last: a supervisor that learns that it is ready may send a signal at once
        super().startService()  # type: ignore[no-untyped-call]

    def _on_signal(self, act: Callable[[], object], number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(act)
        if callable(earlier := self._earlier_handlers.get(number)):  # it has another log to reopen
            earlier(number, frame)

    def stopService(self) -> Deferred[Any]:
        """Stop serving, and restore the earlier signal handlers.

        :return: fires when that is done.
        """
        stopping: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        return stopping.addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        for number, earlier in self._earlier_handlers.items():
            # the default would kill the process, which is about to end by itself
            signal.signal(number, signal.SIG_IGN if earlier == signal.SIG_DFL else earlier)
        self._earlier_handlers.clear()
        return result

    def reopen_access_log(self) -> None:
        """Go on in a new access log, as the old one has been moved away."""
        self._gateway.parts.access_log.reopen()

    def _hung_up(self) -> None:
        if self._has_terminal and not _has_terminal():  # its window was closed
            with suppress(ReactorNotRunning):
                self._reactor.stop()
        else:
            self.reload()

    def reload(self) -> None:
        """Begin to read the configuration and activate it; if a reload is under way, do so once more after it."""
        if self._is_reloading:
            self._is_asked_again = True
        elif self.running:
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
        if not self.running:
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
        configuration, problems = self._read()
        process = previous.configuration.process
        if configuration.process != process:
            problems = [*problems, *process_problems(configuration)]
            _log.warn("[process] has changed, which needs a restart; the rest is reloaded")
            configuration = changed(configuration, process=process)
        parts, found = build(configuration, previous, gateway.environment, opens=not problems, is_whole=not problems)
        if problems or found:
            raise to_error([*problems, *found], configuration.source)
        try:
            await gateway.change_to(parts)
        except BaseException:
            for close in parts.closers(keeping=previous):
                close()
            raise
        _log.info("configuration reloaded")
        _warn(parts)
        return configuration


def _log_refused(error: FingergwError) -> None:
    """Log why a configuration is not activated."""
    why, advice = str(error), _NOT_BOUND if isinstance(error, ListenError) else ""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _log.error("{problem}", problem=problem)
        why = error.count
    _log.error("{why}; the previous configuration stays active{advice}", why=why, advice=advice)


def _warn(parts: Parts) -> None:
    for warning in located(parts.warnings, parts.configuration.source):
        _log.warn("{warning}", warning=warning)


def _has_terminal() -> bool:
    """Tell whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
