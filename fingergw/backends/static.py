"""Answers that stand in the configuration: a map of names, or one text for any name."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from fingergw.core.outcome import Answered, Inputs, Missing, Outcome
from fingergw.core.query import Query
from fingergw.net.watched import Watched

_MISSING = Missing()


@frozen
class StaticMap:
    """Answer from a map.

    :param answers: by name, as queries have names.
    """

    answers: Mapping[str, Answered]
    inputs = Inputs(frozenset({"user"}))

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer at once, or Missing."""
        return self.answers.get(query.user, _MISSING)


@frozen
class StaticFile:
    """Answer from a map in a file, which may change.

    :param answers: by name, as queries have names.
    """

    # what is in it tells the backend from another
    answers: Watched[Mapping[str, Answered]] = field(repr=lambda answers: repr(answers.current()))
    inputs = Inputs(frozenset({"user"}))

    async def answer(self, query: Query) -> Outcome:
        """Return the name's answer at once, or Missing."""
        return self.answers.current().get(query.user, _MISSING)


@frozen
class StaticText:
    """Answer the same to every query."""

    text: Answered
    inputs = Inputs()

    async def answer(self, query: Query) -> Outcome:
        """Return the text at once."""
        return self.text


def layout(
    login: str,
    *,
    name: str = "",
    directory: str = "",
    shell: str = "",
    office: str = "",
    phone: str = "",
    project: str = "",
    plan: str = "",
) -> str:
    """Return a person's entry as the classic fingerd lays it out, ``No Plan.`` included (RFC 1288 §4.2, §4.3).

    :param login: the name that was asked for.
    """
    lines = [f"Login: {login:<15}\t\t\tName: {name}"]
    if directory or shell:
        lines.append(f"Directory: {directory:<25}\tShell: {shell}")
    if office or phone:
        lines.append("Office: " + ", ".join(filter(None, (office, phone))))
    if project:
        lines.append(f"Project: {project.rstrip()}")
    lines.append(f"Plan:\n{plan.rstrip()}" if plan.strip() else "No Plan.")
    return "\n".join(lines)
