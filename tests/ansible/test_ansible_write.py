"""The role's module that writes files, with real ones."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_role import call, load

WRITE: Any = load("library/fingergw_write.py")

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name
OWN: dict[str, Any] = {"owner": ME, "group": MINE}


def seen(folder: Path) -> dict[str, tuple[str, str]]:
    """Return modes and texts of all files in a folder."""
    return {path.name: (f"{path.stat().st_mode & 0o7777:o}", path.read_text()) for path in folder.iterdir()}


class TestFiles:
    """Files in a folder that is there."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Return a folder with two files, as the role would write them."""
        folder = tmp_path / "etc"
        folder.mkdir(mode=0o700)
        for name in ("one", "two"):
            (folder / name).write_text(f"{name}\n")
            (folder / name).chmod(0o644)
        return folder

    def test_nothing_to_do(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Files that are what they should be are left alone, down to their times."""
        before = [path.stat() for path in sorted(folder.iterdir())]
        _, result = call(WRITE, capsys, folder=str(folder), contents={"one": "one\n", "two": "two\n"}, **OWN)
        assert (result["changed"], result["diff"]) == (False, [])
        assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == [each.st_mtime_ns for each in before]

    def test_changed(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Those that differ are written, those that are missing made, others stay; each difference is told."""
        contents = {"one": "one\n", "two": "zwei \u00e9\n", "three": ""}
        _, result = call(WRITE, capsys, folder=str(folder), contents=contents, **OWN)
        assert seen(folder) == {"one": ("644", "one\n"), "two": ("644", "zwei \u00e9\n"), "three": ("644", "")}
        told = [(diff["after_header"], diff["before"], diff["after"]) for diff in result["diff"]]
        assert (result["changed"], told) == (
            True,
            [(str(folder / "two"), "two\n", "zwei \u00e9\n"), (str(folder / "three"), "", "")],
        )

    def test_check_mode(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It tells the same, and writes nothing; users that are still to come are no mistake."""
        before = seen(folder)
        given: dict[str, Any] = {
            "folder": str(folder),
            "contents": {"two": "zwei\n"},
            "owner": "nobody-yet",
            "group": "no-group-yet",
        }
        code, result = call(WRITE, capsys, **given, _ansible_check_mode=True)
        assert (code, result["changed"], seen(folder)) == (0, True, before)
        assert [(diff["before"], diff["after"]) for diff in result["diff"]] == [("two\n", "zwei\n")]

    def test_what_is_no_text(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Bytes that were there are told as well as they can be, and replaced."""
        (folder / "one").write_bytes(b"\xff")
        _, result = call(WRITE, capsys, folder=str(folder), contents={"one": "1"}, **OWN)
        assert [diff["before"] for diff in result["diff"]] == ["\ufffd"]
        assert (folder / "one").read_text() == "1"

    def test_mode(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One that others made readable is closed again, without being written."""
        before = (folder / "one").stat()
        _, result = call(WRITE, capsys, folder=str(folder), contents={"one": "one\n"}, mode="0400", **OWN)
        after = (folder / "one").stat()
        assert (f"{after.st_mode & 0o7777:o}", after.st_ino) == ("400", before.st_ino)
        (diff,) = result["diff"]
        assert (diff["before"]["mode"], diff["after"]["mode"]) == ("0644", "0400")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_owner(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file is given to who it is for; one of somebody who is gone, too."""
        os.chown(folder / "one", 54321, 54321)
        contents = {"one": "one\n", "three": "3"}
        _, result = call(WRITE, capsys, folder=str(folder), contents=contents, owner="nobody", group="nogroup")
        owners = {path.name: (path.owner(), path.group()) for path in folder.iterdir() if path.name in contents}
        assert owners == dict.fromkeys(contents, ("nobody", "nogroup"))
        assert result["diff"][0]["before"]["owner"] == "54321"

    def test_nobody_reads_it_meanwhile(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret is never open to others, not even before it has its owner."""
        modes = []
        monkeypatch.setattr(os, "fsync", lambda _: modes.append((folder / ".key.new").stat().st_mode & 0o777))
        WRITE.bring(folder / "key", "secret", ME, MINE, "0400", check=False)
        assert (modes, seen(folder)["key"]) == ([0o600], ("400", "secret"))

    def test_a_write_that_fails(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The file is what it was, nothing else is left, and it is told which file and why."""
        before = seen(folder)
        given: dict[str, Any] = {
            "folder": str(folder),
            "contents": {"one": "1"},
            "owner": "nobody-at-all",
            "group": MINE,
        }
        code, result = call(WRITE, capsys, **given)
        assert (code, seen(folder)) == (1, before)
        assert result["msg"].startswith(f"{folder}/one could not be written: ")
        assert "nobody-at-all" in result["msg"]

    def test_what_was_broken_off(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What a run that was killed has left is written over."""
        (folder / ".one.new").write_text("half")
        call(WRITE, capsys, folder=str(folder), contents={"one": "1"}, **OWN)
        assert seen(folder) == {"one": ("644", "1"), "two": ("644", "two\n")}

    def test_a_folder_in_its_place(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is not replaced, but told."""
        (folder / "sub").mkdir()
        code, result = call(WRITE, capsys, folder=str(folder), contents={"sub": "1"}, **OWN)
        assert (code, result["msg"]) == (1, f"{folder}/sub could not be written: Is a directory")


class TestFolder:
    """The folder itself."""

    def test_missing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a mode it must be there."""
        folder = tmp_path / "none"
        code, result = call(WRITE, capsys, folder=str(folder), contents={"one": "1"}, **OWN)
        assert (code, result["msg"]) == (1, f"{folder}/one could not be written: No such file or directory")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders that are root's")
    def test_made(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With a mode it is made, or has its mode and group put right; check mode only tells."""
        folder = tmp_path / "secrets"
        given: dict[str, Any] = {
            "folder": str(folder),
            "folder_group": "nogroup",
            "folder_mode": "0750",
            "contents": {"one": "1"},
        }
        _, checked = call(WRITE, capsys, **given, _ansible_check_mode=True)
        there = folder.exists()
        _, made = call(WRITE, capsys, **given)
        folder.chmod(0o755)
        _, closed = call(WRITE, capsys, **given)
        _, again = call(WRITE, capsys, **given)

        assert (checked, there) == (made, False)
        assert [diff["after_header"] for diff in made["diff"]] == [str(folder), str(folder / "one")]
        assert (f"{folder.stat().st_mode & 0o7777:o}", folder.group()) == ("750", "nogroup")
        assert (len(closed["diff"]), again["changed"]) == (1, False)
