"""A finger (RFC 1288) gateway: listeners, routes and chains of backends from one TOML file."""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

__version__ = _version("fingergw")

if TYPE_CHECKING:
    from fingergw.app.build import make_service
    from fingergw.config import dumps, load
    from fingergw.config.model import Config
    from fingergw.core.errors import ConfigError

__all__ = ["Config", "ConfigError", "__version__", "dumps", "load", "make_service"]

_MODULES = {
    "Config": "fingergw.config.model",
    "ConfigError": "fingergw.core.errors",
    "dumps": "fingergw.config",
    "load": "fingergw.config",
    "make_service": "fingergw.app.build",
}


def __getattr__(name: str) -> Any:
    # imported when asked for, as a command that asks a server needs nothing of the gateway itself (PEP 562)
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'fingergw' has no attribute '{name}'")
