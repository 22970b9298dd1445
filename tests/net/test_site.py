"""What a backend is opened with."""

from __future__ import annotations

from typing import Any

import pytest

from fingergw.net.site import Site


def test_wrong_keys() -> None:
    """A key that names no file, or no program, is answered with those that do."""
    some: Any = object()
    site = Site(
        name="x",
        reactor=some,
        resolver=some,
        timeout=None,
        is_self=some,
        files={"token_file": some, "book_file": some},
        programs={},
        given={},
        keywords=some,
        convert=some,
    )
    with pytest.raises(LookupError, match=r'^no file at the key "token"; keys .* with a file: book_file, token_file$'):
        site.file("token")
    with pytest.raises(LookupError, match=r'^no program at the key "argv"; keys .* with a program: none$'):
        site.program("argv")
