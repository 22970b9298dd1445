"""A configuration as TOML again: ``dumps``, and ``fingergw config``, which leaves secrets out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fingergw.cli import main
from fingergw.config import dumps, dumps_effective, load, model, read
from fingergw.core.settings import changed, keys_of
from tests.support.contract import CONTRACT, LISTENER, write
from tests.support.processes import ROOT

ROUND = [
    LISTENER,
    "[limits]\nmax_connections = 5\n" + LISTENER + "limits.max_connections = 1000\nlimits.query_timeout = 0.5\n",
    LISTENER + '[[routes]]\nuser = "a"\nclients = ["::1"]\nbackends = ["b"]\n[[routes]]\nuser = "a"\nbackends = ["b"]\n'
    '[backends.b]\ntype = "static"\ntext = "x"\n',
    LISTENER + '[process]\numask = "0"\nchroot = "empty"\n[answers]\nbusy = ""\n[log]\nlevel = "warn"\n',
    LISTENER
    + '[backends."a b"]\ntype = "static"\nentries = { a = "", "\\\\\\"" = { plan = "\\u001bx\\ny" }, e = {} }\n',
    LISTENER + 'allow = ["10.0.0.0/8", "::1"]\ndeny = []\nname = "é"\n[cache]\nmax_entries = 5\n',
]


@pytest.mark.parametrize("text", [*ROUND, (ROOT / "fingergw.toml").read_text()], ids=range(len(ROUND) + 1))
def test_dumps_round_trip(tmp_path: Path, text: str) -> None:
    """A configuration that is written and read again, from anywhere, is the same."""
    config = load(write(tmp_path, text))
    (tmp_path / "elsewhere").mkdir()
    assert load(write(tmp_path / "elsewhere", dumps(config))) == config


def test_dumps_has_every_key(tmp_path: Path) -> None:
    """No key of the contract is lost when a configuration is written."""
    config, _ = read(write(tmp_path, CONTRACT))
    assert read(write(tmp_path, dumps(config), "g.toml"))[0] == config


def test_tables_are_in_order(tmp_path: Path) -> None:
    """Tables are written in the order in which they are explained, whatever is left out."""
    config, _ = read(write(tmp_path, CONTRACT))
    order = [key.name for key in keys_of(model.Config)]
    assert list(tomllib.loads(dumps_effective(config))) == order
    short = tomllib.loads(dumps(config))
    assert list(short) == [name for name in order if name in short]


def effective(path: Path, *options: str) -> list[str]:
    """Return the command line that dumps a file."""
    return ["config", "--config", str(path), *options]


@pytest.mark.parametrize("text", [*ROUND, (ROOT / "fingergw.toml").read_text()], ids=range(len(ROUND) + 1))
def test_effective_round_trip(tmp_path: Path, text: str) -> None:
    """What is in effect is loaded as the same, from anywhere, where it has no secrets."""
    config = load(write(tmp_path, text))
    (tmp_path / "elsewhere").mkdir()
    assert load(write(tmp_path / "elsewhere", dumps_effective(config))) == config


def test_effective_has_every_key(tmp_path: Path) -> None:
    """What is printed has each key of the contract, and is the same again when it is read and dumped."""
    config = load(write(tmp_path, CONTRACT))
    printed = dumps_effective(config)
    again = load(write(tmp_path, printed, "g.toml"))
    cache = changed(config.cache, store="rediss://(left out)@cache.example.org:6380/1")
    log = changed(config.log, access=str(tmp_path / "access.log"))
    assert again == changed(config, cache=cache, log=log)
    assert dumps_effective(again) == printed


def test_effective_values(tmp_path: Path) -> None:
    """Each key has the value in effect: the default, or what a listener has from [limits]; unset ones are left out."""
    text = (
        "[limits]\nmax_connections = 5\nrate = { queries = 60, per = 60, burst = 20 }\n"
        + LISTENER
        + "limits.query_timeout = 2\n"
        + '[[routes]]\nindex = true\nbackends = ["c"]\n[backends.c]\ntype = "command"\nargv = ["a"]\n'
    )
    raw = tomllib.loads(dumps_effective(load(write(tmp_path, text))))
    limits = {
        "max_query_bytes": 512,
        "query_timeout": 10,
        "answer_timeout": 15,
        "max_answer_bytes": 65536,
        "max_connections": 5,
        "max_connections_per_client": 20,
        "max_waiting": 500,
        "rate": {"queries": 60, "per": 60, "burst": 20},
    }
    assert raw["limits"] == limits
    assert raw["listeners"] == [
        {
            "name": "tcp:1079",
            "endpoint": "tcp:1079",
            "deny": [],
            "trusted_proxies": [],
            "decoy": False,
            "delay": 0,
            "limits": {**limits, "query_timeout": 2},
        }
    ]
    assert raw["routes"] == [
        {
            "name": "index",
            "summary": "",
            "usage": "",
            "index": True,
            "backends": ["c"],
            "fallthrough": ["missing", "failed"],
        }
    ]
    assert raw["backends"]["c"] == {
        "type": "command",
        "argv": ["a"],
        "timeout": 5,
        "max_bytes": 65536,
        "max_running": 4,
        "breaker": False,
        "max_cpu_seconds": 10,
        "max_memory_bytes": 2147483648,
        "max_file_bytes": 16777216,
        "max_processes": 1024,
        "charset": "utf-8",
        "missing_exit_codes": [],
        "answer_exit_codes": [],
        "env": {},
    }
    assert raw["process"] == {}
    assert set(raw) == {key.name for key in keys_of(model.Config)}


SECRETS = """
[backends.h]
type = "http"
url = "https://h/open?key=sesame1&user={user}&both=sesame2{user}&sesame3;x={{sesame4}}{user:upper}"
bearer_token_file = "token"
header_files = { X-Key = "key", Cookie2 = "token" }
headers = { Accept = "text/plain", accept-language = "de", User-Agent = "x", Cookie = "sesame6", X-Accept = "sesame7" }
[backends.c]
type = "command"
argv = ["true"]
[backends.c.env]
LANG = "C"
LC_ALL = "de"
PATH = "/bin"
HOME = "/h"
TZ = "UTC"
TERM = "vt"
PGPASSWORD = "sesame8"
PATHS = "sesame9"
[backends.s]
type = "static"
file = "people.toml"
[cache]
store = "redis://sesame0@h/1"
password_file = "password"
"""


def test_effective_has_no_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What may be a secret is left out, in a way that can be loaded again, and so is what is in files."""
    for name in ("token", "key", "password", "people.toml"):
        write(tmp_path, 'sesame = "sesame"\n', name).chmod(0o600)
    assert main(effective(write(tmp_path, LISTENER + SECRETS))) == 0
    printed = capsys.readouterr().out
    assert "sesame" not in printed
    raw: Any = tomllib.loads(printed)
    backends = raw["backends"]
    assert backends["h"]["url"] == (
        "https://h/open?key=(left%20out)&user={user}&both=(left%20out){user}&(left%20out);x=(left%20out){user:upper}"
    )
    assert backends["h"]["headers"] == {
        "Accept": "text/plain",
        "accept-language": "de",
        "User-Agent": "x",
        "Cookie": "(left out)",
        "X-Accept": "(left out)",
    }
    harmless = {"LANG": "C", "LC_ALL": "de", "PATH": "/bin", "HOME": "/h", "TZ": "UTC", "TERM": "vt"}
    assert backends["c"]["env"] == {**harmless, "PGPASSWORD": "(left out)", "PATHS": "(left out)"}
    assert backends["h"]["bearer_token_file"] == str(tmp_path / "token")
    assert backends["h"]["header_files"] == {"X-Key": str(tmp_path / "key"), "Cookie2": str(tmp_path / "token")}
    assert raw["cache"]["store"] == "redis://(left out)@h/1"
    assert read(write(tmp_path, printed, "again.toml"))[1] == []


def test_effective_files_are_absolute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files are relative to the file's folder, or another that is named, and come out absolute."""
    more = '[cache]\nstore = "sqlite:c.db"\n[log]\naccess = "a.log"\n'
    path, other = write(tmp_path, LISTENER + more), tmp_path / "other"
    other.mkdir()
    for options, folder in ((), tmp_path), (("--base-dir", str(other)), other):
        assert main(effective(path, *options)) == 0
        raw = tomllib.loads(capsys.readouterr().out)
        assert raw["cache"]["store"] == f"sqlite:{folder}/c.db"
        assert raw["log"]["access"] == f"{folder}/a.log"


def test_effective_of_a_file_with_mistakes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file with mistakes is not dumped: they are reported as ``check`` does, with 78."""
    path = write(tmp_path, LISTENER + "alow = []\n")
    assert main(effective(path)) == 78
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (f'fingergw: 1 mistake:\n{path}:3: listeners[0].alow: unknown key "alow"; did you mean "allow"?\n')


def test_effective_hides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal would obey, or not show, is escaped as TOML has it, in keys too; what is loaded is the same."""
    strange = "".join(map(chr, (0x85, 0x9B, 0xA0, 0xAD, 0x200B, 0x202E, 0x2028, 0xFEFF, 0xE0001, 0x7F, 0x1B, 0x0A)))
    backends = {f"b{strange}": {"type": "static", "text": f"x{strange}é"}}
    path = write(tmp_path, LISTENER + tomli_w.dumps({"backends": backends}))
    assert main(effective(path)) == 0
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert "é" in printed
    assert load(write(tmp_path, printed, "again.toml")) == load(path)


def test_effective_of_what_check_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is wrong only on this machine, or as names are compared, is reported with 78, as by ``check``."""
    route = '[[routes]]\nuser = "null"\nbackends = ["b"]\n'
    text = '[backends.b]\ntype = "static"\nentries = { NULL = "x", null = "y" }\n'
    path = write(tmp_path, LISTENER + text + route)
    for command in (effective(path), ["check", "--config", str(path)]):
        assert main(command) == 78
        out, err = capfd.readouterr()
        why = "this name is defined twice, differing only by case; remove one of the two"
        assert (out, err) == ("", f"fingergw: 1 mistake:\n{path}:5: backends.b.entries.null: {why}\n")
