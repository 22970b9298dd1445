"""What several commands have in common."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final

from twisted.python import usage

from fingergw import __version__
from fingergw.core.text import printable

DEFAULT: Final = resources.files("fingergw") / "fingergw.toml"
"""The configuration that comes with fingergw."""
CONFIG: Final = ["config", "c", None, "The configuration file [default: the one that comes with fingergw]"]
BASE_DIR: Final = ["base-dir", None, None, "What relative paths are relative to [default: the file's folder]"]


class Options(usage.Options):
    """The options that every command has."""

    synopsis: str

    def getSynopsis(self) -> str:
        """Return how the command is used; Twisted would put the words of the one above before it."""
        return self.synopsis

    def parseOptions(self, options: Sequence[str] | None = None) -> None:  # noqa: N802  # Twisted's name
        """Take options after arguments, too: ``query user@host -l`` asks nobody for "-l"."""
        parse: Callable[[Sequence[str]], None] = super().parseOptions
        if hasattr(self, "subCommands"):  # what follows is another's
            parse(options or ())
            return
        try:
            found, arguments = getopt.gnu_getopt(list(options or ()), self.shortOpt, self.longOpt)
        except getopt.GetoptError as error:
            raise usage.UsageError(str(error)) from None
        parse([*(word for option in found for word in self._words(*option)), "--", *arguments])

    def _words(self, option: str, value: str) -> list[str]:
        takes_value = f"{option[2:]}=" in self.longOpt or f"{option[1:]}:" in self.shortOpt
        return [option, value] if takes_value else [option]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"fingergw {__version__}")
        sys.exit(0)


def complain(*lines: str) -> None:
    """Tell the operator what is wrong, on standard error."""
    # twistd has put its log in the place of sys.stderr by the time that most things go wrong
    print("fingergw: " + printable("\n".join(lines), kept="\n"), file=sys.__stderr__)


def seconds(text: str) -> float:
    """Return an option's number of seconds.

    :raises ValueError: it is none, or not above 0.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f'expected a number of seconds above 0, not "{text}"')
    return number
