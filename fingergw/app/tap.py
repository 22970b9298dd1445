"""``twistd fingergw``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.logger import Logger
from twisted.python import usage

from fingergw.app import signals
from fingergw.core.errors import ConfigError, FingergwError, PrivilegeError

if TYPE_CHECKING:
    from twisted.application.service import IService

_log = Logger()


class Options(usage.Options):
    """Options of ``twistd fingergw``."""

    synopsis = "[--config FILE]"
    longdesc = "Run the gateway. [process] and log.level are ignored: use twistd's own options instead."
    optParameters: ClassVar = [
        ["config", "c", None, "The configuration file [default: ./fingergw.toml; if there is none, the packaged one]"]
    ]


def makeService(options: Options) -> IService:
    """Return the service that a configuration file describes; on SIGHUP it reads the file again.

    :raises SystemExit: the file has mistakes; all have been printed.
    """
    # twistd's own options stand in for [process]
    theirs: Mapping[str, Any] = options.parent or {}
    signals.hold(signal.SIGHUP, signal.SIGUSR1)
    if theirs.get("nodaemon"):  # else also what twistd leaves to wait for its daemon would be deaf
        signals.hold(signal.SIGTERM)
    from twisted.internet import reactor

    from fingergw.app.clock import use_monotonic_clock

    use_monotonic_clock(reactor)
    try:
        gateway = _made(options["config"], theirs, reactor)
    except ConfigError as error:
        print(f"fingergw: {error.report}", file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from None
    sys.excepthook = partial(_refused, sys.excepthook, is_daemon=not theirs.get("nodaemon"))
    signals.drop(signal.SIGUSR1)  # no log is open that could be reopened
    signals.release(signal.SIGUSR1)  # for twistd, which acts on it if nobody does
    reactor.callWhenRunning(signals.release)
    return gateway


def _made(path: str | None, theirs: Mapping[str, Any], reactor: Any) -> IService:
    from fingergw import config
    from fingergw.app import build
    from fingergw.app.privileges import becoming
    from fingergw.app.reload import Operation
    from fingergw.config import tables
    from fingergw.config.finding import find

    place = find(path)
    configuration, problems = config.read(place.path, base=place.base, hint=True)
    process = becoming(tables.Process(), theirs)
    build.raise_if_problems(configuration, problems, reactor, process)
    gateway = build.make_gateway(configuration, reactor, process)
    there = place.absolute()  # a reload must find the same file, also from another working folder
    gateway.operation = Operation(gateway, partial(config.read, there.path, base=there.base))
    return gateway


def _refused(
    otherwise: Any, kind: type[BaseException], error: BaseException, traceback: Any, *, is_daemon: bool
) -> None:
    """Tell why twistd does not start, in the place of a traceback.

    :raises SystemExit: with the exit code that ``fingergw`` has.
    """
    if not isinstance(error, FingergwError):
        otherwise(kind, error, traceback)
        return
    if is_daemon:
        _log.critical("{error}", error=str(error))
    else:
        print(f"fingergw: {error}", file=sys.__stderr__)  # sys.stderr is twistd's log
    raise SystemExit(os.EX_CONFIG if isinstance(error, PrivilegeError) else 1)
