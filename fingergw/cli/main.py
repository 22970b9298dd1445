"""``fingergw`` itself: the commands, and running the gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.application import app
from twisted.python import usage
from twisted.python.util import gidFromString, uidFromString

from fingergw.cli.options import CONFIG, Options, complain
from fingergw.core.errors import ConfigError, FingergwError, PrivilegeError

if TYPE_CHECKING:
    from fingergw.config import model
    from fingergw.config.problems import Problem

_EX_USAGE = 2
_EX_CONFIG = 78  # sysexits.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: default: the process's own.
    :return: the exit code: 0, 1 for a failure, 2 for wrong usage, 78 for a mistake in the configuration.
    """
    options = RunOptions()
    try:
        options.parseOptions(list(sys.argv[1:] if arguments is None else arguments))
    except usage.UsageError as error:
        text = str(error).removeprefix("Parameter type enforcement failed: ")  # Twisted's words, which tell nobody much
        command = f"fingergw {options.subCommand}" if options.subCommand else "fingergw"
        complain(f"{text[:1].lower()}{text[1:]}\nfingergw: try {command} --help")
        return _EX_USAGE
    try:
        chosen: Any = options.subOptions if options.subCommand else options
        return int(chosen.run())
    except ConfigError as error:
        complain(error.report)
        return _EX_CONFIG
    except PrivilegeError as error:
        complain(str(error))
        return _EX_CONFIG
    except FingergwError as error:
        complain(str(error))
        return 1


def _command(module: str, name: str) -> Callable[[], usage.Options]:
    """Return what makes a command's options, and imports no more than that one needs."""
    return lambda: getattr(import_module(f"fingergw.cli.{module}"), name)()


def _found(text: str, lookup: Callable[[str], int], what: str) -> int:
    try:
        return lookup(text)
    except KeyError:
        raise ValueError(f'no {what} "{text}" on this machine') from None


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f'expected the umask in octal digits, not "{text}"') from None


class RunOptions(Options, app.ReactorSelectionMixin):
    """``fingergw``, and the commands below it."""

    synopsis = "Usage: fingergw [--config FILE] [options]"
    longdesc = (
        "Run the gateway, in the foreground unless told otherwise. "
        "All options but --config and --daemonize are twistd's, and win over [process]."
    )
    optFlags: ClassVar = [
        ["daemonize", None, "Go to the background"],
        ["syslog", None, "Log to syslog, not to a file"],
    ]
    optParameters: ClassVar = [
        CONFIG,
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
        ["check", None, _command("check", "CheckOptions"), "Report every mistake in a configuration"],
        ["explain", None, _command("explain", "ExplainOptions"), "Tell what comes of a query, and why"],
        ["query", None, _command("query", "QueryOptions"), "Ask a finger server"],
        ["init", None, _command("init", "InitOptions"), "Write a configuration to start from"],
        ["config", None, _command("dump", "DumpOptions"), "Print the configuration as it is in effect"],
        ["schema", None, _command("schema", "SchemaOptions"), "Print the configuration's JSON Schema, for editors"],
        ["completion", None, _command("completion", "CompletionOptions"), "Print what a shell completes commands with"],
    ]

    def run(self) -> int:
        """Run the gateway until it is told to stop."""
        from twisted.internet import reactor

        from fingergw.app import build, daemon
        from fingergw.app.clock import use_monotonic_clock
        from fingergw.app.reload import Operation

        use_monotonic_clock(reactor)  # first of all, as others keep what tells the time
        path = self["config"]
        if self["chroot"] is not None:  # as it is called from here, also where a reload is not here any more
            self["chroot"] = str(Path(self["chroot"]).absolute())
        configuration, problems = self._read(path, hint=True)
        build.refuse(configuration, problems, reactor, configuration.process)
        gateway = build.make_service(configuration, reactor, configuration.process)
        # a reload must find the same file, also from another working folder
        again = partial(self._read, path and str(Path(path).absolute()), str(Path.cwd()) if path is None else None)
        own = daemon.settings(self, configuration.process, configuration.log)
        service = Operation(gateway, again, lambda applied: own["event_log"].set_level(applied.log.level))
        daemon.run(service, own, reactor)
        return 0

    def _read(
        self, path: str | None, base: str | None = None, *, hint: bool = False
    ) -> tuple[model.Config, list[Problem]]:
        """Read the configuration, which the command line may say to run as another user, or in another root."""
        from fingergw.app.privileges import becoming
        from fingergw.cli.configuration import read
        from fingergw.core.settings import changed

        configuration, problems = read(path, base, hint=hint)
        return changed(configuration, process=becoming(configuration.process, self)), problems
