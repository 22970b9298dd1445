"""``fingergw init``."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Final

from fingergw.cli.options import DEFAULT, Options
from fingergw.cli.output import show
from fingergw.config.schema import TITLE, schema_text
from fingergw.core.errors import FingergwError
from fingergw.net.files import read_file

SCHEMA_NAME: Final = "fingergw.schema.json"
"""The schema is put beside the file, so that its first line holds wherever both are copied to."""


class InitOptions(Options):
    """Options of ``fingergw init``."""

    synopsis = "Usage: fingergw init [FILE]"
    longdesc = (
        "Write a commented configuration to start from, and beside it its schema, by which editors complete and check "
        "it. FILE is fingergw.toml unless given."
    )

    def parseArgs(self, file: str = "fingergw.toml") -> None:
        self.file = Path(file)

    def run(self) -> int:
        """Write the files, unless there is something else in their place."""
        schema = self.file.parent / SCHEMA_NAME
        taken = f"{self.file} is there already; name another file, or remove it first"
        if os.path.lexists(self.file):
            raise FingergwError(taken)
        try:
            _write_schema(schema)
            with self.file.open("x", encoding="utf-8") as file:
                file.write(f"#:schema ./{SCHEMA_NAME}\n" + DEFAULT.read_text("utf-8").partition("\n")[2])
        except FileExistsError:
            raise FingergwError(taken) from None
        except OSError as error:
            folder = shlex.quote(str(self.file.parent))
            advice = f"make its folder first: mkdir -p {folder}"
            if not isinstance(error, FileNotFoundError):
                advice = "name a file where you may write"
            raise FingergwError(f"{error.filename or self.file}: {error.strerror}; {advice}") from None
        named = shlex.quote(str(self.file))
        return show(f"wrote {self.file}, and {schema} for editors; run it: fingergw --config {named}\n")


def _write_schema(path: Path) -> None:
    """Write the schema; over one that is there only if it is one of ours."""
    text = schema_text()
    if os.path.lexists(path):
        kept = _ours(path)
        if kept is None:
            raise FingergwError(f"{path} is there already, and not from fingergw; move it, or name a file elsewhere")
        if kept == text:
            return
    path.write_text(text, "utf-8")


def _ours(path: Path) -> str | None:
    """Return the schema in a file, if it is one that any version of fingergw has written."""
    try:
        text = read_file(path)[0].decode()
        made = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return text if isinstance(made, dict) and made.get("title") == TITLE else None
