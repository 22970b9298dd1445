"""``fingergw schema``."""

from __future__ import annotations

from fingergw.cli.options import Options
from fingergw.cli.output import show
from fingergw.config.schema import schema_text


class SchemaOptions(Options):
    """Options of ``fingergw schema``."""

    synopsis = "Usage: fingergw schema"
    longdesc = (
        "Print the JSON Schema of the configuration file. An editor that knows taplo, such as VS Code with Even Better "
        "TOML, completes and checks a file by it whose first line is: #:schema ./NAME-OF-THE-SCHEMA.json"
    )

    def run(self) -> int:
        """Print it."""
        return show(schema_text())
