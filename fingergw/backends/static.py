"""Answers that stand in the configuration: a map of names, or one text for any name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import define, field, frozen

from fingergw.api import Answered, Backend, Missing, Name, Outcome, Query, Site, WatchedFile, setting, settings

_MISSING = Missing()


@settings
class Person:
    """A person, for the classic finger layout."""

    name: str = setting("The full name.", default="")
    directory: str = setting("The home folder.", default="")
    shell: str = setting("The login shell.", default="")
    office: str = setting("The office.", default="")
    phone: str = setting("The telephone number.", default="")
    project: str = setting("What they work on, in a line.", default="")
    plan: str = setting("What they are up to, in as many lines as they like.", default="")

    def layout(self, login: str) -> str:
        """Return the entry as the classic fingerd lays it out, ``No Plan.`` included (RFC 1288 §4.2, §4.3).

        :param login: the name that was asked for.
        """
        lines = [f"Login: {login:<15}\t\t\tName: {self.name}"]
        if self.directory or self.shell:
            lines.append(f"Directory: {self.directory:<25}\tShell: {self.shell}")
        if self.office or self.phone:
            lines.append("Office: " + ", ".join(filter(None, (self.office, self.phone))))
        if self.project:
            lines.append(f"Project: {self.project.rstrip()}")
        lines.append(f"Plan:\n{self.plan.rstrip()}" if self.plan.strip() else "No Plan.")
        return "\n".join(lines)


Entries: TypeAlias = dict[Name, str | Person]


@settings
class Static:
    """Answers from a map in this file, a map in a file of its own, or one text."""

    one_of = ("entries", "file", "text")

    entries: Entries | None = setting("Each name and its text, or a table for the classic finger layout.", default=None)
    file: WatchedFile | None = setting("A TOML file of such entries.", default=None, holds=Entries)
    text: str | None = setting("One answer for any name: a chain's last word.", default=None)

    @property
    def only_placeholders(self) -> bool:
        """Whether the name does not matter, as one text has no placeholders."""
        return self.text is not None

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        if self.text is not None:
            return StaticText(Answered(self.text))
        if self.file is not None:
            return StaticFile(site.file("file").current, site.fold)
        return StaticMap(_answers(self.entries or {}, site.fold))


def _answers(entries: Entries, fold: Callable[[str], str]) -> dict[str, Answered]:
    return {
        fold(user): Answered(entry if isinstance(entry, str) else entry.layout(user)) for user, entry in entries.items()
    }


@frozen
class StaticMap:
    """Answer from a map.

    :param answers: by name, as queries have names.
    """

    answers: Mapping[str, Answered]

    def at_once(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        return self.answers.get(query.user, _MISSING)

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        return self.at_once(query)


@define(eq=False)
class StaticFile:
    """Answer from a map in a file, which may change.

    :param entries: what is in it now.
    :param fold: makes a name what queries have.
    """

    entries: Callable[[], Entries]
    fold: Callable[[str], str]
    _current: Entries = field(init=False)
    _answers: Mapping[str, Answered] = field(init=False)
    _version: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._make(self.entries())

    def _make(self, entries: Entries) -> None:
        self._current, self._answers, self._version = entries, _answers(entries, self.fold), ""

    def _follow(self) -> None:
        """Make the answers anew if the file has changed."""
        entries = self.entries()
        if entries is not self._current:
            self._make(entries)

    def at_once(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        self._follow()
        return self._answers.get(query.user, _MISSING)

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer, or Missing."""
        return self.at_once(query)

    @property
    def version(self) -> str:
        """What tells its answers from those of other entries."""
        self._follow()
        if not self._version:
            self._version = hashlib.sha256(repr(self._current).encode()).hexdigest()[:16]
        return self._version


@frozen
class StaticText:
    """Answer the same to every query."""

    text: Answered

    def at_once(self, _: Query) -> Outcome:
        """Return the text."""
        return self.text

    async def answer(self, _: Query) -> Outcome:
        """Return the text."""
        return self.text
