"""A package that is not as it should be is one mistake with its name, and never the end of what is at work."""

from __future__ import annotations

import subprocess
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.support.configuration import one_backend
from tests.support.packages import write_package
from tests.support.processes import ROOT, process, run
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

HEAD = """
from __future__ import annotations
from typing import TYPE_CHECKING, Any, Literal
from attrs import Factory
from fingergw.api import Answered, SecretFile, Template, Unchanged, Waits, WatchedFile, setting, settings
"""
BODY = """
@settings
class Broken:
    '''Is broken.'''
{}
    def open(self, site):
        return self
    async def answer(self, query):
        return Answered("fine")
"""
CONFIG = one_backend('type = "broken"', port="{port}")
NESTED = """
@settings
class Inner:
    secret: SecretFile | None = setting("x", default=None)
@settings
class Broken(Broken):
    inner: Inner | None = setting("x", default=None)
"""


def with_keys(text: str) -> str:
    """Return a module whose class has more in it."""
    return HEAD + BODY.format(indent(dedent(text), "    "))


def mistake(done: subprocess.CompletedProcess[str], line: str) -> str:
    """Return the one mistake that a command tells of.

    :param line: where it stands.
    """
    assert done.returncode == 78, (done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    _, *told = done.stderr.splitlines()
    assert len(told) == 1, done.stderr
    assert told[0].startswith(f"fingergw.toml:{line}: "), told
    return told[0]


MODULES = {
    "import error": ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_"),
    "syntax error": ("def", "cannot be imported: SyntaxError: "),
    "exit at import": ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    "no such name": ("", "cannot be imported: AttributeError: module 'fingergw_broken' has no attribute 'Broken'"),
    "a function": (
        "def Broken(): pass",
        "fingergw_broken:Broken is not a class with the decorator fingergw.api.settings",
    ),
    "a dict": ("Broken = {}", "is not a class with the decorator fingergw.api.settings"),
    "plain attrs": ("import attrs\n@attrs.frozen\nclass Broken:\n  x: int = 0", "is not a class with the decorator"),
    "plain child": (with_keys("") + "\nclass Broken(Broken): pass", "is not a class with the decorator"),
    "no open": (HEAD + "@settings\nclass Broken: pass", "has no method open"),
    "type checking": (
        with_keys('key: Missing = setting("x")') + "\nif TYPE_CHECKING: from fingergw.api import Missing",
        "the keys of fingergw_broken:Broken cannot be used: NameError: name 'Missing' is not defined",
    ),
    "a type alone": (
        with_keys('key: Path = setting("x")\n') + "\nfrom pathlib import Path",
        "key: no key can have the",
    ),
    "nested file": (with_keys("") + NESTED, "inner.secret: only a key of the backend itself can have that type"),
}
NO_KEY = "no key can have the type"
OWN = "the core uses this name itself"
KEYS = {
    'timeout: float = setting("x", default=5.0)': f"timeout: {OWN}",
    'max_running: int = setting("x", default=5)': f"max_running: {OWN}",
    'breaker: int = setting("x", default=5)': f"breaker: {OWN}",
    'coalesces: int = setting("x", default=5)': f"coalesces: {OWN}",
    'cache: str = setting("x", default="")': f"cache: {OWN}",
    'type: str = setting("x", default="")': f"type: {OWN}",
    'check: bool = setting("x", default=False)': f"check: {OWN}",
    'key: list[str] = setting("x")': f"key: {NO_KEY} list[str]",
    'key: set[str] = setting("x")': f"key: {NO_KEY} set[str]",
    'key: bytes = setting("x")': f"key: {NO_KEY} <class 'bytes'>",
    'key: object = setting("x")': f"key: {NO_KEY} <class 'object'>",
    'key: Any = setting("x")': f"key: {NO_KEY}",
    'key: Literal[1, 2] = setting("x")': f"key: {NO_KEY} typing.Literal[1, 2]",
    'key: tuple[str] = setting("x")': f"key: {NO_KEY} tuple[str]",
    'key: tuple[str, int] = setting("x")': f"key: {NO_KEY} tuple[str, int]",
    'key: str | int = setting("x")': f"key: {NO_KEY} str | int",
    'key: dict[int, str] = setting("x")': f"key: {NO_KEY} dict[int, str]",
    'key: dict[str, WatchedFile] = setting("x")': "key: only a key of the backend itself can have that type",
    'key: WatchedFile = setting("x", holds=bytes)': f"key holds: {NO_KEY} <class 'bytes'>",
    'key: str = setting("x", nonempty=True)': "key: nonempty is for lists only",
    'key: tuple[int, ...] = setting("x", least=1)': "key: least and most are for numbers only",
    'key: str | None = setting("x", default=None, most=9)': "key: least and most are for numbers only",
    'key: int = setting("x", secret=True)': "key: secret is for texts only",
    "key: int = 3": "key: expected a setting(), or a field(init=False)",
    'sees: tuple[str, ...] = ("client",)': f"sees: {OWN}",
    'sees = ("clients",)': "sees: expected a tuple of any of: client, listener, verbose",
    'sees = "client"': "sees: expected a tuple",
    'one_of = ("nothing",)': "one_of: expected a tuple of any of: ",
    "waits = 5": "waits: expected Waits(timeout=..., max_running=...), both above 0",
    "waits = Waits(timeout=5, max_running=0)": "waits: expected Waits(",
    'waits = Waits(timeout="5", max_running=1)': "TypeError: '<' not supported",
    "waits = Waits(timeout=float('inf'), max_running=1)": "waits: expected Waits(",
    "waits = Waits(timeout=5, max_running=2.5)": "waits: expected Waits(",
    "waits = Waits(timeout=5, max_running=2, breaker=3)": "waits: expected Waits(",
    "waits = Waits(timeout=5, max_running=2, breaker=None)": "waits: expected Waits(",
    '_key: str = setting("x", default="")': "_key: expected a name that begins with a letter",
    'key: Template = setting("x", default="{user}")': "key: the default '{user}' is not of the key's type",
    'key: int | None = setting("x", default="3")': "key: the default '3' is not of the key's type",
    'key: tuple[str, ...] = setting("x", default=["a"])': "key: the default ['a'] is not of the key's type",
    'key: tuple[str, ...] = setting("x", default=(1,))': "key: the default (1,) is not of the key's type",
    'key: dict[str, int] = setting("x", default={"a": "b"})': "key: the default {'a': 'b'} is not of the key's type",
    'key: Literal["a", "b"] = setting("x", default="c")': "key: the default 'c' is not of the key's type",
    'key: SecretFile | None = setting("x", default="file")': "key: the default 'file' is not of the key's type",
    'key: str = setting("x", default=Factory(lambda: 1 / 0))': "ZeroDivisionError: division by zero",
}
CHECKS = {
    "raise RuntimeError('oh no')": "RuntimeError: oh no",
    "raise SystemExit": "SystemExit",
    "yield 'url'": "TypeError: check yields 'url', not a key and a message",
    "yield 'ab'": "TypeError: check yields 'ab', not",
    "yield 3, 'x'": "TypeError: check yields (3, 'x'), not",
    "yield 'url', None": "TypeError: check yields ('url', None), not",
    "yield ('url', None), 'x'": "TypeError: check yields (('url', None), 'x'), not",
    "yield 'url', 'is not told'; yield": "TypeError: check yields None, not",
    "return None": "TypeError: 'NoneType' object is not iterable",
    "while True: yield 'url', 'again'": "ValueError: check yields more than 1000 mistakes",
    "raise type('Bad', (Exception,), {'__str__': lambda self: 1 / 0})": "Bad",
}
MADE = {
    "raise ValueError('expected more')": "expected more",
    "raise SystemExit(4)": "SystemExit: 4",
    "raise RuntimeError": "RuntimeError",
    "raise type('Bad', (Exception,), {'__str__': lambda self: 1 / 0})": "Bad",
}
OPENS = {
    "raise RuntimeError('oh no')": "cannot be opened: RuntimeError: oh no",
    "raise SystemExit(3)": "cannot be opened: SystemExit: 3",
    "raise BaseException": "cannot be opened: BaseException",
    "from fingergw.api import ConfigError; raise ConfigError(['no such thing'])": "cannot be opened: no such thing",
    "import nowhere_at_all": "cannot be opened: ModuleNotFoundError: No module named 'nowhere_at_all'",
    "return None": "cannot be opened: its open returns an object without a method answer",
    "return Broken": "cannot be opened: its open returns an object without a method answer",
}
ANSWERS = {
    "text": ('return "text"', "it returned 'text', expected Answered, Missing or Failed"),
    "none": ("return None", "it returned None, expected Answered, Missing or Failed"),
    "number": ("return Answered(3)", "unforeseen TypeError"),
    "unchanged": ("return Unchanged(Freshness())", "it returned Unchanged("),
    "raises": ("raise RuntimeError('oh no')", "unforeseen RuntimeError"),
    "exits": ("raise SystemExit(3)", "unforeseen SystemExit"),
    "exits-late": ("await deferLater(reactor, 0); raise SystemExit(3)", "unforeseen SystemExit"),
    "cancels": ("import asyncio; raise asyncio.CancelledError", "unforeseen CancelledError"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a configuration that has a backend of the broken type."""
    (tmp_path / "fingergw.toml").write_text(CONFIG.format(port=0))
    return tmp_path


def checked(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Check a configuration that uses a package."""
    write_package(folder, "fingergw_broken", text, "broken = fingergw_broken:Broken")
    return run(["check", "--config", "fingergw.toml"], cwd=folder, packages=folder)


@pytest.mark.parametrize(("text", "expected"), MODULES.values(), ids=MODULES)
def test_module(folder: Path, text: str, expected: str) -> None:
    """What cannot be loaded, or is no class of settings, is one mistake that names the type and its package."""
    told = mistake(checked(folder, text), "7")
    assert 'backends.b.type: type "broken" of the package fingergw_broken: ' in told
    assert expected in told
    assert told.endswith("; upgrade or uninstall the package")


@pytest.mark.parametrize(("text", "expected"), KEYS.items(), ids=KEYS)
def test_keys(folder: Path, text: str, expected: str) -> None:
    """A class that says what the core cannot do, or would overlook, is one mistake that names the type and the key."""
    told = mistake(checked(folder, with_keys(text)), "7")
    assert 'type "broken" of the package fingergw_broken: the keys of fingergw_broken:Broken cannot be used: ' in told
    assert expected in told


@pytest.mark.parametrize(("text", "expected"), CHECKS.items(), ids=CHECKS)
def test_check(folder: Path, text: str, expected: str) -> None:
    """A check that raises, or says what is no mistake, is one mistake that names the type."""
    told = mistake(checked(folder, with_keys(f"def check(self):\n    {text}")), "6")
    assert f'backends.b: type "broken" cannot check this table, which is a fault in its package: {expected}' in told


@pytest.mark.parametrize(("text", "expected"), MADE.items(), ids=MADE)
def test_made(folder: Path, text: str, expected: str) -> None:
    """A class that raises as it is made, which a ValueError is meant for, is one mistake."""
    told = mistake(checked(folder, with_keys(f"def __attrs_post_init__(self):\n    {text}")), "6")
    assert told == f"fingergw.toml:6: backends.b: {expected}"


@pytest.mark.parametrize("name", ["broken", "http"])
def test_two_packages(folder: Path, name: str) -> None:
    """A type that two packages have is one mistake that names both, also where one of them is fingergw itself."""
    (folder / "fingergw.toml").write_text(CONFIG.format(port=0).replace("broken", name))
    write_package(folder, "fingergw_other", with_keys(""), "broken = fingergw_other:Broken")
    write_package(folder, "fingergw_broken", with_keys(""), f"{name} = fingergw_broken:Broken")
    done = run(["check", "--config", "fingergw.toml"], cwd=folder, packages=folder)
    both = {"broken": "fingergw_broken, fingergw_other", "http": "fingergw, fingergw_broken"}[name]
    told = mistake(done, "7")
    names = told.partition("several packages: ")[2].partition(";")[0]
    assert ", ".join(sorted(names.split(", "))) == both
    assert f'type "{name}" is in several packages' in told


def test_left_behind(folder: Path) -> None:
    """A class that is named twice, by what an upgrade that was broken off has left behind too, is one type."""
    for name in ("fingergw_broken", "~ingergw_broken"):
        write_package(folder, name, with_keys(""), "broken = fingergw_broken:Broken")
    done = run(["check", "--config", "fingergw.toml"], cwd=folder, packages=folder)
    assert (done.returncode, done.stdout) == (0, "fingergw.toml: no mistakes found\n"), done.stderr


def test_not_installed(folder: Path) -> None:
    """Where what is installed names no types of fingergw's own, as its code has been replaced, it says so once."""
    command = write_package(folder, "fingergw", "", "broken = fingergw_broken:Broken")
    (folder / "fingergw.py").unlink()
    command[1] = f"PYTHONPATH={folder}:{ROOT}"
    done = run(["check", "--config", "fingergw.toml"], cwd=folder, command=command)
    why = (
        "fingergw: fingergw's own types of backends are not registered; install fingergw again from where its code is\n"
    )
    assert (done.returncode, done.stderr) == (1, why)


def test_unused(folder: Path) -> None:
    """A broken package that the file does not use is no mistake, and the schema is without it."""
    (folder / "fingergw.toml").write_text(CONFIG.format(port=0).replace('"broken"', '"static"\ntext = "x"'))
    done = checked(folder, "raise SystemExit")
    assert (done.returncode, done.stdout) == (0, "fingergw.toml: no mistakes found\n")


def test_prints(folder: Path) -> None:
    """What a package prints when it is imported is no part of what a command prints."""
    write_package(folder, "fingergw_broken", f"{with_keys('')}\nprint('imported')", "broken = fingergw_broken:Broken")
    done = run(["config", "--config", "fingergw.toml"], cwd=folder, packages=folder)
    assert (done.returncode, done.stderr) == (0, "imported\n")
    assert 'type = "broken"' in done.stdout
    assert "imported" not in done.stdout


@pytest.mark.parametrize(("text", "expected"), OPENS.items(), ids=OPENS)
def test_open(folder: Path, text: str, expected: str) -> None:
    """A backend that cannot be opened is one mistake that names the type, and nothing is served."""
    module = with_keys("").replace("return self", text)
    write_package(folder, "fingergw_broken", module, "broken = fingergw_broken:Broken")
    told = mistake(run(["--config", "fingergw.toml"], cwd=folder, packages=folder), "6")
    assert f'backends.b: type "broken" {expected}' in told


RELOADED = """
from twisted.logger import Logger
_log = Logger()
@settings
class Broken:
    fails: bool = setting("Whether it fails.", default=False)
    def open(self, site):
        if self.fails:
            raise SystemExit(3)
        return Open(site.name)
class Open:
    def __init__(self, name):
        self.name = name
    async def answer(self, query):
        return Answered(self.name)
    async def close(self):
        _log.info("{name} is closed", name=self.name)
"""


def test_open_at_a_reload(folder: Path) -> None:
    """A reload in which a backend cannot be opened is refused; what was opened for it is closed, the old goes on."""
    port, config, log = free_port(), folder / "fingergw.toml", folder / "log"
    config.write_text(CONFIG.format(port=port))
    command = write_package(folder, "fingergw_broken", HEAD + RELOADED, "broken = fingergw_broken:Broken")
    with process(["--config", str(config), "--logfile", str(log)], port=port, cwd=folder, command=command) as running:
        more = '[backends.first]\ntype = "broken"\n[backends.last]\ntype = "broken"\nfails = true\n'
        config.write_text(CONFIG.format(port=port) + more)
        running.send_signal(1)
        wait_until(lambda: "first is closed" in log.read_text(), "the end of what was opened")
        wait_until(lambda: "stays active" in log.read_text(), "the refusal")
        told = log.read_text()
        assert f'{config}:10: backends.last: type "broken" cannot be opened: SystemExit: 3' in told
        assert "b is closed" not in told
        assert "Traceback" not in told
        assert finger(port, b"x\r\n") == b"b\r\n"


def test_answer(folder: Path) -> None:
    """An answer that is none, or that ends otherwise, is a failure with its reason in the log; the gateway goes on."""
    port, config, log = free_port(), folder / "fingergw.toml", folder / "log"
    cases = "".join(f'        if query.user == "{name}": {text}\n' for name, (text, _) in ANSWERS.items())
    imports = "from twisted.internet import reactor\nfrom twisted.internet.task import deferLater\n"
    text = with_keys("").replace("answer(self, query):\n", f"answer(self, query):\n{cases}")
    more = f"{HEAD}{imports}from fingergw.api import Freshness\n"
    waits = "\n@settings\nclass Waiting(Broken):\n    waits = Waits(timeout=5, max_running=1)\n"
    types = "broken = fingergw_broken:Broken\nwaiting = fingergw_broken:Waiting"
    command = write_package(folder, "fingergw_broken", more + text.removeprefix(HEAD) + waits, types)
    for kind in ("broken", "waiting"):
        config.write_text(CONFIG.format(port=port).replace("broken", kind))
        with process(["--config", str(config), "--logfile", str(log)], port=port, cwd=folder, command=command):
            for name, (_, expected) in ANSWERS.items():
                assert finger(port, f"{name}\r\n".encode()) == b"Internal error in server\r\n", name
                why = f"backend b failed, asked by route *: {expected}"
                wait_until(lambda why=why: why in log.read_text(), why)  # type: ignore[misc]
            assert finger(port, b"any\r\n") == b"fine\r\n"
        log.unlink()
