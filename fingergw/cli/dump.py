"""``fingergw config``."""

from __future__ import annotations

from typing import ClassVar

from fingergw import config
from fingergw.app import build
from fingergw.cli.configuration import read
from fingergw.cli.options import BASE_DIR, CONFIG, Options
from fingergw.cli.output import show


class DumpOptions(Options):
    """Options of ``fingergw config``."""

    synopsis = "Usage: fingergw config [--config FILE] [--base-dir DIR]"
    longdesc = (
        "Print the configuration as it is in effect: each key with its value, defaults included, files absolute. "
        'What may be a secret is left out, and "(left out)" stands in its place. '
        "Exits with 78 if the file has mistakes."
    )
    optParameters: ClassVar = [CONFIG, BASE_DIR]

    def run(self) -> int:
        """Print it, or what is wrong with it."""
        from twisted.internet import reactor

        configuration, problems = read(self["config"], self["base-dir"])
        build.refuse(configuration, problems, reactor)
        return show(config.dumps_effective(configuration))
