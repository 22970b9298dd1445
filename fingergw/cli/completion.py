"""``fingergw completion``."""

from __future__ import annotations

import inspect
from argparse import Action, ArgumentParser
from typing import Any

from twisted.python import usage

from fingergw.cli.options import Options
from fingergw.cli.output import show
from fingergw.core.errors import FingergwError

_SHELLS = ("bash", "zsh", "tcsh")
_FILES = frozenset({"ca-file", "config", "file", "logfile", "pidfile", "unix"})
_FOLDERS = frozenset({"base-dir", "chroot", "rundir"})
_CHOICES = {"shell": _SHELLS}


class CompletionOptions(Options):
    """Options of ``fingergw completion``."""

    synopsis = "Usage: fingergw completion bash|zsh|tcsh"
    longdesc = (
        "Print what a shell completes fingergw's commands and options with. Write it to a file: for bash "
        "~/.local/share/bash-completion/completions/fingergw, for zsh one named _fingergw in a folder of $fpath, "
        "for tcsh any that ~/.tcshrc sources. Takes shtab: pip install 'fingergw[completion]'"
    )

    def parseArgs(self, shell: str = "") -> None:
        if shell not in _SHELLS:
            raise usage.UsageError(f'expected one of {", ".join(_SHELLS)}, not "{shell}"')
        self.shell = shell

    def run(self) -> int:
        """Print it."""
        try:
            import shtab
        except ImportError:
            raise FingergwError("completion needs shtab: run pip install 'fingergw[completion]'") from None
        from fingergw.cli.main import RunOptions  # which imports this

        parser = ArgumentParser("fingergw", add_help=False)
        _fill(parser, RunOptions())
        return show(shtab.complete(parser, self.shell) + "\n")


def _fill(parser: ArgumentParser, options: usage.Options) -> None:
    """Have an argparse parser take what Twisted's takes: shtab knows no other."""
    for name in dict.fromkeys(each.removesuffix("=") for each in options.longOpt):
        words = [f"--{name}", *(f"-{short}" for short, long in options.synonyms.items() if long == name != short)]
        kind: dict[str, Any] = {} if f"{name}=" in options.longOpt else {"action": "store_true"}
        _complete(parser.add_argument(*words, help=_line(options.docs[name]), **kind), name)
    for parameter in inspect.signature(options.parseArgs).parameters.values():
        several = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        _complete(parser.add_argument(parameter.name, nargs="*" if several else None), parameter.name)
    if commands := getattr(options, "subCommands", None):
        below = parser.add_subparsers(metavar="command")
        for name, _, command, summary in commands:
            _fill(below.add_parser(name, help=_line(summary), add_help=False), command())


def _complete(action: Action, name: str) -> None:
    """Have a value completed, as its name tells."""
    import shtab

    if name in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks for it
    elif name in _FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # likewise
    elif name in _CHOICES:
        action.choices = _CHOICES[name]


def _line(text: str | None) -> str:
    """Return a help text in a line of its own, as argparse takes it."""
    return " ".join((text or "").split()).replace("%", "%%")
