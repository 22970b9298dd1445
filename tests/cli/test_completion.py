"""What ``fingergw completion`` prints, in a real bash and a real fish."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from fingergw.cli import main
from fingergw.cli.command import COMMANDS

# fingergw, completed at the end of the words that follow
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
"$(complete -p fingergw | sed 's/.* -F \\([^ ]*\\) .*/\\1/')" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def long_options(*command: str) -> set[str]:
    """Return the options that a command's help lists."""
    with redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        main([*command, "--help"])
    return set(re.findall(r"^  (?:-\w(?: [A-Z]+)?, )?(--[\w-]+)", printed.getvalue(), re.MULTILINE))


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is printed for a shell."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


class TestBash:
    @pytest.fixture(autouse=True)
    def _script(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = tmp_path
        (tmp_path / "completion").write_text(printed("bash", capsys))

    def offered(self, *words: str) -> set[str]:
        """Return what bash offers after ``fingergw`` and words; the last one is what it begins with."""
        command = ["bash", "-c", COMPLETE, "bash", "completion", "fingergw", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True, timeout=20)
        assert done.stderr == ""
        return set(done.stdout.split())

    def test_commands(self) -> None:
        """Every command is offered, or those that begin with what was typed."""
        assert self.offered("") == set(COMMANDS)
        assert self.offered("che") == {"check"}
        assert self.offered("--config", "some.toml", "--daemonize", "che") == {"check"}

    def test_options(self) -> None:
        """Every option of every command is offered."""
        for words in ((), *((name,) for name in COMMANDS)):
            assert long_options(*words) == self.offered(*words, "--"), words
        assert self.offered("query", "--raw", "a@h", "--ti") == {"--timeout"}

    def test_values(self) -> None:
        """Files, folders and shells are offered where one is expected, and nothing for free text."""
        (self.folder / "folder").mkdir()
        assert self.offered("check", "--config", "") == {"completion", "folder"}
        assert self.offered("check", "-c", "comp") == {"completion"}
        assert self.offered("query", "--tls", "--ca-file", "comp") == {"completion"}
        assert self.offered("check", "--base-dir", "") == {"folder"}
        assert self.offered("init", "comp") == {"completion"}
        assert self.offered("completion", "") == {"bash", "zsh", "tcsh", "fish"}
        assert self.offered("query", "") == set()


@pytest.mark.skipif(shutil.which("fish") is None, reason="this machine has no fish")
class TestFish:
    @pytest.fixture(autouse=True)
    def _script(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = tmp_path
        (tmp_path / "completion").write_text(printed("fish", capsys))
        (tmp_path / "folder").mkdir()

    def offered(self, *lines: str) -> list[set[str]]:
        """Return what fish offers after each of some command lines."""
        asking = "; echo -; ".join(f"complete -C 'fingergw {line}'" for line in lines)
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source completion; {asking}"],
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert done.stderr == ""
        return [{line.partition("\t")[0] for line in each.splitlines() if line} for each in done.stdout.split("-\n")]

    def test_commands_and_options(self) -> None:
        """Every command is offered, and every option of each."""
        commands, *options = self.offered("", "--", *(f"{name} --" for name in COMMANDS))
        assert commands == set(COMMANDS)
        for offered, words in zip(options, ((), *((name,) for name in COMMANDS)), strict=True):
            assert offered == long_options(*words), words

    def test_values(self) -> None:
        """Files, folders and shells are offered where one is expected, and nothing for free text."""
        expected = {
            "--config some.toml --daemonize che": {"check"},
            "check -c ": {"completion", "folder/"},
            "query --tls --ca-file comp": {"completion"},
            "check --base-dir ": {"folder/"},
            "init comp": {"completion"},
            "completion ": {"bash", "zsh", "tcsh", "fish"},
            "query ": set(),
        }
        assert dict(zip(expected, self.offered(*expected), strict=True)) == expected


def test_zsh(capsys: pytest.CaptureFixture[str]) -> None:
    """The script for zsh has every command, with what it does in one whole line, and every option."""
    script = printed("zsh", capsys)
    assert script.startswith("#compdef fingergw\n")
    described = {name: what.replace("'", "'\"'\"'") for name, (_, what) in COMMANDS.items()}
    assert [name for name, what in described.items() if f"\n    {name}:'{what}'\n" not in script] == []
    for name in COMMANDS:
        own = script.partition(f"_fingergw_{name}_options=(")[2].partition("\n)\n")[0]
        assert long_options(name) == set(re.findall(r"(--[\w-]+)[\[}]", own))


def test_tcsh(capsys: pytest.CaptureFixture[str]) -> None:
    """The script for tcsh has every command, and the options of all commands together."""
    script = printed("tcsh", capsys)
    assert f"'p/1/({' '.join(COMMANDS)})/'" in script
    words = long_options().union(*map(long_options, COMMANDS))
    (offered,) = re.findall(r"'c/--/\(([^)]*)\)/'", script)
    assert {f"--{name}" for name in offered.split()} == words


def test_without_shtab(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without shtab it says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capfd.readouterr().err == "fingergw: completion needs shtab: run pip install 'fingergw[completion]'\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["bash", "zsh"]])
def test_wrong_usage(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Another shell, none, or two are wrong usage."""
    assert main(["completion", *arguments]) == 2
    assert "try fingergw completion --help" in capfd.readouterr().err
