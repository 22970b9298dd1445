"""Everything that must be loaded before the process gives up its root or its user, and cannot be loaded after."""

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
from fingergw.net.http.charsets import known_codecs
from fingergw.net.trust import system_trust

_log = Logger()

MODULES: Final = (
    "fingergw.app.admin",
    "fingergw.cache.redis",
    "fingergw.cache.sqlite",
    "fingergw.app.parts.forwarding_targets",
    "fingergw.app.parts.warnings",
    "fingergw.core.regex_literals",
    "fingergw.listen.certificates",
    "fingergw.net.http.client",
    "fingergw.net.workers.converting",
    "difflib",
    "jinja2.debug",
    "re2",
    "tokenize",
    "tree_sitter",
    "tree_sitter_toml",
)
"""Modules that are imported where they are needed, which may be late; those that are not installed are left out."""


@cache
def preload() -> None:
    """Load everything that can be needed later, if this process is root, and so has rights to give up.

    These are modules that are imported late; the types of backends, as a reload can add any; codecs, as an upstream can
    name any; Twisted's plug-ins for endpoint strings, such as systemd: and tls:; and the system's trusted authorities.
    """
    if os.geteuid() != 0:
        return
    for name in MODULES:
        try:
            import_module(name)
        except ModuleNotFoundError:
            pass
        except Exception as error:  # whoever needs it will tell
            _log.warn("{name} cannot be imported: {error}", name=name, error=repr(error))
    for name in names():
        try:
            backend_type(name)
        except BrokenTypeError as error:  # no backend uses it, or the start would have failed
            _log.warn("{error}", error=str(error))
    known_codecs()
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(LookupError):
            codecs.lookup(module.name)
    parsers = {
        interface: list(getPlugins(interface))
        for interface in (IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
    }
    endpoints.getPlugins = parsers.__getitem__  # type: ignore[assignment, attr-defined]  # always called with one argument
    system_trust()
