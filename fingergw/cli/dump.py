"""``fingergw config``."""

from __future__ import annotations

from argparse import Namespace

from fingergw import config
from fingergw.app import build
from fingergw.cli.configuration import read
from fingergw.cli.options import Parser, add_base_dir, add_config
from fingergw.cli.output import show


def add_arguments(parser: Parser) -> None:
    """Add the options of ``fingergw config``."""
    parser.description = (
        "Print the configuration in effect: each key with its value, defaults included, and absolute paths.\n"
        'What may be a secret is replaced by "(left out)". Exits with 78 if the file has mistakes.'
    )
    add_config(parser)
    add_base_dir(parser)


def run(arguments: Namespace) -> int:
    """Print the configuration, or the mistakes in it."""
    from twisted.internet import reactor

    configuration, problems = read(arguments.config, arguments.base_dir)
    build.raise_if_mistaken(configuration, problems, reactor, configuration.process)
    return show(config.dumps_effective(configuration))
