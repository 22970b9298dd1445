"""What the cache needs of a store that outlives the process, or that several gateways share."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from fingergw.cache.shares import Owner

Mark: TypeAlias = Literal["", "failed", "not shared"]
"""What replaces a claim for a while: nothing; upstream failed; there is nothing to wait for, since each gateway has to
ask upstream itself."""

MARK_SECONDS: dict[Mark, float] = {"": 0.0, "failed": 1.0, "not shared": 60.0}
"""How long a mark stays: gateways hear for so long that another one has failed, or need not wait for each other. Only
Redis uses it: marks are between gateways."""

Claim: TypeAlias = Literal["granted", "held", "failed", "not shared"]
"""The reply to a claim. ``granted``: ask upstream, then put, drop or release. ``held``: another gateway is asking.
``failed``: the gateway that was waited for has failed. ``not shared``: ask upstream without a claim."""


@frozen
class Found:
    """The stored value, if it is another than the one that is known.

    :param age: seconds since it was put.
    """

    value: bytes
    age: float


class Store(Protocol):
    """Keeps values by key, and lets one gateway at a time claim to ask upstream for a key.

    No method raises, and none takes long; :class:`fingergw.cache.guarded.GuardedStore` sees to that.
    """

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Find a value, or else claim to ask upstream for it. It is atomic, so that one of several gateways asks.

        :param known: the SHA-1, in hexadecimal, of the value that the caller has, which is not found again.
        :param lock_seconds: how long the claim holds if its holder vanishes.
        :param waited: whether the caller has found it held before, and waited.
        """

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: Mark = ""
    ) -> None:
        """Replace a value, and give up the claim.

        :param missing: whether it says that the name does not exist; a store may choose to keep none of these.
        :param owner: who has asked for it: when there are too many, a store may let those go of who has most.
        :param mark: what replaces the claim.
        """

    async def drop(self, key: str, mark: Mark = "") -> None:
        """Remove a value, and give up the claim.

        :param mark: what replaces the claim.
        """

    async def release(self, key: str, mark: Mark) -> None:
        """Give up the claim, if it is held.

        :param mark: what replaces the claim.
        """


class RawStore(Store, Protocol):
    """A store without a guard: each method may raise anything, and take any time."""

    async def open(self) -> None:
        """Connect, and check that it can be written to."""

    async def close(self) -> None:
        """Release everything. It may be opened again."""
