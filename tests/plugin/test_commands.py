"""Each command knows an installed package's types as it knows its own."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import pytest

from tests.support.processes import run

Command: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
ROUTED = """[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[[routes]]
pattern = "*"
backends = ["book"]
"""
BOOK = f"""{ROUTED}[backends.book]
type = "phonebook"
line = "{{user}}"
"""
MISTAKES = """
[backends.deep]
type = "phonebook"
line = "{user}"
depth = 2
[backends.unknown]
type = "phonebook"
line = "{user}"
dept = 2
[backends.low]
type = "phonebook"
line = "{user}"
depth = 0
[backends.high]
type = "phonebook"
line = "{user}"
depth = 10
[backends.none]
type = "phonebook"
[backends.exposed]
type = "phonebook"
line = "{user}"
key_file = "exposed.key"
[backends.gone]
type = "phonebook"
line = "{user}"
key_file = "gone.key"
[backends.map]
type = "phonebook"
line = "{user}"
book_file = "broken.toml"
[backends.mottoes]
type = "motto"
[backends.both]
type = "motto"
text = "x"
file = "broken.toml"
[backends.running]
type = "motto"
text = "x"
max_running = 3
[backends.waiting]
type = "phonebook"
line = "x"
timeout = 0
[backends.other]
type = "phonebok"
[answers]
busy = 3
"""


@pytest.fixture
def command(python: Path, tmp_path: Path) -> Command:
    """Return what runs a command in a folder with some files, a key among them."""
    for name, text, mode in (
        ("exposed.key", "a-secret-word", 0o644),
        ("own.key", "a-secret-word", 0o600),
        ("broken.toml", "moshez = 5", 0o644),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)

    def run_it(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "fingergw.toml").write_text(text)
        return run(arguments, cwd=tmp_path, command=[str(python), "-m", "fingergw"])

    return run_it


def test_check(command: Command) -> None:
    """All that is wrong in tables of its types is told at once, by line and key, beside other mistakes."""
    text = BOOK.replace('"{user}"', '"{team} {user}"') + MISTAKES
    done = command("check", "--config", "fingergw.toml", text=text)
    assert done.returncode == 78
    expected = [
        ("line =", "backends.book.line", "{team} is not set by every route to this backend; "),
        ("depth = 2", "backends.deep.depth", "expected 1, as there is no book_file to look deeper in"),
        ("dept =", "backends.unknown.dept", 'unknown key "dept"; did you mean "depth"?'),
        ("depth = 0", "backends.low.depth", "expected a number from 1 to 9"),
        ("depth = 10", "backends.high.depth", "expected a number from 1 to 9"),
        ("[backends.none]", "backends.none", 'missing key "line"'),
        ("exposed.key", "backends.exposed.key_file", "others can read it; run: chmod o= "),
        ("gone.key", "backends.gone.key_file", "gone.key: No such file or directory"),
        ("broken.toml", "backends.map.book_file", "broken.toml:1: moshez: expected a string, not a whole number"),
        ("[backends.mottoes]", "backends.mottoes", "expected exactly one of the keys text, file; found none"),
        ("[backends.both]", "backends.both", "expected exactly one of the keys text, file; found text and file"),
        ("max_running", "backends.running.max_running", 'unknown key "max_running"; expected one of: '),
        ("timeout", "backends.waiting.timeout", "expected a finite number of seconds, above 0 and below 1000000000"),
        ("phonebok", "backends.other.type", 'unknown backend type "phonebok"; did you mean "phonebook"?'),
        ("busy", "answers.busy", "expected a string, not a whole number"),
    ]
    told, lines = done.stderr.splitlines()[1:], text.splitlines()
    assert len(told) == len(expected), done.stderr
    for line, (place, key, why) in zip(told, expected, strict=True):
        number = next(number for number, each in enumerate(lines, 1) if place in each)
        assert line.startswith(f"fingergw.toml:{number}: {key}: "), (line, number)
        assert why in line


def test_nothing_is_opened(command: Command) -> None:
    """To check is to open nothing, and to import the package is to print nothing."""
    done = command("check", "--config", "fingergw.toml", text=BOOK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fingergw.toml: no mistakes found\n", "")


def test_schema(command: Command) -> None:
    """The schema has its types with their keys' sentences, and refuses what a check refuses that it can know."""
    schema: Any = json.loads(command("schema").stdout)
    book, motto = (schema["definitions"][name] for name in ("phonebook", "motto"))
    assert book["description"] == "Answers from a phone book, which takes its time."
    depth = {"type": "integer", "minimum": 1, "maximum": 9, "default": 1, "description": "How deep to look."}
    assert book["properties"]["depth"] == depth
    assert book["properties"]["timeout"]["default"] == 1.5
    assert book["properties"]["max_running"]["default"] == 2
    assert book["required"] == ["line"]
    assert not {"max_running", "breaker"} & motto["properties"].keys()
    validator = jsonschema.Draft7Validator(schema)
    assert validator.is_valid(tomllib.loads(BOOK))
    backends = tomllib.loads(MISTAKES)["backends"]
    refused = {
        name
        for name, table in backends.items()
        if not validator.is_valid({**tomllib.loads(BOOK), "backends": {"book": table}})
    }
    assert backends.keys() - refused == {"deep", "exposed", "gone", "map"}  # which only the package, or the disk, knows


def test_config(command: Command, tmp_path: Path) -> None:
    """The configuration in effect has its defaults, and the path of a secret, never what is in it."""
    text = f'{BOOK}key_file = "own.key"\n[backends.motto]\ntype = "motto"\ntext = "{{user}}"\n'
    done = command("config", "--config", "fingergw.toml", text=text)
    assert (done.returncode, done.stderr) == (0, "")
    tables = tomllib.loads(done.stdout)["backends"]
    key = str(tmp_path / "own.key")
    waiting = {"timeout": 1.5, "max_running": 2, "breaker": {"failures": 3, "pause": 5}}
    assert tables["book"] == {"type": "phonebook", "line": "{user}", "depth": 1, "key_file": key, "keys": {}, **waiting}
    assert tables["motto"] == {"type": "motto", "text": "{user}"}
    assert "a-secret-word" not in done.stdout


def test_explain(command: Command) -> None:
    """A query is explained without opening anything; with --ask it is opened and asked, and its secret is not told."""
    text = f'{BOOK}key_file = "own.key"\n[backends.book.cache]\n'
    words = ("explain", "--config", "fingergw.toml", "--json")
    done = command(*words, "moshez", text=text)
    assert (done.returncode, done.stderr) == (0, "")
    link = {"name": "book", "line": 6, "type": "phonebook", "cached": True}
    assert json.loads(done.stdout)["chain"] == [link]
    done = command(*words, "--ask", "moshez", text=text)
    assert (done.returncode, done.stderr) == (0, "the phone book is opened\n")
    told = json.loads(done.stdout)
    assert "line = moshez\n" in told["answer"]
    assert (told["steps"][0]["outcome"], told["steps"][0]["cache"]) == ("answered", "absent")
    assert "a-secret-word" not in done.stdout
    done = command(*words, "--ask", "fails", text=text)
    assert json.loads(done.stdout)["steps"][0]["why"] == "the book is out"
