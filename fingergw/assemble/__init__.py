"""The one place where a configuration meets Twisted: Config and reactor to a MultiService."""

from fingergw.assemble.service import make_service, problems

__all__ = ["make_service", "problems"]
