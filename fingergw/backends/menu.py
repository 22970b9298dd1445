"""Backends that list the keywords that a client can ask for."""

from __future__ import annotations

from attrs import frozen

from fingergw.api import Answered, Backend, Keywords, Missing, Outcome, Query, Site, settings
from fingergw.core.columns import padded, width


@settings
class Menu:
    """Lists the keywords that this client can ask for on this listener, with their summaries."""

    only_placeholders = True  # it has none, so the name does not matter
    sees = ("client", "listener")

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        return MenuBackend(site.keywords())


@frozen(eq=False, repr=False)
class MenuBackend:
    """List keywords with their summaries.

    :param keywords: returns those that a query's client can ask for at its listener.
    """

    keywords: Keywords

    async def answer(self, query: Query) -> Outcome:
        """Return a line for each keyword, aligned; Missing if there is none."""
        rows = list(self.keywords(query))
        if not rows:
            return Missing()
        columns = max(width(keyword) for keyword, _ in rows)
        return Answered("\n".join(f"{padded(keyword, columns)}  {summary}".rstrip() for keyword, summary in rows))
