"""The configuration file's JSON Schema, made of the model: what editors complete and check it by.

Draft 7, which is what they understand: taplo, and Even Better TOML with it, knows no later one. For their sake, too,
the type of a backend is told apart by ``if``, so that a mistake is shown where it is, and named once more in ``anyOf``,
which refuses nothing, and is where they look for what can be completed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from fingergw.config import model, values
from fingergw.config.descriptions import KEYS, TABLES
from fingergw.core.addresses import Network

Schema: TypeAlias = dict[str, Any]

TITLE: Final = "fingergw's configuration"
"""By this a schema is known as one of ours, of whatever version."""
_TEXT: Final[Schema] = {"type": "string"}
_SECONDS: Final[Schema] = {"type": "number", "exclusiveMaximum": int(values.END_SECONDS)}
_STRINGS: Final[dict[Any, str]] = {  # never stricter than what is loaded
    Network: r"^[0-9A-Fa-f:.]+(%[^%/]+)?(/[0-9.]+)?$",
    model.Umask: f"^{values.UMASK}$",
    model.Url: r"^[Hh][Tt][Tt][Pp][Ss]?://[0-9A-Za-z.:\[\]-]+([/?#][ -~]*)?$",
    model.HeaderName: f"^{values.HEADER_NAME}$",
    model.HeaderValue: r"^[^\x00-\x1f\x7f]*$",
    model.Variable: "^[^=]+$",
    model.HostName: rf"^({values.HOST_NAME}|[0-9A-Fa-f:.]+)$",
    model.Store: "^(memory|sqlite:[^:].*|rediss?://.+)$",
    model.UserName: r"^[^@\x00-\x1f\x7f]+$",
}
_HOLDS_ONE: Final = {
    (model.Route, "backends"),
    (model.Route, "listeners"),
    (model.Route, "users"),
    (model.Forwarding, "listeners"),
    (model.CommandBackend, "argv"),
    (model.Config, "listeners"),
}
"""Lists that must not be empty."""


def schema_text() -> str:
    """Return the schema of the whole file as JSON."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Schema:
    """Return the schema of the whole file."""
    made = _table(model.Config)
    backends = {kind: _backend(kind, cls) for kind, cls in model.BACKEND_TYPES.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLE,
        **made,
        "definitions": backends,
    }


def _table(cls: Any) -> Schema:
    """Return the schema of a table that becomes a class of the model."""
    properties: Schema = {}
    required: list[str] = []
    types = get_type_hints(cls)
    for attribute in attrs.fields(cls):
        if attribute.name == "source":
            continue
        properties[attribute.name] = {**_value(types[attribute.name]), **_default(attribute.default)}
        properties[attribute.name]["description"] = KEYS[cls][attribute.name]
        if (cls, attribute.name) in _HOLDS_ONE:
            properties[attribute.name]["minItems"] = 1
        if attribute.default is attrs.NOTHING:
            required.append(attribute.name)
    return {
        "description": TABLES[cls],
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": properties,
        **_RULES.get(cls, {}),
    }


def _backend(kind: str, cls: Any) -> Schema:
    """Return the schema of one type's backends."""
    made = _table(cls)
    told = {"description": TABLES[cls], "const": kind}
    made["properties"] = {"type": told, **made["properties"]}
    if kind != "command":
        del made["properties"]["cache"]["properties"]["vary"]
    return made


def _any_backend() -> Schema:
    references = {kind: {"$ref": f"#/definitions/{kind}"} for kind in model.BACKEND_TYPES}
    chosen: Schema = {"properties": {"type": {"enum": list(references)}}}
    for kind, reference in reversed(references.items()):
        chosen = {"if": {"properties": {"type": {"const": kind}}}, "then": reference, "else": chosen}
    return {
        "description": "Where answers come from.",
        "type": "object",
        "required": ["type"],
        "anyOf": [*references.values(), {}],
        **chosen,
    }


def _value(kind: Any) -> Schema:
    """Return the schema of what a key of some type takes."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind == model.Backend:
        return _any_backend()
    if kind == str | model.Person:
        return {**_table(model.Person), "type": ["string", "object"]}
    if kind == Network or kind in _STRINGS:
        return {"type": "string", "pattern": _STRINGS[kind]}
    if origin in (Union, UnionType):
        (kind,) = (each for each in arguments if each is not NoneType)
        return _value(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0])}
    if origin is dict:
        names = _value(arguments[0])
        return {
            "type": "object",
            **({"propertyNames": names} if names != _TEXT else {}),
            "additionalProperties": _value(arguments[1]),
        }
    if attrs.has(kind):
        return _table(kind)
    if kind in values.WHOLE_NUMBERS:
        low, high = values.WHOLE_NUMBERS[kind]
        return {"type": "integer", "minimum": low, "maximum": high}
    return dict(_OTHERS[kind])


def _default(default: Any) -> Schema:
    """Return what the schema says of a default, where there is one that a file could have."""
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever its type says
        default = attrs.NOTHING if default.takes_self else default.factory()
    if default is attrs.NOTHING or default is None or default == "" or attrs.has(type(default)):
        return {}
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return {"default": list(default) if isinstance(default, tuple) else default}


def _one_of(keys: tuple[str, ...]) -> Schema:
    return {"oneOf": [{"required": [key], **_GIVEN.get(key, {})} for key in keys]}


_OTHERS: Final[Mapping[Any, Schema]] = {
    str: _TEXT,
    bool: {"type": "boolean"},
    model.Seconds: {**_SECONDS, "exclusiveMinimum": 0},
    model.Period: {**_SECONDS, "minimum": 0},
    model.Argument: _TEXT,
    model.FilePath: _TEXT,
    model.Glob: {**_TEXT, "maxLength": values.MAX_GLOB},
    model.Regex: {**_TEXT, "minLength": 1, "maxLength": values.MAX_REGEX},
}
_GIVEN: Final[Mapping[str, Schema]] = {"index": {"not": {"properties": {"index": {"const": False}}}}}
_LISTENER: Final[Schema] = {
    "if": {"properties": {"endpoint": {"pattern": "^haproxy:"}}},
    "then": {"required": ["trusted_proxies"], "properties": {"trusted_proxies": {"minItems": 1}}},
    "else": {"properties": {"trusted_proxies": {"maxItems": 0}}},
    "dependencies": {
        "delay": {
            "if": {"properties": {"delay": {"const": 0}}},
            "else": {"required": ["decoy"], "properties": {"decoy": {"const": True}}},
        }
    },
}
_RULES: Final[Mapping[type, Schema]] = {
    model.Route: _one_of(model.MATCHES),
    model.StaticBackend: _one_of(model.CONTENTS),
    model.Listener: _LISTENER,
}
"""What must hold between the keys of a table."""
