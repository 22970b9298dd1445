"""``twistd fingergw``, for those who live in twistd."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.application.service import IService
from twisted.python import usage

from fingergw import assemble, config
from fingergw.config.problems import to_error
from fingergw.errors import ConfigError
from fingergw.operation import Operation


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

    cast(Any, reactor).seconds = time.monotonic  # Twisted's is the time of day, which can be set
    path = Path(options["config"])
    try:
        configuration, problems = config.read(path)
        if problems:
            raise to_error([*problems, *assemble.problems(configuration, reactor)], configuration.source)
        gateway = assemble.make_service(configuration, reactor)
    except ConfigError as error:
        print(f"fingergw: {len(error.problems)} to mend:\n{error}", file=sys.stderr)
        raise SystemExit(78) from None  # sysexits.h
    return Operation(gateway, partial(config.read, path.absolute()))
