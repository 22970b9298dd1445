"""What asks a backend, whatever that has beside its answer."""

from __future__ import annotations

from collections.abc import Mapping

from fingergw.core.outcome import Answered, Freshness, Outcome, Unchanged, asking
from fingergw.core.query import Query
from tests.support import sync

VALIDATORS = {"etag": "1"}


class Revalidating:
    """A backend that can tell whether an answer still holds, and needs validators for that."""

    async def answer(self, query: Query) -> Outcome:
        """Answer anew."""
        return Answered(query.user)

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Say that it still holds."""
        return Unchanged(Freshness(validators={"etag": validators["etag"]}))


def test_revalidated() -> None:
    """It is asked whether an answer still holds where that came with validators, and to answer anew where not."""
    ask = asking(Revalidating())
    assert sync(ask(Query("x"), VALIDATORS)) == Unchanged(Freshness(validators=VALIDATORS))
    assert sync(ask(Query("x"), {})) == Answered("x")
