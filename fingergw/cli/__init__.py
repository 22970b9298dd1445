"""The command line."""

from fingergw.cli.main import main

__all__ = ["main"]
