"""What somebody else's type says of waiting, and of whom it asks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import tomli_w

from tests.support.packages import write_package
from tests.support.processes import forked, run
from tests.support.sockets import finger, free_port

MODULE = '''
from fingergw.api import Failed, FilePath, Waits, setting, settings

@settings
class Usual:
    """Has a breaker."""
    waits = Waits(timeout=5, max_running=2)
    says: str = setting("Of whom it asks.", default="responded")
    log: FilePath = setting("Where it notes whom it is asked for.")

    def open(self, site):
        return self

    async def answer(self, query):
        with open(self.log, "a") as log:
            print(query.user, file=log)
        return Failed("no", upstream=self.says)

@settings
class Patient:
    """Has none, unless its table says so."""
    waits = Waits(timeout=5, max_running=2, breaker=False)
    says: str = setting("Of whom it asks.", default="responded")
    log: FilePath = setting("Where it notes whom it is asked for.")

    open, answer = Usual.open, Usual.answer
'''
TYPES = "usual = fingergw_waits:Usual\npatient = fingergw_waits:Patient"
DEFAULT = {"failures": 3, "pause": 5}
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which the package is installed, and files are."""
    write_package(tmp_path, "fingergw_waits", MODULE, TYPES)
    return tmp_path


def configure(folder: Path, table: Mapping[str, object], port: int = 0) -> list[str]:
    """Have a backend that answers every name; return the arguments that name the configuration."""
    tables = {
        "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
        "routes": [{"pattern": "*", "backends": ["b"]}],
        "backends": {"b": {**table, "log": str(folder / "log")}},
    }
    (folder / "fingergw.toml").write_text(tomli_w.dumps(tables))
    return ["--config", str(folder / "fingergw.toml")]


@pytest.mark.parametrize(("kind", "default"), [("usual", DEFAULT), ("patient", False)])
def test_default(folder: Path, kind: str, default: object) -> None:
    """Whether there is a breaker where the table says nothing is as the type says; the table may say otherwise."""
    for said, shown in ((None, default), (False, False), ({}, DEFAULT), ({"failures": 7}, {**DEFAULT, "failures": 7})):
        table = {"type": kind} if said is None else {"type": kind, "breaker": said}
        ran = run(["config", *configure(folder, table)], packages=folder)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert tomllib.loads(ran.stdout)["backends"]["b"]["breaker"] == shown


def test_schema(folder: Path) -> None:
    """The schema has the key for both, and the default where that is false."""
    definitions = json.loads(run(["schema"], packages=folder).stdout)["definitions"]
    assert "default" not in definitions["usual"]["properties"]["breaker"]
    assert definitions["patient"]["properties"]["breaker"]["default"] is False


@pytest.mark.parametrize(
    ("kind", "says", "asked"),
    [
        ("usual", "unreachable", NAMES[:3]),
        ("usual", "silent", NAMES),  # as it has kept nobody waiting
        ("usual", "responded", NAMES),
        ("usual", "unknown", NAMES),
        ("usual", "no such word", NAMES),  # which is a bug, and says nothing
        ("patient", "unreachable", NAMES),
    ],
)
def test_at_work(folder: Path, kind: str, says: str, asked: list[str]) -> None:
    """What its failures say of whom it asks counts."""
    port = free_port()
    arguments = configure(folder, {"type": kind, "says": says}, port)
    with forked(arguments, port=port, packages=folder):
        for name in NAMES:
            assert finger(port, f"{name}\r\n".encode()) == b"Internal error in server\r\n"
    assert (folder / "log").read_text().split() == asked
