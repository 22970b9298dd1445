"""Other releases of the gateway than the checkout's, for ``fingergw_package``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.fleet.space import ROOT

CRASHES = {"fingergw/gateway.py": ("super().startService()", "raise SystemExit('this release does not start')")}
ANSWERS_NOTHING = {"fingergw/backends/static.py": ("self.answers.current().get(query.user, _MISSING)", "_MISSING")}


def source_tree(folder: Path, version: str, changes: Mapping[str, tuple[str, str]] | None = None) -> Path:
    """Make a source tree of another release.

    :param folder: where to; it is made.
    :param version: its version.
    :param changes: by file, a text that is in it once and what comes in its place.
    :return: the folder.
    """
    folder.mkdir()
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "fingergw", folder / "fingergw", ignore=shutil.ignore_patterns("__pycache__"))
    described = folder / "pyproject.toml"
    described.write_text(re.sub('(?m)^version = ".*"$', f'version = "{version}"', described.read_text(), count=1))
    for name, (before, after) in (changes or {}).items():
        path = folder / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} must have {before!r} once"
        path.write_text(text.replace(before, after))
    return folder
