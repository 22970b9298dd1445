"""Backends whose answers are in the configuration: a map of names, or one text for every name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from attrs import define, field, frozen

from fingergw.api import Answered, Backend, Missing, Name, Outcome, Query, Site, WatchedFile, setting, settings
from fingergw.core.columns import padded

_MISSING = Missing()
_COLUMN = 38  # where the right half of a line begins


@settings
class Person:
    """A person, for the classic finger layout."""

    login: str = setting("The login name. Default: the name that was asked for", default="")
    name: str = setting("The full name.", default="")
    directory: str = setting("The home folder.", default="")
    shell: str = setting("The login shell.", default="")
    office: str = setting("The office.", default="")
    phone: str = setting("The telephone number.", default="")
    last_login: str = setting('When and where they logged in last, as in "Wed Mar 31 18:32 2004 (PST)".', default="")
    mail: str = setting(
        'A line, or several, about their mail, as in "New mail received Thu Apr  1 10:50 2004 (PST)".', default=""
    )
    project: str = setting("What they work on, in one line.", default="")
    plan: str = setting("What they are doing, in any number of lines.", default="")

    def layout(self, user: str) -> str:
        """Return the entry as the classic fingerd lays it out, ``No Plan.`` included (RFC 1288 §4.2, §4.3).

        :param user: the name that was asked for.
        """
        lines = [_halves(f"Login: {self.login or user}", f"Name: {self.name}")]
        if self.directory or self.shell:
            lines.append(_halves(f"Directory: {self.directory}", f"Shell: {self.shell}"))
        if self.office or self.phone:
            lines.append("Office: " + ", ".join(filter(None, (self.office, self.phone))))
        if self.last_login:
            lines.append(f"Last login {self.last_login}")
        if self.mail.strip():
            lines.append(self.mail.rstrip())
        if self.project:
            lines.append(f"Project: {self.project.rstrip()}")
        lines.append(f"Plan:\n{self.plan.rstrip()}" if self.plan.strip() else "No Plan.")
        return "\n".join(lines)


def _halves(left: str, right: str) -> str:
    return f"{padded(left, _COLUMN - 1)} {right}"


Entries: TypeAlias = dict[Name, str | Person]


@settings
class Static:
    """Answers from a map in the configuration, from a map in a file, or with one text."""

    one_of = ("entries", "file", "text")
    opens_in_thread = True

    entries: Entries | None = setting(
        "A map from name to text, or to a table for the classic finger layout.", default=None
    )
    file: WatchedFile | None = setting("A TOML file with such entries.", default=None, holds=Entries)
    text: str | None = setting("One answer for every name, for the end of a chain.", default=None)

    @property
    def only_placeholders(self) -> bool:
        """Whether the name does not matter: with one text it does not."""
        return self.text is not None

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        if self.text is not None:
            answer = Answered(self.text)
            return StaticBackend(lambda _: answer)
        if self.file is not None:
            return StaticFile(site.file("file", partial(_texts_of, fold=site.fold)).current)
        texts = _texts(self.entries or {}, site.fold)
        return StaticBackend(lambda query: _answer(texts, query))


def _texts(entries: Entries, fold: Callable[[str], str]) -> dict[str, str]:
    """Return the text of each entry, by its name as queries have it.

    They are no outcomes yet: the garbage collector does not look at text.
    """
    return {fold(user): entry if isinstance(entry, str) else entry.layout(user) for user, entry in entries.items()}


def _answer(texts: Mapping[str, str], query: Query) -> Outcome:
    text = texts.get(query.user)
    return _MISSING if text is None else Answered(text)


def _always() -> bool:
    return True


@frozen(eq=False, repr=False)
class StaticBackend:
    """Answer from the configuration.

    :param at_once: returns a query's outcome.
    """

    at_once: Callable[[Query], Outcome]

    def lasting(self, query: Query) -> Callable[[], bool]:
        """Return a function that says that the answer still holds."""
        return _always

    async def answer(self, query: Query) -> Outcome:
        """Return the query's outcome."""
        return self.at_once(query)


@frozen(eq=False, repr=False)
class Texts:
    """The texts in a file, by name.

    :param version: a digest of them.
    """

    by_name: dict[str, str]
    version: str


def _texts_of(entries: Entries, fold: Callable[[str], str]) -> Texts:
    texts, digest = _texts(entries, fold), hashlib.sha256()
    for named in texts.items():  # one by one, as other threads wait while all of them are made into one text
        digest.update(repr(named).encode())
    return Texts(texts, digest.hexdigest()[:16])


@define(eq=False, repr=False)
class StaticFile:
    """Answer from a map in a file, which may change.

    :param current: returns the current texts.
    """

    current: Callable[[], Texts]
    _answered_from: Texts | None = field(init=False, default=None)

    def at_once(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        texts = self._answered_from = self.current()
        return _answer(texts.by_name, query)

    def lasting(self, query: Query) -> Callable[[], bool]:
        """Return a function that tells whether the outcome still holds: while the file has the same texts."""
        current, answered_from = self.current, self._answered_from
        return lambda: current() is answered_from

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        return self.at_once(query)

    @property
    def version(self) -> str:
        """A digest of the texts."""
        return self.current().version
