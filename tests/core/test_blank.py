"""Texts that leave nothing to see."""

from __future__ import annotations

import time

import pytest

from fingergw.core.text import is_blank


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "\r\n\t \x0b\x0c",
        "\0\x07\x08",
        "\x7f\x85",
        "\u00a0\u3000\u2028",
        "\ufeff",
        "\u200b\u200d\u2060",
        "\u202e",
    ],
)
def test_blank(text: str) -> None:
    """Spaces of any kind, line ends, controls, and marks that take no room are nothing."""
    assert is_blank(text)


@pytest.mark.parametrize(
    "text", ["x", " .\n", "\n\n\u00e9", "\0x", "日", "\U0001f600", "\ue000", "\ud800", "\u0301", "0"]
)
def test_not_blank(text: str) -> None:
    """Whatever may be seen is something, in whichever script, or in none that Python knows."""
    assert not is_blank(text)


@pytest.mark.parametrize("text", [" " * 65536, "\u200b" * 65536, "\n" * 65536, "\0" * 65536, " " * 65536 + "x"])
def test_is_fast(text: str) -> None:
    """It takes time by the length alone: here, hundredths of a second at most."""
    started = time.process_time()
    is_blank(text)
    assert time.process_time() - started < 0.1
