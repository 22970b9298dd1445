"""Outcomes, which anybody's backend may make."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fingergw.core.outcome import Answered, Failed, Freshness, Missing


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answered(b"bytes"),  # type: ignore[arg-type]
        lambda: Answered("text", 30),  # type: ignore[arg-type]
        lambda: Missing(30),  # type: ignore[arg-type]
        lambda: Failed(OSError("no")),  # type: ignore[arg-type]
        lambda: Freshness(ttl="4"),  # type: ignore[arg-type]
        lambda: Freshness(stale_if_error="4"),  # type: ignore[arg-type]
    ],
)
def test_what_is_none(make: Callable[[], object]) -> None:
    """An outcome with a value of the wrong type is refused when it is created."""
    with pytest.raises(TypeError, match="must be"):
        make()
