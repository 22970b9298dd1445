"""``fingergw check``."""

from __future__ import annotations

from argparse import Namespace

from fingergw.app import build
from fingergw.cli.configuration import read
from fingergw.cli.options import Parser, add_base_dir, add_config
from fingergw.cli.output import complain, show
from fingergw.config.problems import located, to_error


def add_arguments(parser: Parser) -> None:
    """Add the options of ``fingergw check``."""
    parser.description = (
        "Report every mistake in a configuration, and warn of what will fail later or cannot be meant.\n"
        "Binds no ports and contacts no servers. Exits with 78 if there are mistakes, else with 0."
    )
    add_config(parser)
    add_base_dir(parser)
    parser.add_argument("--strict", action="store_true", help="count warnings as mistakes")


def run(arguments: Namespace) -> int:
    """Print warnings, and then the mistakes or that there are none."""
    from twisted.internet import reactor

    configuration, problems = read(arguments.config, arguments.base_dir)
    found, warnings = build.check(configuration, reactor, configuration.process, is_whole=not problems)
    problems += found
    if arguments.strict:
        problems += warnings
    else:
        for warning in located(warnings, configuration.source):
            complain(f"warning: {warning}")
    if problems:
        raise to_error(problems, configuration.source)
    return show(f"{configuration.source.path if configuration.source else ''}: no mistakes found\n")
