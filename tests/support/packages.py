"""Packages of other people, with types of backends in them: installed in an environment, or lying on a path."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.processes import ROOT


def write_package(folder: Path, name: str, text: str, types: str) -> list[str]:
    """Have a package of one module on a path, as if it were installed there.

    :param text: of its module.
    :param types: its entry points, such as ``clock = my_package:Clock``, a line each.
    :return: a command that is ``fingergw``, and finds it.
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fingergw.backends]\n{types}\n")
    return ["env", f"PYTHONPATH={ROOT}:{folder}", sys.executable, "-m", "fingergw"]


def environment(folder: Path, project: Path) -> Path:
    """Make a virtual environment that has all that this one has, and install a project in it, without a network.

    :param folder: where to; it is made.
    :return: its Python.
    """
    copy = folder / "project"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
    _done(sys.executable, "-m", "venv", "--without-pip", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    packages = next((folder / "environment").glob("lib/*/site-packages"))
    (packages / "this.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet")
    _done(*pip, "install", "--no-index", "--no-deps", "--no-build-isolation", copy)
    return python


def _done(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
