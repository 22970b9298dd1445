"""The rules for a class of settings, which may be another package's."""

from __future__ import annotations

import reprlib
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from fingergw.config.values import END_SECONDS, KINDS, PATHS
from fingergw.core.setting_types import Argv, AuthoritiesFile, Jinja, ProgramPath, SecretFile, WatchedFile
from fingergw.core.settings import Key, Waits, is_secrets, is_table, keys_of, supertype, without_none

_AT_THE_TOP = (SecretFile, WatchedFile, AuthoritiesFile, ProgramPath, Argv, Jinja)
_TAKEN = frozenset({"type", "cache", "timeout", "max_running", "breaker"}) | frozenset(
    {"check", "open", "sees", "only_placeholders", "may_vary", "coalesces", "waits", "one_of", "opens_in_thread"}
)
_SEEN = frozenset({"client", "listener", "verbose"})


def refuse_unfit(cls: Any) -> None:
    """Refuse a class whose attributes the core would misunderstand or overlook.

    :raises ValueError: an attribute has a wrong name or value.
    :raises TypeError: an attribute has a wrong type.
    """
    keys, waits = keys_of(cls), getattr(cls, "waits", None)
    names = {key.name for key in keys}
    for each in attrs.fields(cls):
        if each.name in names and each.name.startswith("_"):
            raise ValueError(f"{each.name}: expected a name that begins with a letter")
        if each.name in _TAKEN:
            raise ValueError(
                f"{each.name}: the core uses this name itself; rename the key, or remove the annotation if it is "
                "not a key"
            )
        if each.init and each.name not in names:
            raise TypeError(f"{each.name}: expected a setting(), or a field(init=False)")
    if waits is not None and not (
        isinstance(waits, Waits)
        and 0 < waits.timeout < END_SECONDS
        and isinstance(waits.max_running, int)
        and waits.max_running > 0
        and isinstance(waits.breaker, bool)
    ):
        raise ValueError(
            "waits: expected Waits(timeout=..., max_running=...), both above 0; breaker, if given, is True or False"
        )
    for word, known in (("sees", _SEEN), ("one_of", names)):
        said = getattr(cls, word, ())
        if not isinstance(said, tuple) or not known.issuperset(said):
            raise ValueError(f"{word}: expected a tuple of any of: {', '.join(sorted(known)) or '(none)'}")
    for key in keys:
        _refuse_key(key, key.name)
        if without_none(key.type) is WatchedFile and key.holds is not None:
            _refuse_unknown(key.holds, f"{key.name} holds", is_inner=True)
        if key.own_default is not attrs.NOTHING and not _is_of(key.own_default, key.type):
            raise TypeError(f"{key.name}: the default {reprlib.repr(key.own_default)} is not of the key's type")


def _is_of(value: object, kind: Any) -> bool:
    """Tell whether a value is of a key's type, whatever the bounds."""
    kind = supertype(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is_of(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of(name, arguments[0]) and _is_of(each, arguments[1]) for name, each in value.items()
        )
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _refuse_key(key: Key, name: str, *, is_inner: bool = False) -> None:
    """Refuse a key of an unknown type, or with bounds that its type cannot have.

    :param name: its key path.
    :param is_inner: whether it is a key of a table within a list or a table.
    :raises TypeError: the type is unknown.
    :raises ValueError: its bounds are not for that type.
    """
    _refuse_unknown(key.type, name, is_inner=is_inner)
    kind = supertype(without_none(key.type))
    if key.nonempty and get_origin(kind) is not tuple:
        raise ValueError(f"{name}: nonempty is for lists only")
    if (key.least is not None or key.most is not None) and kind not in (int, float):
        raise ValueError(f"{name}: least and most are for numbers only")
    if key.secret and kind in (bool, int, float):  # what replaces it could not be loaded
        raise ValueError(f"{name}: secret is for texts only")


def _refuse_unknown(kind: Any, key: str, *, is_inner: bool = False) -> None:
    """Refuse a type that a key cannot have.

    :param is_inner: whether it is the type of something within a list or a table.
    :raises TypeError: it is one.
    """
    kind = without_none(kind)
    origin = get_origin(kind)
    arguments = [each for each in get_args(kind) if each is not NoneType]
    if is_inner and kind in _AT_THE_TOP:
        raise TypeError(f"{key}: only a key of the backend itself can have that type")
    if kind in KINDS or kind in PATHS or kind is Argv:
        return
    if is_table(kind):
        for inner in keys_of(kind):
            _refuse_key(inner, f"{key}.{inner.name}", is_inner=True)
    elif origin is tuple and arguments[1:] == [Ellipsis]:
        _refuse_unknown(arguments[0], key, is_inner=True)
    elif origin is dict and getattr(arguments[0], "__supertype__", arguments[0]) is str:
        _refuse_unknown(arguments[1], key, is_inner=is_inner or not is_secrets(kind))
    elif origin in (Union, UnionType) and len(arguments) == 2 and str in arguments and any(map(is_table, arguments)):
        _refuse_unknown(next(filter(is_table, arguments)), key, is_inner=True)
    elif not (origin is Literal and all(isinstance(choice, str) for choice in arguments)):
        advice = "; write a list as tuple[str, ...], a table as dict[str, str]" if origin in (list, tuple, dict) else ""
        raise TypeError(f"{key}: no key can have the type {kind!r}{advice}")
