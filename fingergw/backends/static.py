"""Backends whose answers are in the configuration: a map of names, or one text for every name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
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
            return StaticFile(site.file("file").current, site.fold)
        answers = _answers(self.entries or {}, site.fold)
        return StaticBackend(lambda query: answers.get(query.user, _MISSING))


def _answers(entries: Entries, fold: Callable[[str], str]) -> dict[str, Answered]:
    return {
        fold(user): Answered(entry if isinstance(entry, str) else entry.layout(user)) for user, entry in entries.items()
    }


def _always() -> bool:
    return True


@frozen
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


@define(eq=False)
class StaticFile:
    """Answer from a map in a file, which may change.

    :param entries: returns the current entries.
    :param fold: brings a name to the case that names in queries have.
    """

    entries: Callable[[], Entries]
    fold: Callable[[str], str]
    _current: Entries | None = field(init=False, default=None)
    _answers: Mapping[str, Answered] = field(init=False)
    _version: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follow()

    def _follow(self) -> None:
        """Use the current entries if the file has changed."""
        entries = self.entries()
        if entries is not self._current:
            self._current, self._answers, self._version = entries, _answers(entries, self.fold), ""

    def at_once(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        self._follow()
        return self._answers.get(query.user, _MISSING)

    def lasting(self, query: Query) -> Callable[[], bool]:
        """Return a function that tells whether the answer still holds: while the file has the same entries."""
        answered_from = self._current
        return lambda: self.entries() is answered_from

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        return self.at_once(query)

    @property
    def version(self) -> str:
        """A digest of the entries."""
        self._follow()
        if not self._version:
            self._version = hashlib.sha256(repr(self._current).encode()).hexdigest()[:16]
        return self._version
