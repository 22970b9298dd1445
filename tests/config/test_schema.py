"""The JSON Schema of the configuration file takes what is loaded, and refuses what it can of what is not."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import fingergw
from fingergw.backends.command import Command
from fingergw.backends.finger import Finger
from fingergw.backends.http import Http
from fingergw.backends.menu import Menu
from fingergw.backends.static import Person, Static
from fingergw.cli import main
from fingergw.config import model, read, tables
from fingergw.config.schema import schema, schema_text
from fingergw.core.settings import is_table, keys_of, sentence_of
from tests.support.contract import CONTRACT, LISTENER, VALUES, with_a_value_replaced, write
from tests.support.mistakes import rows
from tests.support.processes import COMMAND, ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CLASSES = [*filter(is_table, vars(tables).values()), model.Config, Command, Finger, Http, Menu, Static, Person]
# What no schema can see: names that name nothing or are there twice, and what strings mean.
UNSEEN = {
    "admin-at-a-listener",
    "admin-through-a-proxy",
    "brace",
    "cache-parts-of-stale",
    "cache-parts-of-stale-by-default",
    "dangling-backend",
    "dangling-backend-none",
    "dangling-listener",
    "decoy-nobody-logs",
    "duplicate-endpoint",
    "duplicate-endpoint-of-a-name",
    "duplicate-listener",
    "duplicate-route",
    "duration-nan",  # which JSON has not; taplo refuses it
    "exit-code-of-two-meanings",
    "float-for-int",  # 5.0 is an integer to JSON
    "haproxy-over-a-unix-socket",
    "haproxy-over-tls",
    "headers-of-a-body",
    "headers-twice",
    "nul",
    "http-placeholders",
    "placeholder-filter",
    "placeholder-filter-of-what-is-unset",
    "placeholder-form",
    "placeholder-not-by-all",
    "placeholder-program",
    "placeholder-unset",
    "regex",
    "regex-look-ahead",
    "store-redis-blank",
    "store-redis-bracket",
    "store-redis-database",
    "store-redis-empty-label",
    "store-redis-number",
    "store-redis-password",
    "store-redis-port",
    "store-redis-port-in-letters",
    "store-redis-ports",
    "store-redis-query",
    "store-redis-without-a-host",
    "store-sqlite-as-a-url",
}


@cache
def validator() -> Draft7Validator:
    """Return what judges by the schema."""
    return Draft7Validator(schema())


def refused(text: str) -> list[str]:
    """Return the places of what the schema refuses in a file."""
    return sorted({error.json_path for error in validator().iter_errors(tomllib.loads(text))})


def test_is_a_schema() -> None:
    """It is a valid schema of the draft that it names, and that editors know."""
    Draft7Validator.check_schema(schema())
    assert schema()["$schema"] == Draft7Validator.META_SCHEMA["$schema"]


def test_command_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """``fingergw schema`` prints it, and the file in the package is the same."""
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert printed == schema_text() == (Path(fingergw.__file__).parent / "schema.json").read_text("utf-8")
    assert json.loads(printed) == schema()


def test_output_that_nobody_takes() -> None:
    """The process shows no traceback at its end either where nothing can be printed."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)


def test_shipped_file_names_it() -> None:
    """The shipped file's first line names the schema where it is, as taplo and Even Better TOML read it."""
    first = (ROOT / "fingergw.toml").read_text().partition("\n")[0]
    assert (ROOT / first.removeprefix("#:schema ")).resolve() == ROOT / "fingergw" / "schema.json"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_key_is_described(cls: Any) -> None:
    """Each table and each of its keys has a sentence, and only what no file has is no key."""
    assert sentence_of(cls)
    assert [key.name for key in keys_of(cls) if not key.text] == []
    assert {each.name for each in attrs.fields(cls)} - {key.name for key in keys_of(cls)} <= {"source"}


def described(part: Any) -> Iterator[Any]:
    """Return the schemas of all keys."""
    if isinstance(part, dict):
        if "description" in part:  # of a table or key, not of what must hold between keys
            yield from part.get("properties", {}).values()
        for inner in part.values():
            yield from described(inner)


def test_descriptions_are_in_it() -> None:
    """An editor finds a description at each key, at every place where the key is."""
    keys = list(described(schema()))
    assert len(keys) > 100
    assert [key for key in keys if "description" not in key] == []


def test_defaults_are_in_it() -> None:
    """A default is one of the code's, as a file has it."""
    properties = schema()["properties"]
    assert properties["limits"]["properties"]["query_timeout"]["default"] == 10
    assert properties["answers"]["properties"]["charset"]["default"] == "utf-8"
    assert properties["routes"]["items"]["properties"]["fallthrough"]["default"] == ["missing", "failed"]
    assert "default" not in properties["listeners"]["items"]["properties"]["allow"]


@pytest.mark.parametrize(
    "text",
    [(ROOT / "fingergw.toml").read_text(), CONTRACT, *BLOCKS],
    ids=["shipped", "contract", *(f"readme-{place}" for place in range(len(BLOCKS)))],
)
def test_takes_what_is_loaded(text: str) -> None:
    """It takes the shipped file, one with every key there is, and each one in the README."""
    assert refused(text) == []


@pytest.mark.parametrize(
    ("text", "unseen"), [pytest.param(row.values[0], row.id in UNSEEN, id=row.id) for row in rows()]
)
def test_refuses_mistakes(text: str, unseen: bool) -> None:
    """It refuses every file that is refused, but where it would have to know more than the place of a value."""
    assert (refused(text) == []) is unseen


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", ["$"]),
        ("[[backends.x]]\n" + LISTENER, ["$.backends.x"]),
        ('[backends.x]\ntype = "http"\nurl = "http://h/"\ntimeout = "5"\n' + LISTENER, ["$.backends.x.timeout"]),
        ('[backends.x]\ntype = "http"\nurk = "http://h/"\n' + LISTENER, ["$.backends.x"]),
        ('[backends.x]\ntype = "statik"\n' + LISTENER, ["$.backends.x.type"]),
        ('[backends.x]\ntype = "static"\nentries.a = { nam = "N" }\n' + LISTENER, ["$.backends.x.entries.a"]),
    ],
    ids=["empty", "list", "value", "key", "type", "person"],
)
def test_shows_where_the_mistake_is(text: str, places: list[str]) -> None:
    """What is refused is the place that is wrong alone, in a backend of whatever type too."""
    assert refused(text) == places


@settings(max_examples=60)
@given(data=st.data())
def test_never_stricter_than_what_is_loaded(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever stands in place of any value of a good file: if it is loaded, the schema takes it."""
    raw = with_a_value_replaced(
        data,
        VALUES
        | st.integers(-1, 70000)
        | st.floats(0, 10)
        | st.text(st.characters(codec="utf-8"), max_size=3)
        | st.sampled_from([[], ["::/0"], "10.0.0.0/255.0.0.0", "HTTPS://[::1]:80?a", "::1", "sqlite:x", "a b", "é"]),
    )
    text = tomli_w.dumps(raw)
    if not read(write(tmp_path_factory.getbasetemp(), text, "taken.toml"))[1]:
        assert refused(text) == []
