"""What a configuration may say and cannot mean is a warning, with its line and its key path; near misses are not."""

from __future__ import annotations

import fnmatch
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from fingergw.app import build
from fingergw.backends.static import Static
from fingergw.config import read
from fingergw.config.model import Backend, Config
from fingergw.config.problems import dotted, located
from fingergw.config.tables import Listener, Route
from fingergw.config.warnings.configuration import find_warnings
from fingergw.config.warnings.globs import Glob
from tests.support.contract import VALUES, with_a_value_replaced, write
from tests.support.warned import rows


def warnings(path: Path) -> list[str]:
    """Return the warnings about a file without mistakes, without the file's name."""
    config, problems = read(path)
    found, warned = build.check(config, MemoryReactorClock(), is_whole=True)
    assert [*problems, *found] == []
    return [each.removeprefix(f"{path}:") for each in located(warned, config.source)]


@pytest.mark.parametrize(("text", "messages"), rows())
def test_warnings(tmp_path: Path, text: str, messages: list[str]) -> None:
    """Each is reported with its line and its key path, in the order of lines, and nothing else is."""
    path = write(tmp_path, text)
    assert warnings(path) == [message.replace("$FOLDER", str(tmp_path)) for message in messages]


PIECES = st.sampled_from(["a", "b", "-", "*", "?", "[ab]", "[!a]", "[", "]", "[]a]", "[a-c]", "[!]]", "!"])
GLOBS = st.lists(PIECES, min_size=1, max_size=5).map("".join).map(Glob)


@given(one=GLOBS, other=GLOBS, names=st.lists(st.text("abc-[]!", max_size=5), min_size=1, max_size=20))
def test_patterns_are_read_as_they_are_matched(one: Glob, other: Glob, names: list[str]) -> None:
    """A pattern that is said to cover another, to match all, or none, or one, does so for every name."""
    assert (one.example is None) == one.matches_none
    assert one.example is None or fnmatch.fnmatchcase(one.example, one.text)
    for name in names:
        matches = fnmatch.fnmatchcase(name, one.text)
        assert matches or not (one.covers(other) and fnmatch.fnmatchcase(name, other.text))
        assert matches or not (one.matches_all and name)
        assert not (matches and one.matches_none)
        assert not (matches and one.is_plain) or name == one.example
        assert not matches or len(name) >= one.least_bytes


@pytest.mark.parametrize(
    ("text", "is_open"),
    [("[", True), ("a[b", True), ("[[]", False), ("[[]x[", True), ("[]", True), ("[]]", False), ("[!]", True)],
)
def test_brackets_that_are_not_closed(text: str, is_open: bool) -> None:
    """A bracket right after the opening one is one of the characters, and closes nothing."""
    assert Glob(text).has_open_bracket is is_open


NAMES = tuple(f"n{number}" for number in range(50_000))


@pytest.mark.parametrize(
    "matches",
    [
        [{"pattern": f"a{number}-*"} for number in range(10_000)],
        [*({"pattern": f"*-{number}x"} for number in range(5_000)), {"users": NAMES}],
        [*({"regex": f"(a|b){number}"} for number in range(1_000)), {"users": NAMES}],
        [{"user": "x", "clients": (ip_network((number << 8, 24)),)} for number in range(10_000)],
    ],
    ids=["patterns", "endings-and-names", "regexes-and-names", "one-name"],
)
def test_large_files(matches: list[dict[str, Any]]) -> None:
    """Ten thousand routes, or tens of thousands of names, are looked through in a moment."""
    routes = tuple(Route(backends=("b",), **match) for match in matches)
    backends = {"b": Backend("static", Static(text="x"))}
    config = Config(listeners=(Listener(endpoint="tcp:1"),), routes=routes, backends=backends)
    began = time.process_time()
    assert find_warnings(config) == []
    assert time.process_time() - began < 3


def tried_for_all(patterns: int, regexes: int, second: int) -> list[str]:
    """Return the warnings about two listeners and a decoy, with patterns and regexes that have no text in them.

    :param patterns: how many there are; and as many that do have some.
    :param second: how many patterns there are for the second listener alone.
    """

    def pattern(number: int, zero: str, one: str) -> str:
        return f"{number:010b}".replace("0", zero).replace("1", one)

    matches: list[dict[str, Any]] = [
        *({"pattern": pattern(number, "[ab]", "[ac]")} for number in range(patterns)),
        *({"pattern": f"*-{number}-?"} for number in range(patterns)),
        *({"regex": f"[a-z]{{{number}}}"} for number in range(regexes)),
        *({"pattern": pattern(number, "[xy]", "[xz]"), "listeners": ("second",)} for number in range(second)),
    ]
    routes = [Route(backends=("b",), **match) for match in matches]
    names = ("first", "second", "trap")
    listeners = [Listener(endpoint=f"tcp:{port}", name=name, decoy=name == "trap") for port, name in enumerate(names)]
    backends = {"b": Backend("static", Static(text="x"))}
    found = find_warnings(Config(listeners=tuple(listeners), routes=tuple(routes), backends=backends))
    return [f"{dotted(each.path)}: {each.message}" for each in found]


def test_patterns_that_are_tried_for_every_name() -> None:
    """From a thousand on, patterns and regexes that names cannot be looked up by are warned of at their listener."""
    why = (
        " of its patterns and regexes have no literal text, so all of these are tried for every name; give each a text "
        "that is in all names that it matches, such as a prefix, or make one regex of several"
    )
    assert tried_for_all(patterns=500, regexes=499, second=1) == [f"listeners[1]: 1000{why}"]


@given(data=st.data())
def test_any_file_without_mistakes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever stands in place of any value of a good file, if it is taken, warnings are found and placed."""
    strange = st.sampled_from(
        ["{user}", "{", "*", "[", "[]", "[a-", "tcp:1", "unix:x", "a@b", "-", "²", "0.0.0.0/0", "text"]
    )
    raw = with_a_value_replaced(data, VALUES | strange)
    config, problems = read(write(tmp_path_factory.getbasetemp(), tomli_w.dumps(raw), "strange.toml"))
    if not problems:
        warned = build.check(config, MemoryReactorClock(), is_whole=True)[1]
        assert len(located(warned, config.source)) == len(warned) > 0
