"""The clock that all deadlines go by."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Have a reactor's timers go by a clock that is never set, before it has any.

    Twisted's is the time of day: set back, it would stop all deadlines for as long, and set forward, expire them.
    """
    reactor.seconds = time.monotonic
