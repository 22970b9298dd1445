"""What the event log is told of backends that fail."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.core.outcome import Failed
from fingergw.core.text import escape

_log = Logger()


def log_failed(text: str, failed: Failed, backend: str, **fields: Any) -> None:
    """Log that a backend failed, with a traceback where that was not foreseen.

    :param text: the message; ``{backend}`` and ``{why}`` are put in place, and the fields.
    """
    why = escape(failed.reason)
    if failed.error is None:
        _log.error(text, backend=backend, why=why, **fields)
    else:
        failure = Failure(failed.error, type(failed.error), failed.error.__traceback__)
        _log.failure(text, failure, backend=backend, why=why, **fields)
