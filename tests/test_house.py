"""The house's rules for the tests themselves, as far as a machine can check them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def imported(path: Path) -> Iterator[Path]:
    """Yield what may be the file of each import in a module, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield (TESTS.parent / name.replace(".", "/")).with_suffix(".py")


def test_no_file_imports_a_test_file() -> None:
    """Neither a file of tests nor what they share imports a file of tests: what is shared is in ``tests/support/``."""
    files = set(TESTS.rglob("*.py"))
    test_files = {path for path in files if path.name.startswith("test_")}
    assert Path(__file__) in test_files
    assert [(path, found) for path in sorted(files) for found in imported(path) if found in test_files] == []
