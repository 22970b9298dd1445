"""The role's modules that look at a host, check, keep and put back, with real ``fingergw check`` and real files."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_role import call, load, write_wheel

CHECK: Any = load("library/fingergw_check.py")
KEPT: Any = load("library/fingergw_kept.py")
INFO: Any = load("library/fingergw_info.py")

CONFIGURATION = """
[[listeners]]
endpoint = "tcp:0"
[[routes]]
pattern = "*"
backends = ["people", "rota"]
[backends.people]
type = "static"
file = "people.toml"
[backends.rota]
type = "http"
url = "https://localhost/"
bearer_token_file = "secrets/rota.token"
"""
FILES = {"people.toml": 'ada = "h\u00e9llo"\n'}
SECRETS = {"rota.token": "5ecret-rota-t0ken"}
FINGERGW = [sys.executable, "-m", "fingergw"]


class TestCheck:
    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have temporary folders made in one of the test's; nothing may be left there."""
        self.folder = tmp_path / "temporary"
        self.folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(self.folder))
        yield
        assert list(self.folder.iterdir()) == []

    def test_mistakes_are_those_of_check(self) -> None:
        """All are told as ``fingergw check`` does, with the paths that they will have."""
        text = CONFIGURATION.replace("endpoint", "endpiont")
        said = CHECK.check(FINGERGW, "", text, {"people.toml": "ada = 1"}, {})
        assert 'fingergw.toml:3: listeners[0].endpiont: unknown key "endpiont"' in said
        assert "/etc/fingergw/people.toml" in said
        assert "/etc/fingergw/secrets/rota.token" in said
        assert str(self.folder) not in said

    def test_warnings_do_not_fail(self) -> None:
        """Warnings are passed on, with the path that the file will have. Folders that the unit makes may be missing."""
        text = CONFIGURATION.replace('"*"', '"[a"') + '[log]\naccess = "/var/log/fingergw/access.log"\n'
        told: list[str] = []
        assert CHECK.check(FINGERGW, "", text, FILES, SECRETS, told.append) == ""
        (line,) = told
        assert line.startswith('fingergw.toml:5: routes[0].pattern: the "[" is taken as it is')

    def test_files_while_it_looks(self, tmp_path: Path) -> None:
        """Only the owner enters the folder, and secrets are nobody else's to read at any time."""
        program = tmp_path / "fingergw"
        program.write_text(f"#!/bin/sh\ncd .. && stat -c '%a %n' . etc/secrets/* >{tmp_path}/seen\n")
        program.chmod(0o755)
        assert CHECK.check([str(program)], "", CONFIGURATION, FILES, SECRETS) == ""
        assert tmp_path.joinpath("seen").read_text().splitlines() == ["700 .", "400 etc/secrets/rota.token"]

    def test_a_program_of_wheels(self, tmp_path: Path) -> None:
        """What is not installed yet is run from its wheels, with what it needs, and before what is installed."""
        write_wheel(tmp_path, "library", text="SAID = 'of a wheel'")
        write_wheel(tmp_path, "fingergw", text="import sys, library; sys.exit(library.SAID)")
        assert CHECK.check(FINGERGW, str(tmp_path), "", {}, {}) == "of a wheel"

    def test_a_program_that_says_nothing(self) -> None:
        """Its exit code is told."""
        assert CHECK.check(["/bin/false"], "", "", {}, {}) == "fingergw check exited with 1"

    def test_the_module_tells_no_secret(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A secret that a program prints, and those that were given, are left out of what Ansible gets."""
        program = ["/bin/sh", "-c", "cat secrets/rota.token; exit 1"]
        code, result = call(CHECK, capsys, program=program, configuration="", files=FILES, secrets=SECRETS, wheels="")
        assert (code, result["failed"]) == (1, True)
        assert result["msg"].startswith("The configuration has mistakes, and nothing was changed:\n")
        assert SECRETS["rota.token"] not in json.dumps(result)

    def test_the_module_changes_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With a configuration that finds its files it says that nothing has changed, in check mode too."""
        given = {"program": FINGERGW, "configuration": CONFIGURATION, "files": FILES, "secrets": SECRETS}
        code, result = call(CHECK, capsys, **given, _ansible_check_mode=True)
        assert (code, result["changed"]) == (0, False)


# What the role has written beside the configuration, before a run that changes all and after.
ONE = {"names": ["secrets/rota.token"]}
TWO = {"names": ["people.toml"]}


class Host:
    """Files of a host that has the gateway.

    :param root: where they are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("etc/fingergw/fingergw.toml", "one", 0o644)
        self.write("etc/fingergw/secrets/rota.token", "secret one", 0o400)
        self.write("etc/logrotate.d/fingergw", "rule one", 0o644)
        self.write("etc/systemd/system/fingergw.service", "unit one", 0o644)
        self.write("etc/systemd/system/fingergw-public.socket", "79", 0o644)
        self.write("etc/systemd/system/ssh.service", "another's", 0o644)
        self.path("etc/fingergw/secrets").chmod(0o750)
        self.path("opt/fingergw/releases/one").mkdir(parents=True)
        self.path("opt/fingergw/releases/two").mkdir()
        self.switch("one")

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.root / name

    def write(self, name: str, text: str, mode: int) -> None:
        """Write a file, in a folder of its own if there is none."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def switch(self, release: str) -> None:
        """Choose a release."""
        self.path("opt/fingergw/current").unlink(missing_ok=True)
        self.path("opt/fingergw/current").symlink_to(f"/opt/fingergw/releases/{release}")

    def change(self) -> None:
        """Do as a run does that changes all."""
        self.write("etc/fingergw/fingergw.toml", "two", 0o600)
        self.write("etc/fingergw/people.toml", "new", 0o644)
        self.path("etc/fingergw/secrets/rota.token").unlink()
        self.write("etc/systemd/system/fingergw.service", "unit two", 0o644)
        self.path("etc/systemd/system/fingergw-public.socket").unlink()
        self.write("etc/systemd/system/fingergw-other.socket", "80", 0o644)
        self.path("etc/logrotate.d/fingergw").unlink()
        self.write("etc/systemd/system/ssh.service", "another's, changed", 0o644)
        self.switch("two")

    def state(self) -> dict[str, tuple[str, str]]:
        """Return modes and contents of all but what is kept."""
        return {
            str(path.relative_to(self.root)): (
                f"{path.lstat().st_mode & 0o777:o}",
                str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_text(),
            )
            for path in self.root.rglob("*")
            if KEPT.KEPT not in (path.relative_to(self.root), *path.relative_to(self.root).parents)
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host on which one configuration is in force."""
    return Host(tmp_path / "host")


class TestKept:
    def test_restored(self, host: Host) -> None:
        """All of the gateway's is as it was when it was kept: contents, modes, what was removed, what was not there."""
        before = host.state()
        KEPT.keep(host.root, ONE)
        host.change()
        assert host.state() != before
        KEPT.restore(host.root, TWO)
        before["etc/systemd/system/ssh.service"] = ("644", "another's, changed")
        assert host.state() == before

    def test_what_is_not_the_role_s(self, host: Host) -> None:
        """Files of others in its folder are neither kept nor put back: certificates that something renews there."""
        host.write("etc/fingergw/renewed.pem", "old", 0o600)
        KEPT.keep(host.root, ONE)
        host.write("etc/fingergw/renewed.pem", "new", 0o600)
        host.write("etc/systemd/system/fingergw.service.d/override.conf", "the operator's", 0o644)
        before = host.state()
        host.write("etc/fingergw/fingergw.toml", "two", 0o644)
        KEPT.restore(host.root, TWO)
        assert host.state() == before

    def test_restored_twice(self, host: Host) -> None:
        """What was kept stays, for the next run that fails."""
        KEPT.keep(host.root, ONE)
        before = host.state()
        for _ in range(2):
            host.write("etc/fingergw/fingergw.toml", "two", 0o644)
            KEPT.restore(host.root, ONE)
            assert host.state() == before

    def test_kept_for_root_alone(self, host: Host) -> None:
        """Nobody else enters the folder; the note in it is what the role gave."""
        KEPT.keep(host.root, {"sockets": {"public": 79}})
        kept = host.root / KEPT.KEPT
        assert f"{kept.stat().st_mode & 0o777:o}" == "700"
        assert json.loads((kept / "live.json").read_text()) == {"sockets": {"public": 79}}

    def test_a_keep_that_fails(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """It leaves what was kept before."""
        KEPT.keep(host.root, {**ONE, "run": 1})
        before = host.state()
        host.change()
        with monkeypatch.context() as patch:
            patch.setattr(tarfile.TarFile, "add", full_disk)
            with pytest.raises(OSError, match="No space left"):
                KEPT.keep(host.root, {**TWO, "run": 2})
        assert json.loads((host.root / KEPT.KEPT / "live.json").read_text()) == {**ONE, "run": 1}
        KEPT.restore(host.root, TWO)
        before["etc/systemd/system/ssh.service"] = ("644", "another's, changed")
        assert host.state() == before

    def test_nothing_was_kept(self, host: Host) -> None:
        """Then nothing is removed."""
        before = host.state()
        with pytest.raises(FileNotFoundError):
            KEPT.restore(host.root, ONE)
        assert host.state() == before

    def test_what_was_kept_is_broken(self, host: Host) -> None:
        """Then nothing is removed either."""
        KEPT.keep(host.root, ONE)
        state = host.root / KEPT.KEPT / "state.tar"
        os.truncate(state, 700)
        before = host.state()
        with pytest.raises((tarfile.TarError, KeyError)):
            KEPT.restore(host.root, ONE)
        assert host.state() == before


class TestInfo:
    def test_platform(self) -> None:
        """A Python tells its version, and what wheels the machine takes."""
        found = INFO.read_platform(sys.executable)
        assert found["version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
        assert found["machine"] == os.uname().machine
        assert f"glibc {found['libc']}" == os.confstr("CS_GNU_LIBC_VERSION")

    def test_no_python(self, capsys: pytest.CaptureFixture[str]) -> None:
        """One that is not there is named, with what to do."""
        code, result = call(INFO, capsys, python="/nowhere/python3")
        assert code == 1
        assert result["msg"].startswith("/nowhere/python3 cannot be run: ")
        assert result["msg"].endswith("Install Python 3.11 or later there, or name one by fingergw_python")

    @pytest.mark.parametrize("program", ["/bin/true", "/bin/false"])
    def test_what_is_no_python(self, program: str) -> None:
        """It is an error that tells so, whatever the program does."""
        with pytest.raises(OSError, match="it does not do what a Python does"):
            INFO.read_platform(program)

    def test_a_bare_host(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """There is nothing of the gateway."""
        with placed(tmp_path):
            _, found = call(INFO, capsys, python=sys.executable)
        del found["python"], found["has_user"], found["invocation"]
        assert found == {
            "release": "",
            "releases": [],
            "live": {},
            "has_new_secrets": False,
            "sockets": [],
            "enabled": [],
            "changed": False,
        }

    def test_a_host_with_the_gateway(self, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
        """Releases that are whole are told, the latest first, with the one in force, its ports and what was noted."""
        for number, name in enumerate(("three", "two", "one")):
            complete = host.path(f"opt/fingergw/releases/{name}/complete")
            complete.parent.mkdir(exist_ok=True)
            complete.touch()
            os.utime(complete, (number, number))
        host.path("opt/fingergw/releases/half").mkdir()
        wanted = host.path("etc/systemd/system/multi-user.target.wants")
        wanted.mkdir()
        for unit in ("fingergw.service", "ssh.service"):
            wanted.joinpath(unit).symlink_to(host.path("etc/systemd/system") / unit)
        host.path("opt/fingergw/current").unlink()
        host.path("opt/fingergw/current").symlink_to(host.path("opt/fingergw/releases/two"))
        KEPT.keep(host.root, {"sockets": {"public": 79}})
        with placed(host.root):
            _, found = call(INFO, capsys, python=sys.executable)
        assert (found["release"], found["releases"]) == ("two", ["one", "two", "three"])
        assert (found["live"], found["sockets"]) == ({"sockets": {"public": 79}}, ["public"])
        assert found["enabled"] == ["fingergw.service"]

    def test_secrets_of_a_run_that_was_broken_off(self, host: Host) -> None:
        """Those that are later than the note are new; those that a restore has put back are not."""
        KEPT.keep(host.root, ONE)
        note = host.root / KEPT.KEPT / "live.json"
        with placed(host.root):
            assert not INFO.has_new_secrets()
            host.write("etc/fingergw/secrets/rota.token", "secret two", 0o400)
            later = note.stat().st_mtime + 1
            os.utime(host.path("etc/fingergw/secrets/rota.token"), (later, later))
            assert INFO.has_new_secrets()
            KEPT.restore(host.root, ONE)
            assert not INFO.has_new_secrets()

    @pytest.mark.parametrize("note", ["", "{", "[]"])
    def test_a_note_that_is_broken(self, host: Host, note: str) -> None:
        """It tells nothing, so that the next run does all that is to be done."""
        host.write("opt/fingergw/kept/live.json", note, 0o600)
        with placed(host.root):
            assert INFO.read_live() == {}


@contextmanager
def placed(root: Path) -> Iterator[None]:
    """Have the module look below a folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("INSTALLED", "NOTE", "SECRETS", "UNITS"):
            patch.setattr(INFO, name, root / getattr(INFO, name).relative_to("/"))
        yield


def full_disk(*_: object, **__: object) -> None:
    """Do as a full disk does."""
    raise OSError(28, "No space left on device")
