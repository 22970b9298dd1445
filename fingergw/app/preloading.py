"""What is found before the process gives up its root or its user, as it may not find it after that."""

from __future__ import annotations

import codecs
import encodings
import os
import pkgutil
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Final

from twisted.internet import endpoints
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.logger import Logger
from twisted.plugin import getPlugins

from fingergw.config.backend_types import BrokenTypeError, backend_type, names
from fingergw.net.trust import system_trust

_log = Logger()

MODULES: Final = (
    "fingergw.app.admin",
    "fingergw.cache.redis",
    "fingergw.cache.sqlite",
    "jinja2.debug",
    "tokenize",
    "tree_sitter",
    "tree_sitter_toml",
)
"""What is imported where it is needed, and may first be needed late; what is not installed is left out."""


@cache
def preload() -> None:
    """Find all that can be needed later, if this process has something to give up: as root.

    That is what is imported late; the types of backends, of which a reload can bring any; codecs, of which an upstream
    can name any; what takes the endpoint strings that Twisted looks for in folders, systemd: and tls: among them; and
    whom the system trusts.
    """
    if os.geteuid() != 0:
        return
    for name in MODULES:
        with suppress(ModuleNotFoundError):
            import_module(name)
    for name in names():
        try:
            backend_type(name)
        except BrokenTypeError as error:  # of no backend, or it would not have come to this
            _log.warn("{error}", error=str(error))
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(LookupError):
            codecs.lookup(module.name)
    parsers = {
        interface: list(getPlugins(interface))
        for interface in (IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
    }
    endpoints.getPlugins = parsers.__getitem__  # type: ignore[assignment, attr-defined]  # it is given no more
    system_trust()
