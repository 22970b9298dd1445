"""``twistd fingergw``, for those who live in twistd."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from fingergw import config
from fingergw.app import build
from fingergw.app.clock import use_monotonic_clock
from fingergw.app.privileges import becoming
from fingergw.app.reload import Operation
from fingergw.config import tables
from fingergw.core.errors import ConfigError


class Options(usage.Options):
    """Options of ``twistd fingergw``."""

    synopsis = "[--config FILE]"
    longdesc = "Run the gateway. What [process] and log.level say is for twistd's own options to say."
    optParameters: ClassVar = [["config", "c", "fingergw.toml", "The configuration file"]]


def makeService(options: Options) -> IService:
    """Return the service that a configuration file describes, which it reads again on SIGHUP.

    :raises SystemExit: the file has mistakes; all are told.
    """
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    path = Path(options["config"])
    try:
        configuration, problems = config.read(path, hint=True)
        # which twistd's own options say
        process = becoming(tables.Process(), options.parent or {})
        build.refuse(configuration, problems, reactor, process)
        gateway = build.make_service(configuration, reactor, process)
    except ConfigError as error:
        print(f"fingergw: {len(error.problems)} to mend:\n{error}", file=sys.stderr)
        raise SystemExit(78) from None  # sysexits.h
    return Operation(gateway, partial(config.read, path.absolute()))
