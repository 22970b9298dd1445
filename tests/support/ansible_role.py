"""The files of the Ansible role ``fingergw``, for tests without hosts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args  # type: ignore[import-untyped]

from tests.support.processes import ROOT

ANSIBLE = ROOT / "ansible"
ROLES = ANSIBLE / "roles"
ROLE = ROLES / "fingergw"


def load(path: str) -> ModuleType:
    """Import a Python file of the role, which is in no package.

    :param path: its place in the role.
    """
    file = ROLE / path
    spec = importlib.util.spec_from_file_location(f"ansible_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    text: str = "",
    tool: str = "",
    needs: str = "",
    platform: str = "any",
) -> Path:
    """Write a wheel.

    :param text: of its module.
    :param tool: what built it.
    :param needs: another that it needs, as its extra ``more``.
    :param platform: what hosts it is for.
    """
    path = folder / f"{name}-{version}-py3-none-{platform}.whl"
    info = f"{name}-{version}.dist-info"
    extra = f'Provides-Extra: more\nRequires-Dist: {needs}; extra == "more"\n' if needs else ""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extra}")
        wheel.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: {tool}\nRoot-Is-Purelib: true\nTag: py3-none-{platform}\n"
        )
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in wheel.namelist()))
    return path


def ansible(name: str, *arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of Ansible's to its end, in the folder and with the settings of the project's.

    :param name: of the command, such as ``ansible-playbook``.
    :param home: a folder for what it leaves.
    """
    programs = Path(sys.executable).parent
    settings = {"ANSIBLE_HOME": str(home), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [programs / name, *arguments],
        cwd=ANSIBLE,
        env={**kept, **settings, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def call(
    module: Any, capsys: pytest.CaptureFixture[str], _ansible_check_mode: bool = False, **arguments: object
) -> tuple[object, dict[str, Any]]:
    """Run a module as Ansible does; return its exit code and its result."""
    with (
        patch_module_args({**arguments, "_ansible_check_mode": _ansible_check_mode}),
        pytest.raises(SystemExit) as ended,
    ):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return ended.value.code, result
