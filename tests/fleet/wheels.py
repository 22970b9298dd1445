"""The wheels that plays build and install from, as there is no network in a fleet."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.fleet.once import once
from tests.fleet.space import ROOT

# The Python and the C library of the hosts' Debian.
_PYTHON = "3.11"
_GLIBC = 36
_EXTRAS = ("metrics", "redis")


def wheels() -> Path:
    """Return a folder with the wheels of all that the gateway needs on a host, and that building it needs."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = described["project"]
    needs = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in _EXTRAS)]
    builds = described["build-system"]["requires"]
    recipe = (needs, ["pip", *builds], _PYTHON, _GLIBC, sys.version_info[:2])
    return once("wheels", recipe, lambda folder: _download(folder, builds))


def built(folder: Path) -> Path:
    """Build the checkout's wheel, as plays do: without a network.

    :param folder: where to; it is made.
    """
    _pip("wheel", "--no-deps", "--no-index", f"--find-links={wheels()}", f"--wheel-dir={folder}", str(ROOT))
    (wheel,) = folder.iterdir()
    return wheel


def _download(folder: Path, builds: list[str]) -> None:
    with tempfile.TemporaryDirectory() as built:
        _pip("wheel", "--no-deps", f"--wheel-dir={built}", str(ROOT))
        (gateway,) = Path(built).iterdir()
        _pip("wheel", f"--wheel-dir={folder}", "pip", *builds)
        _pip(
            "download",
            "--only-binary=:all:",
            f"--dest={folder}",
            f"--python-version={_PYTHON}",
            "--implementation=cp",
            *(f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in range(_GLIBC, 16, -1)),
            f"--platform=manylinux2014_{platform.machine()}",
            f"{gateway}[{','.join(_EXTRAS)}]",
        )
        (folder / gateway.name).unlink()  # plays build their own


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"no wheels for plays: pip {arguments[0]} ended with:\n{done.stderr}")
