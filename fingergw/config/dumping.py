"""Write a configuration as TOML: as short as possible, or whole and without secrets."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final, get_args, get_origin
from urllib.parse import quote

import tomli_w
from attrs import Factory

from fingergw.config import model
from fingergw.config.backend_types import WAITING, backend_type
from fingergw.config.values import KINDS
from fingergw.core.placeholders import Template
from fingergw.core.rules import Limits
from fingergw.core.setting_types import HeaderName, Url, Variable
from fingergw.core.settings import Key, is_table, keys_of, supertype, without_none

_HIDDEN: Final = re.compile("[^\\n -~\ud800-\udfff]")  # a surrogate is a byte of a path, and has no escape
LEFT_OUT: Final = "(left out)"
"""What replaces a secret."""
_LEFT_OUT_OF_URL: Final = quote(LEFT_OUT, safe="()")
_HARMLESS: Final[dict[Any, re.Pattern[str]]] = {
    HeaderName: re.compile("accept.*|user-agent|content-.*", re.IGNORECASE),
    Variable: re.compile("LANG|LC_.*|PATH|HOME|TZ|TERM"),
}
"""The keys of a table whose values are no secrets, by the type of its keys."""


def dumps(config: model.Config) -> str:
    """Return a configuration as TOML that :func:`load` reads as the same.

    Paths of files become absolute. Endpoints, programs and the access log stay as they were written, so that a relative
    path in one of these is then relative to the folder of the new file.
    """
    raw = _tables(config, omits_defaults=True)
    for listener, settings in zip(config.listeners, raw["listeners"], strict=True):
        own = {key.name: getattr(listener.limits, key.name) for key in keys_of(Limits)}
        own = {key: value for key, value in own.items() if value != getattr(config.limits, key)}
        settings["limits"] = {key: _raw(value, type(value), omits_defaults=True) for key, value in own.items()}
    for route, settings in zip(config.routes, raw.get("routes", ()), strict=True):
        if route.name == route.default_name:  # several may have the same by default
            del settings["name"]
    return tomli_w.dumps(raw)


def dumps_effective(config: model.Config) -> str:
    """Return a configuration as TOML with the value of every key, defaults too, but without secrets.

    A key that is not set and has no default is left out. :func:`load` reads the text as the same configuration, but for
    the secrets. Paths of files become absolute, the access log's and an SQLite cache's too; endpoints and programs stay
    as they were written.
    """
    raw = _tables(config, omits_defaults=False)
    names = Counter(route.name for route in config.routes)
    for route, settings in zip(config.routes, raw["routes"], strict=True):
        if names[route.name] > 1 and route.name == route.default_name:  # given names would have to differ
            del settings["name"]
    for name, backend in config.backends.items():
        table = raw["backends"][name]
        for key in keys_of(backend_type(backend.type).settings):
            table[key.name] = _without_secrets(table[key.name], key.type, secret=key.secret)
    base = config.source.base if config.source else Path.cwd()
    raw["cache"]["store"] = _store(raw["cache"]["store"], base)
    if raw["log"]["access"] not in ("-", "off"):
        raw["log"]["access"] = str(base / raw["log"]["access"])
    text = tomli_w.dumps(_tidy(raw))
    return text if text.replace("\n", "").isprintable() else _HIDDEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """Return TOML's escape of a character that a terminal might obey or not show; it is in a string."""
    return found[0] if found[0].isprintable() else f"\\U{ord(found[0]):08x}"


def dump_value(value: object, kind: Any) -> Any:
    """Return what a file has for a value.

    :param kind: the type of its key.
    """
    return _tidy(_raw(value, kind, omits_defaults=False))


def dump_backend(backend: model.Backend, *, omits_defaults: bool = False) -> dict[str, Any]:
    """Return a backend's whole table, secrets too, as TOML has it, in the order of its keys."""
    known = backend_type(backend.type)
    own = {key.name: getattr(backend.settings, key.name) for key in keys_of(known.settings)}
    waiting = {key: getattr(backend, key) for key in WAITING if known.waits is not None}
    table = known.table(**own, **waiting, cache=backend.cache)
    return {"type": backend.type, **_raw_table(table, omits_defaults=omits_defaults)}


def _tables(config: model.Config, *, omits_defaults: bool) -> dict[str, Any]:
    raw = _raw_table(config, omits_defaults=omits_defaults)
    if "backends" in raw:
        backends = config.backends.items()
        raw["backends"] = {name: dump_backend(each, omits_defaults=omits_defaults) for name, each in backends}
    return raw


def _raw_table(table: Any, *, omits_defaults: bool) -> dict[str, Any]:
    raw = {}
    for key in keys_of(type(table)):  # type: ignore[arg-type]  # a class has a hash
        value = getattr(table, key.name)
        if not (omits_defaults and value == _default(key, table)):
            raw[key.name] = _raw(value, key.type, omits_defaults=omits_defaults)
    return raw


def _default(key: Key, table: Any) -> Any:
    """Return the default that a key of a table has, be it that of other keys."""
    if isinstance(key.default, Factory):  # type: ignore[arg-type]  # it is a class
        return key.default.factory(table) if key.default.takes_self else key.default.factory()
    return key.default


def _raw(value: Any, kind: Any, *, omits_defaults: bool) -> Any:
    """Return what TOML has for a value, None left in, as the inverse of reading it.

    :param kind: the type of its key.
    """
    if is_table(type(value)):
        return _raw_table(value, omits_defaults=omits_defaults)
    kind = without_none(kind)
    if value is not None and kind in KINDS and (write := KINDS[kind].write) is not None:
        return write(value)
    if isinstance(value, Path):
        return str(value)
    arguments = get_args(supertype(kind))
    if isinstance(value, tuple):
        return [_raw(each, arguments[0], omits_defaults=omits_defaults) for each in value]
    if isinstance(value, dict):
        return {name: _raw(each, arguments[1], omits_defaults=omits_defaults) for name, each in value.items()}
    return value


def _without_secrets(value: Any, kind: Any, *, secret: bool) -> Any:
    """Return the value of a key without what may be a secret.

    :param kind: the key's type.
    :param secret: whether the key, or one that it is in, is marked as a secret.
    """
    kind = without_none(kind)
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
    """Return a value without keys that are None, and with 5 for 5.0."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_tidy(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _url(url: str) -> str:
    """Return a URL whose query has no more than placeholders and the names of parameters."""
    page, mark, query = url.partition("?")
    return page + mark + re.sub("([^&;=]*=|)([^&;]*)", lambda part: part[1] + _placeholders(part[2]), query)


def _placeholders(text: str) -> str:
    """Return the placeholders in a part of a URL, with a mark where there was more between them."""
    kept = ""
    for part in Template(text).parts:
        if part.literal and not kept.endswith(_LEFT_OUT_OF_URL):
            kept += _LEFT_OUT_OF_URL
        kept += part.placeholder
    return kept


def _store(store: str, base: Path) -> str:
    kind, _, path = store.partition(":")
    if kind == "sqlite":
        return f"sqlite:{base / path}"
    return re.sub("^(rediss?://)[^/?#]*@", rf"\1{LEFT_OUT}@", store)
