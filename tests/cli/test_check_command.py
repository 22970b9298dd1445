"""``fingergw check``: mistakes fail, warnings do not, unless they are asked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fingergw.config.finding import PACKAGED
from tests.support.configuration import HELLO, listener
from tests.support.processes import ROOT, process, run
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

DOUBTFUL = (
    listener()
    + HELLO
    + '[[routes]]\nname = "again"\nuser = "HELLO"\nbackends = ["map"]\n[backends.spare]\ntype = "menu"\n'
)
SAME = "never matches: routes[0] takes this name first, for the same listeners and clients; remove one of the two"
WARNINGS = [
    f"12: routes[1].user: {SAME}",
    "14: backends.spare: no route uses it; name it in the backends of a route, or remove it",
]


def check(folder: Path, text: str, *options: str) -> tuple[int, str, list[str]]:
    """Return the exit code of ``check``, and what it prints on both outputs, without the file's name."""
    path = folder / "fingergw.toml"
    path.write_text(text)
    ended = run(["check", "--config", str(path), *options])
    return ended.returncode, ended.stdout.replace(f"{path}:", ""), ended.stderr.replace(f"{path}:", "").splitlines()


def test_warnings(tmp_path: Path) -> None:
    """Warnings go to standard error in the order of lines, and the exit code is 0."""
    code, out, errors = check(tmp_path, DOUBTFUL)
    assert (code, out) == (0, " no mistakes found\n")
    assert errors == [f"fingergw: warning: {warning}" for warning in WARNINGS]


def test_strict(tmp_path: Path) -> None:
    """With ``--strict`` they are mistakes, and counted, with those that are mistakes anyway."""
    assert check(tmp_path, DOUBTFUL, "--strict") == (78, "", ["fingergw: 2 mistakes:", *WARNINGS])
    text = DOUBTFUL + '[log]\naccess = "none/a"\n'
    code, out, (count, *lines) = check(tmp_path, text, "--strict")
    assert (code, out, count, lines[:2]) == (78, "", "fingergw: 3 mistakes:", WARNINGS)
    assert lines[2].startswith("17: log.access: no folder ")


def test_mistakes_and_warnings(tmp_path: Path) -> None:
    """Of a file with a mistake nothing is said that may not be so. What the machine lacks hides nothing."""
    assert check(tmp_path, DOUBTFUL + "colour = 1\n")[2][0] == "fingergw: 1 mistake:"
    code, _, errors = check(tmp_path, DOUBTFUL + '[log]\naccess = "none/a"\n')
    assert (code, errors[:2]) == (78, [f"fingergw: warning: {warning}" for warning in WARNINGS])
    assert errors[2] == "fingergw: 1 mistake:"


@pytest.mark.parametrize("path", [ROOT / "fingergw.toml", PACKAGED], ids=["shipped", "packaged"])
def test_nothing_is_warned_of_in_what_is_shipped(path: Path, tmp_path: Path) -> None:
    """The configuration that comes with it is as it should be, and so it is after ``init``."""
    ended = run(["check", "--strict", "--config", str(path), "--base-dir", str(tmp_path)])
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
def test_start(is_large: bool, tmp_path: Path) -> None:
    """A start logs each warning once: those of a small file once it serves, those of a large one before that."""
    port, path = free_port(), tmp_path / "fingergw.toml"
    path.write_text(DOUBTFUL.replace("tcp:0", f"tcp:{port}") + is_large * f"# {'x' * (1 << 17)}\n")
    log = tmp_path / "log"
    lines = [f"[fingergw.app.reload#warn] {path}:{warning}\n" for warning in WARNINGS]
    with process(["--config", str(path), "--logfile", str(log)], port=port) as running:
        if not is_large:
            wait_until(lambda: all(line in log.read_text() for line in lines), "both warnings")
        running.terminate()
        running.communicate(timeout=20)
    assert [log.read_text().count(line) for line in lines] == [1, 1]
