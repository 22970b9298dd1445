"""``fingergw init``."""

from __future__ import annotations

from pathlib import Path

from fingergw.cli.options import DEFAULT, Options
from fingergw.errors import FingergwError


class InitOptions(Options):
    """Options of ``fingergw init``."""

    synopsis = "Usage: fingergw init [FILE]"
    longdesc = "Write a commented configuration to start from. FILE is fingergw.toml unless given."

    def parseArgs(self, file: str = "fingergw.toml") -> None:
        self.file = file

    def run(self) -> int:
        """Write the file, unless it is there."""
        try:
            with Path(self.file).open("x", encoding="utf-8") as file:
                file.write(DEFAULT.read_text("utf-8"))
        except FileExistsError:
            raise FingergwError(f"{self.file} is there already; name another file, or remove it first") from None
        except OSError as error:
            raise FingergwError(f"{self.file}: {error.strerror}") from None
        print(f"wrote {self.file}; run it: fingergw --config {self.file}")
        return 0
