"""The README is true, to the letter."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

import fingergw
from fingergw.app.build import problems
from fingergw.cli.main import RunOptions
from fingergw.config import model
from tests.support import ROOT, GatewayCase, Upstream, reactor, response

README = (ROOT / "README.md").read_text()
CONFIGURATIONS = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONSOLES = re.findall(r"^```console\n\$ finger [^\n]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_are_configurations() -> None:
    """The blocks are found, so that the tests below test something."""
    assert len(CONFIGURATIONS) >= 5
    assert len(CONSOLES) == 2


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=lambda text: text.splitlines()[0] + str(len(text)))
def test_configuration_loads(text: str, tmp_path: Path) -> None:
    """Every TOML block of the README is a configuration without mistakes."""
    file = tmp_path / "fingergw.toml"
    file.write_text(text)
    config = fingergw.load(file)
    missing_programs = [problem for problem in problems(config, reactor) if "executable" in problem.message]
    assert problems(config, reactor) == missing_programs


def test_shipped_file_is_the_embedded_default() -> None:
    """The file at the top of the repository is the one in the package."""
    assert (ROOT / "fingergw.toml").read_text() == (Path(fingergw.__file__).parent / "fingergw.toml").read_text()


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("`[[listeners]]`", model.Listener),
        ("`[[routes]]`", model.Route),
        ('`[backends.NAME]` with `type = "static"`', model.StaticBackend),
        ('`[backends.NAME]` with `type = "command"`', model.CommandBackend),
        ('`[backends.NAME]` with `type = "http"`', model.HttpBackend),
        ("`[backends.NAME.cache]`", model.BackendCache),
        ("`[cache]`", model.Cache),
        ('`[backends.NAME]` with `type = "finger"`', model.FingerBackend),
        ("`[limits]`", model.Limits),
        ("`[forwarding]`", model.Forwarding),
        ("`[answers]`", model.Answers),
        ("`[process]`", model.Process),
        ("`[log]`", model.Log),
        ("`[admin]`", model.Admin),
    ],
)
def test_reference_is_complete(heading: str, cls: Any) -> None:
    """Each table's section names every key that the table takes."""
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    names = {attribute.name for attribute in attrs.fields(cls)} - {"cache"}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_every_subcommand_is_listed() -> None:
    """The table of commands has each command of the command line."""
    commands: Any = RunOptions.subCommands
    for name, *_ in commands:
        assert re.search(rf"^\| `fingergw {name}[ `]", README, re.MULTILINE), name


def test_every_module_is_listed() -> None:
    """The table of the house has each module in its room, and no other."""
    table = README.partition("| room | module | has |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    room, listed = "", set()
    for row in table.splitlines():
        _, rooms, modules, *_ = row.split("|")
        room = rooms.strip(" `/") or room
        listed |= {(room, module) for module in re.findall(r"`(\w+)`", modules)}
    there = {(path.parent.name, path.stem) for path in (ROOT / "fingergw").glob("*/*.py")}
    assert listed == {(room, module) for room, module in there if module != "__init__"}


@pytest.mark.parametrize(
    ("heading", "table", "count"),
    [
        ("`[limits]`", model.Limits(), 7),
        ("`[forwarding]`", model.Forwarding(), 4),
        ('`[backends.NAME]` with `type = "command"`', model.CommandBackend((model.Argument("a"),)), 7),
        ('`[backends.NAME]` with `type = "http"`', model.HttpBackend(model.Url("http://h/")), 3),
        ('`[backends.NAME]` with `type = "finger"`', model.FingerBackend(model.HostName("h")), 4),
        ("`[backends.NAME.cache]`", model.BackendCache(), 3),
        ("`[cache]`", model.Cache(), 2),
    ],
)
def test_defaults_are_those_of_the_code(heading: str, table: Any, count: int) -> None:
    """The numbers that a table of keys has as defaults are the code's."""
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    stated = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", section, re.MULTILINE))
    assert {name: float(value) for name, value in stated.items()} == {name: getattr(table, name) for name in stated}
    assert len(stated) == count


class OpeningExample(GatewayCase):
    def example(self, port: int) -> str:
        """Return the README's first configuration, with a rota and a port of this machine."""
        text: str = CONFIGURATIONS[0].replace("https://rota.example.org", f"http://127.0.0.1:{port}")
        assert tomllib.loads(text)["listeners"] == [{"endpoint": "tcp:79"}]
        return text.replace("tcp:79", "tcp:0:interface=127.0.0.1")

    async def test_answers(self) -> None:
        """The first configuration prints what the README says while the rota is there."""
        upstream = Upstream(self, lambda server, head: server.send(response(CONSOLES[0].encode())))
        gateway = self.start(self.example(upstream.port))
        self.assertEqual((await self.ask(gateway, b"oncall\r\n")).decode().replace("\r\n", "\n"), CONSOLES[0])

    async def test_falls_back(self) -> None:
        """The first configuration prints what the README says when the rota is gone."""
        upstream = Upstream(self, lambda server, head: server.close())
        gateway = self.start(self.example(upstream.port))
        self.assertEqual((await self.ask(gateway, b"oncall\r\n")).decode().replace("\r\n", "\n"), CONSOLES[1])
