"""Files that would take a parser of TOML too long, or too much memory or stack."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw import config
from fingergw.app.gateway import Gateway
from fingergw.backends.static import Entries
from fingergw.config.toml_text import is_suspect, out_of_bounds
from fingergw.core.errors import ConfigError
from tests.support.checked import LISTENER, MAP, told
from tests.support.data_files import STATIC, AtOnce
from tests.support.gateway import GatewayCase
from tests.support.processes import run
from tests.support.reloading import ReloadCase

DIGITS = "expected a number of at most 1000 digits"
NAMES = "expected a key of at most 10 names joined by dots"
DEEP = "expected lists and tables nested at most 100 deep"
SECONDS = "expected a finite number of seconds, above 0 and below 1000000000"
MILLION = 1_000_000
BROKEN = {
    "digits": ("a = " + "1" * 5000, DIGITS),
    "negative digits": ("a = -" + "1" * 5000, DIGITS),
    "digits with underscores": ("a = 1" + "_1" * 3000, DIGITS),
    "digits of a fraction": ("a = 0." + "1" * MILLION, DIGITS),
    "digits of an exponent": ("a = 1e" + "1" * 5000, DIGITS),
    "digits in a list": ("a = [[" + "1" * 5000 + "]]", DIGITS),
    "hexadecimal digits": ("a = 0x" + "1" * MILLION, DIGITS),
    "digits of a second": ("a = 2026-01-01T00:00:00." + "1" * MILLION, DIGITS),
    "dots": ("a." * 20_000 + "a = 1", NAMES),
    "dots and blanks": ("a . " * 20_000 + "a = 1", NAMES),
    "dots and strings": ("\"a\".'b'." * 10_000 + "a = 1", NAMES),
    "dots in a table": ("[" + "a." * 5000 + "a]", NAMES),
    "dots in a list of tables": ("[[" + "a." * 5000 + "a]]", NAMES),
    "dots in an inline table": ("a = {" + "a." * 5000 + "a = 1}", NAMES),
    "lists": ("a = " + "[" * 100_000, DEEP),
    "closed lists": ("a = " + "[" * 100_000 + "]" * 100_000, DEEP),
    "lists of strings": ("a = " + '["]",' * 100_000, DEEP),
    "inline tables": ("a = " + "{ a = " * 100_000, DEEP),
    "lists and tables": ("a = " + "[{ a = " * 10_000, DEEP),
}
NOT_TOML = {
    "no day": "a = 2026-02-30",
    "no year": "a = 0000-01-01",
    "no hour": "a = 25:00:00",
    "no offset": "a = 2026-01-01T00:00:00+24:00",
    "NUL": 'a = "\0"',
    "BOM": "\ufeff\ufeffa = 1",
    "a surrogate": 'a = "\\ud800"',
    "no character": 'a = "\\UFFFFFFFF"',
    "a long key twice": "a" * 100_000 + "=1\n" + "a" * 100_000 + "=1\n",
    "a long string": 'a = "' + "x" * MILLION,
    "dots alone": "." * 100_000,
    "quotes": "'" * 100_001,
    "brackets": "]" * 100_000,
}


@pytest.mark.parametrize(("text", "why"), BROKEN.values(), ids=BROKEN)
def test_too_much(text: str, why: str, tmp_path: Path) -> None:
    """What takes a parser too long is a mistake with its line, in a configuration and in a map of its own alike."""
    path = tmp_path / "fingergw.toml"
    path.write_text(f"{LISTENER}# 'a comment\n\n{text}\n")
    assert told(path) == [f"5: {why}"]
    path.write_text(f"b = 'x'\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        config.load_table(path, Entries)
    assert caught.value.problems == (f"{path}:2: {why}",)


@pytest.mark.parametrize("text", NOT_TOML.values(), ids=NOT_TOML)
def test_not_toml(text: str, tmp_path: Path) -> None:
    """So is what is no TOML, in few words."""
    path = tmp_path / "fingergw.toml"
    path.write_text(text)
    (mistake,) = told(path)
    assert mistake.split(": ")[0] in ("1", "2", "3")
    assert ": not TOML: " in mistake
    assert len(mistake) < 1100


def test_several(tmp_path: Path) -> None:
    """All of them are reported, each with its line; of very many the first."""
    path = tmp_path / "fingergw.toml"
    path.write_text("a = " + "1" * 2000 + "\n" + "b." * 20 + "c = 1\n")
    assert told(path) == [f"1: {DIGITS}", f"2: {NAMES}"]
    path.write_text(("a = " + "1" * 2000 + "\n") * 1000)
    assert told(path) == [f"{line}: {DIGITS}" for line in range(1, 21)]


def test_endless_numbers(tmp_path: Path) -> None:
    """Numbers that no float holds are mistakes as any that is too large."""
    path = tmp_path / "fingergw.toml"
    path.write_text(
        f"{LISTENER}[limits]\nquery_timeout = 0x{'f' * 900}\nmax_waiting = 0x{'f' * 900}\nanswer_timeout = inf\n"
    )
    assert [each.partition(": ")[2] for each in told(path)] == [
        f"limits.query_timeout: {SECONDS}",
        "limits.max_waiting: expected a number from 1 to 1000000000",
        f"limits.answer_timeout: {SECONDS}",
    ]


def test_not_utf8(tmp_path: Path) -> None:
    """The line of what is not UTF-8 is told, far into a file too."""
    path = tmp_path / "fingergw.toml"
    path.write_bytes(b"#\n" * 50_000 + b"a = '\xff'\n")
    assert told(path) == ["50001: not UTF-8, which TOML requires; save the file as UTF-8"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends(end: str, tmp_path: Path) -> None:
    """Both kinds of line end are one."""
    path = tmp_path / "fingergw.toml"
    path.write_bytes((LISTENER + "[limits]\nmax_waiting = 0\n").replace("\n", end).encode())
    assert told(path) == ["4: limits.max_waiting: expected a number of at least 1"]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file is read to a size that no configuration has."""
    path = tmp_path / "fingergw.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert told(path) == [" cannot be read: larger than 67108864 bytes"]


def test_what_is_large_and_whole(tmp_path: Path) -> None:
    """A map of some MB is taken, with dots, digits and brackets in its texts, and so is a key of some names."""
    path = tmp_path / "map.toml"
    text = "1. " * 20 + "[" * 200 + "9" * 2000 + "a.b." * 20
    path.write_text("".join(f'n{number} = "{text} {number}"\n' for number in range(1000)) + '["a.b".x]\ny.z = "1"\n')
    with pytest.raises(ConfigError, match=r"map\.toml:1001: \"a\.b\"\.x: unknown key"):
        config.load_table(path, Entries)


@given(st.text(alphabet="ab.\"'\\[]{}#=\n 1_,-", max_size=60))
def test_any_text_is_looked_over(text: str) -> None:
    """Whatever stands in a file, what is found has a line of it; nothing is in what is short."""
    assert all(1 <= line <= text.count("\n") + 1 for line, _ in out_of_bounds(text))
    if "." not in text:
        assert not is_suspect(text)


@pytest.mark.parametrize("command", ["check", "config", "explain", ""])
def test_commands(command: str, tmp_path: Path) -> None:
    """Each command that reads a file exits with 78 and shows the mistake, the one that serves too."""
    path = tmp_path / "fingergw.toml"
    for text, why in (BROKEN["digits"], BROKEN["dots"], BROKEN["dots in a table"], BROKEN["lists"]):
        path.write_text(LISTENER + text + "\n")
        arguments = [*command.split(), "--config", str(path), *(["x"] if command == "explain" else [])]
        ended = run(arguments)
        assert (ended.returncode, ended.stdout) == (78, "")
        assert ended.stderr == f"fingergw: 1 mistake:\n{path}:3: {why}\n"
    path.write_text(LISTENER + MAP.replace('text = "x"', 'file = "map.toml"'))
    (tmp_path / "map.toml").write_text("a." * 5000 + "b = 1")
    if command != "config":
        ended = run([*command.split(), "--config", str(path), *(["x"] if command == "explain" else [])])
        assert ended.returncode == 78
        assert f"map.toml:1: {NAMES}\n" in ended.stderr


class ReloadTests(ReloadCase):
    async def test_reload(self) -> None:
        """At a reload such a file is a line in the log, and the previous configuration stays active."""
        gateway: Gateway = self.begin(LISTENER + MAP)
        for text, why in BROKEN.values():
            first, second = await self.reload(gateway, LISTENER + text)
            assert first.endswith(f"fingergw.toml:3: {why}")
            assert second == "1 mistake; the previous configuration stays active"
        assert await self.ask(gateway, b"a\r\n") == b"x\r\n"


class MapTests(AtOnce, GatewayCase):
    async def test_map(self) -> None:
        """A map that becomes such a file is a line in the log, and what was there before stays."""
        self.write("people.toml", 'moshez = "Happy"')
        gateway = self.start(STATIC)
        for text, why in BROKEN.values():
            self.events.clear()
            self.write("people.toml", text)
            assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
            assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
            (line,) = self.lines
            assert f"people.toml:1: {why}" in line
