"""A finger (RFC 1288) gateway: listeners, routes and chains of backends from one TOML file."""

from importlib.metadata import version as _version

__version__ = _version("fingergw")

from fingergw.assemble import make_service
from fingergw.config import dumps, load
from fingergw.config.model import Config

__all__ = ["Config", "__version__", "dumps", "load", "make_service"]
