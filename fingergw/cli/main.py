"""``fingergw`` itself: the commands, and running the gateway."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import attrs
from twisted.application import app
from twisted.python import usage
from twisted.python.util import gidFromString, uidFromString

from fingergw import assemble, daemon
from fingergw.cli.check import CheckOptions
from fingergw.cli.init import InitOptions
from fingergw.cli.options import CONFIG, Options, complain, read
from fingergw.cli.query import QueryOptions
from fingergw.config.problems import to_error
from fingergw.errors import ConfigError, FingergwError, PrivilegeError

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
        complain(f"{error}\nfingergw: try fingergw --help")
        return _EX_USAGE
    try:
        chosen: Any = options.subOptions if options.subCommand else options
        return int(chosen.run())
    except ConfigError as error:
        complain(f"{len(error.problems)} to mend:", *error.problems)
        return _EX_CONFIG
    except PrivilegeError as error:
        complain(str(error))
        return _EX_CONFIG
    except FingergwError as error:
        complain(str(error))
        return 1


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
        "The options from --rundir on are twistd's, and win over [process]."
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
        configuration, problems = read(self["config"])
        if problems:
            raise to_error(problems + assemble.problems(configuration, reactor), configuration.source)
        if self["uid"] is not None:
            own = attrs.evolve(configuration.process, user=str(self["uid"]))
            configuration = attrs.evolve(configuration, process=own)
        service = assemble.make_service(configuration, reactor)
        daemon.run(service, daemon.settings(self, configuration.process, configuration.log), reactor)
        return 0
