"""What a type of backend can say of its keys, and what comes of it in each command; a type of another package."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.support.checked import LISTENER
from tests.support.mistakes import MEANINGS as MISTAKES
from tests.support.packages import write_package
from tests.support.processes import run

# Each stands behind a listener. A message stands as a comment, begun by "#!", on the line that it has.
BOUNDS = """
[backends.a]
type = "directory"
level = 10  #! backends.a.level: expected a number of at most 9
depth = 0  #! backends.a.depth: expected a number from 1 to 9
share = -0.5  #! backends.a.share: expected a number of at least 0
pause = 61  #! backends.a.pause: expected a number of at most 60
[backends.b]
type = "directory"
level = -1000000000000
depth = 10  #! backends.b.depth: expected a number from 1 to 9
share = nan  #! backends.b.share: expected a number of at least 0
pause = 0  #! backends.b.pause: expected a finite number of seconds, above 0 and below 1000000000
[backends.c]
type = "directory"
level = 9.0  #! backends.c.level: expected a whole number, not a decimal number
depth = "2"  #! backends.c.depth: expected a whole number, $UNQUOTED
share = true  #! backends.c.share: expected a number, not a boolean
[backends.d]
type = "directory"
level = 9
depth = 9
share = 0
pause = 60
[backends.e]
type = "directory"
level = 0
depth = 1
share = inf
"""
NONEMPTY = """
[backends.a]
type = "directory"
tree = ""
fields = []  #! backends.a.fields: expected a list of at least one item
keys = []
others = []
[backends.b]
type = "directory"
tree = ""
fields = [""]
[backends.c]
type = "directory"
tree = ""
fields = ""  #! backends.c.fields: expected a list, not a string; put it in brackets
"""
NESTED = """
[backends.a]
type = "directory"
tree = "x"
first = "x"  #! backends.a.first: expected a table, not a string; write $FORM
others = { host = "x" }  #! backends.a.others: expected a list, not a table; write [$FORM]
by_name = ["x"]  #! backends.a.by_name: expected a table, not a list; write { NAME = $FORM }
[backends.b]
type = "directory"
tree = "x"
by_name.a = 5  #! backends.b.by_name.a: $SERVER
by_name.b = { host = "x" }
by_name.c = "x"
[backends.b.first]
host = "x"
weight = 0  #! backends.b.first.weight: expected a number of at least 1
wait = 1  #! backends.b.first.wait: unknown key "wait"; did you mean "weight"?
[[backends.b.others]]
host = "x"
[[backends.b.others]]
url = "x"  #! backends.b.others[1].url: $URL
"""
PLACEHOLDERS = """
[backends.c]
type = "directory"
tree = "x"
first = { host = "x", greeting = "{user} of {team}" }  #! backends.c.first.greeting: $NO_ROUTE
[backends.d]
type = "directory"
tree = "x"
by_name.a = { host = "x", greeting = "{" }  #! backends.d.by_name.a.greeting: $BRACE
"""
ONE_OF = """
[backends.a]  #! backends.a: expected exactly one of the keys level, tree; found none
type = "directory"
[backends.b]  #! backends.b: expected exactly one of the keys level, tree; found level and tree
type = "directory"
level = 0
tree = ""
depth = 10  #! backends.b.depth: expected a number from 1 to 9
[backends.c]
type = "directory"
level = 0
[backends.c.first]  #! backends.c.first: $ONE none
is_local = false
[[backends.c.others]]
is_local = true
[[backends.c.others]]  #! backends.c.others[1]: $ONE host and is_local
is_local = true
host = "x"
weight = "x"  #! backends.c.others[1].weight: expected a whole number, $UNQUOTED
[[backends.c.others]]
is_local = false
host = "x"
[backends.c.by_name]
a = {}  #! backends.c.by_name.a: $ONE none
[backends.d]
type = "directory"
tree = ""
by_name = { a = "x", b = { host = "x" } }
"""
# A mistake of each kind, and all kinds of places for it.
CHECK = """
[backends.a]  #! backends.a: expected a first server before others
type = "directory"
level = 0
depth = 6
share = 2  #! backends.a.share: expected 1 or less so deep
others = [
  { host = "x" },
  { host = "here" },  #! backends.a.others[1].host: expected another host
]
[backends.b]
type = "directory"
level = 10  #! backends.b.level: expected a number of at most 9
depth = 6
share = 2  #! backends.b.share: expected 1 or less so deep
[backends.c]
type = "directory"
level = 0
depth = "6"  #! backends.c.depth: expected a whole number, $UNQUOTED
share = 2
others = [{ host = "here" }]
"""
MEANINGS = {
    "$UNQUOTED": MISTAKES["$UNQUOTED"],
    "$ONE": "expected exactly one of the keys host, url, is_local; found",
    "$FORM": '{ host = "TEXT", url = "TEXT", is_local = true, weight = NUMBER, password = "TEXT", greeting = "TEXT" }',
    "$SERVER": "expected a string, or a table with any of the keys host, url, is_local, weight, password, greeting",
    **{word: MISTAKES[word] for word in ("$BRACE", "$NO_ROUTE", "$URL")},
}
SECRETS = """
[backends.d]
type = "directory"
tree = "x"
key = "sesame1"
keys = ["sesame2", "sesame3"]
names = { PATH = "sesame4", other = "sesame5" }
first = { url = "http://h/{user}?key=sesame6&user={user}", password = "sesame7" }
others = [{ host = "x", password = "sesame8" }, { host = "y" }]
by_name.a = { host = "z", password = "sesame9" }
by_name.b = "z"
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return what runs ``fingergw`` where a package with a type of backend is installed."""
    folder, types = tmp_path_factory.mktemp("installed"), "directory = tests.support.directory_backend:Directory"
    return write_package(folder, "directory", "", types)


@pytest.fixture(scope="module")
def validator(command: list[str]) -> Draft7Validator:
    """Return what judges by the schema that is printed there."""
    return Draft7Validator(json.loads(run(["schema"], command=command).stdout))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where to write a configuration."""
    return tmp_path / "fingergw.toml"


def expected(text: str) -> list[str]:
    """Return the messages that stand in a text, each with its line."""
    for word, meaning in MEANINGS.items():
        text = text.replace(word, meaning)
    return [
        f"{number}: {message}"
        for number, line in enumerate(text.splitlines(), 1)
        for message in line.split("  #! ")[1:]
    ]


def mistakes(ended: subprocess.CompletedProcess[str], file: Path) -> list[str]:
    """Return what a command has reported, without the file's name."""
    count, *lines = ended.stderr.splitlines()
    assert (ended.returncode, count) == (78, f"fingergw: {len(lines)} mistake{'s' * (len(lines) > 1)}:")
    return [line.removeprefix(f"{file}:") for line in lines]


@pytest.mark.parametrize("text", [BOUNDS, NONEMPTY, NESTED, ONE_OF, PLACEHOLDERS, CHECK], ids=range(6))
def test_mistakes(command: list[str], file: Path, text: str) -> None:
    """What breaks a key's bounds, or a table's rules, has its line, its path and what was expected; nothing else has.

    So has what is wrong in a table within the table, and what the type finds by itself: at a key, at a path in it, or
    in all of it. That is looked for until it asks for a key that has a mistake.
    """
    file.write_text(LISTENER + text)
    assert mistakes(run(["check", "--config", str(file)], command=command), file) == expected(LISTENER + text)


@pytest.mark.parametrize("text", [BOUNDS, NONEMPTY, NESTED, ONE_OF], ids=range(4))
def test_schema_refuses_as_much(validator: Draft7Validator, text: str) -> None:
    """The schema refuses each backend in which a key or a table has a mistake, and no other."""
    broken = set(re.findall(r"^\d+: backends\.(\w+)", "\n".join(expected(text)), re.MULTILINE))
    for name, backend in tomllib.loads(text)["backends"].items():
        raw = {"listeners": [{"endpoint": "tcp:1"}], "backends": {name: backend}}
        assert validator.is_valid(raw) is (name not in broken), name


def test_schema_tells_of_the_type(validator: Draft7Validator) -> None:
    """What completes and checks a file knows the type's keys, their sentences and defaults, and what the core adds."""
    schema: Any = validator.schema
    assert {"$ref": "#/definitions/directory"} in schema["properties"]["backends"]["additionalProperties"]["anyOf"]
    table = schema["definitions"]["directory"]
    keys = table["properties"]
    assert table["description"] == "Answers from a directory."
    assert keys["depth"] == {
        "description": "How deep to look.",
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 2,
    }
    assert keys["first"]["description"] == "A server to ask."
    assert keys["first"]["properties"]["greeting"]["default"] == "I am {user}"
    assert (keys["timeout"]["default"], keys["max_running"]["default"]) == (2.5, 3)
    assert "vary" not in keys["cache"]["properties"]


def test_secrets_are_left_out(command: list[str], file: Path) -> None:
    """What a key says is a secret is not printed, within lists and tables either, nor what a URL's query says."""
    file.write_text(LISTENER + SECRETS)
    ended = run(["config", "--config", str(file)], command=command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "sesame" not in ended.stdout
    printed = tomllib.loads(ended.stdout)["backends"]["d"]
    server = {"is_local": False, "weight": 1, "greeting": "I am {user}"}
    assert printed == {
        "type": "directory",
        "tree": "x",
        "depth": 2,
        "share": 0.5,
        "pause": 1,
        "fields": ["name", "plan"],
        "key": "(left out)",
        "keys": ["(left out)", "(left out)"],
        "names": {"PATH": "(left out)", "other": "(left out)"},
        "first": {**server, "url": "http://h/{user}?key=(left%20out)&user={user}", "password": "(left out)"},
        "others": [{**server, "host": "x", "password": "(left out)"}, {**server, "host": "y"}],
        "by_name": {"a": {**server, "host": "z", "password": "(left out)"}, "b": "z"},
        "timeout": 2.5,
        "max_running": 3,
        "breaker": {"failures": 3, "pause": 5},
    }
    file.write_text(ended.stdout)
    again = run(["config", "--config", str(file)], command=command)
    assert (again.returncode, again.stdout) == (0, ended.stdout)


def test_explain_asks_it(command: list[str], file: Path) -> None:
    """A query's chain is shown with the type, and a backend of it answers."""
    route = '[[routes]]\npattern = "*"\nbackends = ["d"]\n'
    file.write_text(LISTENER + route + '[backends.d]\ntype = "directory"\ntree = "x"\n')
    ended = run(["explain", "--config", str(file), "--ask", "--json", "nail"], command=command)
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["chain"][0]["type"], told["answer"]) == (0, "directory", "d: name, plan of nail\n")


UNKNOWN = ["int | str", "tuple[int, str]", "list[str]", "dict[int, str]", "bytes", "Literal[1]"]
INNER = ["tuple[SecretFile, ...]", "tuple[dict[str, SecretFile], ...]", "dict[str, WatchedFile]"]


def test_what_nothing_can_be_made_of(tmp_path: Path, file: Path) -> None:
    """A type with a key that the configuration knows nothing of is a mistake where it is used; which key is told."""
    kinds = UNKNOWN + INNER
    text = (
        "from typing import Literal\nfrom fingergw.api import *\nfrom fingergw.api import setting, settings\n"
        + "".join(
            f"@settings\nclass Odd{number}:\n    key: {kind} = setting('A key.')\n    def open(self, site): pass\n"
            for number, kind in enumerate(kinds)
        )
    )
    names = [f"odd{number}" for number in range(len(kinds))]
    command = write_package(tmp_path, "odd", text, "\n".join(f"{name} = odd:{name.title()}" for name in names))
    file.write_text(LISTENER + "".join(f'[backends.{name}]\ntype = "{name}"\n' for name in names))
    found = mistakes(run(["check", "--config", str(file)], command=command), file)
    for number, (name, message) in enumerate(zip(names, found, strict=True)):
        why = "no key can have the type" if number < len(UNKNOWN) else "only a key of the backend itself can have"
        assert f'backends.{name}.type: type "{name}" of the package odd: ' in message
        assert f"TypeError: key: {why}" in message
    ended = run(["schema"], command=command)
    assert (ended.returncode, ended.stderr) == (0, "")


ACCOUNTS = """
from fingergw.api import SecretFile, setting, settings
@settings
class Accounts:
    key_file: SecretFile = setting("A file.")
    other_file: SecretFile | None = setting("A file.", default=None)
    depth: int = setting("How deep.", default=1)
    def check(self):
        yield "", "expected something else"
        if self.depth > 3:
            yield "depth", "expected at most 3"
    def open(self, site): pass
"""


def test_a_rule_of_a_table_hides_nothing_of_the_machine(tmp_path: Path, file: Path) -> None:
    """What a type finds in the whole of its table is reported beside files that are missing, and keys that are."""
    command = write_package(tmp_path, "accounts", ACCOUNTS, "accounts = accounts:Accounts")
    keys = 'type = "accounts"\nother_file = "nowhere"\n'
    file.write_text(LISTENER + f"[backends.a]\n{keys}depth = 5\n[backends.b]\n{keys}key_file = 5\ndepth = '5'\n")
    found = mistakes(run(["check", "--config", str(file)], command=command), file)
    assert [message.split(": ")[:2] for message in found] == [
        ["3", "backends.a"],
        ["3", "backends.a"],
        ["5", "backends.a.other_file"],
        ["6", "backends.a.depth"],
        ["7", "backends.b"],
        ["9", "backends.b.other_file"],
        ["10", "backends.b.key_file"],
        ["11", "backends.b.depth"],
    ]


ECHO = """
from fingergw.api import setting, settings
@settings
class Echo:
    depth: int = setting("How deep.", default=1, most=9)
    def check(self):
        yield "depth", "expected something else"
        yield ("depth",), "expected something else"
    def open(self, site): pass
"""


def test_a_rule_of_a_table_repeats_nothing(tmp_path: Path, file: Path) -> None:
    """What a type says twice is reported once, and nothing that it says of a key that has a mistake already."""
    command = write_package(tmp_path, "echo", ECHO, "echo = echo:Echo")
    file.write_text(LISTENER + '[backends.a]\ntype = "echo"\ndepth = 5\n[backends.b]\ntype = "echo"\ndepth = 50\n')
    assert mistakes(run(["check", "--config", str(file)], command=command), file) == [
        "5: backends.a.depth: expected something else",
        "8: backends.b.depth: expected a number of at most 9",
    ]
