"""``fingergw`` itself: its commands, and running the gateway."""

from __future__ import annotations

import gc
import linecache
import os
import signal
import sys
from argparse import REMAINDER, SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal

from fingergw.app import signals
from fingergw.cli.options import OptionsOnly, Parser, UsageError, add_config, nonempty_path
from fingergw.cli.output import complain, show
from fingergw.core.errors import ConfigError, FingergwError, PrivilegeError
from fingergw.net.identity import number_of

_EX_USAGE = 2
_THRESHOLDS: Final = gc.get_threshold()
_SETTLED_SECONDS: Final = 1
_NEVER: Final = 1 << 30  # collections of what is young before all is looked through for garbage
_INTERRUPTED = 128 + signal.SIGINT

COMMANDS: Final = {
    "check": ("check", "report every mistake in a configuration"),
    "explain": ("explain", "show which route and backends a query goes to, and why"),
    "query": ("query", "ask finger servers"),
    "init": ("init", "write a configuration to start from"),
    "config": ("dump", "print the configuration in effect, defaults included"),
    "schema": ("schema", "print the configuration's JSON Schema, for editors"),
    "completion": ("completion", "print a script that completes commands and options in a shell"),
}
"""The commands: for each its module, which has ``add_arguments(parser)`` and ``run(arguments)``, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: default: the process's own.
    :return: the exit code: 0, 1 for a failure, 2 for wrong usage, 78 for a mistake in the configuration.
    """
    command = "fingergw"
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        gc.set_threshold(*_THRESHOLDS[:2], _NEVER)  # to look through all that is imported takes a tenth of a start
    try:
        place = _place_of_command(words)
        if place is None:
            parser = Parser(command)
            add_arguments(parser)
            parser.add_argument("command", nargs=REMAINDER, help=SUPPRESS)
            parsed = parser.parse(words)
            left = [each for each in parsed.command if each != "--"]
            if not left:
                return run(parsed)
            place = len(words) - len(left)
        name = words[place]
        signals.add(partial(os._exit, _INTERRUPTED), signal.SIGINT)  # at once, whatever it waits for
        signals.release()
        module = _module(name)
        if arguments is None:
            gc.freeze()  # what is imported is not looked at at the end, either
        command = f"fingergw {name}"
        before = _before(words, place)
        if refused := _options_of(module).not_options(before):
            raise UsageError(f"{name} takes no {refused[0].partition('=')[0]}")
        parser = Parser(command)
        module.add_arguments(parser)
        return int(module.run(parser.parse([*before, *words[place + 1 :]])))
    except UsageError as error:
        complain(f"{error}\nfingergw: try {command} --help")
        return _EX_USAGE
    except FingergwError as error:
        complain(error.report if isinstance(error, ConfigError) else str(error))
        return os.EX_CONFIG if isinstance(error, (ConfigError, PrivilegeError)) else 1


def _place_of_command(words: Sequence[str]) -> int | None:
    """Return where a command line has its command: after options that are the gateway's or the command's own.

    :return: None if it has none, as where the gateway is to be run.
    """
    for place, word in enumerate(words):
        if word in COMMANDS:
            options = _options_of(_module(word))
            add_arguments(options)
            with suppress(UsageError):  # a value is missing: the word may be that
                if not options.not_options(_before(words, place)):
                    return place
    return None


def _before(words: Sequence[str], place: int) -> Sequence[str]:
    """Return what stands before a command, without a ``--`` that only says that no option follows."""
    return words[: place - 1] if words[:place][-1:] == ["--"] else words[:place]


def _options_of(module: Any) -> OptionsOnly:
    options = OptionsOnly("fingergw")
    module.add_arguments(options)
    return options


def _module(name: str) -> Any:
    """Import a command's module, and no other command's.

    :raises UsageError: there is no such command.
    """
    if name in COMMANDS:
        return import_module(f"fingergw.cli.{COMMANDS[name][0]}")
    import difflib  # only mistakes need it

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    if near:
        raise UsageError(f'unknown command "{name}"; did you mean "{near[0]}"?')
    commands = ", ".join(COMMANDS)
    raise UsageError(f'unknown command "{name}"; expected one of {commands}, or --config FILE to run the gateway')


def add_arguments(parser: Parser) -> None:
    """Add the options of the gateway."""
    parser.usage = "fingergw [--config FILE] [options]\n       fingergw COMMAND --help"
    parser.description = (
        "Run the gateway, in the foreground unless --daemonize is given.\n"
        "All options but --config and --daemonize are twistd's, and take precedence over [process]."
    )
    parser.epilog = "commands:\n" + "\n".join(f"    {name:<12} {what}" for name, (_, what) in COMMANDS.items())
    add_config(parser)
    add = parser.add_argument
    add("--daemonize", action="store_true", help="run in the background")
    add("-d", "--rundir", metavar="DIR", default=".", help="change to this folder before running [default: .]")
    add("--pidfile", metavar="FILE", help="write the process id to this file [default: fingergw.pid for a daemon]")
    add("--logfile", metavar="FILE", help="log to this file [default: the terminal; fingergw.log for a daemon]")
    add("--syslog", action="store_true", help="log to syslog instead of a file")
    add("--prefix", default="fingergw", help="the prefix of messages in syslog [default: fingergw]")
    add("--chroot", metavar="DIR", type=_absolute, help="change the root to this folder before running")
    add("-u", "--uid", metavar="USER", type=partial(_number, "user"), help="the user to become after binding")
    add("-g", "--gid", metavar="GROUP", type=partial(_number, "group"), help="the group to become after binding")
    add("--umask", type=_octal, help="the file creation mask in octal digits, such as 027")
    add("-r", "--reactor", metavar="NAME", help="the Twisted reactor to use")
    add("--help-reactors", action="store_true", help="print the names of the reactors and exit")


def _absolute(text: str) -> str:
    """Return a path as it is from here: later the working folder may be another."""
    return str(Path(nonempty_path(text)).absolute())


def _number(kind: Literal["user", "group"], text: str) -> int:
    try:
        return number_of(kind, text)
    except LookupError as error:
        raise ArgumentTypeError(str(error)) from None


def _octal(text: str) -> int:
    try:
        mask = int(text, 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= 0o777:
        raise ArgumentTypeError(f'expected octal digits such as 027, not "{text}"')
    return mask


def _install_reactor(name: str) -> None:
    """Have ``from twisted.internet import reactor`` give this one.

    :raises UsageError: there is no such reactor, or it cannot be used here.
    """
    from twisted.application.reactors import installReactor

    try:
        installReactor(name)
    except Exception:  # there is none with that name, or its module does not fit this machine
        hint = "fingergw --help-reactors prints those that can"
        raise UsageError(f'--reactor: "{name}" cannot be used here; {hint}') from None


def _show_reactors() -> int:
    from twisted.application.app import ReactorSelectionMixin

    reactors = ReactorSelectionMixin()
    reactors.messageOutput = StringIO()
    with suppress(SystemExit):
        reactors.opt_help_reactors()
    return show(reactors.messageOutput.getvalue())


def run(arguments: Namespace) -> int:
    """Run the gateway until it is told to stop."""
    stops = (signal.SIGTERM, signal.SIGINT)
    signals.add(partial(os._exit, 0), *stops)  # at once, as long as there is nothing to remove
    signals.release(*stops)
    if arguments.daemonize:
        from fingergw.app import background

        background.occupy_standard_streams()
    if arguments.help_reactors:
        return _show_reactors()
    if arguments.reactor is not None:
        _install_reactor(arguments.reactor)
    from twisted.internet import reactor

    from fingergw.app import build, daemon
    from fingergw.app.clock import use_monotonic_clock
    from fingergw.app.reload import Operation
    from fingergw.cli.configuration import read_to_run
    from fingergw.config.finding import find

    linecache.clearcache()  # attrs keeps the sources of all the methods that it has made there
    use_monotonic_clock(reactor)  # first of all, as others keep what tells the time
    place, options = find(arguments.config), vars(arguments)
    configuration, problems = read_to_run(options, place, hint=True)
    build.raise_if_problems(configuration, problems, reactor, configuration.process)
    gateway = build.make_gateway(configuration, reactor, configuration.process)
    # a reload must find the same file, also from another working folder
    again = partial(read_to_run, options, place.absolute())
    own = daemon.settings(options, configuration.process, configuration.log)
    gateway.operation = Operation(gateway, again, lambda applied: own.event_log.follow(applied.log))
    # not at once, as then the first clients would wait for it
    reactor.callWhenRunning(reactor.callLater, _SETTLED_SECONDS, gc.set_threshold, *_THRESHOLDS)
    daemon.run(gateway, own, reactor)
    return 0
