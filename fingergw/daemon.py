"""Run a service as twistd does: in the foreground or as a daemon, with pid file, log, chroot and another user."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.application import app
from twisted.application.service import IService, IServiceMaker
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    eventAsText,
)
from twisted.python.util import gidFromString, uidFromString
from twisted.scripts import _twistd_unix as unix  # where Twisted defines what twistd re-exports
from zope.interface import implementer

from fingergw.config import model
from fingergw.errors import FingergwError, PrivilegeError
from fingergw.query import printable

_log = Logger()
_LOG_KEYS = ("log_time", "log_level", "log_namespace", "log_system")


def settings(options: Mapping[str, Any], process: model.Process, log: model.Log) -> unix.ServerOptions:
    """Return twistd's own options.

    :param options: those of the command line; they win.
    :raises PrivilegeError: what is asked for takes root, or is not enough to leave it.
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
    own = unix.ServerOptions()
    own.update(
        nodaemon=not daemonize,
        pidfile=str(Path(pidfile).absolute()) if pidfile else "",
        logfile=options["logfile"] or ("fingergw.log" if daemonize else None),
        syslog=options["syslog"],
        prefix=options["prefix"],
        rundir=options["rundir"],
        chroot=chroot,
        uid=uid,
        gid=gid,
        umask=umask,
        no_save=True,
    )

    def observer() -> FilteringLogObserver:
        level = LogLevelFilterPredicate(LogLevel.levelWithName(log.level))
        # two lines for each request that an http backend makes would tell nobody anything
        level.setLogLevelForNamespace("twisted.web.client._HTTP11ClientFactory", LogLevel.warn)
        # a daemon's access log comes this way, and has no level
        level.setLogLevelForNamespace("stdout", LogLevel.info)
        whole = unix.UnixAppLogger(own)._getLogObserver()  # noqa: SLF001  # what twistd would use
        if not ILogObserver.providedBy(whole):  # syslog's
            whole = LegacyLogObserverWrapper(whole)
        return FilteringLogObserver(harmless(whole), [level, _Seldom()])

    own["logger"] = observer
    return own


def run(service: IService, own: unix.ServerOptions, reactor: Any) -> None:
    """Run a service as twistd would, until it is told to stop.

    :param own: from :func:`settings`.
    :raises FingergwError: it could not be started, or had to stop by itself.
    """
    own.subCommand, own.subOptions = "fingergw", None
    own.loadedPlugins = {"fingergw": _Maker(service)}
    runner = _Runner(own)
    # twistd would end by the same signal again; a stop that was asked for is no failure
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda *_: reactor.callFromThread(_stop, reactor))
    try:
        runner.run()
    except (OSError, FingergwError) as caught:
        error = caught
        if isinstance(caught, OSError):
            error = FingergwError(f"{caught.filename or 'cannot start'}: {caught.strerror}")
        if not own["nodaemon"]:
            _log.critical("{error}", error=str(error))
        reactor.iterate()  # what was bound is closed in a turn of the reactor
        raise error from None
    if runner._exitSignal is not None:  # noqa: SLF001  # as twistd does
        app._exitWithSignal(runner._exitSignal)  # noqa: SLF001
    failure = getattr(service, "failure", None)
    if failure is not None:
        raise failure


@implementer(ILogFilterPredicate)
@attrs.define
class _Seldom:
    """Let a listening port's events through once a minute: without a descriptor left, each connection has three."""

    _next_at: float = 0.0

    def __call__(self, event: LogEvent) -> Any:
        if event.get("log_namespace") != "twisted.internet.tcp.Port" or event["log_level"] is not LogLevel.info:
            return PredicateResult.maybe
        if event["log_time"] < self._next_at:
            return PredicateResult.no
        self._next_at = event["log_time"] + 60.0
        return PredicateResult.maybe


def harmless(observer: ILogObserver) -> ILogObserver:
    """Return a log observer that hands on to another what can do a terminal no harm, tracebacks included.

    An error's text may be an upstream's or a client's. What is not printable is escaped, but for line ends and tabs;
    after a line end the other observer indents, so that nothing can pass for an event of its own.
    """

    @implementer(ILogObserver)
    def hand_on(event: LogEvent) -> None:
        text = printable(eventAsText(event, includeTimestamp=False, includeSystem=False), kept="\n\t")
        kept: LogEvent = {key: event[key] for key in _LOG_KEYS if key in event}
        observer({**kept, "log_format": "{text}", "text": text})

    return hand_on  # type: ignore[no-any-return]  # implementer has no types for functions


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it is stopping already
        reactor.stop()


class _Runner(unix.UnixApplicationRunner):
    """twistd, but that it changes its user also where passwd does not know that, or is out of reach in a chroot."""

    def preApplication(self) -> None:
        super().preApplication()  # type: ignore[no-untyped-call]
        gid = self.config["gid"]
        self._groups = [] if gid is None else [gid]
        if self.config["uid"] is not None:
            with suppress(KeyError):
                self._groups = os.getgrouplist(pwd.getpwuid(self.config["uid"]).pw_name, gid)

    def shedPrivileges(self, euid: bool, uid: int | None, gid: int | None) -> None:
        try:
            if gid is not None:
                os.setgroups(self._groups)
                os.setgid(gid)
            if uid is not None:
                os.setuid(uid)
        except OSError as error:
            raise PrivilegeError(f"cannot become user {uid} and group {gid}: {error.strerror}") from None


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
