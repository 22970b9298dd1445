"""A finger (RFC 1288) gateway, configured by one TOML file with listeners, routes and backends."""

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
    # imported on first use (PEP 562), as commands such as query need few of these modules
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'fingergw' has no attribute '{name}'")
