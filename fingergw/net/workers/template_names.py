"""The variables that Jinja2 templates use; a process that only looks for these stays without Jinja2."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import Any, Final

from fingergw.net.workers import limited

_COMPILE_SECONDS = 0.5
_PLAIN_BYTES: Final = 1024
_PLAIN: Final = re.compile(r"(?: [^{]++ | \{ (?![{%#]) | \{\{ [ ]*+ [a-z_][a-z0-9_]*+ [ ]*+ \}\} )*+", re.VERBOSE)
_NAME: Final = re.compile(r"\{\{ *(\w+) *\}\}")
_RESERVED: Final = frozenset({"caller", "false", "kwargs", "loop", "none", "not", "self", "super", "true", "varargs"})
_FEW = 4  # with more templates it takes less time to load Jinja2 here, than in a process for each


class TemplateError(ValueError):
    """The template is wrong, or does not fit its data; the message says which."""


def names_of(text: str, max_bytes: int) -> frozenset[str]:
    """Return the variables that a template uses.

    :param max_bytes: of the rendered text.
    :raises TemplateError: the template can never work, or takes too much to compile.
    """
    names = _plain_names(text, max_bytes)
    return _names_within_limits(text, max_bytes) if names is None else names


def _plain_names(text: str, max_bytes: int) -> frozenset[str] | None:
    """Return the variables of a small template of text and ``{{ names }}`` alone, which nothing can be wrong with.

    :return: None if Jinja2 has to look at it.
    """
    if len(text.encode()) > min(max_bytes, _PLAIN_BYTES) or _PLAIN.fullmatch(text) is None:
        return None
    names = frozenset(_NAME.findall(text))
    return names if names.isdisjoint(_RESERVED) else None


@lru_cache(maxsize=1024)  # it takes a process, and a reload examines all templates again
def _names_within_limits(text: str, max_bytes: int) -> frozenset[str]:
    """Find the variables in a forked process, within limits."""
    if _names_within_limits.cache_info().misses > _FEW:
        _load()
    try:
        found = json.loads(limited.run(partial(_examined, text, max_bytes), _COMPILE_SECONDS, _load))
    except limited.ExceededError:
        raise TemplateError(
            f"expected a Jinja2 template that takes less than {_COMPILE_SECONDS:g} s and "
            f"{limited.ROOM_BYTES >> 20} MiB to compile"
        ) from None
    except OSError as error:
        raise TemplateError(f"cannot be compiled, as no process can be started for it: {error.strerror}") from None
    if isinstance(found, str):
        raise TemplateError(found)
    return frozenset(found)


@cache
def _load() -> Any:
    """Return the module for templates, which loads Jinja2: where it can, in the forked process alone."""
    return import_module("fingergw.net.workers.templates")


def _examined(text: str, max_bytes: int) -> bytes:
    """Return, as JSON, the variables of a template, or what is wrong with it."""
    try:
        return json.dumps(sorted(_load().names_in(text, max_bytes))).encode()
    except TemplateError as error:
        return json.dumps(str(error)).encode()
