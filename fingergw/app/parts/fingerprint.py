"""Fingerprints: how a reload decides which parts it keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol, TypeVar


class Part(Protocol):
    """A part of a gateway that a reload can keep."""

    @property
    def fingerprint(self) -> object:
        """What it was made from: its type, its settings, digests of the files that these name."""


P = TypeVar("P", bound=Part)
T = TypeVar("T")


def keep_or_make(previous: P | None, fingerprint: object, make: Callable[[], T]) -> P | T:
    """Return the previous part if its fingerprint is the same, else a new one.

    :param previous: the part under the previous configuration; None if there is none.
    :param fingerprint: that of the part under the next configuration.
    :param make: makes that part.
    """
    return previous if previous is not None and previous.fingerprint == fingerprint else make()


def digest(text: str) -> str:
    """Return a digest of what is in a file, which may be a secret."""
    return hashlib.sha256(text.encode()).hexdigest()
