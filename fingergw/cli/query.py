"""``fingergw query``."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from fingergw.cli.finger_client import Answer, Target, fetch, parse_target
from fingergw.cli.options import Parser, UsageError
from fingergw.cli.output import complain
from fingergw.net.files import read_file
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities, system_trust

_MAX_CONNECTIONS = 16  # at once; by default a gateway lets a client have 20


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``fingergw query``."""
    parser.usage = "fingergw query [options] [USER][@HOST[:PORT]]..."
    parser.description = (
        "Ask finger servers. Several targets are asked at once, and their answers printed in order under\n"
        "headings. An IPv6 address takes brackets if a port follows: user@[::1]:1079. With --unix, the\n"
        "whole target is the query. Control characters that could harm a terminal are removed.\n"
        "Exits with 0 if all answers came whole, 1 if one did not or has no text, 2 for wrong usage."
    )
    parser.repeated = "targets"
    add = parser.add_argument
    add("targets", metavar="[USER][@HOST[:PORT]]", nargs="*", help="the default host is this one, the default port 79")
    add("-l", "--long", action="store_true", help="ask for more (/W)")
    within = "the time for a whole answer, looking up the host included [default: 20]"
    add("-t", "--timeout", metavar="SECONDS", type=_seconds, default=20.0, help=within)
    add("--unix", metavar="FILE", help="ask at the unix socket with this path")
    add("--tls", action="store_true", help="ask over TLS; the certificate must be for the host")
    add("--ca-file", metavar="FILE", help="the authorities to trust for --tls, in PEM form [default: the system's]")
    add("--ascii", action="store_true", help="print only 7-bit characters, with ? for any other")
    add("--raw", action="store_true", help="print the bytes as received, without headings; they can harm a terminal")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f'expected a finite number of seconds above 0, such as 20, not "{text}"')
    return number


def run(arguments: Namespace) -> int:
    """Ask, and print the answers.

    :raises UsageError: the options contradict each other, or a target cannot be one.
    """
    if arguments.ascii and arguments.raw:
        raise UsageError("--ascii and --raw contradict each other: remove one")
    if arguments.unix is not None and arguments.tls:
        raise UsageError("--tls and --unix cannot be combined: remove one")
    if arguments.ca_file is not None and not arguments.tls:
        raise UsageError("--ca-file is for TLS: add --tls, or remove it")
    targets = arguments.targets or [""]
    try:
        parsed = [parse_target(target, verbose=arguments.long, path=arguments.unix) for target in targets]
    except ValueError as error:
        raise UsageError(str(error)) from None
    trust = _trust(arguments.ca_file) if arguments.tls else None
    if sys.stdout is None:
        complain("standard output is closed, so answers cannot be printed: open it")
        return 1
    react(partial(_query, arguments, targets, parsed, trust))
    return 0


def _trust(ca_file: str | None) -> Any:
    if ca_file is None:
        return system_trust()
    try:
        return authorities(read_file(Path(ca_file), or_pipe=True)[0])
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--ca-file {ca_file}: {error}") from None


async def _query(arguments: Namespace, targets: list[str], parsed: list[Target], trust: Any, reactor: Any) -> None:
    """Ask all targets, and print the answers in order.

    :param targets: as they were written, for the headings.
    :raises SystemExit: with the exit code.
    """
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, signal.SIG_DFL)  # Twisted's would end it with 0
    resolver, places = Resolver(reactor), DeferredSemaphore(_MAX_CONNECTIONS)
    ask = partial(fetch, resolver=resolver, timeout=arguments.timeout, trust=trust)
    asking = [places.run(ask, target) for target in parsed]
    code, printed = 0, False
    for written, target, each in zip(targets, parsed, asking, strict=True):
        answer: Answer = await each
        if answer.received:
            heading = f"[{written or '@localhost'}]\n" if len(targets) > 1 else ""
            await _print(_shown(answer, "\n" + heading if heading and printed else heading, arguments))
            printed = True
        if answer.problem:
            complain(f"{target.place}: {answer.problem}")
            code = 1
    raise SystemExit(code)


def _shown(answer: Answer, heading: str, arguments: Namespace) -> bytes:
    """Return what to print of an answer; it ends its last line if something may follow."""
    if arguments.raw:
        return answer.received
    text = answer.text
    if (heading or answer.problem) and text and not text.endswith("\n"):
        text += "\n"
    return (heading + text).encode("ascii" if arguments.ascii else sys.stdout.encoding, "replace")


async def _print(data: bytes) -> None:
    """Print in a thread: while somebody reads on the first page, the other answers still come."""
    try:
        await deferToThread(_write, data)
    except ConnectionError:
        raise SystemExit(128 + signal.SIGPIPE) from None  # the reader has gone
    except OSError as error:
        complain(f"standard output: {error.strerror}; redirect it to a disk with free space")
        raise SystemExit(1) from None


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:  # Python's own, unbuffered, would write only a part
        left = left[os.write(sys.stdout.fileno(), left) :]
