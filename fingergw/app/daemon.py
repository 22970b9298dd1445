"""Run a gateway in a process of its own: its log, pid file, root and user, in the foreground or as a daemon."""

from __future__ import annotations

import errno
import gc
import os
import platform
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import twisted
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner, globalLogPublisher

from fingergw.app import background, signals
from fingergw.app.gateway import Gateway
from fingergw.app.pid_file import PidFile
from fingergw.app.privileges import identity_of
from fingergw.config import tables
from fingergw.core.errors import FingergwError, ListenError, PrivilegeError
from fingergw.net.identity import Identity
from fingergw.net.root import inside
from fingergw.telemetry.event_log import EventLog
from fingergw.telemetry.log_file import open_log_as, own_descriptor

_log = Logger()
_DAEMON_UMASK = 0o077


@frozen
class Settings:
    """What the process is to be.

    :param log: what the event log is written to, for messages; None for standard output.
    :param pid_file: None without one.
    :param chroot: None to keep the root.
    :param umask: None to keep it; a daemon's becomes 077.
    """

    daemonize: bool
    event_log: EventLog
    log: str | None
    pid_file: PidFile | None
    rundir: str
    chroot: str | None
    umask: int | None
    identity: Identity


def settings(options: Mapping[str, Any], process: tables.Process, log: tables.Log) -> Settings:
    """Return what the process is to be.

    :param options: those of the command line.
    :param process: ``[process]``, with what the command line says of it.
    :raises PrivilegeError: the process cannot change its user, group or root so.
    :raises FingergwError: a daemon is to log to standard output, which it does not have.
    """
    daemonize = bool(options["daemonize"])
    pidfile = options["pidfile"] or ("fingergw.pid" if daemonize else "")
    logfile = options["logfile"] or ("fingergw.log" if daemonize else "-")
    if daemonize and logfile == "-":
        raise FingergwError("a daemon has no standard output to log to; name a file in --logfile")
    chroot = None if process.chroot is None else str(process.chroot)
    event_log = _event_log(logfile, chroot, options["prefix"] if options["syslog"] else None)
    event_log.follow(log)
    return Settings(
        daemonize=daemonize,
        event_log=event_log,
        log="syslog" if options["syslog"] else None if logfile == "-" else logfile,
        pid_file=PidFile(Path(pidfile).absolute()) if pidfile else None,
        rundir=options["rundir"],
        chroot=chroot,
        umask=process.umask if options["umask"] is None else options["umask"],
        identity=identity_of(process),
    )


def _event_log(logfile: str, chroot: str | None, prefix: str | None) -> EventLog:
    path = logfile if logfile == "-" else str(Path(logfile).absolute())
    later_path: str | None = path
    if chroot is not None and own_descriptor(path) is None:
        found = inside(Path(path), Path(chroot).absolute())
        later_path = None if found is None else str(found)
    return EventLog(path, later_path, prefix)


def run(gateway: Gateway, own: Settings, reactor: Any) -> None:
    """Run a gateway until SIGTERM or SIGINT tells it to stop.

    :raises FingergwError: it could not be started, or stopped because of a failure.
    :raises SystemExit: in the process that has become a daemon's launcher: the daemon runs.
    """
    _Run(gateway, own, reactor).run()
    if gateway.failure is not None:
        raise gateway.failure


class _Run:
    """One life of the process, from the first file that it creates to the last that it removes."""

    def __init__(self, gateway: Gateway, own: Settings, reactor: Any) -> None:
        self._gateway, self._own, self._reactor = gateway, own, reactor
        self._launcher: background.Launcher | None = None
        self._is_logging = False
        self._stopped_by: signal.Signals | None = None

    def run(self) -> None:
        signals.hold()  # from here on there is something that a stop must remove
        if self._own.daemonize:
            self._launcher = background.daemonize(self._reactor, str(self._own.log))
        for number in (signal.SIGTERM, signal.SIGINT):
            signals.add(partial(self._stop, number), number)
        signals.add(partial(self._reactor.callFromThread, self._own.event_log.reopen), signal.SIGUSR1)
        try:
            self._open_log()
            self._start()
            self._reactor.callWhenRunning(self._running)
            # until ours is back in its place, the reactor's own handler would end the process by that signal
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            self._reactor.run()
            _log.info("Server Shut Down.")
            globalLogPublisher.removeObserver(self._own.event_log)
        except Exception as error:
            self._failed(error)
            if isinstance(error, OSError):
                raise FingergwError(_explained(error)) from None
            raise
        finally:
            self._end()

    def _open_log(self) -> None:
        own = self._own
        if own.umask is not None:
            os.umask(own.umask)  # before the log and the pid file are created
        own.event_log.open(self._reactor, partial(open_log_as, identity=own.identity))
        globalLogBeginner.beginLoggingTo([own.event_log])
        _log.info(
            "starting up: Python {python} ({executable}), Twisted {twisted}, {reactor}",
            python=platform.python_version(),
            executable=sys.executable,
            twisted=twisted.__version__,
            reactor=type(self._reactor).__qualname__,
        )
        self._is_logging = True

    def _start(self) -> None:
        own = self._own
        if own.pid_file is not None:
            own.pid_file.create(keeps_folder=own.chroot is None)
        if own.chroot is not None:
            os.chroot(own.chroot)
        os.chdir("/" if own.chroot is not None and own.rundir == "." else own.rundir)
        if own.umask is None and own.daemonize:
            os.umask(_DAEMON_UMASK)
        if own.pid_file is not None:
            own.pid_file.write()
        self._gateway.privilegedStartService()
        own.identity.assume()
        self._gateway.startService()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._gateway.stopService)

    def _running(self) -> None:
        gc.freeze()  # what is there now stays: looking through all of it takes longer than many answers
        signals.release()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            Deferred.fromCoroutine(self._tell(launcher))

    async def _tell(self, launcher: background.Launcher) -> None:
        """Tell a daemon's launcher how the start has gone, once that is known."""
        try:
            await self._gateway.bound()
        except ListenError as error:  # which ends the gateway, too
            launcher.failed(f"{error}; {background.log_advice(str(self._own.log))}")
            return
        if self._stopped_by is None:
            launcher.started()
        else:
            launcher.failed(f"{self._stopped_by.name} told it to stop while it started")

    def _stop(self, number: signal.Signals) -> None:
        self._stopped_by = number
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # it is stopping already
            self._reactor.stop()

    def _failed(self, error: Exception) -> None:
        """Tell why it cannot start where the caller of :func:`run` cannot: in the log, and to a daemon's launcher."""
        is_foreseen = isinstance(error, (OSError, FingergwError))
        if self._is_logging and not is_foreseen:
            _log.failure("fingergw cannot go on")
        elif self._is_logging and self._own.log is not None:  # otherwise it is printed there
            _log.critical("{error}", error=_explained(error))
        self._reactor.iterate()  # sockets that were bound are closed in a turn of the reactor
        self._remove_pid_file()  # before the launcher ends, as it may be started again at once
        if self._launcher is not None:
            advice = f"; {background.log_advice(str(self._own.log))}" if self._is_logging else ""
            self._launcher.failed(_explained(error) + advice, is_refused=isinstance(error, PrivilegeError))

    def _end(self) -> None:
        self._own.event_log.close()  # who waits for the end of the pid file finds all of it
        self._remove_pid_file()
        signals.ignore()  # one that comes late must not change the exit code

    def _remove_pid_file(self) -> None:
        if self._own.pid_file is not None:
            self._own.pid_file.remove()


def _explained(error: Exception) -> str:
    """Return an error's message; that of an OSError names the file."""
    if isinstance(error, FingergwError):
        return str(error)
    if not isinstance(error, OSError):
        return f"unforeseen {type(error).__name__}: {error}"
    is_plain = error.strerror == os.strerror(errno.ENOENT)  # a log's own error has advice already
    advice = "; create it (mkdir -p), or name another" if is_plain else ""
    return f"{error.filename or 'cannot start'}: {error.strerror}{advice}"
