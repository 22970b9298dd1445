"""The keywords that one can ask for here."""

from __future__ import annotations

from attrs import frozen

from fingergw.api import Answered, Backend, Keywords, Missing, Outcome, Query, Site, settings


@settings
class Menu:
    """Lists the keywords with a summary that this client can ask for on this listener."""

    only_placeholders = True  # and there are none
    sees = ("client", "listener")

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        return MenuBackend(site.keywords())


@frozen
class MenuBackend:
    """List keywords with their summaries.

    :param keywords: what the listener and client of a query can ask for.
    """

    keywords: Keywords

    async def answer(self, query: Query) -> Outcome:
        """Return one aligned line a keyword; Missing if there is none."""
        rows = list(self.keywords(query))
        if not rows:
            return Missing()
        width = max(len(keyword) for keyword, _ in rows)
        return Answered("\n".join(f"{keyword:<{width}}  {summary}".rstrip() for keyword, summary in rows))
