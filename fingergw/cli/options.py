"""What the options of several commands have in common."""

from __future__ import annotations

from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from fingergw.core.errors import FingergwError

# argparse's messages that do not say what to write
_CLEARER: Final = {
    "expected one argument": 'expected a value; write --OPTION=VALUE if the value begins with "-"',
    "ignored explicit argument": "takes no value, but was given",
    "the following arguments are required": "missing argument",
}


class UsageError(FingergwError):
    """Correct the command line; the command's ``--help`` shows what it may be."""


class _Version(Action):
    """Print the version, which takes time to find out."""

    def __call__(self, parser: ArgumentParser, *_: object) -> NoReturn:
        from fingergw import __version__

        print(f"fingergw {__version__}")
        parser.exit()


class Parser(ArgumentParser):
    """An argument parser that raises :class:`UsageError`, where argparse's own ends the process.

    :ivar repeated: the argument that takes any number of values, among which options may stand; empty for none.
    :ivar hint: the end of the message about an unexpected argument: what to write instead.
    """

    repeated = ""
    hint = ""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, formatter_class=RawDescriptionHelpFormatter, **options)
        self.add_argument("-V", "--version", action=_Version, nargs=0, help="show program's version number and exit")

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        for theirs, ours in _CLEARER.items():
            message = message.replace(theirs, ours)
        raise UsageError(message)

    def parse(self, words: Sequence[str] | None = None, namespace: Namespace | None = None) -> Namespace:
        """Parse a command line.

        :param words: default: the process's own.
        :param namespace: what has been parsed before; its values stand where an option is not given.
        :raises UsageError: it cannot be parsed.
        """
        parsed, rest = self.parse_known_args(words, namespace)
        end = rest.index("--") if "--" in rest else len(rest)
        for word in rest[:end]:
            if word.startswith("-") and word != "-":
                raise UsageError(f'unknown option "{word}"')
        more = rest[:end] + rest[end + 1 :]
        if more and not self.repeated:
            raise UsageError(f'unexpected argument "{more[0]}"{self.hint}')
        if more:  # argparse takes only those before the next option
            getattr(parsed, self.repeated).extend(more)
        return parsed


class OptionsOnly(Parser):
    """A parser of options, which knows only whether each has a value."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, add_help=False, conflict_handler="resolve")
        self.add_argument("-h", "--help", action="help")

    def add_argument(self, *names: Any, **options: Any) -> Action:
        if not names[0].startswith("-"):
            return Action([], names[0])  # and leave it out
        return super().add_argument(*names, action="store_true" if "action" in options else "store")

    def not_options(self, words: Sequence[str]) -> list[str]:
        """Return the words that are neither an option nor its value.

        :raises UsageError: the value of an option is missing, or an option is abbreviated too much.
        """
        return self.parse_known_args(words)[1]


def nonempty_path(text: str) -> str:
    """Refuse what an unset variable of a shell leaves: Python would take it for the working folder."""
    if not text:
        raise ArgumentTypeError('expected a path, not ""')
    return text


def add_config(parser: Parser) -> None:
    """Add ``--config``."""
    parser.hint = "; to name the configuration, write --config FILE"
    what = "the configuration [default: fingergw.toml in the current folder; if there is none, the packaged one]"
    parser.add_argument("-c", "--config", metavar="FILE", type=nonempty_path, help=what)


def add_base_dir(parser: Parser) -> None:
    """Add ``--base-dir``."""
    what = "the folder that relative paths in it start from [default: the file's own]"
    parser.add_argument("--base-dir", metavar="DIR", type=nonempty_path, help=what)
