"""The keywords that one can ask for here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from fingergw.core.outcome import Answered, Inputs, Missing, Outcome
from fingergw.core.query import Query


@frozen
class MenuBackend:
    """List keywords with their summaries.

    :param keywords: what the listener and client of a query can ask for: pairs of keyword and summary.
    """

    keywords: Callable[[Query], Iterable[tuple[str, str]]]
    inputs = Inputs(client=True, listener=True)

    async def answer(self, query: Query) -> Outcome:
        """Return one aligned line a keyword; Missing if there is none."""
        rows = list(self.keywords(query))
        if not rows:
            return Missing()
        width = max(len(keyword) for keyword, _ in rows)
        return Answered("\n".join(f"{keyword:<{width}}  {summary}".rstrip() for keyword, summary in rows))
