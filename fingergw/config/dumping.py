"""A configuration as TOML again: as short as it can be, or whole and without secrets."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import tomli_w
from cattrs import Converter

from fingergw.config import model
from fingergw.config.backend_types import BackendType, backend_type
from fingergw.config.structure import PATHS
from fingergw.core.addresses import Network
from fingergw.core.placeholders import Template
from fingergw.core.rules import Limits
from fingergw.core.setting_types import Argv, HeaderName, Umask, Url, Variable
from fingergw.core.settings import bare, changed, is_table, keys_of

LEFT_OUT: Final = "(left out)"
"""What stands in the place of a secret."""
_HARMLESS: Final[dict[Any, re.Pattern[str]]] = {
    HeaderName: re.compile("accept.*|user-agent|content-.*", re.IGNORECASE),
    Variable: re.compile("LANG|LC_.*|PATH|HOME|TZ|TERM"),
}
"""What is no secret, of a table whose keys are of a type."""


def dumps(config: model.Config) -> str:
    """Return a configuration as TOML that :func:`load` reads as the same.

    Files come out absolute. Endpoint strings, programs and the access log stay as they were written, so a relative path
    in one of these is then relative to where the text is written.
    """
    converter = Converter(omit_if_default=True)
    raw = _tables(config, converter)
    for listener, settings in zip(config.listeners, raw["listeners"], strict=True):
        own = {key.name: getattr(listener.limits, key.name) for key in keys_of(Limits)}
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
    for name, backend in config.backends.items():
        _redact(raw["backends"][name], backend_type(backend.type))
    base = config.source.base if config.source else Path.cwd()
    raw["cache"]["store"] = _store(raw["cache"]["store"], base)
    if raw["log"]["access"] not in ("-", "off"):
        raw["log"]["access"] = str(base / raw["log"]["access"])
    return tomli_w.dumps(_tidy(raw))


def dump_value(value: object, kind: Any) -> Any:
    """Return what a file has at a key.

    :param kind: the key's type.
    """
    return _tidy(_whole().unstructure(value, kind))


def dump_backend(backend: model.Backend) -> dict[str, Any]:
    """Return a backend's whole table as TOML can say it, in the order of its keys; what may be a secret too."""
    return _backend(backend, _whole())


def _tables(config: model.Config, converter: Converter) -> dict[str, Any]:
    _taught(converter)
    raw: dict[str, Any] = converter.unstructure(changed(config, source=None, backends={}))
    if config.backends or not converter.omit_if_default:
        raw["backends"] = {name: _backend(backend, converter) for name, backend in config.backends.items()}
    return {key.name: raw[key.name] for key in keys_of(model.Config) if key.name in raw}


@cache  # it takes a moment to make, and there can be many backends
def _whole() -> Converter:
    """Return what writes every key."""
    return _taught(Converter())


def _taught(converter: Converter) -> Converter:
    for kind in (*Network.__args__, Path, *PATHS):
        converter.register_unstructure_hook(kind, str)
    for kind in (Template, Url):
        converter.register_unstructure_hook(kind, lambda template: template.text)
    converter.register_unstructure_hook(Argv, lambda argv: [argument.text for argument in argv])
    converter.register_unstructure_hook(Umask, lambda umask: f"{umask:03o}")
    return converter


def _backend(backend: model.Backend, converter: Converter) -> dict[str, Any]:
    """Return a backend's whole table."""
    known = backend_type(backend.type)
    own = {key.name: getattr(backend.settings, key.name) for key in keys_of(known.settings)}
    waiting = {key: getattr(backend, key) for key in ("timeout", "max_running") if known.waits is not None}
    return {"type": backend.type, **converter.unstructure(known.table(**own, **waiting, cache=backend.cache))}


def _redact(table: dict[str, Any], known: BackendType) -> None:
    """Leave out of a backend's table what may be a secret, and what it does not take."""
    if table["cache"] and not known.may_vary:
        del table["cache"]["vary"]
    for key in keys_of(known.settings):
        table[key.name] = _without_secrets(table[key.name], key.type, secret=key.secret)


def _without_secrets(value: Any, kind: Any, *, secret: bool) -> Any:
    """Return what stands at a key, or within it, without what may be a secret.

    :param kind: its type.
    :param secret: whether the key says that it is one.
    """
    kind = bare(kind)
    arguments = get_args(kind)
    if isinstance(value, list | tuple):
        return [_without_secrets(inner, next(iter(arguments), str), secret=secret) for inner in value]
    if isinstance(value, dict) and get_origin(kind) is dict:
        harmless = _HARMLESS.get(arguments[0])
        return {
            name: inner
            if harmless and harmless.fullmatch(name)
            else _without_secrets(inner, arguments[1], secret=secret)
            for name, inner in value.items()
        }
    if isinstance(value, dict):
        keys = keys_of(next(filter(is_table, (kind, *arguments))))
        return {key.name: _without_secrets(value[key.name], key.type, secret=secret or key.secret) for key in keys}
    if secret and value is not None:
        return LEFT_OUT
    return _url(value) if kind == Url and value is not None else value


def _tidy(value: Any) -> Any:
    """Return a value without what is None, and with 5 in the place of 5.0."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_tidy(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
    for literal, name in Template(text).parts:
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
