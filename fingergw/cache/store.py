"""What the cache asks of a store that outlives the process, or is shared by several."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from attrs import frozen

Mark: TypeAlias = Literal["", "failed", "backing off", "not shared"]
"""What is left in a claim's place: nothing; that asking failed; that it failed, and shall not be tried for a while;
that there is nothing to wait for, as upstream wants to be asked by each."""


@frozen
class Found:
    """A value that the asker does not know.

    :param value: as it was put.
    :param age: seconds since then.
    """

    value: bytes
    age: float


@frozen
class Claim:
    """Whether upstream is the asker's to ask.

    :param state: ``"granted"``: ask, then put or release. ``"held"``: another gateway is asking.
        ``"failed"``: another that was waited for has failed. ``"backing off"``: it has failed a moment ago.
        ``"not shared"``: ask without a claim.
    """

    state: Literal["granted", "held", "failed", "backing off", "not shared"]


class Store(Protocol):
    """Keeps values by key."""

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Find a value, or else claim to ask upstream for it; in one step, so that of several gateways one asks.

        :param known: the SHA-1 of the value that the asker has, in hexadecimal; it is not found again.
        :param lock_seconds: how long a claim holds, should its holder vanish.
        :param waited: whether the asker has found it held, and waited.
        """

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, mark: Mark = "", mark_seconds: float = 0.0
    ) -> None:
        """Keep a value in place of what was there, and give up the claim.

        :param missing: whether it says that there is no such name; a store may keep none of these.
        :param mark: what others shall find in the claim's place for a time.
        """

    async def drop(self, key: str, mark: Mark = "", mark_seconds: float = 0.0) -> None:
        """Keep nothing any more, and give up the claim.

        :param mark: what others shall find in its place for a time.
        """

    async def release(self, key: str, mark: Mark, mark_seconds: float) -> None:
        """Give up the claim, if one is held.

        :param mark: what others shall find in its place for a time.
        """


class RawStore(Store, Protocol):
    """A store as it is: any of its methods may fail in any way, and take any time."""

    async def open(self) -> None:
        """Connect, and try whether it can be written to."""

    async def close(self) -> None:
        """Let go of everything; after that it may be opened again."""
