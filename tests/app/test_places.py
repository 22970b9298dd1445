"""Places, users and roots that a start would trip over are mistakes, with their lines, before anything is bound."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from fingergw.app import build
from fingergw.config import read
from fingergw.config.problems import located
from tests.support.configuration import HELLO, listener
from tests.support.processes import ROOT, run
from tests.support.reloading import ReloadCase
from tests.support.sockets import free_port

LOOP = "Too many levels of symbolic links; name another path"
LONG = "x" * 300
LINK = "is a symbolic link, which is not followed; name the file itself, or remove the link"
NUMBERS = "or a number from 0 to 4294967294"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that all may enter, with a folder, a file, a link to it, and a link to itself."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "folder").mkdir()
        (folder / "file").write_text("")
        (folder / "link").symlink_to("file")
        (folder / "loop").symlink_to("loop")
        yield folder


def told(folder: Path, text: str) -> tuple[list[str], list[str]]:
    """Return the mistakes and the warnings that ``check`` finds in a configuration, without the file's name."""
    path = folder / "fingergw.toml"
    path.write_text(listener() + HELLO + text)
    config, problems = read(path)
    assert problems == []
    found, warned = build.check(config, MemoryReactorClock(), config.process, is_whole=True)
    lines = len((listener() + HELLO).splitlines())
    mistakes, warnings = (
        [each.removeprefix(f"{path}:") for each in located(some, config.source)] for some in (found, warned)
    )
    assert all(int(each.partition(":")[0]) > lines for each in (*mistakes, *warnings))
    return [each.partition(": ")[2] for each in mistakes], [each.partition(": ")[2] for each in warnings]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "{folder}/folder is a folder; name a file"),
        ("no/a", "no folder {folder}/no; make it: mkdir -p {folder}/no"),
        ("no/no/a", "no folder {folder}/no/no; make it: mkdir -p {folder}/no/no"),
        ("file/a", "{folder}/file is a file, not a folder; name a path in a folder"),
        ("file/no/a", "{folder}/file/no/a: Not a directory; name another path"),
        ("loop/a", "{folder}/loop/a: " + LOOP),
        ("loop", "{folder}/loop: " + LINK),
        ("link", "{folder}/link: " + LINK),
        (LONG, "{folder}/" + LONG + ": File name too long; name another path"),
        ("file", None),
        ("new", None),
        ("folder/new", None),
        ("/dev/stdout", None),
        ("/dev/fd/1", None),
    ],
)
def test_access_log(folder: Path, path: str, message: str | None) -> None:
    """A log that is a folder, a link or in no folder cannot be opened; one that is there, or can be made, can."""
    found, _ = told(folder, f'[log]\naccess = "{path}"\n')
    assert found == ([] if message is None else ["log.access: " + message.replace("{folder}", str(folder))])


def test_access_log_of_another_process(folder: Path) -> None:
    """The descriptor of another process is a link that nobody can change, and is followed."""
    assert told(folder, f'[log]\naccess = "/proc/{os.getpid()}/fd/0"\n')[0] == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "{folder}/folder is a folder; name a file"),
        ("no/a", "no folder {folder}/no; make it: mkdir -p {folder}/no"),
        ("file/a", "{folder}/file is a file, not a folder; name a path in a folder"),
        ("loop", "{folder}/loop: " + LOOP),
        ("file", None),
        ("link", None),
        ("new", None),
    ],
)
def test_store(folder: Path, path: str, message: str | None) -> None:
    """So it is for a store in a file, which may be a link."""
    found, _ = told(folder, f'[backends.map.cache]\n[cache]\nstore = "sqlite:{path}"\n')
    assert found == ([] if message is None else ["cache.store: " + message.replace("{folder}", str(folder))])


def test_a_store_that_is_none(folder: Path) -> None:
    """A file that the store would leave alone does not keep the gateway from starting, so it is warned of."""
    (folder / "diary").write_text("Dear diary")
    (folder / "open").write_bytes(b"")
    text = '[backends.map.cache]\n[cache]\nstore = "sqlite:diary"\n'
    why = f"{folder}/diary will not be used, and answers are kept in memory alone: it is not a cache of fingergw"
    assert told(folder, text) == ([], [f"cache.store: {why}; name another file"])
    assert told(folder, text.replace("diary", "file")) == ([], [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('user = "-1"', f'user: expected the name of a user, {NUMBERS}, not "-1"'),
        ('user = "4294967295"', f'user: expected the name of a user, {NUMBERS}, not "4294967295"'),
        ('user = "+0"', f'user: expected the name of a user, {NUMBERS}, not "+0"'),
        ('user = " root"', 'user: no user " root" on this machine; create it, or name another'),
        ('user = "1_0"', 'user: no user "1_0" on this machine; create it, or name another'),
        ('user = "٣"', 'user: no user "٣" on this machine; create it, or name another'),
        ('user = ""', 'user: no user "" on this machine; create it, or name another'),
        ('group = "-1"', f'group: expected the name of a group, {NUMBERS}, not "-1"'),
        ('group = "99999999999"', f'group: expected the name of a group, {NUMBERS}, not "99999999999"'),
        ('group = "root "', 'group: no group "root " on this machine; create it, or name another'),
        (
            'user = "4294967294"',
            "user: user 4294967294 is not in passwd, so that it has no group; name one in group, too",
        ),
        ('chroot = "no"', "chroot: no folder {folder}/no; make it: mkdir -p {folder}/no"),
        ('chroot = "file"', "chroot: {folder}/file is a file, not a folder; name a folder"),
        ('user = "0"', None),
        ('user = "root"\ngroup = "4294967294"', None),
    ],
)
def test_process(folder: Path, line: str, message: str | None) -> None:
    """A user or group that nobody can become, and a root that is not there, are found."""
    found, _ = told(folder, f"[process]\n{line}\n")
    assert found == ([] if message is None else ["process." + message.replace("{folder}", str(folder))])


BROKEN = """
[backends.map.cache]
[cache]
store = "sqlite:no/cache.db"
[log]
access = "no/access.log"
[process]
user = "-1"
group = " root"
"""


@pytest.mark.parametrize("command", [["check"], ["explain", "hello"], []], ids=lambda words: words and words[0])
def test_commands(folder: Path, command: list[str]) -> None:
    """Each command finds all of them, and so does the start, before it binds a port that somebody else has."""
    path = folder / "fingergw.toml"
    path.write_text(listener(free_port()) + HELLO + BROKEN)
    ended = run([*command[:1], "--config", str(path), *command[1:]])
    lines = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (78, "")
    assert lines[0] == "fingergw: 4 mistakes:"
    assert [line.split(": ")[1] for line in lines[1:]] == ["cache.store", "log.access", "process.user", "process.group"]


class Reloads(ReloadCase):
    async def test_reload(self) -> None:
        """A reload is refused for each of them, and what was active stays so."""
        gateway = self.begin(listener() + HELLO)
        for text, key in (
            ('[log]\naccess = "no/a"', "log.access: no folder"),
            ('[cache]\nstore = "sqlite:no/a"', "cache.store: no folder"),
            ('[process]\nuser = "-1"', "process.user: expected the name of a user"),
            ('[process]\nchroot = "no"', "process.chroot: no folder"),
        ):
            logged = await self.reload(gateway, listener() + HELLO + text)
            assert any(key in line for line in logged), logged
            assert logged[-1] == "1 mistake; the previous configuration stays active"
            assert await self.ask(gateway, b"hello\r\n") == b"Hello\r\n"
        assert gateway.reloads == {"refused": 4}

    async def test_warnings(self) -> None:
        """What cannot be meant is logged at each reload, with its line; what is as it should be is not."""
        gateway = self.begin(listener() + HELLO)
        doubtful = listener() + HELLO + '[backends.spare]\ntype = "menu"\n'
        line = len(doubtful.splitlines()) - 1
        assert await self.reload(gateway, doubtful) == [
            "configuration reloaded",
            f"{self.path}:{line}: backends.spare: no route uses it; name it in the backends of a route, or remove it",
        ]
        assert await self.reload(gateway, listener() + HELLO) == ["configuration reloaded"]


def test_folders_that_systemd_makes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a unit may make at the start is no mistake of ``check``, nor a warning where the unit is known."""
    under_lib = Path("/var/lib") / f"fingergw-test-{os.getpid()}"
    text = f'[log]\naccess = "{under_lib}/access.log"\n'
    mistakes, (warning,) = told(folder, text)
    assert mistakes == []
    assert warning.startswith(
        f"log.access: no folder {under_lib} now, and without it the gateway cannot start; a systemd"
    )
    monkeypatch.setenv("LOGS_DIRECTORY", f"/var/log/a:{under_lib}")
    assert told(folder, text) == ([], [])
    assert told(folder, text + '[process]\nuser = "root"\ngroup = "nogroup"\n')[0] == []
    ended = run(["--config", str(folder / "fingergw.toml")])
    assert ended.returncode == 78
    assert f"log.access: no folder {under_lib}; make it: mkdir -p {under_lib}\n" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can tell what another user may do")
class TestUsers:
    """What the user of ``[process]`` may not write or run."""

    def test_log(self, folder: Path) -> None:
        """A log that the user may not write or make keeps the gateway from starting: a mistake."""
        text = '[process]\nuser = "nobody"\n[log]\naccess = "folder/log"\n'
        advice = "let this user write the file, or make files in its folder"
        why = f'cannot be written: user "nobody": Permission denied; {advice}'
        assert told(folder, text)[0] == [f"log.access: {folder}/folder/log {why}"]
        (folder / "folder/log").write_text("")
        assert told(folder, text)[0] == [f"log.access: {folder}/folder/log {why}"]
        (folder / "folder/log").chmod(0o666)
        assert told(folder, text)[0] == []

    def test_store(self, folder: Path) -> None:
        """A store that the user may not write is left alone at the start: a warning."""
        text = '[process]\nuser = "nobody"\n[backends.map.cache]\n[cache]\nstore = "sqlite:folder/db"\n'
        mistakes, warnings = told(folder, text)
        assert mistakes == []
        assert (
            f"cache.store: {folder}/folder/db cannot be written, and answers are kept in memory alone: " in warnings[-1]
        )
        (folder / "folder").chmod(0o777)
        assert not [each for each in told(folder, text)[1] if "cache.store" in each]

    def test_program(self, folder: Path) -> None:
        """A program that the user may not run fails for each query: a warning."""
        program = folder / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        text = (
            '[process]\nuser = "nobody"\n[[routes]]\nuser = "run"\nbackends = ["run"]\n'
            '[backends.run]\ntype = "command"\nargv = ["./program"]\n'
        )
        advice = "see to it that this user can execute it, and enter its folder"
        why = f'cannot be run: user "nobody": Permission denied; {advice}'
        mistakes, warnings = told(folder, text)
        assert mistakes == []
        assert f"backends.run.argv[0]: {program} {why}" in warnings
        program.chmod(0o755)
        assert not [each for each in told(folder, text)[1] if "argv" in each]

    def test_what_only_root_can_tell(self, folder: Path) -> None:
        """Whoever is not root is told what could not be checked, where root is to start the gateway."""
        token = folder / "folder" / "token"
        token.write_text("abc")
        token.chmod(0o600)
        (folder / "folder").chmod(0o700)
        path = folder / "fingergw.toml"
        text = (
            '[[routes]]\nuser = "web"\nbackends = ["web"]\n[backends.web]\ntype = "http"\nurl = "http://h/"\n'
            'bearer_token_file = "folder/token"\n[log]\naccess = "folder/log"\n'
        )
        code = (
            "import os, sys, twisted.internet.reactor, fingergw.cli, fingergw.cli.check, tree_sitter_toml, tree_sitter;"
            "from fingergw.app.preloading import preload; preload();"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            f"sys.exit(fingergw.cli.main(['check', '--config', {str(path)!r}]))"
        )
        found = []
        for process in ('[process]\nuser = "daemon"\n', ""):
            path.write_text(listener() + HELLO + text + process)
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            found.append(
                subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False, env=env)
            )
        assert found[0].returncode == 0
        assert (
            f"{token} could not be checked: Permission denied; run this as root, who starts the gateway"
            in found[0].stderr
        )
        assert found[1].returncode == 78
        assert "1 mistake:" in found[1].stderr
