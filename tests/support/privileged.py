"""What root alone may do, for tests in which it is given up."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from tests.support.configuration import HELLO


def privileged_port() -> int:
    """Return a port that only root may bind, and nobody has."""
    for port in random.sample(range(600, 1024), 100):  # tests run side by side
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("all taken")


def write_process(folder: Path, settings: str = "", *, endpoint: str) -> list[str]:
    """Write a configuration with a [process] table, and return the arguments that name it."""
    path = folder / "fingergw.toml"
    path.write_text(f"[[listeners]]\nname = 'l'\nendpoint = '{endpoint}'\n{HELLO}\n[process]\n{settings}\n")
    return ["--config", str(path)]
