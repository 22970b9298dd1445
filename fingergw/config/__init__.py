"""The configuration file: TOML to frozen classes and back."""

from fingergw.config.dumping import dumps, dumps_effective
from fingergw.config.reading import load, load_table, read

__all__ = ["dumps", "dumps_effective", "load", "load_table", "read"]
