"""Answers that are known at once: static maps and texts, the classic layout, and the menu."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fingergw.api import Name
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import Person, Static
from fingergw.core.outcome import Answered, Missing, Outcome
from fingergw.core.query import Query, fold_case
from tests.support.waiting import sync

SITE: Any = SimpleNamespace(fold=fold_case)


@pytest.mark.parametrize(("user", "expected"), [("moshez", Answered("Happy")), ("nail", Missing()), ("", Missing())])
def test_map(user: str, expected: Outcome) -> None:
    """A map has the name, or the name is missing."""
    backend = Static(entries={Name("moshez"): "Happy"}).open(SITE)
    assert sync(backend.answer(Query(user))) == expected


@pytest.mark.parametrize("user", ["", "anybody"])
def test_text(user: str) -> None:
    """One text answers any query."""
    backend = Static(text="Nobody here.").open(SITE)
    assert sync(backend.answer(Query(user))) == Answered("Nobody here.")


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        ({}, ["Login: nail           \t\t\tName: ", "No Plan."]),
        (
            {"name": "Nail Sharp", "directory": "/home/nail", "shell": "/usr/bin/sh"},
            [
                "Login: nail           \t\t\tName: Nail Sharp",
                "Directory: /home/nail               \tShell: /usr/bin/sh",
                "No Plan.",
            ],
        ),
        (
            {"name": "N", "office": "3.14", "phone": "555", "project": "Hammer.\n", "plan": "Hit\nthings.\n\n"},
            ["Login: nail           \t\t\tName: N", "Office: 3.14, 555", "Project: Hammer.", "Plan:", "Hit", "things."],
        ),
        ({"phone": "555", "plan": " \n"}, ["Login: nail           \t\t\tName: ", "Office: 555", "No Plan."]),
        ({"office": "3.14"}, ["Login: nail           \t\t\tName: ", "Office: 3.14", "No Plan."]),
    ],
    ids=["empty", "account", "all-else", "phone", "office"],
)
def test_layout(entry: dict[str, str], lines: list[str]) -> None:
    """A person's entry comes out as fingerd always showed it; who has no plan has ``No Plan.``."""
    assert Person(**entry).layout("nail").split("\n") == lines


def test_menu() -> None:
    """The menu has an aligned line a keyword, in order."""
    menu = MenuBackend(lambda _: [("help", "What can be asked"), ("uptime", "How long"), ("x", "")])
    assert sync(menu.answer(Query(""))) == Answered("help    What can be asked\nuptime  How long\nx")


def test_menu_depends_on_the_query() -> None:
    """Who asks, and where, decides what is on the menu; nothing there is Missing."""
    menu = MenuBackend(lambda query: [("secret", "S")] if query.listener == "inside" else [])
    assert sync(menu.answer(Query("", listener="inside"))) == Answered("secret  S")
    assert sync(menu.answer(Query("", listener="public"))) == Missing()
