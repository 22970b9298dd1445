"""A configuration as TOML again: as short as it can be, or whole and without secrets."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs
import tomli_w
from cattrs import Converter

from fingergw.config import model
from fingergw.core.placeholders import Template

LEFT_OUT: Final = "(left out)"
"""What stands in the place of a secret."""
_HARMLESS_HEADER = re.compile("accept.*|user-agent|content-.*", re.IGNORECASE)
_HARMLESS_VARIABLE = re.compile("LANG|LC_.*|PATH|HOME|TZ|TERM")


def dumps(config: model.Config) -> str:
    """Return a configuration as TOML that :func:`load` reads as the same.

    Files come out absolute. Endpoint strings, programs and the access log stay as they were written, so a relative path
    in one of these is then relative to where the text is written.
    """
    converter = Converter(omit_if_default=True)
    raw = _tables(config, converter)
    for listener, settings in zip(config.listeners, raw["listeners"], strict=True):
        own = attrs.asdict(listener.limits, recurse=False)
        settings["limits"] = {
            key: converter.unstructure(value) for key, value in own.items() if value != getattr(config.limits, key)
        }
    for route, settings in zip(config.routes, raw.get("routes", ()), strict=True):
        if route.name == route.default_name:  # several may have the same by default
            del settings["name"]
    return tomli_w.dumps(raw)


def dumps_effective(config: model.Config) -> str:
    """Return a configuration as TOML with the value that each key has in effect, by default too; without secrets.

    What is not set, and has no default, is left out. :func:`load` reads it, as the same but for the secrets. Files come
    out absolute, the access log and an SQLite cache too; endpoint strings and programs stay as they were written.
    """
    raw = _tables(config, Converter())
    names = Counter(route.name for route in config.routes)
    for route, settings in zip(config.routes, raw["routes"], strict=True):
        if names[route.name] > 1 and route.name == route.default_name:  # which several may have by default alone
            del settings["name"]
    for backend in raw["backends"].values():
        if backend["type"] != "command" and backend["cache"]:
            del backend["cache"]["vary"]
        if "headers" in backend:
            backend["headers"] = _without_secrets(backend["headers"], _HARMLESS_HEADER)
        if "env" in backend:
            backend["env"] = _without_secrets(backend["env"], _HARMLESS_VARIABLE)
        if "url" in backend:
            backend["url"] = _url(backend["url"])
    base = config.source.base if config.source else Path.cwd()
    raw["cache"]["store"] = _store(raw["cache"]["store"], base)
    if raw["log"]["access"] not in ("-", "off"):
        raw["log"]["access"] = str(base / raw["log"]["access"])
    return tomli_w.dumps(_tidy(raw))


def _tables(config: model.Config, converter: Converter) -> dict[str, Any]:
    for kind in (*model.Network.__args__, Path):  # type: ignore[attr-defined]  # a union has them
        converter.register_unstructure_hook(kind, str)
    converter.register_unstructure_hook(model.FilePath, str)
    converter.register_unstructure_hook(model.Umask, lambda umask: f"{umask:03o}")
    raw: dict[str, Any] = converter.unstructure(attrs.evolve(config, source=None))
    raw.pop("source", None)
    for name, backend in config.backends.items():
        kind = next(kind for kind, cls in model.BACKEND_TYPES.items() if cls is type(backend))
        raw["backends"][name] = {"type": kind, **converter.unstructure(backend)}
    return raw


def _tidy(value: Any) -> Any:
    """Return a value without what is None, and with 5 in the place of 5.0."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_tidy(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_secrets(values: dict[str, str], harmless: re.Pattern[str]) -> dict[str, str]:
    return {name: value if harmless.fullmatch(name) else LEFT_OUT for name, value in values.items()}


def _url(url: str) -> str:
    """Return a URL without what its query and fragment say by themselves: their placeholders stay, and the names."""
    whole, hash_sign, fragment = url.partition("#")
    page, mark, query = whole.partition("?")
    return page + mark + "".join(map(_piece, re.split("([&;])", query))) + hash_sign + _placeholders(fragment)


def _piece(piece: str) -> str:
    """Return a part of a query, ``name=value`` or a value alone, or what stands between two."""
    if piece in ("&", ";"):
        return piece
    name, equals, value = piece.partition("=") if "=" in piece else ("", "", piece)
    return name + equals + _placeholders(value)


def _placeholders(text: str) -> str:
    """Return the placeholders of a text, and once what says that something was between them."""
    kept = ""
    for literal, name in Template.compile(text).parts:
        if literal and not kept.endswith(LEFT_OUT):
            kept += LEFT_OUT
        if name:
            kept += f"{{{name}}}"
    return kept


def _store(store: str, base: Path) -> str:
    kind, _, path = store.partition(":")
    if kind == "sqlite":
        return f"sqlite:{base / path}"
    return re.sub("^(rediss?://)[^/?#]*@", rf"\1{LEFT_OUT}@", store)
