"""``twistd fingergw``."""

from __future__ import annotations

import sys
from functools import partial
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from fingergw import config
from fingergw.app import build
from fingergw.app.clock import use_monotonic_clock
from fingergw.app.privileges import becoming
from fingergw.app.reload import Operation
from fingergw.config import tables
from fingergw.config.finding import find
from fingergw.core.errors import ConfigError


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
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    place = find(options["config"])
    try:
        configuration, problems = config.read(place.path, base=place.base, hint=True)
        # twistd's own options stand in for [process]
        process = becoming(tables.Process(), options.parent or {})
        build.raise_if_problems(configuration, problems, reactor, process)
        gateway = build.make_service(configuration, reactor, process)
    except ConfigError as error:
        print(f"fingergw: {error.report}", file=sys.stderr)
        raise SystemExit(78) from None  # sysexits.h
    there = place.absolute()  # a reload must find the same file, also from another working folder
    return Operation(gateway, partial(config.read, there.path, base=there.base))
