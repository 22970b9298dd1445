"""A key can have each of the types that fingergw.api has, may be left out with each, and is shown and checked alike."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import tomli_w

from tests.support.packages import write_package
from tests.support.processes import run

TYPES: dict[str, tuple[object, object]] = {  # what it takes, and what it does not
    "str": ("text", 1),
    "bool": (True, "true"),
    "int": (-3, 1.5),
    "float": (1.5, "1"),
    'Literal["a", "b"]': ("a", "c"),
    "Seconds": (0.5, 0),
    "Period": (0, -1),
    "Bytes": (1, 0),
    "Count": (1, 0),
    "Port": (79, 65536),
    "Status": (404, 99),
    "ExitCode": (1, 256),
    "HostName": ("old.example.org", "old.example.org:79"),
    "HeaderName": ("Accept", "Ac cept"),
    "HeaderValue": ("text/plain", "a\nb"),
    "Charset": ("windows-1252", 1252),
    "Variable": ("LANG", "A=B"),
    "Name": ("moshez", 1),
    "Template": ("for {user}", 1),
    "Url": ("https://example.org/{user}?key=hidden", "ftp://example.org"),
    "Argv": (["/bin/true", "{user}"], "/bin/true"),
    "fingergw.api.Argv": (["/bin/true"], []),
    "ProgramPath": ("/bin/true", 1),
    "Jinja": ("{{ user }}", 1),
    "SecretFile": ("secret", 1),
    "WatchedFile": ("text", 1),
    "dict[HeaderName, SecretFile]": ({"X-Key": "secret"}, {"X-Key": 1}),
    "dict[str, SecretFile]": ({"a.b": "secret", "": "secret"}, ["secret"]),
    "tuple[Port, ...]": ([79, 80], [0]),
    "dict[HeaderName, Template]": ({"Accept": "{user}"}, {"Ac cept": "x"}),
    "dict[Name, str | Inner]": ({"a": "b", "c": {"depth": 3}}, {"a": 1}),
    "Inner": ({"depth": 3}, {"depth": 10}),
    "tuple[Inner, ...]": ([{"depth": 3, "url": "https://h/?hidden", "word": "hidden"}], [{"dept": 3}]),
    "dict[Name, Inner]": ({"a": {"depth": 3, "url": "https://h/?hidden", "word": "hidden"}}, {"a": {"dept": 3}}),
    "tuple[Url, ...]": (["https://h/?hidden"], ["https:h"]),
}
MODULE = """
from typing import Literal
import fingergw.api
from fingergw.api import *
from fingergw.api import setting, settings
@settings
class Inner:
    depth: int = setting("How deep.", least=1, most=9)
    url: Url | None = setting("What.", default=None)
    word: str | None = setting("What nobody is shown.", default=None, secret=True)
@settings
class All:
    '''Has all.'''
{}
    def open(self, site):
        return self
    async def answer(self, query):
        return Answered("fine")
"""
LISTENER = {"endpoint": "tcp:0:interface=127.0.0.1"}


def keys(optional: str) -> str:
    """Return a key of each type."""
    return "".join(f"    key_{number}: {kind}{optional}\n" for number, kind in enumerate(TYPES))


def test_each_type(tmp_path: Path) -> None:
    """Each is checked, is in the schema, and comes out of ``config`` as what can be loaded again."""
    (tmp_path / "text").write_text("text")
    (tmp_path / "secret").write_text("a-secret-word")
    (tmp_path / "secret").chmod(0o600)
    module = MODULE.format(keys(' = setting("It.")'))
    more = MODULE.partition("class All:")[2].format(keys(' | None = setting("It.", default=None)'))
    write_package(
        tmp_path,
        "fingergw_all",
        f"{module}\n@settings\nclass Any:{more}",
        "all = fingergw_all:All\nany = fingergw_all:Any",
    )
    schema = jsonschema.Draft7Validator(json.loads(run(["schema"], packages=tmp_path).stdout))
    config = tmp_path / "fingergw.toml"

    def done(action: str, tables: dict[str, Any]) -> tuple[int, str, str]:
        route = {"pattern": "*", "backends": list(tables)}
        config.write_text(tomli_w.dumps({"listeners": [LISTENER], "routes": [route], "backends": tables}))
        ran = run([action, "--config", "fingergw.toml"], cwd=tmp_path, packages=tmp_path)
        return ran.returncode, ran.stdout, ran.stderr

    good = {f"key_{number}": value for number, (value, _) in enumerate(TYPES.values())}
    tables = {"full": {"type": "all", **good}, "some": {"type": "any", **good}, "none": {"type": "any"}}
    assert schema.is_valid({"listeners": [LISTENER], "backends": tables})
    assert done("check", tables) == (0, "fingergw.toml: no mistakes found\n", "")
    code, shown, error = done("config", tables)
    assert (code, error) == (0, "")
    assert "hidden" not in shown
    assert "a-secret-word" not in shown
    again = tomllib.loads(shown)["backends"]
    assert {key: value for key, value in again["some"].items() if key != "type"} == {
        key: value for key, value in again["full"].items() if key != "type"
    }
    assert again["none"] == {"type": "any"}
    assert done("check", again)[0] == 0
    bad = {
        f"{kind}_{number}": {"type": kind, **good, f"key_{number}": value}
        for kind in ("all", "any")
        for number, (_, value) in enumerate(TYPES.values())
    }
    code, _, error = done("check", bad)
    refused = {line.split(": ")[1].split(".")[1] for line in error.splitlines()[1:]}
    assert (code, refused) == (78, set(bad)), error
    assert "Traceback" not in error
    loose = {
        kind for kind, table in bad.items() if schema.is_valid({"listeners": [LISTENER], "backends": {"b": table}})
    }
    assert loose == set()
