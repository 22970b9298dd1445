"""``fingergw schema``."""

from __future__ import annotations

from argparse import Namespace

from fingergw.cli.options import Parser
from fingergw.cli.output import show
from fingergw.config.schema import schema_text


def add_arguments(parser: Parser) -> None:
    """Describe ``fingergw schema``, which has no options."""
    parser.description = (
        "Print the JSON Schema of the configuration file. Editors that use taplo, such as VS Code with\n"
        "Even Better TOML, complete and check a file whose first line is: #:schema ./NAME-OF-THE-SCHEMA.json"
    )


def run(_: Namespace) -> int:
    """Print the schema."""
    return show(schema_text())
