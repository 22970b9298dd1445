"""What a process that gives up rights has loaded before that."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import fingergw

PACKAGE = Path(fingergw.__file__).parent
EARLY = ("cli", "twistd_plugin", "app.tap")
"""What has run before any rights are given up."""


def late_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that functions import."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (each.name for each in node.names)
                elif isinstance(node, ast.ImportFrom):
                    assert node.module is not None
                    yield node.module
                    yield from (f"{node.module}.{each.name}" for each in node.names)


def is_module(name: str) -> bool:
    """Tell whether a name is that of a module that is installed."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_everything_is_loaded() -> None:
    """Whatever a function of the gateway imports is loaded by then, as is what an import is made with."""
    found: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not own.startswith(EARLY):
            found |= dict.fromkeys(late_imports(ast.parse(path.read_text())), own)
    assert "fingergw.net.workers.converting" in found
    code = (
        "import os, sys; os.geteuid = lambda: 0\n"  # only root has rights to give up
        "import fingergw.app.daemon, fingergw.app.build\n"
        "from fingergw.app.preloading import preload; preload()\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert {name: own for name, own in found.items() if name not in loaded and is_module(name)} == {}
    assert "fingergw.net.http.client" in loaded  # a LateModule


def test_a_package_that_is_broken(tmp_path: Path) -> None:
    """A module that cannot be imported is warned of, and ends no start: what needs it may never be asked."""
    (tmp_path / "treq.py").write_text('raise ImportError("broken")\n')
    code = (
        f"import os, sys; os.geteuid = lambda: 0; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from twisted.logger import eventAsText, globalLogBeginner\n"
        "globalLogBeginner.beginLoggingTo([lambda event: print(eventAsText(event))], redirectStandardIO=False)\n"
        "from fingergw.app.preloading import preload; preload()\n"
        "print('jinja2.debug' in sys.modules)"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert [line.partition("#warn] ")[2] for line in told[:-1]] == [
        "fingergw.net.http.client cannot be imported: ImportError('broken')"
    ]
    assert told[-1] == "True"
