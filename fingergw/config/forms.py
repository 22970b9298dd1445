"""How a file writes a value, in the words of a message: ``{ queries = NUMBER, per = SECONDS, burst = NUMBER }``."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from attrs import NOTHING

from fingergw.core import setting_types as types
from fingergw.core.addresses import Network
from fingergw.core.settings import is_table, keys_of, supertype

_MAX_KEYS: Final = 8  # of a table that are shown
_WORDS: Final[dict[Any, str]] = {
    types.Seconds: "SECONDS",
    types.Period: "SECONDS",
    types.ExitCode: "EXIT-CODE",
    types.Status: "STATUS",
    types.HostName: '"HOST"',
    types.UserName: '"NAME"',
    types.Name: "NAME",
    Network: '"NETWORK"',
    str: '"TEXT"',
    bool: "true",
    int: "NUMBER",
    float: "NUMBER",
}


@cache
def form_of(kind: Any) -> str:
    """Return the form of a type's values."""
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in types.FILES or kind is types.FilePath:
        return '"FILE"'
    kind = supertype(kind)
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each is not NoneType]
    if origin in (Union, UnionType):
        return form_of(next(filter(is_table, arguments), arguments[0]))
    if origin is Literal:
        return f'"{arguments[0]}"'
    if origin is tuple:
        return f"[{form_of(arguments[0])}]"
    if origin is dict:
        return f"{{ {_key(arguments[0])} = {form_of(arguments[1])} }}"
    if is_table(kind):
        return _table(kind)
    return _WORDS.get(kind, '"TEXT"')


def _key(kind: Any) -> str:
    """Return the form of a key, which is bare if it has no dots."""
    return form_of(kind) if kind in (types.HostName, types.Name) else "NAME"


def _table(cls: Any) -> str:
    """Return the form of a table: the keys that must be given, or else the first ones that may be."""
    keys = keys_of(cls)
    shown = [key for key in keys if key.default is NOTHING] or keys[:_MAX_KEYS]
    return f"{{ {', '.join(f'{key.name} = {form_of(key.type)}' for key in shown)} }}"
