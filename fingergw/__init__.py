"""A finger (RFC 1288) gateway, configured by one TOML file with listeners, routes and backends."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would have to be imported, and nothing is before the command can handle signals
if TYPE_CHECKING:
    from typing import Any

    from fingergw.app.reload import make_service
    from fingergw.config import dumps, load
    from fingergw.config.model import Config
    from fingergw.core.errors import ConfigError
    from fingergw.core.version import __version__

__all__ = ["Config", "ConfigError", "__version__", "dumps", "load", "make_service"]

_MODULES = {
    "Config": "fingergw.config.model",
    "ConfigError": "fingergw.core.errors",
    "__version__": "fingergw.core.version",
    "dumps": "fingergw.config",
    "load": "fingergw.config",
    "make_service": "fingergw.app.reload",
}


def __getattr__(name: str) -> Any:
    # imported on first use (PEP 562), as commands such as query need few of these modules
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'fingergw' has no attribute '{name}'")
