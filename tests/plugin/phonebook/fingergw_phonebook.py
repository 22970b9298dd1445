"""Two types of backends of somebody else's: a phone book that takes its time, and a motto that is known at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fingergw.api import (
    Answered,
    Backend,
    Failed,
    Freshness,
    Missing,
    Name,
    Outcome,
    Query,
    SecretFile,
    Site,
    Template,
    Unchanged,
    Waits,
    WatchedFile,
    setting,
    settings,
)

_log = Logger()
_openings: Final = count(1)


@settings
class Phonebook:
    """Answers from a phone book, which takes its time."""

    sees = ("client",)
    waits = Waits(timeout=1.5, max_running=2)

    line: Template = setting("What an answer begins with; {user} and a regex's groups are put in place.")
    depth: int = setting("How deep to look.", default=1, least=1, most=9)
    key_file: SecretFile | None = setting("A file with the key to the book.", default=None, holds="key")
    keys: dict[str, SecretFile] = setting("Files with the keys to other books.", default={}, holds="key")
    book_file: WatchedFile | None = setting("A TOML file of numbers by name.", default=None, holds=dict[Name, str])

    def check(self) -> Iterator[tuple[str, str]]:
        """Look for what no key has wrong by itself."""
        if self.depth > 1 and self.book_file is None:
            yield "depth", "expected 1, as there is no book_file to look deeper in"

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        print("the phone book is opened")
        key: Callable[[], str] = (lambda: "none") if self.key_file is None else site.file("key_file").current
        book: Callable[[], dict[str, str]] = dict if self.book_file is None else site.file("book_file").current
        keys = {name: file.current for name, file in site.files("keys").items()}
        return OpenPhonebook(self, site.name, site.reactor, key, book, keys)


@define(eq=False)
class OpenPhonebook:
    """A phone book that is open, and tells in each answer what it was asked, and what it has."""

    settings: Phonebook
    name: str
    reactor: Any
    key: Callable[[], str]
    book: Callable[[], dict[str, str]]
    keys: dict[str, Callable[[], str]]
    opening: int = field(factory=_openings.__next__)
    asked: int = 0
    running: int = 0
    most: int = 0

    async def answer(self, query: Query) -> Outcome:
        """Tell all of it."""
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(query)
        finally:
            self.running -= 1

    def at_once(self, query: Query) -> Outcome | None:
        """Tell what needs no look into the book."""
        if query.user == "breaks":
            raise SystemExit(3)
        return Missing() if query.user == "nobody" else None

    async def _answer(self, query: Query) -> Outcome:
        if query.user == "fails":
            return Failed("the book is out")
        if query.user == "raises":
            raise RuntimeError("a page is torn")
        if query.user == "hangs":
            await Deferred[None]()
        if query.user.startswith("slow"):
            await deferLater(self.reactor, 0.2)
        parts = {
            "line": self.settings.line.fill(query.placeholders),
            "number": self.book().get(query.user, "none"),
            "client": query.client,
            "listener": query.listener,
            "key": fingerprint(self.key()),
            "keys": ",".join(f"{name}={fingerprint(key())}" for name, key in self.keys.items()),
            "opening": self.opening,
            "asked": self.asked,
            "most": self.most,
        }
        return Answered("\n".join(f"{word} = {value}" for word, value in parts.items()))

    async def close(self) -> None:
        """Close it, which takes a moment."""
        await deferLater(self.reactor, 0.05)
        _log.info("opening {opening} of {name} is closed", opening=self.opening, name=self.name)


def fingerprint(key: str) -> str:
    """Return what tells a key from another, and gives none away."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@settings
class Motto:
    """Answers the same to everybody."""

    one_of = ("text", "file")
    only_placeholders = True

    text: Template | None = setting("The motto.", default=None)
    file: WatchedFile | None = setting("A file that holds it.", default=None)

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        text = self.text.text if self.text is not None else ""
        return OpenMotto((lambda: text) if self.file is None else site.file("file").current)


@define(eq=False)
class OpenMotto:
    """A motto, and how often it was asked for."""

    text: Callable[[], str]
    asked: int = 0
    confirmed: int = 0

    async def answer(self, query: Query) -> Outcome:
        """Tell the motto."""
        self.asked += 1
        text = f"{self.text().strip()}, asked {self.asked}, confirmed {self.confirmed}"
        return Answered(text, freshness=Freshness(validators={"version": self.version}))

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Tell whether the motto still holds."""
        if validators.get("version") != self.version:
            return await self.answer(query)
        self.confirmed += 1
        return Unchanged(Freshness(validators=validators))

    @property
    def version(self) -> str:
        """What tells the motto from another."""
        return fingerprint(self.text())
