"""The house's rules, as far as a machine can check them."""

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


def test_what_is_compared_by_identity_does_not_show_its_fields() -> None:
    """A class without an ``==`` of its own has no repr of its fields: that takes time, and may tell secrets."""
    decorators = [
        (path, ast.unparse(decorator))
        for path in sorted((TESTS.parent / "fingergw").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    ]
    by_identity = [(path, decorator) for path, decorator in decorators if "eq=False" in decorator]
    assert len(by_identity) > 50
    assert [(path, decorator) for path, decorator in by_identity if "repr=False" not in decorator] == []
