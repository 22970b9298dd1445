"""``fingergw check``."""

from __future__ import annotations

from typing import ClassVar

from fingergw.app import build
from fingergw.cli.configuration import read
from fingergw.cli.options import BASE_DIR, CONFIG, Options, complain
from fingergw.cli.output import show
from fingergw.config.problems import to_error


class CheckOptions(Options):
    """Options of ``fingergw check``."""

    synopsis = "Usage: fingergw check [--config FILE] [--base-dir DIR]"
    longdesc = (
        "Report every mistake in a configuration, and warn of what will fail later. Binds nothing, contacts nobody. "
        "Exits with 0, also where there are warnings, or 78."
    )
    optParameters: ClassVar = [CONFIG, BASE_DIR]

    def run(self) -> int:
        """Check, and say so."""
        from twisted.internet import reactor

        configuration, problems = read(self["config"], self["base-dir"])
        found, warnings = build.check(configuration, reactor, configuration.process)
        problems += found
        for warning in warnings:
            complain(f"warning: {warning}")
        if problems:
            raise to_error(problems, configuration.source)
        return show(f"{configuration.source.path if configuration.source else ''}: no mistakes found\n")
