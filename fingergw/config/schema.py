"""The JSON Schema of the configuration file, by which editors complete and check it.

It is draft 7, the latest that taplo, and so Even Better TOML, understands. For their sake, too, a backend's type is
selected by ``if``, so that a mistake is shown where it is, and repeated in ``anyOf``, which refuses nothing: they look
there for what can be completed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import attrs

from fingergw.config.backend_types import BackendType, BrokenTypeError, backend_type, names
from fingergw.config.dumping import dump_value
from fingergw.config.model import Backend, Config
from fingergw.config.tables import Listener
from fingergw.config.values import KINDS, PATHS
from fingergw.core.settings import Key, is_table, keys_of, sentence_of, supertype, without_none

Schema: TypeAlias = dict[str, Any]

TITLE: Final = "fingergw's configuration"
"""The title by which a schema is recognised as fingergw's, whatever its version."""
_TEXT: Final[Schema] = {"type": "string"}


def schema_text() -> str:
    """Return the schema of the whole file as JSON."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Schema:
    """Return the schema of the whole file, without the types of backends that cannot be used."""
    types = []
    for name in names():
        with suppress(BrokenTypeError):
            types.append(backend_type(name))
    made = _table(Config)
    made["properties"]["backends"]["additionalProperties"] = _any_backend([known.name for known in types])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLE,
        **made,
        "definitions": {known.name: _backend(known) for known in types},
    }


def _table(cls: Any) -> Schema:
    """Return the schema of a table."""
    required: list[str] = []
    properties: Schema = {}
    for key in keys_of(cls):
        properties[key.name] = {**_bounded(_value(key.type), key), **_default(key), "description": key.text}
        if key.default is attrs.NOTHING:
            required.append(key.name)
    return {
        "description": sentence_of(cls),
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": properties,
        **(_one_of(cls) if hasattr(cls, "one_of") else {}),
        **_RULES.get(cls, {}),
    }


def _bounded(made: Schema, key: Key) -> Schema:
    bounds = {"minimum": key.least, "maximum": key.most, "minItems": 1 if key.nonempty else None}
    return {**made, **{word: bound for word, bound in bounds.items() if bound is not None}}


def _backend(known: BackendType) -> Schema:
    """Return the schema of one type's backends."""
    made = _table(known.table)
    told = {"description": made["description"], "const": known.name}
    made["properties"] = {"type": told, **made["properties"]}
    return made


def _any_backend(types: Sequence[str]) -> Schema:
    references = {kind: {"$ref": f"#/definitions/{kind}"} for kind in types}
    chosen: Schema = {"properties": {"type": {"enum": list(references)}}}
    for kind, reference in reversed(references.items()):
        chosen = {"if": {"properties": {"type": {"const": kind}}}, "then": reference, "else": chosen}
    return {
        "description": sentence_of(Backend),
        "type": "object",
        "required": ["type"],
        "anyOf": [*references.values(), {}],
        **chosen,
    }


def _value(kind: Any) -> Schema:
    """Return the schema for the values of a type."""
    if kind in KINDS:
        return dict(KINDS[kind].schema)
    if kind in PATHS:
        return dict(_TEXT)
    kind = supertype(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each is not NoneType]
        if Literal[False] in kinds:  # or a table
            return {**_table(next(filter(is_table, kinds))), "type": ["boolean", "object"], "not": {"const": True}}
        if str in kinds and len(kinds) == 2:  # a string or a table
            made = {**_table(next(filter(is_table, kinds))), "type": ["string", "object"]}
            one_of = made.pop("oneOf", None)  # no string would pass it
            return {**made, **({"if": {"type": "object"}, "then": {"oneOf": one_of}} if one_of else {})}
        (kind,) = kinds
        return _value(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0])}
    if origin is dict:
        names, items = _value(arguments[0]), arguments[1]
        return {
            "type": "object",
            **({"propertyNames": names} if names != _TEXT else {}),
            "additionalProperties": {} if items is Backend else _value(items),
        }
    return _table(kind)


def _default(key: Key) -> Schema:
    """Return the schema's word on a key's default, if a file could have that."""
    default = key.own_default
    if default is attrs.NOTHING or default is None or default == "" or is_table(type(default)):
        return {}
    return {"default": dump_value(default, key.type)}


def _one_of(cls: Any) -> Schema:
    """Return the rule that exactly one of some keys must be given; one that is false counts as not given."""
    flags = {key.name for key in keys_of(cls) if without_none(key.type) is bool}
    given = {name: {"not": {"properties": {name: {"const": False}}}} for name in flags}
    return {"oneOf": [{"required": [name], **given.get(name, {})} for name in cls.one_of]}


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
_RULES: Final[Mapping[type, Schema]] = {Listener: _LISTENER}
"""The rules between the keys of a table."""
