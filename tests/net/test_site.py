"""What a backend is opened with."""

from __future__ import annotations

from typing import Any

import pytest

from fingergw.net.site import Site


def site(files: dict[str, Any]) -> Site:
    """Return what a backend with these files is opened with."""
    some: Any = object()
    return Site(
        name="x",
        reactor=some,
        resolver=some,
        timeout=None,
        is_self=some,
        files=files,
        programs={},
        given={},
        keywords=some,
        convert=some,
    )


def test_wrong_keys() -> None:
    """A key that names no file, or no program, is answered with those that do."""
    opened = site({"token_file": object(), "book_file": object()})
    with pytest.raises(LookupError, match=r'^no file at the key "token"; keys .* with a file: book_file, token_file$'):
        opened.file("token")
    with pytest.raises(LookupError, match=r'^no program at the key "argv"; keys .* with a program: none$'):
        opened.program("argv")


def test_tables_of_secrets() -> None:
    """The files in a table of secrets have their names there, whatever these are."""
    one, two, other = object(), object(), object()
    opened = site({"keys.a.b": one, "keys.": two, "keys_file": other, "key.c": other})
    assert opened.files("keys") == {"a.b": one, "": two}
    assert opened.files("others") == {}
