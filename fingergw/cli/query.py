"""``fingergw query``."""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

from twisted.internet.task import react
from twisted.python import usage

from fingergw.cli.options import Options, complain, seconds
from fingergw.client import ask, parse_target


class QueryOptions(Options):
    """Options of ``fingergw query``."""

    synopsis = "Usage: fingergw query [-l] [USER][@HOST[:PORT]]"
    longdesc = "Ask a finger server. What the answer holds that could harm a terminal is left out."
    optFlags: ClassVar = [["long", "l", "Ask for more (/W)"]]
    optParameters: ClassVar = [
        ["timeout", "t", 20.0, "Seconds to wait for the connection, and for the answer", seconds]
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
                complain(f"{where}: {str(error) or type(error).__name__}")
                raise SystemExit(1) from None
            try:
                print(answer, end="", flush=True)
            except OSError as error:
                complain(f"standard output: {error.strerror}")
                os._exit(1)  # Python would complain of what it cannot flush

        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        react(query)
        return 0
