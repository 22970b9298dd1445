"""Other releases of the gateway than the checkout's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.fleet.hosts import Fleet
from tests.fleet.observed import release
from tests.fleet.space import ROOT

CRASHES = {"app/gateway.py": ("super().startService()", "raise SystemExit('this release does not start')")}
ANSWERS_NOTHING = {"backends/static.py": ("_answer(texts.by_name, query)", "_MISSING")}


def source_tree(folder: Path, version: str) -> Path:
    """Make a source tree of another version, for ``fingergw_package``.

    :param folder: where to; it is made.
    :return: the folder.
    """
    folder.mkdir()
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "fingergw", folder / "fingergw", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fingergw" / "core" / "version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def install_bad(fleet: Fleet, name: str, changes: Mapping[str, tuple[str, str]]) -> str:
    """Install a release that has mistakes beside the one in force, for ``fingergw_release``.

    :param changes: by module, a text that is in it once and what comes in its place.
    :return: the release's name.
    """
    good, bad = f"/opt/fingergw/releases/{release(fleet, name)}", "0.6.6-00000bad"
    fleet.ssh(name, f"cp -a {good} {good}/../{bad} && cd {good}/../{bad} && sed -i '1s:{good}:'$PWD: bin/fingergw")
    for module, (before, after) in changes.items():
        path = f"/opt/fingergw/releases/{bad}/lib/python3*/site-packages/fingergw/{module}"
        text = fleet.ssh(name, f"cat {path}")
        assert text.count(before) == 1, f"{module} must have {before!r} once"
        fleet.run(fleet.ssh_command(name, f"cat > $(echo {path})"), text=text.replace(before, after))
    return bad
