"""A type of backend as somebody else's package has it: with all that a key can be."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from fingergw.api import Answered, Backend, Outcome, Query, Seconds, Site, Template, Url, Waits, setting, settings


@settings
class Server:
    """A server to ask."""

    one_of = ("host", "url", "is_local")

    host: str | None = setting("Its name.", default=None)
    url: Url | None = setting("Its address.", default=None)
    is_local: bool = setting("Whether it is here.", default=False)
    weight: int = setting("How often it is asked.", default=1, least=1)
    password: str | None = setting("What it wants to see.", default=None, secret=True)
    greeting: Template = setting("What it is told first.", default=Template("I am {user}"))


@settings
class Directory:
    """Answers from a directory."""

    one_of = ("level", "tree")
    sees = ("client",)
    waits = Waits(timeout=2.5, max_running=3)

    level: int | None = setting("A level.", default=None, most=9)
    tree: str | None = setting("A tree.", default=None)
    depth: int = setting("How deep to look.", default=2, least=1, most=9)
    share: float = setting("How much of it.", default=0.5, least=0)
    pause: Seconds = setting("Between two.", default=Seconds(1), most=60)
    fields: tuple[str, ...] = setting("What to show.", default=("name", "plan"), nonempty=True)
    key: str = setting("What it wants to see.", default="", secret=True)
    keys: tuple[str, ...] = setting("What it might want to see.", default=(), secret=True)
    names: dict[str, str] = setting("What it knows us by.", default={}, secret=True)
    first: Server | None = setting(default=None)
    others: tuple[Server, ...] = setting("Servers to ask after it.", default=())
    by_name: dict[str, str | Server] = setting("Servers for some names.", default={})

    def check(self) -> Iterator[tuple[str | tuple[str | int, ...], str]]:
        """Say what no key has wrong by itself."""
        if self.depth > 5 and self.share > 1:
            yield "share", "expected 1 or less so deep"
        for place, server in enumerate(self.others):
            if server.host == "here":
                yield ("others", place, "host"), "expected another host"
        if self.first is None and self.others:
            yield "", "expected a first server before others"

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        return DirectoryBackend(self, site.name)


@frozen
class DirectoryBackend:
    """Answer with what is in the table."""

    settings: Directory
    name: str

    async def answer(self, query: Query) -> Outcome:
        """Return the fields."""
        return Answered(f"{self.name}: {', '.join(self.settings.fields)} of {query.user}")
