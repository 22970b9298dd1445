"""Run a service as twistd does: in the foreground or as a daemon, with pid file, log, chroot and another user."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application import app
from twisted.application.service import Application, IService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.scripts import _twistd_unix as unix  # where Twisted defines what twistd re-exports

from fingergw.app.pid_file import PidFile
from fingergw.app.privileges import identity_of
from fingergw.config import tables
from fingergw.core.errors import FingergwError
from fingergw.net.root import inside
from fingergw.telemetry.event_log import EventLog
from fingergw.telemetry.log_file import open_log_as, own_descriptor

_log = Logger()
_MAX_MESSAGE_BYTES = 4096  # a pipe takes as much at once


def settings(options: Mapping[str, Any], process: tables.Process, log: tables.Log) -> unix.ServerOptions:
    """Return twistd's own options, and ours: ``event_log``, ``identity``, and ``pid_file``, which is None without one.

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
    own = unix.ServerOptions()
    own.update(
        nodaemon=not daemonize,
        pidfile="",  # twistd's own would follow a link, and be left behind
        logfile=logfile,
        syslog=options["syslog"],
        prefix=options["prefix"],
        rundir=options["rundir"],
        chroot=chroot,
        umask=process.umask if options["umask"] is None else options["umask"],
        no_save=True,
        event_log=event_log,
        identity=identity_of(process),
        pid_file=PidFile(Path(pidfile).absolute()) if pidfile else None,
    )
    return own


def _event_log(logfile: str, chroot: str | None, prefix: str | None) -> EventLog:
    path = logfile if logfile == "-" else str(Path(logfile).absolute())
    later_path: str | None = path
    if chroot is not None and own_descriptor(path) is None:
        found = inside(Path(path), Path(chroot).absolute())
        later_path = None if found is None else str(found)
    return EventLog(path, later_path, prefix)


def run(service: IService, own: unix.ServerOptions, reactor: Any) -> None:
    """Run a service as twistd would, until it is told to stop.

    :param own: from :func:`settings`.
    :raises FingergwError: it could not be started, or stopped because of a failure.
    """
    event_log: EventLog = own["event_log"]

    def logger() -> EventLog:
        event_log.open(reactor, partial(open_log_as, identity=own["identity"]))
        return event_log

    if own["umask"] is not None:
        os.umask(own["umask"])  # before the log and the pid file are created
    own["logger"] = logger
    runner = _Runner(own, service)
    # twistd would end by the same signal again; a stop on request is no failure
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda *_: reactor.callFromThread(_stop, reactor))
    # from the start, as logrotate may not wait until all logs are open
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(event_log.reopen))
    try:
        runner.run()
    except (OSError, FingergwError) as error:
        if own["logfile"] != "-" or own["syslog"]:  # otherwise it is printed there
            _log.critical("{error}", error=_explained(error))
        reactor.iterate()  # sockets that were bound are closed in a turn of the reactor
        raise FingergwError(_explained(error)) if isinstance(error, OSError) else error from None
    finally:
        event_log.close()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # one that comes late must not change the exit code
    if runner._exitSignal is not None:  # noqa: SLF001  # as twistd does
        app._exitWithSignal(runner._exitSignal)  # noqa: SLF001
    failure = getattr(service, "failure", None)
    if failure is not None:
        raise failure


def _explained(error: Exception) -> str:
    """Return an error's message; that of an OSError names the file."""
    if not isinstance(error, OSError):
        return str(error)
    is_plain = error.strerror == os.strerror(errno.ENOENT)  # a log's own error has advice already
    advice = "; create it (mkdir -p), or name another" if is_plain else ""
    return f"{error.filename or 'cannot start'}: {error.strerror}{advice}"


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it is stopping already
        reactor.stop()


class _Runner(unix.UnixApplicationRunner):
    """twistd, with our pid file, a user that need not be in passwd, and our words for a daemon that does not start."""

    def __init__(self, config: unix.ServerOptions, service: IService) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]
        self._service = service

    def createOrGetApplication(self) -> Any:
        """Return an application of the service alone; twistd's own would load it as a plug-in."""
        application = Application("fingergw")
        self._service.setServiceParent(application)
        return application

    def setupEnvironment(
        self, chroot: str | None, rundir: str, nodaemon: bool, umask: int | None, pidfile: object
    ) -> None:
        file: PidFile | None = self.config["pid_file"]
        if file is not None:
            file.create(keeps_folder=chroot is None)
        super().setupEnvironment(chroot, rundir, nodaemon, umask, None)  # type: ignore[no-untyped-call]
        if file is not None:
            file.write()

    def removePID(self, pidfile: object) -> None:
        if self.config["pid_file"] is not None:
            self.config["pid_file"].remove()

    def shedPrivileges(self, euid: bool, uid: int | None, gid: int | None) -> None:
        self.config["identity"].assume()

    def _formatChildException(self, exception: Exception) -> bytes:  # the daemon's message to the process that waits
        return f"1 {_explained(exception)}".encode()[:_MAX_MESSAGE_BYTES]

    def _waitForStart(self, readPipe: int) -> int:
        message = os.read(readPipe, _MAX_MESSAGE_BYTES)
        if message == b"0":
            return 0
        why = message[2:].decode(errors="replace") or "it ended while it started"
        log = "syslog" if self.config["syslog"] else self.config["logfile"]
        print(f"fingergw: the daemon did not start: {why}; for more see its log: {log}", file=sys.__stderr__)
        return 1
