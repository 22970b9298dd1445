"""What an operator asks of a gateway that runs, by signals: to reload its configuration, to reopen its logs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, TypeAlias

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fingergw.app.build import compile_parts
from fingergw.app.gateway import Gateway
from fingergw.app.parts.parts import closing_of
from fingergw.config import model
from fingergw.config.problems import Problem, to_error
from fingergw.core.errors import ConfigError, FingergwError, ListenError
from fingergw.core.settings import changed

_log = Logger()

Read: TypeAlias = Callable[[], tuple[model.Config, list[Problem]]]


class Operation(MultiService):
    """A gateway that reloads its configuration on SIGHUP, and reopens its logs on SIGUSR1.

    :param read: reads the configuration, as :func:`fingergw.config.read` does.
    :param on_applied: called with a configuration once it is active.
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
        self._before: dict[int, Any] = {}
        self._has_terminal = False
        self._is_reloading = False
        self._is_asked_again = False

    @property
    def failure(self) -> FingergwError | None:
        """Why the gateway had to stop by itself; None if it did not."""
        return self._gateway.failure

    def startService(self) -> None:
        """Begin to serve, and to listen to signals."""
        self._has_terminal = _has_terminal()
        for number, act in ((signal.SIGHUP, self._hung_up), (signal.SIGUSR1, self.reopen_access_log)):
            self._before[number] = signal.signal(number, partial(self._on_signal, act))
        _warn(self._gateway.parts.warnings)
        # after that: who learns that it is ready may send one at once
        super().startService()  # type: ignore[no-untyped-call]

    def _on_signal(self, act: Callable[[], object], number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(act)
        if callable(before := self._before.get(number)):  # has another log to reopen
            before(number, frame)

    def stopService(self) -> Deferred[Any]:
        """Stop serving, and leave the signals to who had them before.

        :return: fires when that is done.
        """
        stopping: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        return stopping.addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        for number, before in self._before.items():
            # the process is about to end, which a late one must not do for it
            signal.signal(number, signal.SIG_IGN if before == signal.SIG_DFL else before)
        self._before.clear()
        return result

    def reopen_access_log(self) -> None:
        """Go on in a new access log, as the old one has been moved away."""
        self._gateway.parts.access_log.reopen()

    def _hung_up(self) -> None:
        if self._has_terminal and not _has_terminal():  # whoever closes a window means the program that runs in it
            with suppress(ReactorNotRunning):
                self._reactor.stop()
        else:
            self.reload()

    def reload(self) -> None:
        """Begin to activate the configuration as its file is now; once more if that is under way already."""
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
        # a socket that the last one let go is closed by then, and can be bound again
        await deferLater(self._reactor, 0)
        if not self.running:
            return
        result = "refused"
        try:
            configuration = await self._change()
            result = "applied"
            self._on_applied(configuration)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("{problem}", problem=problem)
            count = len(error.problems)
            _log.error("{count} to mend; the configuration stays as it was", count=count)
        except ListenError as error:
            _log.error(
                "{error}; the configuration stays as it was, and a restart can bind what a reload has not the rights "
                "for, or what a listener still has",
                error=str(error),
            )
        except FingergwError as error:
            _log.error("{error}; the configuration stays as it was", error=str(error))
        finally:
            gateway.last_reload_applied = result == "applied"
            gateway.reloads[result] += 1
            await gateway.tell_ready()

    async def _change(self) -> model.Config:
        """Activate the configuration.

        :raises FingergwError: it cannot be; nothing has changed.
        """
        gateway = self._gateway
        before = gateway.parts
        configuration, problems = self._read()
        process = before.configuration.process
        if configuration.process != process:
            _log.warn("[process] has changed, which takes a restart; the rest is reloaded")
            configuration = changed(configuration, process=process)
        parts, found = compile_parts(configuration, gateway, before, opens=not problems)
        if problems or found:
            raise to_error([*problems, *found], configuration.source)
        try:
            await gateway.change_to(parts)
        except BaseException:
            for close in closing_of(parts, but=before):
                close()
            raise
        _log.info("configuration reloaded")
        _warn(parts.warnings)
        return configuration


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        _log.warn("{warning}", warning=warning)


def _has_terminal() -> bool:
    """Tell whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
