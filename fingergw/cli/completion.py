"""``fingergw completion``."""

from __future__ import annotations

from argparse import Action, Namespace
from importlib import import_module
from typing import Any

from fingergw.cli.command import COMMANDS
from fingergw.cli.command import add_arguments as add_gateway_arguments
from fingergw.cli.options import Parser
from fingergw.cli.output import show
from fingergw.core.errors import FingergwError


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``fingergw completion``."""
    parser.description = (
        "Print a script that completes fingergw's commands and options in a shell. Write it to a file:\n"
        "for bash ~/.local/share/bash-completion/completions/fingergw, for zsh one named _fingergw in a\n"
        "folder of $fpath, for tcsh any that ~/.tcshrc sources, for fish\n"
        "~/.config/fish/completions/fingergw.fish. Needs shtab: pip install 'fingergw[completion]'"
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh", "fish"))


def run(arguments: Namespace) -> int:
    """Print the script.

    :raises FingergwError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise FingergwError("completion needs shtab: run pip install 'fingergw[completion]'") from None
    completed = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}

    class CompletedParser(Parser):
        """A parser with what shtab looks for: how the value of an argument is completed."""

        def add_argument(self, *names: Any, **options: Any) -> Action:
            action = super().add_argument(*names, **options)
            if action.metavar in completed:
                action.complete = completed[action.metavar]  # type: ignore[attr-defined]
            return action

    parser = CompletedParser("fingergw")
    add_gateway_arguments(parser)
    commands = parser.add_subparsers(metavar="command", parser_class=CompletedParser)
    for name, (module, what) in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        import_module(f"fingergw.cli.{module}").add_arguments(command)
        command.description = what  # shtab shows the first line of this
    return show(shtab.complete(parser, arguments.shell) + "\n")
