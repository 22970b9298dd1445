"""The command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, cast

import attrs
from twisted.application import app
from twisted.internet.task import react
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.util import gidFromString, uidFromString

from fingergw import __version__, assemble, config, daemon
from fingergw.client import ask, parse_target
from fingergw.config import model
from fingergw.config.problems import Problem, to_error
from fingergw.errors import ConfigError, FingergwError, PrivilegeError
from fingergw.query import printable

_log = Logger()
_EX_USAGE = 2
_EX_CONFIG = 78  # sysexits.h
_DEFAULT = resources.files("fingergw") / "fingergw.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: default: the process's own.
    :return: the exit code: 0, 1 for a failure, 2 for wrong usage, 78 for a mistake in the configuration.
    """
    options = RunOptions()
    try:
        options.parseOptions(list(sys.argv[1:] if arguments is None else arguments))
    except usage.UsageError as error:
        _complain(f"{error}\nfingergw: try fingergw --help")
        return _EX_USAGE
    try:
        chosen: Any = options.subOptions if options.subCommand else options
        return int(chosen.run())
    except ConfigError as error:
        _complain(f"{len(error.problems)} to mend:", *error.problems)
        return _EX_CONFIG
    except PrivilegeError as error:
        _complain(str(error))
        return _EX_CONFIG
    except FingergwError as error:
        _complain(str(error))
        return 1


def _complain(*lines: str) -> None:
    # twistd has put its log in the place of sys.stderr by the time that most things go wrong
    print("fingergw: " + printable("\n".join(lines), kept="\n"), file=sys.__stderr__)


def _read(path: str | None, base: str | None = None) -> tuple[model.Config, list[Problem]]:
    """Read a configuration; without a path the default one, which counts as standing in the working folder."""
    if path is not None:
        return config.read(Path(path), base=None if base is None else Path(base))
    with resources.as_file(_DEFAULT) as default:
        return config.read(default, base=Path(base or "."))


def _found(text: str, lookup: Callable[[str], int], what: str) -> int:
    try:
        return lookup(text)
    except KeyError:
        raise ValueError(f'no {what} "{text}" on this machine') from None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f'expected a number of seconds above 0, not "{text}"')
    return seconds


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f'expected the umask in octal digits, not "{text}"') from None


class _Options(usage.Options):
    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"fingergw {__version__}")
        sys.exit(0)


class CheckOptions(_Options):
    """Options of ``fingergw check``."""

    synopsis = "Usage: fingergw check [--config FILE] [--base-dir DIR]"
    longdesc = "Report every mistake in a configuration. Binds nothing, contacts nobody. Exits with 0 or 78."
    optParameters: ClassVar = [
        ["config", "c", None, "The configuration file [default: the one that comes with fingergw]"],
        ["base-dir", None, None, "What relative paths are relative to [default: the file's folder]"],
    ]

    def run(self) -> int:
        """Check, and say so."""
        from twisted.internet import reactor

        configuration, problems = _read(self["config"], self["base-dir"])
        problems += assemble.problems(configuration, reactor)
        if problems:
            raise to_error(problems, configuration.source)
        print(f"{configuration.source.path if configuration.source else ''}: no mistakes found")
        return 0


class QueryOptions(_Options):
    """Options of ``fingergw query``."""

    synopsis = "Usage: fingergw query [-l] [USER][@HOST[:PORT]]"
    longdesc = "Ask a finger server. What the answer holds that could harm a terminal is left out."
    optFlags: ClassVar = [["long", "l", "Ask for more (/W)"]]
    optParameters: ClassVar = [
        ["timeout", "t", 20.0, "Seconds to wait for the connection, and for the answer", _seconds]
    ]

    def parseArgs(self, target: str = "") -> None:
        try:
            self.target = parse_target(target, verbose=bool(self["long"]))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    def run(self) -> int:
        """Ask and print the answer."""

        async def query(reactor: Any) -> None:
            try:
                answer = await ask(self.target, reactor, timeout=self["timeout"])
            except Exception as error:
                where = f"{self.target.host}, port {self.target.port}"
                _complain(f"{where}: {str(error) or type(error).__name__}")
                raise SystemExit(1) from None
            try:
                print(answer, end="", flush=True)
            except OSError as error:
                _complain(f"standard output: {error.strerror}")
                os._exit(1)  # Python would complain of what it cannot flush

        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        react(query)
        return 0


class InitOptions(_Options):
    """Options of ``fingergw init``."""

    synopsis = "Usage: fingergw init [FILE]"
    longdesc = "Write a commented configuration to start from. FILE is fingergw.toml unless given."

    def parseArgs(self, file: str = "fingergw.toml") -> None:
        self.file = file

    def run(self) -> int:
        """Write the file, unless it is there."""
        try:
            with Path(self.file).open("x", encoding="utf-8") as file:
                file.write(_DEFAULT.read_text("utf-8"))
        except FileExistsError:
            raise FingergwError(f"{self.file} is there already; name another file, or remove it first") from None
        except OSError as error:
            raise FingergwError(f"{self.file}: {error.strerror}") from None
        print(f"wrote {self.file}; run it: fingergw --config {self.file}")
        return 0


class RunOptions(_Options, app.ReactorSelectionMixin):
    """``fingergw``, and the commands below it."""

    synopsis = "Usage: fingergw [--config FILE] [options]"
    longdesc = (
        "Run the gateway, in the foreground unless told otherwise. "
        "The options from --rundir on are twistd's, and win over [process]."
    )
    optFlags: ClassVar = [
        ["daemonize", None, "Go to the background"],
        ["syslog", None, "Log to syslog, not to a file"],
    ]
    optParameters: ClassVar = [
        ["config", "c", None, "The configuration file [default: the one that comes with fingergw]"],
        ["rundir", "d", ".", "Change to this folder before running"],
        ["pidfile", None, None, "The file to put the process's number in [default: fingergw.pid for a daemon]"],
        ["logfile", None, None, "The file to log to [default: the terminal; fingergw.log for a daemon]"],
        ["prefix", None, "fingergw", "What messages to syslog begin with"],
        ["chroot", None, None, "Change the root to this folder before running"],
        ["uid", "u", None, "The user to become once bound", lambda text: _found(text, uidFromString, "user")],
        ["gid", "g", None, "The group to become once bound", lambda text: _found(text, gidFromString, "group")],
        ["umask", None, None, "The file creation mask, octal", _octal],
    ]
    subCommands: ClassVar = [
        ["check", None, CheckOptions, "Report every mistake in a configuration"],
        ["query", None, QueryOptions, "Ask a finger server"],
        ["init", None, InitOptions, "Write a configuration to start from"],
    ]

    def run(self) -> int:
        """Run the gateway until it is told to stop."""
        from twisted.internet import reactor

        # Twisted's is the time of day: set back, it would stop all deadlines for as long, and set forward, expire them.
        # From here on, as others keep what tells the time.
        cast(Any, reactor).seconds = time.monotonic
        configuration, problems = _read(self["config"])
        if problems:
            raise to_error(problems + assemble.problems(configuration, reactor), configuration.source)
        if self["uid"] is not None:
            own = attrs.evolve(configuration.process, user=str(self["uid"]))
            configuration = attrs.evolve(configuration, process=own)
        service = assemble.make_service(configuration, reactor)
        daemon.run(service, daemon.settings(self, configuration.process, configuration.log), reactor)
        return 0
