"""The clock for all deadlines."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Make a reactor's timers use a monotonic clock; call it before there are any.

    Twisted's clock is the time of day: setting that back would delay all deadlines, and setting it forward expire them.
    """
    reactor.seconds = time.monotonic
