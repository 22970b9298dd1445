"""Run a service as twistd does: in the foreground or as a daemon, with pid file, log, chroot and another user."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.application import app
from twisted.application.service import IService, IServiceMaker
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.util import gidFromString, uidFromString
from twisted.scripts import _twistd_unix as unix  # where Twisted defines what twistd re-exports
from zope.interface import implementer

from fingergw.app.pid_file import PidFile
from fingergw.config import tables
from fingergw.core.errors import FingergwError, PrivilegeError
from fingergw.net.identity import Identity
from fingergw.net.root import inside
from fingergw.telemetry.event_log import EventLog
from fingergw.telemetry.log_file import opened_for, own_descriptor

_log = Logger()


def settings(options: Mapping[str, Any], process: tables.Process, log: tables.Log) -> unix.ServerOptions:
    """Return twistd's own options, and with them ``event_log``, ``identity`` and ``pid_file``, None if there is none.

    :param options: those of the command line; they win.
    :raises PrivilegeError: what is asked for takes root, or is not enough to leave it.
    :raises FingergwError: a daemon is to log to the standard output that it does not have.
    """
    uid, gid, chroot, umask = options["uid"], options["gid"], options["chroot"], options["umask"]
    if uid is None and process.user is not None:
        uid = uidFromString(process.user)
    if gid is None and process.group is not None:
        gid = gidFromString(process.group)
    if chroot is None and process.chroot is not None:
        chroot = str(process.chroot)
    if umask is None:
        umask = process.umask
    if os.geteuid() != 0 and (uid not in (None, os.getuid()) or gid not in (None, os.getgid()) or chroot):
        raise PrivilegeError(
            "changing the user, the group or the root takes root: start it as root, "
            "or remove user, group and chroot from [process]"
        )
    if os.geteuid() != 0:
        uid = gid = None
    elif uid is not None and gid is None:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            raise PrivilegeError(f"user {uid} is not in passwd, so name its group too: [process] group") from None
    daemonize = bool(options["daemonize"])
    pidfile = options["pidfile"] or ("fingergw.pid" if daemonize else "")
    logfile = options["logfile"] or ("fingergw.log" if daemonize else "-")
    if daemonize and logfile == "-":
        raise FingergwError("a daemon has no standard output to log to: name a file in --logfile")
    own = unix.ServerOptions()
    own.update(
        nodaemon=not daemonize,
        pidfile="",  # twistd's own would follow a link, and be left behind
        logfile=logfile,
        syslog=options["syslog"],
        prefix=options["prefix"],
        rundir=options["rundir"],
        chroot=chroot,
        uid=uid,
        gid=gid,
        umask=umask,
        no_save=True,
    )

    event_log = _event_log(logfile, chroot, options["prefix"] if options["syslog"] else None)
    event_log.set_level(log.level)
    own.update(
        event_log=event_log,
        identity=Identity.of(uid, gid),
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
    :raises FingergwError: it could not be started, or had to stop by itself.
    """
    own.subCommand, own.subOptions = "fingergw", None
    own.loadedPlugins = {"fingergw": _Maker(service)}
    event_log: EventLog = own["event_log"]

    def logger() -> EventLog:
        event_log.open(reactor, partial(opened_for, identity=own["identity"]))
        return event_log

    if own["umask"] is not None:
        os.umask(own["umask"])  # for the log and the pid file, too
    own["logger"] = logger
    runner = _Runner(own)
    # twistd would end by the same signal again; a stop that was asked for is no failure
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda *_: reactor.callFromThread(_stop, reactor))
    # from the start, as logrotate may not wait until all logs are open
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(event_log.reopen))
    try:
        runner.run()
    except (OSError, FingergwError) as caught:
        error = caught
        if isinstance(caught, OSError):
            error = FingergwError(f"{caught.filename or 'cannot start'}: {caught.strerror}")
        if own["logfile"] != "-" or own["syslog"]:  # and not where it is printed to
            _log.critical("{error}", error=str(error))
        reactor.iterate()  # what was bound is closed in a turn of the reactor
        raise error from None
    finally:
        event_log.close()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a late one, too, is no reason to end otherwise
    if runner._exitSignal is not None:  # noqa: SLF001  # as twistd does
        app._exitWithSignal(runner._exitSignal)  # noqa: SLF001
    failure = getattr(service, "failure", None)
    if failure is not None:
        raise failure


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it is stopping already
        reactor.stop()


class _Runner(unix.UnixApplicationRunner):
    """twistd, but for its pid file, and that it changes its user also where passwd does not know that."""

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


@implementer(IServiceMaker)
@attrs.frozen
class _Maker:
    """What twistd takes for a plug-in."""

    service: IService
    tapname: str = "fingergw"
    description: str = "finger gateway"
    options: None = None

    def makeService(self, _: object) -> IService:
        return self.service
