"""``fingergw query``."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.ssl import platformTrust
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.python import usage

from fingergw.cli.finger_client import Answer, fetch, parse_target
from fingergw.cli.options import Options, complain, seconds
from fingergw.net.resolving import Resolver
from fingergw.net.trust import authorities

_AT_ONCE = 16  # a gateway lets a client have 20 connections, unless told otherwise


class QueryOptions(Options):
    """Options of ``fingergw query``."""

    synopsis = "Usage: fingergw query [options] [USER][@HOST[:PORT]]..."
    longdesc = (
        "Ask finger servers. Several targets are asked at once, and their answers printed in order under headings. "
        "An IPv6 address takes brackets where a port follows: user@[::1]:1079. With --unix, all of a target is the "
        "question. What an answer holds that could harm a terminal is left out. Exits with 0 if each answer came "
        "whole, 1 if one did not, 2 for wrong usage."
    )
    optFlags: ClassVar = [
        ["long", "l", "Ask for more (/W)"],
        ["tls", None, "Ask over TLS; the certificate must be for the host"],
        ["ascii", None, "Print 7-bit characters alone, and ? for any other"],
        ["raw", None, "Print the bytes as they came, without headings; they can harm a terminal"],
    ]
    optParameters: ClassVar = [
        ["timeout", "t", 20.0, "Seconds to have a target's whole answer in", seconds],
        ["unix", None, None, "Ask at the unix socket with this path"],
        ["ca-file", None, None, "The authorities to trust for --tls, in PEM form [default: the system's]"],
    ]

    def parseArgs(self, *targets: str) -> None:
        if self["ascii"] and self["raw"]:
            raise usage.UsageError("--raw changes nothing in the answer, so --ascii cannot; give one of them")
        if self["unix"] is not None and self["tls"]:
            raise usage.UsageError("--tls is for hosts; remove it, or --unix")
        if self["ca-file"] is not None and not self["tls"]:
            raise usage.UsageError("--ca-file is for --tls; give that too")
        try:
            verbose, path = bool(self["long"]), self["unix"]
            # each with what was written, which is its heading
            self.targets = [(each, parse_target(each, verbose=verbose, path=path)) for each in targets or ("",)]
            self.trust = self._trust() if self["tls"] else None
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    def _trust(self) -> Any:
        file = self["ca-file"]
        if file is None:
            return platformTrust()
        try:
            return authorities(Path(file).read_bytes())
        except OSError as error:
            raise usage.UsageError(f"{file}: {error.strerror}") from None
        except ValueError as error:
            raise usage.UsageError(f"{file}: {error}") from None

    def run(self) -> int:
        """Ask, and print the answers."""
        if sys.stdout is None:
            complain("standard output: it is closed")
            return 1
        # at once, whatever it waits for: a lookup, a server, or whoever reads what it prints
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
        react(self._query)
        return 0

    async def _query(self, reactor: Any) -> None:
        reactor.callWhenRunning(signal.signal, signal.SIGTERM, signal.SIG_DFL)  # Twisted's would end it with 0
        resolver, turns = Resolver(reactor), DeferredSemaphore(_AT_ONCE)
        ask = partial(fetch, resolver=resolver, timeout=self["timeout"], trust=self.trust)
        asking = [turns.run(ask, target) for _, target in self.targets]
        code, printed = 0, False
        for (text, target), each in zip(self.targets, asking, strict=True):
            answer: Answer = await each
            if answer.received or not answer.problem:
                await self._print(self._shown(text, answer, printed))
                printed = True
            if answer.problem:
                complain(f"{target.place}: {answer.reason}")
                code = 1
        raise SystemExit(code)

    def _shown(self, target: str, answer: Answer, printed: bool) -> bytes:
        """Return what to print of an answer.

        :param printed: whether there is something above it.
        """
        if self["raw"]:
            return answer.received
        text, several = answer.text, len(self.targets) > 1
        if (several or answer.problem) and text and not text.endswith("\n"):
            text += "\n"  # something else follows
        if several:
            text = ("\n" if printed else "") + f"[{target or '@localhost'}]\n" + text
        return text.encode("ascii" if self["ascii"] else sys.stdout.encoding, "replace")

    async def _print(self, data: bytes) -> None:
        """Print in a thread: while somebody reads on the first page, the other answers still come."""
        try:
            await deferToThread(_write, data)
        except ConnectionError:
            raise SystemExit(128 + signal.SIGPIPE) from None  # whoever reads has enough
        except OSError as error:
            complain(f"standard output: {error.strerror}")
            raise SystemExit(1) from None


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:  # Python's own, unbuffered, would write a part alone
        left = left[os.write(sys.stdout.fileno(), left) :]
