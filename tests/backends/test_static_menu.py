"""Answers that are known at once: static maps and texts, the classic layout, and the menu."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fingergw.api import Name
from fingergw.backends.menu import MenuBackend
from fingergw.backends.static import Person, Static, StaticFile, Texts
from fingergw.core.outcome import Answered, Missing, Outcome
from fingergw.core.query import Query, fold_case
from tests.support.configuration import listener, one_backend
from tests.support.gateway import GatewayCase
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


@pytest.mark.parametrize("static", [Static(text="Nobody here."), Static(entries={Name("x"): "Happy"})])
def test_lasting(static: Static) -> None:
    """What is in the configuration holds for ever."""
    backend: Any = static.open(SITE)
    assert backend.lasting(Query("x"))()


def test_lasting_in_a_file() -> None:
    """What is in a file holds until the file has other entries, even if they are equal."""
    texts = Texts({"x": "Happy"}, "1")
    backend: Any = StaticFile(lambda: texts)
    backend.at_once(Query("x"))
    holds = backend.lasting(Query("x"))
    assert holds()
    texts = Texts({"x": "Happy"}, "1")
    assert not backend.lasting(Query("x"))()  # as the answer was another's
    assert not holds()
    backend.at_once(Query("x"))
    assert backend.lasting(Query("x"))()
    assert not holds()


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        ({}, ["Login: nail                           Name: ", "No Plan."]),
        (
            {"name": "Nail Sharp", "directory": "/home/nail", "shell": "/usr/bin/sh"},
            [
                "Login: nail                           Name: Nail Sharp",
                "Directory: /home/nail                 Shell: /usr/bin/sh",
                "No Plan.",
            ],
        ),
        (
            {"name": "N", "office": "3.14", "phone": "555", "project": "Hammer.\n", "plan": "Hit\nthings.\n\n"},
            [
                "Login: nail                           Name: N",
                "Office: 3.14, 555",
                "Project: Hammer.",
                "Plan:",
                "Hit",
                "things.",
            ],
        ),
        ({"phone": "555", "plan": " \n"}, ["Login: nail                           Name: ", "Office: 555", "No Plan."]),
        (
            {"login": "nail.sharp", "last_login": "today", "mail": "No mail.\n", "plan": "x"},
            ["Login: nail.sharp                     Name: ", "Last login today", "No mail.", "Plan:", "x"],
        ),
        (
            {"login": "n" * 40, "name": "N", "directory": "/" + "d" * 40, "shell": "s", "mail": " \n"},
            [f"Login: {'n' * 40} Name: N", f"Directory: /{'d' * 40} Shell: s", "No Plan."],
        ),
        ({"login": "日本", "name": "N"}, ["Login: 日本                           Name: N", "No Plan."]),
        ({"office": "3.14"}, ["Login: nail                           Name: ", "Office: 3.14", "No Plan."]),
    ],
    ids=["empty", "account", "all-else", "phone", "login", "wide", "east-asian", "office"],
)
def test_layout(entry: dict[str, str], lines: list[str]) -> None:
    """A person's entry comes out as fingerd always showed it; who has no plan has ``No Plan.``."""
    assert Person(**entry).layout("nail").split("\n") == lines


def test_menu() -> None:
    """The menu has an aligned line a keyword, in order."""
    menu = MenuBackend(lambda _: [("help", "What can be asked"), ("uptime", "How long"), ("x", "")])
    assert sync(menu.answer(Query(""))) == Answered("help    What can be asked\nuptime  How long\nx")


def test_menu_columns() -> None:
    """A column is as wide as a terminal shows what it holds: East Asian characters take two columns, marks none."""
    keywords = ["日本", "e\u0301te\u0301", "ｶﾅ", "한국", "x\u200by", "⏰", "naïve"]
    menu = MenuBackend(lambda _: [(each, "|") for each in keywords])
    assert sync(menu.answer(Query(""))) == Answered(
        "日本   |\ne\u0301te\u0301    |\nｶﾅ     |\n한국   |\nx\u200by     |\n⏰     |\nnaïve  |"
    )


def test_menu_depends_on_the_query() -> None:
    """Who asks, and where, decides what is on the menu; nothing there is Missing."""
    menu = MenuBackend(lambda query: [("secret", "S")] if query.listener == "inside" else [])
    assert sync(menu.answer(Query("", listener="inside"))) == Answered("secret  S")
    assert sync(menu.answer(Query("", listener="public"))) == Missing()


TUTORIAL = """
type = "static"
[backends.b.entries.nail]
name = "Nail Sharp"
directory = "/home/nail"
shell = "/usr/bin/sh"
last_login = "Wed Mar 31 18:32 2004 (PST)"
mail = '''
New mail received Thu Apr  1 10:50 2004 (PST)
     Unread since Thu Apr  1 10:50 2004 (PST)
'''
"""
MENU = """
[[routes]]
index = true
summary = "not shown"
backends = ["menu"]
[[routes]]
user = "help"
name = "the-help"
summary = "What there is"
backends = ["menu"]
[[routes]]
users = ["a", "Bob"]
summary = "Two people"
backends = ["menu"]
[[routes]]
regex = "(?P<team>[a-z]+)-oncall"
name = "on-call"
summary = "Who is on call"
usage = "TEAM-oncall"
backends = ["menu"]
[[routes]]
regex = "a+b"
name = "named"
summary = "By its name"
backends = ["menu"]
[[routes]]
regex = "secret|x[0-9]+"
summary = "Not shown, as there is only a regex"
backends = ["menu"]
[[routes]]
pattern = "svc-*"
name = "services"
summary = "By its name, too"
backends = ["menu"]
[[routes]]
pattern = "日本-?"
summary = "By its pattern"
backends = ["menu"]
[[routes]]
user = "dull"
usage = "DULL"
backends = ["menu"]
[backends.menu]
type = "menu"
"""


class WireTests(GatewayCase):
    """The same on real sockets."""

    async def test_the_tutorials_first_sample(self) -> None:
        """A table can say all of what "The Evolution of Finger" in Twisted's tutorial begins with, byte for byte."""
        gateway = self.start(one_backend(TUTORIAL))
        assert await self.ask(gateway, b"nail\r\n") == (
            b"Login: nail                           Name: Nail Sharp\r\n"
            b"Directory: /home/nail                 Shell: /usr/bin/sh\r\n"
            b"Last login Wed Mar 31 18:32 2004 (PST)\r\n"
            b"New mail received Thu Apr  1 10:50 2004 (PST)\r\n"
            b"     Unread since Thu Apr  1 10:50 2004 (PST)\r\n"
            b"No Plan.\r\n"
        )

    async def test_map_in_a_file(self) -> None:
        """A map in a file of its own has the same keys."""
        self.write(
            "people.toml", 'ada = { login = "ada.lovelace", name = "Ada", last_login = "today", mail = "No mail." }'
        )
        gateway = self.start(one_backend('type = "static"\nfile = "people.toml"'))
        assert await self.ask(gateway, b"ada\r\n") == (
            b"Login: ada.lovelace                   Name: Ada\r\nLast login today\r\nNo mail.\r\nNo Plan.\r\n"
        )

    async def test_menu(self) -> None:
        """The menu shows ``usage``, else the names, else the route's own name or its pattern, and never a regex."""
        gateway = self.start(listener() + MENU)
        assert (await self.ask(gateway, b"\r\n")).decode().split("\r\n") == [
            "help         What there is",
            "a, Bob       Two people",
            "TEAM-oncall  Who is on call",
            "named        By its name",
            "services     By its name, too",
            "日本-?       By its pattern",
            "",
        ]
