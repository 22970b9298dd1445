"""``python -m tests.fuzz TARGET [atheris options]``: fuzz until stopped, or for ``-max_total_time=SECONDS``."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

_CORPUS = Path(__file__).parent / "corpus"
_EX_USAGE = 2


def main(arguments: list[str]) -> int:
    """Fuzz one target, beginning with its seeds; what is found is put into a scratch folder, which is named."""
    names = sorted(folder.name for folder in _CORPUS.iterdir())
    if not arguments or arguments[0] not in names:
        print(f"usage: python -m tests.fuzz TARGET [atheris options]; TARGET is one of: {', '.join(names)}")
        return _EX_USAGE
    try:
        atheris: Any = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("fuzzing by coverage needs atheris: pip install atheris")
        return _EX_USAGE
    target, *options = arguments
    with atheris.instrument_imports(include=["fingergw", "inscriptis", "jinja2", "json", "tomllib"]):
        from tests.fuzz.targets import TARGETS  # not before: what is imported here is what is instrumented
    scratch = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    shutil.copytree(_CORPUS / target, scratch / "corpus")
    print(f"inputs and what breaks {target}: {scratch}")
    atheris.Setup([sys.argv[0], f"-artifact_prefix={scratch}/", *options, str(scratch / "corpus")], TARGETS[target])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
