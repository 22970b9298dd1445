"""The one place where a configuration meets Twisted: Config and reactor to a MultiService."""

from fingergw.assemble.service import compile_parts, examine, make_service, problems, refuse

__all__ = ["compile_parts", "examine", "make_service", "problems", "refuse"]
