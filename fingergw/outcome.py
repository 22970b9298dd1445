"""What a backend says of a query."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from attrs import frozen

from fingergw.query import Query


@frozen
class Answered:
    """The backend knows, and this is its answer.

    :param text: any text; it is cleaned on its way out.
    """

    text: str


@frozen
class Missing:
    """The backend works, and does not know this name."""


@frozen
class Failed:
    """The backend could not tell.

    :param reason: for the log, never for the client.
    :param error: what it raised, if that was not foreseen.
    """

    reason: str
    error: BaseException | None = None


Outcome: TypeAlias = Answered | Missing | Failed


class Backend(Protocol):
    """Where answers come from. It knows neither routes, nor cache, nor the next backend."""

    async def answer(self, query: Query) -> Outcome:
        """Answer a query, or say why not; never raise for what can be foreseen."""
