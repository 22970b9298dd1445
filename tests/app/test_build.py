"""What a configuration is built into without a gateway, and which parts the next one keeps."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
import trustme

import fingergw
from fingergw.app.build import build
from fingergw.app.environment import Environment
from fingergw.app.parts.parts import Parts
from tests.support.waiting import reactor

TEXT = """
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[[routes]]
user = "x"
summary = "X"
backends = ["plain", "cached", "menu", "map"]
[backends.plain]
type = "http"
url = "https://127.0.0.1/"
bearer_token_file = "token"
header_files = { X-Key = "key" }
ca_file = "ca.pem"
[backends.cached]
type = "http"
url = "https://127.0.0.1/"
cache = {}
[backends.menu]
type = "menu"
[backends.map]
type = "static"
file = "map.toml"
[cache]
store = "sqlite:cache.db"
[log]
access = "access.log"
"""
ALL = {"access log", "store", "memory", "plain", "cached", "menu", "map"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files that the configuration names."""
    for name in ("token", "key"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o600)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "map.toml").write_text('x = "y"')
    return tmp_path


def parts_of(parts: Parts) -> dict[str, object]:
    """Return what can be kept, by a name."""
    return {"access log": parts.access_log, "store": parts.store, "memory": parts.memory, **parts.backends}


def built(folder: Path, text: str, previous: Parts | None, environment: Environment) -> Parts:
    """Build a configuration that has no mistakes."""
    path = folder / "fingergw.toml"
    path.write_text(text)
    parts, problems = build(fingergw.load(path), previous, environment)
    assert problems == []
    return parts


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("", "", set()),
        ('user = "x"', 'user = "y"', {"menu"}),
        ("[log]", "[answers]\ncase_sensitive = true\n[log]", {"map"}),
        ("[log]", "[answers]\nno_such_user = 'Nobody'\n[log]", set()),
        ("cache = {}", "cache = {ttl = 1}", {"cached"}),
        ("[cache]", "[cache]\nmax_entries = 7", {"store", "cached"}),
        ("cache.db", "other.db", {"store", "cached"}),
        ("access.log", "other.log", {"access log"}),
        ("[log]", '[log]\nformat = "json"', {"access log"}),
        ("[log]", '[log]\nlevel = "debug"', set()),
        ("bearer_token_file", "timeout = 3\nbearer_token_file", {"plain"}),
    ],
)
def test_kept_while_the_settings_are_the_same(folder: Path, old: str, new: str, changes: set[str]) -> None:
    """Each part is kept but for those that are made from what has changed."""
    environment = Environment(reactor)
    first = built(folder, TEXT, None, environment)
    second = built(folder, TEXT.replace(old, new), first, environment)
    before, after = parts_of(first), parts_of(second)
    assert {name for name in ALL if before[name] is not after[name]} == changes


@pytest.mark.parametrize(
    ("name", "changes"),
    [("token", {"plain"}), ("key", {"plain"}), ("ca.pem", {"plain"}), ("map.toml", set()), ("access.log", set())],
)
def test_kept_while_secrets_are_the_same(folder: Path, name: str, changes: set[str]) -> None:
    """A backend is kept while its secrets and authorities are the same; another file it follows by itself."""
    environment, path = Environment(reactor), folder / name
    first = built(folder, TEXT, None, environment)
    content = path.read_text() if path.exists() else ""
    path.write_text(content)
    second = built(folder, TEXT, first, environment)
    another = trustme.CA().cert_pem.bytes().decode() if name == "ca.pem" else 'other = "another"'
    path.write_text(another.replace(" ", "") if name in ("token", "key") else another)
    third = built(folder, TEXT, second, environment)
    one, two, three = parts_of(first), parts_of(second), parts_of(third)
    assert {each for each in ALL if one[each] is not two[each]} == set()
    assert {each for each in ALL if two[each] is not three[each]} == changes


def test_files_are_read_once(folder: Path) -> None:
    """Each file that is watched is read once, so that what is checked is what is used."""
    with mock.patch("os.open", wraps=os.open) as opened:
        built(folder, TEXT, None, Environment(reactor))
    names = [Path(call.args[0]).name for call in opened.call_args_list]
    assert {name: names.count(name) for name in ("token", "ca.pem", "map.toml")} == {
        "token": 1,
        "ca.pem": 1,
        "map.toml": 1,
    }


def test_checked_alone(folder: Path) -> None:
    """What is only checked opens no backend, and has no need of what a gateway runs."""
    path = folder / "fingergw.toml"
    path.write_text(TEXT)
    parts, problems = build(fingergw.load(path), None, Environment(reactor), opens=False)
    assert (parts.backends, problems) == ({}, [])
    assert [listener.rules.listener for _, listener in parts.listeners] == ["tcp:0:interface=127.0.0.1"]
    assert not (folder / "cache.db").exists()
    assert not (folder / "access.log").exists()
