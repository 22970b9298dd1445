"""The variables that Jinja2 templates use; a process that only looks for these stays without Jinja2."""

from __future__ import annotations

import json
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import Any

from fingergw.net.workers import limited

_COMPILE_SECONDS = 0.5
_FEW = 4  # with more templates it takes less time to load Jinja2 here, than in a process for each


class TemplateError(ValueError):
    """The template is wrong, or does not fit its data; the message says which."""


@lru_cache(maxsize=1024)  # it takes a process, and a reload examines all templates again
def names_within_limits(text: str, max_bytes: int) -> frozenset[str]:
    """Return the variables that a template uses, found in a forked process, within limits.

    :param max_bytes: of the rendered text.
    :raises TemplateError: the template can never work, or takes too much to compile.
    """
    if names_within_limits.cache_info().misses > _FEW:
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
