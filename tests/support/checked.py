"""Files as ``fingergw check`` sees them."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock

from fingergw import config
from fingergw.app import build
from fingergw.config.problems import to_error
from fingergw.core.errors import ConfigError
from tests.support.configuration import LISTENER as LISTENER
from tests.support.configuration import one_backend

MAP = one_backend('type = "static"\ntext = "x"').removeprefix(LISTENER)


def told(path: Path) -> list[str]:
    """Return what is wrong with a file, within a second of processor time."""
    began = time.process_time()
    try:
        found, problems = config.read(path)
        problems += build.check(found, MemoryReactorClock())[0]
        mistakes = to_error(problems, found.source).problems if problems else ()
    except ConfigError as error:
        mistakes = error.problems
    assert time.process_time() - began < 1.5
    assert all(mistake.startswith(f"{path}:") and len(mistake) < 12_000 for mistake in mistakes)
    return [mistake.removeprefix(f"{path}:") for mistake in mistakes]
