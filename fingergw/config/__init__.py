"""The configuration file: TOML to frozen classes and back (DESIGN §2's contract is the module ``model``)."""

from fingergw.config.reading import dumps, load, load_entries, read

__all__ = ["dumps", "load", "load_entries", "read"]
