"""Reload a gateway again and again while clients ask it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.support.reload_storm import storm


def run(queries: int = 20_000) -> None:
    """Print how the queries of a storm were answered, and how long it took.

    :raises SystemExit: one of them was lost, or answered by what was never active.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told, done = storm(Path(folder), queries=queries, reloads=20)
    lost = {text: count for text, count in told.items() if not text.startswith(b"number ")}
    print(
        f"{done} reloads under {sum(told.values())} queries in {time.monotonic() - began:.1f} s; lost: {lost or 'none'}"
    )
    if lost or sum(told.values()) != queries:
        raise SystemExit("queries were lost")
