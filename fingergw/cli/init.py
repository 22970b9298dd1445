"""``fingergw init``."""

from __future__ import annotations

import json
import os
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Final

from fingergw.cli.options import Parser, nonempty_path
from fingergw.cli.output import show
from fingergw.config.finding import PACKAGED
from fingergw.config.schema import TITLE, schema_text
from fingergw.core.errors import FingergwError
from fingergw.net.files import read_file

SCHEMA_NAME: Final = "fingergw.schema.json"
"""The schema's file, in the configuration's folder: the path in the first line holds wherever both are copied to."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``fingergw init``."""
    parser.description = (
        "Write a commented configuration to start from, and beside it its schema, with which editors\n"
        "complete and check it. Never overwrites a configuration."
    )
    what = "the file to write [default: fingergw.toml]"
    parser.add_argument("file", metavar="FILE", nargs="?", default="fingergw.toml", type=nonempty_path, help=what)


def run(arguments: Namespace) -> int:
    """Write the configuration and the schema.

    :raises FingergwError: another file is in the place of one of them, or it cannot be written there.
    """
    path = Path(arguments.file)
    schema = path.parent / SCHEMA_NAME
    exists = f"{path} exists; name another file, or remove it first"
    if os.path.lexists(path):
        raise FingergwError(exists)
    try:
        _write_schema(schema)
        with path.open("x", encoding="utf-8") as file:
            file.write(f"#:schema ./{SCHEMA_NAME}\n" + PACKAGED.read_text("utf-8").partition("\n")[2])
    except FileExistsError:
        raise FingergwError(exists) from None
    except OSError as error:
        hint = "name a file where you may write"
        if isinstance(error, FileNotFoundError):
            hint = f"make its folder first: mkdir -p {shlex.quote(str(path.parent))}"
        raise FingergwError(f"{error.filename or path}: {error.strerror}; {hint}") from None
    return show(f"wrote {path}, and {schema} for editors; run it: fingergw --config {shlex.quote(str(path))}\n")


def _write_schema(path: Path) -> None:
    """Write the schema, and replace only one that fingergw has written.

    :raises FingergwError: another file has its name.
    """
    text = schema_text()
    if os.path.lexists(path):
        kept = _ours(path)
        if kept is None:
            raise FingergwError(
                f"{path} exists and is not fingergw's; move it, or name a configuration in another folder"
            )
        if kept == text:
            return
    path.write_text(text, "utf-8")


def _ours(path: Path) -> str | None:
    """Return the text of a file if it is a schema that some version of fingergw has written, else None."""
    try:
        text = read_file(path)[0].decode()
        schema = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return text if isinstance(schema, dict) and schema.get("title") == TITLE else None
