"""The README is true, to the letter."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import fingergw
from fingergw.app.build import check
from fingergw.cli import main
from fingergw.cli.command import COMMANDS
from fingergw.config import tables
from fingergw.config.backend_types import backend_type
from fingergw.core.outcome import VaryingCache
from fingergw.core.rules import Limits
from fingergw.core.settings import keys_of
from tests.support.gateway import GatewayCase
from tests.support.http_server import Upstream, response
from tests.support.processes import ROOT
from tests.support.waiting import reactor

README = (ROOT / "README.md").read_text()
CONFIGURATIONS = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONSOLES = re.findall(r"^```console\n\$ finger [^\n]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_are_configurations() -> None:
    """The blocks are found, so that the tests below test something."""
    assert len(CONFIGURATIONS) >= 5
    assert len(CONSOLES) == 2


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=lambda text: text.splitlines()[0] + str(len(text)))
def test_configuration_loads(text: str, tmp_path: Path) -> None:
    """Every TOML block of the README is a configuration without mistakes, of which nothing is warned."""
    file = tmp_path / "fingergw.toml"
    file.write_text(text)
    config = fingergw.load(file)
    mistakes, warnings = check(config, reactor, is_whole=True)
    assert mistakes == [problem for problem in mistakes if "executable" in problem.message]
    assert warnings == []


@pytest.mark.parametrize(
    ("beginning", "text"),
    [
        (
            "fingergw: 2 mistakes:",
            """\
[[listeners]]
endpoint = "tcp:79"
alow = ["10.0.0.0/8"]

[backends.rota]
type = "http"
url = "https://rota.example.org/"
timeout = "5"
""",
        ),
        (
            "fingergw: warning: ",
            """\
[backends]
people = { type = "static", text = "away" }

[[listeners]]
endpoint = "tcp:1079"

[[routes]]
pattern = "svc-*"
backends = ["people"]

[[routes]]
user = "svc-mail"
backends = ["people"]
""",
        ),
    ],
)
def test_messages(
    beginning: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The messages that the README shows are those of the command, and so are their lines."""
    (tmp_path / "fingergw.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    main(["check"])
    (shown,) = re.findall(rf"^```\n({re.escape(beginning)}.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert capfd.readouterr().err == shown


def test_shipped_file_is_the_embedded_default() -> None:
    """The file at the top of the repository is the one in the package."""
    assert (ROOT / "fingergw.toml").read_text() == (Path(fingergw.__file__).parent / "fingergw.toml").read_text()


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("`[[listeners]]`", tables.Listener),
        ("`[[routes]]`", tables.Route),
        ('`[backends.NAME]` with `type = "static"`', backend_type("static").table),
        ('`[backends.NAME]` with `type = "command"`', backend_type("command").table),
        ('`[backends.NAME]` with `type = "http"`', backend_type("http").table),
        ("`[backends.NAME.cache]`", VaryingCache),
        ("`[cache]`", tables.Cache),
        ('`[backends.NAME]` with `type = "finger"`', backend_type("finger").table),
        ("`[limits]`", Limits),
        ("`[forwarding]`", tables.Forwarding),
        ("`[answers]`", tables.Answers),
        ("`[process]`", tables.Process),
        ("`[log]`", tables.Log),
        ("`[admin]`", tables.Admin),
    ],
)
def test_reference_is_complete(heading: str, cls: Any) -> None:
    """Each table's section names every key that the table takes."""
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    names = {key.name for key in keys_of(cls)} - {"cache"}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_every_subcommand_is_listed() -> None:
    """The table of commands has each command of the command line."""
    for name in COMMANDS:
        assert re.search(rf"^\| `fingergw {name}[ `]", README, re.MULTILINE), name


def test_every_module_is_listed() -> None:
    """The table of rooms has each module of each room, once, and none that is not there."""
    house = README.partition("\n### The house\n")[2].partition("\n#")[0]
    listed: dict[str, list[str]] = {}
    room = ""
    for named, modules in re.findall(r"^\| (?:`([a-z/]+)/` )?\| (`[^|]+`) \|", house, re.MULTILINE):
        room = named or room
        listed.setdefault(room, []).extend(re.findall(r"`(\w+)`", modules))
    package = ROOT / "fingergw"
    there = {
        str(folder.relative_to(package) if folder != package else package.name): sorted(
            path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")
        )
        for folder in (path.parent for path in package.rglob("__init__.py"))
    }
    assert {room: sorted(modules) for room, modules in listed.items()} == there


@pytest.mark.parametrize(
    ("heading", "cls", "count"),
    [
        ("`[limits]`", Limits, 7),
        ("`[forwarding]`", tables.Forwarding, 4),
        ('`[backends.NAME]` with `type = "command"`', backend_type("command").table, 7),
        ('`[backends.NAME]` with `type = "http"`', backend_type("http").table, 3),
        ('`[backends.NAME]` with `type = "finger"`', backend_type("finger").table, 4),
        ("`[backends.NAME.cache]`", VaryingCache, 3),
        ("`[cache]`", tables.Cache, 2),
    ],
)
def test_defaults_are_those_of_the_code(heading: str, cls: Any, count: int) -> None:
    """The numbers that a table of keys has as defaults are the code's."""
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    stated = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", section, re.MULTILINE))
    defaults = {key.name: key.default for key in keys_of(cls)}
    assert {name: float(value) for name, value in stated.items()} == {name: defaults[name] for name in stated}
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
